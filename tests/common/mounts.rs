//! File systems of a test's own, in files, mounted where nobody else sees them.

use std::fs::File;
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

/// Makes a file system of this kind in a file of the folder, to be mounted with [`mount`];
/// false where that cannot be.
pub fn make(kind: &str, folder: &Path) -> Option<PathBuf> {
    let image = folder.join(kind);
    File::create(&image).unwrap().set_len(400 << 20).unwrap();
    let made = Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image).output();
    if !made.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no mkfs.{kind}");
        return None;
    }
    Some(image)
}

/// Mounts what was made.
pub fn mount(image: &Path, at: &Path) -> bool {
    let mounted = Command::new("mount").args(["-o", "loop"]).args([image, at]).output();
    let mounted = mounted.is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("skipped: {} cannot be mounted", image.display());
    }
    mounted
}

/// Mounts an overlay, whose upper layer is in `layers`.
pub fn mount_overlay(lower: &Path, layers: &Path, at: &Path) -> bool {
    let (lower, [upper, work]) = (lower.join("lower"), ["upper", "work"].map(|n| layers.join(n)));
    for folder in [&lower, &upper, &work] {
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
