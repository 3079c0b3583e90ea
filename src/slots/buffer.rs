//! [`Buffer`]: raw memory of many scalars, at a fixed address.

use std::marker::PhantomData;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mapping::element::ElementRegion;
use crate::slots::array::ArrayIndex;
use crate::slots::fetch::fetch_methods;
use crate::slots::guard::lock_methods;
use crate::slots::handle::{Handle, common_methods};
use crate::slots::wait::sealed::{Sealed, Target};
use crate::store::session::SlotElements;
use crate::store::store::Store;
use crate::types::define::Define;
use crate::types::element::{Bits, Element, Number};
use crate::types::shape::Shape;
use crate::types::slot_type::SlotType;

/// A slot of raw memory: many scalars of one type, for zero-copy views and for elements that
/// many processes update at the same time.
///
/// Each element is an atomic: loads acquire, updates are acquire-release, none is lost. The
/// buffer as a whole has no protocol: several elements may be loaded at different
/// moments, and a killed writer leaves what it had stored by then. Its
/// [`lock`](Buffer::lock) excludes only others that take it, and its version changes only with
/// [`notify`](Buffer::notify). A sync saves a buffer as it finds it, with all that was stored
/// before the sync. It finds changes by comparing, so its cost depends on the buffer's size.
///
/// For contents that must be consistent as a whole, use an [`Array`](crate::Array).
///
/// ```
/// let store = slotfile::Store::temporary()?;
/// let frame = store.buffer::<u8>("frame", [480, 640])?;
/// frame.set([1, 2], 255)?;
/// assert_eq!(frame.fetch_add([1, 2], 1)?, 255);
/// assert_eq!(frame.get(642)?, 0); // the same element, by its position
/// frame.notify()?; // the frame is complete: wakes those who wait for a change
/// assert_eq!(frame.version(), 1);
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Buffer<T> {
    pub(crate) handle: Handle,
    pub(crate) elements: SlotElements,
    shape: Shape,
    element: PhantomData<T>,
}

impl Store {
    /// Opens the buffer of this name, or defines it, all zero. The shape is a length (`6`)
    /// or one to four dimensions (`[480, 640]`).
    ///
    /// # Errors
    ///
    /// As [`array`](Store::array).
    pub fn buffer<T: Element>(&self, name: &str, shape: impl Into<Shape>) -> Result<Buffer<T>> {
        self.buffer_with(name, shape, Define::new())
    }

    /// As [`buffer`](Store::buffer), with settings for a new slot.
    ///
    /// # Errors
    ///
    /// As [`array`](Store::array).
    pub fn buffer_with<T: Element>(
        &self,
        name: &str,
        shape: impl Into<Shape>,
        define: Define<T>,
    ) -> Result<Buffer<T>> {
        let shape = shape.into();
        let handle = self.open_slot(name, &SlotType::Buffer(T::TYPE, shape), define)?;
        let elements = ElementRegion::new(&handle.memory, T::TYPE, shape.len());
        Ok(Buffer { handle, elements, shape, element: PhantomData })
    }
}

impl<T: Element> Buffer<T> {
    common_methods!();
    lock_methods!();

    /// The dimensions.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How many elements it has: at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a buffer is never empty")]
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    /// Returns one element.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if it does not exist.
    #[inline]
    pub fn get(&self, index: impl ArrayIndex) -> Result<T> {
        Ok(T::from_bits(self.elements.load(self.position(index)?)))
    }

    /// Replaces one element.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if it does not exist; [`Error::Removed`], [`Error::ReadOnly`].
    #[inline]
    pub fn set(&self, index: impl ArrayIndex, element: T) -> Result<()> {
        self.fetch(index, |_| element).map(|_| ())
    }

    /// Replaces one element; returns the old one.
    ///
    /// # Errors
    ///
    /// As [`set`](Buffer::set).
    pub fn swap(&self, index: impl ArrayIndex, element: T) -> Result<T> {
        self.fetch(index, |_| element)
    }

    /// Replaces one element if it equals `current` bit by bit. The inner result is `Ok` with
    /// the old element if it was replaced, else `Err` with the present one.
    ///
    /// # Errors
    ///
    /// As [`set`](Buffer::set).
    pub fn compare_exchange(
        &self,
        index: impl ArrayIndex,
        current: T,
        new: T,
    ) -> Result<Result<T, T>> {
        self.replace(index, |now| (now.to_bits() == current.to_bits()).then_some(new))
    }

    /// Returns all elements. Each is whole, but they are loaded one after the other: what others
    /// store meanwhile may be included in part.
    pub fn load(&self) -> Vec<T> {
        self.load_versioned().0
    }

    /// As [`load`](Buffer::load), with the version from before the first element was loaded.
    pub fn load_versioned(&self) -> (Vec<T>, u64) {
        let mut elements = vec![T::default(); self.len()];
        let version = self.load_into(&mut elements);
        (elements, version)
    }

    /// Copies all elements into `out`, as [`load`](Buffer::load); returns the version from
    /// before. Allocates nothing.
    ///
    /// # Panics
    ///
    /// If `out` has another length than the buffer.
    pub fn load_into(&self, out: &mut [T]) -> u64 {
        assert_eq!(out.len(), self.len(), "slot {:?}: one element each", self.name());
        let version = self.version();
        T::with_bytes(out, |bytes| self.elements.read(0, bytes));
        version
    }

    /// Waits until `condition` is true of the elements, for at most `timeout` (`None`: for ever).
    /// Returns them, or `None` on time-out. `condition` is called at once, then after each
    /// [`notify`](Buffer::notify) (once for several that come together).
    ///
    /// # Errors
    ///
    /// As [`wait_for_change`](Buffer::wait_for_change).
    pub fn wait_until(
        &self,
        mut condition: impl FnMut(&[T]) -> bool,
        timeout: Option<Duration>,
    ) -> Result<Option<Vec<T>>> {
        let load = || Ok(self.load_versioned());
        self.handle.wait_until(timeout, load, |elements| condition(elements))
    }

    /// Replaces all elements, one after the other: others may see some of them before the
    /// rest, and may store in between. The version stays; [`notify`](Buffer::notify) changes it.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] if the number of elements differs from the buffer's; else as
    /// [`set`](Buffer::set).
    pub fn store(&self, elements: &[T]) -> Result<()> {
        let (expected, found) = (self.len(), elements.len());
        if expected != found {
            let path = self.handle.attachment().path.clone();
            return Err(Error::Length { path, slot: self.name().to_owned(), expected, found });
        }
        self.handle.check_usable()?;
        self.elements.write(0, T::bytes(elements));
        Ok(())
    }

    /// Announces a change: increases the version by one and wakes the threads that wait for it.
    /// A thread that sees the new version sees all that this thread stored before.
    /// Waits for the lock if another thread has it.
    ///
    /// # Errors
    ///
    /// As [`lock`](Buffer::lock).
    pub fn notify(&self) -> Result<()> {
        self.handle.notify(self.handle.lock_for_update()?).map(|_| ())
    }

    /// Returns the address of the first element; the others follow, packed, in row-major order. The
    /// address stays the same, and the memory valid, for as long as any handle of this store
    /// exists in this process, even if the slot is removed.
    ///
    /// Using it is `unsafe`: other threads and processes use this memory at the same time.
    ///
    /// - Atomics of the element's size (for `f32` and `f64`: of its bits) may always be
    ///   used, through [`AtomicU8::from_ptr`](std::sync::atomic::AtomicU8::from_ptr) and its
    ///   like; that is what this type does itself.
    /// - Plain loads and shared references are sound only while nobody stores; plain
    ///   stores and exclusive references, only while nobody loads or stores. The program has
    ///   to ensure that, for instance by the [`lock`](Buffer::lock). A sync may load at any
    ///   time: what it finds half-stored, a power cut returns half-stored.
    /// - A `bool` is the byte 0 or 1.
    /// - In a store that was opened read-only, a store is a SIGSEGV.
    pub fn as_ptr(&self) -> *mut T {
        // This process must also sync what is stored through the pointer.
        self.handle.session().keep_syncing();
        self.elements.as_mut_ptr().cast()
    }

    fn position(&self, index: impl ArrayIndex) -> Result<usize> {
        index.position(&self.shape).ok_or_else(|| Error::Index {
            path: self.handle.attachment().path.clone(),
            slot: self.name().to_owned(),
            index: format!("{index:?}"),
            shape: self.shape,
        })
    }

    fn fetch(&self, index: impl ArrayIndex, f: impl Fn(T) -> T) -> Result<T> {
        let (Ok(before) | Err(before)) = self.replace(index, |now| Some(f(now)))?;
        Ok(before)
    }

    #[inline]
    fn replace(&self, index: impl ArrayIndex, f: impl Fn(T) -> Option<T>) -> Result<Result<T, T>> {
        let position = self.position(index)?;
        self.handle.check_usable()?;
        let replaced = self.elements.update(position, |bits| f(T::from_bits(bits)).map(T::to_bits));
        Ok(replaced.map(T::from_bits).map_err(T::from_bits))
    }
}

impl<T: Element> Sealed for Buffer<T> {
    fn target(&self) -> Target<'_> {
        Target(&self.handle)
    }
}

fetch_methods!(Buffer, fetch, "one element", "As [`set`](Buffer::set).", index);
