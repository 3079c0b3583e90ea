//! What all handles share: a slot's memory, its descriptor, its store.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::time::Duration;

use crate::attachment::attach::{Attachment, Failure, Number};
use crate::directory::allocator::Definition;
use crate::directory::{self, Found};
use crate::error::{Error, Result};
use crate::format::layout::{Descriptor, MOST_TEXT, name_problem};
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Deadline, Held, RawLock};
use crate::store::session::{Session, SharedSession};
use crate::store::store::Store;
use crate::types::define::Define;
use crate::types::elements::NoMemory;
use crate::types::scalar_type::ScalarType;
use crate::types::slot_type::SlotType;

/// One slot's memory. It keeps the session, which keeps all else, so a handle has a single
/// reference count.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) memory: SlotMemory<SharedSession>,
    /// The descriptor's first line in the directory.
    pub(crate) line: u32,
    lock_timeout: Option<Duration>,
}

impl Store {
    /// Opens the slot, which must be of this type, or defines it.
    pub(crate) fn open_slot(
        &self,
        name: &str,
        slot_type: &SlotType,
        define: Define<impl Sized>,
    ) -> Result<Handle> {
        let (found, new) = match directory::find(self.attachment(), name)? {
            Some(found) => (found, false),
            None => self.define_slot(name, slot_type, &define)?,
        };
        if !new && define.create_new {
            let (path, slot) = (self.path().to_owned(), Some(name.to_owned()));
            return Err(Error::Exists { path, slot, found: None });
        }
        if !found.entry.opens_as(slot_type) {
            return Err(self.other_type(slot_type, found.entry.descriptor()));
        }
        Ok(self.handle(found))
    }

    /// The value of this name, if it exists with this type; for values that are opened repeatedly.
    pub(crate) fn find_value(&self, name: &str, of: ScalarType) -> Option<Handle> {
        let found = directory::find(self.attachment(), name).ok()??;
        let is_of = found.entry.opens_as(&SlotType::Value(of));
        is_of.then(|| self.handle(found))
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
        if !slot_type.is_valid() {
            return Err(invalid(format!(
                "a slot cannot have the type {slot_type}: a dimension or capacity is 0, or \
                 it is larger than 32 GiB"
            )));
        }
        if !self.settings.define {
            return Err(self.not_found(name));
        }
        if !matches!(define.areas, 2 | 4 | 8) {
            return Err(invalid(format!(
                "{} areas were asked for; a slot has 2, 4 or 8",
                define.areas
            )));
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
            line: found.line,
            lock_timeout: self.settings.lock_timeout,
        }
    }

    pub(crate) fn not_found(&self, name: &str) -> Error {
        let (path, slot) = (self.path().to_owned(), Some(name.to_owned()));
        Error::NotFound { path, slot, link: None }
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

impl Handle {
    #[inline]
    pub(crate) fn session(&self) -> &Session {
        self.memory.region().keeper()
    }

    #[inline]
    pub(crate) fn attachment(&self) -> &Attachment {
        self.session().attachment()
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        self.attachment().known.descriptor(self.line)
    }

    pub(crate) fn name(&self) -> &str {
        &self.descriptor().name
    }

    /// The slot's offset in the file, which identifies it within its store.
    #[inline]
    pub(crate) fn place(&self) -> u64 {
        self.memory.region().offset()
    }

    /// See [`Session::begin_write`].
    #[inline]
    pub(crate) fn begin_write(&self) -> Result<()> {
        self.session().begin_write()
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::new(self.lock_timeout)
    }

    pub(crate) fn set_lock_timeout(&mut self, timeout: Option<Duration>) {
        self.lock_timeout = timeout;
    }

    pub(crate) fn explain(&self, failure: Failure, deadline: &Deadline) -> Error {
        self.attachment().lock_error(self.name(), failure, deadline)
    }

    #[cold]
    pub(crate) fn no_memory(&self, none: NoMemory) -> Error {
        let (path, slot) = (self.attachment().path.clone(), self.name().to_owned());
        Error::OutOfMemory { path, slot, need: none.need }
    }

    /// The slot's effective version, see [`protocol`].
    pub(crate) fn version(&self) -> u64 {
        protocol::effective_version(&self.memory, self.attachment())
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.memory.is_removed()
    }

    /// Whether this thread has the slot locked through a guard, outside of an update.
    pub(crate) fn is_guarded(&self) -> bool {
        self.attachment().is_guarded(self.place())
    }

    /// Locks the slot for one update: waits for the lock, or continues under this thread's own
    /// guard.
    #[inline]
    pub(crate) fn lock_for_update(&self) -> Result<UpdateLock<'_>> {
        self.begin_write()?;
        let mut deadline = self.deadline();
        match protocol::lock(&self.memory, self.attachment(), self.memory.form(), &mut deadline) {
            Ok(held) => Ok(UpdateLock { held, busy: None }),
            Err(failure) => self.lock_under_guard(failure, &deadline),
        }
    }

    #[cold]
    fn lock_under_guard(&self, failure: Failure, deadline: &Deadline) -> Result<UpdateLock<'_>> {
        let busy = match failure {
            Failure::Deadlock => Busy::begin(self.attachment(), self.place()),
            _ => None,
        };
        let Some(busy) = busy else { return Err(self.explain(failure, deadline)) };
        let held = Held::nested(&self.memory, self.attachment());
        let held = held.map_err(|failure| self.explain(failure, deadline))?;
        Ok(UpdateLock { held, busy: Some(busy) })
    }

    /// Replaces `data.len()` bytes from byte `at` of the content, under its lock.
    #[inline]
    pub(crate) fn commit(&self, lock: UpdateLock<'_>, at: usize, data: &[u8]) -> Result<u64> {
        self.finish(lock, |held| held.commit(self.memory.areas(), at, data))
    }

    /// Increases the version of a buffer, whose content is not committed, under the lock.
    pub(crate) fn notify(&self, lock: UpdateLock<'_>) -> Result<u64> {
        self.finish(lock, Held::notify)
    }

    #[inline]
    fn finish<'a>(
        &self,
        lock: UpdateLock<'a>,
        commit: impl FnOnce(Held<'a, SlotMemory<SharedSession>, Attachment>) -> Result<u64, Failure>,
    ) -> Result<u64> {
        let UpdateLock { held, busy } = lock;
        if busy.as_ref().is_some_and(|busy| !busy.is_still_guarded()) {
            // The guard was dropped inside the update, which released the lock.
            return Err(self.not_committed(Failure::Evicted));
        }
        commit(held).map_err(|failure| self.not_committed(failure))
    }

    #[cold]
    fn not_committed(&self, failure: Failure) -> Error {
        self.explain(failure, &self.deadline())
    }

    /// The error for a slot that was removed.
    pub(crate) fn removed(&self) -> Error {
        self.explain(Failure::Removed, &self.deadline())
    }

    /// The update lock of this slot that `raw` came from.
    pub(crate) fn resume_update(&self, raw: RawUpdate) -> UpdateLock<'_> {
        let attachment = self.attachment();
        let slot = self.place();
        let busy = raw.busy.map(|number| Busy { attachment, slot, number });
        UpdateLock { held: raw.held.resume(&self.memory, attachment), busy }
    }

    /// The same, to store under it: an error if the lock is no longer held. (When a thread ends,
    /// its entry may be gone before its update is.)
    pub(crate) fn resume_held_update(&self, raw: RawUpdate) -> Result<UpdateLock<'_>> {
        let is_held = raw.held.is_held(&self.memory, self.attachment());
        let lock = self.resume_update(raw);
        if is_held { Ok(lock) } else { Err(self.not_committed(Failure::Evicted)) }
    }

    fn remove(&self) -> Result<()> {
        let mut deadline = self.deadline();
        protocol::lock(&self.memory, self.attachment(), self.memory.form(), &mut deadline)
            .and_then(|held| protocol::remove(held, self.memory.form()))
            .map_err(|failure| self.explain(failure, &deadline))
    }
}

/// A slot's lock for the duration of one update.
pub(crate) struct UpdateLock<'a> {
    held: Held<'a, SlotMemory<SharedSession>, Attachment>,
    busy: Option<Busy<'a>>,
}

impl UpdateLock<'_> {
    /// The version of the current area, while the lock is held.
    pub(crate) fn version(&self) -> u64 {
        self.held.version()
    }

    /// The lock without its references, see [`Handle::resume_update`].
    pub(crate) fn into_raw(self) -> RawUpdate {
        let held = self.held.into_raw();
        let busy = self.busy.map(|busy| {
            let number = busy.number;
            std::mem::forget(busy);
            number
        });
        RawUpdate { held, busy }
    }
}

/// An [`UpdateLock`] without its references.
#[derive(Debug)]
pub(crate) struct RawUpdate {
    held: RawLock,
    busy: Option<Number>,
}

impl RawUpdate {
    pub(crate) fn version(&self) -> u64 {
        self.held.version()
    }
}

/// Marks an update under this thread's own guard while it exists.
struct Busy<'a> {
    attachment: &'a Attachment,
    slot: u64,
    number: Number,
}

impl Busy<'_> {
    /// `None` if the thread has no guard, or is already in an update under it.
    fn begin(attachment: &Attachment, slot: u64) -> Option<Busy<'_>> {
        let number = attachment.begin_under_guard(slot)?;
        Some(Busy { attachment, slot, number })
    }

    /// Whether the guard from the beginning still exists. A guard taken again meanwhile does not
    /// know of this update.
    fn is_still_guarded(&self) -> bool {
        self.attachment.is_under_guard(self.slot, self.number)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.attachment.end_under_guard(self.slot, self.number);
    }
}

thread_local! {
    /// The scalars that this thread is in the middle of updating. A second update inside would
    /// make the outer one lose for ever. (Never dropped: other thread-locals may still update when
    /// they are dropped later. The end of the last but one update frees the memory.)
    static UPDATING: RefCell<ManuallyDrop<Vec<SlotIdentity>>> =
        const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    /// The outermost of them; most updates have no other.
    static OUTERMOST: Cell<SlotIdentity> = const { Cell::new((0, 0)) };
    /// How many there are: most updates look at nothing else.
    static UPDATES: Cell<usize> = const { Cell::new(0) };
}

/// The session's address and the slot's offset.
type SlotIdentity = (usize, u64);

/// Marks an update of a scalar by a user's closure while it exists.
pub(crate) struct Updating;

impl Drop for Updating {
    fn drop(&mut self) {
        let left = UPDATES.get() - 1;
        UPDATES.set(left);
        if left > 0 {
            UPDATING.with_borrow_mut(|inner| {
                inner.pop();
                if inner.is_empty() {
                    **inner = Vec::new();
                }
            });
        }
    }
}

fn identity(session: &Session, place: u64) -> SlotIdentity {
    (std::ptr::from_ref(session).addr(), place)
}

/// Whether this thread is inside an update of the value at this place.
#[inline]
pub(crate) fn is_updating(session: &Session, place: u64) -> bool {
    UPDATES.get() > 0 && {
        let this = identity(session, place);
        OUTERMOST.get() == this || UPDATING.with_borrow(|inner| inner.contains(&this))
    }
}

/// Operations on a value.
impl Handle {
    /// Replaces the value, see [`protocol::update_scalar`]. `f` is not the user's, or runs
    /// inside [`Handle::begin_update`].
    #[inline]
    pub(crate) fn replace(
        &self,
        mut f: impl FnMut(u64) -> Option<u64>,
    ) -> Result<std::result::Result<u64, u64>> {
        self.begin_write()?;
        match protocol::update_scalar(&self.memory, &mut f) {
            Some(result) => Ok(result),
            None => self.replace_locked(f),
        }
    }

    /// The same, when somebody holds the slot's lock.
    #[cold]
    #[inline(never)]
    fn replace_locked(
        &self,
        f: impl FnMut(u64) -> Option<u64>,
    ) -> Result<std::result::Result<u64, u64>> {
        let mut deadline = self.deadline();
        let guarded = || self.is_guarded();
        protocol::update_locked(&self.memory, self.attachment(), &mut deadline, guarded, f)
            .map_err(|failure| self.explain(failure, &deadline))
    }

    /// An error if this thread is inside an update of this value.
    #[inline]
    pub(crate) fn check_not_updating(&self) -> Result<()> {
        match UPDATES.get() > 0 && is_updating(self.session(), self.place()) {
            false => Ok(()),
            true => Err(self.explain(Failure::Deadlock, &self.deadline())),
        }
    }

    /// Begins an update by a user's closure.
    pub(crate) fn begin_update(&self) -> Result<Updating> {
        self.check_not_updating()?;
        let this = identity(self.session(), self.place());
        match UPDATES.get() {
            0 => OUTERMOST.set(this),
            _ => UPDATING.with_borrow_mut(|inner| inner.push(this)),
        }
        UPDATES.set(UPDATES.get() + 1);
        Ok(Updating)
    }
}

/// The methods that every kind of handle has.
macro_rules! common_methods {
    () => {
        /// The slot's name.
        pub fn name(&self) -> &str {
            self.handle.name()
        }

        /// A counter that grows with every update of the slot, modulo 2^47. (It also grows
        /// when the lock of a dead process is recovered.)
        pub fn version(&self) -> u64 {
            self.handle.version()
        }

        /// Whether the slot was removed. `load` still returns its last value.
        pub fn is_removed(&self) -> bool {
            self.handle.is_removed()
        }

        /// Waits until the slot's version differs from `seen`, for at most `timeout` (`None`:
        /// for ever). Returns the new version, or `None` on time-out.
        ///
        /// `seen` is the last version that the caller knows, from an earlier call or from
        /// `load_versioned`. So no change is missed: if one came before the call, it returns
        /// at once. Of several changes only the last may be seen. Spins for a moment, then
        /// sleeps until a change in any process wakes it. On a store opened read-only it polls,
        /// at first every millisecond, in the end every 50 ms.
        ///
        /// # Errors
        ///
        /// [`Error::Removed`](crate::Error::Removed) if the slot is, or becomes, removed;
        /// [`Error::Deadlock`](crate::Error::Deadlock) if this thread's own lock
        /// keeps others from changing the slot;
        /// [`Error::Detached`](crate::Error::Detached) if the store's file was deleted, moved or
        /// replaced, so that others' changes go to another file. This is checked after each second
        /// without a change.
        pub fn wait_for_change(
            &self,
            seen: u64,
            timeout: Option<std::time::Duration>,
        ) -> crate::error::Result<Option<u64>> {
            self.handle.wait_for_change(seen, timeout)
        }
    };
}
pub(crate) use common_methods;
