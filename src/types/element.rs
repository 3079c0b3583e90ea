//! The Rust types that a slot can hold.

use std::cell::Cell;
use std::fmt;

use crate::types::bool_bytes::with_bool_bytes;
use crate::types::elements::NoMemory;
use crate::types::scalar_type::ScalarType;
use crate::types::scratch;

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
    use super::NoMemory;

    pub trait Sealed: Sized {
        /// Its bit pattern, zero-extended, as stored in a value's cell.
        fn to_bits(self) -> u64;
        /// The scalar with this bit pattern; bits beyond its size are ignored.
        fn from_bits(bits: u64) -> Self;
        /// The elements as bytes.
        fn bytes(elements: &[Self]) -> &[u8];
        /// Lets `read` overwrite the bytes of the elements. Any bytes are valid.
        fn with_bytes<R>(elements: &mut [Self], read: impl FnOnce(&mut [u8]) -> R) -> R;
        /// Runs `f` on so many elements of any values, in memory that the thread keeps.
        fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [Self]) -> R) -> Result<R, NoMemory>;
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
            #[inline]
            fn with_scratch<R>(
                len: usize,
                f: impl FnOnce(&mut [$t]) -> R,
            ) -> Result<R, NoMemory> {
                thread_local!(static KEPT: scratch::Kept<$t> = const { Cell::new(Vec::new()) });
                scratch::with_elements(&KEPT, len, f)
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
    fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [bool]) -> R) -> Result<R, NoMemory> {
        thread_local!(static KEPT: scratch::Kept<bool> = const { Cell::new(Vec::new()) });
        scratch::with_elements(&KEPT, len, f)
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
