//! Makes a new store from another one's slots: a consistent copy of a live store, or a compacted
//! one. Removed slots are left out, and their space too.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::directory;
use crate::directory::allocator::Definition;
use crate::durability::check::is_utf8;
use crate::durability::consistent_copy::{ConsistentCopy, Step};
use crate::durability::copied_slots::{self, CopiedSlots, Memories};
use crate::error::{Error, Result};
use crate::format::checkpoint::{Stamp, UNKNOWN, control_of};
use crate::mapping::element::ElementRegion;
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, CONTROL, Deadline, Form, Memory, REMOVED, STALE, VALUE};
use crate::types::data::TEXT_LEN;
use crate::types::slot_type::SlotType;

/// A slot's counterpart in the new store.
struct Counterpart {
    name: String,
    /// The capacity of a text or of bytes; and whether it is text.
    capacity: Option<(usize, bool)>,
    /// The elements of the original slot, if it is a buffer.
    elements: Option<ElementRegion>,
    content_len: usize,
    to: SlotMemory,
}

/// Bytes copied at a time.
const PART: usize = 64 * 1024;

/// Fills `to`, a new store that no other process knows of, with the slots of `from` as of one
/// instant, including their versions. Tells `progress` how many bytes have been copied.
pub(crate) fn duplicate(
    from: &Attachment,
    to: &Attachment,
    deadline: &mut Deadline,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut copying = Copying {
        from,
        to,
        timeout: deadline.timeout(),
        slots: CopiedSlots::default(),
        counterparts: Vec::new(),
        lines: 0,
        copied: 0,
        progress,
    };
    // 1. The slots, as of one instant.
    copying.copy_slots(deadline)?;
    // 2. The buffers, as in a sync: so all that was stored before that instant is in the copy.
    copying.copy_buffers();
    // 3. What was copied may be damaged: it must not pass for intact.
    copying.counterparts.iter().try_for_each(|counterpart| counterpart.check_length(from))
}

/// A copy in progress.
struct Copying<'a> {
    from: &'a Attachment,
    to: &'a Attachment,
    /// For locks of the new store, which no other process has.
    timeout: Option<Duration>,
    slots: CopiedSlots,
    counterparts: Vec<Counterpart>,
    /// Lines of the directory whose slots have been added.
    lines: u32,
    /// Bytes.
    copied: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Copying<'_> {
    /// Copies the slots as of one instant.
    fn copy_slots(&mut self, deadline: &Deadline) -> Result<()> {
        let mut copying = ConsistentCopy::new(self.from, deadline);
        while let Some(step) = copying.next(&mut self.slots)? {
            match step {
                Step::AddSlots { lines } => self.add_slots(lines)?,
                Step::Copy(changed) => self.copy(&changed),
            }
        }
        Ok(())
    }

    /// Defines in the new store the slots on the directory's first `lines` lines.
    fn add_slots(&mut self, lines: u32) -> Result<()> {
        let Copying { from, to, timeout, slots, counterparts, .. } = self;
        // First the removed slots: a new slot may have their name by now.
        for (number, counterpart) in counterparts.iter().enumerate() {
            if slots.memories.stamp(from, number) & 1 == 1 {
                slots.seen[number] = counterpart.copy(from, &slots.memories, number, &mut |_| {});
            }
        }
        descriptors::each_between(from, self.lines, lines, |descriptor| {
            let memory = descriptors::memory(from, &descriptor)?;
            if memory.is_removed() {
                return Ok(());
            }
            let definition = Definition {
                name: &descriptor.name,
                doc: &descriptor.doc,
                unit: &descriptor.unit,
                slot_type: &descriptor.slot_type,
                areas: descriptor.areas,
                initial: None,
            };
            let (counterpart, _) =
                directory::define(to, &mut Deadline::new(*timeout), &definition)?;
            let capacity = match descriptor.slot_type {
                SlotType::Text(capacity) => Some((capacity, true)),
                SlotType::Bytes(capacity) => Some((capacity, false)),
                _ => None,
            };
            counterparts.push(Counterpart {
                name: descriptor.name.clone(),
                capacity,
                elements: copied_slots::elements(&descriptor, &memory),
                content_len: descriptor.content_len as usize,
                to: counterpart.memory.kept_by(std::sync::Arc::clone(&to.map)),
            });
            slots.push(from, &descriptor)
        })?;
        self.lines = lines;
        Ok(())
    }

    fn copy(&mut self, changed: &[usize]) {
        let Copying { from, slots, counterparts, copied, progress, .. } = self;
        let mut step = |bytes| {
            *copied += bytes;
            progress(*copied);
        };
        for i in changed {
            slots.seen[*i] = counterparts[*i].copy(from, &slots.memories, *i, &mut step);
        }
    }

    fn copy_buffers(&mut self) {
        let Copying { from, counterparts, copied, progress, .. } = self;
        let mut step = |bytes| {
            *copied += bytes;
            progress(*copied);
        };
        counterparts.iter().for_each(|counterpart| counterpart.copy_buffer(from, &mut step));
    }
}

impl Counterpart {
    /// Copies the slot's content and returns its stamp; [`UNKNOWN`] if it changed meanwhile. Tells
    /// `step` the bytes of each part, as a slot may be large.
    fn copy(
        &self,
        attachment: &Attachment,
        memories: &Memories,
        number: usize,
        step: &mut dyn FnMut(u64),
    ) -> Stamp {
        let stamp = memories.stamp(attachment, number);
        let version = stamp >> 1;
        let memory = &memories.get(number);
        let copy = self.to.region();
        let whole = match (memory.form(), self.to.form()) {
            _ if self.elements.is_some() => true,
            (Form::Areas(from), Form::Areas(to)) => {
                let mut part = vec![0; PART.min(self.content_len)];
                for at in (0..self.content_len).step_by(PART) {
                    let part = &mut part[..(self.content_len - at).min(PART)];
                    memory.read(from.of(version), at, part);
                    copy.write(to.of(version), at, part);
                    attachment.note_progress();
                    step(part.len() as u64);
                }
                for area in 0..to.count as usize {
                    // All of it: the content of the other areas means nothing.
                    copy.store(STALE + area, protocol::all_stale(to.words), Relaxed);
                }
                protocol::validate_read(memory, &from, version)
            }
            (Form::Scalar, _) => {
                let (value, of) = protocol::load_scalar_versioned(memory, attachment);
                copy.store(VALUE, value, Relaxed);
                step(self.content_len as u64);
                of == version
            }
            _ => unreachable!("both have the same type"),
        };
        // A removed slot stays removed in the copy: its name is free there, too.
        copy.store(CONTROL, control_of(stamp).bits(), Relaxed);
        if whole { stamp } else { UNKNOWN }
    }

    /// An error if the copied content is longer than its slot can hold, or is not text. The slot is
    /// damaged then, and the copy must not pass for an intact one.
    fn check_length(&self, from: &Attachment) -> Result<()> {
        let (Some((capacity, is_text)), Form::Areas(areas)) = (self.capacity, self.to.form())
        else {
            return Ok(());
        };
        let control = self.to.control(Relaxed);
        if control.owner() == REMOVED {
            return Ok(());
        }
        let (area, mut len) = (areas.of(control.version()), [0; TEXT_LEN]);
        self.to.read(area, 0, &mut len);
        let len = u64::from_le_bytes(len);
        let damaged = |what| Err(Error::corrupt(&from.path, what).of_slot(&self.name));
        if len > capacity as u64 {
            damaged(format!("its length is {len}, but its capacity is {capacity}; store it anew"))
        } else if is_text && !is_utf8(&self.to, area, len as usize) {
            damaged("it is not UTF-8; store it anew".to_owned())
        } else {
            Ok(())
        }
    }

    /// Copies a buffer's content as it stands. Does nothing for other slots.
    fn copy_buffer(&self, attachment: &Attachment, step: &mut dyn FnMut(u64)) {
        let (Some(elements), Form::Areas(to)) = (&self.elements, self.to.form()) else { return };
        let mut part = vec![0; PART.min(self.content_len)];
        for at in (0..self.content_len).step_by(PART) {
            let part = &mut part[..(self.content_len - at).min(PART)];
            elements.read(at, part);
            self.to.write(to.first, at, part);
            attachment.note_progress();
            step(part.len() as u64);
        }
    }
}
