//! `add`: adds to a number, atomically.

use std::io::Write;

use slotfile::{Scalar, ScalarType, SlotType};

use super::Context;
use crate::cli::Add;
use crate::exit::{Exit, Failure};
use crate::index::Part;
use crate::value::{parse, shown};

pub(super) fn run(context: &mut Context, args: Add) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    let name = words.word("NAME")?;
    let text = words.optional()?.unwrap_or_else(|| "1".into());
    words.end()?;

    let store = context.open(&file)?;
    let slot = store.slot(&name)?;
    let fail = |exit, what: String| Failure::of_slot(exit, &file, &name, what);
    let (scalar, range) = match (slot.slot_type(), args.index) {
        (
            SlotType::Value(ScalarType::Bool)
            | SlotType::Array(ScalarType::Bool, _)
            | SlotType::Buffer(ScalarType::Bool, _)
            | SlotType::Text(_)
            | SlotType::Bytes(_),
            _,
        ) => {
            let what = format!("it is {}, and add needs a number; use set", slot.slot_type());
            return Err(fail(Exit::TYPE, what));
        }
        (SlotType::Value(scalar), None) => (*scalar, 0..1),
        (SlotType::Array(scalar, _) | SlotType::Buffer(scalar, _), Some(index)) => {
            let part =
                Part::new(slot.slot_type(), &index).map_err(|what| fail(Exit::USAGE, what))?;
            if part.range.len() != 1 {
                let what =
                    format!("--index {index} spans {} elements; add takes one", part.range.len());
                return Err(fail(Exit::USAGE, what));
            }
            (*scalar, part.range)
        }
        (slot_type, Some(_)) => {
            let what = format!("it is {slot_type} and has no elements; leave --index out");
            return Err(fail(Exit::USAGE, what));
        }
        (slot_type, None) => {
            let what =
                format!("it is {slot_type}; say which element, with --index before the file");
            return Err(fail(Exit::USAGE, what));
        }
    };
    let by = Step::parse(&text, scalar).map_err(|what| fail(Exit::USAGE, what))?;
    let new = slot.update_range(range, |elements| {
        let old = elements.get(0).unwrap_or(Scalar::zero(scalar));
        let new = by.from(old).ok_or_else(|| {
            let (low, high) = scalar.range();
            let what = format!(
                "{old} and {text} overflow {scalar}, which is {low} to {high}; nothing was changed"
            );
            fail(Exit::NO, what)
        })?;
        elements.set(0, new);
        Ok::<_, Failure>(new)
    })?;
    writeln!(context.out, "{new}")?;
    Ok(Exit::DONE)
}

/// What is added. An integer can be one that the slot itself cannot hold: -1 to a u64.
#[derive(Clone, Copy)]
pub(super) enum Step {
    Integer(i128),
    Float(Scalar),
}

impl Step {
    pub(super) fn parse(text: &str, scalar: ScalarType) -> Result<Step, String> {
        if matches!(scalar, ScalarType::F32 | ScalarType::F64) {
            return parse(text, scalar).map(Step::Float);
        }
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let magnitude = Scalar::parse(digits, ScalarType::U64).ok().and_then(Scalar::integer);
        // A second sign would be taken as one of the digits.
        match magnitude {
            Some(magnitude) if !digits.starts_with('-') => Ok(Step::Integer(sign * magnitude)),
            _ => Err(format!(
                "{} is nothing to add: write an integer of up to 64 bits, as 5, -5 or 0x10",
                shown(text)
            )),
        }
    }

    /// The sum; `None` if the slot cannot hold it.
    pub(super) fn from(self, old: Scalar) -> Option<Scalar> {
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
        assert_eq!(sum("0.1", "-0.5", F32).as_deref(), Some("-0.4"));
        assert_eq!(sum("3e38", "3e38", F32), None);
        assert_eq!(sum("1", "inf", F64).as_deref(), Some("inf"));
    }

    #[test]
    fn strange_steps_are_refused() {
        for bad in ["", "-", "--5", "+5", "1.5", "nan", "0x", "18446744073709551616", " 1", "-0x-1"]
        {
            assert!(Step::parse(bad, ScalarType::U64).is_err(), "{bad}");
        }
        assert!(Step::parse("1e999", ScalarType::F64).is_err());
    }
}
