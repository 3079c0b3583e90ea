//! Histories: what people and the world do to a store, by chance, and what must hold.

use crate::machine::{Machine, State, Stop, header, state_of};
use crate::mutant::Mutant;
use crate::opening::Opened;

/// What happened, to see that a run was worth something.
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
    /// The last sync that was acknowledged, and those after it that were not.
    acknowledged: State,
    in_flight: Vec<State>,
    pub(crate) counts: Counts,
}

/// Runs the history of this seed. An error says what was wrong after a recovery.
pub(crate) fn run(seed: u64, mutant: Option<Mutant>) -> (Counts, Result<(), String>) {
    let mut history = History::new(Machine::new(seed, mutant));
    history.counts.histories = 1;
    let steps = history.machine.random.usize(10..40);
    let result = (0..steps).try_for_each(|_| history.advance());
    (history.counts, result)
}

impl History {
    pub(crate) fn new(machine: Machine) -> History {
        let (acknowledged, in_flight, counts) = Default::default();
        History { machine, acknowledged, in_flight, counts }
    }

    fn advance(&mut self) -> Result<(), String> {
        let machine = &mut self.machine;
        match machine.random.u8(0..40) {
            0..8 => machine.transaction(),
            8..13 => machine.update(),
            13..18 => {
                let (name, value) = (machine.random.u64(0..6), machine.random.u64(0..3));
                machine.define(name, value);
            }
            18..20 => {
                if !machine.slots.is_empty() {
                    let number = machine.random.usize(0..machine.slots.len());
                    machine.remove(number);
                }
            }
            20..32 => {
                self.plan_for_sync();
                if self.sync() == Err(Stop::Cut) {
                    return self.cut();
                }
            }
            32..34 => return self.reopen(),
            34..37 => return self.cut(),
            37 => return self.copy(),
            _ => machine.evict(),
        }
        Ok(())
    }

    fn plan_for_sync(&mut self) {
        let random = &mut self.machine.random;
        let at = random.u32(1..30);
        match random.u8(0..12) {
            0..3 => self.machine.stop_in = Some((at, Stop::Kill)),
            3..5 => self.machine.stop_in = Some((at, Stop::Cut)),
            5 => self.machine.stop_in = Some((at, Stop::Error)),
            6..8 => self.machine.fail_flush_in = Some(random.u32(1..3)),
            _ => {}
        }
    }

    /// Syncs as planned, and notes what that means.
    pub(crate) fn sync(&mut self) -> Result<(), Stop> {
        let machine = &mut self.machine;
        if machine.is(Mutant::MarkEarly) {
            machine.write_mark(machine.header(header::ACKED) + 1);
        }
        let result = machine.sync();
        (machine.stop_in, machine.fail_flush_in) = (None, None);
        match result {
            Ok(state) => {
                self.acknowledge(state);
                self.counts.acknowledged += 1;
                // The process may be killed before.
                if self.machine.random.bool() {
                    self.machine.write_mark(self.machine.header(header::ACKED));
                }
                Ok(())
            }
            Err(failed) => {
                match failed.stop {
                    Stop::Kill => self.counts.killed += 1,
                    Stop::Error => self.counts.failed += 1,
                    Stop::Cut => {}
                }
                if let Some(state) = failed.in_flight {
                    if failed.stop == Stop::Error && self.machine.is(Mutant::AcknowledgeFailed) {
                        self.acknowledge(state);
                    } else {
                        self.in_flight.push(state);
                    }
                }
                Err(failed.stop)
            }
        }
    }

    fn acknowledge(&mut self, state: State) {
        self.acknowledged = state;
        self.in_flight.clear();
    }

    /// All processes are gone; the next one opens in the same boot.
    fn reopen(&mut self) -> Result<(), String> {
        match self.machine.open() {
            Ok(Opened::Resumed) => {}
            other => return Err(format!("reopening without a restart: {other:?}")),
        }
        let live = state_of(&self.machine.read_live()?);
        if live == self.machine.state() { Ok(()) } else { Err("a kill has lost an update".into()) }
    }

    fn cut(&mut self) -> Result<(), String> {
        self.machine.cut_power();
        self.counts.cuts += 1;
        self.recover(true)
    }

    /// The file is copied, without a sync. A cut before the copy is open loses it, and
    /// nothing that was promised.
    fn copy(&mut self) -> Result<(), String> {
        self.machine.file += 1;
        self.machine.disk.copy();
        self.machine.late.clear();
        self.counts.copies += 1;
        self.recover(false)
    }

    /// Opens until it works, however often that is interrupted, and checks what is there.
    pub(crate) fn recover(&mut self, may_cut: bool) -> Result<(), String> {
        let mut opened = None;
        for attempt in 0.. {
            if attempt < 4 {
                self.plan_for_open(may_cut);
            }
            if self.machine.is(Mutant::JoinsAReader) && self.machine.random.u8(0..8) == 0 {
                let (boot, file) = (self.machine.boot, self.machine.file);
                self.machine.set_header(&[(header::BOOT, boot), (header::FILE, file)]);
            }
            let result = self.machine.open();
            (self.machine.stop_in, self.machine.fail_flush_in) = (None, None);
            match result {
                Ok(result) => {
                    opened = Some(result);
                    break;
                }
                Err(stop) => {
                    self.counts.restores_interrupted += 1;
                    if stop == Stop::Cut {
                        self.machine.cut_power();
                        self.counts.cuts += 1;
                    } else if may_cut && self.machine.random.u8(0..4) == 0 {
                        // Not of a copied file: what its disk did not take is lost then.
                        self.machine.evict();
                    }
                }
            }
        }
        if let Some(Opened::Refused(why)) = opened {
            return Err(format!("refused: {why}"));
        }
        self.counts.restores += 1;
        self.check()
    }

    /// What is there must be a sync, and from here on it is the one that was acknowledged.
    fn check(&mut self) -> Result<(), String> {
        let slots = self.machine.read_live()?;
        let state = state_of(&slots);
        if state != self.acknowledged {
            if !self.in_flight.contains(&state) {
                let (acked, in_flight) = (&self.acknowledged, &self.in_flight);
                return Err(format!("got {state:?} of {acked:?}, in flight {in_flight:?}"));
            }
            self.counts.in_flight_returned += 1;
        }
        self.machine.slots = slots;
        self.acknowledge(state);
        Ok(())
    }

    fn plan_for_open(&mut self, may_cut: bool) {
        let random = &mut self.machine.random;
        let at = random.u32(1..40);
        match random.u8(0..5) {
            0 => self.machine.stop_in = Some((at, Stop::Kill)),
            1 if may_cut => self.machine.stop_in = Some((at, Stop::Cut)),
            2 => self.machine.stop_in = Some((at, Stop::Error)),
            3 => self.machine.fail_flush_in = Some(1),
            _ => {}
        }
    }

    /// A sync that is cut in its flush: `keeps` says which pages reach the disk.
    pub(crate) fn cut_in_the_flush(&mut self, keeps: &dyn Fn(usize) -> bool) -> Result<(), String> {
        self.machine.cut_in_flush = true;
        let result = self.sync();
        self.machine.cut_in_flush = false;
        if result != Err(Stop::Cut) {
            return Err(format!("the sync was not cut: {result:?}"));
        }
        self.machine.disk.cut_with(|page, versions| keeps(page).then_some(versions - 1));
        self.machine.restarted();
        Ok(())
    }

    /// Opens, and checks what is there.
    pub(crate) fn recover_undisturbed(&mut self) -> Result<(), String> {
        let opened = self.machine.open();
        if !matches!(opened, Ok(Opened::Restored { .. })) {
            return Err(format!("{opened:?}"));
        }
        self.check()
    }
}
