//! Which boot and which mount of its file system the live area is of.
//!
//! Its pages in memory are the ones that processes have written for as long as the machine
//! runs on and the file system stays mounted. Both are compared with what was noted when the
//! live area was last put into order. What cannot be read is unknown, which is neither the
//! same nor another: then nothing is thrown away.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Relaxed, Release};

use crate::attachment::attach::Attachment;
use crate::format::layout::live;
use crate::os::sys;

/// As the words of the live header: the boot (two words), the device, the inode, its birth, the
/// mount of its file system, 1, the inode's generation. 0 is unknown, but for the seventh.
pub(crate) type Identity = [u64; 8];

const DEVICE: usize = 2;
const INODE: usize = 3;
const BIRTH: usize = 4;
const MOUNT: usize = 5;
/// 1 if the others are an identity; stored last of all.
const VALID: usize = 6;
const GENERATION: usize = 7;

/// That of a store which is being restored.
const RESTORING: Identity = [0; 8];

/// What can be said of the live area.
pub(crate) enum Verdict {
    /// It is as processes have left it.
    Same,
    /// It is of another boot, another mount, or another file: nobody knows what of it was lost.
    Another,
    /// Why it cannot be told whether the machine was restarted.
    UnknownBoot(io::Error),
    /// Why it cannot be told whether the file system was mounted anew, in this boot.
    UnknownMount(String),
}

/// The identity of an open file, as of now; an error where the boot is not known.
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

/// Compares what was noted with what is. Under the open lock.
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
    // The inode is still the one in memory that it was then, and so all pages are there.
    if sys::is_marked(file) {
        return Ok(Verdict::Same);
    }
    if let Err(error) = boot {
        return Ok(Verdict::UnknownBoot(error));
    }
    Ok(match (noted[MOUNT], mount_of(file, metadata.dev())) {
        (0, Mount::Known(_)) if on_overlayfs(file)? => Verdict::Same, // see `mount_of`
        (0, Mount::Known(_)) => {
            Verdict::UnknownMount("who used it last could not look into /sys".into())
        }
        (noted, Mount::Known(mount)) if noted == mount => Verdict::Same,
        (_, Mount::Known(_)) => Verdict::Another,
        (_, Mount::Nowhere) => Verdict::Same,
        (_, Mount::Hidden(why)) => Verdict::UnknownMount(why),
    })
}

/// Whether it is the same file, as far as is known.
fn is_file(noted: &Identity, file: &File, metadata: &Metadata) -> io::Result<bool> {
    let same = |noted: u64, now: u64| noted == 0 || now == 0 || noted == now;
    Ok(noted[INODE] == metadata.ino()
        // A file that was removed and copied back may have the same inode number.
        && same(noted[BIRTH], birth(metadata))
        && (noted[GENERATION] == 0 || same(noted[GENERATION], generation(file)))
        // An overlay has another number each time it is mounted, as when a container is
        // restarted, while the file system beneath stays mounted.
        && (noted[DEVICE] == metadata.dev() || on_overlayfs(file)?))
}

fn noted(attachment: &Attachment) -> Identity {
    // Relaxed: the open lock, which is held, orders it.
    std::array::from_fn(|i| attachment.live.load(live::IDENTITY + i, Relaxed))
}

/// Whether the file is not the one of which the identity was noted: it is a copy.
pub(crate) fn is_of_another_file(attachment: &Attachment) -> bool {
    let (noted, file) = (noted(attachment), attachment.map.file());
    let same = file.metadata().and_then(|metadata| is_file(&noted, file, &metadata));
    noted[VALID] == 1 && matches!(same, Ok(false))
}

/// Notes that the live area is whole in this boot. Last of all, so that whoever is
/// interrupted before restores again.
pub(crate) fn store(attachment: &Attachment, identity: &Identity) {
    for i in [0, 1, DEVICE, INODE, BIRTH, MOUNT, GENERATION, VALID] {
        // Stores of version 1.0 have no generation.
        let known = i != GENERATION || attachment.header.minor > 0;
        // Release: until the last is stored it is nobody's identity.
        attachment.live.store(live::IDENTITY + i, if known { identity[i] } else { 0 }, Release);
    }
}

/// Notes that the live area is not whole. Whether that was noted before.
pub(crate) fn store_restoring(attachment: &Attachment) -> bool {
    let before = noted(attachment) == RESTORING;
    store(attachment, &RESTORING);
    before
}

/// Notes in the inode in memory, and nowhere else, that the live area is whole: as long as
/// that inode stays there, nothing else needs to be known. Where it cannot be, all else is
/// compared.
pub(crate) fn mark(file: &File) {
    let _ = sys::mark(file);
}

pub(crate) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn boot_id() -> io::Result<u128> {
    // By one call: half of the time of `read_to_string`, which counts in opening a store.
    let (file, mut text) = (File::open(BOOT_ID)?, [0; 64]);
    let len = loop {
        match file.read_at(&mut text, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => break result?,
        }
    };
    let digits = std::str::from_utf8(&text[..len]).unwrap_or_default().trim().replace('-', "");
    u128::from_str_radix(&digits, 16)
        .map_err(|_| io::Error::new(io::ErrorKind::NotFound, "it holds no boot id"))
}

/// In nanoseconds since 1970; 0: the file system does not say.
fn birth(metadata: &Metadata) -> u64 {
    let born = metadata.created().ok();
    let since = born.and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos() as u64)
}

/// The number that tells an inode from earlier ones with the same number, plus 2^32; 0: the
/// file system does not say.
fn generation(file: &File) -> u64 {
    sys::inode_generation(file).map_or(0, |generation| 1 << 32 | u64::from(generation))
}

/// A number that is new with each mount of a file system.
enum Mount {
    Known(u64),
    /// This kind of file system has none.
    Nowhere,
    /// It has one, which this process cannot see.
    Hidden(String),
}

/// The inode number of the folder that the kernel shows of a mounted file system: one that
/// was shut down and mounted again has a new one, while all else is the same.
///
/// On btrfs, mixed with the number of the subvolume: a snapshot has files with the same inode
/// number, birth and generation, and it may get the device number of a subvolume that was deleted.
///
/// Of a file system without such a folder, that of its device, which is new when it was away.
/// Of an overlay, that of the file system which its upper layer is on, where that can be seen;
/// in a container it cannot.
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
        Ok(kind) if kind == BTRFS => sys::file_system_id(file),
        other => other.map(|_| 0),
    };
    match std::fs::metadata(&folder).and_then(|folder| Ok((folder.ino(), subvolume?))) {
        Ok((mount, 0)) => Mount::Known(mount),
        // Times an odd number, so that no two of the small numbers that both are make the same.
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

/// The folder of a mounted file system; an error if that cannot be told; `None` if there is
/// none.
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
    // Of a 32-bit number with its highest bit set, some systems show the sign.
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

/// The upper layer of the overlay that this file is on, as it was named when it was mounted.
fn upper_layer(file: &File) -> Option<PathBuf> {
    // By the number of the mount. That of the device is another one's where the layers are on
    // several file systems: a file has the one that its layer has.
    let known = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let mount = known.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    // proc_pid_mountinfo(5): the first field is the mount, the last the file system's options.
    let mut lines = mounts.lines().map(|line| line.split(' '));
    let options = lines.find(|fields| fields.clone().next() == Some(mount))?.next_back()?;
    let upper = options.split(',').find_map(|option| option.strip_prefix("upperdir="))?;
    Some(upper.replace("\\040", " ").into())
}
