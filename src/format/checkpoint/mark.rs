//! The mark: which sync was acknowledged last.

use std::io;

use super::EPOCHS;
use crate::format::regions::Regions;
use crate::mutant::planted;
use crate::os::disk::{self, Disk};

/// The mark: the epoch of the last acknowledged sync, with its CRC. It is written without a flush.
/// If the mark is there, the record it names must be there too.
pub(crate) fn write_mark(disk: &dyn Disk, regions: &Regions, epoch: u64) -> io::Result<()> {
    if planted!(NoMark) {
        return Ok(());
    }
    let epoch = epoch.to_le_bytes();
    let crc = crc32fast::hash(&epoch).to_le_bytes();
    let mut mark = [0; 16];
    mark[..8].copy_from_slice(&epoch);
    mark[8..12].copy_from_slice(&crc);
    disk.write(regions.mark, &mark)
}

/// What the mark's region holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nothing: no sync was acknowledged yet, or a power cut lost the mark.
    Absent,
    /// The epoch of an acknowledged sync.
    Of(u64),
    /// Neither, or it cannot be read. The mark lies within one sector, which no power cut tears: so
    /// this is damage.
    Damaged,
}

impl Mark {
    pub(crate) fn read(disk: &dyn Disk, regions: &Regions) -> io::Result<Mark> {
        let mut mark = [0; 16];
        if !disk::read_if_there(disk, regions.mark, &mut mark)? {
            return Ok(Mark::Damaged);
        }
        if mark == [0; 16] {
            return Ok(Mark::Absent);
        }
        let (epoch, rest) = mark.split_at(8);
        let crc = crc32fast::hash(epoch).to_le_bytes();
        let epoch = epoch.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        let right = rest[..4] == crc && rest[4..] == [0; 4] && EPOCHS.contains(&epoch);
        Ok(if right { Mark::Of(epoch) } else { Mark::Damaged })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_mark_reads_back_and_any_other_byte_is_damage() {
        let regions = Regions::new(1, 1000, 1 << 30).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(regions.runs).unwrap();
        assert_eq!(Mark::read(&file, &regions).unwrap(), Mark::Absent);
        write_mark(&file, &regions, 0x0102_0304_0506).unwrap();
        assert_eq!(Mark::read(&file, &regions).unwrap(), Mark::Of(0x0102_0304_0506));
        for at in 0..16 {
            write_mark(&file, &regions, 0x0102_0304_0506).unwrap();
            file.write_all_at(&[0x99], regions.mark + at).unwrap();
            assert_eq!(Mark::read(&file, &regions).unwrap(), Mark::Damaged, "byte {at}");
        }
    }
}
