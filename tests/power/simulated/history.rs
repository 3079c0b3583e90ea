//! Random histories of operations and faults, and what must hold after them.

use super::disk::Stop;
use super::machine::{Ended, Machine, NAMES, State};
use crate::durability::recovery::Recovery;
use crate::error::Error;

/// Counts of what happened, to check that a run has tested something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) histories: u64,
    pub(crate) cuts: u64,
    pub(crate) acknowledged: u64,
    pub(crate) killed: u64,
    pub(crate) failed: u64,
    pub(crate) copies: u64,
    pub(crate) restores: u64,
    pub(crate) restores_interrupted: u64,
    /// Recoveries that returned a sync that was never acknowledged.
    pub(crate) in_flight_returned: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        let Counts { histories, cuts, acknowledged, killed, failed, .. } = other;
        self.histories += histories;
        self.cuts += cuts;
        self.acknowledged += acknowledged;
        self.killed += killed;
        self.failed += failed;
        self.copies += other.copies;
        self.restores += other.restores;
        self.restores_interrupted += other.restores_interrupted;
        self.in_flight_returned += other.in_flight_returned;
    }
}

pub(crate) struct History {
    pub(crate) machine: Machine,
    /// The states of which the last acknowledged sync has saved one.
    acknowledged: Vec<State>,
    /// The states that later syncs, which were not acknowledged, may have saved.
    in_flight: Vec<State>,
    pub(crate) counts: Counts,
}

type Checked = Result<(), String>;

/// Runs the history of this seed. An error says what went wrong.
pub(crate) fn run(seed: u64) -> (Counts, Checked) {
    // Every third one is on a disk on which only a flush of the whole file works.
    let mut history = History::new(Machine::new(seed, !seed.is_multiple_of(3)));
    history.counts.histories = 1;
    if seed.is_multiple_of(4) {
        history.machine.fill_first_tier();
    }
    let steps = history.machine.random.usize(10..30);
    let result = (0..steps).try_for_each(|_| history.advance());
    (history.counts, result)
}

/// Whether a call of the disk has failed, and nothing is damaged.
fn is_io(error: &Error) -> bool {
    matches!(error, Error::Io { .. } | Error::NoSpace { .. })
}

impl History {
    pub(crate) fn new(machine: Machine) -> History {
        let counts = Counts::default();
        History { machine, acknowledged: vec![State::new()], in_flight: Vec::new(), counts }
    }

    fn advance(&mut self) -> Checked {
        let machine = &mut self.machine;
        match machine.random.u8(0..40) {
            0..8 => machine.transaction(),
            8..13 => machine.update(),
            13..19 => {
                let name = NAMES[machine.random.usize(0..NAMES.len())];
                let number = machine.random.u64(0..3);
                // A definition is not interrupted here.
                machine.set(name, number);
            }
            19 => {
                let name = NAMES[machine.random.usize(0..NAMES.len())];
                machine.remove(name);
            }
            20..32 => return self.sync_as_planned(),
            32..34 => return self.reopen(),
            34..37 => return self.cut(),
            37 => return self.copy(),
            _ => machine.disk.evict(),
        }
        Ok(())
    }

    fn sync_as_planned(&mut self) -> Checked {
        {
            let mut state = self.machine.disk.state();
            let random = &mut self.machine.random;
            let at = random.u32(1..25);
            match random.u8(0..12) {
                0..3 => state.stop_in = Some((at, Stop::Kill)),
                3..5 => state.stop_in = Some((at, Stop::Cut)),
                5 => state.stop_in = Some((at, Stop::Error)),
                6..8 => state.fail_flush_in = Some(random.u32(1..3)),
                _ => {}
            }
        }
        match self.sync()? {
            None | Some(Stop::Error) => Ok(()),
            Some(Stop::Cut) => self.cut(),
            Some(Stop::Kill) => self.reopen(),
        }
    }

    /// Syncs, and notes which states may now return. Returns what has stopped the sync.
    pub(crate) fn sync(&mut self) -> Result<Option<Stop>, String> {
        let busy = self.machine.random.bool();
        let (result, states) = self.machine.sync(busy);
        self.machine.calm();
        match result {
            Ok(()) => {
                self.acknowledged = states;
                self.in_flight.clear();
                self.counts.acknowledged += 1;
                Ok(None)
            }
            Err(Ended::Stopped(stop)) => {
                self.in_flight.extend(states);
                self.counts.killed += u64::from(stop == Stop::Kill);
                Ok(Some(stop))
            }
            Err(Ended::Failed(error)) if is_io(&error) => {
                self.in_flight.extend(states);
                self.counts.failed += 1;
                Ok(Some(Stop::Error))
            }
            Err(Ended::Failed(error)) => Err(format!("a sync: {error}")),
        }
    }

    /// All processes end; the next one opens in the same boot.
    pub(crate) fn reopen(&mut self) -> Checked {
        let before = self.machine.expected();
        match self.machine.open() {
            Ok(Recovery::Resumed) => {}
            other => return Err(format!("reopening without a restart: {other:?}")),
        }
        if self.machine.read()? == before {
            Ok(())
        } else {
            Err("a kill has lost an update".into())
        }
    }

    fn cut(&mut self) -> Checked {
        self.machine.cut_power();
        self.counts.cuts += 1;
        self.recover(true)
    }

    /// Copies the file, without a sync. A power cut before the copy is opened loses the copy, but
    /// nothing that was promised.
    fn copy(&mut self) -> Checked {
        self.machine.copy();
        self.counts.copies += 1;
        self.recover(false)
    }

    /// Opens the store until that is not interrupted, and checks the content.
    pub(crate) fn recover(&mut self, may_cut: bool) -> Checked {
        for attempt in 0.. {
            let planned = attempt < 4 && self.plan_for_open(may_cut);
            let opened = self.machine.open();
            self.machine.calm();
            match opened {
                Ok(Recovery::Restored { .. }) => break,
                Ok(other) => return Err(format!("after a restart: {other:?}")),
                Err(Ended::Failed(error)) if !planned || !is_io(&error) => {
                    return Err(format!("refused: {error}"));
                }
                Err(ended) => {
                    self.counts.restores_interrupted += 1;
                    if let Ended::Stopped(Stop::Cut) = ended {
                        self.machine.cut_power();
                        self.counts.cuts += 1;
                    } else if may_cut && self.machine.random.u8(0..4) == 0 {
                        // Not of a copied file: what has not reached its disk is lost.
                        self.machine.disk.evict();
                    }
                }
            }
        }
        self.counts.restores += 1;
        self.check()
    }

    /// The content must be that of a sync, which counts as the acknowledged one from here on.
    pub(crate) fn check(&mut self) -> Checked {
        let state = self.machine.read()?;
        if !self.acknowledged.contains(&state) {
            if !self.in_flight.contains(&state) {
                let (acked, in_flight) = (&self.acknowledged, &self.in_flight);
                return Err(format!("got {state:?} of {acked:?}, in flight {in_flight:?}"));
            }
            self.counts.in_flight_returned += 1;
        }
        self.machine.check()?;
        self.acknowledged = vec![state];
        self.in_flight.clear();
        Ok(())
    }

    fn plan_for_open(&mut self, may_cut: bool) -> bool {
        let mut state = self.machine.disk.state();
        let random = &mut self.machine.random;
        let at = random.u32(1..40);
        match random.u8(0..5) {
            0 => state.stop_in = Some((at, Stop::Kill)),
            1 if may_cut => state.stop_in = Some((at, Stop::Cut)),
            2 => state.stop_in = Some((at, Stop::Error)),
            3 => state.fail_flush_in = Some(random.u32(1..3)),
            _ => return false,
        }
        true
    }
}
