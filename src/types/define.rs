//! How a slot is defined: [`Define`], and what its first content can be.

use std::marker::PhantomData;

use crate::types::data::Data;
use crate::types::element::Element;
use crate::types::elements::Elements;
use crate::types::scalar::Scalar;

/// How a slot is defined. The settings of the first definition stand; those of later ones are
/// ignored.
///
/// `T` is the type of the first content. Of a value or array it is the element type, which is
/// inferred; for texts, bytes, and slots whose type is known only at run time, it is [`Data`].
///
/// ```
/// use slotfile::{Define, Store};
/// let store = Store::temporary()?;
/// let limit = store.value_with("limit", Define::new().initial(100u64))?;
/// assert_eq!(limit.load(), 100);
/// let again = store.value_with("limit", Define::new().initial(7u64))?;
/// assert_eq!(again.load(), 100);
/// store.array_with("pose", 3, Define::new().initial([1.0, 2.0, 3.0]).areas(4))?;
/// store.text_with("name", 64, Define::new().initial("Karel"))?;
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Define<T> {
    pub(crate) initial: Option<Data>,
    pub(crate) doc: String,
    pub(crate) unit: String,
    pub(crate) areas: usize,
    pub(crate) create_new: bool,
    of: PhantomData<T>,
}

impl<T> Default for Define<T> {
    fn default() -> Define<T> {
        Define::new()
    }
}

impl<T> Define<T> {
    /// Starts with zero (or false, or empty), and two areas.
    pub fn new() -> Define<T> {
        Define {
            initial: None,
            doc: String::new(),
            unit: String::new(),
            areas: 2,
            create_new: false,
            of: PhantomData,
        }
    }

    /// The first content. It is stored before the name appears, so nobody ever sees anything else.
    pub fn initial(mut self, content: impl Initial<T>) -> Define<T> {
        self.initial = Some(content.into_data());
        self
    }

    /// How many areas the slot has: 2, 4 or 8. More areas cost memory, and let readers of large
    /// slots finish beside a writer that never pauses. Values have no areas, buffers and counters
    /// one. Any other number is [`Error::Invalid`](crate::Error::Invalid) when the slot is defined.
    pub fn areas(mut self, areas: usize) -> Define<T> {
        self.areas = areas;
        self
    }

    /// What the slot is for, to show to people. It stays with the slot and its copies.
    pub fn doc(mut self, doc: impl Into<String>) -> Define<T> {
        self.doc = doc.into();
        self
    }

    /// The unit of measure of its numbers, to show to people, such as `m/s`.
    pub fn unit(mut self, unit: impl Into<String>) -> Define<T> {
        self.unit = unit.into();
        self
    }

    /// If true, a slot that already exists is [`Error::Exists`](crate::Error::Exists).
    pub fn create_new(mut self, yes: bool) -> Define<T> {
        self.create_new = yes;
        self
    }
}

/// What can be the first content of a slot of `T`: a `T`, or a vector, array or slice of `T`s, or
/// [`Elements`] (of another type, they are [`Error::Type`](crate::Error::Type) when the slot is
/// defined). For [`Data`]: a [`Data`], a text, a [`Scalar`] or [`Elements`].
pub trait Initial<T> {
    #[doc(hidden)]
    fn into_data(self) -> Data;
}

macro_rules! initial {
    ($([$($generics:tt)*] $from:ty => $of:ty;)*) => {$(
        impl<$($generics)*> Initial<$of> for $from {
            fn into_data(self) -> Data {
                self.into()
            }
        }
    )*};
}

initial! {
    [] bool => bool;
    [] i8 => i8;
    [] i16 => i16;
    [] i32 => i32;
    [] i64 => i64;
    [] u8 => u8;
    [] u16 => u16;
    [] u32 => u32;
    [] u64 => u64;
    [] f32 => f32;
    [] f64 => f64;
    [T: Element] &[T] => T;
    [T: Element] Vec<T> => T;
    [T: Element, const N: usize] [T; N] => T;
    [T: Element, const N: usize] &[T; N] => T;
    [] Data => Data;
    [] &str => Data;
    [] String => Data;
    [] Scalar => Data;
    [] Elements => Data;
    [T: Element] Elements => T;
}
