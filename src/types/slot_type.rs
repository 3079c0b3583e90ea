//! The type of a slot, and its name on the command line and in `Display`.

use std::fmt;
use std::str::FromStr;

use crate::types::scalar_type::ScalarType;
use crate::types::shape::Shape;

/// The type of a slot, as `define` takes it and `ls` shows it: `u64`, `f64[6]`, `f32[480,640]`,
/// `text[64]`, `bytes[4096]`, `buffer:f32[480,640]`, `counter`.
///
/// ```
/// use slotfile::{ScalarType, SlotType};
/// let t: SlotType = "f32[480,640]".parse().unwrap();
/// assert_eq!(t, SlotType::Array(ScalarType::F32, [480, 640].into()));
/// assert_eq!(t.to_string(), "f32[480,640]");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SlotType {
    /// One scalar.
    Value(ScalarType),
    /// An array of scalars.
    Array(ScalarType, Shape),
    /// UTF-8 text of at most this many bytes.
    Text(usize),
    /// At most this many bytes.
    Bytes(usize),
    /// An array of scalars in raw memory.
    Buffer(ScalarType, Shape),
    /// An `i64` that many processes add to at once.
    Counter,
}

/// The parts of a counter, each on a cache line of its own.
pub(crate) const STRIPES: usize = 64;
/// The elements on a stripe's cache line. The stripe is the first; the others stay zero.
pub(crate) const STRIPE: usize = 8;

impl SlotType {
    /// Why no store can define this type; `None` if it can.
    pub(crate) fn why_not(&self) -> Option<String> {
        match self {
            valid if valid.content_len().is_some() => None,
            SlotType::Array(_, of) | SlotType::Buffer(_, of) => {
                Some(shape(of.dims()).err().unwrap_or_else(|| TOO_LARGE.into()))
            }
            SlotType::Text(0) | SlotType::Bytes(0) => Some(NO_CAPACITY.into()),
            _ => Some(TOO_LARGE.into()),
        }
    }

    /// Bytes of one area: the elements, or a text's length word and its capacity. `None` if that is
    /// more than a slot can hold: 32 GiB, as a stale range counts words in 32 bits.
    #[inline]
    pub(crate) fn content_len(&self) -> Option<usize> {
        const MOST: usize = 8 * u32::MAX as usize;
        let len = match self {
            SlotType::Value(t) => Some(t.size()),
            SlotType::Array(t, shape) | SlotType::Buffer(t, shape) => {
                shape.is_valid().then(|| shape.len().checked_mul(t.size())).flatten()
            }
            SlotType::Text(capacity) | SlotType::Bytes(capacity) => {
                (*capacity > 0).then(|| capacity.checked_add(8)).flatten()
            }
            SlotType::Counter => Some(STRIPES * STRIPE * ScalarType::I64.size()),
        };
        len.filter(|n| *n <= MOST)
    }

    /// The type and number of its elements, if it is raw memory: no protocol covers all of them.
    pub(crate) fn raw_elements(&self) -> Option<(ScalarType, usize)> {
        match self {
            SlotType::Buffer(t, shape) => Some((*t, shape.len())),
            SlotType::Counter => Some((ScalarType::I64, STRIPES * STRIPE)),
            _ => None,
        }
    }

    /// Whether a slot of this type may be opened as `asked`: equal, or a text
    /// (or bytes) with at least the capacity asked for.
    pub(crate) fn opens_as(&self, asked: &SlotType) -> bool {
        match (self, asked) {
            (SlotType::Text(have), SlotType::Text(want))
            | (SlotType::Bytes(have), SlotType::Bytes(want)) => have >= want,
            (have, want) => have == want,
        }
    }
}

impl fmt::Display for SlotType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            SlotType::Value(t) => t.to_string(),
            SlotType::Array(t, shape) => format!("{t}[{shape}]"),
            SlotType::Text(capacity) => format!("text[{capacity}]"),
            SlotType::Bytes(capacity) => format!("bytes[{capacity}]"),
            SlotType::Buffer(t, shape) => format!("buffer:{t}[{shape}]"),
            SlotType::Counter => "counter".to_owned(),
        })
    }
}

/// What [`SlotType`]'s parser refused, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseTypeError {
    text: String,
    why: String,
}

impl fmt::Display for ParseTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a type: {}", self.text, self.why)
    }
}

impl std::error::Error for ParseTypeError {}

impl FromStr for SlotType {
    type Err = ParseTypeError;

    fn from_str(text: &str) -> Result<SlotType, ParseTypeError> {
        let parsed = parse_type(text).and_then(|slot_type| match slot_type.why_not() {
            None => Ok(slot_type),
            Some(why) => Err(why),
        });
        parsed.map_err(|why| ParseTypeError { text: text.to_owned(), why })
    }
}

const NO_CAPACITY: &str = "a capacity is at least 1";
const TOO_LARGE: &str = "it is too large: a slot holds at most 32 GiB";

/// An error says what is wrong, or what was probably meant.
fn parse_type(text: &str) -> Result<SlotType, String> {
    let (base, dims) = match text.split_once('[') {
        None => (text, None),
        Some((base, rest)) => {
            (base, Some(parse_dims(rest.strip_suffix(']').ok_or_else(all_types)?)?))
        }
    };
    let scalar = |name| scalar_named(name).ok_or_else(|| meant(name));
    match (base, base.strip_prefix("buffer:"), dims.as_deref()) {
        ("counter", _, None) => Ok(SlotType::Counter),
        ("counter", _, Some(_)) => Err("a counter is one number: write counter".into()),
        ("text" | "bytes", _, None) => Err(format!("{base} needs a capacity, such as {base}[64]")),
        ("text", _, Some(&[capacity])) => Ok(SlotType::Text(capacity)),
        ("bytes", _, Some(&[capacity])) => Ok(SlotType::Bytes(capacity)),
        ("text" | "bytes", _, Some(_)) => {
            Err(format!("{base} has one capacity, such as {base}[64]"))
        }
        (_, Some(name), Some(dims)) => Ok(SlotType::Buffer(scalar(name)?, shape(dims)?)),
        (_, Some(_), None) => Err(format!("a buffer needs a shape, such as {base}[6]")),
        (name, None, Some(dims)) => Ok(SlotType::Array(scalar(name)?, shape(dims)?)),
        (name, None, None) => Ok(SlotType::Value(scalar(name)?)),
    }
}

/// The numbers between the brackets.
fn parse_dims(text: &str) -> Result<Vec<usize>, String> {
    let mut dims = Vec::new();
    for word in text.split(',').map(str::trim) {
        // Digits only: `usize::from_str` would take a `+`.
        if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(all_types());
        }
        dims.push(word.parse());
    }
    dims.into_iter().collect::<Result<_, _>>().map_err(|_| TOO_LARGE.into())
}

fn shape(dims: &[usize]) -> Result<Shape, String> {
    match Shape::new(dims) {
        Some(shape) => Ok(shape),
        None if dims.len() > Shape::MAX_DIMS => Err(format!(
            "it has {} dimensions, but at most {} are possible",
            dims.len(),
            Shape::MAX_DIMS
        )),
        None if dims.contains(&0) => Err("each dimension is at least 1".into()),
        None => Err(TOO_LARGE.into()),
    }
}

/// All that can be written for a type.
fn all_types() -> String {
    format!(
        "write a scalar (bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64), an array such as f64[6] \
         or f32[480,640] (up to {} dimensions), text[64], bytes[4096], a buffer such as \
         buffer:u8[480,640], or counter",
        Shape::MAX_DIMS
    )
}

/// What was probably meant by a name that other languages use.
fn meant(name: &str) -> String {
    let lower = name.to_lowercase();
    let ours = match lower.as_str() {
        "int" | "integer" | "long" | "int64" | "signed" | "number" => "i64",
        "int32" => "i32",
        "int16" | "short" => "i16",
        "int8" => "i8",
        "uint" | "unsigned" | "uint64" | "usize" | "size_t" => "u64",
        "uint32" => "u32",
        "uint16" => "u16",
        "uint8" | "byte" | "char" => "u8",
        "float" | "double" | "float64" | "real" => "f64",
        "float32" | "single" => "f32",
        "boolean" => "bool",
        "str" | "string" => "text[64]",
        "blob" | "binary" => "bytes[4096]",
        "buffer" => "buffer:u8[480,640]",
        "counter" => "counter",
        other if scalar_named(other).is_some() => other,
        _ => return all_types(),
    };
    format!("did you mean {ours}?")
}

fn scalar_named(name: &str) -> Option<ScalarType> {
    ScalarType::ALL.into_iter().find(|t| t.name() == name)
}
