//! A slot's part in a transaction: its lock and its changes.

use std::sync::atomic::Ordering::Relaxed;

use crate::attachment::attach::{Attachment, Failure};
use crate::error::Error;
use crate::mapping::map::{Map, Region};
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Change, Deadline, Form, Memory, Owner, Peers, REMOVED, RawLock};
use crate::slots::handle::Handle;
use crate::slots::value_update::is_updating;
use crate::store::store::Store;
use crate::types::elements::{NoMemory, zeros};

/// A slot that takes part in a transaction.
pub(crate) struct Part {
    pub(crate) line: u32,
    /// Its memory, which the transaction's store keeps mapped: offset in the file, and length.
    pub(crate) place: u64,
    len: u64,
    form: Form,
    /// `None`: it was used in an earlier run, and will be locked for the next.
    pub(crate) lock: Option<RawLock>,
    draft: Draft,
}

/// What is to be changed.
enum Draft {
    Nothing,
    Scalar(u64),
    /// The bytes of the content from `at` on.
    Bytes {
        at: usize,
        data: Vec<u8>,
    },
}

impl Part {
    #[inline]
    pub(crate) fn new(slot: &Handle) -> Part {
        Part {
            line: slot.line,
            place: slot.place(),
            len: slot.memory.region().len(),
            form: slot.memory.form(),
            lock: None,
            draft: Draft::Nothing,
        }
    }

    #[inline]
    pub(crate) fn memory<'m>(&self, map: &'m Map) -> SlotMemory<&'m Map> {
        let region = Region::of(map, self.place, self.len);
        SlotMemory::new(region.expect("what was mapped stays so"), self.form)
    }

    /// Waits for the lock, or goes on under this thread's own guard.
    pub(crate) fn lock(&mut self, store: &Store, deadline: &mut Deadline) -> Result<(), Failure> {
        self.check_not_updating(store)?;
        let attachment = store.attachment();
        let memory = self.memory(&attachment.map);
        let held = protocol::lock_for_update((&memory, attachment), deadline)?;
        self.lock = Some(held.into_raw());
        Ok(())
    }

    /// The same, but false if others have the lock.
    #[inline]
    pub(crate) fn try_lock(&mut self, store: &Store) -> Result<bool, Failure> {
        self.check_not_updating(store)?;
        let attachment = store.attachment();
        let memory = self.memory(&attachment.map);
        let on = (&memory, attachment);
        let held = match protocol::try_lock(on) {
            Some(held) => held,
            // Relaxed: the owner is only acted upon by locking.
            None => match memory.control(Relaxed).owner() {
                REMOVED => return Err(Failure::Removed),
                owner if attachment.is_me(owner) => protocol::go_on_under_guard(on)?,
                _ => return Ok(false),
            },
        };
        self.lock = Some(held.into_raw());
        Ok(true)
    }

    /// Whether it has a lock of its own, which it could release.
    pub(crate) fn has_own_lock(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| !lock.is_under_guard())
    }

    /// An error if this thread is in an update of this scalar, which would then retry for ever.
    fn check_not_updating(&self, store: &Store) -> Result<(), Failure> {
        if is_updating(&store.session, self.place) { Err(Failure::Deadlock) } else { Ok(()) }
    }

    pub(crate) fn explain(
        &self,
        attachment: &Attachment,
        failure: Failure,
        deadline: &Deadline,
    ) -> Error {
        attachment.lock_error(self.name(attachment), failure, deadline)
    }

    pub(crate) fn name<'a>(&self, attachment: &'a Attachment) -> &'a str {
        &attachment.known.descriptor(self.line).name
    }

    /// Releases the lock, and drops the changes.
    #[inline]
    pub(crate) fn release(&mut self, attachment: &Attachment) {
        self.draft = Draft::Nothing;
        if let Some(lock) = self.lock.take() {
            drop(lock.resume((&self.memory(&attachment.map), attachment)));
        }
    }

    /// The owner that has taken its lock.
    pub(crate) fn owner(&self) -> Option<Owner> {
        self.lock.as_ref().map(RawLock::owner)
    }

    /// Whether it still has its lock, or the guard under which it runs, provided that its thread
    /// still has its entry. (Dropping the guard releases its lock.)
    #[inline]
    pub(crate) fn is_held(&self, memory: &SlotMemory<&Map>, attachment: &Attachment) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.is_at(memory, attachment))
    }

    /// Whether it has changes.
    #[inline]
    pub(crate) fn is_written(&self) -> bool {
        !matches!(self.draft, Draft::Nothing)
    }

    /// What is to be changed.
    #[inline]
    pub(crate) fn change(&self) -> Change<'_> {
        match (&self.draft, self.form) {
            (Draft::Scalar(bits), _) => Change::Scalar(*bits),
            (Draft::Bytes { at, data }, Form::Areas(areas)) => {
                Change::Area { areas, at: *at, data }
            }
            _ => unreachable!("a scalar has no bytes, and it is asked for what is written"),
        }
    }

    /// Copies the committed content, which others read.
    fn read_committed(&self, map: &Map, at: usize, out: &mut [u8]) {
        let memory = self.memory(map);
        // Nothing changes under the lock.
        match self.form {
            Form::Scalar | Form::Lock => {
                let bits = memory.cell().value;
                out.copy_from_slice(&bits.to_le_bytes()[at..at + out.len()]);
            }
            Form::Areas(areas) => {
                let version = self.lock.as_ref().expect("it is locked").version();
                memory.read(areas.of(version), at, out);
            }
        }
    }

    /// Copies the content as this transaction will leave it.
    #[inline]
    pub(crate) fn read(&self, map: &Map, at: usize, out: &mut [u8]) {
        let (from, draft) = match &self.draft {
            Draft::Nothing => return self.read_committed(map, at, out),
            Draft::Scalar(bits) => (0, &bits.to_le_bytes()[..]),
            Draft::Bytes { at, data } => (*at, &data[..]),
        };
        let (end, until) = (at + out.len(), from + draft.len());
        if at < from || until < end {
            self.read_committed(map, at, out);
        }
        let (begin, end) = (at.max(from), end.min(until));
        if begin < end {
            out[begin - at..end - at].copy_from_slice(&draft[begin - from..end - from]);
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, map: &Map, at: usize, new: &[u8]) -> Result<(), NoMemory> {
        if let Form::Scalar = self.form {
            let bits = new.try_into().expect("a scalar is written as a whole");
            self.draft = Draft::Scalar(u64::from_le_bytes(bits));
            return Ok(());
        }
        let draft = std::mem::replace(&mut self.draft, Draft::Nothing);
        let Draft::Bytes { at: mut from, mut data } = draft else {
            self.draft = Draft::Bytes { at, data: new.to_vec() };
            return Ok(());
        };
        // One range for all changes: what lies in between is written unchanged.
        if at < from {
            // And as much again, so that going backwards does not move everything each time.
            let begin = at.min(from.saturating_sub(data.len()));
            let mut before = match zeros(from - begin + data.len()) {
                Ok(before) => before,
                Err(none) => {
                    self.draft = Draft::Bytes { at: from, data };
                    return Err(none);
                }
            };
            self.read_committed(map, begin, &mut before[..from - begin]);
            before[from - begin..].copy_from_slice(&data);
            data = before;
            from = begin;
        }
        let (len, end) = (data.len(), at + new.len() - from);
        if len < end {
            if data.try_reserve(end - len).is_err() {
                self.draft = Draft::Bytes { at: from, data };
                return Err(NoMemory { need: end });
            }
            data.resize(end, 0);
            self.read_committed(map, from + len, &mut data[len..]);
        }
        data[at - from..end].copy_from_slice(new);
        self.draft = Draft::Bytes { at: from, data };
        Ok(())
    }
}
