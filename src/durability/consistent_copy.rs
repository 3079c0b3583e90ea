//! A consistent copy: many slots, copied as of one instant while other processes write them.
//!
//! It works like live migration. It copies what changed, by the readers' protocol, then copies
//! again what changed meanwhile. In later passes it locks the few slots that keep changing, without
//! ever waiting for a lock. Then it reads the number of descriptors, and after that the version of
//! every slot, including those never copied. If all are as they were when copied, the copies are
//! the state at the instant when the number was read. Slots defined during that look belong to the
//! next consistent copy. A stopped writer's slot does not change, so nobody waits for it.
//!
//! Of a buffer this covers only the version and whether it was removed. Its content is copied once
//! all else has come to rest, so that it includes all that was stored before that instant.

use std::time::Duration;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::error::{Error, Result};
use crate::format::layout::live;
use crate::mapping::map::{KeepsMapped, Map};
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::protocol::{self, Deadline, Held, Lockable};

/// Passes in which changed slots are only read. Later passes lock them as well.
const READING_PASSES: usize = 4;
/// Passes of one attempt.
const PASSES: usize = 32;
/// How many attempts may fail because of new slots. After that definitions are kept out, if none is
/// in progress.
const OPEN_TO_DEFINITIONS: usize = 3;

/// How long it tries at least, however short the time-out is. A time-out limits waiting, and this
/// waits for nobody.
const SHORTEST_TRY: Duration = Duration::from_secs(1);

/// What to do next for a consistent copy.
pub(crate) enum Step {
    /// The copy is of the slots whose descriptors are on the directory's first `lines` lines.
    AddSlots { lines: u32 },
    /// Copy these slots, and note the stamp of each copy. Their numbers are in ascending order.
    Copy(Vec<usize>),
}

/// Slots that are copied together, by number.
pub(crate) trait Copied {
    /// Those that have changed since their last copy, of the slots that most probably have.
    fn probably_changed(&mut self, attachment: &Attachment) -> Vec<usize>;
    /// All that have, in ascending order.
    fn changed(&mut self, attachment: &Attachment) -> Result<Vec<usize>>;
    fn memory(&self, number: usize) -> SlotMemory<&Map>;
    /// Where a slot is in the file.
    fn offset(&self, number: usize) -> u64;
    /// Notes which slots the last consistent copy included.
    fn set_lately(&mut self, copied: Vec<usize>);
}

/// A consistent copy in progress. The caller asks for [`next`](ConsistentCopy::next) and does it,
/// until there is no next step.
pub(crate) struct ConsistentCopy<'a> {
    attachment: &'a Attachment,
    deadline: Deadline,
    attempts: usize,
    /// The present attempt; `None` before the first.
    attempt: Option<Attempt<'a>>,
    /// The directory's lock, while it keeps definitions out.
    no_definitions: Option<Held<Lock<'a>>>,
}

/// An attempt to copy the slots on this many lines of the directory.
struct Attempt<'a> {
    lines: u32,
    passes: usize,
    /// What it has copied, in order.
    copied: Vec<usize>,
    /// The slots that it has locked. It keeps the locks to its end, so that they come to rest.
    locked: Vec<Held<Lock<'a>>>,
}

/// The lock of a slot, or of the directory.
struct Lock<'a> {
    memory: SlotMemory<&'a Map>,
    attachment: &'a Attachment,
}

impl<'a> ConsistentCopy<'a> {
    /// It ends in an error if the slots do not come to rest before the deadline, or within
    /// [`SHORTEST_TRY`] if that is longer.
    pub(crate) fn new(attachment: &'a Attachment, deadline: &Deadline) -> ConsistentCopy<'a> {
        let timeout = deadline.timeout().map(|time| time.max(SHORTEST_TRY));
        let deadline = Deadline::new(timeout);
        ConsistentCopy { attachment, deadline, attempts: 0, attempt: None, no_definitions: None }
    }

    /// The next step. `None`: the copies are the state of one instant.
    pub(crate) fn next(&mut self, slots: &mut impl Copied) -> Result<Option<Step>> {
        let attachment = self.attachment;
        let Some(attempt) = &mut self.attempt else { return self.begin() };
        // Slots that can be locked come to rest, once there was time to do so.
        let is_late = attempt.passes > 2 * READING_PASSES + 1 && self.deadline.is_over();
        if is_late || attempt.passes == PASSES {
            let restless = attempt.copied.last().expect("each pass has copied");
            let restless = slots.offset(*restless);
            self.end(Some(restless))?;
            return self.begin();
        }
        // If these are copied first, one look at all slots is mostly enough.
        let mut changed = match attempt.passes {
            0 => slots.probably_changed(attachment),
            _ => Vec::new(),
        };
        if changed.is_empty() {
            // Read before the look, not after it: if slots are being defined all the time, the
            // number would never be the same after a long look.
            if descriptors::count(attachment)? != attempt.lines && !planted!(NewSlotsAreMissed) {
                self.end(None)?;
                return self.begin();
            }
            changed = slots.changed(attachment)?;
        }
        if changed.is_empty() {
            slots.set_lately(std::mem::take(&mut attempt.copied));
            return Ok(None);
        }
        if attempt.passes >= READING_PASSES {
            let locked = changed.iter().map(|i| slots.memory(*i));
            attempt.locked.extend(locked.filter_map(|memory| Lock::try_lock(&memory, attachment)));
        }
        attempt.passes += 1;
        attempt.copied.extend(&changed);
        Ok(Some(Step::Copy(changed)))
    }

    /// Begins an attempt.
    fn begin(&mut self) -> Result<Option<Step>> {
        self.attempts += 1;
        let lines = descriptors::count(self.attachment)?;
        let (copied, locked) = (Vec::new(), Vec::new());
        self.attempt = Some(Attempt { lines, passes: 0, copied, locked });
        Ok(Some(Step::AddSlots { lines }))
    }

    /// Ends an attempt that has failed: the slot at `restless` kept changing, or slots were
    /// defined. An error if it was the last one.
    fn end(&mut self, restless: Option<u64>) -> Result<()> {
        self.attempt = None;
        if self.attempts > OPEN_TO_DEFINITIONS && self.deadline.is_over() {
            return Err(keeps_changing(self.attachment, restless, &self.deadline));
        }
        // A process that is stopped with this lock defines nothing, so the lock is not needed then.
        // It is not kept while slots change: definitions must not wait for those.
        if restless.is_some() || planted!(DefinitionsAreNeverKeptOut) {
            self.no_definitions = None;
        } else if self.attempts >= OPEN_TO_DEFINITIONS && self.no_definitions.is_none() {
            let lock = self.attachment.lock(live::DIRECTORY_LOCK);
            self.no_definitions = Lock::try_lock(&lock, self.attachment);
        }
        Ok(())
    }
}

impl<'a> Lock<'a> {
    /// `None` if another thread has the lock.
    fn try_lock<K: KeepsMapped>(
        memory: &SlotMemory<K>,
        attachment: &'a Attachment,
    ) -> Option<Held<Lock<'a>>> {
        let held = protocol::try_lock((memory, attachment))?;
        let memory = memory.kept_by(&*attachment.map);
        Some(held.into_raw().resume(Lock { memory, attachment }))
    }
}

impl<'a> Lockable for Lock<'a> {
    type Memory = SlotMemory<&'a Map>;
    type Peers = Attachment;

    fn memory(&self) -> &SlotMemory<&'a Map> {
        &self.memory
    }

    fn peers(&self) -> &Attachment {
        self.attachment
    }
}

/// The error of an attempt that was the last: what kept changing. `slot` is a slot's offset.
fn keeps_changing(attachment: &Attachment, slot: Option<u64>, deadline: &Deadline) -> Error {
    let mut what = "the directory (new slots are being defined)".to_owned();
    if let Some(offset) = slot {
        what = "a slot".to_owned();
        // If the directory is damaged, the slot has no name.
        let _ = descriptors::each(attachment, |descriptor| {
            if descriptor.live == offset {
                what = format!("slot {:?}", descriptor.name);
            }
            Ok(())
        });
    }
    Error::KeepsChanging { path: attachment.path.clone(), what, waited: deadline.limit() }
}
