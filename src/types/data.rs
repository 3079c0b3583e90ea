//! Values whose type is known only at run time, which tools read, print and parse.

use std::alloc::Layout;
use std::fmt;

use crate::types::dtype::sealed::Sealed;
use crate::types::dtype::{Element, ScalarType, SlotType};

macro_rules! scalars {
    ($($variant:ident($t:ty)),*) => {
        /// One scalar of any of the eleven types.
        ///
        /// ```
        /// use slotfile::{Scalar, ScalarType};
        /// let x = Scalar::parse("0x10", ScalarType::U8)?;
        /// assert_eq!(x, Scalar::U8(16));
        /// assert_eq!(x.to_string(), "16");
        /// assert!(Scalar::parse("300", ScalarType::U8).unwrap_err().to_string().contains("0 to 255"));
        /// # Ok::<(), slotfile::ParseScalarError>(())
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
        #[allow(missing_docs, reason = "each variant is named after its type")]
        pub enum Scalar {
            $($variant($t)),*
        }

        impl Scalar {
            /// Its type.
            pub const fn scalar_type(self) -> ScalarType {
                match self { $(Scalar::$variant(_) => ScalarType::$variant),* }
            }

            /// Zero, or `false`, of this type.
            pub fn zero(of: ScalarType) -> Scalar {
                match of { $(ScalarType::$variant => Scalar::$variant(<$t>::default())),* }
            }

            /// The scalar as `T`, if that is its type.
            pub fn get<T: Element>(self) -> Option<T> {
                (self.scalar_type() == T::TYPE).then(|| T::from_bits(self.to_bits()))
            }

            pub(crate) fn to_bits(self) -> u64 {
                match self { $(Scalar::$variant(x) => Sealed::to_bits(x)),* }
            }

            pub(crate) fn from_bits(bits: u64, of: ScalarType) -> Scalar {
                match of { $(ScalarType::$variant => Scalar::$variant(<$t as Sealed>::from_bits(bits))),* }
            }
        }

        $(impl From<$t> for Scalar {
            fn from(x: $t) -> Scalar {
                Scalar::$variant(x)
            }
        })*
    };
}

scalars!(
    Bool(bool),
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    F32(f32),
    F64(f64)
);

/// The integer arms of a match, for code that treats all integers alike.
macro_rules! each_integer {
    ($($variant:ident $t:ty),*; $scalar:expr, $x:ident => $integer:expr; $($other:tt)*) => {
        match $scalar { $(Scalar::$variant($x) => $integer,)* $($other)* }
    };
    ($($rest:tt)*) => {
        each_integer!(I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64; $($rest)*)
    };
}

impl Scalar {
    /// Parses a scalar of this type, strictly: integers in decimal or `0x`, floats also as `nan`,
    /// `inf` and `-inf`, `true` and `false`. A number that the type cannot hold is refused, never
    /// truncated.
    pub fn parse(text: &str, of: ScalarType) -> Result<Scalar, ParseScalarError> {
        let refuse = |why| ParseScalarError { text: text.to_owned(), of, why };
        match of {
            ScalarType::Bool => match text {
                "true" => Ok(Scalar::Bool(true)),
                "false" => Ok(Scalar::Bool(false)),
                _ => Err(refuse(Refused::NotOne)),
            },
            ScalarType::F32 => parse_float(text).map_err(refuse).and_then(|x| {
                // Parsed directly as f32: through f64 it would be rounded twice.
                let narrow: f32 = text.parse().unwrap_or(x as f32);
                let fits = narrow.is_finite() || !x.is_finite();
                fits.then_some(Scalar::F32(narrow)).ok_or(refuse(Refused::OutOfRange))
            }),
            ScalarType::F64 => parse_float(text).map(Scalar::F64).map_err(refuse),
            integer => {
                let x = parse_integer(text).map_err(refuse)?;
                Scalar::from_integer(x, integer).ok_or(refuse(Refused::OutOfRange))
            }
        }
    }

    /// This integer as a scalar of an integer type; `None` if it does not fit, or the type is not
    /// an integer type.
    pub fn from_integer(x: i128, of: ScalarType) -> Option<Scalar> {
        let mut scalar = Scalar::zero(of);
        each_integer!(&mut scalar, slot => *slot = x.try_into().ok()?; _ => return None);
        Some(scalar)
    }

    /// The sum; `None` if an integer type cannot hold it, the types differ, or they are `bool`.
    pub fn checked_add(self, other: Scalar) -> Option<Scalar> {
        match (self, other) {
            (Scalar::F32(a), Scalar::F32(b)) => Some(Scalar::F32(a + b)),
            (Scalar::F64(a), Scalar::F64(b)) => Some(Scalar::F64(a + b)),
            (a, b) if a.scalar_type() == b.scalar_type() => {
                Scalar::from_integer(a.integer()? + b.integer()?, a.scalar_type())
            }
            _ => None,
        }
    }

    /// The value of an integer of any width.
    pub fn integer(self) -> Option<i128> {
        each_integer!(self, x => Some(x.into()); _ => None)
    }
}

impl ScalarType {
    /// The smallest and the largest value of the type, as text: the finite ones for `f32` and
    /// `f64`, both values for `bool`.
    pub fn range(self) -> (String, String) {
        match self {
            ScalarType::Bool => ("false".into(), "true".into()),
            ScalarType::F32 => (format!("{:?}", f32::MIN), format!("{:?}", f32::MAX)),
            ScalarType::F64 => (format!("{:?}", f64::MIN), format!("{:?}", f64::MAX)),
            integer => {
                let bits = 8 * integer.size() as u32;
                let signed = Scalar::from_integer(-1, integer).is_some();
                let (low, high) = match signed {
                    true => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
                    false => (0, (1i128 << bits) - 1),
                };
                (low.to_string(), high.to_string())
            }
        }
    }
}

fn parse_integer(text: &str) -> Result<i128, Refused> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(Refused::NotOne);
    }
    let x = i128::from_str_radix(digits, radix).map_err(|_| Refused::OutOfRange)?;
    Ok(if negative { -x } else { x })
}

fn parse_float(text: &str) -> Result<f64, Refused> {
    match text {
        "nan" | "NaN" => return Ok(f64::NAN),
        "inf" | "Infinity" => return Ok(f64::INFINITY),
        "-inf" | "-Infinity" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    // The rest must be digits: `f64::from_str` would also take "infinity" and "+1".
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match text.parse::<f64>() {
        Ok(x) if numeric && !text.starts_with('+') => {
            if x.is_finite() {
                Ok(x)
            } else {
                Err(Refused::OutOfRange)
            }
        }
        _ => Err(Refused::NotOne),
    }
}

impl fmt::Display for Scalar {
    /// Text that [`Scalar::parse`] reads back as the same bits (a NaN as some NaN). Floats have the
    /// fewest digits that do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Bool(x) => x.fmt(f),
            Scalar::F32(x) if x.is_nan() => f.pad("nan"),
            Scalar::F64(x) if x.is_nan() => f.pad("nan"),
            Scalar::F32(x) => f.pad(&format!("{x:?}")),
            Scalar::F64(x) => f.pad(&format!("{x:?}")),
            integer => each_integer!(*integer, x => x.fmt(f); _ => Ok(())),
        }
    }
}

/// What [`Scalar::parse`] refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseScalarError {
    text: String,
    of: ScalarType,
    why: Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    NotOne,
    OutOfRange,
}

impl fmt::Display for ParseScalarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ParseScalarError { text, of, why } = self;
        let (low, high) = of.range();
        match (why, of) {
            (Refused::OutOfRange, _) => {
                write!(f, "{text:?} is out of range: {of} is {low} to {high}")
            }
            (_, ScalarType::Bool) => write!(f, "{text:?} is not a bool: write true or false"),
            (_, ScalarType::F32 | ScalarType::F64) => {
                write!(f, "{text:?} is not a valid {of}: write a decimal number, nan, inf or -inf")
            }
            _ => write!(
                f,
                "{text:?} is not a valid {of}: write an integer from {low} to {high}, or 0x and \
                 hex digits"
            ),
        }
    }
}

impl std::error::Error for ParseScalarError {}

/// Scalars of one type, packed as in the file: little-endian, row-major.
///
/// ```
/// use slotfile::{Elements, Scalar};
/// let e = Elements::from([1.5f64, 2.5]);
/// assert_eq!(e.len(), 2);
/// assert_eq!(e.get(1), Some(Scalar::F64(2.5)));
/// assert_eq!(e.to_vec::<f64>(), Some(vec![1.5, 2.5]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Elements {
    scalar_type: ScalarType,
    bytes: Vec<u8>,
}

impl Elements {
    /// `len` zeros (or `false`s).
    pub fn zeros(scalar_type: ScalarType, len: usize) -> Elements {
        Elements::try_zeros(scalar_type, len).unwrap_or_else(|none| none.abort())
    }

    pub(crate) fn try_zeros(scalar_type: ScalarType, len: usize) -> Result<Elements, NoMemory> {
        Ok(Elements { scalar_type, bytes: zeros(len * scalar_type.size())? })
    }

    /// The elements in these little-endian bytes; `None` if there is an incomplete one at the end.
    pub fn from_bytes(scalar_type: ScalarType, bytes: Vec<u8>) -> Option<Elements> {
        bytes.len().is_multiple_of(scalar_type.size()).then_some(Elements { scalar_type, bytes })
    }

    /// Elements of this type; `None` if one of them has another type.
    pub fn from_scalars(
        scalar_type: ScalarType,
        scalars: impl IntoIterator<Item = Scalar>,
    ) -> Option<Elements> {
        let mut bytes = Vec::new();
        for scalar in scalars {
            if scalar.scalar_type() != scalar_type {
                return None;
            }
            bytes.extend_from_slice(&scalar.to_bits().to_le_bytes()[..scalar_type.size()]);
        }
        Some(Elements { scalar_type, bytes })
    }

    /// The type of each element.
    pub fn scalar_type(&self) -> ScalarType {
        self.scalar_type
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.scalar_type.size()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One element; `None` beyond the end.
    pub fn get(&self, index: usize) -> Option<Scalar> {
        let size = self.scalar_type.size();
        let bytes = self.bytes.get(index.checked_mul(size)?..)?.get(..size)?;
        let mut word = [0; 8];
        word[..size].copy_from_slice(bytes);
        Some(Scalar::from_bits(u64::from_le_bytes(word), self.scalar_type))
    }

    /// Replaces one element. Panics beyond the end, or if the type differs.
    pub fn set(&mut self, index: usize, scalar: Scalar) {
        assert_eq!(scalar.scalar_type(), self.scalar_type, "elements have one type");
        let size = self.scalar_type.size();
        let bytes = scalar.to_bits().to_le_bytes();
        self.bytes[index * size..(index + 1) * size].copy_from_slice(&bytes[..size]);
    }

    /// The elements, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Scalar> + '_ {
        (0..self.len()).map(|i| self.get(i).unwrap_or(Scalar::zero(self.scalar_type)))
    }

    /// All elements as `T`, if that is their type.
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        self.iter().map(Scalar::get).collect()
    }

    /// Their little-endian bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl<T: Element> From<&[T]> for Elements {
    fn from(elements: &[T]) -> Elements {
        Elements { scalar_type: T::TYPE, bytes: T::bytes(elements).to_vec() }
    }
}

impl<T: Element, const N: usize> From<[T; N]> for Elements {
    fn from(elements: [T; N]) -> Elements {
        Elements::from(elements.as_slice())
    }
}

/// The content of a slot of any type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Data {
    /// A value's scalar.
    Scalar(Scalar),
    /// An array's elements, or a buffer's.
    Array(Elements),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl<T: Element> From<T> for Data
where
    Scalar: From<T>,
{
    fn from(x: T) -> Data {
        Data::Scalar(x.into())
    }
}

impl From<Scalar> for Data {
    fn from(x: Scalar) -> Data {
        Data::Scalar(x)
    }
}

impl From<Elements> for Data {
    fn from(x: Elements) -> Data {
        Data::Array(x)
    }
}

impl<T: Element> From<&[T]> for Data {
    fn from(elements: &[T]) -> Data {
        Data::Array(elements.into())
    }
}

impl<T: Element> From<Vec<T>> for Data {
    fn from(elements: Vec<T>) -> Data {
        Data::Array(elements.as_slice().into())
    }
}

impl<T: Element, const N: usize> From<[T; N]> for Data {
    fn from(elements: [T; N]) -> Data {
        Data::Array(elements.into())
    }
}

impl<T: Element, const N: usize> From<&[T; N]> for Data {
    fn from(elements: &[T; N]) -> Data {
        Data::Array(elements.as_slice().into())
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Data {
        Data::Text(text.to_owned())
    }
}

impl From<String> for Data {
    fn from(text: String) -> Data {
        Data::Text(text)
    }
}

/// Why some data cannot be the content of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContentError {
    Type { asked: SlotType },
    Length { expected: usize, found: usize },
    TooLong { capacity: usize, length: usize },
}

/// There is not enough memory for this many bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoMemory {
    pub(crate) need: usize,
}

impl NoMemory {
    /// Ends the program, as std's collections do.
    pub(crate) fn abort(self) -> ! {
        let layout = Layout::array::<u8>(self.need);
        std::alloc::handle_alloc_error(layout.unwrap_or(Layout::new::<u8>()))
    }
}

/// `len` zeros, which take no memory until they are used.
pub(crate) fn zeros(len: usize) -> Result<Vec<u8>, NoMemory> {
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| NoMemory { need: len })
}

/// Bytes of the length word at the start of a text's area.
pub(crate) const TEXT_LEN: usize = 8;

/// The content of a text's area: its length, then its bytes.
pub(crate) fn text_content(text: &[u8], capacity: usize) -> Result<Vec<u8>, ContentError> {
    if text.len() > capacity {
        return Err(ContentError::TooLong { capacity, length: text.len() });
    }
    let mut content = Vec::with_capacity(TEXT_LEN + text.len());
    content.extend_from_slice(&(text.len() as u64).to_le_bytes());
    content.extend_from_slice(text);
    Ok(content)
}

impl Data {
    /// The bytes of this data in a slot of this type.
    pub(crate) fn to_content(&self, slot_type: &SlotType) -> Result<Vec<u8>, ContentError> {
        match (self, slot_type) {
            (Data::Scalar(x), SlotType::Value(t)) if x.scalar_type() == *t => {
                Ok(x.to_bits().to_le_bytes()[..t.size()].to_vec())
            }
            (Data::Array(elements), SlotType::Array(t, shape) | SlotType::Buffer(t, shape))
                if elements.scalar_type == *t =>
            {
                let (expected, found) = (shape.len(), elements.len());
                if expected != found {
                    return Err(ContentError::Length { expected, found });
                }
                Ok(elements.bytes.clone())
            }
            (Data::Text(text), SlotType::Text(capacity)) => {
                text_content(text.as_bytes(), *capacity)
            }
            (Data::Bytes(bytes), SlotType::Bytes(capacity)) => text_content(bytes, *capacity),
            // A `Vec<u8>` or `b"..."` becomes this.
            (Data::Array(bytes), SlotType::Bytes(capacity))
                if bytes.scalar_type == ScalarType::U8 =>
            {
                text_content(&bytes.bytes, *capacity)
            }
            _ => Err(ContentError::Type { asked: self.slot_type() }),
        }
    }

    /// The smallest type that can hold this data.
    fn slot_type(&self) -> SlotType {
        match self {
            Data::Scalar(x) => SlotType::Value(x.scalar_type()),
            Data::Array(elements) => SlotType::Array(elements.scalar_type, elements.len().into()),
            Data::Text(text) => SlotType::Text(text.len()),
            Data::Bytes(bytes) => SlotType::Bytes(bytes.len()),
        }
    }
}
