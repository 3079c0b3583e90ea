//! Reads the value to store, from words or from standard input. Reading stops as soon as the
//! input is known to be too long, since it may have no end.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use slotfile::{Data, Scalar, ScalarType, SlotType};

use crate::exit::{Exit, Failure};
use crate::streams;
use crate::values::{json, value};

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Words,
    Json,
    Raw,
}

/// Why a value could not be read.
pub(crate) enum Refused {
    /// It is not a value for the slot; the caller adds the file and the slot.
    Value(String),
    /// Standard input could not be read.
    Input(Failure),
}

impl Refused {
    /// The failure that this is for a slot.
    pub(crate) fn of_slot(self, file: &Path, slot: &str) -> Failure {
        match self {
            Refused::Value(what) => Failure::of_slot(Exit::USAGE, file, slot, what),
            Refused::Input(failure) => failure,
        }
    }
}

impl From<String> for Refused {
    fn from(what: String) -> Refused {
        Refused::Value(what)
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        let what = format!("standard input: {error}; nothing was changed");
        Refused::Input(Failure::new(Exit::IO, what))
    }
}

/// The content for a slot of this type; a lone `-` reads standard input.
pub(crate) fn read(words: &[String], form: Form, slot_type: &SlotType) -> Result<Data, Refused> {
    let lone = words == ["-"];
    match (form, words) {
        (Form::Raw, []) => raw(streams::stdin()?, slot_type),
        (Form::Raw, _) => {
            Err(Refused::Value("--raw reads standard input; leave the VALUE out".into()))
        }
        (Form::Json, _) if lone => {
            Ok(json::read_from(streams::stdin()?, most_json(slot_type), slot_type)??)
        }
        (Form::Json, [word]) => Ok(json::read(word, slot_type)?),
        (Form::Json, _) => {
            Err(format!("--json takes one VALUE, and {} were given; quote it", words.len()).into())
        }
        (Form::Words, _) if lone => words_of(streams::stdin()?, slot_type),
        (Form::Words, _) => Ok(value::from_words(words.iter().map(String::as_str), slot_type)?),
    }
}

/// The content that the words of a text make up.
fn words_of(input: impl Read, slot_type: &SlotType) -> Result<Data, Refused> {
    match slot_type {
        SlotType::Value(scalar) => {
            let mut scalars = Scalars::new(input, *scalar);
            let first = scalars.next().ok_or_else(empty)??;
            match scalars.next().transpose()? {
                None => Ok(Data::Scalar(first)),
                Some(_) => Err(format!("{slot_type} takes one value, and more were given").into()),
            }
        }
        SlotType::Array(scalar, shape) | SlotType::Buffer(scalar, shape) => {
            let expected = shape.len();
            // One more than fits, to see whether there are too many.
            let scalars = Scalars::new(input, *scalar).take(expected + 1);
            let elements = value::elements(*scalar, scalars)?;
            match elements.len() {
                found if found == expected => Ok(Data::Array(elements)),
                0 => Err(empty()),
                found if found < expected => {
                    Err(value::wrong_count(slot_type, expected, found).into())
                }
                _ => Err(value::wrong_count(slot_type, expected, "more").into()),
            }
        }
        SlotType::Text(capacity) => {
            // One final newline is not part of it.
            let text = text(input, *capacity as u64 + 1, *capacity)?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            Ok(value::from_words([text].into_iter(), slot_type)?)
        }
        SlotType::Bytes(capacity) => {
            // Two digits a byte, and some white space around them.
            let text = text(input, 2 * *capacity as u64 + 1_000, *capacity)?;
            Ok(value::from_words([text.trim_ascii()].into_iter(), slot_type)?)
        }
        SlotType::Counter => words_of(input, &value::OF_COUNTER),
        other => Err(value::unknown(other).into()),
    }
}

fn empty() -> Refused {
    Refused::Value("standard input was empty".into())
}

/// A text of at most `most` bytes, for a slot of this capacity.
fn text(input: impl Read, most: u64, capacity: usize) -> Result<String, Refused> {
    let mut bytes = Vec::new();
    input.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(value::more_than(capacity).into());
    }
    String::from_utf8(bytes).map_err(|_| Refused::Value("standard input is not UTF-8".into()))
}

fn raw(input: impl Read, slot_type: &SlotType) -> Result<Data, Refused> {
    let most = match slot_type {
        SlotType::Value(scalar) => scalar.size(),
        SlotType::Counter => ScalarType::I64.size(),
        SlotType::Array(scalar, shape) | SlotType::Buffer(scalar, shape) => {
            shape.len() * scalar.size()
        }
        SlotType::Text(capacity) | SlotType::Bytes(capacity) => *capacity,
        _ => 0,
    };
    let mut bytes = Vec::new();
    input.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(value::from_raw(bytes, slot_type)?)
}

/// As much JSON as a content of this type can be, with generous white space.
fn most_json(slot_type: &SlotType) -> u64 {
    let most = match slot_type {
        SlotType::Array(_, shape) | SlotType::Buffer(_, shape) => shape.len() as u64 * 200,
        // A control character takes six bytes: \u0000.
        SlotType::Text(capacity) | SlotType::Bytes(capacity) => *capacity as u64 * 6,
        _ => 0,
    };
    most + 100_000
}

/// The scalars of a text, separated by white space.
struct Scalars<R: Read> {
    input: BufReader<R>,
    of: ScalarType,
    at: usize,
}

/// Maximum length of a number: the smallest f64 written in full is shorter.
const LONGEST_WORD: usize = 1_100;

impl<R: Read> Scalars<R> {
    fn new(input: R, of: ScalarType) -> Scalars<R> {
        Scalars { input: BufReader::new(input), of, at: 0 }
    }

    /// The next word; empty at the end of the input.
    fn word(&mut self) -> Result<Vec<u8>, Refused> {
        let mut word = Vec::new();
        loop {
            let bytes = match self.input.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let mut taken = 0;
            let mut ended = bytes.is_empty();
            for byte in bytes {
                taken += 1;
                match byte.is_ascii_whitespace() {
                    false => word.push(*byte),
                    true if word.is_empty() => {}
                    true => {
                        ended = true;
                        break;
                    }
                }
                if word.len() > LONGEST_WORD {
                    let what = format!(
                        "a word of more than {LONGEST_WORD} characters is not of type {}",
                        self.of
                    );
                    return Err(Refused::Value(what));
                }
            }
            self.input.consume(taken);
            if ended {
                return Ok(word);
            }
        }
    }

    fn scalar(&mut self) -> Result<Option<Scalar>, Refused> {
        let word = self.word()?;
        if word.is_empty() {
            return Ok(None);
        }
        let word = String::from_utf8(word)
            .map_err(|_| Refused::Value("standard input is not UTF-8".into()))?;
        let scalar = value::parse(&word, self.of).map_err(|error| {
            Refused::Value(format!("word {} of the input: {error}", self.at + 1))
        })?;
        self.at += 1;
        Ok(Some(scalar))
    }
}

impl<R: Read> Iterator for Scalars<R> {
    type Item = Result<Scalar, Refused>;

    fn next(&mut self) -> Option<Result<Scalar, Refused>> {
        self.scalar().transpose()
    }
}
