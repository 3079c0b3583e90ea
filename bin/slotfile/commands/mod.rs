//! The verbs, one a file.

mod add;
mod cas;
mod create;
mod define;
pub(crate) mod demo;
mod get;
mod info;
mod lock;
mod ls;
mod rm;
mod set;

use std::io::Write;
use std::path::Path;

use slotfile::{OpenOptions, Store};

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
        let Everywhere { no_sync, lock_timeout, read_only, .. } = self.everywhere;
        let mut options = OpenOptions::new();
        options.read_only(read_only);
        if no_sync {
            options.sync_every(None);
        }
        if lock_timeout.is_some() {
            options.lock_timeout(lock_timeout);
        }
        options
    }

    fn open(&self, file: &Path) -> Result<Store, Failure> {
        Ok(self.options().open(file)?)
    }

    /// For the verbs that only look: they need no more than permission to read.
    fn open_to_read(&self, file: &Path) -> Result<Store, Failure> {
        Ok(self.options().read_only(true).open(file)?)
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
        Verb::Lock(args) => lock::run(context, args),
        Verb::Info(args) => info::run(context, args),
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
