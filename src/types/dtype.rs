//! The types a slot can have: eleven scalars, shapes of up to four dimensions, and their names on
//! the command line and in `Display`.

use std::fmt;
use std::str::FromStr;

use crate::types::bool_bytes::with_bool_bytes;

/// The type of one scalar, with its number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ScalarType {
    /// `bool`, one byte, 0 or 1.
    Bool = 1,
    /// `i8`.
    I8 = 2,
    /// `i16`.
    I16 = 3,
    /// `i32`.
    I32 = 4,
    /// `i64`.
    I64 = 5,
    /// `u8`.
    U8 = 6,
    /// `u16`.
    U16 = 7,
    /// `u32`.
    U32 = 8,
    /// `u64`.
    U64 = 9,
    /// `f32`, IEEE 754 binary32.
    F32 = 10,
    /// `f64`, IEEE 754 binary64.
    F64 = 11,
}

impl ScalarType {
    /// All scalar types, in the order of their numbers in the file.
    pub const ALL: [ScalarType; 11] = [
        ScalarType::Bool,
        ScalarType::I8,
        ScalarType::I16,
        ScalarType::I32,
        ScalarType::I64,
        ScalarType::U8,
        ScalarType::U16,
        ScalarType::U32,
        ScalarType::U64,
        ScalarType::F32,
        ScalarType::F64,
    ];

    /// Bytes of one element in an array.
    pub const fn size(self) -> usize {
        match self {
            ScalarType::Bool | ScalarType::I8 | ScalarType::U8 => 1,
            ScalarType::I16 | ScalarType::U16 => 2,
            ScalarType::I32 | ScalarType::U32 | ScalarType::F32 => 4,
            ScalarType::I64 | ScalarType::U64 | ScalarType::F64 => 8,
        }
    }

    /// The name in Rust, on the command line and in messages, such as `u64`.
    pub const fn name(self) -> &'static str {
        match self {
            ScalarType::Bool => "bool",
            ScalarType::I8 => "i8",
            ScalarType::I16 => "i16",
            ScalarType::I32 => "i32",
            ScalarType::I64 => "i64",
            ScalarType::U8 => "u8",
            ScalarType::U16 => "u16",
            ScalarType::U32 => "u32",
            ScalarType::U64 => "u64",
            ScalarType::F32 => "f32",
            ScalarType::F64 => "f64",
        }
    }

    /// The type with this number in a file; `None` if there is none.
    pub(crate) fn from_code(code: u8) -> Option<ScalarType> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

impl fmt::Display for ScalarType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The dimensions of an array: one to four, each at least 1, row-major.
///
/// ```
/// use slotfile::Shape;
/// assert_eq!(Shape::from(6).len(), 6);
/// assert_eq!(Shape::from([480, 640]).dims(), &[480, 640]);
/// assert_eq!(Shape::from([480, 640]).to_string(), "480,640");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; Shape::MAX_DIMS],
    rank: u8,
}

impl Shape {
    /// The most dimensions an array can have.
    pub const MAX_DIMS: usize = 4;

    /// A shape of these dimensions; `None` unless there are one to four, each
    /// at least 1, whose product fits a `usize`.
    pub fn new(dims: &[usize]) -> Option<Shape> {
        let fits = (1..=Self::MAX_DIMS).contains(&dims.len())
            && !dims.contains(&0)
            && dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).is_some();
        fits.then(|| {
            let mut all = [0; Self::MAX_DIMS];
            all[..dims.len()].copy_from_slice(dims);
            Shape { dims: all, rank: dims.len() as u8 }
        })
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    /// Number of elements. 0 only for a shape that is not valid: a dimension is 0, or the product
    /// is too large (no store can define it).
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.dims().iter().try_fold(1usize, |n, d| n.checked_mul(*d)).unwrap_or(0)
    }

    pub(crate) fn is_valid(&self) -> bool {
        Shape::new(self.dims()).is_some()
    }

    /// The row-major position of these indices; `None` if one is out of range or their number is
    /// not that of the dimensions.
    pub fn position(&self, indices: &[usize]) -> Option<usize> {
        if indices.len() != self.rank as usize {
            return None;
        }
        indices.iter().zip(self.dims()).try_fold(0, |at, (i, d)| (i < d).then_some(at * d + i))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.dims().iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl From<usize> for Shape {
    fn from(len: usize) -> Shape {
        Shape::from([len])
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    /// The dimensions are checked when the slot is defined.
    fn from(dims: [usize; N]) -> Shape {
        const { assert!(N >= 1 && N <= Shape::MAX_DIMS, "a shape has one to four dimensions") };
        let mut all = [0; Shape::MAX_DIMS];
        all[..N].copy_from_slice(&dims);
        Shape { dims: all, rank: N as u8 }
    }
}

/// The type of a slot, as `define` takes it and `ls` shows it: `u64`, `f64[6]`, `f32[480,640]`,
/// `text[64]`, `bytes[4096]`, `buffer:f32[480,640]`.
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
}

impl SlotType {
    /// Whether a store can define this type.
    pub(crate) fn is_valid(&self) -> bool {
        self.content_len().is_some()
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
        };
        len.filter(|n| *n <= MOST)
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
        let parsed = parse_type(text).and_then(|slot_type| match slot_type.is_valid() {
            true => Ok(slot_type),
            false => Err(TOO_LARGE.into()),
        });
        parsed.map_err(|why| ParseTypeError { text: text.to_owned(), why })
    }
}

/// A parser's error says what is wrong, or what was probably meant.
const TOO_LARGE: &str = "it is too large: a slot holds at most 32 GiB";

fn parse_type(text: &str) -> Result<SlotType, String> {
    let (base, dims) = match text.split_once('[') {
        None => (text, None),
        Some((base, dims)) => (base, Some(dims.strip_suffix(']').ok_or_else(all_types)?)),
    };
    let dims: Option<Vec<usize>> = match dims {
        None => None,
        Some(dims) => {
            let numbers = dims.split(',').map(whole_number).collect::<Option<_>>();
            let too_large = || dims.split(',').all(is_number).then(|| TOO_LARGE.to_owned());
            Some(numbers.ok_or_else(|| too_large().unwrap_or_else(all_types))?)
        }
    };
    let shape = |dims: &[usize]| match Shape::new(dims) {
        Some(shape) => Ok(shape),
        None if dims.len() > Shape::MAX_DIMS => Err(format!(
            "it has {} dimensions, but at most {} are possible",
            dims.len(),
            Shape::MAX_DIMS
        )),
        None if dims.contains(&0) => Err("each dimension is at least 1".into()),
        None => Err(TOO_LARGE.into()),
    };
    match (base, base.strip_prefix("buffer:"), dims.as_deref()) {
        ("text" | "bytes", _, None) => Err(format!("{base} needs a capacity, such as {base}[64]")),
        ("text" | "bytes", _, Some(&[0])) => Err("a capacity is at least 1".into()),
        ("text", _, Some(&[capacity])) => Ok(SlotType::Text(capacity)),
        ("bytes", _, Some(&[capacity])) => Ok(SlotType::Bytes(capacity)),
        ("text" | "bytes", _, Some(_)) => {
            Err(format!("{base} has one capacity, such as {base}[64]"))
        }
        (_, Some(scalar), Some(dims)) => {
            Ok(SlotType::Buffer(scalar_named(scalar).ok_or_else(|| meant(scalar))?, shape(dims)?))
        }
        (_, Some(_), None) => Err(format!("a buffer needs a shape, such as {base}[6]")),
        (scalar, None, Some(dims)) => {
            Ok(SlotType::Array(scalar_named(scalar).ok_or_else(|| meant(scalar))?, shape(dims)?))
        }
        (scalar, None, None) => {
            scalar_named(scalar).map(SlotType::Value).ok_or_else(|| meant(scalar))
        }
    }
}

fn all_types() -> String {
    format!(
        "write a scalar (bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64), an array such as f64[6] \
         or f32[480,640] (up to {} dimensions), text[64], bytes[4096], or a buffer such as \
         buffer:u8[480,640]",
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
        other if scalar_named(other).is_some() => other,
        _ => return all_types(),
    };
    format!("did you mean {ours}?")
}

fn scalar_named(name: &str) -> Option<ScalarType> {
    ScalarType::ALL.into_iter().find(|t| t.name() == name)
}

/// Digits only: `usize::from_str` would take a `+`.
fn whole_number(text: &str) -> Option<usize> {
    is_number(text).then(|| text.trim().parse().ok()).flatten()
}

fn is_number(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A Rust type that a slot can hold: `bool`, integers of 8 to 64 bits, `f32`, `f64`.
///
/// Sealed: the format has these eleven types and no others.
pub trait Element:
    sealed::Sealed + Copy + PartialEq + fmt::Debug + Default + Send + Sync + 'static
{
    /// The type in the file.
    const TYPE: ScalarType;
}

/// An [`Element`] that is a number: all but `bool`. Integer arithmetic wraps around, as in std's
/// atomics.
pub trait Number: Element {
    #[doc(hidden)]
    fn add(self, other: Self) -> Self;
    #[doc(hidden)]
    fn sub(self, other: Self) -> Self;
    #[doc(hidden)]
    fn least(self, other: Self) -> Self;
    #[doc(hidden)]
    fn greatest(self, other: Self) -> Self;
}

/// An [`Element`] with bitwise operations: the integers and `bool`.
pub trait Bits:
    Element
    + std::ops::BitAnd<Output = Self>
    + std::ops::BitOr<Output = Self>
    + std::ops::BitXor<Output = Self>
    + std::ops::Not<Output = Self>
{
}

pub(crate) mod sealed {
    pub trait Sealed: Sized {
        /// Its bit pattern, zero-extended, as stored in a value's cell.
        fn to_bits(self) -> u64;
        /// The scalar with this bit pattern; bits beyond its size are ignored.
        fn from_bits(bits: u64) -> Self;
        /// The elements as bytes.
        fn bytes(elements: &[Self]) -> &[u8];
        /// Lets `read` overwrite the bytes of the elements. Any bytes are valid.
        fn with_bytes<R>(elements: &mut [Self], read: impl FnOnce(&mut [u8]) -> R) -> R;
    }
}

macro_rules! plain_element {
    ($($t:ty, $code:ident, $bits:ty, $to:expr, $from:expr;)*) => {$(
        impl sealed::Sealed for $t {
            #[inline]
            fn to_bits(self) -> u64 {
                let bits: $bits = $to(self);
                u64::from(bits)
            }
            #[inline]
            fn from_bits(bits: u64) -> $t {
                $from(bits as $bits)
            }
            #[inline]
            fn bytes(elements: &[$t]) -> &[u8] {
                bytemuck::cast_slice(elements)
            }
            #[inline]
            fn with_bytes<R>(elements: &mut [$t], read: impl FnOnce(&mut [u8]) -> R) -> R {
                read(bytemuck::cast_slice_mut(elements))
            }
        }
        impl Element for $t {
            const TYPE: ScalarType = ScalarType::$code;
        }
    )*};
}

plain_element! {
    i8, I8, u8, |x| x as u8, |b| b as i8;
    i16, I16, u16, |x| x as u16, |b| b as i16;
    i32, I32, u32, |x| x as u32, |b| b as i32;
    i64, I64, u64, |x| x as u64, |b| b as i64;
    u8, U8, u8, |x| x, |b| b;
    u16, U16, u16, |x| x, |b| b;
    u32, U32, u32, |x| x, |b| b;
    u64, U64, u64, |x| x, |b| b;
    f32, F32, u32, f32::to_bits, f32::from_bits;
    f64, F64, u64, f64::to_bits, f64::from_bits;
}

impl sealed::Sealed for bool {
    fn to_bits(self) -> u64 {
        u64::from(self)
    }
    fn from_bits(bits: u64) -> bool {
        bits as u8 != 0
    }
    fn bytes(elements: &[bool]) -> &[u8] {
        bytemuck::cast_slice(elements)
    }
    fn with_bytes<R>(elements: &mut [bool], read: impl FnOnce(&mut [u8]) -> R) -> R {
        with_bool_bytes(elements, read)
    }
}

impl Element for bool {
    const TYPE: ScalarType = ScalarType::Bool;
}

macro_rules! integers {
    ($($t:ty)*) => {$(
        impl Number for $t {
            #[inline]
            fn add(self, other: $t) -> $t {
                self.wrapping_add(other)
            }
            #[inline]
            fn sub(self, other: $t) -> $t {
                self.wrapping_sub(other)
            }
            #[inline]
            fn least(self, other: $t) -> $t {
                self.min(other)
            }
            #[inline]
            fn greatest(self, other: $t) -> $t {
                self.max(other)
            }
        }
        impl Bits for $t {}
    )*};
}

integers!(i8 i16 i32 i64 u8 u16 u32 u64);

impl Bits for bool {}

macro_rules! floats {
    ($($t:ty)*) => {$(
        impl Number for $t {
            #[inline]
            fn add(self, other: $t) -> $t {
                self + other
            }
            #[inline]
            fn sub(self, other: $t) -> $t {
                self - other
            }
            /// Like `f64::min`: of a NaN and a number, the number.
            #[inline]
            fn least(self, other: $t) -> $t {
                self.min(other)
            }
            /// Like `f64::max`: of a NaN and a number, the number.
            #[inline]
            fn greatest(self, other: $t) -> $t {
                self.max(other)
            }
        }
    )*};
}

floats!(f32 f64);
