//! Messages about a command line that cannot be parsed.

use std::io::{self, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Subcommand};

use crate::cli::{Cli, Verb};
use crate::display::quoted;
use crate::exit::Exit;
use crate::output::complain;
use crate::streams;

/// Each verb, and what other tools call it.
const OTHER_NAMES: [(&str, &[&str]); 15] = [
    ("create", &["init", "new", "make", "mk"]),
    ("define", &["def", "declare", "alloc"]),
    ("ls", &["list", "dir", "keys", "slots"]),
    ("get", &["read", "show", "cat", "print", "load", "fetch", "value"]),
    ("set", &["put", "write", "store", "assign", "save"]),
    ("add", &["incr", "inc", "increment", "decr", "sub", "plus"]),
    ("cas", &["swap", "compare", "exchange"]),
    ("rm", &["del", "delete", "remove", "unset", "drop", "undefine"]),
    ("watch", &["tail", "follow", "monitor", "subscribe"]),
    ("wait", &["await", "until"]),
    ("lock", &["flock", "with"]),
    ("txn", &["transaction", "multi", "batch", "exec", "tx"]),
    ("copy", &["cp", "backup", "clone"]),
    ("compact", &["vacuum", "gc", "shrink"]),
    ("check", &["fsck", "verify", "validate", "test"]),
];

/// The usage line of this run's verb.
pub(crate) fn of_this_run() -> String {
    of(&verb_given().unwrap_or_default())
}

fn of(verb: &str) -> String {
    let mut cli = Cli::command();
    match cli.find_subcommand_mut(verb) {
        Some(command) => command.render_usage().to_string().trim().to_owned(),
        None => "`slotfile help` lists the commands".into(),
    }
}

/// Prints clap's answer: help as it is, an error as one line.
pub(crate) fn explain(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        let print = || error.print().and_then(|()| io::stdout().flush());
        return match Exit::DONE.printed(streams::check_stdout().and_then(|()| print())) {
            Ok(exit) => exit,
            Err(failure) => {
                complain(&failure.message);
                failure.exit
            }
        };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return Exit::USAGE;
    }
    complain(&match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) => no_command(word),
        (ErrorKind::MissingRequiredArgument, _) => {
            format!("FILE is missing. {}", of_this_run())
        }
        _ => on_one_line(error),
    });
    match verb_given().as_deref() {
        // The low numbers belong to the command that `lock` runs.
        Some("lock") => Exit::LOCK_FAILED,
        _ => Exit::USAGE,
    }
}

/// The verb on the command line, found without clap, which failed before it.
fn verb_given() -> Option<String> {
    let words = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok());
    words.into_iter().find(|word| Verb::has_subcommand(word))
}

fn no_command(word: &str) -> String {
    let cli = Cli::command();
    let all = || cli.get_subcommands().map(|command| command.get_name());
    let lower = word.to_lowercase();
    if lower == "version" {
        return format!("no command {}; write `slotfile --version`", quoted(word));
    }
    let alias = OTHER_NAMES.iter().find(|(_, names)| names.contains(&lower.as_str()));
    // Far fewer slips than letters; otherwise nearly every word is close to `rm`.
    let slips = |verb: &&str| strsim::osa_distance(&lower, verb);
    let near =
        all().filter(|verb| slips(verb) <= verb.len().min(lower.len()) / 3).min_by_key(slips);
    let meant = alias.map(|(verb, _)| *verb).or(near);
    match meant {
        Some(verb) => format!("no command {}; did you mean {verb:?}? {}", quoted(word), of(verb)),
        None if std::fs::exists(word).unwrap_or(false) => format!(
            "{} is a file, not a command: the command comes first, as in `slotfile get FILE NAME`",
            quoted(word)
        ),
        None => format!("no command {}; `slotfile help` lists the commands", quoted(word)),
    }
}

/// Clap's message, without the parts that do not help here.
fn on_one_line(error: &clap::Error) -> String {
    // Clap's advice for data that looks like an option is wrong here: options come first.
    let of_no_use = ["Usage:", "For more information", "tip: to pass"];
    let text = error.to_string();
    let said: Vec<String> = text
        .split("\n\n")
        .map(|paragraph| {
            let lines = paragraph.lines().map(str::trim);
            let useful =
                lines.filter(|line| !of_no_use.iter().any(|start| line.starts_with(start)));
            useful.collect::<Vec<_>>().join(" ").trim().to_owned()
        })
        .filter(|paragraph| !paragraph.is_empty())
        .collect();
    let line = format!("{}; see --help", said.join("; "));
    line.trim_start_matches("error: ").to_owned()
}
