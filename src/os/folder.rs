//! File names in their folders.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::mutant::planted;
use crate::os::descriptor::FileId;
use crate::os::sys;

/// An unused name in the same folder.
pub(crate) fn unused_name(path: &Path) -> io::Result<PathBuf> {
    Ok(folder_of(path).join(format!(".slotfile-{}", hex(random()))))
}

/// A number that no other store has: for its ID, or for an unused name.
pub(crate) fn random() -> [u8; 16] {
    bytemuck::cast([sys::random(), sys::random()])
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The folder of a path; the working folder if the path is only a name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Makes a new name survive a power cut. Skips a folder that may be written but not read: it cannot
/// be opened.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// The result of replacing one store by another.
pub(crate) enum Replaced {
    /// Replaced durably, and the old store is gone.
    Done,
    /// Replaced. The old store now has the new one's former name, and could not be removed.
    OldStays(io::Error),
    /// Replaced, and the old store is gone, but a power cut may undo it.
    NotForGood(io::Error),
    /// The old store has been moved, or has more than one name: nothing was done.
    Elsewhere,
    /// Like `Elsewhere`, but the two have exchanged names, and could not exchange them back.
    Exchanged(io::Error),
}

/// Replaces one store, which is open as `file`, by another; runs `then` as soon as the new one is
/// in place. On an error, nothing was done.
pub(crate) fn replace(
    new: &Path,
    old: &Path,
    file: &File,
    then: impl FnOnce(),
) -> io::Result<Replaced> {
    let is_it = |path: &Path| -> io::Result<bool> {
        let (there, open) = (std::fs::symlink_metadata(path)?, file.metadata()?);
        let is_it = FileId::of(&there) == FileId::of(&open) && open.nlink() == 1;
        Ok(is_it || planted!(TheFileAtThePathIsNotComparedAgain))
    };
    // They exchange names, so nothing is lost if it was another file after all.
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
        // Some file systems cannot exchange names.
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
