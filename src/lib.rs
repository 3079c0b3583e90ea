//! Shared state that lasts: named, typed **slots** in one memory-mapped file.

mod array;
mod attach;
mod cell;
mod copy;
mod data;
mod directory;
mod dtype;
mod error;
mod fork;
mod futex;
mod handle;
mod layout;
mod map;
mod open;
mod protocol;
mod slot;
mod store;
mod sys;
mod text;
mod value;

pub use array::{Array, ArrayIndex};
pub use data::{Data, Elements, ParseScalarError, Scalar};
pub use dtype::{Bits, Element, Number, ParseTypeError, ScalarType, Shape, SlotType};
pub use error::{Error, Result};
pub use handle::{Define, Guard};
pub use slot::Slot;
pub use store::{Info, OpenOptions, Opener, Store};
pub use text::{Bytes, Text};
pub use value::Value;
