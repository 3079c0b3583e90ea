//! Slots and their values for people: one line each, long ones shortened.

use slotfile::{Data, Elements, Error, ListedSlot, SlotType};

use crate::display::{self, visible};
use crate::exit::Failure;
use crate::output::Output;
use crate::values::value;

/// About how many characters a value takes in the list.
const WIDTH: usize = 40;
/// An element and its space take at least two characters.
const MOST_ELEMENTS: usize = WIDTH / 2;

/// Whether it is a GLOB, not the name of one slot.
pub(crate) fn is_pattern(glob: &str) -> bool {
    glob.contains(['*', '?', '[', '\\'])
}

/// What a table of slots shows.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    /// Bytes, areas, units of measure and docs too.
    pub(crate) long: bool,
    /// The columns' names.
    pub(crate) titles: bool,
}

/// The slots for people, a line each, printed while they come.
pub(crate) fn table(
    out: &mut Output,
    slots: impl Iterator<Item = Result<ListedSlot, Error>>,
    columns: Columns,
) -> Result<(), Failure> {
    let Columns { long, titles } = columns;
    let rows = slots.map(|slot| Ok(row(&slot?, long)));
    match long {
        true => {
            let heads = ["NAME", "TYPE", ">BYTES", ">AREAS", ">VERSION", "VALUE", "UNIT", "DOC"];
            out.table(&heads, rows, titles)
        }
        false => out.table(&["NAME", "TYPE", ">VERSION", "VALUE"], rows, titles),
    }
}

fn row(slot: &ListedSlot, long: bool) -> Vec<String> {
    let name = display::name(slot.name());
    let slot_type = slot.slot_type().to_string();
    let version = slot.version().to_string();
    let value = shortened(slot);
    match long {
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
    }
}

/// The value, or its beginning. Only the beginning of a large one is read.
fn shortened(slot: &ListedSlot) -> String {
    let most = match slot.slot_type() {
        SlotType::Array(..) | SlotType::Buffer(..) => MOST_ELEMENTS,
        // A character has up to four bytes.
        _ => 4 * WIDTH,
    };
    let (first, all) = slot.load_beginning(most);
    beginning_of(&first, all)
}

/// The content, or its beginning.
pub(crate) fn shortened_data(data: &Data) -> String {
    let all = match data {
        Data::Array(elements) => elements.len(),
        Data::Text(text) => text.len(),
        Data::Bytes(bytes) => bytes.len(),
        _ => 1,
    };
    beginning_of(data, all)
}

/// The same for content of which `first` is the beginning, out of `all` elements or bytes.
fn beginning_of(first: &Data, all: usize) -> String {
    match first {
        Data::Scalar(scalar) => scalar.to_string(),
        Data::Array(elements) => beginning(elements, all),
        Data::Text(text) => quoted(text, all),
        Data::Bytes(bytes) if all <= WIDTH / 2 => value::to_hex(bytes),
        Data::Bytes(bytes) => {
            let shown = &bytes[..bytes.len().min(WIDTH / 4)];
            format!("{}... ({all} bytes)", value::to_hex(shown))
        }
        _ => String::new(),
    }
}

/// As many of these first elements of `count` as fit; if not all, an ellipsis and the count.
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
        // The first is shown however long it is.
        if !line.is_empty() && line.len() + word.len() + 1 > room {
            break;
        }
        line.push_str(&word);
        line.push(' ');
    }
    line + &end
}

/// A text on one line, safe to show.
fn on_one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    visible(&words)
}

/// The beginning of a text of `all` bytes, in quotes and safe to show.
fn quoted(text: &str, all: usize) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(WIDTH - 2).collect();
    match chars.next().is_none() && text.len() >= all {
        true => display::quoted(&start),
        false => format!("{}... ({all} bytes)", display::quoted(&start)),
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
        let text = |text: &str| shortened_data(&Data::from(text));
        assert_eq!(text("a\x1b[31m\n"), r#""a\u{1b}[31m\n""#);
        assert_eq!(text(&"é".repeat(38)), format!("{:?}", "é".repeat(38)));
        assert_eq!(text(&"x".repeat(100)), format!("{:?}... (100 bytes)", "x".repeat(38)));
    }
}
