//! Copying many slots as they are at one instant, while others write them.
//!
//! As live migration does it: copy what changed, with the readers' protocol; copy again
//! what changed meanwhile; in the later passes take the locks of the few that keep
//! changing, without ever waiting for one. Then look at the number of descriptors, and after
//! it at the version of every slot, those never copied too: if all are what they were when
//! they were copied, the copies are the state of the instant at which the number was read.
//! What is defined during that look belongs to the next cut. A stopped writer's slot does not
//! change, so it is never waited for.

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

/// Passes in which changed slots are only read; in later ones they are locked as well.
const READING_PASSES: usize = 4;
/// Passes before the cut is begun anew.
const PASSES: usize = 32;
/// Cuts that were begun anew because of new slots. After that, definitions are kept out, if
/// nobody is at one.
const OPEN_TO_DEFINITIONS: usize = 3;

/// How long a cut tries at least, however short the time-out is: that is for waiting, and a cut
/// waits for nobody.
const SHORTEST_TRY: Duration = Duration::from_secs(1);

/// Who copies slots: a sync, or a copy of the store.
pub(crate) trait Copier {
    fn slots(&mut self) -> &mut Slots;

    /// Takes up the descriptors up to line `lines`.
    fn extend(&mut self, lines: u32) -> Result<()>;

    /// Copies what has changed until nothing has, by [`Slots::settle_copies`].
    fn settle_copies(&mut self, lines: u32, deadline: &mut Deadline) -> Result<Settled>;
}

/// How a try to copy all slots as of one instant went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Done,
    /// There are more lines of descriptors by now.
    MoreLines,
    /// This slot, by number, did not come to rest, and could not be locked.
    Restless(usize),
}

/// Has `copier` copy all slots as they are at one instant. Tries until the deadline
/// lasts, and at least [`SHORTEST_TRY`].
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
        // Who is stopped with this lock defines nothing, so that it is not needed then. It is
        // not kept while slots change: definitions must not wait for those.
        no_definitions = match settled {
            Settled::MoreLines if attempts >= OPEN_TO_DEFINITIONS => {
                no_definitions.or_else(|| protocol::try_lock(&lock, attachment))
            }
            _ => None,
        };
    }
}

/// The error of a cut that was given up: what changed again and again. `place` is the slot's.
fn keeps_changing(attachment: &Attachment, place: Option<u64>, deadline: &Deadline) -> Error {
    let mut what = "the directory (new slots are being defined)".to_owned();
    if let Some(place) = place {
        what = "a slot".to_owned();
        // Where the directory is damaged, the slot has no name.
        let _ = directory::each(attachment, |descriptor| {
            if descriptor.live == place {
                what = format!("slot {:?}", descriptor.name);
            }
            Ok(())
        });
    }
    Error::KeepsChanging { path: attachment.path.clone(), what, waited: deadline.limit() }
}

/// What the slot is at this moment.
pub(crate) fn tag(memory: &impl Memory, attachment: &Attachment) -> Tag {
    // Acquire: who sees a version sees what it is of.
    tag_at_rest(memory.control(Acquire))
        .unwrap_or_else(|| effective_version(memory, attachment) << 1)
}

/// What a slot with this control word is; `None`: others' words have a say in it.
#[inline]
fn tag_at_rest(control: Control) -> Option<Tag> {
    let at_rest = !control.in_transaction() || control.is_removed();
    at_rest.then(|| tag_of(control))
}

/// The elements of a buffer; `None` for any other slot. A buffer has no part in the cut but its
/// version, and whether it was removed: its content is copied when all else has come to rest,
/// so that all that was stored before the cut is there.
pub(crate) fn elements(descriptor: &Descriptor, memory: &SlotMemory) -> Option<ElementRegion> {
    match &descriptor.slot_type {
        SlotType::Buffer(t, shape) => Some(ElementRegion::new(memory, *t, shape.len())),
        _ => None,
    }
}

/// So much of the file as has all before `end`, and as much more as slots behind it will need.
#[cold]
fn file_up_to(attachment: &Attachment, end: u64) -> Result<Region> {
    let more = attachment.region(0, end.next_multiple_of(GRANULE));
    more.or_else(|_| attachment.region(0, end))
}

/// The slots that are copied together, by number.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub(crate) memories: Memories,
    /// What each was when it was last copied; [`UNKNOWN`] if it never was, or changed
    /// meanwhile.
    pub(crate) seen: Vec<Tag>,
    /// Those that were copied the last time, in ascending order.
    lately: Vec<usize>,
    /// From this number on they are new: nobody knows whether they have changed.
    new: usize,
    /// Those that have been copied for the cut that is being made.
    copied: Vec<usize>,
}

/// Their memories. Of a slot that has not changed, and of many nearly none has, only the control
/// word is touched, and there is no more here than it takes to get at it.
#[derive(Debug, Default)]
pub(crate) struct Memories {
    extents: Vec<Extent>,
    /// So much of the file as has all of them.
    file: Option<Region>,
}

/// Where in the file a slot is, and all that its memory is made of.
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

    /// What a slot is at this moment.
    pub(crate) fn tag(&self, attachment: &Attachment, number: usize) -> Tag {
        tag_at_rest(cell::control_at(&self.file(), self.place(number)))
            .unwrap_or_else(|| tag(&self.get(number), attachment))
    }
}

impl Slots {
    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Adds a slot, which has never been copied.
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

    /// Those that are there are no longer new.
    pub(crate) fn are_known(&mut self) {
        self.new = self.len();
    }

    /// Those that are not what they were when they were last copied.
    pub(crate) fn changed(&self, attachment: &Attachment) -> impl Iterator<Item = usize> {
        let next = |from| self.next_changed(attachment, from);
        std::iter::successors(next(0), move |last| next(last + 1))
    }

    /// The first of those, from this number on. Nearly all that a sync takes is this look, if there
    /// are many slots.
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

    /// Whether any of them is not what it was when it was last copied.
    pub(crate) fn have_changed(&self, attachment: &Attachment) -> bool {
        let mut lately = self.lately.iter().copied().chain(self.new..self.len());
        lately.any(|i| self.has_changed(attachment, i)) || self.changed(attachment).next().is_some()
    }

    /// Has `copy` copy those slots that have changed, again and again, until none has.
    /// `copy` is given their numbers, in ascending order, and notes in `seen` what each was.
    /// The slots are those on the directory's first `lines` lines.
    pub(crate) fn settle_copies(
        &mut self,
        attachment: &Attachment,
        lines: u32,
        deadline: &mut Deadline,
        mut copy: impl FnMut(&[usize], &Memories, &mut [Tag]) -> Result<()>,
    ) -> Result<Settled> {
        // What changed the last time has often changed again, and what is new was never
        // copied. With these copied first, one look at all of them is enough.
        let mut changed = std::mem::take(&mut self.lately);
        changed.extend(self.new..self.len());
        self.are_known();
        changed.retain(|i| self.has_changed(attachment, *i));
        // The memories that were locked in each pass.
        let locked: [OnceCell<Vec<SlotMemory<&Map>>>; PASSES] = [const { OnceCell::new() }; PASSES];
        let mut held = Vec::new();
        for (pass, locked) in locked.iter().enumerate() {
            if changed.is_empty() {
                // Before the look, not after it: while somebody defines slots all the time, the
                // number would never be the same after a long one.
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
            // Those that can be locked come to rest, once there was time for that.
            if pass > 2 * READING_PASSES && deadline.is_over() {
                break;
            }
        }
        Ok(Settled::Restless(*self.copied.last().expect("each pass has copied")))
    }
}
