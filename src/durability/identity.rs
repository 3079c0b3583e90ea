//! Which boot, and which mount of its file system, the live area belongs to.
//!
//! The live area's pages in memory are those that processes wrote, as long as the machine keeps
//! running and the file system stays mounted. Both are compared with what was noted when the live
//! area was last put in order. What cannot be read is unknown, which means neither the same nor
//! another: then nothing is thrown away.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Relaxed, Release};

use crate::attachment::attach::Attachment;
use crate::format::layout::live;
use crate::mutant::planted;
use crate::os::sys;

/// As the words of the live header: the boot (two words), the device, the inode, its birth, the
/// mount of its file system, 1, the inode's generation. 0 means unknown, except in the seventh.
pub(crate) type Identity = [u64; 8];

const DEVICE: usize = 2;
const INODE: usize = 3;
const BIRTH: usize = 4;
const MOUNT: usize = 5;
/// 1 if the other words are an identity; stored last.
const VALID: usize = 6;
const GENERATION: usize = 7;

/// The identity of a store that is being restored.
const RESTORING: Identity = [0; 8];

/// What is known of the live area.
pub(crate) enum Verdict {
    /// It is as processes left it.
    Same,
    /// It belongs to another boot, mount or file: nobody knows what of it was lost.
    Another,
    /// Nobody can tell whether the machine was restarted; the reason.
    UnknownBoot(io::Error),
    /// Nobody can tell whether the file system was mounted anew in this boot; the reason.
    UnknownMount(String),
}

/// The current identity of an open file; an error if the boot is not known.
pub(crate) fn now(file: &File) -> io::Result<Identity> {
    let boot = boot_id()?;
    let metadata = file.metadata()?;
    let mount = match mount_of(file, metadata.dev()) {
        Mount::Known(mount) => mount,
        Mount::Nowhere | Mount::Hidden(_) => 0,
    };
    Ok([
        boot as u64,
        (boot >> 64) as u64,
        metadata.dev(),
        metadata.ino(),
        birth(&metadata),
        mount,
        1,
        generation(file),
    ])
}

/// Compares what was noted with the present. Under the open lock.
pub(crate) fn judge(attachment: &Attachment) -> io::Result<Verdict> {
    let file: &File = attachment.map.file();
    let noted = noted(attachment);
    if noted[VALID] != 1 {
        return Ok(Verdict::Another); // somebody has begun to restore it
    }
    let boot = boot_id();
    let metadata = file.metadata()?;
    if boot.as_ref().is_ok_and(|boot| [*boot as u64, (boot >> 64) as u64] != noted[..2])
        || !is_file(&noted, file, &metadata)?
    {
        return Ok(Verdict::Another);
    }
    // The inode is still the same one in memory, so all its pages are there.
    if sys::has_inode_hint(file) {
        return Ok(Verdict::Same);
    }
    if planted!(AnUnknownBootIsAnother) && boot.is_err() {
        return Ok(Verdict::Another);
    }
    if let Err(error) = boot {
        return Ok(Verdict::UnknownBoot(error));
    }
    Ok(match (noted[MOUNT], mount_of(file, metadata.dev())) {
        (0, Mount::Known(_)) if on_overlayfs(file)? => Verdict::Same, // see `mount_of`
        (0, Mount::Known(_)) => {
            Verdict::UnknownMount("the process that last used it could not read /sys".into())
        }
        (noted, Mount::Known(mount)) if noted == mount || planted!(AnyMountIsSame) => Verdict::Same,
        (_, Mount::Known(_)) => Verdict::Another,
        (_, Mount::Nowhere) => Verdict::Same,
        (_, Mount::Hidden(_)) if planted!(AnUnknownMountIsAnother) => Verdict::Another,
        (_, Mount::Hidden(why)) => Verdict::UnknownMount(why),
    })
}

/// Whether it is the same file, as far as is known.
fn is_file(noted: &Identity, file: &File, metadata: &Metadata) -> io::Result<bool> {
    let same = |noted: u64, now: u64| {
        noted == now || (noted == 0 || now == 0) && !planted!(WhatIsUnknownDiffers)
    };
    Ok(noted[INODE] == metadata.ino()
        // A file that was removed and copied back may have the same inode number.
        && same(noted[BIRTH], birth(metadata))
        && (noted[GENERATION] == 0 || same(noted[GENERATION], generation(file)))
        // An overlay gets another number each time it is mounted, for instance when a container
        // restarts, while the file system beneath stays mounted.
        && (noted[DEVICE] == metadata.dev()
            || on_overlayfs(file)? && !planted!(TheNumberOfAnOverlayCounts)))
}

fn noted(attachment: &Attachment) -> Identity {
    // Relaxed: the open lock, which is held, orders it.
    std::array::from_fn(|i| attachment.live.load(live::IDENTITY + i, Relaxed))
}

/// Whether the identity was noted for another file: this one is a copy.
pub(crate) fn is_of_another_file(attachment: &Attachment) -> bool {
    let (noted, file) = (noted(attachment), attachment.map.file());
    let same = file.metadata().and_then(|metadata| is_file(&noted, file, &metadata));
    noted[VALID] == 1 && matches!(same, Ok(false))
}

/// Notes that the live area is intact in this boot. This comes last: a process that is interrupted
/// before it restores again.
pub(crate) fn store(attachment: &Attachment, identity: &Identity) {
    for i in [0, 1, DEVICE, INODE, BIRTH, MOUNT, GENERATION, VALID] {
        // Stores of version 1.0 have no generation.
        let known = i != GENERATION || attachment.header.minor > 0;
        // Release: until the last word is stored, this is not an identity.
        attachment.live.store(live::IDENTITY + i, if known { identity[i] } else { 0 }, Release);
    }
}

/// Notes that the live area is not intact. Returns whether that was noted before.
pub(crate) fn store_restoring(attachment: &Attachment) -> bool {
    let before = noted(attachment) == RESTORING;
    store(attachment, &RESTORING);
    before
}

/// Notes only in the in-memory inode that the live area is intact. While that inode stays in
/// memory, nothing else needs to be known. If the hint cannot be set, all else is compared.
pub(crate) fn set_inode_hint(file: &File) {
    if planted!(TheInodeIsNotMarked) {
        return;
    }
    let _ = sys::set_inode_hint(file);
}

pub(crate) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn boot_id() -> io::Result<u128> {
    // In one call: `read_to_string` takes twice as long, which matters when opening a store.
    let (file, mut text) = (File::open(BOOT_ID)?, [0; 64]);
    let len = loop {
        match file.read_at(&mut text, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => break result?,
        }
    };
    let digits = std::str::from_utf8(&text[..len]).unwrap_or_default().trim().replace('-', "");
    u128::from_str_radix(&digits, 16)
        .map_err(|_| io::Error::new(io::ErrorKind::NotFound, "it contains no boot id"))
}

/// In nanoseconds since 1970; 0 if the file system does not say.
fn birth(metadata: &Metadata) -> u64 {
    let born = metadata.created().ok();
    let since = born.and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos() as u64)
}

/// The number that distinguishes an inode from earlier ones with the same number, plus 2^32; 0 if
/// the file system does not say.
fn generation(file: &File) -> u64 {
    sys::inode_generation(file).map_or(0, |generation| 1 << 32 | u64::from(generation))
}

/// A number that is new with each mount of a file system.
enum Mount {
    Known(u64),
    /// This kind of file system has none.
    Nowhere,
    /// It has one, but this process cannot see it.
    Hidden(String),
}

/// The inode number of the folder in which the kernel shows a mounted file system. A file system
/// that was unmounted and mounted again has a new one, while all else stays the same.
///
/// On btrfs, mixed with the subvolume's number: a snapshot has files with the same inode number,
/// birth and generation, and it may get the device number of a deleted subvolume.
///
/// A file system without such a folder has that of its device, which is new if the device was away.
/// An overlay has that of the file system with its upper layer, if that can be seen; in a container
/// it cannot.
fn mount_of(file: &File, device: u64) -> Mount {
    if on_overlayfs(file).unwrap_or(false) {
        let upper = upper_layer(file).and_then(|upper| File::open(upper).ok());
        let upper = upper.and_then(|upper| Some((upper.metadata().ok()?.dev(), upper)));
        return match upper.map(|(device, upper)| mount_of_layer(&upper, device)) {
            Some(Mount::Known(mount)) => Mount::Known(mount),
            _ => Mount::Nowhere,
        };
    }
    mount_of_layer(file, device)
}

fn mount_of_layer(file: &File, device: u64) -> Mount {
    let folder = match folder_in_sysfs(file, device) {
        Some(Ok(folder)) => folder,
        Some(Err(why)) => return Mount::Hidden(why),
        None if libc::major(device) == 0 => return Mount::Nowhere,
        None => device_in_sysfs(device),
    };
    let subvolume = match sys::file_system(file) {
        Ok(kind) if kind == BTRFS && !planted!(ASnapshotIsTheStore) => sys::file_system_id(file),
        other => other.map(|_| 0),
    };
    match std::fs::metadata(&folder).and_then(|folder| Ok((folder.ino(), subvolume?))) {
        Ok((mount, 0)) => Mount::Known(mount),
        // Times an odd number, so that no two pairs of small numbers give the same result.
        Ok((mount, subvolume)) => {
            Mount::Known(mount.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ subvolume)
        }
        Err(error) => Mount::Hidden(format!("{}: {error}", folder.display())),
    }
}

/// Numbers of file systems, from linux/magic.h.
pub(crate) const OVERLAYFS: i64 = 0x794c_7630;
const EXT4: i64 = 0xef53;
const XFS: i64 = 0x5846_5342;
const F2FS: i64 = 0xf2f5_2010;
pub(crate) const BTRFS: i64 = 0x9123_683e;

/// The folder of a mounted file system; an error if that cannot be told; `None` if it has no
/// folder.
fn folder_in_sysfs(file: &File, device: u64) -> Option<Result<PathBuf, String>> {
    let folder = Path::new("/sys/fs");
    if let Ok(name) = sys::name_in_sysfs(file) {
        return Some(Ok(folder.join(name)));
    }
    // Before Linux 6.9.
    let kind = match sys::file_system(file) {
        Ok(kind) => kind,
        Err(error) => return Some(Err(format!("its file system is not known: {error}"))),
    };
    // Some systems sign-extend a 32-bit number with its highest bit set.
    let kind = match i64::from(kind as u32) {
        EXT4 => "ext4",
        XFS => "xfs",
        F2FS => "f2fs",
        BTRFS => {
            let uuid = sys::btrfs_uuid(file).map_err(|e| format!("its UUID is not known: {e}"));
            return Some(uuid.map(|uuid| folder.join("btrfs").join(uuid)));
        }
        _ => return None,
    };
    let device = device_in_sysfs(device);
    let name = std::fs::read_link(&device);
    Some(match name.as_ref().map(|name| name.file_name()) {
        Ok(Some(name)) => Ok(folder.join(kind).join(name)),
        Ok(None) => Err(format!("{}: it has no name", device.display())),
        Err(error) => Err(format!("{}: {error}", device.display())),
    })
}

fn device_in_sysfs(device: u64) -> PathBuf {
    format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device)).into()
}

pub(crate) fn on_overlayfs(file: &File) -> io::Result<bool> {
    Ok(sys::file_system(file)? == OVERLAYFS)
}

/// The upper layer of the overlay that this file is on, under the name given when it was mounted.
fn upper_layer(file: &File) -> Option<PathBuf> {
    // Search by the number of the mount. The device number may be that of another mount if the
    // layers are on several file systems: a file has the device number of its layer.
    let known = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let mount = known.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    // proc_pid_mountinfo(5): the first field is the mount, the last the file system's options.
    let mut lines = mounts.lines().map(|line| line.split(' '));
    let options = lines.find(|fields| fields.clone().next() == Some(mount))?.next_back()?;
    let upper = options.split(',').find_map(|option| option.strip_prefix("upperdir="))?;
    Some(upper.replace("\\040", " ").into())
}
