//! `create`: a new, empty store.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use slotfile::{Error, Info, Recovery};

use crate::cli::{Create, NewStore};
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
    options.checkpoint(!args.new.no_checkpoint);
    if let Some(slots) = args.new.max_slots {
        options.max_slots(slots);
    }
    if let Some(bytes) = args.new.max_size {
        options.max_size(bytes);
    }
    if let Some(mode) = args.new.mode {
        options.mode(mode);
    }
    let store = context.open_with(&file, &options, None).inspect_err(|error| {
        if matches!(error, Error::Exists { .. }) && file.is_file() {
            *context.hint.borrow_mut() = Some("`create --if-missing` accepts a store".into());
        }
    })?;
    let ignored = match store.recovery() {
        Recovery::Created => Vec::new(),
        _ if args.new == NewStore::default() => Vec::new(),
        _ => ignored(&args.new, &store.info()?, &file),
    };
    if !ignored.is_empty() {
        context.note(&format!(
            "{}: the store already exists, and keeps {}",
            file.display(),
            ignored.join(", ")
        ));
    }
    Ok(Exit::DONE)
}

/// What an existing store has in place of what was asked for.
fn ignored(asked: &NewStore, info: &Info, file: &Path) -> Vec<String> {
    let mut ignored = Vec::new();
    if asked.max_slots.is_some_and(|asked| asked != info.max_slots) {
        ignored.push(format!("room for {} slots", info.max_slots));
    }
    if asked.max_size.is_some_and(|asked| asked != info.max_size) {
        ignored.push(format!("room for {} bytes", info.max_size));
    }
    let has = file.metadata().map(|metadata| metadata.permissions().mode() & 0o777).ok();
    if let (Some(asked), Some(has)) = (asked.mode, has)
        && asked != has
    {
        ignored.push(format!("the mode {has:03o}"));
    }
    if asked.no_checkpoint && info.unsynced.is_some() {
        ignored.push("checkpoints".into());
    }
    ignored
}
