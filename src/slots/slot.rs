//! [`Slot`]: a slot of any type, for tools that learn the type at run time.

use std::ops::{Range, RangeBounds};
use std::time::Duration;

use crate::attachment::descriptors;
use crate::directory;
use crate::error::{Error, Result};
use crate::mapping::element::ElementRegion;
use crate::protocol::{Memory, Sample};
use crate::slots::array::{Array, positions};
use crate::slots::buffer::Buffer;
use crate::slots::counter::{Counter, Stripes};
use crate::slots::guard::Guard;
use crate::slots::handle::Handle;
use crate::slots::text::{Bytes, Content, Text};
use crate::slots::value::Value;
use crate::slots::wait::sealed::{Sealed, Target};
use crate::store::session::SlotElements;
use crate::store::store::Store;
use crate::types::data::{ContentError, Data};
use crate::types::define::Define;
use crate::types::element::Element;
use crate::types::elements::Elements;
use crate::types::scalar::Scalar;
use crate::types::scalar_type::ScalarType;
use crate::types::shape::Shape;
use crate::types::slot_type::SlotType;

/// A slot whose type is known only at run time, for tools that work on any store.
///
/// ```
/// use slotfile::{Data, Define, Scalar, Store};
/// let store = Store::temporary()?;
/// store.define("pose", &"f64[3]".parse().unwrap(), Define::new())?;
/// let slot = store.slot("pose")?;
/// slot.store([1.0, 2.0, 3.0])?;
/// assert_eq!(slot.slot_type().to_string(), "f64[3]");
/// assert_eq!(slot.load_range(1..2)?.get(0), Some(Scalar::F64(2.0)));
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Slot {
    pub(crate) handle: Handle,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Value(ScalarType),
    Array(ScalarType, Shape),
    Text(Content),
    Bytes(Content),
    Buffer(SlotElements, ScalarType, Shape),
    Counter(Stripes),
}

impl Store {
    /// Returns all slots, in the order of their definition. To go through many slots once,
    /// [`list`](Store::list) needs less memory.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the directory is damaged.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// store.value::<i32>("x")?;
    /// store.text("name", 16)?;
    /// let names: Vec<_> = store.slots()?.iter().map(|s| s.name().to_owned()).collect();
    /// assert_eq!(names, ["x", "name"]);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn slots(&self) -> Result<Vec<Slot>> {
        let mut slots = Vec::new();
        let count = descriptors::count(self.attachment())?;
        directory::each_slot(self.attachment(), 0, count, |found| {
            slots.push(Slot::new(self.handle(found))?);
            Ok(())
        })?;
        Ok(slots)
    }

    /// Opens the slot of this name, whatever its type.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; see [`Store::closest_name`]. [`Error::Corrupt`].
    pub fn slot(&self, name: &str) -> Result<Slot> {
        let found = directory::find(self.attachment(), name)?;
        Slot::new(self.handle(found.ok_or_else(|| self.not_found(name))?))
    }

    /// Opens the slot of this name and type, or defines it.
    ///
    /// # Errors
    ///
    /// As [`Store::value`]; [`Error::Exists`] with
    /// [`Define::create_new`] if it exists.
    pub fn define(&self, name: &str, slot_type: &SlotType, define: Define<Data>) -> Result<Slot> {
        Slot::new(self.open_slot(name, slot_type, define)?)
    }
}

impl<T: Element> From<Value<T>> for Slot {
    fn from(value: Value<T>) -> Slot {
        Slot { handle: value.handle, kind: Kind::Value(T::TYPE) }
    }
}

impl<T: Element> From<Array<T>> for Slot {
    fn from(array: Array<T>) -> Slot {
        let shape = array.shape();
        Slot { handle: array.handle, kind: Kind::Array(T::TYPE, shape) }
    }
}

impl<T: Element> From<Buffer<T>> for Slot {
    fn from(buffer: Buffer<T>) -> Slot {
        let shape = buffer.shape();
        Slot { handle: buffer.handle, kind: Kind::Buffer(buffer.elements, T::TYPE, shape) }
    }
}

impl From<Counter> for Slot {
    fn from(counter: Counter) -> Slot {
        Slot { handle: counter.handle, kind: Kind::Counter(counter.stripes) }
    }
}

impl From<Text> for Slot {
    fn from(text: Text) -> Slot {
        Slot { handle: text.handle, kind: Kind::Text(text.content) }
    }
}

impl From<Bytes> for Slot {
    fn from(bytes: Bytes) -> Slot {
        Slot { handle: bytes.handle, kind: Kind::Bytes(bytes.content) }
    }
}

impl Kind {
    pub(crate) fn of(slot_type: &SlotType, handle: &Handle) -> Kind {
        match *slot_type {
            SlotType::Value(t) => Kind::Value(t),
            SlotType::Array(t, shape) => Kind::Array(t, shape),
            SlotType::Text(capacity) => Kind::Text(Content { capacity }),
            SlotType::Bytes(capacity) => Kind::Bytes(Content { capacity }),
            SlotType::Buffer(t, shape) => {
                Kind::Buffer(ElementRegion::new(&handle.memory, t, shape.len()), t, shape)
            }
            SlotType::Counter => Kind::Counter(Stripes::new(handle)),
        }
    }
}

impl Slot {
    pub(crate) fn new(handle: Handle) -> Result<Slot> {
        let kind = Kind::of(&handle.slot_type()?, &handle);
        Ok(Slot { handle, kind })
    }

    /// Its elements, if it is a buffer.
    pub(crate) fn buffer_elements(&self) -> Option<&SlotElements> {
        match &self.kind {
            Kind::Buffer(elements, ..) => Some(elements),
            _ => None,
        }
    }

    /// The slot's name.
    pub fn name(&self) -> &str {
        self.handle.name()
    }

    /// Its type.
    pub fn slot_type(&self) -> &SlotType {
        &self.handle.descriptor().slot_type
    }

    /// What it is for, if its definition says so.
    pub fn doc(&self) -> Option<&str> {
        non_empty(&self.handle.descriptor().doc)
    }

    /// The unit of measure of its numbers, if its definition says so.
    pub fn unit(&self) -> Option<&str> {
        non_empty(&self.handle.descriptor().unit)
    }

    /// How many areas it has: 0 for a value, 1 for a buffer or a counter.
    pub fn areas(&self) -> usize {
        self.handle.descriptor().areas.into()
    }

    /// Bytes of its content, that is, of one area.
    pub fn size(&self) -> usize {
        self.handle.content_len()
    }

    /// The slot as a counter, if it is one. An [add](Counter::add) waits for no lock, as an update would.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// store.counter("hits")?;
    /// store.slot("hits")?.counter().expect("a counter").add(1)?;
    /// assert_eq!(store.counter("hits")?.load(), 1);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn counter(&self) -> Option<Counter> {
        match &self.kind {
            Kind::Counter(stripes) => {
                Some(Counter { handle: self.handle.clone(), stripes: stripes.clone() })
            }
            _ => None,
        }
    }

    /// A counter that grows with every update of the slot, modulo 2^47.
    pub fn version(&self) -> u64 {
        self.handle.version()
    }

    /// Whether the slot was removed. `load` still returns its last content.
    pub fn is_removed(&self) -> bool {
        self.handle.is_removed()
    }

    /// As [`Value::wait_for_change`].
    ///
    /// # Errors
    ///
    /// As [`Value::wait_for_change`].
    pub fn wait_for_change(&self, seen: u64, timeout: Option<Duration>) -> Result<Option<u64>> {
        self.handle.wait_for_change(seen, timeout)
    }

    /// As [`Value::lock`].
    ///
    /// # Errors
    ///
    /// As [`Value::lock`].
    pub fn lock(&self) -> Result<Guard<'_>> {
        self.handle.lock()
    }

    /// As [`Value::with_lock_timeout`].
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Option<Duration>) -> Slot {
        self.handle.set_lock_timeout(timeout);
        self
    }

    /// Waits until `condition` is true of the content, for at most `timeout` (`None`: for ever).
    /// Returns it, or `None` on time-out. `condition` is called at once, then after each
    /// change (once for several changes that come together).
    ///
    /// # Errors
    ///
    /// As [`wait_for_change`](Slot::wait_for_change).
    pub fn wait_until(
        &self,
        condition: impl FnMut(&Data) -> bool,
        timeout: Option<Duration>,
    ) -> Result<Option<Data>> {
        let load = || self.try_load_versioned();
        self.handle.wait_until(timeout, load, condition)
    }

    /// Replaces the content.
    ///
    /// # Errors
    ///
    /// [`Error::Type`], [`Error::Length`] or [`Error::TooLong`] if it does not fit;
    /// else as [`Array::store`](crate::Array::store).
    pub fn store(&self, content: impl Into<Data>) -> Result<()> {
        let content =
            content.into().to_content(self.slot_type()).map_err(|m| self.content_error(m))?;
        self.commit(0, &content)
    }

    /// Replaces elements from the position `start` on.
    ///
    /// # Errors
    ///
    /// [`Error::Type`] for elements of another type; [`Error::Index`] if they do not fit into the
    /// array; [`Error::Invalid`] for a text or bytes; else as
    /// [`Array::store`](crate::Array::store).
    pub fn store_range(&self, start: usize, elements: &Elements) -> Result<()> {
        let end = start.saturating_add(elements.len());
        let range = self.positions(start..end)?;
        self.update_range(range, |there| {
            let new = elements.try_clone().map_err(|none| self.handle.no_memory(none))?;
            *there = new; // type and number are checked, as for any closure
            Ok(())
        })
    }

    /// Changes the content, all or nothing: `f` works on a private copy, which replaces it
    /// at once when it returns `Ok`. An error or a panic undoes it. `f` may run more than
    /// once.
    ///
    /// For a buffer, the elements that `f` has changed are stored one after the other, under
    /// its lock, and its version increases. Updates without the lock may come in between, unless
    /// the buffer, or the range of it, is a single element. For a counter, what others add
    /// meanwhile is kept.
    ///
    /// # Errors
    ///
    /// What `f` returns; [`Error::Type`], [`Error::Length`] or [`Error::TooLong`] if the
    /// new content does not fit; else as [`Array::store`](crate::Array::store).
    pub fn update<R, E: From<Error>>(
        &self,
        mut f: impl FnMut(&mut Data) -> Result<R, E>,
    ) -> Result<R, E> {
        match &self.kind {
            Kind::Value(_) | Kind::Counter(_) => self.update_range(0..1, |elements| {
                let mut content = Data::Scalar(one(elements));
                let result = f(&mut content)?;
                match content {
                    Data::Scalar(x) if x.scalar_type() == elements.scalar_type() => {
                        elements.set(0, x);
                    }
                    other => {
                        let fits = other.to_content(self.slot_type()).map(|_| ());
                        fits.map_err(|content_error| self.content_error(content_error))?;
                    }
                }
                Ok(result)
            }),
            Kind::Buffer(_, _, shape) => self.update_range(0..shape.len(), |elements| {
                let mut content = Data::Array(elements.clone());
                let result = f(&mut content)?;
                let bytes =
                    content.to_content(self.slot_type()).map_err(|m| self.content_error(m))?;
                elements.as_bytes_mut().copy_from_slice(&bytes);
                Ok(result)
            }),
            Kind::Array(..) | Kind::Text(_) | Kind::Bytes(_) => {
                let lock = self.handle.lock_for_update()?;
                let area = Sample::Area(self.handle.memory.areas().of(lock.version()));
                let content = self.content_at(area);
                let mut content = content.map_err(|none| self.handle.no_memory(none))?;
                let result = f(&mut content)?;
                let bytes =
                    content.to_content(self.slot_type()).map_err(|m| self.content_error(m))?;
                self.handle.commit(lock, 0, &bytes)?;
                Ok(result)
            }
        }
    }

    /// As [`update`](Slot::update), for some elements of an array (or the only one of a value).
    /// Its cost depends on the range, not on the array.
    ///
    /// # Errors
    ///
    /// What `f` returns; [`Error::Index`], [`Error::Length`]; [`Error::Invalid`] for a
    /// text or bytes; else as [`Array::store`](crate::Array::store).
    pub fn update_range<R, E: From<Error>>(
        &self,
        range: impl RangeBounds<usize>,
        mut f: impl FnMut(&mut Elements) -> Result<R, E>,
    ) -> Result<R, E> {
        let range = self.positions(range)?;
        match &self.kind {
            Kind::Value(scalar_type) => {
                let _updating = self.handle.begin_update()?;
                let mut outcome = None;
                let _ = self.handle.replace(|bits| {
                    let mut elements = Elements::zeros(*scalar_type, range.len());
                    if !range.is_empty() {
                        elements.set(0, Scalar::from_bits(bits, *scalar_type));
                    }
                    let result = f(&mut elements).and_then(|result| {
                        self.check_elements(*scalar_type, range.len(), &elements)?;
                        Ok(result)
                    });
                    let new = result.is_ok().then(|| elements.get(0)).flatten();
                    outcome = Some(result);
                    new.map(Scalar::to_bits)
                })?;
                outcome.expect("the closure has run")
            }
            Kind::Array(scalar_type, _) => {
                let lock = self.handle.lock_for_update()?;
                let start = range.start * scalar_type.size();
                let mut elements = self.zeros(*scalar_type, range.len())?;
                self.handle.memory.read(
                    self.handle.memory.areas().of(lock.version()),
                    start,
                    elements.as_bytes_mut(),
                );
                let result = f(&mut elements)?;
                self.check_elements(*scalar_type, range.len(), &elements)?;
                self.handle.commit(lock, start, elements.as_bytes())?;
                Ok(result)
            }
            Kind::Buffer(stored, scalar_type, _) => {
                let lock = self.handle.lock_for_update()?;
                loop {
                    let mut before = self.zeros(*scalar_type, range.len())?;
                    stored.read(range.start * scalar_type.size(), before.as_bytes_mut());
                    let mut after = before.clone();
                    let result = f(&mut after)?;
                    self.check_elements(*scalar_type, range.len(), &after)?;
                    self.handle.check_lock(&lock)?;
                    if replace_elements(stored, range.start, &before, &after) {
                        self.handle.notify(lock)?;
                        return Ok(result);
                    }
                }
            }
            Kind::Counter(stripes) => {
                let lock = self.handle.lock_for_update()?;
                let old = stripes.sum();
                let mut elements = Elements::from(&[old][range.clone()]);
                let result = f(&mut elements)?;
                self.check_elements(ScalarType::I64, range.len(), &elements)?;
                let new = elements.get(0).and_then(Scalar::get).unwrap_or(old);
                stripes.replace(&self.handle, lock, old, new)?;
                Ok(result)
            }
            Kind::Text(..) | Kind::Bytes(..) => Err(self.no_elements().into()),
        }
    }

    fn commit(&self, at: usize, content: &[u8]) -> Result<()> {
        match &self.kind {
            Kind::Value(_) | Kind::Counter(_) => self.update_range(0..1, |elements| {
                let of = elements.scalar_type();
                let new = Elements::from_bytes(of, content[..of.size()].to_vec());
                *elements = new.expect("one element");
                Ok(())
            }),
            Kind::Buffer(stored, ..) => {
                let lock = self.handle.lock_for_update()?;
                self.handle.check_lock(&lock)?;
                stored.write(0, content);
                self.handle.notify(lock)?;
                Ok(())
            }
            Kind::Array(..) | Kind::Text(_) | Kind::Bytes(_) => {
                let lock = self.handle.lock_for_update()?;
                self.handle.commit(lock, at, content)?;
                Ok(())
            }
        }
    }

    pub(crate) fn positions(&self, range: impl RangeBounds<usize>) -> Result<Range<usize>> {
        let shape = match &self.kind {
            Kind::Value(..) | Kind::Counter(_) => Shape::from(1),
            Kind::Array(_, shape) | Kind::Buffer(_, _, shape) => *shape,
            Kind::Text(..) | Kind::Bytes(..) => return Err(self.no_elements()),
        };
        let (path, slot) = (self.path(), self.name().to_owned());
        positions(&range, shape.len()).map_err(|index| Error::Index { path, slot, index, shape })
    }

    /// Checks that a closure has left as many elements of the same type as it was given.
    pub(crate) fn check_elements(
        &self,
        of: ScalarType,
        expected: usize,
        left: &Elements,
    ) -> Result<()> {
        let found = left.len();
        if left.scalar_type() != of {
            let asked = SlotType::Array(left.scalar_type(), found.into());
            return Err(self.content_error(ContentError::Type { asked }));
        }
        if found != expected {
            return Err(self.content_error(ContentError::Length { expected, found }));
        }
        Ok(())
    }

    pub(crate) fn zeros(&self, of: ScalarType, len: usize) -> Result<Elements> {
        Elements::try_zeros(of, len).map_err(|none| self.handle.no_memory(none))
    }

    pub(crate) fn content_error(&self, content_error: ContentError) -> Error {
        Error::content_error(content_error, &self.path(), self.name(), self.slot_type())
    }

    pub(crate) fn no_elements(&self) -> Error {
        let what = format!("a {} has no elements: read or replace it as a whole", self.slot_type());
        Error::Invalid { path: self.path(), slot: Some(self.name().to_owned()), what }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.handle.attachment().path.clone()
    }
}

impl Sealed for Slot {
    fn target(&self) -> Target<'_> {
        Target(&self.handle)
    }
}

/// Stores the elements that differ. A single element is stored only if it has not changed
/// meanwhile; false if it has.
fn replace_elements(
    memory: &SlotElements,
    start: usize,
    before: &Elements,
    after: &Elements,
) -> bool {
    let mut changed = before.iter().zip(after.iter()).enumerate().map(|(i, (old, new))| {
        let (old, new) = (old.to_bits(), new.to_bits());
        // For a bool, any byte but 0 is true.
        let bits = |now| Scalar::from_bits(now, before.scalar_type()).to_bits();
        let still = |now| before.len() > 1 || bits(now) == old;
        old == new || memory.update(start + i, |now| still(now).then_some(new)).is_ok()
    });
    changed.all(|done| done)
}

pub(super) fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn one(elements: &Elements) -> Scalar {
    elements.get(0).expect("a value has one element")
}
