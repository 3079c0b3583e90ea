//! Copies many slots as of one instant (a consistent cut), while other processes write them.
//!
//! It works like live migration. It copies what changed, by the readers' protocol, then copies
//! again what changed meanwhile. In later passes it locks the few slots that keep changing, without
//! ever waiting for a lock. Then it reads the number of descriptors, and after that the version of
//! every slot, including those never copied. If all are as they were when copied, the copies are
//! the state at the instant when the number was read. Slots defined during that look belong to the
//! next cut. A stopped writer's slot does not change, so the cut never waits for it.

use std::cell::OnceCell;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use crate::attachment::attach::Attachment;
use crate::directory::directory;
use crate::error::{Error, Result};
use crate::format::checkpoint::{Tag, UNKNOWN, tag_of};
use crate::format::layout::{self, Descriptor, GRANULE, Outline, live};
use crate::mapping::cell;
use crate::mapping::element::ElementRegion;
use crate::mapping::map::{Map, Region};
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Control, Deadline, Memory, effective_version};
use crate::types::dtype::SlotType;

/// Passes in which changed slots are only read. Later passes lock them as well.
const READING_PASSES: usize = 4;
/// Passes before the cut starts over.
const PASSES: usize = 32;
/// How often a cut starts over because of new slots. After that it keeps definitions out, if none
/// is in progress.
const OPEN_TO_DEFINITIONS: usize = 3;

/// How long a cut tries at least, however short the time-out is. A time-out limits waiting, and a
/// cut waits for nobody.
const SHORTEST_TRY: Duration = Duration::from_secs(1);

/// A copier of slots: a sync, or a copy of the store.
pub(crate) trait Copier {
    fn slots(&mut self) -> &mut Slots;

    /// Adds the descriptors up to line `lines`.
    fn extend(&mut self, lines: u32) -> Result<()>;

    /// Copies what has changed until nothing has, by [`Slots::settle_copies`].
    fn settle_copies(&mut self, lines: u32, deadline: &mut Deadline) -> Result<Settled>;
}

/// The outcome of one try to copy all slots as of one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Done,
    /// More lines of descriptors exist by now.
    MoreLines,
    /// The slot with this number kept changing and could not be locked.
    Restless(usize),
}

/// Makes `copier` copy all slots as of one instant. Tries until the deadline, and for at least
/// [`SHORTEST_TRY`].
pub(crate) fn cut(
    copier: &mut impl Copier,
    attachment: &Attachment,
    deadline: &Deadline,
) -> Result<()> {
    let deadline = &mut Deadline::new(deadline.timeout().map(|time| time.max(SHORTEST_TRY)));
    let lock = attachment.lock(live::DIRECTORY_LOCK);
    let mut no_definitions = None;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let lines = directory::count(attachment)?;
        copier.extend(lines)?;
        let settled = copier.settle_copies(lines, deadline)?;
        let restless = match settled {
            Settled::Done => return Ok(()),
            Settled::MoreLines => None,
            Settled::Restless(number) => Some(copier.slots().memories.place(number)),
        };
        if attempts > OPEN_TO_DEFINITIONS && deadline.is_over() {
            return Err(keeps_changing(attachment, restless, deadline));
        }
        // A process that is stopped with this lock defines nothing, so the lock is not needed then.
        // It is not kept while slots change: definitions must not wait for those.
        no_definitions = match settled {
            Settled::MoreLines if attempts >= OPEN_TO_DEFINITIONS => {
                no_definitions.or_else(|| protocol::try_lock(&lock, attachment))
            }
            _ => None,
        };
    }
}

/// The error of a cut that gave up: what kept changing. `place` is the slot's.
fn keeps_changing(attachment: &Attachment, place: Option<u64>, deadline: &Deadline) -> Error {
    let mut what = "the directory (new slots are being defined)".to_owned();
    if let Some(place) = place {
        what = "a slot".to_owned();
        // If the directory is damaged, the slot has no name.
        let _ = directory::each(attachment, |descriptor| {
            if descriptor.live == place {
                what = format!("slot {:?}", descriptor.name);
            }
            Ok(())
        });
    }
    Error::KeepsChanging { path: attachment.path.clone(), what, waited: deadline.limit() }
}

/// The slot's tag at this moment.
pub(crate) fn tag(memory: &impl Memory, attachment: &Attachment) -> Tag {
    // Acquire: a thread that sees a version sees its content.
    tag_at_rest(memory.control(Acquire))
        .unwrap_or_else(|| effective_version(memory, attachment) << 1)
}

/// The tag of a slot with this control word; `None` if it also depends on other words.
#[inline]
fn tag_at_rest(control: Control) -> Option<Tag> {
    let at_rest = !control.in_transaction() || control.is_removed();
    at_rest.then(|| tag_of(control))
}

/// The elements of a buffer; `None` for any other slot. The cut covers only a buffer's version and
/// whether it was removed. Its content is copied once all else has come to rest, so that it
/// includes all that was stored before the cut.
pub(crate) fn elements(descriptor: &Descriptor, memory: &SlotMemory) -> Option<ElementRegion> {
    match &descriptor.slot_type {
        SlotType::Buffer(t, shape) => Some(ElementRegion::new(memory, *t, shape.len())),
        _ => None,
    }
}

/// The file up to `end`, and further if possible, for slots that follow.
#[cold]
fn file_up_to(attachment: &Attachment, end: u64) -> Result<Region> {
    let more = attachment.region(0, end.next_multiple_of(GRANULE));
    more.or_else(|_| attachment.region(0, end))
}

/// The slots that are copied together, by number.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub(crate) memories: Memories,
    /// The tag of each when it was last copied; [`UNKNOWN`] if it never was, or if it changed
    /// during the copy.
    pub(crate) seen: Vec<Tag>,
    /// Those that the last cut copied, in ascending order.
    lately: Vec<usize>,
    /// From this number on they are new: it is not known whether they have changed.
    new: usize,
    /// Those that the current cut has copied.
    copied: Vec<usize>,
}

/// Their memories. Nearly all of many slots have not changed, and of such a slot only the control
/// word is touched. So this holds no more than it takes to reach that word.
#[derive(Debug, Default)]
pub(crate) struct Memories {
    extents: Vec<Extent>,
    /// The part of the file that contains all of them.
    file: Option<Region>,
}

/// Where a slot is in the file, and what its memory is made of.
#[derive(Clone, Copy, Debug)]
struct Extent {
    live: u64,
    content_len: u64,
    areas: u8,
}

impl Memories {
    fn file(&self) -> Region<&Map> {
        self.file.as_ref().expect("it came with the first slot").by_ref()
    }

    /// Where a slot is in the file.
    fn place(&self, number: usize) -> u64 {
        self.extents[number].live
    }

    pub(crate) fn get(&self, number: usize) -> SlotMemory<&Map> {
        let Extent { live, content_len, areas } = self.extents[number];
        let words = layout::live_len(live, content_len, areas) as usize / 8;
        let file = self.file();
        SlotMemory::new(file.part(live as usize / 8, words), layout::form(live, content_len, areas))
    }

    /// A slot's tag at this moment.
    pub(crate) fn tag(&self, attachment: &Attachment, number: usize) -> Tag {
        tag_at_rest(cell::control_at(&self.file(), self.place(number)))
            .unwrap_or_else(|| tag(&self.get(number), attachment))
    }
}

impl Slots {
    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Adds a slot that has never been copied.
    #[inline]
    pub(crate) fn push(&mut self, attachment: &Attachment, outline: &Outline) -> Result<()> {
        let end = outline.live + outline.live_len();
        let Memories { extents, file } = &mut self.memories;
        if file.as_ref().is_none_or(|file| file.len() < end) {
            *file = Some(file_up_to(attachment, end)?);
        }
        let Outline { live, content_len, areas, .. } = *outline;
        extents.push(Extent { live, content_len, areas });
        self.seen.push(UNKNOWN);
        Ok(())
    }

    /// Marks all current slots as no longer new.
    pub(crate) fn are_known(&mut self) {
        self.new = self.len();
    }

    /// Those whose tag has changed since their last copy.
    pub(crate) fn changed(&self, attachment: &Attachment) -> impl Iterator<Item = usize> {
        let next = |from| self.next_changed(attachment, from);
        std::iter::successors(next(0), move |last| next(last + 1))
    }

    /// The first of those, from this number on. With many slots, nearly all of a sync's time goes
    /// into this look.
    fn next_changed(&self, attachment: &Attachment, from: usize) -> Option<usize> {
        let Slots { memories, seen, .. } = self;
        let file = memories.file.as_ref()?.by_ref();
        let all = (from..).zip(&memories.extents[from..]).zip(&seen[from..]);
        for ((number, extent), seen) in all {
            let tag = tag_at_rest(cell::control_at(&file, extent.live));
            if tag.unwrap_or_else(|| memories.tag(attachment, number)) != *seen {
                return Some(number);
            }
        }
        None
    }

    fn has_changed(&self, attachment: &Attachment, number: usize) -> bool {
        self.memories.tag(attachment, number) != self.seen[number]
    }

    /// Whether any of them has changed since its last copy.
    pub(crate) fn have_changed(&self, attachment: &Attachment) -> bool {
        let mut lately = self.lately.iter().copied().chain(self.new..self.len());
        lately.any(|i| self.has_changed(attachment, i)) || self.changed(attachment).next().is_some()
    }

    /// Calls `copy` on the slots that have changed, again and again, until none has. `copy` gets
    /// their numbers in ascending order and notes each one's tag in `seen`. The slots are those on
    /// the directory's first `lines` lines.
    pub(crate) fn settle_copies(
        &mut self,
        attachment: &Attachment,
        lines: u32,
        deadline: &mut Deadline,
        mut copy: impl FnMut(&[usize], &Memories, &mut [Tag]) -> Result<()>,
    ) -> Result<Settled> {
        // What changed last time has often changed again, and new slots were never copied. If these
        // are copied first, one look at all slots is enough.
        let mut changed = std::mem::take(&mut self.lately);
        changed.extend(self.new..self.len());
        self.are_known();
        changed.retain(|i| self.has_changed(attachment, *i));
        // The memories locked in each pass.
        let locked: [OnceCell<Vec<SlotMemory<&Map>>>; PASSES] = [const { OnceCell::new() }; PASSES];
        let mut held = Vec::new();
        for (pass, locked) in locked.iter().enumerate() {
            if changed.is_empty() {
                // Read before the look, not after it: if slots are being defined all the time, the
                // number would never be the same after a long look.
                if directory::count(attachment)? != lines {
                    return Ok(Settled::MoreLines);
                }
                changed = self.changed(attachment).collect();
                if changed.is_empty() {
                    self.lately = std::mem::take(&mut self.copied);
                    self.lately.sort_unstable();
                    self.lately.dedup();
                    return Ok(Settled::Done);
                }
            }
            if pass >= READING_PASSES {
                let memories = changed.iter().map(|i| self.memories.get(*i));
                let memories = locked.get_or_init(|| memories.collect());
                held.extend(memories.iter().filter_map(|m| protocol::try_lock(m, attachment)));
            }
            copy(&changed, &self.memories, &mut self.seen)?;
            self.copied.append(&mut changed);
            // Slots that can be locked come to rest, once there was time to do so.
            if pass > 2 * READING_PASSES && deadline.is_over() {
                break;
            }
        }
        Ok(Settled::Restless(*self.copied.last().expect("each pass has copied")))
    }
}
