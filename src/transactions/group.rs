//! [`Group`]: a fixed set of slots that are loaded, stored, updated and waited for as one.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::mapping::slot_memory::SlotMemory;
use crate::protocol::{self, Memory, Sample};
use crate::slots::handle::Handle;
use crate::slots::wait::{Awaited, Look, Wait, changed, nothing_to_wait_for, wait};
use crate::store::session::SharedSession;
use crate::store::store::Store;
use crate::transactions::members::Members;
use crate::transactions::participants::Participants;
use crate::transactions::transaction::Transaction;
use crate::transactions::transactional::sealed::{View, ViewMut};

/// A fixed set of slots, prepared once, to load, store, update and wait for as one.
///
/// It is a [`snapshot`](Store::snapshot) or a [`transaction`](Store::transaction) of these slots
/// and no others, and sooner done: which slots there are is known beforehand, so nothing runs
/// twice. Nothing is allocated where the caller keeps the contents:
/// [`load_into`](Group::load_into), [`store`](Group::store), [`update_into`](Group::update_into).
///
/// ```
/// let store = slotfile::Store::temporary()?;
/// let (hits, pose) = (store.value::<u64>("hits")?, store.array::<f64>("pose", 3)?);
/// let robot = store.group((&hits, &pose, store.text("name", 16)?))?;
///
/// robot.store((1, &[0.0, 0.5, 1.0], "Karel"))?; // all at one instant
/// robot.update(|(hits, pose, name)| {
///     *hits += 1;
///     pose[0] = 9.0;
///     name.push('!');
/// })?;
/// let (hits, pose, name) = robot.load()?; // as of one instant
/// assert_eq!((hits, &pose[..], &name[..]), (2, &[9.0, 0.5, 1.0][..], "Karel!"));
/// # Ok::<(), slotfile::Error>(())
/// ```
///
/// Slots of one kind can be as many as there are:
///
/// ```
/// let store = slotfile::Store::temporary()?;
/// let joints = (0..6).map(|n| store.value::<f64>(&format!("joint{n}")));
/// let joints = store.group(joints.collect::<Result<Vec<_>, _>>()?)?;
/// let mut angles = joints.load()?;
/// for _ in 0..1000 {
///     joints.update_into(&mut angles, |angles| angles[2] += 0.5)?; // allocates nothing
/// }
/// assert_eq!(joints.load()?, [0.0, 0.0, 500.0, 0.0, 0.0, 0.0]);
/// # Ok::<(), slotfile::Error>(())
/// ```
#[derive(Clone)]
pub struct Group<M> {
    store: Store,
    members: M,
    /// The positions of its slots among the members, in the order of their offsets.
    by_offset: Box<[usize]>,
    /// Where each member comes in that order.
    ranks: Box<[usize]>,
}

impl Store {
    /// Prepares a group of these slots: a tuple of up to twelve handles, or an array, a `Vec` or a
    /// slice of handles of one kind.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a slot of another store, for a buffer, and for a slot that is given
    /// twice.
    pub fn group<M: Members>(&self, members: M) -> Result<Group<M>> {
        members.check()?;
        let mut by_offset: Box<[usize]> = (0..members.count()).collect();
        by_offset.sort_unstable_by_key(|at| members.handle(*at).offset());
        for at in &by_offset {
            members.handle(*at).check_store(&self.session)?;
        }
        let slot = |at: usize| members.handle(at);
        if let Some(two) = by_offset.windows(2).find(|w| slot(w[0]).offset() == slot(w[1]).offset())
        {
            let (path, slot) = (self.path().to_owned(), Some(slot(two[0]).name().to_owned()));
            let what = "the group has it twice; give each slot once".into();
            return Err(Error::Invalid { path, slot, what });
        }
        let mut ranks = by_offset.clone();
        for (rank, at) in by_offset.iter().enumerate() {
            ranks[*at] = rank;
        }
        Ok(Group { store: self.clone(), members, by_offset, ranks })
    }
}

impl<M: Members> Group<M> {
    /// The handles that it was made of.
    pub fn members(&self) -> &M {
        &self.members
    }

    /// Returns the contents as of one instant. Never waits for a writer. Slots that were removed
    /// have their last content.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn load(&self) -> Result<M::Contents> {
        let mut contents = self.members.blank();
        self.load_into(&mut contents)?;
        Ok(contents)
    }

    /// The same, into memory that the caller keeps: allocates only for what is longer than before.
    ///
    /// # Errors
    ///
    /// As [`load`](Group::load).
    pub fn load_into(&self, contents: &mut M::Contents) -> Result<()> {
        let (mut few, mut many) = ([0; FEW], Vec::new());
        let versions = match few.get_mut(..self.by_offset.len()) {
            Some(few) => few,
            None => {
                many.resize(self.by_offset.len(), 0);
                &mut many[..]
            }
        };
        self.load_all(contents, versions)
    }

    /// Returns the contents and the version of each, as of one instant.
    ///
    /// # Errors
    ///
    /// As [`load`](Group::load).
    pub fn load_versioned(&self) -> Result<(M::Contents, Vec<u64>)> {
        let mut contents = self.members.blank();
        let mut versions = vec![0; self.by_offset.len()];
        self.load_all(&mut contents, &mut versions)?;
        Ok((contents, versions))
    }

    fn load_all(&self, contents: &mut M::Contents, versions: &mut [u64]) -> Result<()> {
        self.members.fit(contents);
        let mut loaded = Ok(());
        let memory = |at: usize| &self.members.handle(at).memory;
        protocol::snapshot(self.store.attachment(), versions, memory, |at, memory, sample| {
            let one = self.members.load_one(at, &mut Sampled { memory, sample }, contents);
            if one.is_err() {
                loaded = one;
            }
        });
        loaded
    }

    /// Replaces all contents at one instant. Nobody ever sees only some of the changes, not even
    /// after a kill or a power cut.
    ///
    /// # Errors
    ///
    /// [`Error::Length`], [`Error::TooLong`] or [`Error::Type`] if one of them does not fit;
    /// [`Error::LockTimeout`] if the slots could not be locked in time; [`Error::Deadlock`] inside
    /// a transaction of this thread on this store; [`Error::Removed`], [`Error::ReadOnly`],
    /// [`Error::TooManyProcesses`]. Then nothing has changed.
    pub fn store(&self, new: M::New<'_>) -> Result<()> {
        let mut transaction = self.begin()?;
        self.members.store_new(&mut OfGroup::new(&mut transaction, &self.ranks), new)?;
        transaction.commit()
    }

    /// Lets `f` change the contents, and makes all changes at one instant. `f` works on a private
    /// copy, and runs once, under the locks of all the slots. If it panics, nothing has changed.
    /// Each slot gets a new version, changed or not.
    ///
    /// # Errors
    ///
    /// As [`store`](Group::store).
    pub fn update<R>(&self, f: impl FnOnce(&mut M::Contents) -> R) -> Result<R> {
        self.update_into(&mut self.members.blank(), f)
    }

    /// The same, with memory that the caller keeps: the contents are loaded into `contents`, and
    /// are what `f` has made of them afterwards.
    ///
    /// # Errors
    ///
    /// As [`store`](Group::store).
    pub fn update_into<R>(
        &self,
        contents: &mut M::Contents,
        f: impl FnOnce(&mut M::Contents) -> R,
    ) -> Result<R> {
        let mut transaction = self.begin()?;
        self.members.fit(contents);
        self.members.load_all(&mut OfGroup::new(&mut transaction, &self.ranks), contents)?;
        let result = f(contents);
        self.members.store_all(&mut OfGroup::new(&mut transaction, &self.ranks), contents)?;
        transaction.commit()?;
        Ok(result)
    }

    /// A transaction that has all the slots locked, to be written.
    fn begin(&self) -> Result<Transaction> {
        Transaction::begin_with(&self.store, self.in_order())
    }

    /// Its slots, in the order of their offsets.
    fn in_order(&self) -> impl Iterator<Item = &Handle> {
        self.by_offset.iter().map(|at| self.members.handle(*at))
    }

    /// Its slots, in the order in which they were given.
    fn handles(&self) -> impl Iterator<Item = &Handle> {
        (0..self.by_offset.len()).map(|at| self.members.handle(at))
    }

    /// Returns the version of each slot, as of one instant, in the order in which the slots were
    /// given.
    pub fn versions(&self) -> Vec<u64> {
        let mut versions = vec![0; self.by_offset.len()];
        let memory = |at: usize| &self.members.handle(at).memory;
        protocol::snapshot(self.store.attachment(), &mut versions, memory, |_, _, _| ());
        versions
    }

    /// Waits until one of the versions differs from the one in `seen`, for at most `timeout`
    /// (`None`: for ever). Returns the new versions, or `None` on time-out. What was stored in
    /// several of the slots at once is seen in all of them.
    ///
    /// `seen` is what an earlier call, or [`load_versioned`](Group::load_versioned), has returned.
    /// So no change is missed: if one came before the call, it returns at once.
    ///
    /// # Errors
    ///
    /// As [`Store::wait_any`]; [`Error::Invalid`] if `seen` has another length.
    ///
    /// ```
    /// use std::time::Duration;
    /// let store = slotfile::Store::temporary()?;
    /// let pair = store.group((store.value::<u64>("a")?, store.value::<u64>("b")?))?;
    /// let seen = pair.versions();
    /// pair.store((1, 2))?; // by anybody, at any time from here on
    /// assert_eq!(pair.wait_for_change(&seen, Some(Duration::from_secs(1)))?, Some(vec![1, 1]));
    /// # Ok::<(), slotfile::Error>(())
    /// ```
    pub fn wait_for_change(
        &self,
        seen: &[u64],
        timeout: Option<Duration>,
    ) -> Result<Option<Vec<u64>>> {
        if seen.len() != self.by_offset.len() {
            let (given, slots) = (seen.len(), self.by_offset.len());
            let what = format!("{given} versions for a group of {slots} slots; give one for each");
            return Err(Error::Invalid { path: self.store.path().to_owned(), slot: None, what });
        }
        wait(Change { group: self, seen }, timeout)
    }

    /// Waits until `condition` is true of the contents, which are of one instant, for at most
    /// `timeout` (`None`: for ever). Returns them, or `None` on time-out. `condition` is called at
    /// once, then after each change (once for several changes that come together).
    ///
    /// # Errors
    ///
    /// As [`Store::wait_any`] and [`load`](Group::load).
    pub fn wait_until(
        &self,
        condition: impl FnMut(&M::Contents) -> bool,
        timeout: Option<Duration>,
    ) -> Result<Option<M::Contents>> {
        let contents = Some(self.members.blank());
        let versions = vec![0; self.by_offset.len()];
        wait(Until { group: self, contents, versions, condition }, timeout)
    }

    /// Its slots, to wait for another version than the one `seen` of each; an error if it has none.
    fn awaited<'a>(&'a self, seen: &'a [u64]) -> Result<Vec<(&'a dyn Awaited, u64)>> {
        if self.by_offset.is_empty() {
            return Err(nothing_to_wait_for(&self.store));
        }
        Ok(self.handles().map(|slot| slot as &dyn Awaited).zip(seen.iter().copied()).collect())
    }
}

/// Waits until one of the versions differs from the one in `seen`: for the new versions.
struct Change<'a, M> {
    group: &'a Group<M>,
    seen: &'a [u64],
}

impl<M: Members> Wait for Change<'_, M> {
    type Output = Vec<u64>;

    fn look(&mut self) -> Result<Look<'_, Vec<u64>>> {
        let awaited = self.group.awaited(self.seen)?;
        match changed(&awaited)?.is_empty() {
            true => Ok(Look::Pending(awaited)),
            false => Ok(Look::Ready(self.group.versions())),
        }
    }
}

/// Waits until `condition` is true of the contents: for the contents.
struct Until<'a, M: Members, C> {
    group: &'a Group<M>,
    /// They are there until they are returned.
    contents: Option<M::Contents>,
    versions: Vec<u64>,
    condition: C,
}

impl<M: Members, C: FnMut(&M::Contents) -> bool> Wait for Until<'_, M, C> {
    type Output = M::Contents;

    fn look(&mut self) -> Result<Look<'_, M::Contents>> {
        let contents = self.contents.get_or_insert_with(|| self.group.members.blank());
        self.group.load_all(contents, &mut self.versions)?;
        if let Some(removed) = self.group.handles().find(|slot| slot.is_removed()) {
            return Err(removed.removed());
        }
        match self.contents.take_if(|contents| (self.condition)(contents)) {
            Some(contents) => Ok(Look::Ready(contents)),
            None => Ok(Look::Pending(self.group.awaited(&self.versions)?)),
        }
    }
}

/// Of so many slots the versions need no memory of their own.
const FEW: usize = 64;

/// One slot as a snapshot has found it.
struct Sampled<'a> {
    memory: &'a SlotMemory<SharedSession>,
    sample: Sample,
}

impl View for Sampled<'_> {
    fn read(&mut self, _: &Handle, at: usize, out: &mut [u8]) -> Result<()> {
        match self.sample {
            Sample::Area(area) => self.memory.read(area, at, out),
            Sample::Scalar(bits) => out.copy_from_slice(&bits.to_le_bytes()[at..at + out.len()]),
        }
        Ok(())
    }

    #[inline]
    fn bits(&mut self, _: &Handle) -> Result<u64> {
        match self.sample {
            Sample::Scalar(bits) => Ok(bits),
            Sample::Area(_) => unreachable!("only a scalar is asked for its bits"),
        }
    }
}

/// A transaction that has exactly a group's slots. It knows where each is.
struct OfGroup<'t> {
    participants: &'t mut Participants,
    /// The index of each slot's participant, by the slot's position in the group.
    ranks: &'t [usize],
    /// The index of the participant that comes next.
    participant: usize,
}

impl<'t> OfGroup<'t> {
    /// `transaction` was begun with the slots in the order of their offsets; `ranks`: where each
    /// comes in that order.
    fn new(transaction: &'t mut Transaction, ranks: &'t [usize]) -> OfGroup<'t> {
        OfGroup { participants: transaction.participants(), ranks, participant: 0 }
    }
}

impl View for OfGroup<'_> {
    #[inline]
    fn read(&mut self, slot: &Handle, at: usize, out: &mut [u8]) -> Result<()> {
        self.participants.all()[self.participant].read(&slot.memory, at, out);
        Ok(())
    }

    #[inline]
    fn bits(&mut self, slot: &Handle) -> Result<u64> {
        Ok(self.participants.all()[self.participant].bits(&slot.memory))
    }

    #[inline]
    fn next_is(&mut self, position: usize) {
        self.participant = self.ranks[position];
    }
}

impl ViewMut for OfGroup<'_> {
    fn write(&mut self, slot: &Handle, at: usize, data: &[u8]) -> Result<()> {
        self.participants.write(self.participant, slot, at, data)
    }

    #[inline]
    fn update_bits<R>(&mut self, slot: &Handle, f: impl FnOnce(&mut u64) -> R) -> Result<R> {
        Ok(self.participants.all_mut()[self.participant].update_bits(&slot.memory, f))
    }
}

impl<M: Members> fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots: Vec<_> = self.handles().map(Handle::name).collect();
        f.debug_struct("Group").field("slots", &slots).finish_non_exhaustive()
    }
}
