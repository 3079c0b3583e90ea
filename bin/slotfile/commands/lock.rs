//! `lock`: runs a command while holding a slot's lock.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use slotfile::{Define, Error, ScalarType, Slot, SlotType, Store};

use crate::cli::Lock;
use crate::context::Context;
use crate::exit::{self, Exit, Failure};

pub(super) fn run(context: &mut Context, args: Lock) -> Result<Exit, Failure> {
    hold(context, args).map_err(|failure| match failure.exit.is_of_lock() {
        true => failure,
        false => Failure { exit: Exit::LOCK_FAILED, ..failure },
    })
}

fn hold(context: &mut Context, args: Lock) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    let name = words.word("NAME")?;
    let mut command = words.raw_rest();
    match command.first().map(|word| word.as_encoded_bytes()) {
        Some(b"--") => _ = command.remove(0),
        // `slotfile lock FILE NAME --timeout 5 -- COMMAND`.
        Some([b'-', ..]) => {
            let what = format!("{:?} is not a COMMAND: options come before FILE", command[0]);
            return Err(Failure::of_words(what));
        }
        _ => {}
    }
    if command.is_empty() {
        return Err(Failure::of_words("COMMAND is missing"));
    }

    let mut options = context.options();
    if args.timeout.is_some() {
        options.lock_timeout(args.timeout);
    }
    let store = context.open_with(&file, &options, Some(Exit::LOCK_FAILED)).map_err(failed)?;
    let slot = slot_or_new(&store, &name)?;
    let guard = slot.lock().map_err(failed)?;
    // From here on the command keeps the lock, even if this process is killed.
    let inherited = guard.inheritable()?;
    let status = run_command(&command, &file, &name);
    drop(inherited);
    drop(guard);
    status.map(exit_of)
}

/// A lock timeout has an exit code of its own here.
fn failed(error: Error) -> Failure {
    match error {
        Error::LockTimeout { .. } => Failure { exit: Exit::LOCK_TIMEOUT, ..error.into() },
        error => error.into(),
    }
}

fn slot_or_new(store: &Store, name: &str) -> Result<Slot, Failure> {
    match store.slot(name) {
        Err(Error::NotFound { slot: Some(_), .. }) => {}
        found => return found.map_err(failed),
    }
    match store.define(name, &SlotType::Value(ScalarType::Bool), Define::new()) {
        // Another process has just defined it with another type, which can be locked too.
        Err(Error::Type { .. }) => store.slot(name).map_err(failed),
        defined => defined.map_err(failed),
    }
}

fn run_command(words: &[OsString], file: &Path, name: &str) -> Result<ExitStatus, Failure> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(exit::LOCKED, exit::locked(file, name));
    command.status().map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NO_COMMAND,
            _ => Exit::NOT_EXECUTABLE,
        };
        let what = format!("{}: cannot run {:?}: {error}", file.display(), words[0]);
        Failure::new(exit, what)
    })
}

/// The command's own code, or 128 + the signal that killed it, as in a shell.
fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.map_or(Exit::LOCK_FAILED, Exit)
}
