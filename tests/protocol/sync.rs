//! A sync, as the exhaustive checker sees it: what it has of each slot, and what is in the
//! checkpoint. The copies themselves are left out, but for the words of an array that has segments
//! of its own.

use std::sync::atomic::Ordering;

use super::model::Memory;
use super::replay::{
    Access::{Blocked, Red, Returns},
    Kind, Run,
};
use super::world::{Instant, SLOTS, Slot, Status, WIDTH, World};
use crate::protocol::{
    Areas, Marks, Memory as _, Segments, Stand, State, clean, finish_cleaning, look_at_marked,
    read, stand,
};

/// Where the slots are copied to, and how they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    segments: [Segments; 2],
    /// Whether they have just been defined, so that nothing is in the checkpoint.
    are_new: bool,
}

const fn shared(first: usize) -> Segments {
    Segments { first, count: 1, each: None }
}

impl Layout {
    /// Both in one segment, clean.
    pub(super) const ONE: Layout = Layout { segments: [shared(0), shared(0)], are_new: false };
    pub(super) const TWO: Layout = Layout { segments: [shared(0), shared(1)], are_new: false };
    pub(super) const NEW: Layout = Layout { are_new: true, ..Layout::ONE };
    /// The array has two segments, one for each word of its content.
    pub(super) const LARGE: Layout = Layout::large(1);
    /// The same, with their marks in two words.
    pub(super) const LARGE_IN_TWO_WORDS: Layout = Layout::large(63);
    /// The same, and there are more segments than marks: the second one shares its mark with X.
    pub(super) const LARGE_SHARING_A_MARK: Layout = Layout::large(64 * MARK_WORDS - 1);

    const fn large(first: usize) -> Layout {
        let y = Segments { first, count: WIDTH, each: Some(3) };
        Layout { segments: [shared(0), y], are_new: false }
    }

    pub(super) fn of(&self, slot: Slot) -> Segments {
        self.segments[slot as usize]
    }

    /// The marks of a slot's segments.
    fn marks_of(&self, slot: Slot) -> impl Iterator<Item = usize> + use<> {
        self.of(slot).all().map(mark_of)
    }

    fn has(&self, slot: Slot, mark: usize) -> bool {
        self.marks_of(slot).any(|one| one == mark)
    }

    /// The segment of this word of the array, if it has one to itself.
    fn of_word(&self, word: usize) -> Option<usize> {
        let segments = self.of(Slot::Y);
        segments.each.map(|_| segments.first + word)
    }
}

pub(super) const MARK_WORDS: usize = 2;

/// The mark of a segment.
fn mark_of(segment: usize) -> usize {
    segment % (64 * MARK_WORDS)
}

/// What a checkpoint has, or what a sync is about to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Contents {
    pub(super) versions: [u64; 2],
    pub(super) removed: [bool; 2],
    /// The array's words, if each has a segment of its own, and the version that each was read at.
    pub(super) y: [u64; WIDTH],
    pub(super) y_of: [u64; WIDTH],
}

/// What a sync has found so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct View {
    has_begun: bool,
    pub(super) contents: Contents,
    pub(super) looked: [u64; MARK_WORDS],
}

/// Marks, checkpoint and sync lock of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sync {
    pub(super) layout: Layout,
    pub(super) marks: [u64; MARK_WORDS],
    pub(super) cleaning: u64,
    /// The thread that has the sync lock.
    pub(super) syncer: Option<usize>,
    pub(super) checkpoint: Contents,
}

/// Bugs in what surrounds the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncBug {
    /// A slot is defined before its segments are marked.
    DefinedUnmarked,
    /// Slots are made clean before the acknowledgement.
    CleanBeforeTheAcknowledgement,
    /// Who takes the sync lock of a dead process forgets what that was clearing.
    CleaningForgottenByTheNext,
}

impl Sync {
    pub(super) fn new(layout: Layout, version: u64, bug: Option<SyncBug>) -> Sync {
        let mut sync = Sync {
            layout,
            marks: [0; MARK_WORDS],
            cleaning: 0,
            syncer: None,
            checkpoint: Contents {
                versions: [version; 2],
                y_of: [version; WIDTH],
                ..Contents::default()
            },
        };
        if layout.are_new {
            sync.checkpoint.versions = [NOWHERE; 2];
            sync.checkpoint.y_of = [NOWHERE; WIDTH];
            if bug != Some(SyncBug::DefinedUnmarked) {
                for mark in SLOTS.into_iter().flat_map(|slot| layout.marks_of(slot)) {
                    sync.marks[mark / 64] |= 1 << (mark % 64);
                }
            }
        }
        sync
    }

    pub(super) fn begins_clean(&self) -> bool {
        !self.layout.are_new
    }

    /// Whether a sync that begins now looks at the segments with this mark.
    fn is_looked_at(&self, mark: usize) -> bool {
        let cleared = self.cleaning == mark as u64 / 64 + 1;
        cleared || self.marks[mark / 64] >> (mark % 64) & 1 == 1
    }

    pub(super) fn fingerprint(&self) -> [u64; 12] {
        let Contents { versions, removed, y, y_of } = self.checkpoint;
        let [x_removed, y_removed] = removed.map(u64::from);
        let syncer = self.syncer.map_or(0, |thread| thread as u64 + 1);
        [
            self.marks[0],
            self.marks[1],
            self.cleaning,
            syncer,
            versions[0],
            versions[1],
            x_removed | y_removed << 1,
            y[0],
            y[1],
            y_of[0],
            y_of[1],
            0,
        ]
    }
}

impl View {
    pub(super) fn fingerprint(&self) -> [u64; 10] {
        let Contents { versions, removed, y, y_of } = self.contents;
        let [x_removed, y_removed] = removed.map(u64::from);
        [
            self.looked[0],
            self.looked[1],
            versions[0],
            versions[1],
            x_removed | y_removed << 1 | u64::from(self.has_begun) << 2,
            y[0],
            y[1],
            y_of[0],
            y_of[1],
            0,
        ]
    }
}

/// In place of a version: the slot is not in the checkpoint.
const NOWHERE: u64 = u64::MAX;

impl World {
    /// A sync that begins now, by somebody new, finds all that differs from the checkpoint.
    pub(super) fn check_marks(&self) -> Result<(), String> {
        let Some(sync) = &self.sync else { return Ok(()) };
        let now = self.now();
        for slot in SLOTS {
            let control = self.control(slot);
            let version = now.versions[slot as usize];
            let saved = sync.checkpoint.versions[slot as usize];
            let counts = control.state() == State::Dirty || control.in_transaction();
            let mut marks = sync.layout.marks_of(slot);
            if version != saved && !(counts && marks.any(|one| sync.is_looked_at(one))) {
                return Err(format!(
                    "no sync will find that {slot:?} ({control:?}) has version {version}, \
                     not {saved}"
                ));
            }
        }
        for word in 0..WIDTH {
            if let Some(segment) = sync.layout.of_word(word)
                && now.y[word] != sync.checkpoint.y[word]
                && !sync.is_looked_at(mark_of(segment))
            {
                return Err(format!("no sync will find the change in word {word} of Y"));
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> &mut Sync {
        self.sync.as_mut().expect("the scenario has marks")
    }
}

impl Run<'_> {
    fn bug(&self) -> Option<SyncBug> {
        self.scenario.sync_bug
    }

    fn layout(&self) -> Layout {
        self.scenario.marks.expect("the scenario has marks")
    }

    /// One look of a sync. `Some` if another one must follow; `None` if it has found all, and what
    /// it has found is in the checkpoint, unless the flush `fails`.
    pub(super) fn cut<const LOSSES: u32>(
        &self,
        [x, y]: [&Memory<'_, LOSSES>; 2],
        areas: &Areas,
        fails: bool,
    ) -> Option<View> {
        let mut view = self.world.borrow().threads[self.thread].view;
        if !view.has_begun {
            view = self.begin();
            finish_cleaning(self);
        }
        let layout = self.layout();
        let saved = self.world.borrow().sync.expect("it has marks").checkpoint;
        let mut looked = view.looked;
        let is_new = look_at_marked(self, &mut looked, |mark| {
            let mut is_new = false;
            if layout.has(Slot::X, mark) {
                is_new |= view.contents.look_at(Slot::X, stand(x, self), &saved);
            }
            if layout.has(Slot::Y, mark) {
                let seen = stand(y, self);
                is_new |= view.contents.look_at(Slot::Y, seen, &saved);
                let is_of = |word: &usize| layout.of_word(*word).map(mark_of) == Some(mark);
                if let Some(word) = (0..WIDTH).find(is_of) {
                    let (content, version) = match seen {
                        None => (saved.y[word], saved.y_of[word]),
                        Some(seen) if seen.version == view.contents.y_of[word] => {
                            (view.contents.y[word], seen.version)
                        }
                        Some(_) => {
                            let mut content = 0;
                            let version = read(y, self, areas, |y, area| {
                                let mut bytes = [0; 8];
                                y.read(area + word, 0, &mut bytes);
                                content = u64::from_le_bytes(bytes);
                            });
                            (content, version)
                        }
                    };
                    is_new |= version != view.contents.y_of[word];
                    (view.contents.y[word], view.contents.y_of[word]) = (content, version);
                }
            }
            is_new
        });
        view.looked = looked;
        if is_new {
            return Some(view);
        }
        if self.bug() == Some(SyncBug::CleanBeforeTheAcknowledgement) {
            self.clean_all([x, y], &view);
        }
        if fails {
            self.end_sync();
        } else {
            self.acknowledge(&view);
        }
        None
    }

    /// Takes the sync lock.
    fn begin(&self) -> View {
        let me = self.thread;
        self.access(None, SYNC, Kind::Other, |world| {
            let holder = world.sync().syncer.map(|thread| world.threads[thread].status);
            if matches!(holder, Some(Status::Running | Status::Done)) {
                return Blocked;
            }
            let forgets = self.bug() == Some(SyncBug::CleaningForgottenByTheNext);
            let sync = world.sync();
            if sync.syncer.is_some() && forgets {
                sync.cleaning = 0;
            }
            sync.syncer = Some(me);
            Returns(0)
        });
        let contents = self.world.borrow().sync.expect("it has marks").checkpoint;
        View { has_begun: true, contents, looked: [0; MARK_WORDS] }
    }

    /// The flush has succeeded: what the sync has found is in the checkpoint. It must have been
    /// there at one instant since the sync began.
    fn acknowledge(&self, view: &View) {
        let me = self.thread;
        self.access(None, SYNC, Kind::Other, |world| {
            let Contents { versions, y, .. } = view.contents;
            let is_large = self.layout().of_word(0).is_some();
            let was = |i: &Instant| i.versions == versions && (!is_large || i.y == y);
            if !world.seen_by(me).iter().any(was) {
                let seen = world.seen_by(me);
                return Red(format!("never was {:?}, only {seen:?}", view.contents));
            }
            world.threads[me].view = *view;
            world.sync().checkpoint = view.contents;
            Returns(0)
        });
    }

    /// Makes clean what the last [`Run::cut`] has copied, and releases the sync lock.
    pub(super) fn clean<const LOSSES: u32>(&self, slots: [&Memory<'_, LOSSES>; 2]) {
        let view = self.world.borrow().threads[self.thread].view;
        if self.bug() != Some(SyncBug::CleanBeforeTheAcknowledgement) {
            self.clean_all(slots, &view);
        }
        self.end_sync();
    }

    fn clean_all<const LOSSES: u32>(&self, slots: [&Memory<'_, LOSSES>; 2], view: &View) {
        let Contents { versions, removed, .. } = view.contents;
        for (word, bits) in view.looked.into_iter().enumerate().filter(|(_, bits)| *bits != 0) {
            let slots = SLOTS.into_iter().zip(slots).filter(|(slot, _)| {
                let mut marks = self.layout().marks_of(*slot);
                marks.any(|one| one / 64 == word && bits >> (one % 64) & 1 == 1)
            });
            let slots = slots.map(|(slot, memory)| {
                let at = slot as usize;
                (memory, Stand { version: versions[at], is_removed: removed[at] })
            });
            clean(self, word, bits, slots, || 0);
        }
    }

    fn end_sync(&self) {
        let me = self.thread;
        self.access(None, SYNC, Kind::Other, |world| {
            world.threads[me].view = View::default();
            world.sync().syncer = None;
            Returns(0)
        });
    }
}

/// In place of a word's number.
const SYNC: usize = 200;

impl Contents {
    /// Notes how a slot stands. Returns whether that is new.
    fn look_at(&mut self, slot: Slot, stand: Option<Stand>, saved: &Contents) -> bool {
        let at = slot as usize;
        let as_saved = Stand { version: saved.versions[at], is_removed: saved.removed[at] };
        let Stand { version, is_removed } = stand.unwrap_or(as_saved);
        let is_new = (version, is_removed) != (self.versions[at], self.removed[at]);
        (self.versions[at], self.removed[at]) = (version, is_removed);
        is_new
    }
}

impl Marks for Run<'_> {
    fn words(&self) -> usize {
        MARK_WORDS
    }

    fn load(&self, word: usize, _: Ordering) -> u64 {
        self.access(None, MARKS + word % MARK_WORDS, Kind::Other, |world| {
            Returns(world.sync().marks[word % MARK_WORDS])
        })
    }

    fn set(&self, word: usize, bits: u64, _: Ordering) {
        self.access(None, MARKS + word % MARK_WORDS, Kind::Other, |world| {
            world.sync().marks[word % MARK_WORDS] |= bits;
            Returns(0)
        });
    }

    fn clear(&self, word: usize, bits: u64, _: Ordering) {
        self.access(None, MARKS + word % MARK_WORDS, Kind::Other, |world| {
            world.sync().marks[word % MARK_WORDS] &= !bits;
            Returns(0)
        });
    }

    fn cleaning(&self, _: Ordering) -> u64 {
        self.access(None, CLEANING, Kind::Other, |world| Returns(world.sync().cleaning))
    }

    fn set_cleaning(&self, cleaning: u64, _: Ordering) {
        self.access(None, CLEANING, Kind::Other, |world| {
            world.sync().cleaning = cleaning;
            Returns(0)
        });
    }

    /// All accesses are in one order, so there is nothing to do.
    fn fence(&self, _: Ordering) {}
}

/// In place of words' numbers.
const MARKS: usize = 210;
const CLEANING: usize = 220;
