//! How cost grows: a table and a picture.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use serde::Serialize;

use crate::contestant::Contestant;
use crate::curve;
use crate::figure::Unit;
use crate::stats::Summary;
use crate::task::Task;
use crate::work::Chapter;

#[derive(Serialize)]
pub struct Curve {
    pub id: &'static str,
    title: &'static str,
    axis: &'static str,
    panels: Vec<Panel>,
}

/// One figure.
#[derive(Serialize)]
struct Panel {
    figure: &'static str,
    unit: Unit,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    contestant: &'static str,
    points: Vec<Point>,
    /// The slope of the logarithms, from the first point to the last: 0 is flat, 1 is linear.
    growth: f64,
}

#[derive(Serialize)]
struct Point {
    size: u64,
    #[serde(flatten)]
    summary: Summary,
}

impl Curve {
    pub fn of(whos: &[&'static dyn Contestant], tasks: &[Task], chapter: Chapter) -> Vec<Curve> {
        let mut curves = Vec::new();
        for curve in curve::ALL.iter().filter(|curve| curve.about().chapter == chapter) {
            let about = curve.about();
            let own: Vec<&Task> = tasks.iter().filter(|t| t.work.about().id == about.id).collect();
            if own.is_empty() {
                continue;
            }
            let mut panels = Vec::new();
            for (at, figure) in about.figures.iter().enumerate() {
                let mut lines = Vec::new();
                for (who, contestant) in whos.iter().enumerate() {
                    let point = |task: &&Task| {
                        Some(Point { size: task.size, summary: task.cells[who].summary(at)? })
                    };
                    let points: Vec<Point> = own.iter().filter_map(point).collect();
                    if !points.is_empty() {
                        let growth = growth(&points);
                        lines.push(Line { contestant: contestant.name(), points, growth });
                    }
                }
                panels.push(Panel { figure: figure.what, unit: figure.unit, lines });
            }
            curves.push(Curve { id: about.id, title: about.title, axis: curve.axis(), panels });
        }
        curves
    }

    pub fn markdown(&self, pictures: &Path) -> String {
        let picture = pictures.join(format!("{}.svg", self.id));
        let title = self.title;
        let mut text = format!("\n### {title}\n\n![{title}]({})\n\n", picture.display());
        let lines = || self.panels.iter().flat_map(|p| p.lines.iter().map(move |line| (p, line)));
        let heads: Vec<String> =
            lines().map(|(p, line)| format!("{}: {}", p.figure, line.contestant)).collect();
        let _ = writeln!(text, "| {} | {} |", self.axis, heads.join(" | "));
        let _ = writeln!(text, "|{}", " --- |".repeat(heads.len() + 1));
        let mut sizes: Vec<u64> =
            lines().flat_map(|(_, line)| line.points.iter().map(|point| point.size)).collect();
        sizes.sort_unstable();
        sizes.dedup();
        for size in sizes {
            let cells: Vec<String> = lines()
                .map(|(panel, line)| {
                    let point = line.points.iter().find(|point| point.size == size);
                    point.map_or("–".into(), |point| panel.unit.show(point.summary.median))
                })
                .collect();
            let _ = writeln!(text, "| {size} | {} |", cells.join(" | "));
        }
        let growths: Vec<String> = lines().map(|(_, line)| format!("{:.2}", line.growth)).collect();
        let _ = writeln!(text, "| growth | {} |", growths.join(" | "));
        text + "\nGrowth: the slope of the logarithms from the first to the last; 0 is flat, 1 linear.\n"
    }

    pub fn draw(&self, path: &Path) -> Result<()> {
        self.try_draw(path).map_err(|e| anyhow!("{}: {e}", path.display()))
    }

    fn try_draw(&self, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let columns = self.panels.len().min(2);
        let rows = self.panels.len().div_ceil(columns);
        let root = SVGBackend::new(path, (1000, 300 * rows as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        for (panel, area) in self.panels.iter().zip(root.split_evenly((rows, columns))) {
            let points = || panel.lines.iter().flat_map(|line| &line.points);
            let values = || points().map(|point| point.summary.median).filter(|v| *v > 0.0);
            let (least, most) =
                values().fold((f64::INFINITY, 0.0), |(l, m): (f64, f64), v| (l.min(v), m.max(v)));
            let sizes = || points().map(|point| point.size as f64);
            let (first, last) =
                sizes().fold((f64::INFINITY, 1.0), |(f, l): (f64, f64), s| (f.min(s), l.max(s)));
            if !least.is_finite() {
                continue;
            }
            // With many lines, room on the right for their names.
            let many = panel.lines.len() > 4;
            let right = if many { last * (last / first).powf(0.4) } else { last * 1.01 };
            // At least three decades high, so that a flat line looks flat.
            let high = (most * 2.0).max(least * 500.0);
            let mut chart = ChartBuilder::on(&area)
                .caption(panel.figure, ("sans-serif", 15))
                .margin(8)
                .x_label_area_size(34)
                .y_label_area_size(64)
                .build_cartesian_2d((first..right).log_scale(), (least / 2.0..high).log_scale())?;
            chart
                .configure_mesh()
                .x_labels(7)
                .y_labels(7)
                .x_desc(self.axis)
                .x_label_formatter(&|size| match size {
                    0.0..1e4 => size.to_string(),
                    _ => format!("{size:e}"),
                })
                .y_label_formatter(&|value| panel.unit.show(*value))
                .light_line_style(WHITE)
                .draw()?;
            for (colour, line) in panel.lines.iter().enumerate() {
                let style = Palette99::pick(colour).stroke_width(2);
                let medians = line.points.iter().map(|p| (p.size as f64, p.summary.median));
                chart
                    .draw_series(LineSeries::new(medians, style).point_size(3))?
                    .label(line.contestant)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
            }
            chart
                .configure_series_labels()
                .position(if many {
                    SeriesLabelPosition::MiddleRight
                } else {
                    SeriesLabelPosition::UpperLeft
                })
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .draw()?;
        }
        root.present()?;
        Ok(())
    }
}

fn growth(points: &[Point]) -> f64 {
    let (first, last) = (&points[0], &points[points.len() - 1]);
    let sizes = last.size as f64 / first.size as f64;
    let values = last.summary.median / first.summary.median;
    if sizes > 1.0 && values > 0.0 { values.ln() / sizes.ln() } else { 0.0 }
}
