//! `wait`: until a slot's value compares like this with a word.

use std::time::{Duration, Instant};

use crate::cli::Wait;
use crate::compare::{Comparison, operand};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// How often to look whether the file is still what its path leads to.
const LOOK_FOR_FILE: Duration = Duration::from_secs(1);

pub(super) fn run(context: &mut Context, args: Wait) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    let name = words.word("NAME")?;
    let op = words.word("OP")?;
    let with = words.word("VALUE")?;
    words.end()?;
    let of_slot = |exit, what| Failure::of_slot(exit, &file, &name, what);
    let op = Comparison::parse(&op).map_err(|what| of_slot(Exit::USAGE, what))?;

    let store = context.open_to_wait(&file)?;
    let slot = store.slot(&name)?;
    let with = operand(&with, slot.slot_type()).map_err(|(exit, what)| of_slot(exit, what))?;
    let begun = Instant::now();
    loop {
        let left = args.timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        let part = left.map_or(LOOK_FOR_FILE, |left| left.min(LOOK_FOR_FILE));
        if slot.wait_until(|content| op.holds(content, &with), Some(part))?.is_some() {
            return Ok(Exit::DONE);
        }
        if store.is_detached() {
            let what = "its file was deleted, moved or replaced: its changes go elsewhere".into();
            return Err(of_slot(Exit::ABSENT, what));
        }
        if left == Some(part) {
            return Ok(Exit::NO);
        }
    }
}
