//! `copy`: a consistent copy of a live store.

use super::Context;
use crate::exit::{Exit, Failure};
use crate::words::Words;

pub(super) fn run(context: &mut Context, words: Words) -> Result<Exit, Failure> {
    let mut words = words.read();
    let file = words.file()?;
    let dest = words.word("DEST")?;
    words.end()?;
    let store = context.open_to_read(&file)?;
    let progress = context.progress("copied");
    store.copy_with(dest, |bytes| progress.set_position(bytes))?;
    progress.finish_and_clear();
    Ok(Exit::DONE)
}
