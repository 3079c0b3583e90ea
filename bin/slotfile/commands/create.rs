//! `create`: a new, empty store.

use crate::cli::Create;
use crate::context::Context;
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
    context.open_new(&options, &file)?;
    Ok(Exit::DONE)
}
