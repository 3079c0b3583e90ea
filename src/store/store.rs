//! [`Store`] and how it is opened.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::attachment::attach::Attachment;
use crate::durability::recovery::Recovery;
use crate::error::{Error, Result};
use crate::os::bus_error::{self, BusError};
use crate::os::location::Location;
use crate::protocol::Deadline;
use crate::store::create::{self, Creation};
use crate::store::open::{self, Request};
use crate::store::session::SharedSession;
use crate::types::detached::Detached;

/// An open store: one file of named, typed slots, shared by any number of processes.
///
/// Cheap to clone, and may be sent to and used from any thread. Slots are opened, or
/// defined, by [`value`](Store::value), [`array`](Store::array), [`text`](Store::text),
/// [`bytes`](Store::bytes) and [`buffer`](Store::buffer); their handles keep the store open. A handle that
/// crossed a fork just works; where the child may not open the file itself, as after `setuid`, it
/// reads and updates scalars, and what takes a lock, or syncs, is an error that says so. The same
/// holds where a program has closed the store's descriptor and its file is not where it was.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("state.slots");
/// use slotfile::Store;
/// let store = Store::open_or_create(&path)?;
/// let hits = store.value::<u64>("hits")?; // opens the slot, or defines it (zero)
/// hits.fetch_add(1)?;
/// drop((hits, store));
///
/// let store = Store::open(&path)?; // in another process, or after a restart
/// assert_eq!(store.value::<u64>("hits")?.load(), 1);
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    /// Whoever drops the last one leaves.
    pub(crate) session: SharedSession,
    pub(crate) settings: Settings,
    /// Where its file is to be found; `None`: it has no name, or that could not be told.
    pub(crate) location: Option<Arc<Location>>,
}

/// What each opener has for itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) define: bool,
    pub(crate) lock_timeout: Option<Duration>,
    pub(crate) sync_every: Option<Duration>,
}

/// How to open a store, as [`std::fs::OpenOptions`].
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("state.slots");
/// use slotfile::OpenOptions;
/// use std::time::Duration;
/// let store = OpenOptions::new()
///     .create(true)
///     .max_slots(1_000)
///     .lock_timeout(Some(Duration::from_millis(100)))
///     .open(&path)?;
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    read_only: bool,
    create: bool,
    create_new: bool,
    creation: Creation,
    settings: Settings,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions::new()
    }
}

impl OpenOptions {
    /// For reading and writing a store that is there.
    pub fn new() -> OpenOptions {
        OpenOptions {
            read_only: false,
            create: false,
            create_new: false,
            creation: Creation {
                max_slots: 65_536,
                max_size: 16 << 30,
                mode: 0o600,
                checkpoint: true,
                any_file_system: false,
                in_memory: false,
            },
            settings: Settings {
                define: true,
                lock_timeout: Some(Duration::from_secs(5)),
                sync_every: Some(Duration::from_secs(1)),
            },
        }
    }

    /// Only to read: whatever would change the store is [`Error::ReadOnly`]. Needs no
    /// permission to write the file.
    pub fn read_only(&mut self, yes: bool) -> &mut Self {
        self.read_only = yes;
        self
    }

    /// Creates the store if it is not there.
    pub fn create(&mut self, yes: bool) -> &mut Self {
        self.create = yes;
        self
    }

    /// Creates the store; [`Error::Exists`] if it is there already.
    pub fn create_new(&mut self, yes: bool) -> &mut Self {
        self.create_new = yes;
        self
    }

    /// Whether opening a slot that is not there defines it (the default). Otherwise it
    /// is [`Error::NotFound`], with the closest name in the message.
    pub fn define(&mut self, yes: bool) -> &mut Self {
        self.settings.define = yes;
        self
    }

    /// How long to wait for a lock before [`Error::LockTimeout`]: 5 seconds unless set;
    /// `None`: for ever. Bounds opening, too, where it starts anew for as long as another
    /// process gets on with a long restore, sync or compaction. Reads never wait.
    pub fn lock_timeout(&mut self, timeout: Option<Duration>) -> &mut Self {
        self.settings.lock_timeout = timeout;
        self
    }

    /// How often to sync in the background while something changes: every second unless
    /// set; `None`: never, nor when this opener leaves. One process at a time does it for
    /// all; the shortest period that any asked for counts, but none shorter than a
    /// millisecond. Nothing is written while nothing changes. [`Duration::MAX`]: only when this
    /// opener leaves, without a thread.
    ///
    /// A sync that fails is told by the next call that writes, [`Error::NotSynced`]; so is that no
    /// thread could be started to sync in, which later writes try again.
    pub fn sync_every(&mut self, period: Option<Duration>) -> &mut Self {
        self.settings.sync_every = period;
        self
    }

    /// How many slots the store can ever hold, removed ones included: 65,536 unless set.
    /// Counts when the store is created.
    pub fn max_slots(&mut self, slots: u64) -> &mut Self {
        self.creation.max_slots = slots;
        self
    }

    /// How many bytes the file can grow to: 16 GiB unless set. Each process that opens it
    /// reserves so many addresses, or a share of those that it has; disk is taken only as
    /// slots are defined. Counts when the store is created.
    pub fn max_size(&mut self, bytes: u64) -> &mut Self {
        self.creation.max_size = bytes;
        self
    }

    /// The permission bits of a new store, whatever the umask: 0600 unless set. Its owner must
    /// be able to read and write it.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.creation.mode = mode;
        self
    }

    /// Whether a new store keeps checkpoints, to survive power cuts (the default). It
    /// takes half the space without.
    pub fn checkpoint(&mut self, yes: bool) -> &mut Self {
        self.creation.checkpoint = yes;
        self
    }

    /// Whether to open it also on a file system that is known not to do: one of a network,
    /// or of FUSE. There, other machines or mounts may see other contents and other locks.
    pub fn any_file_system(&mut self, yes: bool) -> &mut Self {
        self.creation.any_file_system = yes;
        self
    }

    /// Opens the store.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Exists`], [`Error::PermissionDenied`];
    /// [`Error::NotAStore`], [`Error::Version`], [`Error::Truncated`] and
    /// [`Error::Corrupt`] for a file that cannot be one of ours; [`Error::LockTimeout`]
    /// if somebody kept the open lock; [`Error::NoSpace`] for a new store;
    /// [`Error::Invalid`] for options that do not go together.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        let creating = self.create || self.create_new;
        if self.read_only && creating {
            let what = "a store cannot be created read-only".into();
            return Err(Error::Invalid { path: path.to_owned(), slot: None, what });
        }
        let mode = self.creation.mode;
        if creating && (mode & 0o600 != 0o600 || mode > 0o777) {
            let what =
                format!("mode {mode:o}: take 600 to 777, which let its owner read and write");
            return Err(Error::Invalid { path: path.to_owned(), slot: None, what });
        }
        let (session, location) = open::open(Request {
            path,
            writable: !self.read_only,
            create: creating.then_some(self.creation),
            must_be_new: self.create_new,
            created: false,
            any_file_system: self.creation.any_file_system,
            timeout: self.settings.lock_timeout,
        })?;
        session.sync_every(self.settings.sync_every);
        let location = location.map(|location| session.note_location(location));
        Ok(Store { session, settings: self.settings, location })
    }

    /// A store in memory, without a name, as [`Store::temporary`], with these limits and
    /// settings. It keeps no checkpoints.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`]; [`Error::Invalid`] for options that do not go together.
    ///
    /// ```
    /// let store = slotfile::OpenOptions::new().max_slots(16).open_temporary()?;
    /// assert_eq!(store.info()?.max_slots, 16);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn open_temporary(&self) -> Result<Store> {
        if self.read_only {
            let (path, what) = ("(temporary)".into(), "a new store cannot be read-only".into());
            return Err(Error::Invalid { path, slot: None, what });
        }
        let creation = Creation { checkpoint: false, in_memory: true, ..self.creation };
        let session = create::temporary(creation)?;
        Ok(Store { session, settings: self.settings, location: None })
    }
}

/// The store's file, which children do not inherit. What is opened by the path
/// `/proc/self/fd/N` of it is the same store, also where it has no name: so a
/// [temporary](Store::temporary) one is shared with programs that are no forks.
///
/// To pass it on, open that path here, and pass that file. A descriptor of this very open
/// file, which has the locks of this process, would keep them after its end.
///
/// ```
/// use slotfile::Store;
/// use std::os::fd::{AsFd, AsRawFd};
/// let store = Store::temporary()?;
/// store.value::<i32>("x")?.store(5)?;
/// let path = format!("/proc/self/fd/{}", store.as_fd().as_raw_fd());
/// let to_pass_on = std::fs::File::options().read(true).write(true).open(path).unwrap();
/// # let again = Store::open(format!("/proc/self/fd/{}", to_pass_on.as_raw_fd()))?;
/// # assert_eq!(again.value::<i32>("x")?.load(), 5);
/// # Ok::<(), slotfile::Error>(())
/// ```
impl AsFd for Store {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.attachment().map.file().own().as_fd()
    }
}

impl Store {
    #[inline]
    pub(crate) fn attachment(&self) -> &Attachment {
        self.session.attachment()
    }

    /// The same store with another time-out for every wait for a lock, by this and by the
    /// handles that are opened through it, see [`OpenOptions::lock_timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    /// let store = slotfile::Store::temporary()?.with_lock_timeout(Some(Duration::ZERO));
    /// let hits = store.value::<u64>("hits")?; // its updates never wait
    /// let patient = hits.clone().with_lock_timeout(None); // its updates wait for ever
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Option<Duration>) -> Store {
        self.settings.lock_timeout = timeout;
        self
    }

    /// What it takes to open it again in the same way.
    pub(crate) fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.settings = self.settings;
        options.read_only = !self.attachment().writable;
        options
    }

    /// An error unless the store may be written.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.session.check_writable()
    }

    /// Makes all that was committed before this call survive a power cut. The state of all
    /// slots at one instant, not before this call, becomes the one that a power cut returns
    /// to. Waits for another sync that is under way. Writers go on; one that changes a slot
    /// again and again may wait for a moment.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::NoSpace`]: the last sync stays what a power cut returns to,
    /// and the next one writes all of it again. [`Error::LockTimeout`];
    /// [`Error::KeepsChanging`] if others change slots, or define them, faster than they can be
    /// copied; [`Error::Detached`] if it was synced, but those who open its path do not find it;
    /// [`Error::Invalid`] for a store without checkpoints; [`Error::ReadOnly`].
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let store = slotfile::Store::create(folder.path().join("state.slots"))?;
    /// store.value::<u64>("hits")?.fetch_add(1)?;
    /// store.sync()?; // now it survives a power cut
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn sync(&self) -> Result<()> {
        self.session.sync(&mut Deadline::new(self.settings.lock_timeout))?;
        self.check_attached()
    }

    /// Leaves the store, and says how that went: syncs as the last handle does that is dropped,
    /// by the default options, of whose sync nobody hears. While there are other handles, it is
    /// synced, and they go on. Without [`sync_every`](OpenOptions::sync_every) nothing is synced.
    ///
    /// # Errors
    ///
    /// As [`sync`](Store::sync), but for a store without checkpoints, or opened read-only.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let store = slotfile::Store::create(folder.path().join("state.slots"))?;
    /// store.value::<u64>("hits")?.fetch_add(1)?;
    /// store.close()?; // it survives a power cut
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn close(self) -> Result<()> {
        let attached = self.check_attached();
        let timeout = self.settings.lock_timeout;
        match Arc::try_unwrap(self.session) {
            Ok(last) => {
                let result = last.leave(timeout);
                last.leave_unsynced(); // it is done, or there was an error
                result?;
            }
            Err(shared) => shared.sync_if_it_is_to(&mut Deadline::new(timeout))?,
        }
        attached
    }

    /// Whether the file is not what its path leads to any more: it was deleted, moved or
    /// replaced, by `rm`, `mv`, an editor or a restored backup. This store goes on with the file
    /// that it has, but those who open the path do not find what is stored in it.
    /// [`Info::detached`](crate::Info::detached) says how.
    ///
    /// False also where it cannot be told, and for a [temporary](Store::temporary) store.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("state.slots");
    /// let store = slotfile::Store::create(&path)?;
    /// assert!(!store.is_detached());
    /// std::fs::remove_file(&path).unwrap();
    /// assert!(store.is_detached());
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn is_detached(&self) -> bool {
        self.detached().is_some()
    }

    /// How it is so.
    pub(crate) fn detached(&self) -> Option<Detached> {
        let attachment = self.attachment();
        match attachment.is_superseded() {
            true => Some(Detached::Compacted),
            false => self.location.as_ref()?.detached(attachment.map.file()),
        }
    }

    /// An error if it is.
    fn check_attached(&self) -> Result<()> {
        let Some(how) = self.detached() else { return Ok(()) };
        Err(Error::Detached { path: self.path().to_owned(), how })
    }

    /// Syncs what has changed, and ends this process's background thread, which the next
    /// write starts again. For programs that fork, and mind to do so with a second thread.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let store = slotfile::Store::create(folder.path().join("state.slots"))?;
    /// let hits = store.value::<u64>("hits")?;
    /// hits.fetch_add(1)?;
    /// store.pause_syncing(); // here is the place to fork
    /// hits.fetch_add(1)?; // from here on, it is synced every second again
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn pause_syncing(&self) {
        self.session.pause();
    }

    /// What opening the store found and did (when this process first opened it).
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("state.slots");
    /// use slotfile::{Recovery, Store};
    /// assert_eq!(Store::create(&path)?.recovery(), Recovery::Created);
    /// assert_eq!(Store::open(&path)?.recovery(), Recovery::Resumed);
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn recovery(&self) -> Recovery {
        self.session.recovery
    }

    /// Opens a store that is there. See [`OpenOptions::open`] for the errors.
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        OpenOptions::new().open(path)
    }

    /// Opens a store that is there, only to read.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Store> {
        OpenOptions::new().read_only(true).open(path)
    }

    /// Opens a store, and creates it if it is not there.
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Store> {
        OpenOptions::new().create(true).open(path)
    }

    /// Creates a store; [`Error::Exists`] if it is there already.
    pub fn create(path: impl AsRef<Path>) -> Result<Store> {
        OpenOptions::new().create_new(true).open(path)
    }

    /// A store in memory, without a name, for tests: it is gone with its last handle, in
    /// this process and the children it forks.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// store.value::<i32>("x")?.store(5)?;
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn temporary() -> Result<Store> {
        OpenOptions::new().open_temporary()
    }

    /// Where the store is, as it was opened (first, by this process).
    pub fn path(&self) -> &Path {
        &self.attachment().path
    }
}

/// Has this process, where it would be killed by SIGBUS, write a line to standard error and
/// exit with `code`. That happens when somebody truncates a file that is open, when the disk
/// cannot read a part of it, or has no room for what is written. `line` makes the line, its end
/// included, for each of these; it is called beforehand. For programs of their own, as
/// command-line tools; only the first call counts.
///
/// # Errors
///
/// [`Error::Io`] if the system does not let a handler be set.
pub fn exit_on_bus_error(line: impl Fn(BusError) -> String, code: i32) -> Result<()> {
    let cannot = |e| Error::io(Path::new("(any file)"), "cannot handle SIGBUS", e);
    bus_error::exit_with(line, code).map_err(cannot)
}
