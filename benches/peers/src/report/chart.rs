//! One picture of the table: for each figure, what each contestant costs, slotfile being 1.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{OURS, Row};

pub fn draw(rows: &[Row], path: &Path) -> Result<()> {
    // No `?` in the middle: the errors of the drawing borrow the canvas.
    try_draw(rows, path).map_err(|e| anyhow!("{}: {e}", path.display()))
}

fn try_draw(rows: &[Row], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    // (figure, contestant, cost), top to bottom.
    let mut points = Vec::new();
    let mut whos: Vec<&str> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        for entry in &row.results {
            let cost = entry.summary.as_ref().and_then(|s| row.cost(s.median));
            if let Some(cost) = cost.filter(|cost| *cost > 0.0 && cost.is_finite()) {
                points.push((rows.len() - 1 - at, entry.contestant, cost));
                if !whos.contains(&entry.contestant) {
                    whos.push(entry.contestant);
                }
            }
        }
    }
    let most = points.iter().fold(10.0, |most: f64, point| most.max(point.2));
    let least = points.iter().fold(0.5, |least: f64, point| least.min(point.2));

    let size = (1100, 120 + 34 * rows.len() as u32);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    // Room on the right for the legend.
    let mut chart = ChartBuilder::on(&root)
        .caption("cost of one operation, slotfile = 1 (less is better)", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(330)
        .build_cartesian_2d(
            (least / 2.0..most * 30.0).log_scale(),
            (0..rows.len().max(2) - 1).into_segmented(),
        )?;
    chart
        .configure_mesh()
        .y_labels(rows.len() + 1)
        .y_label_formatter(&|at| match at {
            SegmentValue::CenterOf(at) if *at < rows.len() => {
                let row = &rows[rows.len() - 1 - at];
                let title = row.title.split(" beside ").next().unwrap_or(row.title);
                if row.figure.is_empty() {
                    title.to_owned()
                } else {
                    format!("{title}: {}", row.figure)
                }
            }
            _ => String::new(),
        })
        .x_label_formatter(&|cost| format!("{cost:e}"))
        .x_desc("times slotfile")
        .light_line_style(WHITE)
        .label_style(("sans-serif", 13))
        .draw()?;
    for (colour, who) in whos.iter().enumerate() {
        let style = Palette99::pick(colour).filled();
        let size = if *who == OURS { 6 } else { 4 };
        let own = points.iter().filter(|point| point.1 == *who);
        chart
            .draw_series(own.map(|(row, _, cost)| {
                Circle::new((*cost, SegmentValue::CenterOf(*row)), size, style)
            }))?
            .label(*who)
            .legend(move |(x, y)| Circle::new((x + 8, y), size, style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()?;
    root.present()?;
    Ok(())
}
