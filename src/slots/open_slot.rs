//! Opening and defining a slot by its name, and removing it.

use crate::attachment::descriptors;
use crate::directory::allocator::Definition;
use crate::directory::{self, Found};
use crate::error::{Error, Result};
use crate::format::descriptor::{Descriptor, MOST_TEXT, VALUE_LEN, name_problem};
use crate::mapping::map::Region;
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{Deadline, Form};
use crate::slots::handle::Handle;
use crate::store::session::SharedSession;
use crate::store::store::Store;
use crate::types::define::Define;
use crate::types::scalar_type::ScalarType;
use crate::types::slot_type::SlotType;

impl Store {
    /// Opens the slot, which must be of this type, or defines it.
    pub(crate) fn open_slot(
        &self,
        name: &str,
        slot_type: &SlotType,
        define: Define<impl Sized>,
    ) -> Result<Handle> {
        let attachment = self.attachment();
        let found = match self.settings.define && attachment.writable {
            true => directory::find_listed(attachment, name)?,
            false => directory::find(attachment, name)?,
        };
        let (found, new) = match found {
            Some(found) => (found, false),
            None => self.define_slot(name, slot_type, &define)?,
        };
        if !new && define.create_new {
            let (path, slot) = (self.path().to_owned(), Some(name.to_owned()));
            return Err(Error::Exists { path, slot, found: None });
        }
        if !descriptors::opens_as(self.attachment(), found.entry, slot_type)? {
            return Err(self
                .other_type(slot_type, &descriptors::at(self.attachment(), found.entry.line())?));
        }
        Ok(self.handle(found))
    }

    /// The value of this name and type, if this process has found it before. `None` also if anything
    /// is wrong: [`open_slot`](Store::open_slot) says what.
    pub(crate) fn find_value(&self, name: &str, of: ScalarType) -> Option<Handle> {
        let entry = directory::find_again(self.attachment(), name)?;
        if !entry.is_value_of(of) {
            return None;
        }
        let session = SharedSession::clone(&self.session);
        let region = Region::of(session, entry.live(), VALUE_LEN).ok()?;
        let memory = SlotMemory::new(region, Form::Scalar);
        let lock_timeout = self.settings.lock_timeout;
        (!memory.is_removed()).then(|| Handle { memory, line: entry.line(), lock_timeout })
    }

    #[cold]
    fn other_type(&self, asked: &SlotType, found: &Descriptor) -> Error {
        Error::Type {
            path: self.path().to_owned(),
            slot: found.name.clone(),
            asked: asked.clone().into(),
            found: found.slot_type.clone().into(),
        }
    }

    /// Defines the slot, unless somebody else has just done it. Also returns whether it is new.
    #[cold]
    fn define_slot(
        &self,
        name: &str,
        slot_type: &SlotType,
        define: &Define<impl Sized>,
    ) -> Result<(Found<'_>, bool)> {
        let attachment = self.attachment();
        if let Some(why) = name_problem(name) {
            let (path, name) = (attachment.path.clone(), name.to_owned());
            return Err(Error::BadName { path, name, why });
        }
        let invalid = |what: String| Error::Invalid {
            path: attachment.path.clone(),
            slot: Some(name.to_owned()),
            what,
        };
        if let Some(why) = slot_type.why_not() {
            return Err(invalid(format!("it cannot be {slot_type}: {why}")));
        }
        if !self.settings.define {
            return Err(self.not_found(name));
        }
        if *slot_type == SlotType::Counter && attachment.header.minor == 0 {
            return Err(invalid(
                "a counter needs a store of format 1.1, and this one is of format 1.0; \
                 `slotfile compact` makes it one of this build's format"
                    .into(),
            ));
        }
        if !matches!(define.areas, 2 | 4 | 8) {
            return Err(invalid(format!("{} areas; a slot has 2, 4 or 8", define.areas)));
        }
        let texts = name.len() + define.doc.len() + define.unit.len();
        if texts > MOST_TEXT {
            return Err(invalid(format!(
                "its name, doc and unit are {texts} bytes, and there is room for {MOST_TEXT}; \
                 shorten the doc"
            )));
        }
        if define.unit.chars().any(char::is_control) {
            return Err(invalid("its unit of measure has a control character".into()));
        }
        let initial =
            define.initial.as_ref().map(|data| data.to_content(slot_type)).transpose().map_err(
                |content_error| {
                    Error::content_error(content_error, &attachment.path, name, slot_type)
                },
            )?;
        let definition = Definition {
            name,
            doc: &define.doc,
            unit: &define.unit,
            slot_type,
            areas: define.areas as u8,
            initial: initial.as_deref(),
        };
        let mut deadline = Deadline::new(self.settings.lock_timeout);
        directory::define(attachment, &mut deadline, &definition)
    }

    /// A handle for a slot that was found.
    #[inline]
    pub(crate) fn handle(&self, found: Found<'_>) -> Handle {
        Handle {
            memory: found.memory.kept_by(SharedSession::clone(&self.session)),
            line: found.entry.line(),
            lock_timeout: self.settings.lock_timeout,
        }
    }

    pub(crate) fn not_found(&self, name: &str) -> Error {
        let (path, slot) = (self.path().to_owned(), Some(name.to_owned()));
        Error::NotFound { path, slot, link: None, folder: None }
    }

    /// Removes the slot. Its name is free at once, and may be defined again with any
    /// type. Through old handles, `load` returns the last value; updates and locks fail
    /// with [`Error::Removed`].
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::LockTimeout`], [`Error::ReadOnly`], and
    /// [`Error::Deadlock`] if this thread has it locked.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// let x = store.value::<i32>("x")?;
    /// store.remove("x")?;
    /// assert!(x.is_removed());
    /// store.array::<f64>("x", 3)?; // the name is free
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn remove(&self, name: &str) -> Result<()> {
        self.begin_write()?;
        let found = directory::find(self.attachment(), name)?;
        match self.handle(found.ok_or_else(|| self.not_found(name))?).remove() {
            // Somebody else was first.
            Err(Error::Removed { .. }) => Err(self.not_found(name)),
            result => result,
        }
    }
}
