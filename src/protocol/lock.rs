//! Acquiring and releasing a slot's lock, and recovering the locks of dead owners.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::queue::{Waiting, follow, publish, wake};
use super::stale::Range;
use super::{
    Areas, Cell, Control, DRAFT, Deadline, FREE, Failure, Form, LONGEST_SLEEP, Memory, Owner,
    Peers, REMOVED, STALE, TxnState, planted,
};

/// A slot's lock, held by this thread. Dropping it releases the lock and changes nothing.
///
/// The control word identifies it, by version and owner as they are while the lock is held. No
/// other acquisition has both, since taking a lock away advances the version.
pub(crate) struct Held<'a, M: Memory, P: Peers> {
    pub(super) memory: &'a M,
    pub(super) peers: &'a P,
    /// The control word while the lock is held, without W and L.
    pub(super) control: Control,
    /// Taken under a guard of this thread, which keeps the lock.
    nested: bool,
    fork_generation: u64,
}

/// Waits for the lock and takes it; recovers it if its owner is dead.
///
/// [`Failure::Deadlock`] if this thread already has it.
#[inline]
pub(crate) fn lock<'a, M: Memory, P: Peers>(
    memory: &'a M,
    peers: &'a P,
    form: Form,
    deadline: &mut Deadline,
) -> Result<Held<'a, M, P>, Failure<P::Error>> {
    // Inlined instead of calling `try_lock`, which reads the control word before it finds our
    // entry: that costs an update of an array 29 instructions.
    if let Ok(me) = peers.me() {
        let seen = memory.control(Relaxed);
        if seen.is_free()
            && let Some(held) = take(memory, peers, seen, me, false)
        {
            return Ok(held);
        }
    }
    wait_for_lock(memory, peers, form, deadline).inspect_err(|_| peers.has_given_up())
}

/// This thread's number. Waits for an entry if all are taken, as lent ones are soon free.
fn wait_for_entry<P: Peers>(
    peers: &P,
    deadline: &mut Deadline,
) -> Result<Owner, Failure<P::Error>> {
    loop {
        match peers.me() {
            Err(error) if P::may_be_free_soon(&error) && !deadline.is_over() => {
                std::thread::sleep(LONGEST_SLEEP / 4);
            }
            result => return result.map_err(Failure::Peers),
        }
    }
}

#[cold]
fn wait_for_lock<'a, M: Memory, P: Peers>(
    memory: &'a M,
    peers: &'a P,
    form: Form,
    deadline: &mut Deadline,
) -> Result<Held<'a, M, P>, Failure<P::Error>> {
    let me = wait_for_entry(peers, deadline)?;
    let mut waiting = Waiting::new(memory);
    loop {
        let seen = memory.control(Relaxed);
        match seen.owner() {
            FREE if waiting.may_take(seen) => {
                if let Some(held) = take(memory, peers, seen, me, waiting.owes(memory)) {
                    return Ok(held);
                }
                // Another thread was faster. That may happen many times.
                if deadline.is_over() && !planted!(NoTimeoutWhileLosing) {
                    return Err(waiting.give_up(memory));
                }
            }
            REMOVED => return Err(Failure::Removed),
            owner if owner == me => return Err(Failure::Deadlock),
            _ => waiting.wait(memory, peers, form, seen, deadline)?,
        }
    }
}

/// Takes the lock if it is free now.
#[inline]
pub(crate) fn try_lock<'a, M: Memory, P: Peers>(
    memory: &'a M,
    peers: &'a P,
) -> Option<Held<'a, M, P>> {
    let seen = memory.control(Relaxed);
    if !seen.is_free() {
        peers.has_given_up();
        return None;
    }
    let me = peers.me().ok()?;
    let held = take(memory, peers, seen, me, false);
    if held.is_none() {
        peers.has_given_up();
    }
    held
}

/// `contended`: others may sleep until the lock is free, so L must be set.
#[inline]
fn take<'a, M: Memory, P: Peers>(
    memory: &'a M,
    peers: &'a P,
    seen: Control,
    me: Owner,
    contended: bool,
) -> Option<Held<'a, M, P>> {
    let taken = seen.with_owner(me).with_transaction(false);
    let now = taken.with_lock_waiters(contended && !planted!(TakeWithoutL));
    // Acquire: sees what the last holder stored. A compare-exchange, never a plain store: it
    // continues the release sequence of the last commit.
    memory.swap_control(seen, now, Acquire).ok()?;
    peers.has_locked();
    let (control, fork_generation) = (taken.quiet(), peers.fork_generation());
    Some(Held { memory, peers, control, nested: false, fork_generation })
}

/// A [`Held`] without its references, for owners that keep the referents beside it. Dropping it
/// does nothing: the lock stays.
#[derive(Debug)]
pub(crate) struct RawLock {
    control: Control,
    nested: bool,
    fork_generation: u64,
}

impl RawLock {
    /// Turns it back into the lock, of the same slot.
    pub(crate) fn resume<'a, M: Memory, P: Peers>(
        self,
        memory: &'a M,
        peers: &'a P,
    ) -> Held<'a, M, P> {
        let RawLock { control, nested, fork_generation } = self;
        Held { memory, peers, control, nested, fork_generation }
    }

    pub(crate) fn version(&self) -> u64 {
        self.control.version()
    }

    /// Whether this thread still holds this same lock. It does not if its entry was given back
    /// first, as when a thread-local of an ending thread has kept this.
    pub(crate) fn is_held<M: Memory, P: Peers>(&self, memory: &M, peers: &P) -> bool {
        // Relaxed: if this thread has the lock, it stored the word itself.
        self.fork_generation == peers.fork_generation()
            && peers.is_me(self.owner())
            && self.is_at(memory.control(Relaxed))
    }

    /// Whether `now` is what the control word must be while the lock is held.
    #[inline]
    pub(crate) fn is_at(&self, now: Control) -> bool {
        now.same(self.control)
    }

    pub(crate) fn owner(&self) -> Owner {
        self.control.owner()
    }
}

impl<'a, M: Memory, P: Peers> Held<'a, M, P> {
    pub(crate) fn into_raw(self) -> RawLock {
        let (control, nested, fork_generation) = (self.control, self.nested, self.fork_generation);
        std::mem::forget(self); // the lock stays
        RawLock { control, nested, fork_generation }
    }

    /// The lock that this thread already holds, through a guard that outlives this.
    /// [`Failure::Evicted`] if it was taken away.
    pub(crate) fn nested(memory: &'a M, peers: &'a P) -> Result<Held<'a, M, P>, Failure<P::Error>> {
        let control = memory.control(Relaxed).quiet();
        if !peers.is_me(control.owner()) {
            return Err(Failure::Evicted);
        }
        let fork_generation = peers.fork_generation();
        Ok(Held { memory, peers, control, nested: true, fork_generation })
    }

    /// The lock that this thread has taken and whose [`Held`] it has forgotten.
    pub(crate) fn taken(memory: &'a M, peers: &'a P) -> Held<'a, M, P> {
        let control = memory.control(Relaxed).with_waiters(false);
        let fork_generation = peers.fork_generation();
        Held { memory, peers, control, nested: false, fork_generation }
    }

    /// Adopts the current control word, if the lock is still this thread's: updates under this
    /// guard have advanced the version.
    pub(crate) fn follow_updates(&mut self) {
        let control = self.memory.control(Relaxed).with_waiters(false);
        if control.owner() == self.owner() {
            self.control = control;
        }
    }

    /// The version that is current while the lock is held.
    pub(crate) fn version(&self) -> u64 {
        self.control.version()
    }

    pub(super) fn owner(&self) -> Owner {
        self.control.owner()
    }

    /// Replaces `data.len()` bytes from byte `at` of the content, in the next area, and makes that
    /// area current. Returns the new version.
    #[inline]
    pub(crate) fn commit(
        self,
        areas: &Areas,
        at: usize,
        data: &[u8],
    ) -> Result<u64, Failure<P::Error>> {
        // The child of a fork has a copy of this, but not the lock: it must not store.
        if self.is_of_parent() {
            return Err(Failure::Evicted);
        }
        if planted!(CommitEarly) {
            let next = self.control.advanced(1).with_owner(FREE);
            publish(self.memory, self.peers, self.control, next);
            self.fill(areas, at, data);
            return Ok(self.version());
        }
        self.fill(areas, at, data);
        let memory = self.memory;
        let version = self.publish_next()?;
        if planted!(ClearStaleAfterCommit) {
            memory.store(STALE + areas.number(version) as usize, 0, Relaxed);
        }
        Ok(version)
    }

    /// Commits what was stored in a buffer without the protocol: advances the version.
    pub(crate) fn notify(self) -> Result<u64, Failure<P::Error>> {
        if self.is_of_parent() { Err(Failure::Evicted) } else { self.publish_next() }
    }

    #[inline]
    fn publish_next(self) -> Result<u64, Failure<P::Error>> {
        let next = self.committed();
        // Release: a thread that sees the new version sees the area it makes current.
        if !publish(self.memory, self.peers, self.control, next) {
            return Err(Failure::Evicted);
        }
        if !self.nested {
            self.peers.has_unlocked();
        }
        std::mem::forget(self); // the lock went with the commit
        Ok(next.version())
    }

    /// The control word after a commit. Under a guard, the lock stays.
    #[inline]
    pub(super) fn committed(&self) -> Control {
        let owner = if self.nested { self.owner() } else { FREE };
        self.control.advanced(1).with_owner(owner)
    }

    /// Ends the lock and discards what was stored under it, as a recovery does.
    pub(super) fn undo(&self, form: Form) {
        let keeps = self.nested && !planted!(UndoFreesGuard);
        let owner = if keeps { self.owner() } else { FREE };
        let undone = self.control.advanced(form.recovery_step()).with_owner(owner);
        let in_transaction = self.control.with_transaction(true);
        let _ = publish(self.memory, self.peers, self.control, undone)
            || publish(self.memory, self.peers, in_transaction, undone);
    }

    /// Whether the lock was taken by the parent, before this process was forked.
    #[inline]
    pub(crate) fn is_of_parent(&self) -> bool {
        self.peers.fork_generation() != self.fork_generation
    }

    /// Makes the next area a copy of the current one, with `data` from byte `at`.
    #[inline]
    pub(super) fn fill(&self, areas: &Areas, at: usize, data: &[u8]) {
        let current = areas.number(self.control.version());
        let next = areas.number(current + 1);
        let changed = Range::of_bytes(at, data.len());
        // Words that `data` covers need no copy; the words in which it begins or ends do.
        let whole = Range::of_whole_words(at, data.len());
        let replaces_all = whole == Range { from: 0, to: areas.words };
        // If all words are replaced, no others are stale, and nothing has to be copied.
        let stale = |area| match replaces_all {
            true => Range::NONE,
            false => self.stale(areas, area),
        };
        let old = stale(next);
        let note = || {
            for area in 0..areas.count {
                let mut all = changed;
                if area != current || planted!(ClearStaleAfterCommit) {
                    all = all.or(stale(area));
                } else if planted!(CurrentNotStale) {
                    continue;
                }
                // Relaxed would do for writers: the fence below orders all of these before the
                // first store. Release: a reader that follows the updates may find this update's
                // range in place of earlier ones; it then sees the lock that was taken before.
                self.memory.store(STALE + area as usize, all.to_bits(), Release);
            }
        };
        if !planted!(NoteStaleLate) {
            note();
        }
        // Release: a reader that sees anything stored below also sees, after an acquire fence, the
        // lock that was taken before it, and rejects its copy.
        self.memory.fence(Release);
        let (from, to) = (areas.of(current), areas.of(next));
        let copy = |part: Range| {
            if part.from < part.to {
                self.memory.copy(from + part.from, to + part.from, part.to - part.from);
            }
        };
        let behind = if whole == changed { old } else { old.or(changed) };
        let (before, after) = behind.without(whole);
        // Both before the data, whose first and last partial words are merged into them.
        copy(before);
        copy(after);
        self.memory.write(to, at, data);
        if planted!(NoteStaleLate) {
            note();
        }
    }

    /// The words in which, at most, the area differs from the current one.
    #[inline]
    fn stale(&self, areas: &Areas, area: u64) -> Range {
        // Relaxed: it was stored under the lock, which this thread holds.
        Range::from_bits(self.memory.load(STALE + area as usize, Relaxed), areas.words)
    }
}

impl<M: Memory, P: Peers> Drop for Held<'_, M, P> {
    fn drop(&mut self) {
        if self.nested {
            return;
        }
        if !self.is_of_parent() {
            self.let_go();
        }
        // Only now: after releasing its last lock, a thread may give its entry back.
        self.peers.has_unlocked();
    }
}

impl<M: Memory, P: Peers> Held<'_, M, P> {
    fn let_go(&self) {
        let seen = self.memory.control(Relaxed);
        // Otherwise it was committed, or evicted and perhaps taken again, by this thread or by the
        // new owner of its entry.
        let is_this = match planted!(DropByOwner) {
            true => seen.owner() == self.owner(),
            false => seen.same(self.control),
        };
        if is_this {
            // Release: the next holder sees all that was done under the lock.
            publish(self.memory, self.peers, seen.quiet(), seen.with_owner(FREE).quiet());
        }
    }
}

/// Whether no live process has this entry.
pub(super) fn try_share<P: Peers>(peers: &P, owner: Owner) -> bool {
    peers.one_at_a_time(|| {
        let shared = peers.share(owner);
        if shared {
            peers.unshare(owner);
        }
        shared
    })
}

/// Recovers the slot if `owner` is dead; false if it is alive.
pub(crate) fn recover_dead_owner<M: Memory, P: Peers>(
    memory: &M,
    peers: &P,
    form: Form,
    owner: Owner,
) -> bool {
    peers.one_at_a_time(|| {
        if planted!(RecoverWithoutByte) {
            let seen = memory.control(Acquire);
            if !peers.share(owner) {
                return false;
            }
            peers.unshare(owner);
            if seen.owner() == owner {
                settle_seen(memory, peers, form, seen);
            }
            return true;
        }
        if !peers.share(owner) {
            return false;
        }
        settle(memory, peers, form, owner);
        peers.unshare(owner);
        true
    })
}

/// Ends the lock that `owner`, which is dead, holds on this slot: completes the update if its
/// transaction was committed, otherwise undoes it. The caller holds the owner's byte, so nobody can
/// have claimed the entry again.
pub(crate) fn settle<M: Memory, P: Peers>(memory: &M, peers: &P, form: Form, owner: Owner) {
    // Acquire: T announces a draft or an area that is about to be read.
    let seen = memory.control(Acquire);
    if seen.owner() == owner {
        settle_seen(memory, peers, form, seen);
    }
}

fn settle_seen<M: Memory, P: Peers>(memory: &M, peers: &P, form: Form, seen: Control) {
    // Acquire: COMMITTED announces all that was stored before it.
    let committed =
        seen.in_transaction() && peers.word(seen.owner(), Acquire) == TxnState::Committed;
    let steps = if committed { 1 } else { form.recovery_step() };
    let settled = seen.advanced(steps).with_owner(FREE).with_transaction(false);
    if committed && form == Form::Scalar {
        settle_draft(memory, peers, seen, settled.quiet());
    } else {
        publish(memory, peers, seen.quiet(), settled.quiet());
    }
}

/// Makes a scalar's draft its value if the control word is still `old`, apart from W and L. `new`
/// has neither of these.
pub(super) fn settle_draft<M: Memory, P: Peers>(memory: &M, peers: &P, old: Control, new: Control) {
    // Relaxed: the draft was stored before T, which was acquired.
    let draft = memory.load(DRAFT, Relaxed);
    let mut seen = memory.cell();
    while seen.control.same(old) {
        let waits = seen.control.may_have_waiters();
        let control = if waits { follow(memory, peers, seen.control, new) } else { new };
        // Release: a thread that sees the version sees all that the transaction did before.
        match memory.swap_cell(seen, Cell { value: draft, control }, Release) {
            Ok(()) => return wake(memory, seen.control, control),
            Err(now) => seen = now,
        }
    }
}

/// Takes an entry for the calling thread if it is free; first settles what a dead holder left.
/// `settle_all` calls [`settle`] with this owner on every slot and every lock of the store, and
/// returns whether it could. Runs under [`Peers::one_at_a_time`].
pub(crate) fn claim<P: Peers>(peers: &P, owner: Owner, settle_all: impl FnOnce() -> bool) -> bool {
    if !peers.share(owner) {
        return false;
    }
    // Acquire: FREE means that no slot names the entry, as its last holder left them.
    let left_behind =
        peers.word(owner, Acquire) != TxnState::Free && !planted!(ClaimWithoutRecovery);
    // If only half is settled, the word must stay: it tells how to settle the rest.
    if left_behind && !settle_all() {
        peers.unshare(owner);
        return false;
    }
    // In one step, so that nobody else can claim between recovery and claim. Refused while another
    // process shares the byte, perhaps stopped forever: try the next entry.
    if !peers.promote(owner) {
        peers.unshare(owner);
        return false;
    }
    // Release: a thread that sees IDLE sees every slot settled.
    peers.set_word(owner, TxnState::Idle, Release);
    true
}

/// Ends the slot forever and wakes its waiters. Its last value stays readable.
pub(crate) fn remove<M: Memory, P: Peers>(
    held: Held<'_, M, P>,
    form: Form,
) -> Result<(), Failure<P::Error>> {
    if held.is_of_parent() {
        return Err(Failure::Evicted);
    }
    let steps = if planted!(RemoveKeepsVersion) { 0 } else { form.recovery_step() };
    let gone = held.control.advanced(steps).with_owner(REMOVED);
    // Release: orders the removal after all that was done under the lock.
    if publish(held.memory, held.peers, held.control, gone) {
        Ok(())
    } else {
        Err(Failure::Evicted)
    }
}
