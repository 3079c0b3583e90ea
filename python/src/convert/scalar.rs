//! The eleven scalar types: between Rust and Python, and their arithmetic.

use numpy::PyArrayDescr;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};
use slotfile::{Element, ScalarType};

use crate::convert::arguments::Addend;

/// The library's scalar type of this name.
pub(crate) fn scalar_named(name: &str) -> PyResult<ScalarType> {
    let known = ScalarType::ALL.into_iter().find(|scalar_type| scalar_type.name() == name);
    known.ok_or_else(|| {
        PyValueError::new_err(format!("{name:?} is not a type of a slot's elements"))
    })
}

/// A scalar type with a Python form.
pub(crate) trait Scalar: Element + numpy::Element {
    /// What can be added: may be out of the type's range, if the sum is in it.
    type Addend: Copy + Send + Sync;

    fn to_py(self, py: Python<'_>) -> Bound<'_, PyAny>;

    /// OverflowError if the type cannot hold it, TypeError if it is not a number of its kind.
    fn from_py(object: &Bound<'_, PyAny>) -> PyResult<Self>;

    fn addend(addend: Addend<'_, '_>) -> PyResult<Self::Addend>;

    /// The sum; `None` if the type cannot hold it.
    fn plus(self, n: Self::Addend) -> Option<Self>;

    /// `None` if the type has no such operation.
    fn apply(self, operation: Operation, n: Self) -> Option<Self>;

    /// numpy's description of the type.
    fn dtype(py: Python<'_>) -> Bound<'_, PyArrayDescr> {
        Self::get_dtype(py)
    }
}

/// The updates by another number, named as the library's methods.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Add,
    Sub,
    Min,
    Max,
    And,
    Or,
    Xor,
}

impl Operation {
    /// TypeError unless `T` has it.
    pub(crate) fn check<T: Scalar>(self, py: Python<'_>) -> PyResult<()> {
        if T::default().apply(self, T::default()).is_some() {
            return Ok(());
        }
        let name = T::dtype(py).to_string();
        let operation = format!("{self:?}").to_lowercase();
        Err(PyTypeError::new_err(format!("{name} has no fetch_{operation}")))
    }
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Scalar for $t {
            type Addend = i128;

            #[inline]
            fn to_py(self, py: Python<'_>) -> Bound<'_, PyAny> {
                let Ok(int) = self.into_pyobject(py);
                int.into_any()
            }

            #[inline]
            fn from_py(object: &Bound<'_, PyAny>) -> PyResult<$t> {
                object.extract().map_err(|error| out_of_range::<$t>(object, error))
            }

            #[inline]
            fn addend(addend: Addend<'_, '_>) -> PyResult<i128> {
                let Addend::Given(object) = addend else { return Ok(1) };
                match object.extract::<i64>() {
                    Ok(n) => Ok(n.into()),
                    Err(_) => object.extract()
                        .map_err(|error| out_of_range::<$t>(&object, error)),
                }
            }

            #[inline]
            fn plus(self, n: i128) -> Option<$t> {
                i128::from(self).checked_add(n)?.try_into().ok()
            }

            #[inline]
            fn apply(self, operation: Operation, n: $t) -> Option<$t> {
                Some(match operation {
                    Operation::Add => self.wrapping_add(n),
                    Operation::Sub => self.wrapping_sub(n),
                    Operation::Min => self.min(n),
                    Operation::Max => self.max(n),
                    Operation::And => self & n,
                    Operation::Or => self | n,
                    Operation::Xor => self ^ n,
                })
            }
        }
    )*};
}

integers!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! floats {
    ($($t:ty),*) => {$(
        impl Scalar for $t {
            type Addend = f64;

            #[inline]
            fn to_py(self, py: Python<'_>) -> Bound<'_, PyAny> {
                PyFloat::new(py, self.into()).into_any()
            }

            #[inline]
            fn from_py(object: &Bound<'_, PyAny>) -> PyResult<$t> {
                let wide: f64 = object.extract()?;
                let narrow = wide as $t;
                if narrow.is_infinite() && wide.is_finite() {
                    let text = format!("{wide:?} is beyond the range of {}", <$t>::TYPE);
                    return Err(PyOverflowError::new_err(text));
                }
                Ok(narrow)
            }

            #[inline]
            fn addend(addend: Addend<'_, '_>) -> PyResult<f64> {
                match addend {
                    Addend::One => Ok(1.0),
                    Addend::Given(object) => object.extract(),
                }
            }

            #[inline]
            fn plus(self, n: f64) -> Option<$t> {
                let sum = f64::from(self) + n;
                let narrow = sum as $t;
                (narrow.is_finite() || !sum.is_finite()).then_some(narrow)
            }

            #[inline]
            fn apply(self, operation: Operation, n: $t) -> Option<$t> {
                match operation {
                    Operation::Add => Some(self + n),
                    Operation::Sub => Some(self - n),
                    // Between a NaN and a number, the number stays, as in the library.
                    Operation::Min => Some(self.min(n)),
                    Operation::Max => Some(self.max(n)),
                    Operation::And | Operation::Or | Operation::Xor => None,
                }
            }
        }
    )*};
}

floats!(f32, f64);

impl Scalar for bool {
    type Addend = bool;

    #[inline]
    fn to_py(self, py: Python<'_>) -> Bound<'_, PyAny> {
        PyBool::new(py, self).to_owned().into_any()
    }

    fn from_py(object: &Bound<'_, PyAny>) -> PyResult<bool> {
        match object.extract() {
            Err(error) => match object.extract::<i64>() {
                Ok(0) => Ok(false),
                Ok(1) => Ok(true),
                Ok(other) => {
                    Err(PyTypeError::new_err(format!("{other} is neither True nor False")))
                }
                Err(_) => Err(error),
            },
            ok => ok,
        }
    }

    fn addend(_: Addend<'_, '_>) -> PyResult<bool> {
        Err(PyTypeError::new_err("nothing can be added to a bool"))
    }

    fn plus(self, _: bool) -> Option<bool> {
        None
    }

    fn apply(self, operation: Operation, n: bool) -> Option<bool> {
        match operation {
            Operation::And => Some(self & n),
            Operation::Or => Some(self | n),
            Operation::Xor => Some(self ^ n),
            _ => None,
        }
    }
}

/// Names the number and the range if the error is that the number is out of range.
#[cold]
fn out_of_range<T: Scalar>(object: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = object.py();
    if !error.is_instance_of::<PyOverflowError>(py) || !object.is_instance_of::<PyInt>() {
        return error;
    }
    let (least, greatest) = T::TYPE.range();
    let text = format!("{object} is beyond the range of {}, {least} to {greatest}", T::TYPE);
    PyOverflowError::new_err(text)
}

/// The sum of an `add`, or OverflowError.
#[cold]
pub(crate) fn sum_overflows<T: Scalar>(there: T) -> PyErr {
    let (least, greatest) = T::TYPE.range();
    PyOverflowError::new_err(format!(
        "the sum would leave the range of {}, {least} to {greatest}; it stays {there:?}",
        T::TYPE
    ))
}

/// Defines an enum with one variant for each scalar type `T`, which holds a `$of<T>`.
macro_rules! any_scalar {
    ($name:ident($of:ident)) => {
        pub(crate) enum $name {
            Bool($of<bool>),
            I8($of<i8>),
            I16($of<i16>),
            I32($of<i32>),
            I64($of<i64>),
            U8($of<u8>),
            U16($of<u16>),
            U32($of<u32>),
            U64($of<u64>),
            F32($of<f32>),
            F64($of<f64>),
        }
    };
}
pub(crate) use any_scalar;

/// Runs an expression on the value in such an enum.
macro_rules! on_any {
    ($name:ident, $any:expr, $x:pat => $result:expr) => {
        match $any {
            $name::Bool($x) => $result,
            $name::I8($x) => $result,
            $name::I16($x) => $result,
            $name::I32($x) => $result,
            $name::I64($x) => $result,
            $name::U8($x) => $result,
            $name::U16($x) => $result,
            $name::U32($x) => $result,
            $name::U64($x) => $result,
            $name::F32($x) => $result,
            $name::F64($x) => $result,
        }
    };
}
pub(crate) use on_any;

/// Makes such an enum for a type known only at run time, by an expression of `$t`.
macro_rules! any_of {
    ($name:ident, $scalar_type:expr, $t:ident => $made:expr) => {
        any_of!(@each $name, $scalar_type, $t, $made;
            Bool bool, I8 i8, I16 i16, I32 i32, I64 i64,
            U8 u8, U16 u16, U32 u32, U64 u64, F32 f32, F64 f64)
    };
    (@each $name:ident, $scalar_type:expr, $t:ident, $made:expr; $($variant:ident $of:ty),*) => {
        match $scalar_type {
            $(slotfile::ScalarType::$variant => {
                type $t = $of;
                $name::$variant($made)
            })*
        }
    };
}
pub(crate) use any_of;

/// Runs an expression of `$t`, a type known only at run time.
macro_rules! each_type {
    ($scalar_type:expr, $t:ident => $result:expr) => {
        each_type!(@each $scalar_type, $t, $result;
            Bool bool, I8 i8, I16 i16, I32 i32, I64 i64,
            U8 u8, U16 u16, U32 u32, U64 u64, F32 f32, F64 f64)
    };
    (@each $scalar_type:expr, $t:ident, $result:expr; $($variant:ident $of:ty),*) => {
        match $scalar_type {
            $(slotfile::ScalarType::$variant => {
                type $t = $of;
                $result
            })*
        }
    };
}
pub(crate) use each_type;
