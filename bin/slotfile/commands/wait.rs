//! `wait`: waits until a slot's value satisfies a comparison.

use crate::cli::Wait;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::values::compare::{Comparison, operand};

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
    match slot.wait_until(|content| op.holds(content, &with), args.timeout)? {
        Some(_) => Ok(Exit::DONE),
        None => Ok(Exit::NO),
    }
}
