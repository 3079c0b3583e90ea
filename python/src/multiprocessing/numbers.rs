//! Numbers in shared memory, read and written as ctypes does.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};
use slotfile::ScalarType;

/// `len` numbers of one type, one after the other.
pub(crate) struct Numbers {
    at: *mut u8,
    of: ScalarType,
    len: usize,
}

// SAFETY: it is accessed only by atomics, which any thread may use.
unsafe impl Send for Numbers {}
// SAFETY: as above.
unsafe impl Sync for Numbers {}

/// Runs an expression on the number at a position, as an atomic of its bits.
macro_rules! on_atomic {
    ($self:ident, $index:ident, $number:ident => $result:expr) => {{
        assert!($index < $self.len, "the position has been checked");
        // SAFETY: `new` was promised the memory and its alignment; the position lies in it.
        unsafe {
            let at = $self.at.add($index * $self.of.size());
            match $self.of.size() {
                1 => {
                    let $number = AtomicU8::from_ptr(at.cast());
                    $result
                }
                2 => {
                    let $number = AtomicU16::from_ptr(at.cast());
                    $result
                }
                4 => {
                    let $number = AtomicU32::from_ptr(at.cast());
                    $result
                }
                _ => {
                    let $number = AtomicU64::from_ptr(at.cast());
                    $result
                }
            }
        }
    }};
}

impl Numbers {
    /// # Safety
    ///
    /// There are `len` aligned numbers at this address for as long as this exists.
    pub(crate) unsafe fn new(at: *mut u8, of: ScalarType, len: usize) -> Numbers {
        Numbers { at, of, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bits of one. Relaxed, as in `store`: the lock orders them.
    #[inline]
    #[expect(clippy::useless_conversion, reason = "the smaller types need it")]
    pub(crate) fn load(&self, index: usize) -> u64 {
        on_atomic!(self, index, number => number.load(Relaxed).into())
    }

    #[inline]
    pub(crate) fn store(&self, index: usize, bits: u64) {
        on_atomic!(self, index, number => number.store(bits as _, Relaxed));
    }

    /// The position that an index means; `None` if out of bounds, or not a plain index.
    #[inline]
    pub(crate) fn position(&self, index: &Bound<'_, PyAny>) -> Option<usize> {
        let index: isize = index.cast_exact::<PyInt>().ok()?.extract().ok()?;
        let from_start = if index < 0 { index + self.len.cast_signed() } else { index };
        usize::try_from(from_start).ok().filter(|position| *position < self.len)
    }

    /// What ctypes makes of these bits.
    #[inline]
    pub(crate) fn to_py<'py>(&self, py: Python<'py>, bits: u64) -> Bound<'py, PyAny> {
        fn int<'py>(
            py: Python<'py>,
            n: impl IntoPyObject<
                'py,
                Target = PyInt,
                Output = Bound<'py, PyInt>,
                Error = std::convert::Infallible,
            >,
        ) -> Bound<'py, PyAny> {
            let Ok(int) = n.into_pyobject(py);
            int.into_any()
        }
        match self.of {
            ScalarType::Bool => PyBool::new(py, bits != 0).to_owned().into_any(),
            ScalarType::I8 => int(py, bits as i8),
            ScalarType::I16 => int(py, bits as i16),
            ScalarType::I32 => int(py, bits as i32),
            ScalarType::I64 => int(py, bits as i64),
            ScalarType::U8 | ScalarType::U16 | ScalarType::U32 | ScalarType::U64 => int(py, bits),
            ScalarType::F32 => PyFloat::new(py, f32::from_bits(bits as u32).into()).into_any(),
            ScalarType::F64 => PyFloat::new(py, f64::from_bits(bits)).into_any(),
        }
    }

    /// The bits that ctypes makes of an object, if that is simple; `None`: ask ctypes.
    #[inline]
    pub(crate) fn to_bits(&self, object: &Bound<'_, PyAny>) -> Option<u64> {
        match self.of {
            ScalarType::Bool => object.cast::<PyBool>().ok().map(|b| b.is_true().into()),
            ScalarType::F32 => {
                Some((object.cast_exact::<PyFloat>().ok()?.value() as f32).to_bits().into())
            }
            ScalarType::F64 => Some(object.cast_exact::<PyFloat>().ok()?.value().to_bits()),
            // ctypes takes the low bits, and ignores the range.
            _ => Some(object.cast_exact::<PyInt>().ok()?.extract::<i64>().ok()?.cast_unsigned()),
        }
    }
}
