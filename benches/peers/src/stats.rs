//! Turns single times into figures.

use std::time::Duration;

use serde::Serialize;

/// The statistics of the rounds.
#[derive(Serialize, Clone, Debug)]
pub struct Summary {
    pub median: f64,
    pub lower_quartile: f64,
    pub upper_quartile: f64,
    pub least: f64,
    pub most: f64,
    pub rounds: usize,
}

impl Summary {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Summary {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Summary {
            median: quantile(&values, 0.5),
            lower_quartile: quantile(&values, 0.25),
            upper_quartile: quantile(&values, 0.75),
            least: values[0],
            most: values[values.len() - 1],
            rounds: values.len(),
        }
    }
}

/// A quantile of sorted values, interpolated between two of them.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

/// Batches of a measurement. Their median is its result, so that an interruption spoils one batch,
/// not the whole.
const BATCHES: u32 = 9;

/// Nanoseconds of one operation. `run` does the given number of them, and returns the time.
pub fn per_operation(effort: Duration, mut run: impl FnMut(u64) -> Duration) -> f64 {
    let batch = effort / BATCHES;
    let mut count = 1;
    loop {
        let time = run(count);
        if time >= batch / 2 {
            let fits = count as f64 * batch.as_secs_f64() / time.as_secs_f64();
            count = (fits as u64).max(1);
            break;
        }
        count *= 2;
    }
    let per = |time: Duration| time.as_nanos() as f64 / count as f64;
    Summary::of((0..BATCHES).map(|_| per(run(count)))).median
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_of_known_values() {
        let summary = Summary::of([5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((summary.least, summary.lower_quartile), (1.0, 2.0));
        assert_eq!((summary.median, summary.upper_quartile, summary.most), (3.0, 4.0, 5.0));
        assert_eq!(Summary::of([1.0, 2.0]).median, 1.5);
        assert_eq!(Summary::of([7.0]).upper_quartile, 7.0);
    }

    #[test]
    fn the_time_of_an_operation_is_found() {
        let mut done = 0;
        let each = per_operation(Duration::from_micros(900), |count| {
            done += count;
            Duration::from_nanos(25 * count)
        });
        assert_eq!(each, 25.0);
        assert!(done >= 9 * 4_000, "{done}");
    }
}
