//! [`Array`]: a slot of many scalars.

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Bound, Range, RangeBounds};
use std::time::Duration;

use crate::attachment::attach::{Attachment, Failure};
use crate::error::{Error, Result};
use crate::mapping::new_memory::{NewMemory, fill_new, new_elements};
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Destination, Held, Lockable, Memory};
use crate::slots::fetch::fetch_methods;
use crate::slots::guard::lock_methods;
use crate::slots::handle::{Handle, common_methods};
use crate::slots::wait::sealed::{Sealed, Target};
use crate::store::session::SharedSession;
use crate::store::store::Store;
use crate::types::define::Define;
use crate::types::element::{Bits, Element, Number};
use crate::types::shape::Shape;
use crate::types::slot_type::SlotType;

/// A slot of many scalars of one type, in one to four dimensions.
///
/// A read of the array, a range or an element returns it as it was at one instant: it is never
/// torn, and never waits for a writer. An update is all or nothing, for readers and even
/// if its process is killed in the middle. Elements are in row-major order; a range is a range of
/// positions in that order.
///
/// ```
/// let store = slotfile::Store::temporary()?;
/// let pose = store.array::<f64>("pose", 6)?;
/// pose.store(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])?;
/// pose.update(|p| p[0] += 0.5)?;
/// assert_eq!(pose.get(0)?, 0.5);
/// assert_eq!(pose.load_range(1..3)?, [1.0, 2.0]);
///
/// let image = store.array::<u8>("image", [480, 640])?;
/// image.set([1, 2], 255)?;
/// assert_eq!(image.get(642)?, 255); // the same element, by its position
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Array<T> {
    pub(crate) handle: Handle,
    shape: Shape,
    element: PhantomData<T>,
}

/// Names one element of an array: its position in row-major order (`usize`), or one
/// index for each dimension (`[usize; N]`). Sealed.
pub trait ArrayIndex: sealed::Sealed + fmt::Debug {}

mod sealed {
    pub trait Sealed: Copy {
        fn position(self, shape: &super::Shape) -> Option<usize>;
    }
}

impl sealed::Sealed for usize {
    fn position(self, shape: &Shape) -> Option<usize> {
        (self < shape.len()).then_some(self)
    }
}
impl ArrayIndex for usize {}

impl<const N: usize> sealed::Sealed for [usize; N] {
    fn position(self, shape: &Shape) -> Option<usize> {
        shape.position(&self)
    }
}
impl<const N: usize> ArrayIndex for [usize; N] {}

impl Store {
    /// Opens the array of this name, or defines it, all zero. The shape is a length (`6`)
    /// or one to four dimensions (`[480, 640]`).
    ///
    /// # Errors
    ///
    /// As [`value`](Store::value); [`Error::Type`] also if the array has another shape, and
    /// [`Error::Invalid`] if no array can have this shape.
    pub fn array<T: Element>(&self, name: &str, shape: impl Into<Shape>) -> Result<Array<T>> {
        self.array_with(name, shape, Define::new())
    }

    /// As [`array`](Store::array), with settings for a new slot.
    ///
    /// # Errors
    ///
    /// As [`array`](Store::array).
    pub fn array_with<T: Element>(
        &self,
        name: &str,
        shape: impl Into<Shape>,
        define: Define<T>,
    ) -> Result<Array<T>> {
        let shape = shape.into();
        let handle = self.open_slot(name, &SlotType::Array(T::TYPE, shape), define)?;
        Ok(Array { handle, shape, element: PhantomData })
    }
}

impl<T: Element> Array<T> {
    common_methods!();
    lock_methods!();

    /// The dimensions.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How many elements it has: at least 1.
    #[allow(clippy::len_without_is_empty, reason = "an array is never empty")]
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    /// Returns all elements, as of one instant. Never waits.
    pub fn load(&self) -> Vec<T> {
        self.load_versioned().0
    }

    /// Returns all elements and their version.
    pub fn load_versioned(&self) -> (Vec<T>, u64) {
        self.read_new(0, self.len())
    }

    /// Copies all elements into `out`; returns their version. Allocates nothing.
    ///
    /// # Panics
    ///
    /// If `out` has another length than the array.
    pub fn load_into(&self, out: &mut [T]) -> u64 {
        assert_eq!(out.len(), self.len(), "slot {:?}: one element each", self.name());
        self.read(0, out)
    }

    /// Returns the elements at these positions, as of one instant.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if the range does not fit into the array.
    pub fn load_range(&self, range: impl RangeBounds<usize>) -> Result<Vec<T>> {
        let range = self.positions(range)?;
        Ok(self.read_new(range.start, range.len()).0)
    }

    /// Copies the elements at these positions into `out`, memory that need not be initialized before,
    /// as bindings to other languages allocate it. Returns that memory, and the version.
    ///
    /// ```
    /// # let store = slotfile::Store::temporary()?;
    /// # let pose = store.array::<f64>("pose", 6)?;
    /// let mut memory = Vec::with_capacity(6);
    /// let (elements, _) = pose.load_range_new(.., memory.spare_capacity_mut())?;
    /// assert_eq!(elements, [0.0; 6]);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if the range does not fit into the array, [`Error::Length`] if it does not
    /// fit `out`.
    pub fn load_range_new<'a>(
        &self,
        range: impl RangeBounds<usize>,
        out: &'a mut [MaybeUninit<T>],
    ) -> Result<(&'a mut [T], u64)> {
        let range = self.positions(range)?;
        self.check_length(range.len(), out.len())?;
        Ok(fill_new(out, |out| self.fill(range.start, out)))
    }

    /// Returns one element.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if it does not exist.
    pub fn get(&self, index: impl ArrayIndex) -> Result<T> {
        let mut element = [T::default()];
        self.read(self.position(index)?, &mut element);
        Ok(element[0])
    }

    /// Waits until `condition` is true of the elements, for at most `timeout` (`None`: for ever).
    /// Returns them, or `None` on time-out. `condition` is called at once, then after each
    /// change (once for several changes that come together).
    ///
    /// # Errors
    ///
    /// As [`wait_for_change`](Array::wait_for_change).
    pub fn wait_until(
        &self,
        mut condition: impl FnMut(&[T]) -> bool,
        timeout: Option<Duration>,
    ) -> Result<Option<Vec<T>>> {
        let load = || Ok(self.load_versioned());
        self.handle.wait_until(timeout, load, |elements| condition(elements))
    }

    /// Replaces all elements at once.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] if the number of elements differs from the array's. As for all updates:
    /// [`Error::LockTimeout`], [`Error::Deadlock`] inside another update of this array,
    /// [`Error::Removed`], [`Error::ReadOnly`], [`Error::TooManyProcesses`].
    pub fn store(&self, elements: &[T]) -> Result<()> {
        self.check_length(self.len(), elements.len())?;
        self.write(0, elements)
    }

    /// Replaces the elements at these positions at once.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if the range does not fit into the array; else as [`store`](Array::store).
    pub fn store_range(&self, range: impl RangeBounds<usize>, elements: &[T]) -> Result<()> {
        let range = self.positions(range)?;
        self.check_length(range.len(), elements.len())?;
        self.write(range.start, elements)
    }

    /// Replaces one element.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if it does not exist; else as [`store`](Array::store).
    pub fn set(&self, index: impl ArrayIndex, element: T) -> Result<()> {
        self.write(self.position(index)?, &[element])
    }

    /// Replaces one element; returns the old one.
    ///
    /// # Errors
    ///
    /// As [`set`](Array::set).
    pub fn swap(&self, index: impl ArrayIndex, element: T) -> Result<T> {
        self.update_element(index, |_| element)
    }

    /// Replaces one element if it equals `current` bit by bit. The inner result is `Ok` with
    /// the old element if it was replaced, else `Err` with the present one.
    ///
    /// # Errors
    ///
    /// As [`set`](Array::set).
    pub fn compare_exchange(
        &self,
        index: impl ArrayIndex,
        current: T,
        new: T,
    ) -> Result<Result<T, T>> {
        self.try_update_element(index, |now| (now.to_bits() == current.to_bits()).then_some(new))
    }

    /// Replaces one element by `f` of it; returns the old one. `f` runs once.
    ///
    /// # Errors
    ///
    /// As [`set`](Array::set).
    pub fn update_element(&self, index: impl ArrayIndex, f: impl FnOnce(T) -> T) -> Result<T> {
        let position = self.position(index)?;
        self.edit(position, &mut [T::default()], |element| {
            let new = f(element[0]);
            std::mem::replace(&mut element[0], new)
        })
    }

    /// Replaces one element by `f` of it, or leaves it if `f` returns `None`. The inner
    /// result holds the old element, in `Ok` if it was replaced. `f` runs once.
    ///
    /// # Errors
    ///
    /// As [`set`](Array::set).
    pub fn try_update_element(
        &self,
        index: impl ArrayIndex,
        f: impl FnOnce(T) -> Option<T>,
    ) -> Result<Result<T, T>> {
        let position = self.position(index)?;
        let lock = self.handle.lock_for_update()?;
        let mut element = [T::default()];
        self.read_locked(lock.version(), position, &mut element);
        let [now] = element;
        let Some(new) = f(now) else { return Ok(Err(now)) };
        self.handle.commit(lock, self.byte(position), T::bytes(&[new]))?;
        Ok(Ok(now))
    }

    /// Changes the elements, all or nothing: `f` works on a private copy, which replaces
    /// them at once when `f` returns. A panic inside `f` undoes the update; so does a kill. `f`
    /// runs once, under the slot's lock: another update of this array inside it is
    /// [`Error::Deadlock`].
    ///
    /// # Errors
    ///
    /// As [`store`](Array::store).
    pub fn update<R>(&self, f: impl FnOnce(&mut [T]) -> R) -> Result<R> {
        self.update_range(.., f)
    }

    /// As [`update`](Array::update), for the elements at these positions only. Its cost depends on
    /// the range, not on the array.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if the range does not fit into the array; else as [`store`](Array::store).
    pub fn update_range<R>(
        &self,
        range: impl RangeBounds<usize>,
        f: impl FnOnce(&mut [T]) -> R,
    ) -> Result<R> {
        let range = self.positions(range)?;
        T::with_scratch(range.len(), |copy| self.edit(range.start, copy, f))
            .unwrap_or_else(|none| Err(self.handle.no_memory(none)))
    }

    /// Begins an update that a later call commits: [`update`](Array::update) without a closure, for
    /// bindings to other languages. The slot's lock is held until it is committed or dropped.
    ///
    /// # Errors
    ///
    /// As [`store`](Array::store).
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// let pose = store.array::<f64>("pose", 3)?;
    /// let update = pose.begin_update()?;
    /// let mut p = update.load();
    /// p[0] += 0.5;
    /// update.commit(&p)?;
    /// assert_eq!(pose.load(), [0.5, 0.0, 0.0]);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn begin_update(&self) -> Result<ArrayUpdate<T>> {
        Ok(ArrayUpdate { lock: self.handle.lock_for_update()?.into_raw().resume(self.clone()) })
    }

    /// Lets `f` change a private copy of the elements from `start` on, then commits it.
    fn edit<R>(&self, start: usize, copy: &mut [T], f: impl FnOnce(&mut [T]) -> R) -> Result<R> {
        let lock = self.handle.lock_for_update()?;
        self.read_locked(lock.version(), start, copy);
        let result = f(copy);
        self.handle.commit(lock, self.byte(start), T::bytes(copy))?;
        Ok(result)
    }

    fn write(&self, start: usize, elements: &[T]) -> Result<()> {
        let lock = self.handle.lock_for_update()?;
        self.handle.commit(lock, self.byte(start), T::bytes(elements))?;
        Ok(())
    }

    /// Copies elements as of one instant; returns their version.
    fn read(&self, start: usize, out: &mut [T]) -> u64 {
        T::with_bytes(out, |bytes| self.fill(start, bytes))
    }

    /// The same, into new memory.
    fn read_new(&self, start: usize, len: usize) -> (Vec<T>, u64) {
        new_elements(len, |out| self.fill(start, out)).unwrap_or_else(|none| none.abort())
    }

    fn fill(
        &self,
        start: usize,
        out: &mut (impl Destination<SlotMemory<SharedSession>> + ?Sized),
    ) -> u64 {
        let (memory, attachment) = (&self.handle.memory, self.handle.attachment());
        protocol::read_bytes(memory, attachment, memory.areas(), self.byte(start), out)
    }

    /// Copies elements of the current area, whose lock is held.
    fn read_locked(&self, version: u64, start: usize, out: &mut [T]) {
        let area = self.handle.memory.areas().of(version);
        T::with_bytes(out, |bytes| self.handle.memory.read(area, self.byte(start), bytes));
    }

    pub(crate) fn byte(&self, position: usize) -> usize {
        position * size_of::<T>()
    }

    pub(crate) fn check_length(&self, expected: usize, found: usize) -> Result<()> {
        if expected == found {
            return Ok(());
        }
        let path = self.handle.attachment().path.clone();
        Err(Error::Length { path, slot: self.name().to_owned(), expected, found })
    }

    pub(crate) fn position(&self, index: impl ArrayIndex) -> Result<usize> {
        index.position(&self.shape).ok_or_else(|| self.outside(format!("{index:?}")))
    }

    pub(crate) fn positions(&self, range: impl RangeBounds<usize>) -> Result<Range<usize>> {
        positions(&range, self.len()).map_err(|index| self.outside(index))
    }

    fn outside(&self, index: String) -> Error {
        let path = self.handle.attachment().path.clone();
        Error::Index { path, slot: self.name().to_owned(), index, shape: self.shape }
    }
}

/// An update of an array in progress, see [`Array::begin_update`]. Dropping it changes nothing.
#[derive(Debug)]
#[must_use = "an update that is not committed changes nothing"]
pub struct ArrayUpdate<T: Element> {
    lock: Held<Array<T>>,
}

impl<T: Element> Lockable for Array<T> {
    type Memory = SlotMemory<SharedSession>;
    type Peers = Attachment;

    fn memory(&self) -> &SlotMemory<SharedSession> {
        &self.handle.memory
    }

    fn peers(&self) -> &Attachment {
        self.handle.attachment()
    }
}

impl<T: Element> ArrayUpdate<T> {
    /// Returns the elements as they are until the commit.
    pub fn load(&self) -> Vec<T> {
        let len = self.array().len();
        new_elements(len, |out| self.fill(out)).unwrap_or_else(|none| none.abort()).0
    }

    /// The same, into memory that need not be initialized before. Returns that memory.
    ///
    /// # Panics
    ///
    /// If `out` has another length than the array.
    pub fn load_new<'a>(&self, out: &'a mut [MaybeUninit<T>]) -> &'a mut [T] {
        let array = self.array();
        assert_eq!(out.len(), array.len(), "slot {:?}: one element each", array.name());
        fill_new(out, |out| self.fill(out)).0
    }

    fn fill(&self, out: &mut NewMemory<'_>) {
        let memory = &self.array().handle.memory;
        out.fill(memory, memory.areas().of(self.lock.version()), 0);
    }

    /// Copies the elements, as they are until the commit, into `out`.
    ///
    /// # Panics
    ///
    /// If `out` has another length than the array.
    pub fn load_into(&self, out: &mut [T]) {
        let array = self.array();
        assert_eq!(out.len(), array.len(), "slot {:?}: one element each", array.name());
        array.read_locked(self.lock.version(), 0, out);
    }

    /// Replaces all elements at once, and releases the lock.
    ///
    /// # Errors
    ///
    /// [`Error::Length`]; [`Error::Evicted`] in the child of a fork.
    pub fn commit(self, elements: &[T]) -> Result<()> {
        let array = self.array().clone();
        array.check_length(array.len(), elements.len())?;
        // When a thread ends, its entry may be gone before its update is.
        if !self.lock.is_held() {
            return Err(array.handle.not_committed(Failure::Evicted));
        }
        let areas = array.handle.memory.areas();
        self.lock
            .commit(areas, 0, T::bytes(elements))
            .map(|_| ())
            .map_err(|failure| array.handle.not_committed(failure))
    }

    fn array(&self) -> &Array<T> {
        self.lock.on()
    }
}

impl<T: Element> Sealed for Array<T> {
    fn target(&self) -> Target<'_> {
        Target(&self.handle)
    }
}

/// The positions that a range means, of so many; an error with the range as written if it does
/// not fit.
pub(crate) fn positions(
    range: &impl RangeBounds<usize>,
    len: usize,
) -> Result<Range<usize>, String> {
    let start = match range.start_bound() {
        Bound::Included(start) => Some(*start),
        Bound::Excluded(before) => before.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.checked_add(1),
        Bound::Excluded(end) => Some(*end),
        Bound::Unbounded => Some(len),
    };
    match (start, end) {
        (Some(start), Some(end)) if start <= end && end <= len => Ok(start..end),
        _ => Err(format!("{:?}..{:?}", start.unwrap_or(usize::MAX), end.unwrap_or(usize::MAX))),
    }
}

fetch_methods!(Array, update_element, "one element", "As [`set`](Array::set).", index);
