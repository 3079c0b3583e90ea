//! [`Store`] and how it is opened.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::attachment::attach::Attachment;
use crate::durability::recovery::Recovery;
use crate::error::{Error, Result};
use crate::mutant::planted;
use crate::os::bus_error::{self, BusError};
use crate::os::location::Location;
use crate::protocol::Deadline;
use crate::store::create::{self, Creation};
use crate::store::open::{self, Request};
use crate::store::session::SharedSession;
use crate::types::detached::Detached;

/// An open store: one file of named, typed slots, shared by any number of processes.
///
/// Cheap to clone, and usable from any thread. Slots are opened, or
/// defined, by [`value`](Store::value), [`array`](Store::array), [`text`](Store::text),
/// [`bytes`](Store::bytes) and [`buffer`](Store::buffer); their handles keep the store open.
///
/// A handle works after a fork, too. If the child may not open the file itself, as after `setuid`,
/// it can read everything and update scalars; taking a lock, or syncing, is an error that says so.
/// The same holds if a program has closed the store's descriptor and its file has moved.
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
    /// Dropping the last one leaves the store.
    pub(crate) session: SharedSession,
    pub(crate) settings: Settings,
    /// The location of its file; `None`: it has no name, or the location could not be found.
    pub(crate) location: Option<Arc<Location>>,
}

/// The settings of one opener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) define: bool,
    pub(crate) lock_timeout: Option<Duration>,
    pub(crate) sync_every: Option<Duration>,
}

/// How to open a store, in the style of [`std::fs::OpenOptions`].
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
    /// For reading and writing an existing store.
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

    /// Opens it only for reading: any change is [`Error::ReadOnly`]. Needs no permission to write
    /// the file.
    pub fn read_only(&mut self, yes: bool) -> &mut Self {
        self.read_only = yes;
        self
    }

    /// Creates the store if it does not exist.
    pub fn create(&mut self, yes: bool) -> &mut Self {
        self.create = yes;
        self
    }

    /// Creates the store; [`Error::Exists`] if it exists already.
    pub fn create_new(&mut self, yes: bool) -> &mut Self {
        self.create_new = yes;
        self
    }

    /// Whether opening a slot that does not exist defines it (the default). Otherwise it
    /// is [`Error::NotFound`].
    pub fn define(&mut self, yes: bool) -> &mut Self {
        self.settings.define = yes;
        self
    }

    /// How long to wait for a lock before [`Error::LockTimeout`]: 5 seconds unless set;
    /// `None`: for ever. Also limits opening; there, the time starts again whenever another process
    /// makes progress with a long restore, sync or compaction. Reads never wait.
    pub fn lock_timeout(&mut self, timeout: Option<Duration>) -> &mut Self {
        self.settings.lock_timeout = timeout;
        self
    }

    /// How often to sync in the background while something changes: every second unless
    /// set. `None`: never, not even when this opener leaves. [`Duration::MAX`]: only when this
    /// opener leaves, without a thread. One process at a time syncs for all. The shortest period
    /// that any opener asked for counts, but at least a millisecond. Nothing is written while
    /// nothing changes.
    ///
    /// If a sync fails, the next call that writes returns [`Error::NotSynced`]. So it does if no
    /// thread could be started to sync in; later writes try again.
    pub fn sync_every(&mut self, period: Option<Duration>) -> &mut Self {
        self.settings.sync_every = period;
        self
    }

    /// How many slots the store can ever hold, removed ones included: 65,536 unless set.
    /// Used only when the store is created.
    pub fn max_slots(&mut self, slots: u64) -> &mut Self {
        self.creation.max_slots = slots;
        self
    }

    /// How many bytes the file can grow to: 16 GiB unless set. Each process that opens it
    /// reserves this much address space, or as large a share of its own as it can. Disk is used
    /// only as slots are defined. Used only when the store is created.
    pub fn max_size(&mut self, bytes: u64) -> &mut Self {
        self.creation.max_size = bytes;
        self
    }

    /// The permission bits of a new store, whatever the umask: 0600 unless set. They must let its
    /// owner read and write it.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.creation.mode = mode;
        self
    }

    /// Whether a new store keeps checkpoints, to survive power cuts (the default). Without them
    /// it takes half the space.
    pub fn checkpoint(&mut self, yes: bool) -> &mut Self {
        self.creation.checkpoint = yes;
        self
    }

    /// Also opens on file systems that are known not to work: network file systems and FUSE.
    /// There, other machines or mounts may see different contents and locks.
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
    /// [`Error::Corrupt`] for a file that is not a usable store; [`Error::LockTimeout`]
    /// if somebody kept the open lock; [`Error::NoSpace`] for a new store;
    /// [`Error::Invalid`] for options that contradict each other.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        let creating = self.create || self.create_new;
        if self.read_only && creating {
            let what = "a store cannot be created read-only".into();
            return Err(Error::Invalid { path: path.to_owned(), slot: None, what });
        }
        let mode = self.creation.mode;
        if creating && (mode & 0o600 != 0o600 || mode > 0o777) {
            let what = format!("mode {mode:o}: use 600 to 777, which let its owner read and write");
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

    /// Creates a store in memory, without a name, as [`Store::temporary`] does, with these limits
    /// and settings. It keeps no checkpoints.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`]; [`Error::Invalid`] for options that contradict each other.
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

/// The descriptor of the store's file, which children do not inherit. Opening its path
/// `/proc/self/fd/N` opens the same store, even one without a name. So a
/// [temporary](Store::temporary) store can be shared with programs other than forks.
///
/// To pass it on, open that path here, and pass the new file. Do not pass a duplicate of this
/// descriptor: it carries this process's locks, and would keep them after the process has ended.
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
    /// Opens an existing store, for reading and writing.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        OpenOptions::new().open(path)
    }

    /// Opens an existing store for reading only.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Store> {
        OpenOptions::new().read_only(true).open(path)
    }

    /// Opens a store, or creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Store> {
        OpenOptions::new().create(true).open(path)
    }

    /// Creates a store.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if it exists already; else as [`OpenOptions::open`].
    pub fn create(path: impl AsRef<Path>) -> Result<Store> {
        OpenOptions::new().create_new(true).open(path)
    }

    /// Creates a store in memory, without a name, for tests. It is gone with its last handle in
    /// this process and the children that it forks.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// store.value::<i32>("x")?.store(5)?;
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn temporary() -> Result<Store> {
        OpenOptions::new().open_temporary()
    }

    #[inline]
    pub(crate) fn attachment(&self) -> &Attachment {
        self.session.attachment()
    }

    /// The same store with another lock time-out, for itself and for the handles opened through
    /// it, see [`OpenOptions::lock_timeout`].
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

    /// Options that open it again in the same way.
    pub(crate) fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.settings = self.settings;
        options.read_only = !self.attachment().writable;
        options
    }

    /// See [`Session::begin_write`](crate::store::session::Session::begin_write).
    pub(crate) fn begin_write(&self) -> Result<()> {
        self.session.begin_write()
    }

    /// Makes all that was committed before this call survive a power cut. A power cut then returns
    /// the state of all slots at one instant during this call. Calls of several threads and
    /// processes share one flush: a call that comes while a sync is under way waits for its end,
    /// and for the next one, which serves all that have come. Writers go on; one that changes a
    /// slot again and again may wait for a moment.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::NoSpace`]: a power cut still returns the last sync,
    /// and the next sync writes everything again. [`Error::Corrupt`] if the file is damaged. Such
    /// an error of the file reaches all callers that share the sync. [`Error::LockTimeout`];
    /// [`Error::KeepsChanging`] if others change or define slots faster than they can be
    /// copied; [`Error::Detached`] if it was synced, but its path no longer leads to it;
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

    /// Leaves the store, and reports errors of the last sync. Dropping the last handle syncs too,
    /// but cannot report an error. If there are other handles, the store is synced and they stay
    /// usable. If [`sync_every`](OpenOptions::sync_every) is `None`, nothing is synced.
    ///
    /// # Errors
    ///
    /// As [`sync`](Store::sync), except that a store without checkpoints, or opened read-only, is
    /// not an error.
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
                if !planted!(AFailedCloseIsNotReported) {
                    result?;
                }
            }
            Err(shared) => shared.sync_if_it_is_to(timeout)?,
        }
        attached
    }

    /// Whether the store's path no longer leads to its file: the file was deleted, moved or
    /// replaced, by `rm`, `mv`, an editor or a restored backup. This store keeps using its file,
    /// but processes that open the path do not see what is stored in it.
    /// [`Info::detached`](crate::Info::detached) says how it happened.
    ///
    /// False if that cannot be found out, and for a [temporary](Store::temporary) store.
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

    /// How its path no longer leads to its file; `None` if it does, or if that is unknown.
    pub(crate) fn detached(&self) -> Option<Detached> {
        let attachment = self.attachment();
        match attachment.is_superseded() {
            true => Some(Detached::Compacted),
            false => self.location.as_ref()?.detached(attachment.map.file()),
        }
    }

    /// An error if it is detached.
    pub(crate) fn check_attached(&self) -> Result<()> {
        let Some(how) = self.detached() else { return Ok(()) };
        Err(Error::Detached { path: self.path().to_owned(), how })
    }

    /// Syncs what has changed, and ends this process's background thread; the next write starts it
    /// again. For programs that must not have a second thread when they fork.
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

    /// Starts the background thread again that the last [`pause_syncing`](Store::pause_syncing) has
    /// ended, without waiting for this process to write: others may write, whose changes it syncs. For
    /// the parent, after a fork. Does nothing if no thread was ended.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let store = slotfile::Store::create(folder.path().join("state.slots"))?;
    /// store.value::<u64>("hits")?.store(1)?;
    /// store.pause_syncing(); // here is the place to fork
    /// store.resume_syncing(); // in the parent
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn resume_syncing(&self) {
        self.session.resume();
    }

    /// What opening the store found and did, when this process first opened it.
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

    /// The path by which this process first opened the store.
    pub fn path(&self) -> &Path {
        &self.attachment().path
    }
}

/// On SIGBUS, writes a line to standard error and exits with `code`, where the signal would have
/// killed this process. SIGBUS comes when somebody truncates an open file, or when the disk cannot
/// read a part of it or has no room for a write. `line` makes the line for each case, with its
/// newline; it is called in advance. For whole programs, such as command-line tools, not for
/// libraries. Only the first call counts.
///
/// # Errors
///
/// [`Error::Io`] if the system does not let a handler be set.
pub fn exit_on_bus_error(line: impl Fn(BusError) -> String, code: i32) -> Result<()> {
    let cannot = |e| Error::io(Path::new("(any file)"), "cannot handle SIGBUS", e);
    bus_error::exit_with(line, code).map_err(cannot)
}
