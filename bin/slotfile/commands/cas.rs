//! `cas`: compare and swap.

use slotfile::{Data, Scalar, SlotType};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::value;
use crate::words::Words;

pub(super) fn run(context: &mut Context, words: Words) -> Result<Exit, Failure> {
    let mut words = words.read();
    let file = words.file()?;
    let name = words.word("NAME")?;
    let expected = words.word("EXPECTED")?;
    let new = words.word("NEW")?;
    words.end()?;

    let store = context.open(&file)?;
    let slot = store.slot(&name)?;
    if let SlotType::Array(..) | SlotType::Buffer(..) = slot.slot_type() {
        let what = format!("it is {}, and cas compares single values", slot.slot_type());
        return Err(Failure::of_slot(Exit::TYPE, &file, &name, what));
    }
    let read = |word: &str| {
        value::from_words([word].into_iter(), slot.slot_type())
            .map_err(|what| Failure::of_slot(Exit::USAGE, &file, &name, what))
    };
    let (expected, new) = (read(&expected)?, read(&new)?);
    let mut found = None;
    let swapped = slot.update(|data| {
        if !same(data, &expected) {
            // The error undoes the update: a lost compare leaves no new version.
            found = Some(data.clone());
            return Err(Failure::silent(Exit::NO));
        }
        *data = new.clone();
        Ok(())
    });
    match (swapped, found) {
        (Err(failure), Some(found)) if failure.exit == Exit::NO => {
            value::print(&mut context.out, &found, slot.slot_type())?;
            Ok(Exit::NO)
        }
        (Err(failure), _) => Err(failure),
        (Ok(()), _) => Ok(Exit::DONE),
    }
}

/// Whether they are the same bits, so that 0.0 is not -0.0. All that print as `nan` are
/// the same: what the command line shows, it must be able to name.
fn same(a: &Data, b: &Data) -> bool {
    match (a, b) {
        (Data::Scalar(a), Data::Scalar(b)) => {
            let bits = |x: &Scalar| value::one(*x).as_bytes().to_vec();
            bits(a) == bits(b) || (is_nan(*a) && is_nan(*b))
        }
        (a, b) => a == b,
    }
}

fn is_nan(x: Scalar) -> bool {
    match x {
        Scalar::F32(x) => x.is_nan(),
        Scalar::F64(x) => x.is_nan(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_decide() {
        let (nan, other_nan) = (Data::from(f64::NAN), Data::from(-f64::NAN));
        assert!(same(&nan, &nan) && same(&nan, &other_nan));
        assert!(!same(&Data::from(0.0), &Data::from(-0.0)));
        assert!(same(&Data::from("a"), &Data::from("a")));
        assert!(!same(&Data::from(1u8), &Data::from(2u8)));
    }
}
