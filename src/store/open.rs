//! What creating and opening a store decides and does, up to the mapping.
//!
//! The open lock (`fs2`'s lock of the whole file) is held while deciding only; that
//! somebody is there is said by the common byte. Nobody ever sees half a store: it is
//! filled before it gets its name.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::attachment::attach::Attachment;
use crate::directory::allocator;
use crate::directory::directory;
use crate::durability::identity;
use crate::durability::recovery::{self, Recovery};
use crate::error::{Error, Result, link_to_nowhere};
use crate::format::checkpoint::Record;
use crate::format::layout::{
    Ends, FLAG_NO_CHECKPOINT, FORMAT, GRANULE, HEADER_LEN, Header, MAGIC, PROGRESS_AT, Regions,
    live,
};
use crate::mapping::cell;
use crate::mapping::map::Map;
use crate::os::file_kind::{check_kind, dangling_link, exists};
use crate::os::folder::{folder_of, random, sync_folder, unused_name};
use crate::os::location::{Detached, Location};
use crate::os::store_file::StoreFile;
use crate::os::sys;
use crate::store::registry;
use crate::store::session::{Session, SharedSession};

/// What a new store is created with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Creation {
    pub(crate) max_slots: u64,
    pub(crate) max_size: u64,
    /// Permission bits, whatever the umask.
    pub(crate) mode: u32,
    pub(crate) checkpoint: bool,
    /// Also on file systems that are known not to do.
    pub(crate) any_file_system: bool,
    /// In a file without a name.
    pub(crate) in_memory: bool,
}

/// Which file to open, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) path: &'a Path,
    pub(crate) writable: bool,
    /// How to create it if it is not there.
    pub(crate) create: Option<Creation>,
    /// Whether it must not be there.
    pub(crate) must_be_new: bool,
    /// Whether it has just been created.
    pub(crate) created: bool,
    /// Also on file systems that are known not to do.
    pub(crate) any_file_system: bool,
    /// How long to wait for the open lock.
    pub(crate) timeout: Option<Duration>,
}

/// Opens the store, or creates it. Also says where its file is to be found, if it is anywhere.
pub(crate) fn open(mut request: Request<'_>) -> Result<(SharedSession, Option<Location>)> {
    let path = request.path;
    // Before it is opened: from then on the path may lead to another file.
    let location = Location::of(path);
    loop {
        let creation = match request.create {
            Some(creation) if request.must_be_new => creation,
            create => match (open_existing(&request), create) {
                (Ok(Some(session)), _) => {
                    // A store that is in memory alone has none.
                    let is_there = |_: &Location| session.attachment().has_name();
                    return Ok((Arc::clone(&session), location.filter(is_there)));
                }
                // Replaced while we waited for its lock: look again.
                (Ok(None), _) => continue,
                (Err(Error::NotFound { path, link: Some(target), .. }), Some(_)) => {
                    let why = format!("it is {}", link_to_nowhere(&target));
                    return Err(Error::NotAStore { path, why });
                }
                (Err(Error::NotFound { .. }), Some(creation)) => creation,
                (Err(error), _) => return Err(error),
            },
        };
        match create(path, creation) {
            // From here on it is opened like any other: somebody may already have it open.
            Ok(()) => {
                request.must_be_new = false;
                request.created = true;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if request.must_be_new {
                    return Err(exists(path));
                }
            }
            Err(error) => return Err(creation_error(path, creation, error)),
        }
    }
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

/// Why no store can be made; as it is where the system has run out of something.
fn cannot_tell_boot(error: io::Error) -> io::Error {
    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) {
        return error;
    }
    let what = format!("{} cannot be read: {error}; mount /proc", identity::BOOT_ID);
    io::Error::new(io::ErrorKind::Unsupported, what)
}

fn creation_error(path: &Path, creation: Creation, error: io::Error) -> Error {
    let path = path.to_owned();
    match error.raw_os_error() {
        None if error.kind() == io::ErrorKind::Unsupported => {
            Error::Unsupported { path, what: error.to_string() }
        }
        None if error.kind() == io::ErrorKind::InvalidInput => Error::Invalid {
            path,
            slot: None,
            what: Regions::why_not(creation.max_slots, creation.max_size),
        },
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => {
            let need =
                Regions::new(creation.max_slots, creation.max_size).map_or(0, |r| r.directory);
            Error::NoSpace { path, need, source: error }
        }
        Some(libc::EOPNOTSUPP | libc::ENOSYS) => {
            Error::Unsupported { path, what: allocator::no_fallocate(&error) }
        }
        // Not the store itself is missing, but the folder it should be in.
        Some(libc::ENOENT) => {
            Error::Io { path, doing: "cannot create it in its folder", source: error }
        }
        _ => Error::io(&path, "cannot create the store", error),
    }
}

/// Creates a store without a name, fills it, and gives it its name. An error of the
/// kind `AlreadyExists` if the name is taken; `InvalidInput` if the sizes do not fit.
fn create(path: &Path, creation: Creation) -> io::Result<()> {
    create_filled(path, |file| fill(file, creation), creation.mode)?;
    // Where that fails, the store stays: others may have opened it by now.
    sync_folder(folder_of(path))
}

/// Creates a store that `content` fills before it has its name. `Exists` if that is taken;
/// on any other error there is nothing of that name. Errors speak of `shown`.
pub(crate) fn create_with(
    path: &Path,
    shown: &Path,
    creation: Creation,
    content: impl Fn(&Attachment) -> Result<()>,
) -> Result<()> {
    let mut failed = None;
    let created = create_filled(
        path,
        |file| {
            fill(file, creation)?;
            let result = StoreFile::open(true, None, || again(file, true))
                .map_err(|e| Error::io(shown, "cannot open the new file", e))
                .and_then(|file| map(shown.to_owned(), file, true))
                .and_then(|attachment| content(&attachment));
            result.map_err(|error| {
                failed = Some(error);
                io::Error::from(io::ErrorKind::Other)
            })?;
            if creation.mode & 0o600 != 0o600 {
                file.set_permissions(Permissions::from_mode(creation.mode))?;
                file.sync_all()?;
            }
            Ok(())
        },
        creation.mode,
    );
    let created = created.and_then(|()| {
        sync_folder(folder_of(path)).inspect_err(|_| {
            let _ = std::fs::remove_file(path);
        })
    });
    match (created, failed) {
        (_, Some(error)) => Err(error),
        (Err(e), None) if e.kind() == io::ErrorKind::AlreadyExists => Err(exists(shown)),
        (result, None) => result.map_err(|e| creation_error(shown, creation, e)),
    }
}

fn create_filled(
    path: &Path,
    mut fill: impl FnMut(&File) -> io::Result<()>,
    mode: u32,
) -> io::Result<()> {
    // A name with a NUL in it: not `InvalidInput`, which stands for sizes that do not fit.
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let folder = folder_of(path);
    let mut options = File::options();
    options.read(true).write(true).mode(mode);
    let nameless = options.custom_flags(libc::O_TMPFILE).open(folder).and_then(|file| {
        fill(&file)?;
        sys::link(&file, &name).map_err(|e| match std::fs::exists("/proc/self/fd") {
            Ok(true) => e,
            _ => {
                let why = "/proc is not mounted, and creating a store needs /proc/self/fd";
                io::Error::new(io::ErrorKind::Unsupported, why)
            }
        })
    });
    match nameless {
        // Some file systems, and sandboxes, have no nameless files, or do not name them: fill
        // one of a name that nobody uses, and give it its own.
        Err(e)
            if matches!(e.raw_os_error(), Some(libc::EISDIR | libc::EINVAL)) || is_refused(&e) =>
        {
            let temporary = unused_name(path)?;
            let file = options.custom_flags(libc::O_NOFOLLOW).create_new(true).open(&temporary)?;
            let linked = fill(&file).and_then(|()| {
                std::fs::hard_link(&temporary, path).or_else(|error| match is_refused(&error) {
                    true => sys::rename_new(&temporary, path),
                    false => Err(error),
                })
            });
            // It is gone if it was renamed.
            let _ = std::fs::remove_file(&temporary);
            linked
        }
        result => result,
    }
}

/// Whether a call is none that this system does, or lets us do.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM))
}

/// Makes the file an empty store, on disk.
pub(crate) fn fill(file: &File, creation: Creation) -> io::Result<()> {
    let regions = Regions::new(creation.max_slots, creation.max_size)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let kind = sys::file_system(file)?;
    if let Some(why) = unsuitable(kind).filter(|_| !creation.any_file_system) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    match kind {
        identity::BTRFS => sys::write_in_place(file)?,
        // It may be on one: no other file system knows of that.
        identity::OVERLAYFS => drop(sys::write_in_place(file)),
        _ => {}
    }
    if regions.runs > sys::file_size_limit() {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    file.set_permissions(Permissions::from_mode(creation.mode | 0o600))?; // to open it again
    file.set_len(regions.runs)?;
    // Header, live header, table, index, and the first lines of the directory; only
    // allocated, never filled, so that the kernel keeps them in small pages.
    let allocated = regions.directory + GRANULE;
    sys::allocate(file, 0, allocated)?;
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
        let checkpoint = regions.directory_copies + 4 * GRANULE;
        sys::allocate(file, regions.mark, regions.records + GRANULE - regions.mark)?;
        sys::allocate(file, regions.records + regions.record_len, GRANULE)?;
        sys::allocate(file, regions.directory_copies, checkpoint - regions.directory_copies)?;
        file.write_all_at(&Record::empty().encode(), regions.records)?;
    }
    let epoch = Record::empty().epoch;
    word(live::ACKED, &epoch.to_le_bytes())?;
    word(live::ACKED + 1, &(!epoch).to_le_bytes())?;
    match identity::now(file) {
        Ok(identity) => word(live::IDENTITY, bytemuck::bytes_of(&identity))?,
        // A file without a name is hardly ever opened again; then it is empty.
        Err(_) if creation.in_memory => {}
        Err(error) => return Err(cannot_tell_boot(error)),
    }
    word(live::COUNT, &directory::count_word(0).to_le_bytes())?;
    let ends = Ends { runs: regions.runs, allocated, ..bytemuck::Zeroable::zeroed() };
    word(live::ENDS, bytemuck::bytes_of(&ends))?;
    identity::mark(file);
    file.sync_all()
}

/// Opens the file that is there. `None`: it was replaced meanwhile.
fn open_existing(request: &Request<'_>) -> Result<Option<SharedSession>> {
    let Request { path, writable, .. } = *request;
    let cannot_open = |e| Error::io(path, "cannot open it", e);
    let metadata = std::fs::metadata(path).map_err(|e| match cannot_open(e) {
        Error::NotFound { path, slot, closest, .. } => {
            let link = dangling_link(&path);
            Error::NotFound { path, slot, closest, link }
        }
        other => other,
    })?;
    check_kind(path, &metadata)?;
    if !writable && on_overlayfs(path) {
        // Opening it for writing copies it up, so that we see what writers see.
        let _ = File::options().read(true).write(true).open(path);
    }
    let file = StoreFile::open(writable, Some(path), || {
        // Without O_NONBLOCK, a pipe that has taken the file's place would hang us.
        File::options().read(true).write(writable).custom_flags(libc::O_NONBLOCK).open(path)
    })
    // Files of /proc cannot be mapped, not even for a lock: what they are is the better answer.
    .map_err(|e| not_a_store(path).unwrap_or_else(|| cannot_open(e)))?;
    let metadata = file.metadata().map_err(cannot_open)?;
    check_kind(path, &metadata)?;
    check_file_system(request, &file)?;
    let key = (metadata.dev(), metadata.ino(), writable);
    let start = Instant::now();
    // When the holder of the open lock was last seen to get on.
    let (mut progress, mut since) = (None, start);
    let mut pause = Duration::from_micros(50);
    loop {
        // The mutex is not held while waiting: other stores are opened meanwhile.
        let mut known = registry::lock();
        known.retain(|_, session| session.strong_count() > 0);
        if let Some(session) = known.get(&key).and_then(Weak::upgrade) {
            return Ok(Some(session));
        }
        // Closing the file lets go, too.
        if sys::try_lock_file(&file).map_err(|e| Error::io(path, "cannot lock the file", e))? {
            // Replaced while we waited: what the path names now is what is wanted.
            let now = std::fs::metadata(path).map_err(cannot_open)?;
            if (now.dev(), now.ino()) != (key.0, key.1) {
                return Ok(None);
            }
            let (attachment, mut recovery) = attach(request, file)?;
            refuse_superseded(&attachment, recovery)?;
            sys::unlock_file(attachment.map.file())
                .map_err(|e| Error::io(path, "cannot unlock the file", e))?;
            if !attachment.tells_if_alone() {
                // The open lock is that of the description that was lost.
                let why = io::Error::other("this program has closed its descriptor meanwhile");
                return Err(cannot_open(why));
            }
            if request.created && recovery == Recovery::Resumed {
                recovery = Recovery::Created;
            }
            let session = Session::new(attachment, recovery);
            known.insert(key, Arc::downgrade(&session));
            registry::leave_at_exit();
            return Ok(Some(session));
        }
        drop(known);
        let now = read_progress(&file);
        if now != progress {
            (progress, since) = (now, Instant::now());
        }
        let waited = start.elapsed();
        if request.timeout.is_some_and(|timeout| since.elapsed() >= timeout) {
            let (path, slot) = (path.to_owned(), "the open lock".to_owned());
            return Err(Error::LockTimeout { path, slot, holder: None, waited });
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(5));
    }
}

/// Refuses the file that a compaction has left behind, and that is kept by a mount of it alone.
/// What was restored of a copy of it is a store of its own.
fn refuse_superseded(attachment: &Attachment, recovery: Recovery) -> Result<()> {
    match recovery {
        Recovery::Joined | Recovery::Resumed if attachment.is_superseded() => {
            let (path, how) = (attachment.path.clone(), Detached::Compacted);
            return Err(Error::Detached { path, how });
        }
        _ if attachment.writable => attachment.set_superseded(false),
        _ => {}
    }
    Ok(())
}

/// The word that the holder of the open lock changes as it gets on; `None`: it has none.
fn read_progress(file: &File) -> Option<u64> {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, PROGRESS_AT).ok()?;
    Some(u64::from_le_bytes(word))
}

/// Numbers of file systems, from linux/magic.h and statfs(2).
const UNSUITABLE: [(i64, &str); 12] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x7375_7245, "Coda"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
];

/// Why a file system of this kind will not do; `None` if it will.
fn unsuitable(kind: i64) -> Option<String> {
    // Of a 32-bit number with its highest bit set, some systems show the sign.
    let name = UNSUITABLE.iter().find(|(known, _)| *known as u32 == kind as u32)?.1;
    Some(format!(
        "it is on {name}, where machines or mounts may see differing contents and locks; put it \
         on a local file system, or open it with any_file_system(true) (--any-file-system) if \
         you know better"
    ))
}

/// Whether btrfs writes each change of the file to another place; false where it cannot be asked.
fn is_moved_by_writes(file: &File) -> bool {
    let is_asked = match sys::file_system(file) {
        Ok(identity::BTRFS) => true,
        // Below it may be btrfs: that takes the wish, and leaves a file that is not empty as it is.
        Ok(identity::OVERLAYFS) => sys::write_in_place(file).is_ok(),
        _ => false,
    };
    is_asked && sys::is_written_in_place(file).is_ok_and(|in_place| !in_place)
}

fn on_overlayfs(path: &Path) -> bool {
    File::open(path).and_then(|file| identity::on_overlayfs(&file)).unwrap_or(false)
}

fn check_file_system(request: &Request<'_>, file: &File) -> Result<()> {
    let path = request.path.to_owned();
    let kind = sys::file_system(file).map_err(|e| Error::io(&path, "cannot look at it", e))?;
    if request.any_file_system {
        return Ok(());
    }
    if let Some(what) = unsuitable(kind) {
        return Err(Error::Unsupported { path, what });
    }
    if request.writable && is_moved_by_writes(file) {
        let what = "btrfs writes each change of it to another place, as of every copy that `cp` \
                    makes, and on a full disk whoever changes it would be killed; make it anew by \
                    `slotfile copy`, or open it with any_file_system(true) (--any-file-system)";
        return Err(Error::Unsupported { path, what: what.into() });
    }
    // Opened only to read, a file of the lower layer is looked at for ever, though a writer
    // has long got a copy of it in the upper one.
    let stale = kind == identity::OVERLAYFS
        && !request.writable
        && File::options().read(true).write(true).open(request.path).is_err();
    if stale {
        let what = "it is on overlayfs, and may not be opened for writing: what is read could be \
                    an old copy; open it where it really is";
        return Err(Error::Unsupported { path, what: what.into() });
    }
    Ok(())
}

/// Checks the header, maps the file, and joins those who have it open; or, where there
/// are none, puts it into order. Under the open lock, or before anybody else can know of
/// the file.
fn attach(request: &Request<'_>, file: StoreFile) -> Result<(Arc<Attachment>, Recovery)> {
    let Request { path, writable, any_file_system: trusted, .. } = *request;
    let attachment = map(path.to_owned(), file, writable)?;
    let alone = !Attachment::is_attached_elsewhere(&attachment.map)
        .map_err(|e| Error::io(path, "cannot lock a byte of the file", e))?;
    let recovery = match alone {
        false => Recovery::Joined,
        true if writable => attachment.with_progress(|| recovery::recover(&attachment, trusted))?,
        true if recovery::is_needed(&attachment, trusted)? => return restore_to_read(attachment),
        true => Recovery::Resumed,
    };
    directory::check(&attachment)?;
    attachment.announce()?;
    Ok((attachment, recovery))
}

fn map(path: PathBuf, file: StoreFile, writable: bool) -> Result<Arc<Attachment>> {
    if !cell::is_supported() {
        let what = "this processor has no 128-bit compare-exchange".into();
        return Err(Error::Unsupported { path, what });
    }
    let header = read_header(&path, &file)?;
    let map = Map::new(file, writable, header.max_size)
        .map_err(|e| Error::io(&path, "cannot map the file", e))?;
    Attachment::new(path, map, header, writable, directory::settle_all)
}

/// For an opener that only reads, of a store that must be restored first: restores it
/// underneath; where that cannot be, restores a copy of it in memory.
fn restore_to_read(attachment: Arc<Attachment>) -> Result<(Arc<Attachment>, Recovery)> {
    let (reading, recovery) = match restore_underneath(&attachment) {
        Ok(recovery) => (attachment, recovery),
        Err(error @ Error::Corrupt { .. }) => return Err(error),
        Err(_) => restore_a_copy(&attachment)?,
    };
    directory::check(&reading)?;
    reading.announce()?;
    Ok((reading, recovery))
}

/// The error of a file that can be read and is no store.
fn not_a_store(path: &Path) -> Option<Error> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    read_header(path, &file).err().filter(|error| matches!(error, Error::NotAStore { .. }))
}

/// Reads from the beginning of the file as much as there is: those of /proc and /sys tell another
/// length than they have.
fn read_up_to(file: &File, out: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < out.len() {
        match file.read_at(&mut out[len..], len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn restore_underneath(attachment: &Attachment) -> Result<Recovery> {
    // As a file, not as one that is looked at, and opened anew: that must not be within an opening.
    let (path, below): (_, &File) = (&attachment.path, attachment.map.file());
    if is_moved_by_writes(below) {
        let what = "it is not written in place".into();
        return Err(Error::Unsupported { path: path.clone(), what });
    }
    let file = StoreFile::open(true, Some(path), || again(below, true))
        .map_err(|e| Error::io(path, "cannot open it for writing", e))?;
    let writing = map(path.clone(), file, true)?;
    // That it must be restored is known, and why.
    let recovery = writing.with_progress(|| recovery::restore(&writing))?;
    refuse_superseded(&writing, recovery)?;
    Ok(recovery)
}

fn restore_a_copy(attachment: &Attachment) -> Result<(Arc<Attachment>, Recovery)> {
    let path = &attachment.path;
    let cannot = |e| Error::io(path, "cannot make a copy of it in memory", e);
    let copy =
        StoreFile::open(true, None, || sys::memory_file(c"slotfile copy")).map_err(cannot)?;
    sys::copy_data(attachment.map.file(), &copy).map_err(cannot)?;
    let copy = map(path.clone(), copy, true)?;
    let recovery = recovery::restore_last_sync(&copy)?;
    refuse_superseded(&copy, recovery)?;
    let recovery = match recovery {
        Recovery::Restored { epoch, newer_dropped } => Recovery::Frozen { epoch, newer_dropped },
        other => other,
    };
    let file: &File = copy.map.file();
    let file = StoreFile::open(false, None, || again(file, false));
    Ok((map(path.clone(), file.map_err(cannot)?, false)?, recovery))
}

/// The same file, opened again: other locks, perhaps other rights.
fn again(file: &File, writable: bool) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(writable).open(path)
}

/// Reads the static header into private memory, and checks every number in it.
fn read_header(path: &Path, file: &File) -> Result<Header> {
    let not_a_store = |why: &str| Error::NotAStore { path: path.to_owned(), why: why.into() };
    let cannot_read = |e| Error::io(path, "cannot read it", e);
    let have = file.metadata().map_err(cannot_read)?.len();
    let mut page = [0; HEADER_LEN];
    let len = read_up_to(file, &mut page).map_err(cannot_read)?;
    if len == 0 {
        return Err(not_a_store("it is empty"));
    }
    if !page.starts_with(&MAGIC) {
        return Err(not_a_store("it does not begin with SLOTFILE"));
    }
    if len < HEADER_LEN {
        return Err(Error::Truncated { path: path.to_owned(), have, need: HEADER_LEN as u64 });
    }
    // The version comes before the CRC: another version may keep that elsewhere.
    let version =
        |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    let found = (version(8), version(12));
    if found.0 != FORMAT.0 || found.1 > FORMAT.1 {
        return Err(Error::Version { path: path.to_owned(), found, supported: FORMAT });
    }
    let corrupt = |what: &str| Error::corrupt(path, what);
    let header = Header::from_page(&page).ok_or_else(|| corrupt("the header's CRC is wrong"))?;
    if header.flags & !FLAG_NO_CHECKPOINT != 0 {
        return Err(corrupt("the header has flags that there are none of"));
    }
    if Regions::new(header.max_slots, header.max_size) != Some(header.regions) {
        return Err(corrupt("the header's regions do not follow from its sizes"));
    }
    let need = header.regions.runs;
    if have < need {
        return Err(Error::Truncated { path: path.to_owned(), have, need });
    }
    Ok(header)
}
