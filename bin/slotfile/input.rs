//! Where a value that is to be stored comes from: words, or standard input.

use std::io::{self, Read};

use slotfile::{Data, SlotType};

use crate::exit::{Exit, Failure};
use crate::{json, value};

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Words,
    Json,
    Raw,
}

/// Why a value could not be had.
pub(crate) enum Refused {
    /// It is no value for the slot; who knows file and slot puts them in front.
    Value(String),
    /// Standard input could not be read.
    Input(Failure),
}

impl From<String> for Refused {
    fn from(what: String) -> Refused {
        Refused::Value(what)
    }
}

/// The content for a slot of this type; a lone `-` reads standard input.
pub(crate) fn read(words: &[String], form: Form, slot_type: &SlotType) -> Result<Data, Refused> {
    if form == Form::Raw {
        if !words.is_empty() {
            return Err(Refused::Value("--raw reads standard input; leave the VALUE out".into()));
        }
        return Ok(value::from_raw(standard_input(most_raw(slot_type))?, slot_type)?);
    }
    let lone = words == ["-"];
    match (form, words) {
        (Form::Json, _) if lone => Ok(json::read(&standard_text(u64::MAX)?, slot_type)?),
        (Form::Json, [word]) => Ok(json::read(word, slot_type)?),
        (Form::Json, _) => {
            Err(format!("--json takes one VALUE, and {} were given; quote it", words.len()).into())
        }
        _ if lone => words_of(&standard_text(most_text(slot_type))?, slot_type),
        _ => Ok(value::from_words(words.iter().map(String::as_str), slot_type)?),
    }
}

/// What stands in a text of words.
fn words_of(text: &str, slot_type: &SlotType) -> Result<Data, Refused> {
    let content = match slot_type {
        SlotType::Text(_) => {
            let text = text.strip_suffix('\n').unwrap_or(text);
            value::from_words([text].into_iter(), slot_type)
        }
        SlotType::Bytes(_) => value::from_words([text.trim_ascii()].into_iter(), slot_type),
        _ => {
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            value::from_words(words.into_iter(), slot_type)
        }
    };
    Ok(content?)
}

/// One byte more than a slot can hold is enough to refuse what has no end.
fn most_raw(slot_type: &SlotType) -> u64 {
    let bytes = match slot_type {
        SlotType::Value(scalar) => scalar.size(),
        SlotType::Array(scalar, shape) | SlotType::Buffer(scalar, shape) => {
            shape.len() * scalar.size()
        }
        SlotType::Text(capacity) | SlotType::Bytes(capacity) => *capacity,
        _ => 0,
    };
    bytes as u64 + 1
}

/// The same for words: numbers can have any number of digits and spaces.
fn most_text(slot_type: &SlotType) -> u64 {
    match slot_type {
        SlotType::Text(capacity) => *capacity as u64 + 2,
        _ => u64::MAX,
    }
}

fn standard_text(most: u64) -> Result<String, Refused> {
    String::from_utf8(standard_input(most)?)
        .map_err(|_| Refused::Value("standard input is not UTF-8".into()))
}

fn standard_input(most: u64) -> Result<Vec<u8>, Refused> {
    let mut bytes = Vec::new();
    match io::stdin().lock().take(most).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Refused::Input(Failure::new(
            Exit::IO,
            format!("standard input: {error}; nothing was changed"),
        ))),
    }
}
