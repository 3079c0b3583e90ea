//! What the stores are on.

use std::fmt::{Display, Formatter};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// A file system, as the kernel lists it.
#[derive(Debug, PartialEq)]
pub struct FileSystem {
    /// ext4, say.
    pub kind: String,
    /// /dev/vda, say.
    pub device: String,
}

impl Display for FileSystem {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.kind, self.device)
    }
}

impl FileSystem {
    /// Of the files in this folder.
    pub fn of(folder: &Path) -> Result<FileSystem> {
        let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("the mounts")?;
        FileSystem::in_mounts(&mounts, &folder).context("a file system of the folder")
    }

    /// The last of the deepest mounts above `folder`. (A later one hides an earlier one.)
    fn in_mounts(mounts: &str, folder: &Path) -> Option<FileSystem> {
        let above = mounts.lines().filter_map(|line| {
            let (mount, of) = line.split_once(" - ")?;
            let point = Path::new(mount.split(' ').nth(4)?);
            let mut of = of.split(' ');
            let found = FileSystem { kind: of.next()?.to_owned(), device: of.next()?.to_owned() };
            folder.starts_with(point).then_some((point.as_os_str().len(), found))
        });
        above.max_by_key(|(depth, _)| *depth).map(|(_, found)| found)
    }

    /// Nothing on it is on a disk.
    pub fn is_memory(&self) -> bool {
        ["tmpfs", "ramfs", "devtmpfs"].contains(&self.kind.as_str())
    }
}

/// Bytes written to the disk of this folder, by the disk's own count, so those of other programs
/// too.
pub fn disk_writes(folder: &Path) -> Result<u64> {
    let device = std::fs::metadata(folder)?.dev();
    let path = format!("/sys/dev/block/{}:{}/stat", libc::major(device), libc::minor(device));
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // Field 7: sectors of 512 bytes written (Documentation/block/stat.rst).
    let sectors: u64 = stat.split_whitespace().nth(6).context(path)?.parse()?;
    Ok(512 * sectors)
}

/// Writes to the disk all that programs have written to this file system, so that nobody else's
/// flush has to.
pub fn settle(folder: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    let folder = std::fs::File::open(folder)?;
    // SAFETY: the call touches no memory, and the descriptor is open.
    ensure!(unsafe { libc::syncfs(folder.as_raw_fd()) } == 0, std::io::Error::last_os_error());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        23 22 0:21 / /dev rw shared:2 - devtmpfs devtmpfs rw\n\
        24 23 0:22 / /dev/shm rw - tmpfs shm rw,inode64\n\
        25 22 0:30 / /data rw - tmpfs none rw\n\
        26 22 254:16 / /data rw - xfs /dev/vdb rw\n";

    #[test]
    fn the_file_system_of_a_folder_is_that_of_the_deepest_mount() {
        let of = |folder: &str| {
            let found = FileSystem::in_mounts(MOUNTS, Path::new(folder)).unwrap();
            (found.is_memory(), format!("{} {}", found.kind, found.device))
        };
        assert_eq!(of("/home/x"), (false, "ext4 /dev/vda".into()));
        assert_eq!(of("/dev/shm/x"), (true, "tmpfs shm".into()));
        assert_eq!(of("/dev/shmx"), (true, "devtmpfs devtmpfs".into()));
        assert_eq!(of("/data/x"), (false, "xfs /dev/vdb".into()));
        assert!(FileSystem::of(Path::new("/proc")).is_ok_and(|found| found.kind == "proc"));
    }
}
