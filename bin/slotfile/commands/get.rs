//! `get`: a slot's value.

use std::io::Write;

use slotfile::{Data, Slot};

use crate::cli::Get;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::values::index::Selection;
use crate::values::{json, value};

pub(super) fn run(context: &mut Context, args: Get) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    let name = words.word("NAME")?;
    words.end_with("get takes one NAME; `slotfile ls FILE GLOB` shows several")?;

    let store = context.open_to_read(&file)?;
    let slot = store.slot(&name)?;
    let part = args.index.map(|index| Selection::new(slot.slot_type(), &index));
    let part =
        part.transpose().map_err(|error| Failure::of_slot(Exit::USAGE, &file, &name, error))?;
    let (data, version) = match &part {
        Some(part) => load_selection(&slot, part)?,
        None => slot.try_load_versioned()?,
    };
    let data_type = part.as_ref().map_or(slot.slot_type(), |part| &part.slot_type);

    let out = &mut context.out;
    if args.raw {
        value::write_raw(out, &data)?;
    } else if args.json {
        write!(out, "{{")?;
        json::write_slot(out, &name, data_type, version, &data)?;
        writeln!(out, "}}")?;
    } else {
        value::print(out, &data, data_type)?;
    }
    Ok(Exit::DONE)
}

/// Some elements, and their version.
fn load_selection(slot: &Slot, part: &Selection) -> Result<(Data, u64), Failure> {
    let (elements, version) = slot.load_range_versioned(part.range.clone())?;
    let data = match (&part.slot_type, elements.get(0)) {
        (slotfile::SlotType::Value(_), Some(scalar)) => Data::Scalar(scalar),
        _ => Data::Array(elements),
    };
    Ok((data, version))
}
