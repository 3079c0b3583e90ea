//! `define`: a new slot.

use slotfile::{Data, Slot, SlotType};

use crate::cli::{Define, NewSlot};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::listing;
use crate::values::compare::same;
use crate::values::input::{self, Form};

pub(super) fn run(context: &mut Context, args: Define) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    let name = words.word("NAME")?;
    let slot_type: SlotType = words
        .word("TYPE")?
        .parse()
        .map_err(|error| Failure::of_slot(Exit::USAGE, &file, &name, error))?;
    let values = words.rest()?;
    if let (Some(_), SlotType::Value(_) | SlotType::Buffer(..)) = (args.slot.areas, &slot_type) {
        let what = format!("{slot_type} has no areas to choose a number of; leave --areas out");
        return Err(Failure::of_slot(Exit::USAGE, &file, &name, what));
    }

    let mut define = slotfile::Define::new().create_new(args.new);
    if let Some(areas) = args.slot.areas {
        define = define.areas(areas);
    }
    if let Some(doc) = &args.slot.doc {
        define = define.doc(doc);
    }
    if let Some(unit) = &args.slot.unit {
        define = define.unit(unit);
    }
    let mut initial = None;
    if !values.is_empty() {
        let read = input::read(&values, Form::Words, &slot_type).map_err(|refused| {
            context.hint_at_options(values.iter().map(String::as_str));
            refused.of_slot(&file, &name)
        })?;
        define = define.initial(read.clone());
        initial = Some(read);
    }
    let mut options = context.options();
    let store = match args.create {
        true => context.open_new(options.create(true), &file)?,
        false => context.open_with(&file, &options, None)?,
    };
    let slot = store.define(&name, &slot_type, define)?;
    let ignored = ignored(&slot, initial, &args.slot);
    if !ignored.is_empty() {
        context.note(&format!(
            "{}: slot {name:?} already exists, and keeps {}; `slotfile set` changes a value; \
             for the rest, remove it with `slotfile rm` and define it again",
            file.display(),
            ignored.join(", ")
        ));
    }
    Ok(Exit::DONE)
}

/// What an existing slot has in place of what was asked for.
fn ignored(slot: &Slot, value: Option<Data>, asked: &NewSlot) -> Vec<String> {
    let mut ignored = Vec::new();
    let differs = |asked: &Option<String>, there: Option<&str>| {
        asked.as_deref().is_some_and(|asked| asked != there.unwrap_or_default())
    };
    let content = slot.load();
    if value.is_some_and(|asked| !same(&asked, &content)) {
        ignored.push(format!("the value {}", listing::shortened_data(&content)));
    }
    if differs(&asked.doc, slot.doc()) {
        ignored.push(slot.doc().map_or("no doc".into(), |doc| format!("the doc {doc:?}")));
    }
    if differs(&asked.unit, slot.unit()) {
        ignored.push(slot.unit().map_or("no unit".into(), |unit| format!("the unit {unit:?}")));
    }
    if asked.areas.is_some_and(|asked| asked != slot.areas()) {
        ignored.push(format!("{} areas", slot.areas()));
    }
    ignored
}
