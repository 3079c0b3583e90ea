//! `rm`: removes slots.

use std::collections::HashSet;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::words::Words;

pub(super) fn run(context: &mut Context, words: Words) -> Result<Exit, Failure> {
    let mut words = words.read();
    let file = words.file()?;
    let first = words.word("NAME")?;
    let mut names = words.rest()?;
    names.insert(0, first);
    // A name given twice is removed once.
    let mut named = HashSet::new();
    names.retain(|name| named.insert(name.clone()));

    let store = context.open(&file)?;
    // A missing name is reported before anything is removed.
    for name in &names {
        store.slot(name)?;
    }
    for name in &names {
        store.remove(name)?;
    }
    Ok(Exit::DONE)
}
