//! `create`: a new, empty store.

use std::io::ErrorKind;
use std::path::Path;

use slotfile::{Error, OpenOptions, Store};

use super::Context;
use crate::cli::Create;
use crate::exit::{Exit, Failure};

pub(super) fn run(context: &mut Context, args: Create) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    words.end()?;
    let mut options = context.options();
    match args.if_missing {
        true => options.create(true),
        false => options.create_new(true),
    };
    options.checkpoint(!args.no_checkpoint);
    if let Some(slots) = args.max_slots {
        options.max_slots(slots);
    }
    if let Some(bytes) = args.max_size {
        options.max_size(bytes);
    }
    if let Some(mode) = args.mode {
        options.mode(mode);
    }
    open_new(context, &options, &file)?;
    Ok(Exit::DONE)
}

/// Opens with options that create. What is missing then is the folder.
pub(super) fn open_new(
    context: &Context,
    options: &OpenOptions,
    file: &Path,
) -> Result<Store, Failure> {
    context.open_with(file, options, Exit::DAMAGED).map_err(|error| match error {
        Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
            let what = "its folder is not there; make that first, with `mkdir`";
            Failure::new(Exit::ABSENT, format!("{}: {what}", file.display()))
        }
        error => error.into(),
    })
}
