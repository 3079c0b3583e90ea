//! Adding to a number: which number, how much, and whether the sum fits.

use std::ops::Range;

use slotfile::{Scalar, ScalarType, SlotType};

use crate::display::quoted;
use crate::exit::Exit;
use crate::values::index::Selection;
use crate::values::value::parse;

/// The type and position of the number that is added to. An error is an exit code and a
/// message; the caller adds the file and the slot.
pub(crate) fn target(
    slot_type: &SlotType,
    index: Option<&str>,
) -> Result<(ScalarType, Range<usize>), (Exit, String)> {
    let usage = |what: String| (Exit::USAGE, what);
    match (slot_type, index) {
        (
            SlotType::Value(ScalarType::Bool)
            | SlotType::Array(ScalarType::Bool, _)
            | SlotType::Buffer(ScalarType::Bool, _)
            | SlotType::Text(_)
            | SlotType::Bytes(_),
            _,
        ) => Err((Exit::TYPE, format!("it is {slot_type}, and add needs a number; use set"))),
        (SlotType::Value(scalar), None) => Ok((*scalar, 0..1)),
        (SlotType::Counter, None) => Ok((ScalarType::I64, 0..1)),
        (SlotType::Array(scalar, _) | SlotType::Buffer(scalar, _), Some(index)) => {
            let range = Selection::new(slot_type, index).map_err(usage)?.range;
            match range.len() {
                1 => Ok((*scalar, range)),
                len => Err(usage(format!("--index {index} spans {len} elements; add takes one"))),
            }
        }
        (_, Some(_)) => {
            Err(usage(format!("it is {slot_type} and has no elements; leave --index out")))
        }
        (_, None) => Err(usage(format!("it is {slot_type}; say which element, with --index"))),
    }
}

/// The message for a sum that the slot cannot hold.
pub(crate) fn overflow(old: Scalar, step: &str, scalar: ScalarType) -> String {
    let (low, high) = scalar.range();
    format!("{old} and {step} overflow {scalar}, which is {low} to {high}; nothing was changed")
}

/// What is added. An integer can be one that the slot itself cannot hold: -1 to a u64.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    Integer(i128),
    Float(Scalar),
}

impl Step {
    /// An error is a message that says what could be written.
    pub(crate) fn parse(text: &str, scalar: ScalarType) -> Result<Step, String> {
        // A plus sign is allowed in front of an amount, unlike in front of a value.
        let unsigned = match text.strip_prefix('+') {
            Some(rest) if !rest.starts_with(['+', '-']) => rest,
            _ => text,
        };
        if matches!(scalar, ScalarType::F32 | ScalarType::F64) {
            return parse(unsigned, scalar).map(Step::Float);
        }
        let (sign, digits) = match unsigned.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, unsigned),
        };
        let magnitude = Scalar::parse(digits, ScalarType::U64).ok().and_then(Scalar::integer);
        // Without the guard, a second sign would be parsed as part of the digits.
        match magnitude {
            Some(magnitude) if !digits.starts_with('-') => Ok(Step::Integer(sign * magnitude)),
            _ if Scalar::parse(unsigned, ScalarType::F64).is_ok() => Err(format!(
                "it is {scalar}, so it takes whole numbers of up to 64 bits, not {text}"
            )),
            _ => Err(format!(
                "{} is not a number to add: write an integer of up to 64 bits, such as 5, -5 or \
                 0x10",
                quoted(text)
            )),
        }
    }

    /// The sum; `None` if the slot cannot hold it.
    pub(crate) fn from(self, old: Scalar) -> Option<Scalar> {
        match self {
            Step::Integer(by) => Scalar::from_integer(old.integer()? + by, old.scalar_type()),
            Step::Float(by) => {
                let sum = old.checked_add(by)?;
                let overflow = is_finite(old) && is_finite(by) && !is_finite(sum);
                (!overflow).then_some(sum)
            }
        }
    }
}

fn is_finite(x: Scalar) -> bool {
    match x {
        Scalar::F32(x) => x.is_finite(),
        Scalar::F64(x) => x.is_finite(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(old: &str, by: &str, scalar: ScalarType) -> Option<String> {
        let old = Scalar::parse(old, scalar).unwrap();
        let sum = Step::parse(by, scalar).unwrap().from(old)?;
        Some(sum.to_string())
    }

    #[test]
    fn adds_or_overflows() {
        use ScalarType::*;
        assert_eq!(sum("5", "-1", U64).as_deref(), Some("4"));
        assert_eq!(sum("0", "-1", U64), None);
        assert_eq!(sum("18446744073709551615", "1", U64), None);
        assert_eq!(sum("0", "18446744073709551615", U64).as_deref(), Some("18446744073709551615"));
        assert_eq!(
            sum("-9223372036854775808", "18446744073709551615", I64).as_deref(),
            Some("9223372036854775807")
        );
        assert_eq!(sum("250", "0x5", U8).as_deref(), Some("255"));
        assert_eq!(sum("250", "6", U8), None);
        assert_eq!(sum("5", "+5", U8).as_deref(), Some("10"));
        assert_eq!(sum("5", "+0.5", F64).as_deref(), Some("5.5"));
        assert_eq!(sum("0.1", "-0.5", F32).as_deref(), Some("-0.4"));
        assert_eq!(sum("3e38", "3e38", F32), None);
        assert_eq!(sum("1", "inf", F64).as_deref(), Some("inf"));
    }

    #[test]
    fn strange_steps_are_refused() {
        for bad in [
            "",
            "-",
            "--5",
            "+-5",
            "++5",
            "1.5",
            "nan",
            "0x",
            "18446744073709551616",
            " 1",
            "-0x-1",
        ] {
            assert!(Step::parse(bad, ScalarType::U64).is_err(), "{bad}");
        }
        assert!(Step::parse("1e999", ScalarType::F64).is_err());
    }
}
