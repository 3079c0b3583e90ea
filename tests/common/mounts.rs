//! File systems in files for one test, mounted where no other process sees them.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::os;

/// Runs `f` in a process of its own, with mounts of its own.
pub fn with_own_mounts(f: impl FnOnce()) {
    if !os::is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    os::fork(|| match os::have_own_mounts() {
        true => f(),
        false => eprintln!("skipped: this process may have no mounts of its own"),
    })
    .join();
}

/// A file system in a file, mounted where no other process sees it.
pub struct Disk {
    /// A folder that is not on it.
    pub beside: PathBuf,
    pub image: PathBuf,
    /// Where it is mounted.
    pub at: PathBuf,
}

/// Runs `f` in a process of its own, with a file system of this kind; prints that it is skipped
/// if that is impossible.
pub fn on(kind: &str, f: impl FnOnce(&Disk)) {
    let folder = super::folder();
    with_own_mounts(|| {
        if let Some(disk) = Disk::make(kind, &[], folder.path()) {
            f(&disk);
        }
    });
}

impl Disk {
    /// Makes it in this folder, and mounts it. `options` are for its mkfs.
    pub fn make(kind: &str, options: &[&str], beside: &Path) -> Option<Disk> {
        let [image, at] = [kind, "at"].map(|name| beside.join(name));
        File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let mkfs =
            Command::new(format!("mkfs.{kind}")).arg("-q").args(options).arg(&image).output();
        if !mkfs.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no mkfs.{kind}");
            return None;
        }
        std::fs::create_dir_all(&at).unwrap();
        let disk = Disk { beside: beside.to_owned(), image, at };
        disk.mount().then_some(disk)
    }

    fn mount(&self) -> bool {
        let mounted =
            Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.at]).output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("skipped: {} cannot be mounted", self.image.display());
        }
        mounted
    }

    /// How many bytes have been written to it.
    pub fn written(&self) -> u64 {
        let device = std::fs::metadata(&self.at).unwrap().dev();
        let (major, minor) = (libc::major(device), libc::minor(device));
        let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).unwrap();
        // The seventh number is that of sectors of 512 bytes, see the kernel's
        // Documentation/block/stat.rst.
        512 * stat.split_whitespace().nth(6).unwrap().parse::<u64>().unwrap()
    }

    pub fn mount_anew(&self) {
        assert!(os::unmount(&self.at) && self.mount());
    }
}

/// Mounts an overlay of the folder `lower` in that of `lower`, and of `upper` in that of `layers`;
/// prints that it is skipped if that is impossible.
pub fn mount_overlay(lower: &Path, layers: &Path, at: &Path) -> bool {
    let (lower, [upper, work]) = (lower.join("lower"), ["upper", "work"].map(|n| layers.join(n)));
    for folder in [&lower, &upper, &work, &at.to_owned()] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let mounted = os::mount("overlay", Path::new("overlay"), at, 0, &options);
    if !mounted {
        eprintln!("skipped: overlayfs cannot be mounted here");
    }
    mounted
}
