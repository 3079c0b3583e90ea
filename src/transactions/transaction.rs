//! [`Transaction`]: several slots updated at once, or not at all.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use crate::attachment::attach::Failure;
use crate::error::{Error, Result};
use crate::mapping::map::Map;
use crate::mutant::planted;
use crate::os::fork;
use crate::protocol::{Deadline, LONGEST_SLEEP, Peers, commit_all};
use crate::slots::array::{Array, ArrayIndex};
use crate::slots::handle::Handle;
use crate::slots::slot::Slot;
use crate::slots::value::Value;
use crate::store::store::Store;
use crate::transactions::participant::Part;
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
        let mut transaction = Transaction::begin(self)?;
        for slot in slots {
            let slot = slot.transactional()?;
            slot.check_store(self)?;
            if transaction.find(slot.place()).is_none() {
                transaction.add(Part::new(slot));
            }
        }
        transaction.begin_again()?;
        Ok(transaction)
    }
}

/// What the closure of [`Store::transaction`] works with. It reads its own writes.
///
/// The cost of an array's element or range depends on its own length, not on the array's. Several
/// ranges of one array cost as much as one from the first to the last of them.
pub struct Transaction {
    store: Store,
    /// The slots that it has used, in this run or an earlier one.
    parts: Vec<Part>,
    /// The index of each by its place in the file; `None`: they are sorted by place.
    by_place: Option<BTreeMap<u64, usize>>,
    /// The one used last, which is often also the next.
    last: usize,
    deadline: Deadline,
    /// The highest place of the slots of which it has locks of its own.
    highest: Option<u64>,
    /// The place of a slot whose holder may be waiting for one of ours: this transaction must
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
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                result => break result?,
            }
        };
        if !first {
            return Err(Error::Deadlock { path: attachment.path.clone(), slot: None });
        }
        Ok(Transaction {
            store: store.clone(),
            parts: Vec::new(),
            by_place: None,
            last: 0,
            deadline,
            highest: None,
            lost: None,
            fork_generation: fork::generation(),
            not_send: PhantomData,
        })
    }

    /// Whether it has to run again.
    fn is_lost(&self) -> bool {
        self.lost.is_some() && !self.is_of_parent() && !planted!(ASwallowedConflictIsNone)
    }

    /// Whether the parent of this process began it, before the fork.
    fn is_of_parent(&self) -> bool {
        self.fork_generation != fork::generation()
    }

    /// Releases all slots, then locks them again: first the one that others had, while nothing is
    /// held.
    fn begin_again(&mut self) -> Result<()> {
        let mut first = self.lost;
        loop {
            self.release();
            self.by_place = None;
            self.parts.sort_unstable_by_key(|part| part.place);
            let Some(held_by_others) = self.lock_all(first)? else { return Ok(()) };
            // Every other time, locks in the order of places. Otherwise two transactions could take
            // turns for ever.
            first = first.is_none().then_some(held_by_others);
        }
    }

    /// Locks all slots, `first` before the others. Returns one that others have and that this
    /// transaction may not wait for.
    fn lock_all(&mut self, first: Option<u64>) -> Result<Option<u64>> {
        let first = first.and_then(|place| self.find(place));
        for at in first.into_iter().chain(0..self.parts.len()) {
            let part = &mut self.parts[at];
            if part.lock.is_some() {
                continue;
            }
            if !lock(part, &self.store, &mut self.deadline, &mut self.highest)? {
                return Ok(Some(self.parts[at].place));
            }
        }
        Ok(None)
    }

    fn release(&mut self) {
        self.lost = None;
        self.highest = None;
        for part in &mut self.parts {
            part.release(self.store.attachment());
        }
    }

    /// The slot, locked, and the mapping of its memory.
    #[inline]
    fn part(&mut self, slot: &Handle) -> Result<(&mut Part, &Map)> {
        slot.check_store(&self.store)?;
        if self.is_of_parent() {
            let (path, slot) = (self.store.path().to_owned(), slot.name().to_owned());
            return Err(Error::Evicted { path, slot });
        }
        if self.lost.is_some() {
            return Err(self.conflict(slot.name()));
        }
        let place = slot.place();
        if self.parts.get(self.last).is_none_or(|part| part.place != place) {
            self.last = match self.find(place) {
                Some(at) => at,
                None => self.join(slot)?,
            };
        }
        Ok((&mut self.parts[self.last], &self.store.attachment().map))
    }

    /// Locks a slot that has no part yet; returns the index of its part.
    fn join(&mut self, slot: &Handle) -> Result<usize> {
        let mut part = Part::new(slot);
        let locked = lock(&mut part, &self.store, &mut self.deadline, &mut self.highest)?;
        let at = self.add(part);
        if !locked {
            self.lost = Some(slot.place());
            return Err(self.conflict(slot.name()));
        }
        Ok(at)
    }

    fn add(&mut self, part: Part) -> usize {
        let at = self.parts.len();
        if let Some(by_place) = &mut self.by_place {
            by_place.insert(part.place, at);
        } else if self.parts.last().is_some_and(|last| last.place > part.place) {
            let places = self.parts.iter().chain([&part]).map(|part| part.place);
            self.by_place = Some(places.zip(0..).collect());
        }
        self.parts.push(part);
        at
    }

    fn find(&self, place: u64) -> Option<usize> {
        match &self.by_place {
            // Usually it comes after all of them.
            None if self.parts.last().is_none_or(|last| last.place < place) => None,
            None => self.parts.binary_search_by_key(&place, |part| part.place).ok(),
            Some(by_place) => by_place.get(&place).copied(),
        }
    }

    #[cold]
    fn conflict(&self, slot: &str) -> Error {
        Error::Conflict { path: self.store.path().to_owned(), slot: slot.to_owned() }
    }

    /// Makes all changes at once, for a transaction begun by
    /// [`Store::begin_transaction`].
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if any of its calls has returned that: its changes are dropped, so begin
    /// a new one. [`Error::Evicted`]. In both cases nothing has changed.
    pub fn commit(mut self) -> Result<()> {
        let store = self.store.clone();
        let attachment = store.attachment();
        if self.is_lost() {
            let part = self.lost.and_then(|place| self.find(place)).map(|at| &self.parts[at]);
            return Err(self.conflict(part.map_or("", |part| part.name(attachment))));
        }
        // The entry is the same for all.
        let owner = self.parts.first().and_then(Part::owner);
        let has_entry = owner.is_none_or(|owner| attachment.is_me(owner)) && !self.is_of_parent();
        let memories: Vec<_> = self.parts.iter().map(|part| part.memory(&attachment.map)).collect();
        let mut parts = self.parts.iter().zip(&memories);
        if let Some((part, _)) =
            parts.find(|(part, memory)| !has_entry || !part.is_held(memory, attachment))
        {
            return Err(part.explain(attachment, Failure::Evicted, &self.deadline));
        }
        let Some(first) = self.parts.iter().find(|part| part.is_written()).map(|part| part.line)
        else {
            return Ok(());
        };
        let written = self.parts.iter_mut().zip(&memories).filter(|(part, _)| part.is_written());
        let changes = written.map(|(part, memory)| {
            let lock = part.lock.take().expect("what was written is locked");
            (lock.resume((memory, attachment)), part.change())
        });
        commit_all(attachment, attachment.me()?, changes.collect()).map_err(|failure| {
            let name = &attachment.known.descriptor(first).name;
            attachment.lock_error(name, failure, &self.deadline)
        })
        // Slots that were only read are released after that, by `drop`.
    }
}

/// Locks one more slot of a transaction that has locks up to the place `highest`. False if others
/// have it, and waiting for it could make two wait for each other.
#[inline]
fn lock(
    part: &mut Part,
    store: &Store,
    deadline: &mut Deadline,
    highest: &mut Option<u64>,
) -> Result<bool> {
    let explain = |part: &Part, why, deadline: &_| part.explain(store.attachment(), why, deadline);
    let locked = match *highest {
        _ if part.try_lock(store).map_err(|why| explain(part, why, deadline))? => Ok(true),
        None => part.lock(store, deadline).map(|()| true),
        Some(highest) if planted!(TransactionsWaitWithLocks) && highest < part.place => {
            part.lock(store, deadline).map(|()| true)
        }
        // Everybody waits only upwards, so transactions never wait in a circle. With guards, or
        // other locks of its thread, one may: a waiter that could release does not wait for long.
        Some(highest) if highest < part.place => {
            match deadline.at_most(LONGEST_SLEEP, |deadline| part.lock(store, deadline)) {
                Err(Failure::Timeout(_)) if !deadline.is_over() => Ok(false),
                locked => locked.map(|()| true),
            }
        }
        Some(_) => Ok(false),
    };
    let locked = locked.map_err(|why| explain(part, why, deadline))?;
    if part.has_own_lock() {
        *highest = (*highest).max(Some(part.place));
    }
    Ok(locked)
}

impl View for Transaction {
    fn read(&mut self, slot: &Handle, at: usize, out: &mut [u8]) -> Result<()> {
        let (part, map) = self.part(slot)?;
        part.read(map, at, out);
        Ok(())
    }
}

impl ViewMut for Transaction {
    fn write(&mut self, slot: &Handle, at: usize, data: &[u8]) -> Result<()> {
        let (part, map) = self.part(slot)?;
        part.write(map, at, data).map_err(|none| slot.no_memory(none))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.release();
        if !self.is_of_parent() {
            self.store.attachment().end_transaction();
        }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attachment = self.store.attachment();
        let slots: Vec<_> = self.parts.iter().map(|part| part.name(attachment)).collect();
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
        Ok(array.load_part_from(self, position..position + 1)?[0])
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
        let old = self.get(array, index)?;
        self.set(array, index, f(old))?;
        Ok(old)
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
