//! Words of the command line as contents of slots, and back.
//!
//! An error is a message that says what is wrong with the words; the caller adds the file and
//! the slot.

use std::fmt::Display;
use std::io::{self, Write};

use slotfile::{Data, Elements, Scalar, ScalarType, SlotType};

use crate::display::quoted;

/// What the content of a counter is written and read as.
pub(crate) const OF_COUNTER: SlotType = SlotType::Value(ScalarType::I64);

/// Parses words as the content of a slot of this type.
pub(crate) fn from_words<'a>(
    words: impl ExactSizeIterator<Item = &'a str>,
    slot_type: &SlotType,
) -> Result<Data, String> {
    match slot_type {
        SlotType::Value(scalar) => Ok(Data::Scalar(parse(only_one(words, slot_type)?, *scalar)?)),
        SlotType::Array(scalar, shape) | SlotType::Buffer(scalar, shape) => {
            if words.len() != shape.len() {
                return Err(wrong_count(slot_type, shape.len(), words.len()));
            }
            let parsed = words.enumerate().map(|(at, word)| {
                parse(word, *scalar).map_err(|error| format!("element {at}: {error}"))
            });
            elements(*scalar, parsed).map(Data::Array)
        }
        SlotType::Text(capacity) => text(only_one(words, slot_type)?.to_owned(), *capacity),
        SlotType::Bytes(capacity) => {
            let word = only_one(words, slot_type)?;
            let bytes = from_hex(word).ok_or_else(|| {
                format!("{} is not hex: write two hex digits for each byte", shown(word))
            })?;
            within(bytes.len(), *capacity)?;
            Ok(Data::Bytes(bytes))
        }
        SlotType::Counter => from_words(words, &OF_COUNTER),
        other => Err(unknown(other)),
    }
}

/// Parses bytes, as `get --raw` writes them.
pub(crate) fn from_raw(bytes: Vec<u8>, slot_type: &SlotType) -> Result<Data, String> {
    let exactly = |expected: usize| match bytes.len() == expected {
        true => Ok(()),
        // How many is unknown: reading stopped there.
        false if bytes.len() > expected => Err(format!(
            "{slot_type} takes exactly {}, and more were given",
            count(expected, "byte")
        )),
        false => {
            let expected = count(expected, "byte");
            Err(format!("{slot_type} takes exactly {expected}, not {}", bytes.len()))
        }
    };
    match slot_type {
        SlotType::Value(scalar) => {
            exactly(scalar.size())?;
            let elements = raw_elements(*scalar, bytes)?;
            Ok(Data::Scalar(elements.get(0).unwrap_or(Scalar::zero(*scalar))))
        }
        SlotType::Array(scalar, shape) | SlotType::Buffer(scalar, shape) => {
            exactly(shape.len() * scalar.size())?;
            raw_elements(*scalar, bytes).map(Data::Array)
        }
        SlotType::Text(capacity) | SlotType::Bytes(capacity) if bytes.len() > *capacity => {
            Err(more_than(*capacity))
        }
        SlotType::Text(_) => match String::from_utf8(bytes) {
            Ok(string) => Ok(Data::Text(string)),
            Err(_) => Err("a text must be UTF-8, and this is not".into()),
        },
        SlotType::Bytes(_) => Ok(Data::Bytes(bytes)),
        SlotType::Counter => from_raw(bytes, &OF_COUNTER),
        other => Err(unknown(other)),
    }
}

/// The message for content that is too long, and was not read to its end.
pub(crate) fn more_than(capacity: usize) -> String {
    format!("it holds at most {capacity} bytes, and more were given; define a larger slot")
}

/// Writes the bytes that `from_raw` reads, without a copy, since an array can be large.
pub(crate) fn write_raw(out: &mut impl Write, data: &Data) -> io::Result<()> {
    match data {
        Data::Scalar(scalar) => out.write_all(one(*scalar).as_bytes()),
        Data::Array(elements) => out.write_all(elements.as_bytes()),
        Data::Text(text) => out.write_all(text.as_bytes()),
        Data::Bytes(bytes) => out.write_all(bytes),
        _ => Ok(()),
    }
}

/// Writes what `set FILE NAME -` reads; an array has a line for each row.
pub(crate) fn print(out: &mut impl Write, data: &Data, slot_type: &SlotType) -> io::Result<()> {
    match data {
        Data::Scalar(scalar) => writeln!(out, "{scalar}"),
        Data::Array(elements) => {
            let row = match slot_type {
                SlotType::Array(_, shape) | SlotType::Buffer(_, shape) => {
                    shape.dims().last().copied().unwrap_or(1)
                }
                _ => 1,
            };
            for (at, scalar) in elements.iter().enumerate() {
                let end = if (at + 1) % row == 0 { '\n' } else { ' ' };
                write!(out, "{scalar}{end}")?;
            }
            Ok(())
        }
        Data::Text(text) => writeln!(out, "{text}"),
        Data::Bytes(bytes) => {
            // In chunks: the hex of all of them may not fit into memory.
            bytes.chunks(4096).try_for_each(|part| write!(out, "{}", to_hex(part)))?;
            writeln!(out)
        }
        _ => Ok(()),
    }
}

/// One scalar as the elements of an array.
pub(crate) fn one(scalar: Scalar) -> Elements {
    let mut elements = Elements::zeros(scalar.scalar_type(), 1);
    elements.set(0, scalar);
    elements
}

/// The content for a part of an array, as elements.
pub(crate) fn elements_of(content: Data) -> Result<Elements, String> {
    match content {
        Data::Scalar(scalar) => Ok(one(scalar)),
        Data::Array(elements) => Ok(elements),
        _ => Err("only arrays have elements".into()),
    }
}

/// A text, if the slot can hold it.
pub(crate) fn text(text: String, capacity: usize) -> Result<Data, String> {
    within(text.len(), capacity)?;
    Ok(Data::Text(text))
}

/// An error if content of this length does not fit a slot of this capacity, both in bytes.
pub(crate) fn within(len: usize, capacity: usize) -> Result<(), String> {
    match len <= capacity {
        true => Ok(()),
        false => Err(format!(
            "{len} bytes are too long: it holds at most {capacity}; shorten it, or define a larger \
             slot"
        )),
    }
}

/// Parses one scalar; an error says what could be written.
pub(crate) fn parse(word: &str, scalar: ScalarType) -> Result<Scalar, String> {
    Scalar::parse(word, scalar).map_err(|error| error.to_string())
}

/// Collects scalars of this type; or the first error among them.
pub(crate) fn elements<E>(
    scalar_type: ScalarType,
    scalars: impl Iterator<Item = Result<Scalar, E>>,
) -> Result<Elements, E> {
    let mut refused = None;
    let good = scalars.map_while(|scalar| scalar.map_err(|error| refused = Some(error)).ok());
    let elements = Elements::from_scalars(scalar_type, good).expect("all are of this type");
    refused.map_or(Ok(elements), Err)
}

/// The message for a number of values that is not that of the slot.
pub(crate) fn wrong_count(slot_type: &SlotType, expected: usize, found: impl Display) -> String {
    let expected = count(expected, "value");
    format!(
        "{slot_type} takes exactly {expected}, not {found}; each is a word of its own; \
         `set --index` sets some of an array"
    )
}

/// "1 byte", "2 bytes".
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The message for a type that a later version of the library has.
pub(crate) fn unknown(slot_type: &SlotType) -> String {
    format!("{slot_type} is a type that this build of the command line does not know")
}

/// A word in a message: quoted, and shortened if it is long.
pub(crate) fn shown(word: &str) -> String {
    match word.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", quoted(&word[..end])),
        None => quoted(word),
    }
}

fn only_one<'a>(
    mut words: impl ExactSizeIterator<Item = &'a str>,
    slot_type: &SlotType,
) -> Result<&'a str, String> {
    let found = words.len();
    match words.next() {
        Some(word) if found == 1 => Ok(word),
        _ => Err(format!("{slot_type} takes one value, not {found}; quote one that has spaces")),
    }
}

fn raw_elements(scalar: ScalarType, bytes: Vec<u8>) -> Result<Elements, String> {
    if scalar == ScalarType::Bool && bytes.iter().any(|byte| *byte > 1) {
        return Err("a bool is the byte 0 or 1, and other bytes were given".into());
    }
    Elements::from_bytes(scalar, bytes).ok_or_else(|| "the last element is incomplete".into())
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str], slot_type: &str) -> Result<Data, String> {
        from_words(words.iter().copied(), &slot_type.parse().unwrap())
    }

    fn printed(data: &Data, slot_type: &str) -> String {
        let mut out = Vec::new();
        print(&mut out, data, &slot_type.parse().unwrap()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn words_become_contents_and_come_back() {
        for (words, slot_type, text) in [
            (&["18446744073709551615"][..], "u64", "18446744073709551615\n"),
            (&["-5"], "counter", "-5\n"),
            (&["-0.0"], "f64", "-0.0\n"),
            (&["0.1"], "f32", "0.1\n"),
            (&["1", "2", "3", "4", "5", "6"], "u8[2,3]", "1 2 3\n4 5 6\n"),
            (&["a b\nc"], "text[9]", "a b\nc\n"),
            (&["00fF"], "bytes[9]", "00ff\n"),
            (&[""], "bytes[9]", "\n"),
        ] {
            let data = read(words, slot_type).unwrap();
            assert_eq!(printed(&data, slot_type), text);
            let mut raw = Vec::new();
            write_raw(&mut raw, &data).unwrap();
            assert_eq!(from_raw(raw, &slot_type.parse().unwrap()), Ok(data));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (words, slot_type) in [
            (&["300"][..], "u8"),
            (&["9223372036854775808"], "counter"),
            (&["+1"], "u8"),
            (&["0x"], "u8"),
            (&[""], "u8"),
            (&["nan"], "u8"),
            (&["1e999"], "f64"),
            (&["1"], "bool"),
            (&[], "u8"),
            (&["1", "2"], "u8"),
            (&["1"], "u8[2]"),
            (&["1", "2", "3"], "u8[2]"),
            (&["1", "x"], "u8[2]"),
            (&["abc"], "text[2]"),
            (&["a", "b"], "text[5]"),
            (&["abc"], "bytes[9]"),
            (&["zz"], "bytes[9]"),
            (&["é"], "bytes[9]"),
            (&["0011"], "bytes[1]"),
        ] {
            assert!(read(words, slot_type).is_err(), "{words:?} {slot_type}");
        }
        assert!(from_raw(vec![2], &"bool".parse().unwrap()).is_err());
        assert!(from_raw(vec![0; 7], &"u64".parse().unwrap()).is_err());
        assert!(from_raw(vec![0xff], &"text[3]".parse().unwrap()).is_err());
    }
}
