//! [`Text`] and [`Bytes`]: slots with a capacity and a current length.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::mapping::map::KeepsMapped;
use crate::mapping::new_memory::new_elements;
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Destination, Memory};
use crate::slots::guard::lock_methods;
use crate::slots::handle::{Handle, common_methods};
use crate::slots::wait::sealed::{Sealed, Target};
use crate::store::store::Store;
use crate::types::data::{Data, TEXT_LEN, text_content};
use crate::types::define::Define;
use crate::types::elements::NoMemory;
use crate::types::slot_type::SlotType;

/// A slot of UTF-8 text.
///
/// ```
/// let store = slotfile::Store::temporary()?;
/// let name = store.text("robot/name", 64)?;
/// name.store("Karel")?;
/// assert_eq!(name.load(), "Karel");
/// assert!(name.store(&"x".repeat(65)).is_err()); // never cut
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Text {
    pub(crate) handle: Handle,
    pub(crate) content: Content,
}

/// A slot of bytes.
///
/// ```
/// let store = slotfile::Store::temporary()?;
/// let blob = store.bytes("blob", 4096)?;
/// blob.store(&[1, 2, 3])?;
/// assert_eq!(blob.load(), [1, 2, 3]);
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bytes {
    pub(crate) handle: Handle,
    pub(crate) content: Content,
}

/// A length word and that many bytes, in an area for at most `capacity`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub(crate) capacity: usize,
}

impl Content {
    /// The bytes, as of one instant, and their version.
    pub(crate) fn load(&self, handle: &Handle) -> Result<(Vec<u8>, u64), NoMemory> {
        let (mut bytes, mut read) = (Vec::new(), Ok(()));
        let version = protocol::read(
            &handle.memory,
            handle.attachment(),
            handle.memory.areas(),
            |memory, area| read = self.read(memory, area, &mut bytes),
        );
        read.map(|()| (bytes, version))
    }

    /// The same, with the public error type.
    fn try_load(&self, handle: &Handle) -> Result<(Vec<u8>, u64)> {
        self.load(handle).map_err(|none| handle.no_memory(none))
    }

    /// One area's bytes, see [`Content::read`].
    pub(crate) fn copy(
        &self,
        memory: &SlotMemory<impl KeepsMapped>,
        area: usize,
    ) -> Result<Vec<u8>, NoMemory> {
        let mut bytes = Vec::new();
        self.read(memory, area, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies one area's bytes. The length may be torn or damaged: it is limited to the capacity,
    /// and a torn read is repeated.
    pub(crate) fn read(
        &self,
        memory: &SlotMemory<impl KeepsMapped>,
        area: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), NoMemory> {
        let len = self.len(memory, area);
        if out.capacity() < len {
            *out = new_elements(len, |new| new.fill(memory, area, TEXT_LEN))?.0;
            return Ok(());
        }
        out.resize(len, 0);
        memory.read(area, TEXT_LEN, out);
        Ok(())
    }

    fn len(&self, memory: &SlotMemory<impl KeepsMapped>, area: usize) -> usize {
        let mut len = [0; TEXT_LEN];
        memory.read(area, 0, &mut len);
        let len = usize::try_from(u64::from_le_bytes(len)).unwrap_or(usize::MAX);
        len.min(self.capacity)
    }

    /// At most the first `most` bytes, and how many there are in all.
    pub(crate) fn load_beginning(&self, handle: &Handle, most: usize) -> (Vec<u8>, usize) {
        let (mut bytes, mut all) = (Vec::new(), 0);
        protocol::read(
            &handle.memory,
            handle.attachment(),
            handle.memory.areas(),
            |memory, area| {
                all = self.len(memory, area);
                bytes.resize(all.min(most), 0);
                memory.read(area, TEXT_LEN, &mut bytes);
            },
        );
        (bytes, all)
    }

    /// The content of an area that holds these bytes.
    pub(crate) fn of_bytes(&self, handle: &Handle, bytes: &[u8]) -> Result<Vec<u8>> {
        text_content(bytes, self.capacity).map_err(|content_error| {
            let slot_type = &handle.descriptor().slot_type;
            Error::content_error(content_error, &handle.attachment().path, handle.name(), slot_type)
        })
    }

    /// An error unless these bytes fit.
    pub(crate) fn check(&self, handle: &Handle, bytes: &[u8]) -> Result<()> {
        match bytes.len() <= self.capacity {
            true => Ok(()),
            false => self.of_bytes(handle, bytes).map(drop),
        }
    }

    fn store(&self, handle: &Handle, bytes: &[u8]) -> Result<()> {
        let content = self.of_bytes(handle, bytes)?;
        let lock = handle.lock_for_update()?;
        handle.commit(lock, 0, &content)?;
        Ok(())
    }
}

impl Store {
    /// Opens the text of this name, or defines it, empty, for at most `capacity` bytes. An
    /// existing text may have a larger capacity.
    ///
    /// # Errors
    ///
    /// As [`value`](Store::value); [`Error::Type`](crate::Error::Type) also if its
    /// capacity is smaller.
    pub fn text(&self, name: &str, capacity: usize) -> Result<Text> {
        self.text_with(name, capacity, Define::new())
    }

    /// As [`text`](Store::text), with settings for a new slot.
    ///
    /// # Errors
    ///
    /// As [`text`](Store::text).
    pub fn text_with(&self, name: &str, capacity: usize, define: Define<Data>) -> Result<Text> {
        let (handle, content) = self.open_content(name, &SlotType::Text(capacity), define)?;
        Ok(Text { handle, content })
    }

    /// Opens the bytes of this name, or defines them, empty, for at most `capacity` bytes. An
    /// existing slot may have a larger capacity.
    ///
    /// # Errors
    ///
    /// As [`text`](Store::text).
    pub fn bytes(&self, name: &str, capacity: usize) -> Result<Bytes> {
        self.bytes_with(name, capacity, Define::new())
    }

    /// As [`bytes`](Store::bytes), with settings for a new slot.
    ///
    /// # Errors
    ///
    /// As [`text`](Store::text).
    pub fn bytes_with(&self, name: &str, capacity: usize, define: Define<Data>) -> Result<Bytes> {
        let (handle, content) = self.open_content(name, &SlotType::Bytes(capacity), define)?;
        Ok(Bytes { handle, content })
    }

    fn open_content(
        &self,
        name: &str,
        slot_type: &SlotType,
        define: Define<Data>,
    ) -> Result<(Handle, Content)> {
        let handle = self.open_slot(name, slot_type, define)?;
        let capacity = handle.content_len() - TEXT_LEN;
        Ok((handle, Content { capacity }))
    }
}

impl Text {
    common_methods!();
    lock_methods!();

    /// The most bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.content.capacity
    }

    /// Returns the text as of one instant. Never waits. Bytes that are not UTF-8, which only a
    /// damaged file has, are replaced by U+FFFD.
    pub fn load(&self) -> String {
        self.load_versioned().0
    }

    /// Returns the text and its version.
    pub fn load_versioned(&self) -> (String, u64) {
        let (bytes, version) = self.content.load(&self.handle).unwrap_or_else(|no| no.abort());
        (into_text(bytes), version)
    }

    /// As [`load_versioned`](Text::load_versioned), but an error if there is not enough memory.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn try_load_versioned(&self) -> Result<(String, u64)> {
        let (bytes, version) = self.content.try_load(&self.handle)?;
        Ok((into_text(bytes), version))
    }

    /// Waits until `condition` is true of the text, for at most `timeout` (`None`: for ever).
    /// Returns it, or `None` on time-out. `condition` is called at once, then after each
    /// change (once for several changes that come together).
    ///
    /// # Errors
    ///
    /// As [`wait_for_change`](Text::wait_for_change).
    pub fn wait_until(
        &self,
        mut condition: impl FnMut(&str) -> bool,
        timeout: Option<Duration>,
    ) -> Result<Option<String>> {
        let load = || self.try_load_versioned();
        self.handle.wait_until(timeout, load, |text| condition(text))
    }

    /// Replaces the text at once.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`](crate::Error::TooLong) if it is longer than the capacity; it is
    /// never cut. Else as [`Array::store`](crate::Array::store).
    pub fn store(&self, text: &str) -> Result<()> {
        self.content.store(&self.handle, text.as_bytes())
    }
}

impl Sealed for Text {
    fn target(&self) -> Target<'_> {
        Target(&self.handle)
    }
}

impl Sealed for Bytes {
    fn target(&self) -> Target<'_> {
        Target(&self.handle)
    }
}

/// The leading whole characters of a text.
pub(crate) fn beginning_of_text(mut bytes: Vec<u8>) -> String {
    if let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
    {
        bytes.truncate(error.valid_up_to());
    }
    into_text(bytes)
}

/// Lossy conversion, without a copy if nothing is lost.
pub(crate) fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

impl Bytes {
    common_methods!();
    lock_methods!();

    /// The most bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.content.capacity
    }

    /// Returns the bytes as of one instant. Never waits.
    pub fn load(&self) -> Vec<u8> {
        self.load_versioned().0
    }

    /// Returns the bytes and their version.
    pub fn load_versioned(&self) -> (Vec<u8>, u64) {
        self.content.load(&self.handle).unwrap_or_else(|no| no.abort())
    }

    /// As [`load_versioned`](Bytes::load_versioned), but an error if there is not enough memory.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn try_load_versioned(&self) -> Result<(Vec<u8>, u64)> {
        self.content.try_load(&self.handle)
    }

    /// Waits until `condition` is true of the bytes, for at most `timeout` (`None`: for ever).
    /// Returns them, or `None` on time-out. `condition` is called at once, then after each
    /// change (once for several changes that come together).
    ///
    /// # Errors
    ///
    /// As [`wait_for_change`](Bytes::wait_for_change).
    pub fn wait_until(
        &self,
        mut condition: impl FnMut(&[u8]) -> bool,
        timeout: Option<Duration>,
    ) -> Result<Option<Vec<u8>>> {
        let load = || self.try_load_versioned();
        self.handle.wait_until(timeout, load, |bytes| condition(bytes))
    }

    /// Replaces the bytes at once.
    ///
    /// # Errors
    ///
    /// As [`Text::store`].
    pub fn store(&self, bytes: &[u8]) -> Result<()> {
        self.content.store(&self.handle, bytes)
    }
}
