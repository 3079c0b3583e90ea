//! `ls`: the slots of a store.

use std::io::Write;

use slotfile::{Error, ListedSlot};

use crate::cli::{Ls, Order};
use crate::context::Context;
use crate::display::quoted;
use crate::exit::{Exit, Failure};
use crate::listing::{self, Columns, is_pattern};
use crate::output::Output;
use crate::values::json;

pub(super) fn run(context: &mut Context, args: Ls) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    let pattern = words.optional()?;
    words.end_with("ls takes one GLOB; quote it, or the shell expands it")?;

    let store = context.open_to_read(&file)?;
    let mut list = store.list(pattern.as_deref().unwrap_or("*"))?;
    if args.sort == Order::Name {
        list = list.sorted_by_name()?;
    }
    let mut is_empty = true;
    let slots = list.inspect(|_| is_empty = false);
    if args.json {
        write_json(&mut context.out, slots)?;
    } else if args.names {
        for slot in slots {
            writeln!(context.out, "{}", slot?.name())?;
        }
    } else {
        let columns = Columns { long: args.long, titles: !args.no_header };
        listing::table(&mut context.out, slots, columns)?;
    }
    match pattern {
        _ if !is_empty => {}
        // A name, not a pattern: the same error as `get`, which suggests a similar name.
        Some(name) if !is_pattern(&name) => {
            store.slot(&name)?;
        }
        _ if args.json || args.names => {}
        Some(word) => {
            context.note(&format!("{}: no slot matches {}", file.display(), quoted(&word)));
        }
        None => context.note(&format!(
            "{0}: no slots yet; `slotfile define {0} hits u64` makes one",
            file.display()
        )),
    }
    Ok(Exit::DONE)
}

fn write_json(
    out: &mut Output,
    slots: impl Iterator<Item = Result<ListedSlot, Error>>,
) -> Result<(), Failure> {
    write!(out, "[")?;
    for (at, slot) in slots.enumerate() {
        let slot = slot?;
        let (data, version) = slot.try_load_versioned()?;
        write!(out, "{}{{", if at == 0 { "\n" } else { ",\n" })?;
        json::write_slot(out, slot.name(), slot.slot_type(), version, &data)?;
        let text = |text: Option<&str>| text.map_or("null".into(), json::string);
        let (doc, unit) = (text(slot.doc()), text(slot.unit()));
        write!(out, r#","bytes":{},"doc":{doc},"unit":{unit}}}"#, slot.size())?;
    }
    writeln!(out, "\n]")?;
    Ok(())
}
