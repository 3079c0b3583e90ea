//! Opening a store, up to the mapping.
//!
//! The open lock (`fs2`'s lock of the whole file) is held only while opening. The lock on the
//! common byte tells whether anybody has the store open.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::durability::recovery::{self, Recovery};
use crate::error::{Error, Result, link_to_nowhere};
use crate::format::layout::PROGRESS_AT;
use crate::os::descriptor::FileId;
use crate::os::file_kind::{already_exists, check_kind, dangling_link};
use crate::os::folder::{folder_of, sync_folder};
use crate::os::location::Location;
use crate::os::store_file::StoreFile;
use crate::os::sys;
use crate::os::time::Backoff;
use crate::store::create::{Creation, create};
use crate::store::file::{map, not_a_store};
use crate::store::file_system::{check_file_system, on_overlayfs};
use crate::store::registry::{self, Key};
use crate::store::restore_to_read::{refuse_superseded, restore_to_read};
use crate::store::session::{Session, SharedSession};

/// Which file to open, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) path: &'a Path,
    pub(crate) writable: bool,
    /// How to create it if it is not there.
    pub(crate) create: Option<Creation>,
    /// Whether it is an error if the file exists.
    pub(crate) must_be_new: bool,
    /// Whether it has just been created.
    pub(crate) created: bool,
    /// Also on file systems that are known not to work.
    pub(crate) any_file_system: bool,
    /// How long to wait for the open lock.
    pub(crate) timeout: Option<Duration>,
}

/// Opens the store, or creates it. Also returns the location of its file, if it has one.
pub(crate) fn open(mut request: Request<'_>) -> Result<(SharedSession, Option<Location>)> {
    let path = request.path;
    // Before the open: after it, the path may lead to another file.
    let location = Location::of(path);
    loop {
        if !request.must_be_new {
            match open_existing(&request) {
                Ok(Some(session)) => {
                    // A store in memory has no location.
                    let is_there = |_: &Location| session.attachment().has_name();
                    return Ok((Arc::clone(&session), location.filter(is_there)));
                }
                // Replaced while we waited for its lock: look again.
                Ok(None) => continue,
                Err(Error::NotFound { path, link: Some(target), .. })
                    if request.create.is_some() =>
                {
                    let why = format!("it is {}", link_to_nowhere(&target));
                    return Err(Error::NotAStore { path, why });
                }
                Err(Error::NotFound { .. }) if request.create.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(creation) = request.create {
            request.created |= create_new(path, creation, request.must_be_new)?;
        }
        // From here on it is opened like any other: somebody may already have it open.
        request.must_be_new = false;
    }
}

/// Creates the store; false if somebody else was faster and it need not be new.
fn create_new(path: &Path, creation: Creation, must_be_new: bool) -> Result<bool> {
    if !create(path, creation)? {
        return if must_be_new { Err(already_exists(path)) } else { Ok(false) };
    }
    // If the sync fails, the store stays: others may have opened it by now.
    let what = "the store was created, but its folder cannot be synced: a power cut may take it \
                away";
    sync_folder(folder_of(path)).map_err(|e| Error::io(path, what, e))?;
    Ok(true)
}

/// Releases the open lock; an error if this program has closed its descriptor meanwhile.
fn unlock(attachment: &Attachment) -> Result<()> {
    let path = &attachment.path;
    sys::unlock_file(attachment.map.file())
        .map_err(|e| Error::io(path, "cannot unlock the file", e))?;
    if attachment.tells_if_alone() {
        return Ok(());
    }
    // The open lock belonged to the lost file description.
    let why = io::Error::other("this program has closed its descriptor meanwhile");
    Err(Error::io(path, "cannot open it", why))
}

/// Opens the file, and refuses what cannot be a store, or could not keep its promises.
fn open_file(request: &Request<'_>) -> Result<(StoreFile, FileId)> {
    let Request { path, writable, .. } = *request;
    let cannot_open = |e| Error::io(path, "cannot open it", e);
    let metadata = std::fs::metadata(path).map_err(|e| match cannot_open(e) {
        Error::NotFound { path, slot, folder, .. } => {
            let link = dangling_link(&path);
            Error::NotFound { path, slot, link, folder }
        }
        other => other,
    })?;
    check_kind(path, &metadata)?;
    if !writable && on_overlayfs(path) {
        // Opening it for writing copies it up: then we see what writers see.
        let _ = File::options().read(true).write(true).open(path);
    }
    let file = StoreFile::open(writable, Some(path), || {
        // Without O_NONBLOCK, a pipe that has taken the file's place would hang us.
        File::options().read(true).write(writable).custom_flags(libc::O_NONBLOCK).open(path)
    })
    // Files of /proc cannot be mapped, not even for a lock. "Not a store" is the better error.
    .map_err(|e| not_a_store(path).unwrap_or_else(|| cannot_open(e)))?;
    let metadata = file.metadata().map_err(cannot_open)?;
    check_kind(path, &metadata)?;
    if !request.any_file_system {
        check_file_system(path, &file, writable)?;
    }
    Ok((file, FileId::of(&metadata)))
}

/// Opens an existing store. `None`: it was replaced meanwhile.
fn open_existing(request: &Request<'_>) -> Result<Option<SharedSession>> {
    let Request { path, writable, .. } = *request;
    let (file, id) = open_file(request)?;
    let key = Key { file: id, writable };
    let start = Instant::now();
    // When the holder of the open lock last made progress.
    let (mut progress, mut since) = (None, start);
    let mut backoff = Backoff::new();
    loop {
        if let Some(session) = registry::find(key) {
            return Ok(Some(session));
        }
        // Closing the file also releases this lock.
        if sys::try_lock_file(&file).map_err(|e| Error::io(path, "cannot lock the file", e))? {
            // Another thread of this process may have been faster.
            if let Some(session) = registry::find(key) {
                return Ok(Some(session));
            }
            // If it was replaced while we waited, open the file that the path names now.
            let now = std::fs::metadata(path).map_err(|e| Error::io(path, "cannot open it", e))?;
            if FileId::of(&now) != key.file {
                return Ok(None);
            }
            return open_locked(request, file, key).map(Some);
        }
        let now = read_progress(&file);
        if now != progress {
            (progress, since) = (now, Instant::now());
        }
        let waited = start.elapsed();
        if request.timeout.is_some_and(|timeout| since.elapsed() >= timeout) {
            let (path, slot) = (path.to_owned(), "the open lock".to_owned());
            return Err(Error::LockTimeout { path, slot, holder: None, waited });
        }
        backoff.pause();
    }
}

/// Attaches to the file, whose open lock this process has, and releases the lock.
fn open_locked(request: &Request<'_>, file: StoreFile, key: Key) -> Result<SharedSession> {
    let (attachment, mut recovery) = attach(request, file)?;
    refuse_superseded(&attachment, recovery)?;
    if request.created && recovery == Recovery::Resumed {
        recovery = Recovery::Created;
    }
    let session = Session::new(attachment, recovery);
    // Before the unlock: the lock also keeps this process's other threads out.
    registry::insert(key, &session);
    unlock(session.attachment()).inspect_err(|_| registry::remove(key))?;
    registry::leave_at_exit();
    Ok(session)
}

/// The word that the holder of the open lock changes as it makes progress; `None`: not there.
fn read_progress(file: &File) -> Option<u64> {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, PROGRESS_AT).ok()?;
    Some(u64::from_le_bytes(word))
}

/// Checks the header, maps the file, and joins the processes that have it open. If there are
/// none, recovers the store. Under the open lock, or before anybody else can know of the file.
fn attach(request: &Request<'_>, file: StoreFile) -> Result<(Arc<Attachment>, Recovery)> {
    let Request { path, writable, any_file_system: trusted, .. } = *request;
    let attachment = map(path.to_owned(), file, writable)?;
    let alone = !Attachment::is_attached_elsewhere(&attachment.map)
        .map_err(|e| Error::io(path, "cannot lock a byte of the file", e))?;
    let (attachment, recovery) = if !alone {
        (attachment, Recovery::Joined)
    } else if writable {
        let recovery = attachment.with_progress(|| recovery::recover(&attachment, trusted))?;
        (attachment, recovery)
    } else if recovery::is_needed(&attachment, trusted)? {
        restore_to_read(attachment)?
    } else {
        (attachment, Recovery::Resumed)
    };
    descriptors::count(&attachment)?;
    attachment.announce()?;
    Ok((attachment, recovery))
}
