use std::fmt::Write;
use std::path::Path;

use super::curve::Curve;
use super::{Entry, OURS, Report, Row};
use crate::figure::digits;

/// All contestants at all works.
pub fn table(report: &Report, rows: &[Row], picture: &Path) -> String {
    let mut text = measured_on(report) + &goals(rows);
    let _ = write!(text, "\n![what each costs, slotfile being 1]({})\n", picture.display());
    let mut last = "";
    for row in rows {
        if row.work != last {
            let _ = write!(text, "\n### {}\n\nThe limit: {}.\n", row.title, row.limit);
            last = row.work;
        }
        text += &contestants(row);
    }
    text
}

/// How cost grows.
pub fn curves(report: &Report, curves: &[Curve], pictures: &Path) -> String {
    let curves: Vec<String> = curves.iter().map(|curve| curve.markdown(pictures)).collect();
    measured_on(report) + curves.concat().trim_start_matches('\n')
}

fn measured_on(report: &Report) -> String {
    let machine = &report.machine;
    let versions: Vec<String> =
        machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    format!(
        "{} processors ({}), Linux {}; stores on {}; at most {} rounds of about {} s for each, {} minutes in all; load \
         before the run {}, taken by the host meanwhile {:.1} %. {}.\n\n",
        machine.processors,
        machine.processor,
        machine.kernel,
        machine.stores_on,
        report.rounds,
        report.seconds_each,
        machine.seconds.div_ceil(60),
        machine.load_before,
        100.0 * machine.stolen,
        versions.join(", "),
    )
}

/// One line per figure: the limit, slotfile, the nearest peer, the goals.
pub fn goals(rows: &[Row]) -> String {
    let mut text = String::from(
        "| work | limit | slotfile | of the limit | nearest peer | goal | holds |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let show =
            |value: Option<f64>| value.map_or("–".to_owned(), |value| row.unit.show(value));
        let ours = row.median(OURS);
        let of_limit = ours.zip(row.limit_median()).map(|(ours, limit)| ours / limit);
        let nearest = row.nearest().map_or("–".to_owned(), |(who, median)| {
            let cost = row.cost(median).map_or(String::new(), |n| format!(", {} ×", digits(n)));
            format!("{who} {}{cost}", row.unit.show(median))
        });
        let goals: Vec<String> =
            row.goals.iter().map(|g| format!("{}{}", who(g.who), g.goal)).collect();
        let holds: Vec<&str> = row.goals.iter().map(|g| yes_or_no(g.holds)).collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {nearest} | {} | {} |",
            title(row),
            show(row.limit_median()),
            show(ours),
            of_limit.map_or("–".to_owned(), digits),
            goals.join("; "),
            holds.join("; "),
        );
    }
    text + "\nMedians of the rounds. Beside the nearest peer: how many times as much as slotfile it costs.\n"
}

fn who(who: &str) -> String {
    if who == OURS { String::new() } else { format!("{who}: ") }
}

fn yes_or_no(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "not measured",
    }
}

fn title(row: &Row) -> String {
    if row.figure.is_empty() {
        row.title.to_owned()
    } else {
        format!("{}: {}", row.title, row.figure)
    }
}

/// All contestants at one figure, best first, then the missing ones with the reasons.
fn contestants(row: &Row) -> String {
    let heading = if row.figure.is_empty() { "median" } else { row.figure };
    let mut text = format!(
        "\n| | {heading} | quartiles | least to most | to the limit | to slotfile | |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    let mut entries: Vec<&Entry> = row.results.iter().collect();
    entries.sort_by(|a, b| {
        let key =
            |e: &Entry| e.summary.as_ref().and_then(|s| row.cost(s.median).or(Some(s.median)));
        key(a).unwrap_or(f64::INFINITY).total_cmp(&key(b).unwrap_or(f64::INFINITY))
    });
    for entry in entries {
        let other = entry.other_work.then(|| "too little of the work to be compared".to_owned());
        let notes: Vec<String> = entry.notes.iter().cloned().chain(other).collect();
        let notes = notes.join("; ");
        let _ = match (&entry.summary, &entry.absent) {
            (Some(s), _) => writeln!(
                text,
                "| {} | {} | {} to {} | {} to {} | {} | {} | {notes} |",
                entry.contestant,
                row.unit.show(s.median),
                row.unit.show(s.lower_quartile),
                row.unit.show(s.upper_quartile),
                row.unit.show(s.least),
                row.unit.show(s.most),
                entry.to_limit.map_or("–".to_owned(), digits),
                entry.to_slotfile.map_or("–".to_owned(), digits),
            ),
            (None, reason) => {
                let reason = reason.as_deref().unwrap_or("not measured").replace('|', "/");
                writeln!(text, "| {} | – | | | | | {reason} |", entry.contestant)
            }
        };
    }
    text
}
