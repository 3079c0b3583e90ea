//! `define`: a new slot.

use slotfile::SlotType;

use super::Context;
use super::create::open_new;
use crate::cli::Define;
use crate::exit::{Exit, Failure};
use crate::input::{self, Form};

pub(super) fn run(context: &mut Context, args: Define) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    let name = words.word("NAME")?;
    let slot_type: SlotType = words
        .word("TYPE")?
        .parse()
        .map_err(|error| Failure::of_slot(Exit::USAGE, &file, &name, error))?;
    let values = words.rest()?;

    let mut define = slotfile::Define::new().create_new(args.new);
    if let Some(areas) = args.areas {
        define = define.areas(areas);
    }
    if let Some(doc) = args.doc {
        define = define.doc(doc);
    }
    if let Some(unit) = args.unit {
        define = define.unit(unit);
    }
    if !values.is_empty() {
        let initial = input::read(&values, Form::Words, &slot_type)
            .map_err(|error| super::refused(error, &file, &name))?;
        define = define.initial(initial);
    }
    let mut options = context.options();
    let store = match args.create {
        true => open_new(context, options.create(true), &file)?,
        false => context.open_with(&file, &options, Exit::DAMAGED)?,
    };
    store.define(&name, &slot_type, define)?;
    Ok(Exit::DONE)
}
