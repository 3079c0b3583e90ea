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
    if let (Some(_), SlotType::Value(_) | SlotType::Buffer(..) | SlotType::Counter) =
        (args.slot.areas, &slot_type)
    {
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
    let store = context.open_with(&file, options.create(args.create), None)?;
    let slot = store.define(&name, &slot_type, define)?;
    let value = kept_value(&slot, initial);
    let others = kept_properties(&slot, &args.slot);
    let remedy = match (value.is_some(), others.is_empty()) {
        (false, true) => return Ok(Exit::DONE),
        (true, true) => "`slotfile set` changes it",
        (false, false) => "to change that, remove it with `slotfile rm`, and define it again",
        (true, false) => {
            "`slotfile set` changes the value; to change the rest, remove it with `slotfile rm`, \
             and define it again"
        }
    };
    let kept: Vec<String> = value.into_iter().chain(others).collect();
    let (file, kept) = (file.display(), kept.join(", "));
    context.note(&format!("{file}: slot {name:?} already exists, and keeps {kept}; {remedy}"));
    Ok(Exit::DONE)
}

/// The value of an existing slot, if another one was asked for.
fn kept_value(slot: &Slot, asked: Option<Data>) -> Option<String> {
    let (asked, content) = (asked?, slot.load());
    (!same(&asked, &content)).then(|| format!("the value {}", listing::shortened_data(&content)))
}

/// What else an existing slot has in place of what was asked for.
fn kept_properties(slot: &Slot, asked: &NewSlot) -> Vec<String> {
    let mut kept = Vec::new();
    let differs = |asked: &Option<String>, there: Option<&str>| {
        asked.as_deref().is_some_and(|asked| asked != there.unwrap_or_default())
    };
    if differs(&asked.doc, slot.doc()) {
        kept.push(slot.doc().map_or("no doc".into(), |doc| format!("the doc {doc:?}")));
    }
    if differs(&asked.unit, slot.unit()) {
        kept.push(slot.unit().map_or("no unit".into(), |unit| format!("the unit {unit:?}")));
    }
    if asked.areas.is_some_and(|asked| asked != slot.areas()) {
        kept.push(format!("{} areas", slot.areas()));
    }
    kept
}
