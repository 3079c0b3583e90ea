//! `set`: replaces a slot's value.

use crate::cli::Set;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::values::index::Selection;
use crate::values::input::{self, Form};
use crate::values::value;

pub(super) fn run(context: &mut Context, args: Set) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    let name = words.word("NAME")?;
    let values = words.rest()?;
    let form = match (args.json, args.raw) {
        (true, _) => Form::Json,
        (_, true) => Form::Raw,
        _ => Form::Words,
    };
    if values.is_empty() && form != Form::Raw {
        let what = "VALUE is missing; a lone `-` reads standard input";
        return Err(Failure::of_words(what));
    }

    let store = context.open(&file)?;
    let slot = store.slot(&name)?;
    let usage = |what: String| Failure::of_slot(Exit::USAGE, &file, &name, what);
    let read = |slot_type| {
        input::read(&values, form, slot_type).map_err(|refused| {
            context.hint_at_options(values.iter().map(String::as_str));
            refused.of_slot(&file, &name)
        })
    };
    let Some(index) = args.index else {
        slot.store(read(slot.slot_type())?)?;
        return Ok(Exit::DONE);
    };
    let part = Selection::new(slot.slot_type(), &index).map_err(usage)?;
    let elements = value::elements_of(read(&part.slot_type)?).map_err(usage)?;
    slot.store_range(part.range.start, &elements)?;
    Ok(Exit::DONE)
}
