//! The verbs, one a file.

mod add;
mod cas;
mod check;
mod compact;
mod copy;
mod create;
mod define;
pub(crate) mod demo;
mod get;
mod info;
mod lock;
mod ls;
mod rm;
mod set;
mod sync;
mod txn;
mod wait;
mod watch;

use std::io::Write;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use slotfile::{Error, OpenOptions, Recovery, Store};

use crate::cli::{Cli, Everywhere, Verb};
use crate::exit::{Exit, Failure};
use crate::input::Refused;
use crate::output::{Output, complain};

/// What every verb has at hand.
pub(crate) struct Context {
    pub(crate) out: Output,
    everywhere: Everywhere,
}

impl Context {
    /// How the options say that a store is to be opened.
    fn options(&self) -> OpenOptions {
        let Everywhere { no_sync, lock_timeout, read_only, any_file_system, .. } = self.everywhere;
        let mut options = OpenOptions::new();
        options.read_only(read_only).any_file_system(any_file_system);
        if no_sync {
            options.sync_every(None);
        }
        if lock_timeout.is_some() {
            options.lock_timeout(lock_timeout);
        }
        options
    }

    fn open(&self, file: &Path) -> Result<Store, Failure> {
        Ok(self.open_with(file, &self.options(), Exit::DAMAGED)?)
    }

    /// For the verbs that only look: they need no more than permission to read.
    fn open_to_read(&self, file: &Path) -> Result<Store, Failure> {
        Ok(self.open_with(file, self.options().read_only(true), Exit::DAMAGED)?)
    }

    /// For the verbs that wait: whoever may write the file is woken by a change, others have
    /// to look for it again and again.
    fn open_to_wait(&self, file: &Path) -> Result<Store, Failure> {
        match self.open_with(file, &self.options(), Exit::DAMAGED) {
            Err(Error::PermissionDenied { .. } | Error::Io { .. }) => self.open_to_read(file),
            opened => Ok(opened?),
        }
    }

    /// Says what opening has found, if it is not what people expect. Should the file be
    /// truncated while it is open, the run ends with this code.
    fn open_with(
        &self,
        file: &Path,
        options: &OpenOptions,
        truncated: Exit,
    ) -> Result<Store, Error> {
        let shown = file.display();
        let what = "the file was truncated while it was open; restore it from a copy";
        slotfile::exit_on_truncation(format!("slotfile: {shown}: {what}\n"), truncated.0.into())?;
        let store = options.open(file)?;
        let dropped = |newer_dropped: bool| match newer_dropped {
            true => "; a newer one was not completed, or its record cannot be read",
            false => "",
        };
        match store.recovery() {
            Recovery::Restored { epoch, newer_dropped } => self.note(&format!(
                "{shown}: the machine was restarted, or the file copied: restored to sync \
                 {epoch}{}",
                dropped(newer_dropped)
            )),
            Recovery::Frozen { epoch, newer_dropped } => self.note(&format!(
                "{shown}: the machine was restarted, and the file cannot be written: this is sync \
                 {epoch}, read into memory{}",
                dropped(newer_dropped)
            )),
            Recovery::Emptied => self.note(&format!(
                "{shown}: the machine was restarted, and the store keeps no checkpoints: it is \
                 empty"
            )),
            _ => {}
        }
        Ok(store)
    }

    /// Shows how many bytes of long work are done, where somebody is looking.
    fn progress(&self, done: &str) -> ProgressBar {
        if self.everywhere.quiet {
            return ProgressBar::hidden();
        }
        // Drawn to standard error, and only if that is a terminal.
        let style = ProgressStyle::with_template("{spinner} {bytes} {msg} ({bytes_per_sec})");
        ProgressBar::new_spinner()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
            .with_message(done.to_owned())
    }

    /// A hint that is no result, for people.
    fn note(&self, message: &str) {
        if !self.everywhere.quiet {
            complain(message);
        }
    }
}

/// Does what the command line says; complains if it could not.
pub(crate) fn run(cli: Cli) -> Exit {
    let mut context =
        Context { out: Output::new(cli.everywhere.color), everywhere: cli.everywhere };
    let done = dispatch(&mut context, cli.verb);
    // What was printed before something failed is worth having too.
    let flushed = context.out.flush().map_err(Failure::from);
    match done.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        Err(failure) => {
            if !failure.message.is_empty() {
                context.note(&failure.message);
            }
            failure.exit
        }
    }
}

fn dispatch(context: &mut Context, verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Create(args) => create::run(context, args),
        Verb::Define(args) => define::run(context, args),
        Verb::Ls(args) => ls::run(context, args),
        Verb::Get(args) => get::run(context, args),
        Verb::Set(args) => set::run(context, args),
        Verb::Add(args) => add::run(context, args),
        Verb::Cas(words) => cas::run(context, words),
        Verb::Rm(words) => rm::run(context, words),
        Verb::Watch(args) => watch::run(context, args),
        Verb::Wait(args) => wait::run(context, args),
        Verb::Lock(args) => lock::run(context, args),
        Verb::Txn(words) => txn::run(context, words),
        Verb::Info(args) => info::run(context, args),
        Verb::Sync(words) => sync::run(context, words),
        Verb::Check(args) => check::run(context, args),
        Verb::Copy(words) => copy::run(context, words),
        Verb::Compact(words) => compact::run(context, words),
        Verb::Demo(args) => demo::run(context, args),
    }
}

/// A value that this slot cannot take, or could not be read.
fn refused(refused: Refused, file: &Path, slot: &str) -> Failure {
    match refused {
        Refused::Value(what) => Failure::of_slot(Exit::USAGE, file, slot, what),
        Refused::Input(failure) => failure,
    }
}
