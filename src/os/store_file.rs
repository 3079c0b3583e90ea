//! A store's file: an open descriptor, checked before each use.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::note_lost_file;
use crate::mutant::planted;
use crate::os::descriptor::{self, FileId, NEVER};
use crate::os::fork::{DescriptorEntry, NoFork};

/// A store's file, through which it is read, written and locked.
///
/// Each use as a [`File`] first checks whether the number still refers to this file. If the program
/// has closed it, the number is left alone and the file is opened again. If that fails, all calls
/// fail with EBADF, which `Error::io` explains. Locks are set through [`own`](StoreFile::own),
/// which also checks the description.
#[derive(Debug)]
pub(crate) struct StoreFile {
    first: Opened,
    writable: bool,
    path: Option<PathBuf>,
    /// Never refers to anything.
    nothing: ManuallyDrop<File>,
}

/// A description of the file, and the one that was opened when this one was lost.
#[derive(Debug)]
struct Opened {
    /// Closed by its entry.
    file: ManuallyDrop<File>,
    entry: &'static DescriptorEntry,
    next: OnceLock<Box<Opened>>,
}

impl StoreFile {
    /// The file that `open` opens, at `path` if it has one.
    pub(crate) fn open(
        writable: bool,
        path: Option<&Path>,
        open: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<StoreFile> {
        // The working folder may change later.
        let path = path.and_then(|path| std::path::absolute(path).ok());
        let no_fork = NoFork::begin();
        let first = Opened::new(&no_fork, open()?, writable, path.as_deref())?;
        Ok(StoreFile { first, writable, path, nothing: descriptor::as_file(NEVER) })
    }

    /// Read-locks this byte, also in forked children and whenever the file is opened again. False
    /// if another lock is in the way.
    pub(crate) fn lock_common(&self, byte: u64) -> io::Result<bool> {
        let own = self.own().as_raw_fd();
        let no_fork = NoFork::begin();
        self.opened().for_each(|opened| opened.entry.note_common(&no_fork, byte));
        let opened = self.opened().find(|opened| opened.file.as_raw_fd() == own);
        let lost = || io::Error::from_raw_os_error(libc::EBADF);
        opened.ok_or_else(lost)?.entry.lock_common(&no_fork)
    }

    /// How often the program closed the descriptor and the file was opened again. Locks set through
    /// the lost ones last as long as this.
    pub(crate) fn times_lost(&self) -> usize {
        self.opened().count() - 1
    }

    /// The file, through a description on which only this sets locks.
    pub(crate) fn own(&self) -> &File {
        self.find(|entry| entry.is_ours())
    }

    /// A second description of the same file, without locks.
    pub(crate) fn open_apart(&self) -> io::Result<File> {
        let file = self.own();
        let by_number = format!("/proc/self/fd/{}", file.as_raw_fd());
        let by_number = self.options().open(by_number);
        by_number.or_else(|error| match &self.path {
            Some(path) => open_same(self.options(), path, self.first.entry.file()),
            None if error.kind() == io::ErrorKind::NotFound => {
                Err(io::Error::other("a file without a name can be opened only through /proc"))
            }
            None => Err(error),
        })
    }

    fn options(&self) -> std::fs::OpenOptions {
        let mut options = File::options();
        options.read(true).write(self.writable).custom_flags(libc::O_NONBLOCK).clone()
    }

    fn opened(&self) -> impl Iterator<Item = &Opened> {
        std::iter::successors(Some(&self.first), |opened| opened.next.get().map(|next| &**next))
    }

    /// The first description that `will_do`. (A thread may have descriptors of its own, see
    /// `unshare(CLONE_FILES)`: those lost to one thread are not lost to others.)
    fn find(&self, will_do: impl Fn(&DescriptorEntry) -> bool) -> &File {
        let found = || self.opened().find(|opened| will_do(opened.entry));
        match found() {
            Some(opened) => &opened.file,
            None => self.open_anew(found),
        }
    }

    #[cold]
    fn open_anew<'a>(&'a self, found: impl Fn() -> Option<&'a Opened>) -> &'a File {
        // Other threads of this process may be opening it.
        let no_fork = NoFork::begin();
        if let Some(opened) = found() {
            return &opened.file;
        }
        let opened = self.reopen().and_then(|file| {
            let new = Opened::new(&no_fork, file, self.writable, self.path.as_deref())?;
            if let Some(byte) = self.first.entry.common_byte() {
                new.entry.note_common(&no_fork, byte);
            }
            match new.entry.lock_common(&no_fork)? {
                true => Ok(new),
                false => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        match opened {
            Ok(new) => {
                let last = self.opened().last().unwrap_or(&self.first);
                &last.next.get_or_init(|| Box::new(new)).file
            }
            Err(error) => {
                note_lost_file(&error);
                &self.nothing
            }
        }
    }

    /// Opens the file where it is now, or was: never another file.
    fn reopen(&self) -> io::Result<File> {
        let file = self.first.entry.file();
        let mut failed = io::Error::from_raw_os_error(libc::EBADF);
        for opened in self.opened() {
            let Some(link) = opened.entry.anchored_file() else { continue };
            // By name first: following the link itself takes privileges.
            let path = std::fs::read_link(&link).unwrap_or_else(|_| link.clone().into());
            match open_same(self.options(), &path, file)
                .or_else(|e| open_same(self.options(), Path::new(&link), file).map_err(|_| e))
            {
                Ok(file) => return Ok(file),
                Err(error) => failed = error,
            }
        }
        match &self.path {
            Some(path) => open_same(self.options(), path, file),
            None => Err(failed),
        }
    }
}

/// Opens the file at `path` if it is this one.
fn open_same(options: std::fs::OpenOptions, path: &Path, wanted: FileId) -> io::Result<File> {
    let file = options.open(path)?;
    let is_it = descriptor::file_id(file.as_raw_fd()) == Some(wanted);
    if is_it || planted!(AnotherFileAtThePathIsTaken) {
        return Ok(file);
    }
    Err(io::Error::other("another file is at its path now"))
}

impl Opened {
    fn new(
        no_fork: &NoFork,
        file: File,
        writable: bool,
        path: Option<&Path>,
    ) -> io::Result<Opened> {
        let path = path.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok());
        let entry = DescriptorEntry::register(no_fork, file.as_raw_fd(), writable, path)?;
        let file = descriptor::as_file(file.into_raw_fd());
        Ok(Opened { file, entry, next: OnceLock::new() })
    }
}

impl std::ops::Deref for StoreFile {
    type Target = File;

    fn deref(&self) -> &File {
        self.find(DescriptorEntry::is_open)
    }
}

impl Drop for StoreFile {
    fn drop(&mut self) {
        let no_fork = NoFork::begin();
        self.opened().for_each(|opened| opened.entry.close(&no_fork));
    }
}
