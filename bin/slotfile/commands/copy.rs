//! `copy`: a consistent copy of a live store.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::words::Words;

pub(super) fn run(context: &mut Context, words: Words) -> Result<Exit, Failure> {
    let mut words = words.read();
    let file = words.file()?;
    let dest = words.path("DEST")?;
    words.end()?;
    let store = context.open_to_read(&file)?;
    let inode = |path: &Path| path.metadata().map(|there| (there.dev(), there.ino())).ok();
    if inode(&dest).is_some_and(|there| Some(there) == inode(&file)) {
        let what = format!("{}: FILE and DEST are the same file", dest.display());
        return Err(Failure::new(Exit::NO, what));
    }
    let progress = context.progress("copied", &store)?;
    store.copy_with(&dest, |bytes| progress.set(bytes))?;
    Ok(Exit::DONE)
}
