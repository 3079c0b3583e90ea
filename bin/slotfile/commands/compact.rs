//! `compact`: gives back the space of removed slots.

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::words::Words;

pub(super) fn run(context: &mut Context, words: Words) -> Result<Exit, Failure> {
    let mut words = words.read();
    let file = words.file()?;
    words.end()?;
    let store = context.open(&file)?;
    context.opened.take(); // compacting needs the only handle
    let progress = context.progress("copied", &store)?;
    store.compact_with(|bytes| progress.set(bytes))?;
    Ok(Exit::DONE)
}
