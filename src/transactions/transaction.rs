//! [`Transaction`]: several slots updated at once, or not at all.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::time::Duration;

use crate::attachment::attach::{Attachment, Failure};
use crate::attachment::descriptors;
use crate::error::{Error, Result};
use crate::mapping::map::Map;
use crate::mapping::slot_memory::SlotMemory;
use crate::mutant::planted;
use crate::os::fork;
use crate::protocol::{
    Changes, Deadline, LONGEST_SLEEP, Lockable, Peers, RawLock, Replacement, commit_all,
};
use crate::slots::array::{Array, ArrayIndex};
use crate::slots::handle::Handle;
use crate::slots::slot::Slot;
use crate::slots::value::Value;
use crate::store::session::{Session, SharedSession};
use crate::store::store::Store;
use crate::transactions::participant::Participant;
use crate::transactions::participants::Participants;
use crate::transactions::transactional::sealed::{View, ViewMut};
use crate::transactions::transactional::{Ranged, Transactional};
use crate::types::element::{Element, Number};

impl Store {
    /// Updates several slots at once: `f` works on private copies, which replace the slots'
    /// contents all at one instant when `f` returns `Ok`. Nobody ever sees only some of the
    /// changes, not even after a kill or a power cut. If `f` returns an error or panics, nothing
    /// has changed.
    ///
    /// What `f` has read still holds when its changes are made: each slot is locked at its
    /// first use, and stays locked until the end. Others' updates of it wait; reads never do.
    /// Slots may be used in any order, and in different orders by different transactions. If two
    /// transactions would wait for each other, one releases its slots and **runs `f` again**.
    /// The call in `f` then returns [`Error::Conflict`], which `f` passes on with `?`. So
    /// `f` should do nothing that cannot be done twice.
    ///
    /// A slot of which this thread holds a [`Guard`](crate::Guard) can take part.
    ///
    /// # Errors
    ///
    /// What `f` returns. [`Error::LockTimeout`] if the slots could not be locked in time;
    /// [`Error::Deadlock`] inside another transaction of this thread on this store, or for
    /// a slot that it is in the middle of updating; [`Error::Invalid`] for a slot of another
    /// store; [`Error::Removed`], [`Error::ReadOnly`], [`Error::TooManyProcesses`];
    /// [`Error::Evicted`] in a forked child, and if the guard of a slot that takes part was
    /// dropped inside `f`.
    ///
    /// ```
    /// use slotfile::{Error, Store};
    ///
    /// #[derive(Debug)]
    /// enum Refused {
    ///     NotEnough { has: i64 },
    ///     Store(Error),
    /// }
    /// impl From<Error> for Refused {
    ///     fn from(error: Error) -> Refused {
    ///         Refused::Store(error)
    ///     }
    /// }
    ///
    /// let store = Store::temporary()?;
    /// let (from, to) = (store.value::<i64>("from")?, store.value::<i64>("to")?);
    /// let log = store.array::<i64>("log", 100)?;
    /// from.store(25)?;
    /// let pay = |amount: i64| {
    ///     store.transaction(|tx| {
    ///         let has = tx.load(&from)?; // still holds when all of this is done
    ///         if has < amount {
    ///             return Err(Refused::NotEnough { has });
    ///         }
    ///         tx.store(&from, has - amount)?;
    ///         tx.fetch_add(&to, amount)?;
    ///         tx.set(&log, 0, amount)?;
    ///         Ok(())
    ///     })
    /// };
    /// pay(20).unwrap();
    /// assert!(matches!(pay(20), Err(Refused::NotEnough { has: 5 })));
    /// assert_eq!((from.load(), to.load(), log.get(0)?), (5, 20, 20));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn transaction<R, E: From<Error>>(
        &self,
        mut f: impl FnMut(&mut Transaction) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut transaction = Transaction::begin(self)?;
        loop {
            let result = f(&mut transaction);
            if transaction.is_lost() {
                transaction.begin_again()?;
                continue;
            }
            let result = result?;
            transaction.commit()?;
            return Ok(result);
        }
    }
}

impl Store {
    /// Begins a transaction that a later call commits: [`transaction`](Store::transaction) without
    /// a closure, for bindings to other languages. All these slots are locked from the beginning,
    /// so it never has to run again. Using another slot later is [`Error::Conflict`] if somebody
    /// else has it locked; then the transaction can no longer be committed.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Store::transaction); [`Error::Invalid`] for a buffer.
    ///
    /// ```
    /// let store = slotfile::Store::temporary()?;
    /// let (a, b) = (store.value::<i64>("a")?, store.value::<i64>("b")?);
    /// let mut tx = store.begin_transaction(&[a.clone().into(), b.clone().into()])?;
    /// tx.fetch_add(&a, 5)?;
    /// tx.fetch_add(&b, -5)?;
    /// assert_eq!((a.load(), b.load()), (0, 0));
    /// tx.commit()?; // dropped instead, it would have changed nothing
    /// assert_eq!((a.load(), b.load()), (5, -5));
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn begin_transaction(&self, slots: &[Slot]) -> Result<Transaction> {
        for slot in slots {
            slot.transactional()?.check_store(&self.session)?;
        }
        Transaction::begin_with(self, slots.iter().map(|slot| &slot.handle))
    }
}

/// What the closure of [`Store::transaction`] works with. It reads its own writes.
///
/// The cost of an array's element or range depends on its own length, not on the array's. Several
/// ranges of one array cost as much as one from the first to the last of them.
pub struct Transaction {
    session: SharedSession,
    /// The slots that it has used, in this run or an earlier one.
    participants: Participants,
    waiting: Waiting,
    /// The offset of a slot whose holder may be waiting for one of ours: this transaction must
    /// release its locks.
    lost: Option<u64>,
    fork_generation: u64,
    /// Its locks belong to this thread.
    not_send: PhantomData<*const ()>,
}

impl Transaction {
    fn begin(store: &Store) -> Result<Transaction> {
        store.begin_write()?;
        let attachment = store.attachment();
        let mut deadline = Deadline::new(store.settings.lock_timeout);
        let first = loop {
            match attachment.begin_transaction() {
                // Entries are only borrowed: another's is soon free.
                Err(Error::TooManyProcesses { .. }) if !deadline.is_over() => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                result => break result?,
            }
        };
        if !first {
            return Err(Error::Deadlock { path: attachment.path.clone(), slot: None });
        }
        Ok(Transaction {
            session: SharedSession::clone(&store.session),
            participants: Participants::of(attachment),
            waiting: Waiting { deadline, highest: None, patience: LONGEST_SLEEP },
            lost: None,
            fork_generation: fork::generation(),
            not_send: PhantomData,
        })
    }

    /// Begins one in which all these slots, which are of this store, are locked.
    pub(crate) fn begin_with<'s>(
        store: &Store,
        slots: impl Iterator<Item = &'s Handle>,
    ) -> Result<Transaction> {
        let mut transaction = Transaction::begin(store)?;
        for slot in slots {
            if transaction.participants.find(slot.offset()).is_some() {
                continue;
            }
            let participant = transaction.participants.push(slot);
            let waiting = &mut transaction.waiting;
            // After a loss all are locked again, in order.
            if transaction.lost.is_none() && !lock(participant, &store.session, slot, waiting)? {
                transaction.lost = Some(slot.offset());
            }
        }
        if transaction.lost.is_some() {
            transaction.begin_again()?;
        }
        Ok(transaction)
    }

    /// The slots that it has used.
    pub(crate) fn participants(&mut self) -> &mut Participants {
        &mut self.participants
    }

    /// Whether it has to run again.
    fn is_lost(&self) -> bool {
        self.lost.is_some() && !self.is_of_parent() && !planted!(ASwallowedConflictIsNone)
    }

    /// Whether the parent of this process began it, before the fork.
    #[inline]
    fn is_of_parent(&self) -> bool {
        self.fork_generation != fork::generation()
    }

    /// Releases all slots, then locks them again: first the one that others had, while nothing is
    /// held.
    fn begin_again(&mut self) -> Result<()> {
        let mut first = self.lost;
        loop {
            self.release();
            self.participants.sort();
            let Some(held_by_others) = self.lock_all(first)? else { return Ok(()) };
            // Every other time, locks in the order of offsets. Otherwise two transactions could
            // hinder each other forever, in turn.
            first = first.is_none().then_some(held_by_others);
        }
    }

    /// Locks all slots, `first` before the others. Returns one that others have and that this
    /// transaction may not wait for.
    fn lock_all(&mut self, first: Option<u64>) -> Result<Option<u64>> {
        let attachment = self.session.attachment();
        let first = first.and_then(|offset| self.participants.find(offset));
        for at in first.into_iter().chain(0..self.participants.all().len()) {
            let participant = &mut self.participants.all_mut()[at];
            if participant.lock.is_some() {
                continue;
            }
            let on = (&participant.memory(&attachment.map), attachment);
            if !lock(participant, &self.session, on, &mut self.waiting)? {
                return Ok(Some(self.participants.all()[at].offset));
            }
        }
        Ok(None)
    }

    fn release(&mut self) {
        self.lost = None;
        self.waiting.highest = None;
        let attachment = self.session.attachment();
        let (participants, spare) = self.participants.with_spare();
        for participant in participants {
            participant.release(attachment, spare);
        }
    }

    /// The index of the slot's participant, locked.
    #[inline]
    fn participant(&mut self, slot: &Handle) -> Result<usize> {
        slot.check_store(&self.session)?;
        if self.lost.is_some() || self.is_of_parent() {
            return Err(self.unusable(slot));
        }
        match self.participants.find(slot.offset()) {
            Some(at) => Ok(at),
            None => self.join(slot),
        }
    }

    #[cold]
    fn unusable(&self, slot: &Handle) -> Error {
        if self.is_of_parent() {
            let (path, slot) = (slot.attachment().path.clone(), slot.name().to_owned());
            return Error::Evicted { path, slot };
        }
        self.conflict(slot.name())
    }

    /// Locks a slot that does not take part yet; returns the index of its participant.
    #[inline]
    fn join(&mut self, slot: &Handle) -> Result<usize> {
        let participant = self.participants.push(slot);
        match lock(participant, &self.session, slot, &mut self.waiting) {
            Ok(true) => Ok(self.participants.last()),
            locked => Err(self.did_not_join(slot, locked)),
        }
    }

    #[cold]
    fn did_not_join(&mut self, slot: &Handle, locked: Result<bool>) -> Error {
        match locked {
            Ok(_) => {
                self.lost = Some(slot.offset());
                self.conflict(slot.name())
            }
            Err(error) => {
                self.participants.pop();
                error
            }
        }
    }

    #[cold]
    fn conflict(&self, slot: &str) -> Error {
        let path = self.session.attachment().path.clone();
        Error::Conflict { path, slot: slot.to_owned() }
    }

    /// Makes all changes at once, for a transaction begun by
    /// [`Store::begin_transaction`].
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if any of its calls has returned that: its changes are dropped, so begin
    /// a new one. [`Error::Evicted`]. In both cases nothing has changed.
    pub fn commit(mut self) -> Result<()> {
        if self.is_lost() {
            let at = self.lost.and_then(|offset| self.participants.find(offset));
            let attachment = self.session.attachment();
            return Err(
                self.conflict(at.map_or("", |at| self.participants.all()[at].name(attachment)))
            );
        }
        // The entry is the same for all.
        let Some(owner) = self.participants.all().first().and_then(Participant::owner) else {
            return Ok(());
        };
        let attachment = self.session.attachment();
        let has_entry = !self.is_of_parent() && attachment.is_me(owner);
        let mut first = None;
        for participant in self.participants.all_mut() {
            first = first.or(participant.is_written().then_some(participant.line));
            // Its lock is looked at as it is committed.
            if has_entry && participant.is_written() && participant.has_own_lock() {
                continue;
            }
            let memory = participant.memory(&attachment.map);
            if !has_entry || !participant.is_held(&memory, attachment) {
                return Err(participant.lock_error(
                    attachment,
                    Failure::Evicted,
                    &self.waiting.deadline,
                ));
            }
        }
        let Some(first) = first else { return Ok(()) };
        let written = Written { participants: self.participants.all(), map: &attachment.map };
        commit_all(attachment, owner, &written).map_err(|failure| {
            let name = &descriptors::kept(attachment, first).name;
            attachment.lock_error(name, failure, &self.waiting.deadline)
        })?;
        let (participants, spare) = self.participants.with_spare();
        for participant in participants {
            match participant.is_written() {
                true => participant.end_after_commit(attachment, spare),
                false => participant.release(attachment, spare),
            }
        }
        self.participants.clear();
        Ok(())
    }
}

/// The slots that are written.
struct Written<'t> {
    participants: &'t [Participant],
    map: &'t Map,
}

impl<'t> Changes for Written<'t> {
    type Memory = SlotMemory<&'t Map>;

    #[inline]
    fn each(
        &self,
        mut scalar: impl FnMut(&Self::Memory, &RawLock, u64),
        mut area: impl FnMut(&Self::Memory, &RawLock, &Replacement<'_>),
    ) {
        self.participants
            .iter()
            .for_each(|participant| participant.change(self.map, &mut scalar, &mut area));
    }
}

/// How a transaction waits for the locks of its slots.
struct Waiting {
    deadline: Deadline,
    /// The highest offset of the slots of which it has locks of its own.
    highest: Option<u64>,
    /// How long it waits while it has locks, before it releases them. Twice as long after each time
    /// that was not enough: guards may be held for longer, and by others each time.
    patience: Duration,
}

/// Locks one more slot, `on`, of a transaction. False if others have it, and waiting for it could
/// make two transactions wait for each other.
#[inline]
fn lock(
    participant: &mut Participant,
    session: &Session,
    on: impl Lockable<Peers = Attachment> + Copy,
    waiting: &mut Waiting,
) -> Result<bool> {
    let locked = match participant.try_lock(session, on) {
        Ok(true) => true,
        tried => wait_for_lock(participant, tried, on, waiting)?,
    };
    if participant.has_own_lock() {
        waiting.highest = waiting.highest.max(Some(participant.offset));
    }
    Ok(locked)
}

/// The same, after a first try.
#[cold]
fn wait_for_lock(
    participant: &mut Participant,
    tried: Result<bool, Failure>,
    on: impl Lockable<Peers = Attachment> + Copy,
    Waiting { deadline, highest, patience }: &mut Waiting,
) -> Result<bool> {
    let locked = match (tried, *highest) {
        (Ok(false), None) => participant.lock(on, deadline).map(|()| true),
        (Ok(false), Some(highest))
            if planted!(TransactionsWaitWithLocks) && highest < participant.offset =>
        {
            participant.lock(on, deadline).map(|()| true)
        }
        // Everybody waits only upwards, so transactions never wait in a circle. With guards, or
        // other locks of its thread, one may: a waiter that could release does not wait for ever.
        (Ok(false), Some(highest)) if highest < participant.offset => {
            match deadline.at_most(*patience, |deadline| participant.lock(on, deadline)) {
                Err(Failure::Timeout(_)) if !deadline.is_over() => {
                    if !planted!(PatienceNeverGrows) {
                        *patience *= 2;
                    }
                    Ok(false)
                }
                locked => locked.map(|()| true),
            }
        }
        (tried, _) => tried,
    };
    locked.map_err(|why| participant.lock_error(on.peers(), why, deadline))
}

impl View for Transaction {
    #[inline]
    fn read(&mut self, slot: &Handle, at: usize, out: &mut [u8]) -> Result<()> {
        let participant = self.participant(slot)?;
        self.participants.all()[participant].read(&slot.memory, at, out);
        Ok(())
    }

    #[inline]
    fn bits(&mut self, slot: &Handle) -> Result<u64> {
        let participant = self.participant(slot)?;
        Ok(self.participants.all()[participant].bits(&slot.memory))
    }
}

impl ViewMut for Transaction {
    #[inline]
    fn write(&mut self, slot: &Handle, at: usize, data: &[u8]) -> Result<()> {
        let participant = self.participant(slot)?;
        self.participants.write(participant, slot, at, data)
    }

    #[inline]
    fn update_bits<R>(&mut self, slot: &Handle, f: impl FnOnce(&mut u64) -> R) -> Result<R> {
        let participant = self.participant(slot)?;
        Ok(self.participants.all_mut()[participant].update_bits(&slot.memory, f))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.release();
        if !self.is_of_parent() {
            self.session.attachment().end_transaction();
        }
        std::mem::take(&mut self.participants).leave();
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attachment = self.session.attachment();
        let slots: Vec<_> = self
            .participants
            .all()
            .iter()
            .map(|participant| participant.name(attachment))
            .collect();
        f.debug_struct("Transaction").field("slots", &slots).finish_non_exhaustive()
    }
}

/// # Errors
///
/// All of these fail as [`Store::transaction`] does, and with [`Error::Conflict`] if it has
/// to run again. Those for elements or content also fail as the handles' own methods do; then
/// nothing of the slot has changed, and the transaction may go on.
impl Transaction {
    /// Returns the content.
    pub fn load<S: Transactional>(&mut self, slot: &S) -> Result<S::Content> {
        slot.load_from(self)
    }

    /// Replaces the content.
    pub fn store<S: Transactional>(&mut self, slot: &S, new: S::New<'_>) -> Result<()> {
        slot.store_to(self, new)
    }

    /// Lets `f` change the content.
    ///
    /// ```
    /// # use slotfile::{Error, Store};
    /// let store = Store::temporary()?;
    /// let (hits, pose) = (store.value::<u64>("hits")?, store.array::<f64>("pose", 6)?);
    /// let name = store.text("name", 16)?;
    /// store.transaction(|tx| {
    ///     tx.update(&hits, |hits| *hits += 1)?;
    ///     tx.update(&pose, |p| p[0] += 0.5)?;
    ///     tx.update(&name, |name| name.push('!'))
    /// })?;
    /// assert_eq!((hits.load(), pose.get(0)?, name.load()), (1, 0.5, "!".into()));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn update<S: Transactional, R>(
        &mut self,
        slot: &S,
        f: impl FnOnce(&mut S::Draft) -> R,
    ) -> Result<R> {
        slot.update_in(self, f)
    }

    /// Adds to a value, wrapping around; returns the old value.
    pub fn fetch_add<T: Number>(&mut self, value: &Value<T>, n: T) -> Result<T> {
        self.update(value, |x| std::mem::replace(x, x.add(n)))
    }

    /// Returns one element of an array.
    pub fn get<T: Element>(&mut self, array: &Array<T>, index: impl ArrayIndex) -> Result<T> {
        let position = array.position(index)?;
        array.get_from(self, position)
    }

    /// Replaces one element of an array.
    pub fn set<T: Element>(
        &mut self,
        array: &Array<T>,
        index: impl ArrayIndex,
        element: T,
    ) -> Result<()> {
        let position = array.position(index)?;
        array.store_part_to(self, position..position + 1, &[element])
    }

    /// Replaces one element of an array by `f` of it; returns the old one.
    ///
    /// ```
    /// # use slotfile::{Error, Store};
    /// let store = Store::temporary()?;
    /// let accounts = store.array::<i64>("accounts", 64)?;
    /// store.transaction(|tx| {
    ///     tx.update_element(&accounts, 3, |x| x - 10)?;
    ///     tx.update_element(&accounts, 60, |x| x + 10)
    /// })?;
    /// assert_eq!((accounts.get(3)?, accounts.get(60)?), (-10, 10));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn update_element<T: Element>(
        &mut self,
        array: &Array<T>,
        index: impl ArrayIndex,
        f: impl FnOnce(T) -> T,
    ) -> Result<T> {
        let position = array.position(index)?;
        array.update_part_in(self, position..position + 1, |element| {
            let old = element[0];
            element[0] = f(old);
            old
        })
    }

    /// Returns the elements at these positions.
    pub fn load_range<S: Ranged>(
        &mut self,
        slot: &S,
        range: impl RangeBounds<usize>,
    ) -> Result<S::Part> {
        slot.load_part_from(self, range)
    }

    /// Replaces the elements at these positions.
    pub fn store_range<S: Ranged>(
        &mut self,
        slot: &S,
        range: impl RangeBounds<usize>,
        new: S::NewPart<'_>,
    ) -> Result<()> {
        slot.store_part_to(self, range, new)
    }

    /// Lets `f` change the elements at these positions.
    pub fn update_range<S: Ranged, R>(
        &mut self,
        slot: &S,
        range: impl RangeBounds<usize>,
        f: impl FnOnce(&mut S::PartDraft) -> R,
    ) -> Result<R> {
        slot.update_part_in(self, range, f)
    }
}
