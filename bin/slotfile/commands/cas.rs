//! `cas`: compare and swap.

use slotfile::{Data, SlotType};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::values::compare::same;
use crate::values::value;
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
        let what = format!(
            "it is {}, and cas compares single values; `slotfile lock` of another slot, by all who \
             change this one, makes a get and a set one step",
            slot.slot_type()
        );
        return Err(Failure::of_slot(Exit::TYPE, &file, &name, what));
    }
    if *slot.slot_type() == SlotType::Counter {
        let what = "it is a counter, whose number at one instant nobody knows: cas cannot compare it; \
                    use a value";
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
            // The error undoes the update, so that a lost compare makes no new version.
            found = Some(std::mem::replace(data, Data::Bytes(Vec::new())));
            return Err(Failure::silent(Exit::NO));
        }
        *data = new.clone();
        Ok(())
    });
    match (swapped, found) {
        (Err(failure), Some(found)) if failure.exit == Exit::NO => {
            Exit::NO.printed(value::print(&mut context.out, &found, slot.slot_type()))
        }
        (Err(failure), _) => Err(failure),
        (Ok(()), _) => Ok(Exit::DONE),
    }
}
