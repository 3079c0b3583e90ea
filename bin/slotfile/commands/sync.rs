//! `sync`: makes everything committed so far survive a power cut.

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::words::Words;

pub(super) fn run(context: &mut Context, words: Words) -> Result<Exit, Failure> {
    let mut words = words.read();
    let file = words.file()?;
    words.end()?;
    context.open(&file)?.sync()?;
    Ok(Exit::DONE)
}
