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

/// Puts one store in the place of another, which is open as `file`; `then` runs as soon as it is
/// there. False if the file has another place by now, or more than one.
pub(crate) fn replace(
    new: &Path,
    old: &Path,
    file: &File,
    then: impl FnOnce(),
) -> io::Result<bool> {
    let is_it = |path: &Path| -> io::Result<bool> {
        let (there, open) = (std::fs::symlink_metadata(path)?, file.metadata()?);
        Ok(location::id(&there) == location::id(&open) && open.nlink() == 1)
    };
    // They change places, so that nothing is lost if it was another file after all.
    match sys::exchange(new, old) {
        Ok(()) => match is_it(new) {
            Ok(true) => {
                then();
                std::fs::remove_file(new)?;
            }
            other => {
                sys::exchange(new, old)?;
                return other;
            }
        },
        // Some file systems cannot.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            if !is_it(old)? {
                return Ok(false);
            }
            std::fs::rename(new, old)?;
            then();
        }
        Err(error) => return Err(error),
    }
    sync_folder(folder_of(old))?;
    Ok(true)
}
