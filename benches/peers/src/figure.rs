//! The figures of a work, how they are written, and slotfile's goals.

use serde::Serialize;

#[derive(Clone, Copy, Serialize, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Nanoseconds,
    PerSecond,
    Bytes,
    /// Of a whole, which is 1.
    Share,
}

impl Unit {
    pub fn less_is_better(self) -> bool {
        !matches!(self, Unit::PerSecond | Unit::Share)
    }

    /// Three digits and a suitable unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Nanoseconds if value >= 1e9 => format!("{} s", digits(value / 1e9)),
            Unit::Nanoseconds if value >= 1e6 => format!("{} ms", digits(value / 1e6)),
            Unit::Nanoseconds if value >= 1e4 => format!("{} µs", digits(value / 1e3)),
            Unit::Nanoseconds => format!("{} ns", digits(value)),
            Unit::PerSecond if value >= 1e6 => format!("{} M/s", digits(value / 1e6)),
            Unit::PerSecond => format!("{}/s", digits(value)),
            Unit::Bytes if value >= 1048576.0 => format!("{} MiB", digits(value / 1048576.0)),
            Unit::Bytes if value >= 1024.0 => format!("{} KiB", digits(value / 1024.0)),
            Unit::Bytes => format!("{} B", digits(value)),
            Unit::Share => format!("{:.0} %", 100.0 * value),
        }
    }
}

/// Three significant digits, thousands separated.
pub fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let places = 2 - value.abs().log10().floor() as i32;
    if places >= 0 {
        return format!("{value:.*}", places as usize);
    }
    let unit = 10f64.powi(-places);
    let whole = format!("{:.0}", (value / unit).round() * unit);
    let groups: Vec<&str> =
        whole.as_bytes().rchunks(3).rev().map(|g| str::from_utf8(g).expect("digits")).collect();
    groups.join(",")
}

/// One number of a work's outcome.
#[derive(Clone, Copy)]
pub struct Figure {
    /// Empty if the work has only this one.
    pub what: &'static str,
    pub unit: Unit,
}

pub const fn figure(what: &'static str, unit: Unit) -> Figure {
    Figure { what, unit }
}

/// A goal of slotfile.
#[derive(Clone, Copy)]
pub struct Goal {
    pub who: &'static str,
    /// Which figure of the work.
    pub figure: usize,
    pub bound: Bound,
}

/// A multiple of another figure of the same run: goals in nanoseconds would be one machine's.
#[derive(Clone, Copy)]
pub enum Bound {
    AtMost(f64, &'static str),
    AtLeast(f64, &'static str),
    /// The other figure is the contestant's own, at another work.
    OwnAtLeast(f64, At),
}

/// Another work that has the same figures.
#[derive(Clone, Copy)]
pub struct At {
    pub work: &'static str,
    /// What the table calls it.
    pub called: &'static str,
}

impl Goal {
    pub fn show(&self) -> String {
        match self.bound {
            Bound::AtMost(n, whom) => format!("at most {n} × {whom}"),
            Bound::AtLeast(n, whom) => format!("at least {n} × {whom}"),
            Bound::OwnAtLeast(n, at) => format!("at least {n} × {}", at.called),
        }
    }

    /// Whether it holds at `work`; `None` if one of the two is missing. `median_of` takes a work
    /// and a contestant.
    pub fn holds(&self, work: &str, median_of: impl Fn(&str, &str) -> Option<f64>) -> Option<bool> {
        let own = median_of(work, self.who)?;
        Some(match self.bound {
            Bound::AtMost(n, whom) => own <= n * median_of(work, whom)?,
            Bound::AtLeast(n, whom) => own >= n * median_of(work, whom)?,
            Bound::OwnAtLeast(n, at) => own >= n * median_of(at.work, self.who)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let of = |value| Unit::Nanoseconds.show(value);
        assert_eq!(
            (of(0.2711), of(9.96), of(71.0)),
            ("0.271 ns".into(), "9.96 ns".into(), "71.0 ns".into())
        );
        assert_eq!((of(7023.0), of(65_460.0)), ("7,020 ns".into(), "65.5 µs".into()));
        assert_eq!(Unit::PerSecond.show(185_432.0), "185,000/s");
        assert_eq!(Unit::Bytes.show(12288.0), "12.0 KiB");
        assert_eq!(Unit::Share.show(0.934), "93 %");
        assert_eq!(digits(0.0), "0");
    }

    #[test]
    fn a_goal_that_is_missed_does_not_hold() {
        let results = |work: &str, who: &str| match (work, who) {
            ("here", "slotfile") => Some(10.0),
            ("here", "limit") => Some(5.0),
            ("there", "slotfile") => Some(2.5),
            _ => None,
        };
        let holds = |bound| Goal { who: "slotfile", figure: 0, bound }.holds("here", results);
        assert_eq!(holds(Bound::AtMost(1.9, "limit")), Some(false));
        assert_eq!(holds(Bound::AtMost(2.0, "limit")), Some(true));
        assert_eq!(holds(Bound::AtLeast(2.1, "limit")), Some(false));
        assert_eq!(holds(Bound::AtLeast(2.0, "limit")), Some(true));
        assert_eq!(holds(Bound::AtMost(2.3, "nobody")), None);
        let own = |n, work| holds(Bound::OwnAtLeast(n, At { work, called: "that" }));
        assert_eq!((own(4.0, "there"), own(4.1, "there")), (Some(true), Some(false)));
        assert_eq!(own(4.0, "nowhere"), None);
    }
}
