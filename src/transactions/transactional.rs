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
use crate::store::session::Session;
use crate::store::store::Store;
use crate::types::data::{Data, TEXT_LEN};
use crate::types::element::Element;
use crate::types::elements::{Elements, default_elements, zeros};
use crate::types::scalar::Scalar;
use crate::types::scalar_type::ScalarType;
use sealed::{View, ViewMut};

/// What can take part in a [`Transaction`](crate::Transaction) or a
/// [`Snapshot`](crate::Snapshot): [`Value`], [`Array`], [`Text`], [`Bytes`], and [`Slot`] for
/// those whose type is known only at run time. Sealed.
///
/// A [`Buffer`](crate::Buffer) is raw memory, and cannot; nor can a [`Counter`](crate::Counter):
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
    type Content: 'static;
    /// What `store` takes: a `T`, a `&[T]`, a `&str`, a `&[u8]`, or [`Data`].
    type New<'a>;
    /// What the closure of `update` changes: a `T`, a `[T]`, a `String`, a
    /// `Vec<u8>`, or [`Data`].
    type Draft: ?Sized;

    #[doc(hidden)]
    fn handle(&self) -> &Handle;
    /// An error if it cannot take part.
    #[doc(hidden)]
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// A content to load into.
    #[doc(hidden)]
    fn blank(&self) -> Self::Content;
    /// Replaces what is in `content`, in the same memory where possible.
    #[doc(hidden)]
    fn load_into(&self, view: &mut impl View, content: &mut Self::Content) -> Result<()>;
    #[doc(hidden)]
    fn load_from(&self, view: &mut impl View) -> Result<Self::Content> {
        let mut content = self.blank();
        self.load_into(view, &mut content)?;
        Ok(content)
    }
    #[doc(hidden)]
    fn store_to(&self, view: &mut impl ViewMut, new: Self::New<'_>) -> Result<()>;
    /// Stores what was loaded, or has become of it.
    #[doc(hidden)]
    fn store_content(&self, view: &mut impl ViewMut, content: &Self::Content) -> Result<()>;
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
        /// The bit pattern of a scalar.
        fn bits(&mut self, slot: &Handle) -> Result<u64>;
        /// The slot at this position of a group comes next.
        fn next_is(&mut self, _position: usize) {}
    }

    /// The same, writable.
    pub trait ViewMut: View {
        fn write(&mut self, slot: &Handle, at: usize, data: &[u8]) -> Result<()>;
        /// Lets `f` change the bit pattern of a scalar.
        fn update_bits<R>(&mut self, slot: &Handle, f: impl FnOnce(&mut u64) -> R) -> Result<R>;
    }
}

impl Handle {
    /// Its memory, for as long as its store is borrowed.
    pub(crate) fn memory_in<'m>(&self, store: &'m Store) -> SlotMemory<&'m Map> {
        self.memory.kept_by(&*store.attachment().map)
    }

    /// [`Error::Invalid`] unless it is of this store.
    #[inline]
    pub(crate) fn check_store(&self, session: &Session) -> Result<()> {
        match std::ptr::eq(self.session(), session) {
            true => Ok(()),
            false => Err(self.of_another(session)),
        }
    }

    #[cold]
    fn of_another(&self, session: &Session) -> Error {
        let what = format!(
            "it is a slot of another store, {}; open it through the store of the transaction \
             or snapshot",
            self.attachment().path.display()
        );
        let (path, slot) = (session.attachment().path.clone(), Some(self.name().to_owned()));
        Error::Invalid { path, slot, what }
    }
}

impl<T> sealed::Sealed for Value<T> {}

impl<T: Element> Transactional for Value<T> {
    type Content = T;
    type New<'a> = T;
    type Draft = T;

    #[inline]
    fn handle(&self) -> &Handle {
        &self.handle
    }

    #[inline]
    fn blank(&self) -> T {
        T::default()
    }

    #[inline]
    fn load_into(&self, view: &mut impl View, content: &mut T) -> Result<()> {
        *content = T::from_bits(view.bits(&self.handle)?);
        Ok(())
    }

    #[inline]
    fn store_content(&self, view: &mut impl ViewMut, content: &T) -> Result<()> {
        self.store_to(view, *content)
    }

    fn store_to(&self, view: &mut impl ViewMut, new: T) -> Result<()> {
        view.update_bits(&self.handle, |bits| *bits = new.to_bits())
    }

    #[inline]
    fn update_in<R>(&self, view: &mut impl ViewMut, f: impl FnOnce(&mut T) -> R) -> Result<R> {
        view.update_bits(&self.handle, |bits| {
            let mut value = T::from_bits(*bits);
            let result = f(&mut value);
            *bits = value.to_bits();
            result
        })
    }
}

impl<T> sealed::Sealed for Array<T> {}

impl<T: Element> Transactional for Array<T> {
    type Content = Vec<T>;
    type New<'a> = &'a [T];
    type Draft = [T];

    fn handle(&self) -> &Handle {
        &self.handle
    }

    fn blank(&self) -> Vec<T> {
        Vec::new()
    }

    fn load_into(&self, view: &mut impl View, content: &mut Vec<T>) -> Result<()> {
        if content.len() != self.len() {
            let new = default_elements(self.len());
            *content = new.map_err(|none| self.handle.no_memory(none))?;
        }
        T::with_bytes(content, |out| view.read(&self.handle, 0, out))
    }

    fn store_content(&self, view: &mut impl ViewMut, content: &Vec<T>) -> Result<()> {
        self.store_to(view, content)
    }

    fn store_to(&self, view: &mut impl ViewMut, new: &[T]) -> Result<()> {
        self.store_part_to(view, .., new)
    }

    fn update_in<R>(&self, view: &mut impl ViewMut, f: impl FnOnce(&mut [T]) -> R) -> Result<R> {
        self.update_part_in(view, .., f)
    }
}

impl<T: Element> Array<T> {
    /// One element.
    pub(crate) fn get_from(&self, view: &mut impl View, position: usize) -> Result<T> {
        let mut element = [T::default()];
        T::with_bytes(&mut element, |out| view.read(&self.handle, self.byte(position), out))?;
        Ok(element[0])
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
        let slot = &self.handle;
        let new = default_elements(range.len());
        let mut elements = new.map_err(|none| slot.no_memory(none))?;
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
        let slot = &self.handle;
        T::with_scratch(range.len(), |elements| {
            let at = self.byte(range.start);
            T::with_bytes(elements, |out| view.read(slot, at, out))?;
            let result = f(elements);
            view.write(slot, at, T::bytes(elements))?;
            Ok(result)
        })
        .unwrap_or_else(|none| Err(slot.no_memory(none)))
    }
}

/// Loads the bytes of a text, or of bytes.
fn load_content(
    view: &mut impl View,
    handle: &Handle,
    content: &Content,
    bytes: &mut Vec<u8>,
) -> Result<()> {
    let mut len = [0; TEXT_LEN];
    view.read(handle, 0, &mut len)?;
    let len = usize::try_from(u64::from_le_bytes(len)).unwrap_or(usize::MAX);
    // A length beyond the capacity comes from a damaged file, or is torn.
    let len = len.min(content.capacity);
    if bytes.capacity() < len {
        *bytes = zeros(len).map_err(|none| handle.no_memory(none))?;
    }
    bytes.resize(len, 0);
    view.read(handle, TEXT_LEN, bytes)
}

fn store_content(
    view: &mut impl ViewMut,
    handle: &Handle,
    content: &Content,
    bytes: &[u8],
) -> Result<()> {
    content.check(handle, bytes)?;
    view.write(handle, 0, &(bytes.len() as u64).to_le_bytes())?;
    view.write(handle, TEXT_LEN, bytes)
}

macro_rules! transactional_content {
    ($($kind:ty, $owned:ty, $borrowed:ty, $of_bytes:expr;)*) => {$(
        impl sealed::Sealed for $kind {}

        impl Transactional for $kind {
            type Content = $owned;
            type New<'a> = &'a $borrowed;
            type Draft = $owned;

            fn handle(&self) -> &Handle {
                &self.handle
            }

            fn blank(&self) -> $owned {
                <$owned>::new()
            }

            fn load_into(&self, view: &mut impl View, content: &mut $owned) -> Result<()> {
                let mut bytes = Vec::from(std::mem::take(content));
                let loaded = load_content(view, &self.handle, &self.content, &mut bytes);
                *content = $of_bytes(bytes);
                loaded
            }

            fn store_content(&self, view: &mut impl ViewMut, content: &$owned) -> Result<()> {
                self.store_to(view, content)
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

impl<S: Transactional> sealed::Sealed for &S {}

impl<S: Transactional> Transactional for &S {
    type Content = S::Content;
    type New<'a> = S::New<'a>;
    type Draft = S::Draft;

    #[inline]
    fn handle(&self) -> &Handle {
        (**self).handle()
    }

    fn check(&self) -> Result<()> {
        (**self).check()
    }

    fn blank(&self) -> S::Content {
        (**self).blank()
    }

    #[inline]
    fn load_into(&self, view: &mut impl View, content: &mut S::Content) -> Result<()> {
        (**self).load_into(view, content)
    }

    #[inline]
    fn store_to(&self, view: &mut impl ViewMut, new: S::New<'_>) -> Result<()> {
        (**self).store_to(view, new)
    }

    #[inline]
    fn store_content(&self, view: &mut impl ViewMut, content: &S::Content) -> Result<()> {
        (**self).store_content(view, content)
    }

    fn update_in<R>(
        &self,
        view: &mut impl ViewMut,
        f: impl FnOnce(&mut S::Draft) -> R,
    ) -> Result<R> {
        (**self).update_in(view, f)
    }
}

impl sealed::Sealed for Slot {}

impl Transactional for Slot {
    type Content = Data;
    type New<'a> = Data;
    type Draft = Data;

    fn handle(&self) -> &Handle {
        &self.handle
    }

    fn check(&self) -> Result<()> {
        self.transactional().map(drop)
    }

    fn blank(&self) -> Data {
        Data::Bytes(Vec::new())
    }

    fn load_into(&self, view: &mut impl View, data: &mut Data) -> Result<()> {
        let mut load = |content: &Content| {
            let mut bytes = Vec::new();
            load_content(view, &self.handle, content, &mut bytes).map(|()| bytes)
        };
        *data = match &self.kind {
            Kind::Text(content) => into_text(load(content)?).into(),
            Kind::Bytes(content) => Data::Bytes(load(content)?),
            Kind::Value(scalar_type) => {
                Scalar::from_bits(view.bits(&self.handle)?, *scalar_type).into()
            }
            _ => self.load_part_from(view, ..)?.into(),
        };
        Ok(())
    }

    fn store_to(&self, view: &mut impl ViewMut, new: Data) -> Result<()> {
        self.store_content(view, &new)
    }

    fn store_content(&self, view: &mut impl ViewMut, new: &Data) -> Result<()> {
        let slot = self.transactional()?;
        let bytes = new
            .to_content(self.slot_type())
            .map_err(|content_error| self.content_error(content_error))?;
        match new {
            Data::Scalar(scalar) => view.update_bits(slot, |bits| *bits = scalar.to_bits()),
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
            let scalar = Scalar::from_bits(view.bits(slot)?, scalar_type);
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
            (Kind::Value(..), Some(scalar)) => {
                view.update_bits(slot, |bits| *bits = scalar.to_bits())
            }
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
            Kind::Counter(_) => Ok((self.transactional()?, ScalarType::I64)),
            Kind::Text(_) | Kind::Bytes(_) => Err(self.no_elements()),
        }
    }

    /// Its handle; [`Error::Invalid`] for a buffer or a counter.
    pub(crate) fn transactional(&self) -> Result<&Handle> {
        match &self.kind {
            Kind::Buffer(..) => Err(self.not_transactional("a buffer is raw memory", "an array")),
            Kind::Counter(_) => {
                Err(self.not_transactional("a counter is added to without a lock", "a value"))
            }
            _ => Ok(&self.handle),
        }
    }

    #[cold]
    fn not_transactional(&self, why: &str, instead: &str) -> Error {
        let what =
            format!("{why}, and cannot take part in transactions and snapshots; use {instead}");
        Error::Invalid { path: self.path(), slot: Some(self.name().to_owned()), what }
    }
}
