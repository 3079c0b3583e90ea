//! What transactions and snapshots do with each kind of handle: how its content is read from, and
//! written to, their private copy of the slot.

use std::ops::RangeBounds;

use crate::error::{Error, Result};
use crate::mapping::map::Map;
use crate::mapping::slot_memory::SlotMemory;
use crate::slots::array::Array;
use crate::slots::handle::Handle;
use crate::slots::slot::{Kind, Slot};
use crate::slots::text::{Bytes, Content, Text, into_text};
use crate::slots::value::Value;
use crate::store::store::Store;
use crate::types::data::{Data, TEXT_LEN};
use crate::types::element::Element;
use crate::types::elements::{Elements, zeros};
use crate::types::scalar::Scalar;
use crate::types::scalar_type::ScalarType;
use sealed::{View, ViewMut};

/// What can take part in a [`Transaction`](crate::Transaction) or a
/// [`Snapshot`](crate::Snapshot): [`Value`], [`Array`], [`Text`], [`Bytes`], and [`Slot`] for
/// those whose type is known only at run time. Sealed.
///
/// A [`Buffer`](crate::Buffer) is raw memory, and cannot:
///
/// ```compile_fail,E0277
/// let store = slotfile::Store::temporary()?;
/// let buffer = store.buffer::<u8>("frame", 100)?;
/// store.transaction(|tx| tx.load(&buffer).map(drop))?;
/// # Ok::<(), slotfile::Error>(())
/// ```
pub trait Transactional: sealed::Sealed {
    /// What `load` returns: a `T` for a `Value<T>`, a `Vec<T>` for an `Array<T>`, a `String` for a
    /// text, a `Vec<u8>` for bytes, [`Data`] for a [`Slot`].
    type Content;
    /// What `store` takes: a `T`, a `&[T]`, a `&str`, a `&[u8]`, or [`Data`].
    type New<'a>;
    /// What the closure of `update` changes: a `T`, a `[T]`, a `String`, a
    /// `Vec<u8>`, or [`Data`].
    type Draft: ?Sized;

    #[doc(hidden)]
    fn load_from(&self, view: &mut impl View) -> Result<Self::Content>;
    #[doc(hidden)]
    fn store_to(&self, view: &mut impl ViewMut, new: Self::New<'_>) -> Result<()>;
    #[doc(hidden)]
    fn update_in<R>(
        &self,
        view: &mut impl ViewMut,
        f: impl FnOnce(&mut Self::Draft) -> R,
    ) -> Result<R>;
}

/// Handles with elements at positions: [`Array`], and a [`Slot`] that is an array or a value.
/// Sealed.
pub trait Ranged: Transactional {
    /// What `load_range` returns: a `Vec<T>`, or [`Elements`].
    type Part;
    /// What `store_range` takes: a `&[T]`, or `&`[`Elements`].
    type NewPart<'a>;
    /// What the closure of `update_range` changes: a `[T]`, or [`Elements`].
    type PartDraft: ?Sized;

    #[doc(hidden)]
    fn load_part_from(
        &self,
        view: &mut impl View,
        range: impl RangeBounds<usize>,
    ) -> Result<Self::Part>;
    #[doc(hidden)]
    fn store_part_to(
        &self,
        view: &mut impl ViewMut,
        range: impl RangeBounds<usize>,
        new: Self::NewPart<'_>,
    ) -> Result<()>;
    #[doc(hidden)]
    fn update_part_in<R>(
        &self,
        view: &mut impl ViewMut,
        range: impl RangeBounds<usize>,
        f: impl FnOnce(&mut Self::PartDraft) -> R,
    ) -> Result<R>;
}

pub(crate) mod sealed {
    use super::{Handle, Result};

    pub trait Sealed {}

    /// The contents of slots as a transaction or a snapshot sees them: bytes, from the
    /// beginning of an area; for a scalar, the eight bytes of its bit pattern.
    pub trait View {
        fn read(&mut self, slot: &Handle, at: usize, out: &mut [u8]) -> Result<()>;
    }

    /// The same, writable.
    pub trait ViewMut: View {
        fn write(&mut self, slot: &Handle, at: usize, data: &[u8]) -> Result<()>;
    }
}

impl Handle {
    /// Its memory, for as long as its store is borrowed.
    pub(crate) fn memory_in<'m>(&self, store: &'m Store) -> SlotMemory<&'m Map> {
        self.memory.kept_by(&*store.attachment().map)
    }

    /// [`Error::Invalid`] unless it is of this store.
    #[inline]
    pub(crate) fn check_store(&self, store: &Store) -> Result<()> {
        match std::ptr::eq(self.session(), &**store.session) {
            true => Ok(()),
            false => Err(self.of_another(store)),
        }
    }

    #[cold]
    fn of_another(&self, store: &Store) -> Error {
        let what = format!(
            "it is a slot of another store, {}; open it through the store of the transaction \
             or snapshot",
            self.attachment().path.display()
        );
        let (path, slot) = (store.path().to_owned(), Some(self.name().to_owned()));
        Error::Invalid { path, slot, what }
    }
}

fn load_bits(view: &mut impl View, slot: &Handle) -> Result<u64> {
    let mut bits = [0; 8];
    view.read(slot, 0, &mut bits)?;
    Ok(u64::from_le_bytes(bits))
}

fn store_bits(view: &mut impl ViewMut, slot: &Handle, bits: u64) -> Result<()> {
    view.write(slot, 0, &bits.to_le_bytes())
}

impl<T> sealed::Sealed for Value<T> {}

impl<T: Element> Transactional for Value<T> {
    type Content = T;
    type New<'a> = T;
    type Draft = T;

    fn load_from(&self, view: &mut impl View) -> Result<T> {
        Ok(T::from_bits(load_bits(view, &self.handle)?))
    }

    fn store_to(&self, view: &mut impl ViewMut, new: T) -> Result<()> {
        store_bits(view, &self.handle, new.to_bits())
    }

    fn update_in<R>(&self, view: &mut impl ViewMut, f: impl FnOnce(&mut T) -> R) -> Result<R> {
        let mut value = self.load_from(view)?;
        let result = f(&mut value);
        self.store_to(view, value)?;
        Ok(result)
    }
}

impl<T> sealed::Sealed for Array<T> {}

impl<T: Element> Transactional for Array<T> {
    type Content = Vec<T>;
    type New<'a> = &'a [T];
    type Draft = [T];

    fn load_from(&self, view: &mut impl View) -> Result<Vec<T>> {
        self.load_part_from(view, ..)
    }

    fn store_to(&self, view: &mut impl ViewMut, new: &[T]) -> Result<()> {
        self.store_part_to(view, .., new)
    }

    fn update_in<R>(&self, view: &mut impl ViewMut, f: impl FnOnce(&mut [T]) -> R) -> Result<R> {
        self.update_part_in(view, .., f)
    }
}

impl<T: Element> Ranged for Array<T> {
    type Part = Vec<T>;
    type NewPart<'a> = &'a [T];
    type PartDraft = [T];

    fn load_part_from(
        &self,
        view: &mut impl View,
        range: impl RangeBounds<usize>,
    ) -> Result<Vec<T>> {
        let range = self.positions(range)?;
        let mut elements = vec![T::default(); range.len()];
        let slot = &self.handle;
        T::with_bytes(&mut elements, |out| view.read(slot, self.byte(range.start), out))?;
        Ok(elements)
    }

    fn store_part_to(
        &self,
        view: &mut impl ViewMut,
        range: impl RangeBounds<usize>,
        new: &[T],
    ) -> Result<()> {
        let range = self.positions(range)?;
        self.check_length(range.len(), new.len())?;
        let slot = &self.handle;
        view.write(slot, self.byte(range.start), T::bytes(new))
    }

    fn update_part_in<R>(
        &self,
        view: &mut impl ViewMut,
        range: impl RangeBounds<usize>,
        f: impl FnOnce(&mut [T]) -> R,
    ) -> Result<R> {
        let range = self.positions(range)?;
        let mut elements = self.load_part_from(view, range.clone())?;
        let result = f(&mut elements);
        self.store_part_to(view, range, &elements)?;
        Ok(result)
    }
}

/// The bytes of a text, or of bytes.
fn load_content(view: &mut impl View, handle: &Handle, content: &Content) -> Result<Vec<u8>> {
    let len = usize::try_from(load_bits(view, handle)?).unwrap_or(usize::MAX);
    // A length beyond the capacity comes from a damaged file.
    let bytes = zeros(len.min(content.capacity));
    let mut bytes = bytes.map_err(|none| handle.no_memory(none))?;
    view.read(handle, TEXT_LEN, &mut bytes)?;
    Ok(bytes)
}

fn store_content(
    view: &mut impl ViewMut,
    handle: &Handle,
    content: &Content,
    bytes: &[u8],
) -> Result<()> {
    let new = content.of_bytes(handle, bytes)?;
    view.write(handle, 0, &new)
}

macro_rules! transactional_content {
    ($($kind:ty, $owned:ty, $borrowed:ty, $of_bytes:expr;)*) => {$(
        impl sealed::Sealed for $kind {}

        impl Transactional for $kind {
            type Content = $owned;
            type New<'a> = &'a $borrowed;
            type Draft = $owned;

            fn load_from(&self, view: &mut impl View) -> Result<$owned> {
                Ok($of_bytes(load_content(view, &self.handle, &self.content)?))
            }

            fn store_to(&self, view: &mut impl ViewMut, new: &$borrowed) -> Result<()> {
                store_content(view, &self.handle, &self.content, new.as_ref())
            }

            fn update_in<R>(
                &self,
                view: &mut impl ViewMut,
                f: impl FnOnce(&mut $owned) -> R,
            ) -> Result<R> {
                let mut content = self.load_from(view)?;
                let result = f(&mut content);
                self.store_to(view, &content)?;
                Ok(result)
            }
        }
    )*};
}

transactional_content! {
    Text, String, str, into_text;
    Bytes, Vec<u8>, [u8], std::convert::identity;
}

impl sealed::Sealed for Slot {}

impl Transactional for Slot {
    type Content = Data;
    type New<'a> = Data;
    type Draft = Data;

    fn load_from(&self, view: &mut impl View) -> Result<Data> {
        Ok(match &self.kind {
            Kind::Value(scalar_type) => {
                Scalar::from_bits(load_bits(view, &self.handle)?, *scalar_type).into()
            }
            Kind::Array(..) | Kind::Buffer(..) => self.load_part_from(view, ..)?.into(),
            Kind::Text(content) => into_text(load_content(view, &self.handle, content)?).into(),
            Kind::Bytes(content) => Data::Bytes(load_content(view, &self.handle, content)?),
        })
    }

    fn store_to(&self, view: &mut impl ViewMut, new: Data) -> Result<()> {
        let slot = self.transactional()?;
        let bytes = new
            .to_content(self.slot_type())
            .map_err(|content_error| self.content_error(content_error))?;
        match new {
            Data::Scalar(scalar) => store_bits(view, slot, scalar.to_bits()),
            _ => view.write(slot, 0, &bytes),
        }
    }

    fn update_in<R>(&self, view: &mut impl ViewMut, f: impl FnOnce(&mut Data) -> R) -> Result<R> {
        let mut data = self.load_from(view)?;
        let result = f(&mut data);
        self.store_to(view, data)?;
        Ok(result)
    }
}

impl Ranged for Slot {
    type Part = Elements;
    type NewPart<'a> = &'a Elements;
    type PartDraft = Elements;

    fn load_part_from(
        &self,
        view: &mut impl View,
        range: impl RangeBounds<usize>,
    ) -> Result<Elements> {
        let range = self.positions(range)?;
        let (slot, scalar_type) = self.elements()?;
        let mut elements = self.zeros(scalar_type, range.len())?;
        if let Kind::Value(..) = &self.kind {
            let scalar = Scalar::from_bits(load_bits(view, slot)?, scalar_type);
            range.for_each(|at| elements.set(at, scalar));
        } else {
            view.read(slot, range.start * scalar_type.size(), elements.as_bytes_mut())?;
        }
        Ok(elements)
    }

    fn store_part_to(
        &self,
        view: &mut impl ViewMut,
        range: impl RangeBounds<usize>,
        new: &Elements,
    ) -> Result<()> {
        let range = self.positions(range)?;
        let (slot, scalar_type) = self.elements()?;
        self.check_elements(scalar_type, range.len(), new)?;
        match (&self.kind, new.get(0)) {
            (_, None) => Ok(()),
            (Kind::Value(..), Some(scalar)) => store_bits(view, slot, scalar.to_bits()),
            _ => view.write(slot, range.start * scalar_type.size(), new.as_bytes()),
        }
    }

    fn update_part_in<R>(
        &self,
        view: &mut impl ViewMut,
        range: impl RangeBounds<usize>,
        f: impl FnOnce(&mut Elements) -> R,
    ) -> Result<R> {
        let range = self.positions(range)?;
        let mut elements = self.load_part_from(view, range.clone())?;
        let result = f(&mut elements);
        self.store_part_to(view, range, &elements)?;
        Ok(result)
    }
}

impl Slot {
    /// The slot and the type of its elements.
    fn elements(&self) -> Result<(&Handle, ScalarType)> {
        match &self.kind {
            Kind::Value(t) | Kind::Array(t, _) | Kind::Buffer(_, t, _) => {
                Ok((self.transactional()?, *t))
            }
            Kind::Text(_) | Kind::Bytes(_) => Err(self.no_elements()),
        }
    }

    /// Its handle; [`Error::Invalid`] for a buffer.
    pub(crate) fn transactional(&self) -> Result<&Handle> {
        match &self.kind {
            Kind::Buffer(..) => {
                let what = "a buffer is raw memory, and cannot take part in transactions and \
                            snapshots; use an array";
                let (path, slot) = (self.path(), self.name().to_owned());
                Err(Error::Invalid { path, slot: Some(slot), what: what.into() })
            }
            _ => Ok(&self.handle),
        }
    }
}
