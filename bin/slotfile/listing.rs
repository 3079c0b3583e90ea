//! Slots and their values for people: a line each, what is long shortened.

use slotfile::{Data, Elements, Slot, SlotType};

use crate::display::{self, visible};
use crate::exit::Failure;
use crate::output::Output;
use crate::value;

/// Characters that a value takes in the list, about.
const WIDTH: usize = 40;
/// An element and its space take two characters or more.
const MOST_ELEMENTS: usize = WIDTH / 2;

/// The slots for people, a line each.
pub(crate) fn table(
    out: &mut Output,
    slots: &[Slot],
    long: bool,
    titles: bool,
) -> Result<(), Failure> {
    let rows = slots.iter().map(|slot| {
        let name = display::name(slot.name());
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
                slot.unit().map(on_one_line).unwrap_or_default(),
                slot.doc().map(on_one_line).unwrap_or_default(),
            ],
            false => vec![name, slot_type, version, value],
        })
    });
    let rows = rows.collect::<Result<Vec<_>, Failure>>()?;
    match long {
        true => {
            let heads = ["NAME", "TYPE", ">BYTES", ">AREAS", ">VERSION", "VALUE", "UNIT", "DOC"];
            out.table(&heads, rows, titles)
        }
        false => out.table(&["NAME", "TYPE", ">VERSION", "VALUE"], rows, titles),
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
pub(crate) fn shortened_data(data: &Data) -> String {
    match data {
        Data::Scalar(scalar) => scalar.to_string(),
        Data::Array(elements) => beginning(elements, elements.len()),
        Data::Text(text) => quoted(text),
        Data::Bytes(bytes) if bytes.len() <= WIDTH / 2 => value::to_hex(bytes),
        Data::Bytes(bytes) => {
            format!("{}... ({} bytes)", value::to_hex(&bytes[..WIDTH / 4]), bytes.len())
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
    let end = format!("... ({count} elements)");
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
    visible(&words)
}

/// A text in quotes, with what a terminal would act on escaped.
fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(WIDTH - 2).collect();
    match chars.next() {
        None => display::quoted(text),
        Some(_) => format!("{}... ({} bytes)", display::quoted(&start), text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_shortened() {
        let halves = |n: usize| Elements::from(&vec![0.5; n][..]);
        assert_eq!(beginning(&halves(6), 6), "0.5 0.5 0.5 0.5 0.5 0.5");
        assert_eq!(beginning(&halves(20), 4096), "0.5 0.5 0.5 0.5 0.5 ... (4096 elements)");
        assert_eq!(beginning(&halves(4096), 4096), beginning(&halves(20), 4096));
        let long = Elements::from([f64::MAX; 2]);
        assert_eq!(beginning(&long, 2), "1.7976931348623157e308 ... (2 elements)");
        assert_eq!(quoted("a\x1b[31m\n"), r#""a\u{1b}[31m\n""#);
        assert_eq!(quoted(&"x".repeat(100)), format!("{:?}... (100 bytes)", "x".repeat(38)));
    }
}
