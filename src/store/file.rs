//! A store's file: reading and checking its header, and mapping it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::attachment::attach::Attachment;
use crate::error::{Error, Result};
use crate::format::layout::{FLAG_NO_CHECKPOINT, FORMAT, HEADER_LEN, Header, MAGIC};
use crate::format::regions::Regions;
use crate::mapping::cell;
use crate::mapping::map::Map;
use crate::os::store_file::StoreFile;

/// Checks the header, maps the file, and makes the attachment. Takes no lock.
pub(crate) fn map(path: PathBuf, file: StoreFile, writable: bool) -> Result<Arc<Attachment>> {
    if !cell::is_supported() {
        let what = "this processor has no 128-bit compare-exchange".into();
        return Err(Error::Unsupported { path, what });
    }
    let header = read_header(&path, &file)?;
    let map = Map::new(file, writable, header.max_size)
        .map_err(|e| Error::io(&path, "cannot map the file", e))?;
    Attachment::new(path, map, header, writable)
}

/// Reads the static header into private memory, and checks every number in it.
fn read_header(path: &Path, file: &File) -> Result<Header> {
    let not_a_store = |why: &str| Error::NotAStore { path: path.to_owned(), why: why.into() };
    let cannot_read = |e| Error::io(path, "cannot read it", e);
    let have = file.metadata().map_err(cannot_read)?.len();
    let mut page = [0; HEADER_LEN];
    let len = read_up_to(file, &mut page).map_err(cannot_read)?;
    if len == 0 {
        return Err(not_a_store("it is empty"));
    }
    if !page.starts_with(&MAGIC) {
        return Err(not_a_store("it does not begin with SLOTFILE"));
    }
    if len < HEADER_LEN {
        return Err(Error::Truncated { path: path.to_owned(), have, need: HEADER_LEN as u64 });
    }
    // The version is checked before the CRC, which another version may keep elsewhere.
    let version =
        |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
    let found = (version(8), version(12));
    if found.0 != FORMAT.0 || found.1 > FORMAT.1 {
        return Err(Error::Version { path: path.to_owned(), found, supported: FORMAT });
    }
    let corrupt = |what: &str| Error::corrupt(path, what);
    let header = Header::from_page(&page).ok_or_else(|| corrupt("the header's CRC is wrong"))?;
    if header.flags & !FLAG_NO_CHECKPOINT != 0 {
        return Err(corrupt("the header sets unknown flags"));
    }
    if Regions::new(header.minor, header.max_slots, header.max_size) != Some(header.regions) {
        return Err(corrupt("the header's regions do not follow from its sizes"));
    }
    let need = header.regions.least_len(header.has_checkpoint());
    if have < need {
        return Err(Error::Truncated { path: path.to_owned(), have, need });
    }
    Ok(header)
}

/// The error of a file that can be read but is not a store.
pub(crate) fn not_a_store(path: &Path) -> Option<Error> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    read_header(path, &file).err().filter(|error| matches!(error, Error::NotAStore { .. }))
}

/// Reads from the start of the file, up to its end. (Files of /proc and /sys report a wrong length,
/// so it is not asked for.)
fn read_up_to(file: &File, out: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < out.len() {
        match file.read_at(&mut out[len..], len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Opens the same file again, with locks of its own and perhaps other rights.
pub(crate) fn again(file: &File, writable: bool) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(writable).open(path)
}
