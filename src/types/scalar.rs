//! One scalar whose type is known only at run time, which tools read, print and parse.

use std::fmt;

use crate::types::element::Element;
use crate::types::element::sealed::Sealed;
use crate::types::scalar_type::ScalarType;

macro_rules! scalars {
    ($($variant:ident($t:ty)),*) => {
        /// One scalar of any of the eleven types.
        ///
        /// ```
        /// use slotfile::{Scalar, ScalarType};
        /// let x = Scalar::parse("0x10", ScalarType::U8)?;
        /// assert_eq!(x, Scalar::U8(16));
        /// assert_eq!(x.to_string(), "16");
        /// let error = Scalar::parse("300", ScalarType::U8).unwrap_err();
        /// assert!(error.to_string().contains("0 to 255"));
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
                match of {
                    $(ScalarType::$variant => Scalar::$variant(<$t as Sealed>::from_bits(bits))),*
                }
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
    /// Parses a scalar of this type, strictly: an integer in decimal, or `0x` and hex digits; a
    /// float also as `nan`, `inf` or `-inf`; a bool as `true` or `false`.
    ///
    /// # Errors
    ///
    /// The text is none of these, or the type cannot hold the number: it is never truncated.
    pub fn parse(text: &str, of: ScalarType) -> Result<Scalar, ParseScalarError> {
        let refuse = |why| ParseScalarError { text: text.to_owned(), of, why };
        match of {
            ScalarType::Bool => match text {
                "true" => Ok(Scalar::Bool(true)),
                "false" => Ok(Scalar::Bool(false)),
                _ => Err(refuse(Refused::Malformed)),
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
        each_integer!(&mut scalar, integer => *integer = x.try_into().ok()?; _ => return None);
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

    /// The value, if it is an integer of any width.
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
        return Err(Refused::Malformed);
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
        _ => Err(Refused::Malformed),
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
    /// It is not the text of any scalar of this type.
    Malformed,
    /// It is a number that the type cannot hold.
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
