//! What the file system says of a file and of itself.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::{check, uninterrupted};

/// The type of the file system of a file, as statfs(2) numbers them.
pub(crate) fn file_system(file: &File) -> io::Result<i64> {
    Ok(statfs(file)?.f_type)
}

/// The ID of the file system of a file or, on btrfs, of the subvolume.
pub(crate) fn file_system_id(file: &File) -> io::Result<u64> {
    let id = statfs(file)?.f_fsid;
    // SAFETY: it is two 32-bit numbers, which the library gives no names; any bits are a valid u64.
    Ok(unsafe { std::mem::transmute::<libc::fsid_t, u64>(id) })
}

fn statfs(file: &File) -> io::Result<libc::statfs> {
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: fstatfs fills the struct, which is on this stack.
    uninterrupted(|| unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, and so filled it.
    Ok(unsafe { found.assume_init() })
}

/// The directory of this file's file system below /sys/fs, such as `ext4/sda1`. Since Linux 6.9,
/// and not for every type.
pub(crate) fn name_in_sysfs(file: &File) -> io::Result<String> {
    const FS_IOC_GETFSSYSFSPATH: libc::c_ulong = 0x8081_1501; // linux/fs.h
    // A length, then the name.
    let mut found = [0u8; 129];
    // SAFETY: the call fills the 129 bytes, which are on this stack.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETFSSYSFSPATH as _, &mut found) })?;
    let name = found[1..].get(..found[0].into()).unwrap_or_default();
    let name = std::str::from_utf8(name).unwrap_or_default().trim_end_matches('\0');
    if name.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(name.to_owned()) }
}

/// The UUID of the btrfs file system of this file.
pub(crate) fn btrfs_uuid(file: &File) -> io::Result<String> {
    const BTRFS_IOC_FS_INFO: libc::c_ulong = 0x8400_941f; // linux/btrfs.h
    let mut found = [0u64; 128];
    // SAFETY: the call fills the 1,024 bytes, which are on this stack.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BTRFS_IOC_FS_INFO as _, &mut found) })?;
    // It comes after two words.
    let bytes = [found[2].to_le_bytes(), found[3].to_le_bytes()].concat();
    let hex = |part: std::ops::Range<usize>| -> String {
        bytes[part].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    Ok([hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)].join("-"))
}

/// The number that distinguishes an inode from earlier ones with the same inode number.
pub(crate) fn inode_generation(file: &File) -> io::Result<u32> {
    const FS_IOC_GETVERSION: libc::c_ulong =
        0x7601 | 2 << 30 | (size_of::<libc::c_long>() as libc::c_ulong) << 16; // linux/fs.h
    // The kernel fills an `int`, although the number of the call says `long`.
    let mut found: libc::c_long = 0;
    // SAFETY: the call fills the number, which is on this stack.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETVERSION as _, &mut found) })?;
    Ok(found as u32)
}

/// Commands of fcntl(2), and the write hint that means that nothing is known.
const F_GET_RW_HINT: libc::c_int = 1035;
const F_SET_RW_HINT: libc::c_int = 1036;
const RWH_WRITE_LIFE_NONE: u64 = 1;

/// Sets the hint for the lifetime of written data, to the value that changes nothing. The kernel
/// keeps it as long as the inode is in memory, and writes it nowhere. Only the owner may set it
/// (Linux 4.13).
pub(crate) fn set_inode_hint(file: &File) -> io::Result<()> {
    let hint = RWH_WRITE_LIFE_NONE;
    // SAFETY: the call reads the number, which is on this stack.
    check(unsafe { libc::fcntl(file.as_raw_fd(), F_SET_RW_HINT, &hint) })?;
    Ok(())
}

/// Whether the inode in memory has that hint.
pub(crate) fn has_inode_hint(file: &File) -> bool {
    let mut hint = 0u64;
    // SAFETY: the call fills the number, which is on this stack.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), F_GET_RW_HINT, &mut hint) };
    result == 0 && hint == RWH_WRITE_LIFE_NONE
}

const FS_NOCOW_FL: libc::c_int = 0x0080_0000; // linux/fs.h

/// Asks btrfs to write this empty file in place. If it wrote each change elsewhere, what
/// `fallocate` promises would be lost.
pub(crate) fn write_in_place(file: &File) -> io::Result<()> {
    let flags = attributes(file)? | FS_NOCOW_FL;
    // SAFETY: the call reads the number, which is on this stack.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &flags) })?;
    Ok(())
}

/// Whether btrfs writes this file in place.
pub(crate) fn is_written_in_place(file: &File) -> io::Result<bool> {
    Ok(attributes(file)? & FS_NOCOW_FL != 0)
}

fn attributes(file: &File) -> io::Result<libc::c_int> {
    let mut flags: libc::c_int = 0;
    // SAFETY: the call fills the number, which is on this stack.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, &mut flags) })?;
    Ok(flags)
}
