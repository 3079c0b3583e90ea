//! The names of files in their folders.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::os::location;
use crate::os::sys;

/// A name in the same folder that nobody uses.
pub(crate) fn unused_name(path: &Path) -> io::Result<PathBuf> {
    Ok(folder_of(path).join(format!(".slotfile-{}", hex(random()))))
}

pub(crate) fn random() -> [u8; 16] {
    bytemuck::cast([sys::random(), sys::random()])
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Makes a new name, too, survive a power cut. A folder that may be written but not read
/// cannot be opened for that.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// What came of putting a store in the place of another.
pub(crate) enum Replaced {
    /// It is there, for good, and the old one is gone.
    Done,
    /// It is there. The old one has its name now, and could not be removed.
    OldStays(io::Error),
    /// It is there, and the old one is gone, but a power cut may undo it.
    NotForGood(io::Error),
    /// The old one has another place by now, or more than one: nothing was done.
    Elsewhere,
    /// The same, but the two have changed places, and could not change back.
    Exchanged(io::Error),
}

/// Puts one store in the place of another, which is open as `file`; `then` runs as soon as it is
/// there. Nothing was done where this is an error.
pub(crate) fn replace(
    new: &Path,
    old: &Path,
    file: &File,
    then: impl FnOnce(),
) -> io::Result<Replaced> {
    let is_it = |path: &Path| -> io::Result<bool> {
        let (there, open) = (std::fs::symlink_metadata(path)?, file.metadata()?);
        Ok(location::id(&there) == location::id(&open) && open.nlink() == 1)
    };
    // They change places, so that nothing is lost if it was another file after all.
    let removed = match sys::exchange(new, old) {
        Ok(()) => match is_it(new) {
            Ok(true) => {
                then();
                std::fs::remove_file(new)
            }
            other => {
                return match sys::exchange(new, old) {
                    Ok(()) => other.map(|_| Replaced::Elsewhere),
                    Err(error) => Ok(Replaced::Exchanged(error)),
                };
            }
        },
        // Some file systems cannot.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            if !is_it(old)? {
                return Ok(Replaced::Elsewhere);
            }
            std::fs::rename(new, old)?;
            then();
            Ok(())
        }
        Err(error) => return Err(error),
    };
    let synced = sync_folder(folder_of(old));
    Ok(match (removed, synced) {
        (Err(error), _) => Replaced::OldStays(error),
        (_, Err(error)) => Replaced::NotForGood(error),
        _ => Replaced::Done,
    })
}
