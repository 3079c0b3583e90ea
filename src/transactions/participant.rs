//! A slot's part in a transaction: its lock and its changes.

use std::sync::atomic::Ordering::Relaxed;

use crate::attachment::attach::{Attachment, Failure};
use crate::attachment::descriptors;
use crate::error::Error;
use crate::mapping::map::{Map, RawRegion, Region};
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{
    self, Deadline, Form, Lockable, Memory, Owner, Peers, REMOVED, RawLock, Replacement,
};
use crate::slots::handle::Handle;
use crate::slots::value_update::is_updating;
use crate::store::session::Session;
use crate::types::elements::NoMemory;

/// A slot that takes part in a transaction.
pub(crate) struct Participant {
    pub(crate) line: u32,
    /// The slot's offset in the file.
    pub(crate) offset: u64,
    /// Its memory, which the transaction's store keeps mapped.
    region: RawRegion,
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

/// Buffers of drafts that are over, for the next ones.
pub(crate) type Spare = Vec<Vec<u8>>;

impl Participant {
    #[inline]
    pub(crate) fn new(slot: &Handle) -> Participant {
        Participant {
            line: slot.line,
            offset: slot.offset(),
            region: slot.memory.region().to_raw(),
            form: slot.memory.form(),
            lock: None,
            draft: Draft::Nothing,
        }
    }

    #[inline]
    pub(crate) fn memory<'m>(&self, map: &'m Map) -> SlotMemory<&'m Map> {
        SlotMemory::new(Region::from_raw(&self.region, map), self.form)
    }

    /// Waits for the lock, or goes on under this thread's own guard. `on`: this slot, here and
    /// below.
    pub(crate) fn lock(
        &mut self,
        on: impl Lockable<Peers = Attachment> + Copy,
        deadline: &mut Deadline,
    ) -> Result<(), Failure> {
        let held = protocol::lock_for_update(on, deadline)?;
        self.lock = Some(held.into_raw());
        Ok(())
    }

    /// The same, but false if others have the lock.
    #[inline]
    pub(crate) fn try_lock(
        &mut self,
        session: &Session,
        on: impl Lockable<Peers = Attachment> + Copy,
    ) -> Result<bool, Failure> {
        // In an update of this scalar, which would retry for ever.
        if is_updating(session, self.offset) {
            return Err(Failure::Deadlock);
        }
        match protocol::try_lock(on) {
            Some(held) => {
                self.lock = Some(held.into_raw());
                Ok(true)
            }
            None => self.try_under_guard(on),
        }
    }

    #[cold]
    fn try_under_guard(
        &mut self,
        on: impl Lockable<Peers = Attachment> + Copy,
    ) -> Result<bool, Failure> {
        // Relaxed: the owner is only acted upon by locking.
        match on.memory().control(Relaxed).owner() {
            REMOVED => Err(Failure::Removed),
            owner if on.peers().is_me(owner) => {
                self.lock = Some(protocol::go_on_under_guard(on)?.into_raw());
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether it has a lock of its own, which it could release.
    #[inline]
    pub(crate) fn has_own_lock(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| !lock.is_under_guard())
    }

    #[cold]
    pub(crate) fn lock_error(
        &self,
        attachment: &Attachment,
        failure: Failure,
        deadline: &Deadline,
    ) -> Error {
        attachment.lock_error(self.name(attachment), failure, deadline)
    }

    pub(crate) fn name<'a>(&self, attachment: &'a Attachment) -> &'a str {
        &descriptors::kept(attachment, self.line).name
    }

    /// Releases the lock, and drops the changes.
    pub(crate) fn release(&mut self, attachment: &Attachment, spare: &mut Spare) {
        self.drop_draft(spare);
        if let Some(lock) = self.lock.take() {
            drop(lock.resume((&self.memory(&attachment.map), attachment)));
        }
    }

    /// Its changes are committed, which has released the lock.
    #[inline]
    pub(crate) fn end_after_commit(&mut self, attachment: &Attachment, spare: &mut Spare) {
        self.drop_draft(spare);
        if let Some(lock) = self.lock.take() {
            lock.end_after_commit(self.offset, attachment);
        }
    }

    #[inline]
    fn drop_draft(&mut self, spare: &mut Spare) {
        if let Draft::Bytes { data, .. } = std::mem::replace(&mut self.draft, Draft::Nothing) {
            spare.push(data);
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

    /// Calls one of these with what is to be changed, if anything is: see
    /// [`protocol::Changes::each`].
    #[inline]
    pub(crate) fn change<'m>(
        &self,
        map: &'m Map,
        scalar: &mut impl FnMut(&SlotMemory<&'m Map>, &RawLock, u64),
        area: &mut impl FnMut(&SlotMemory<&'m Map>, &RawLock, &Replacement<'_>),
    ) {
        let Some(lock) = &self.lock else { return };
        match (&self.draft, &self.form) {
            (Draft::Nothing, _) => {}
            (Draft::Scalar(bits), _) => {
                let region = Region::from_raw(&self.region, map);
                scalar(&SlotMemory::new(region, Form::Scalar), lock, *bits);
            }
            (Draft::Bytes { at, data }, Form::Areas(areas)) => {
                area(&self.memory(map), lock, &Replacement { areas, at: *at, data });
            }
            (Draft::Bytes { .. }, Form::Scalar | Form::Lock) => {
                unreachable!("a scalar is changed as a whole")
            }
        }
    }

    /// The value, if it is a scalar, as this transaction will leave it. `memory`: this slot's, here
    /// and below.
    #[inline]
    pub(crate) fn bits(&self, memory: &impl Memory) -> u64 {
        match self.draft {
            Draft::Scalar(bits) => bits,
            // Nothing changes under the lock.
            _ => memory.cell().value,
        }
    }

    /// Lets `f` change the value of a scalar.
    #[inline]
    pub(crate) fn update_bits<R>(
        &mut self,
        memory: &impl Memory,
        f: impl FnOnce(&mut u64) -> R,
    ) -> R {
        let mut bits = self.bits(memory);
        let result = f(&mut bits);
        self.draft = Draft::Scalar(bits);
        result
    }

    /// Copies the committed content, which others read.
    fn read_committed(&self, memory: &impl Memory, at: usize, out: &mut [u8]) {
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
    pub(crate) fn read(&self, memory: &impl Memory, at: usize, out: &mut [u8]) {
        let (from, draft) = match &self.draft {
            Draft::Nothing => return self.read_committed(memory, at, out),
            Draft::Scalar(bits) => (0, &bits.to_le_bytes()[..]),
            Draft::Bytes { at, data } => (*at, &data[..]),
        };
        let (end, until) = (at + out.len(), from + draft.len());
        if at < from || until < end {
            self.read_committed(memory, at, out);
        }
        let (begin, end) = (at.max(from), end.min(until));
        if begin < end {
            out[begin - at..end - at].copy_from_slice(&draft[begin - from..end - from]);
        }
    }

    /// Changes bytes of its content.
    pub(crate) fn write(
        &mut self,
        memory: &impl Memory,
        at: usize,
        new: &[u8],
        spare: &mut Spare,
    ) -> Result<(), NoMemory> {
        if let Form::Scalar = self.form {
            let new = new.try_into().expect("a scalar is written as a whole");
            self.update_bits(memory, |bits| *bits = u64::from_le_bytes(new));
            return Ok(());
        }
        let draft = std::mem::replace(&mut self.draft, Draft::Nothing);
        let Draft::Bytes { at: mut from, mut data } = draft else {
            let mut data = spare.pop().unwrap_or_default();
            data.clear();
            if data.try_reserve(new.len()).is_err() {
                return Err(NoMemory { need: new.len() });
            }
            data.extend_from_slice(new);
            self.draft = Draft::Bytes { at, data };
            return Ok(());
        };
        // One range for all changes: what lies in between is written unchanged.
        if at < from {
            // And as much again, so that going backwards does not move everything each time.
            let begin = at.min(from.saturating_sub(data.len()));
            let (more, len) = (from - begin, data.len());
            if data.try_reserve(more).is_err() {
                self.draft = Draft::Bytes { at: from, data };
                return Err(NoMemory { need: more + len });
            }
            data.resize(len + more, 0);
            data.copy_within(..len, more);
            self.read_committed(memory, begin, &mut data[..more]);
            from = begin;
        }
        let (len, end) = (data.len(), at + new.len() - from);
        if len < end {
            if data.try_reserve(end - len).is_err() {
                self.draft = Draft::Bytes { at: from, data };
                return Err(NoMemory { need: end });
            }
            data.resize(end, 0);
            self.read_committed(memory, from + len, &mut data[len..]);
        }
        data[at - from..end].copy_from_slice(new);
        self.draft = Draft::Bytes { at: from, data };
        Ok(())
    }
}
