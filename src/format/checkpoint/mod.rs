//! What a checkpoint is on disk: copies of segments, and the record that says which of them belong
//! together.
//!
//! Each segment has two copies, of which at most one is in use. A sync writes the other copies,
//! then the record that is not in use. So wherever it is interrupted, the record in use and all
//! that it names are untouched. This module knows nothing of the live slots.

mod copy;
mod mark;
mod record;
mod segments;

pub(crate) use copy::*;
pub(crate) use mark::*;
pub(crate) use record::*;
pub(crate) use segments::*;

use crate::protocol::{self, Control, REMOVED};

/// What a copy was made of: the slot's version times two, plus one if it was removed.
pub(crate) type Stamp = u64;

/// A stamp that no slot has, as versions have 47 bits.
pub(crate) const UNKNOWN: Stamp = Stamp::MAX;

/// The stamp of a slot with this control word.
#[inline]
pub(crate) fn stamp_of(control: Control) -> Stamp {
    control.version() << 1 | Stamp::from(control.is_removed())
}

/// Whether it is that of a removed slot.
pub(crate) fn is_removed(stamp: Stamp) -> bool {
    stamp & 1 == 1 && stamp != UNKNOWN
}

/// The control word of a slot at rest with this stamp.
pub(crate) fn control_of(stamp: Stamp) -> Control {
    let owner = if stamp & 1 == 1 { REMOVED } else { protocol::FREE };
    Control::default().advanced(stamp >> 1).with_owner(owner)
}
