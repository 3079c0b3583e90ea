//! What a checkpoint is on disk: copies of segments, and the record that says which of them belong
//! together.
//!
//! Each segment has two copies, of which at most one is in use. A sync writes the other copies,
//! then the record that is not in use. So wherever it is interrupted, the record in use and all
//! that it names are untouched. This module knows nothing of the live slots.

mod copy;
mod mark;
mod places;
mod record;

pub(crate) use copy::*;
pub(crate) use mark::*;
pub(crate) use places::*;
pub(crate) use record::*;

use crate::protocol::{self, Control, REMOVED};

/// A slot's version times two, plus one if it was removed.
pub(crate) type Tag = u64;

/// A tag that no slot has: versions have 47 bits.
pub(crate) const UNKNOWN: Tag = Tag::MAX;

/// The tag of a slot with this control word.
#[inline]
pub(crate) fn tag_of(control: Control) -> Tag {
    control.version() << 1 | Tag::from(control.is_removed())
}

/// The control word of a slot at rest with this tag.
pub(crate) fn control_of(tag: Tag) -> Control {
    let owner = if tag & 1 == 1 { REMOVED } else { protocol::FREE };
    Control::default().advanced(tag >> 1).with_owner(owner)
}
