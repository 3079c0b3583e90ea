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

use std::cell::RefCell;
use std::io::Write;

use crate::cli::{Cli, Verb};
use crate::context::Context;
use crate::exit::{Cause, Exit, Failure};
use crate::output::Output;
use crate::usage;

/// Does what the command line says; prints a message if that fails.
pub(crate) fn run(cli: Cli) -> Exit {
    let out = Output::new(cli.everywhere.color);
    let mut context = Context {
        out,
        everywhere: cli.everywhere,
        changed: None,
        hint: RefCell::default(),
        opened: RefCell::default(),
    };
    let mut done = dispatch(&mut context, cli.verb);
    if let Err(Failure { cause: Cause::NoSlot(name), .. }) = &done {
        context.hint_at_slot(name);
    }
    // What was printed before a failure is useful too.
    let flushed = context.out.flush();
    if let Err(failure) = context.close() {
        match done {
            Ok(_) => done = Err(failure),
            // The same fault is reported once: for instance, that the file is gone.
            Err(ref told) if is_of(&failure, told) => {}
            Err(_) => context.note(&failure.message),
        }
    }
    let Failure { exit, message, cause } = match done.and_then(|exit| exit.printed(flushed)) {
        Ok(exit) => return exit,
        Err(failure) => failure,
    };
    match (cause, &context.changed) {
        _ if message.is_empty() => {}
        (Cause::Words, _) => context.note(&format!("{message}. {}", usage::of_this_run())),
        (Cause::Output, Some(changed)) => context.note(&format!("{message}; {changed}")),
        (Cause::Output, None) => {
            context.note(&format!("{message}; send the output somewhere else"));
        }
        (Cause::NoSlot(_) | Cause::Other, _) => match context.hint.take() {
            Some(hint) => context.note(&format!("{message}; {hint}")),
            None => context.note(&message),
        },
    }
    exit
}

/// Whether the message of `failure` ends with that of `told`.
fn is_of(failure: &Failure, told: &Failure) -> bool {
    !told.message.is_empty() && failure.message.ends_with(&told.message)
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
