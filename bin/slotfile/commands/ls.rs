//! `ls`: the slots of a store.

use std::io::Write;

use slotfile::{Data, Elements, Slot, SlotType};

use super::Context;
use crate::cli::Ls;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{json, value};

/// Characters that a value takes in the list, about.
const WIDTH: usize = 40;
/// An element and its space take two characters or more.
const MOST_ELEMENTS: usize = WIDTH / 2;

pub(super) fn run(context: &mut Context, args: Ls) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    let pattern = words.optional()?;
    words.end()?;

    let store = context.open_to_read(&file)?;
    let slots = store.slots_matching(pattern.as_deref().unwrap_or("*"))?;
    if args.json {
        write_json(&mut context.out, &slots)?;
        return Ok(Exit::DONE);
    }
    match (&pattern, slots.is_empty()) {
        (_, false) => table(&mut context.out, &slots, args.long)?,
        (_, true) if store.slots()?.is_empty() => context.note(&format!(
            "{0}: no slots yet; `slotfile define {0} hits u64` makes one",
            file.display()
        )),
        // Easily written after the file, where it is a pattern.
        (Some(word), _) if word.starts_with('-') => context.note(&format!(
            "{}: no slot matches {word:?}; options stand before the file",
            file.display()
        )),
        _ => {}
    }
    Ok(Exit::DONE)
}

fn write_json(out: &mut Output, slots: &[Slot]) -> Result<(), Failure> {
    write!(out, "[")?;
    for (at, slot) in slots.iter().enumerate() {
        let (data, version) = slot.load_versioned();
        write!(out, "{}{{", if at == 0 { "\n" } else { ",\n" })?;
        json::write_slot(out, slot.name(), slot.slot_type(), version, &data)?;
        let text = |text: Option<&str>| text.map_or("null".into(), json::string);
        let (doc, unit) = (text(slot.doc()), text(slot.unit()));
        write!(out, r#","bytes":{},"doc":{doc},"unit":{unit}}}"#, slot.size())?;
    }
    writeln!(out, "\n]")?;
    Ok(())
}

/// The slots for people, a line each.
pub(super) fn table(out: &mut Output, slots: &[Slot], long: bool) -> Result<(), Failure> {
    let rows = slots.iter().map(|slot| {
        let name = slot.name().to_owned();
        let slot_type = slot.slot_type().to_string();
        let version = slot.version().to_string();
        let value = shortened(slot)?;
        Ok(match long {
            true => vec![
                name,
                slot_type,
                slot.size().to_string(),
                slot.areas().to_string(),
                version,
                value,
                slot.unit().unwrap_or_default().to_owned(),
                slot.doc().map(on_one_line).unwrap_or_default(),
            ],
            false => vec![name, slot_type, value, version],
        })
    });
    let rows = rows.collect::<Result<Vec<_>, Failure>>()?;
    match long {
        true => {
            let heads = ["NAME", "TYPE", ">BYTES", ">AREAS", ">VERSION", "VALUE", "UNIT", "DOC"];
            out.table(&heads, rows)
        }
        false => out.table(&["NAME", "TYPE", "VALUE", ">VERSION"], rows),
    }
}

/// The value, or its beginning. Of a large array only the beginning is read.
fn shortened(slot: &Slot) -> Result<String, Failure> {
    if let SlotType::Array(_, shape) | SlotType::Buffer(_, shape) = slot.slot_type() {
        let first = slot.load_range(0..shape.len().min(MOST_ELEMENTS))?;
        return Ok(beginning(&first, shape.len()));
    }
    Ok(shortened_data(&slot.load()))
}

/// The content, or its beginning.
pub(super) fn shortened_data(data: &Data) -> String {
    match data {
        Data::Scalar(scalar) => scalar.to_string(),
        Data::Array(elements) => beginning(elements, elements.len()),
        Data::Text(text) => quoted(text),
        Data::Bytes(bytes) if bytes.len() <= WIDTH / 2 => value::to_hex(bytes),
        Data::Bytes(bytes) => {
            format!("{}… ({} bytes)", value::to_hex(&bytes[..WIDTH / 4]), bytes.len())
        }
        _ => String::new(),
    }
}

/// As many of these elements, the first of `count`, as fit; if not all, an ellipsis and how
/// many there are.
fn beginning(first: &Elements, count: usize) -> String {
    let words: Vec<String> = first.iter().take(MOST_ELEMENTS).map(|x| x.to_string()).collect();
    let all = words.join(" ");
    if words.len() == count && all.len() <= WIDTH {
        return all;
    }
    let end = format!("… ({count} elements)");
    let room = WIDTH.saturating_sub(end.chars().count());
    let mut line = String::new();
    for word in words {
        // One is shown, however long it is.
        if !line.is_empty() && line.len() + word.len() + 1 > room {
            break;
        }
        line.push_str(&word);
        line.push(' ');
    }
    line + &end
}

/// A text as one line, without what a terminal would act on.
fn on_one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.replace(char::is_control, "\u{fffd}")
}

/// A text in quotes, with what a terminal would act on escaped.
fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(WIDTH - 2).collect();
    match chars.next() {
        None => format!("{text:?}"),
        Some(_) => format!("{start:?}… ({} bytes)", text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_shortened() {
        let halves = |n: usize| Elements::from(&vec![0.5; n][..]);
        assert_eq!(beginning(&halves(6), 6), "0.5 0.5 0.5 0.5 0.5 0.5");
        assert_eq!(beginning(&halves(20), 4096), "0.5 0.5 0.5 0.5 0.5 … (4096 elements)");
        assert_eq!(beginning(&halves(4096), 4096), beginning(&halves(20), 4096));
        let long = Elements::from([f64::MAX; 2]);
        assert_eq!(beginning(&long, 2), "1.7976931348623157e308 … (2 elements)");
        assert_eq!(quoted("a\x1b[31m\n"), r#""a\u{1b}[31m\n""#);
        assert_eq!(quoted(&"x".repeat(100)), format!("{:?}… (100 bytes)", "x".repeat(38)));
    }
}
