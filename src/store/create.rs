//! Creating a store. Nobody ever sees half a store: its file is filled before it gets its name.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::attachment::attach::{Attachment, no_fallocate};
use crate::attachment::descriptors;
use crate::durability::identity;
use crate::durability::recovery::Recovery;
use crate::error::{Error, Result};
use crate::format::checkpoint::Record;
use crate::format::layout::{Ends, FLAG_NO_CHECKPOINT, FORMAT, Header, MAGIC, live};
use crate::format::regions::Regions;
use crate::mutant::planted;
use crate::os::file_kind::already_exists;
use crate::os::folder::{folder_of, random, sync_folder, unused_name};
use crate::os::store_file::StoreFile;
use crate::os::sys;
use crate::store::file::{again, map};
use crate::store::file_system::unsuitable;
use crate::store::session::{Session, SharedSession};

/// What a new store is created with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Creation {
    pub(crate) max_slots: u64,
    pub(crate) max_size: u64,
    /// Permission bits, whatever the umask.
    pub(crate) mode: u32,
    pub(crate) checkpoint: bool,
    /// Also on file systems that are known not to work.
    pub(crate) any_file_system: bool,
    /// In a file without a name.
    pub(crate) in_memory: bool,
}

/// A store in memory, without a name.
pub(crate) fn temporary(creation: Creation) -> Result<SharedSession> {
    let path = PathBuf::from("(temporary)");
    let file = StoreFile::open(true, None, || sys::memory_file(c"slotfile"))
        .map_err(|e| Error::io(&path, "cannot make a file in memory", e))?;
    fill(&file, creation).map_err(|e| creation_error(&path, creation, e))?;
    let attachment = map(path, file, true)?;
    attachment.announce()?;
    Ok(Session::new(attachment, Recovery::Created))
}

/// Explains that /proc is missing; returns the error unchanged if the system ran out of something.
fn cannot_tell_boot(error: io::Error) -> io::Error {
    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) {
        return error;
    }
    let what = format!("{} cannot be read: {error}; mount /proc", identity::BOOT_ID);
    io::Error::new(io::ErrorKind::Unsupported, what)
}

/// The error of creating a store, from that of the system.
fn creation_error(path: &Path, creation: Creation, error: io::Error) -> Error {
    let path = path.to_owned();
    match error.raw_os_error() {
        None if error.kind() == io::ErrorKind::Unsupported => {
            Error::Unsupported { path, what: error.to_string() }
        }
        None if error.kind() == io::ErrorKind::InvalidInput => Error::Invalid {
            path,
            slot: None,
            what: Regions::why_not(FORMAT.1, creation.max_slots, creation.max_size),
        },
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => {
            let regions = Regions::new(FORMAT.1, creation.max_slots, creation.max_size);
            let parts = regions.map_or_else(Vec::new, |r| r.new_store(creation.checkpoint));
            let need = parts.into_iter().map(|(from, to)| to - from).sum();
            Error::NoSpace { path, need, source: error }
        }
        Some(libc::EOPNOTSUPP | libc::ENOSYS) => {
            Error::Unsupported { path, what: no_fallocate(&error) }
        }
        // The folder is missing, not the store.
        Some(libc::ENOENT) if !std::fs::exists(folder_of(&path)).unwrap_or(true) => {
            let folder = Some(folder_of(&path).to_owned());
            Error::NotFound { path, slot: None, link: None, folder }
        }
        // As in /proc, where a file cannot be created.
        Some(libc::ENOENT) => Error::Io { path, doing: "cannot create the store", source: error },
        _ => Error::io(&path, "cannot create the store", error),
    }
}

/// Creates an empty store; false if the name is taken.
pub(crate) fn create(path: &Path, creation: Creation) -> Result<bool> {
    let created = create_filled(path, |file| Ok(fill(file, creation)?), creation.mode);
    name_is_ours(created, path, creation)
}

/// Creates a store that `content` fills before it has its name. `Exists` if the name is taken;
/// after any other error, nothing has that name. Errors name the store `shown`.
pub(crate) fn create_with(
    path: &Path,
    shown: &Path,
    creation: Creation,
    content: impl Fn(&Attachment) -> Result<()>,
) -> Result<()> {
    let fill_with_content = |file: &File| {
        fill(file, creation)?;
        StoreFile::open(true, None, || again(file, true))
            .map_err(|e| Error::io(shown, "cannot open the new file", e))
            .and_then(|file| map(shown.to_owned(), file, true))
            .and_then(|attachment| content(&attachment))
            .map_err(Failure::Content)?;
        if creation.mode & 0o600 != 0o600 {
            file.set_permissions(Permissions::from_mode(creation.mode))?;
            file.sync_all()?;
        }
        Ok(())
    };
    let created = create_filled(path, fill_with_content, creation.mode).and_then(|()| {
        let synced = sync_folder(folder_of(path));
        Ok(synced.inspect_err(|_| drop(std::fs::remove_file(path)))?)
    });
    match name_is_ours(created, shown, creation)? {
        true => Ok(()),
        false => Err(already_exists(shown)),
    }
}

/// Why a store could not be created.
enum Failure {
    /// What the system said; of kind `InvalidInput` if the sizes do not fit.
    System(io::Error),
    /// What filling the store with content returned.
    Content(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::System(error)
    }
}

/// Whether a store was created; false if the name is taken.
fn name_is_ours(created: Result<(), Failure>, path: &Path, creation: Creation) -> Result<bool> {
    match created {
        Ok(()) => Ok(true),
        Err(Failure::Content(error)) => Err(error),
        Err(Failure::System(e)) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(Failure::System(e)) => Err(creation_error(path, creation, e)),
    }
}

/// Creates a file without a name, fills it, then gives it its name.
fn create_filled(
    path: &Path,
    mut fill: impl FnMut(&File) -> Result<(), Failure>,
    mode: u32,
) -> Result<(), Failure> {
    // A NUL in the name is EINVAL, since `InvalidInput` means sizes that do not fit.
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let mut options = File::options();
    options.read(true).write(true).mode(mode);
    let nameless = options.custom_flags(libc::O_TMPFILE).open(folder_of(path));
    let created = nameless.map_err(Failure::System).and_then(|file| {
        fill(&file)?;
        sys::link(&file, &name).map_err(|e| match std::fs::exists("/proc/self/fd") {
            Ok(true) => e.into(),
            _ => {
                let why = "/proc is not mounted, and creating a store needs /proc/self/fd";
                io::Error::new(io::ErrorKind::Unsupported, why).into()
            }
        })
    });
    match created {
        // Some file systems and sandboxes have no nameless files, or cannot name them. There, fill
        // a file with an unused name, then give it its own.
        Err(Failure::System(e))
            if !planted!(NoOtherWayWithoutNamelessFiles)
                && (matches!(e.raw_os_error(), Some(libc::EISDIR | libc::EINVAL))
                    || is_refused(&e)) =>
        {
            let temporary = unused_name(path)?;
            let file = options.custom_flags(libc::O_NOFOLLOW).create_new(true).open(&temporary)?;
            let linked = fill(&file).and_then(|()| {
                let linked = std::fs::hard_link(&temporary, path);
                Ok(linked.or_else(|error| match is_refused(&error) {
                    true if !planted!(NoOtherWayWithoutLinkat) => sys::rename_new(&temporary, path),
                    _ => Err(error),
                })?)
            });
            // It is gone if it was renamed.
            let _ = std::fs::remove_file(&temporary);
            linked
        }
        created => created,
    }
}

/// Whether this system does not have a call, or forbids it.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM))
}

/// Makes the file an empty store, on disk.
pub(crate) fn fill(file: &File, creation: Creation) -> io::Result<()> {
    let regions = Regions::new(FORMAT.1, creation.max_slots, creation.max_size)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let kind = sys::file_system(file)?;
    if let Some(why) = unsuitable(kind).filter(|_| !creation.any_file_system) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    match kind {
        identity::BTRFS => sys::write_in_place(file)?,
        // Below it may be btrfs; other file systems refuse, which does not matter.
        identity::OVERLAYFS if !planted!(AnOverlayIsNotAskedForWritingInPlace) => {
            drop(sys::write_in_place(file));
        }
        _ => {}
    }
    let len = regions.least_len(creation.checkpoint);
    if len > sys::file_size_limit() {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    file.set_permissions(Permissions::from_mode(creation.mode | 0o600))?; // to open it again
    file.set_len(len)?;
    // Only allocated, not filled, so that the kernel keeps them in small pages.
    let mut allocated = 0;
    for (from, to) in regions.new_store(creation.checkpoint) {
        sys::allocate(file, from, to - from)?;
        allocated += to - from;
    }
    let header = Header {
        magic: MAGIC,
        major: FORMAT.0,
        minor: FORMAT.1,
        store_id: random(),
        max_slots: creation.max_slots,
        max_size: creation.max_size,
        flags: if creation.checkpoint { 0 } else { FLAG_NO_CHECKPOINT },
        regions,
    };
    file.write_all_at(&header.to_page(), 0)?;
    let word = |number: usize, bytes: &[u8]| {
        file.write_all_at(bytes, regions.live_header + 8 * number as u64)
    };
    if creation.checkpoint {
        file.write_all_at(&Record::empty().encode(), regions.records)?;
    }
    let epoch = Record::empty().epoch;
    word(live::ACKED, &epoch.to_le_bytes())?;
    word(live::ACKED + 1, &(!epoch).to_le_bytes())?;
    match identity::now(file) {
        Ok(identity) => word(live::IDENTITY, bytemuck::bytes_of(&identity))?,
        // A file without a name is hardly ever opened again; if it is, it counts as empty.
        Err(_) if creation.in_memory => {}
        Err(error) => return Err(cannot_tell_boot(error)),
    }
    word(live::COUNT, &descriptors::count_word(0).to_le_bytes())?;
    let (runs, (live, copies)) = (regions.runs, regions.first_ends());
    let ends = Ends { runs, live, copies, allocated, ..bytemuck::Zeroable::zeroed() };
    word(live::ENDS, bytemuck::bytes_of(&ends))?;
    identity::set_inode_hint(file);
    file.sync_all()
}
