//! `--index`: the elements of an array that a command is about.

use std::ops::Range;

use slotfile::{Shape, SlotType};

/// The elements that an index selects: adjacent ones.
#[derive(Debug)]
pub(crate) struct Selection {
    /// Row-major positions.
    pub(crate) range: Range<usize>,
    /// The type of a slot that would hold just them.
    pub(crate) slot_type: SlotType,
}

impl Selection {
    /// Parses `I`, `I,J` or `A..B` as numpy does: each index selects along one dimension, the
    /// last may be a range, and dimensions not named are taken whole. So `3` is row 3 of a
    /// matrix, and `2..4` its rows 2 and 3.
    ///
    /// An error is a message that says what is wrong with the index.
    pub(crate) fn new(slot_type: &SlotType, index: &str) -> Result<Selection, String> {
        let (SlotType::Array(scalar, shape) | SlotType::Buffer(scalar, shape)) = slot_type else {
            return Err(format!("it is {slot_type} and has no elements; leave --index out"));
        };
        let dims = shape.dims();
        let named: Vec<&str> = index.split(',').collect();
        if named.len() > dims.len() {
            return Err(format!(
                "--index {index} names {} dimensions, and {slot_type} has {}",
                named.len(),
                dims.len()
            ));
        }
        let mut start = 0;
        let mut left: Vec<usize> = dims[named.len()..].to_vec();
        for (at, (text, dim)) in named.iter().zip(dims).enumerate() {
            let last = at + 1 == named.len();
            let bounds = bounds(text, last).ok_or_else(|| {
                format!(
                    "--index {index} is not an index; write I, I,J or A..B, counted from 0, B not \
                     included"
                )
            })?;
            if bounds.is_empty() {
                return Err(format!(
                    "--index {index} selects nothing: A..B runs from A to before B"
                ));
            }
            if bounds.end > *dim {
                return Err(format!(
                    "--index {index} is outside {slot_type}, whose indices there are 0 to {}",
                    dim - 1
                ));
            }
            start = start * dim + bounds.start;
            if text.contains("..") {
                left.insert(0, bounds.len());
            }
        }
        // `start` counts whole blocks of the dimensions that were not named.
        let block: usize = dims[named.len()..].iter().product();
        let len: usize = left.iter().product();
        let selected = match Shape::new(&left) {
            Some(shape) => SlotType::Array(*scalar, shape),
            None => SlotType::Value(*scalar),
        };
        Ok(Selection { range: start * block..start * block + len, slot_type: selected })
    }
}

/// The half-open range that one index stands for.
fn bounds(text: &str, may_be_range: bool) -> Option<Range<usize>> {
    match text.split_once("..") {
        Some((from, to)) if may_be_range => Some(number(from)?..number(to)?),
        Some(_) => None,
        None => {
            let at = number(text)?;
            Some(at..at.checked_add(1)?)
        }
    }
}

/// Digits only: `usize::from_str` would take a `+`.
fn number(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(slot_type: &str, index: &str) -> Result<(Range<usize>, String), String> {
        let part = Selection::new(&slot_type.parse().unwrap(), index)?;
        Ok((part.range, part.slot_type.to_string()))
    }

    #[test]
    fn picks_as_numpy_does() {
        let found = |index| part("f32[4,5]", index).unwrap();
        assert_eq!(part("u8[6]", "2").unwrap(), (2..3, "u8".into()));
        assert_eq!(part("u8[6]", "2..4").unwrap(), (2..4, "u8[2]".into()));
        assert_eq!(part("u8[6]", "0..6").unwrap(), (0..6, "u8[6]".into()));
        assert_eq!(found("1,2"), (7..8, "f32".into()));
        assert_eq!(found("1"), (5..10, "f32[5]".into()));
        assert_eq!(found("1..3"), (5..15, "f32[2,5]".into()));
        assert_eq!(found("3,1..3"), (16..18, "f32[2]".into()));
        assert_eq!(part("i8[2,3,4]", "1,2").unwrap(), (20..24, "i8[4]".into()));
    }

    #[test]
    fn refuses_the_rest() {
        for bad in [
            "6",
            "5..7",
            "2..2",
            "4..2",
            "",
            "-1",
            "+1",
            "1,2",
            "..",
            "1..",
            "..2",
            "a",
            " 1",
            "0..1..2",
            "18446744073709551615",
            "99999999999999999999",
        ] {
            assert!(part("u8[6]", bad).is_err(), "{bad}");
        }
        assert!(part("u8[2,3]", "0..1,2").is_err());
        assert!(part("u64", "0").is_err());
        assert!(part("text[5]", "0").is_err());
    }
}
