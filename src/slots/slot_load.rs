//! Reading a slot of any type.

use std::ops::{Range, RangeBounds};

use crate::error::Result;
use crate::mapping::new_memory::new_elements;
use crate::protocol::{self, Memory, Sample};
use crate::slots::slot::{Kind, Slot};
use crate::slots::text::{beginning_of_text, into_text};
use crate::types::data::Data;
use crate::types::elements::{Elements, NoMemory};
use crate::types::scalar::Scalar;

impl Slot {
    /// Returns the content as of one instant, except for a buffer or a counter, see
    /// [`Buffer`](crate::Buffer) and [`Counter`](crate::Counter). Never waits.
    pub fn load(&self) -> Data {
        self.load_versioned().0
    }

    /// Returns the content and its version.
    pub fn load_versioned(&self) -> (Data, u64) {
        self.read_all().unwrap_or_else(|none| none.abort())
    }

    /// As [`load_versioned`](Slot::load_versioned), but returns an error if there is not enough
    /// memory: a damaged file may claim any size. (`load` then ends the program, like any failed
    /// allocation in Rust.)
    ///
    /// ```
    /// # let store = slotfile::Store::temporary()?;
    /// # store.text("name", 64)?;
    /// let (name, version) = store.slot("name")?.try_load_versioned()?;
    /// assert_eq!((name, version), ("".into(), 0));
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn try_load_versioned(&self) -> Result<(Data, u64)> {
        self.read_all().map_err(|none| self.handle.no_memory(none))
    }

    pub(super) fn read_all(&self) -> Result<(Data, u64), NoMemory> {
        Ok(match &self.kind {
            Kind::Value(scalar_type) => {
                let (bits, version) =
                    protocol::load_scalar_versioned(&self.handle.memory, self.handle.attachment());
                (Scalar::from_bits(bits, *scalar_type).into(), version)
            }
            Kind::Counter(stripes) => {
                let version = self.handle.version();
                (stripes.sum().into(), version)
            }
            Kind::Array(_, shape) | Kind::Buffer(_, _, shape) => {
                let (elements, version) = self.read(0..shape.len())?;
                (elements.into(), version)
            }
            Kind::Text(content) => {
                let (bytes, version) = content.load(&self.handle)?;
                (into_text(bytes).into(), version)
            }
            Kind::Bytes(content) => {
                let (bytes, version) = content.load(&self.handle)?;
                (Data::Bytes(bytes), version)
            }
        })
    }

    /// Returns the beginning of the content, to show to people, and its whole length. The beginning
    /// is `most` elements, or at most so many bytes in whole characters. No more than that is read.
    ///
    /// ```
    /// # use slotfile::{Define, Store};
    /// let store = Store::temporary()?;
    /// store.text_with("name", 64, Define::new().initial("Karel"))?;
    /// assert_eq!(store.slot("name")?.load_beginning(3), ("Kar".into(), 5));
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn load_beginning(&self, most: usize) -> (Data, usize) {
        match &self.kind {
            Kind::Value(_) | Kind::Counter(_) => (self.load(), 1),
            Kind::Array(_, shape) | Kind::Buffer(_, _, shape) => {
                let beginning = self.read(0..shape.len().min(most));
                (beginning.unwrap_or_else(|none| none.abort()).0.into(), shape.len())
            }
            Kind::Text(content) => {
                let (bytes, all) = content.load_beginning(&self.handle, most);
                (beginning_of_text(bytes).into(), all)
            }
            Kind::Bytes(content) => {
                let (bytes, all) = content.load_beginning(&self.handle, most);
                (Data::Bytes(bytes), all)
            }
        }
    }

    /// Returns some elements of an array, by their positions in row-major order, as of one
    /// instant. A value has one element. A buffer's elements are loaded one after the other.
    ///
    /// # Errors
    ///
    /// [`Error::Index`](crate::Error::Index) if the range does not fit;
    /// [`Error::Invalid`](crate::Error::Invalid) for a text or bytes;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn load_range(&self, range: impl RangeBounds<usize>) -> Result<Elements> {
        Ok(self.load_range_versioned(range)?.0)
    }

    /// As [`load_range`](Slot::load_range), with the version.
    ///
    /// # Errors
    ///
    /// As [`load_range`](Slot::load_range).
    pub fn load_range_versioned(&self, range: impl RangeBounds<usize>) -> Result<(Elements, u64)> {
        self.read(self.positions(range)?).map_err(|none| self.handle.no_memory(none))
    }

    /// Elements as of one instant, and their version. The positions have been checked.
    fn read(&self, range: Range<usize>) -> Result<(Elements, u64), NoMemory> {
        Ok(match &self.kind {
            Kind::Array(scalar_type, _) => {
                let start = range.start * scalar_type.size();
                let (memory, attachment) = (&self.handle.memory, self.handle.attachment());
                let (bytes, version) = new_elements(range.len() * scalar_type.size(), |out| {
                    protocol::read_bytes(memory, attachment, memory.areas(), start, out)
                })?;
                let elements = Elements::from_bytes(*scalar_type, bytes);
                (elements.expect("whole elements"), version)
            }
            Kind::Value(_) | Kind::Counter(_) => {
                let (content, version) = self.read_all()?;
                let Data::Scalar(scalar) = content else { unreachable!("it is one scalar") };
                let scalars = std::iter::repeat_n(scalar, range.len());
                let elements = Elements::from_scalars(scalar.scalar_type(), scalars);
                (elements.expect("of the slot's own type"), version)
            }
            Kind::Buffer(stored, scalar_type, _) => {
                let version = self.handle.version();
                let mut elements = Elements::try_zeros(*scalar_type, range.len())?;
                stored.read(range.start * scalar_type.size(), elements.as_bytes_mut());
                (elements, version)
            }
            Kind::Text(..) | Kind::Bytes(..) => unreachable!("their positions are refused"),
        })
    }

    /// The content of a sample.
    pub(crate) fn content_at(&self, sample: Sample) -> Result<Data, NoMemory> {
        Ok(match (&self.kind, sample) {
            (Kind::Value(scalar_type), Sample::Scalar(bits)) => {
                Scalar::from_bits(bits, *scalar_type).into()
            }
            (Kind::Array(scalar_type, shape), Sample::Area(area)) => {
                let mut elements = Elements::try_zeros(*scalar_type, shape.len())?;
                self.handle.memory.read(area, 0, elements.as_bytes_mut());
                elements.into()
            }
            (Kind::Text(content), Sample::Area(area)) => {
                into_text(content.copy(&self.handle.memory, area)?).into()
            }
            (Kind::Bytes(content), Sample::Area(area)) => {
                Data::Bytes(content.copy(&self.handle.memory, area)?)
            }
            _ => unreachable!("a value has no areas, raw memory no contents of one instant"),
        })
    }
}
