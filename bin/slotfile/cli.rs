//! The command line as clap parses it: the verbs, their options and their help texts.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::words::Words;

/// Shared state that lasts: named, typed slots in one file, for many processes.
#[derive(Parser)]
#[command(
    name = "slotfile",
    version,
    arg_required_else_help = true,
    after_help = "Options come before FILE. Every word after FILE is data: `slotfile set state.slots t -5`.\n\n\
        TYPE is a scalar (bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64), an array such as f64[6] or\n\
        f32[480,640], text[64], bytes[4096], raw memory such as buffer:u8[480,640], or counter: an i64\n\
        that many processes add to at once.\n\n\
        Exit codes: 0 done; 1 no (compare lost, --timeout over, overflow, already exists); 2 wrong\n\
        usage; 3 damaged, or not a store; 4 no lock in time (lock: 124); 5 wrong type; 6 no space;\n\
        7 not allowed, or I/O error; 8 no such slot or file.\n\n\
        New here? `slotfile demo` shows all of it in a few seconds."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Everywhere {
    /// Leave the sync to a later process
    #[arg(long, global = true)]
    pub(crate) no_sync: bool,
    /// Seconds to wait for a lock before giving up, or `inf` [default: 5]
    #[arg(long, global = true, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) lock_timeout: Option<Duration>,
    /// Change nothing
    #[arg(long, global = true)]
    pub(crate) read_only: bool,
    /// Also open on network file systems, which are refused otherwise
    #[arg(long, global = true)]
    pub(crate) any_file_system: bool,
    /// Print only results, no messages; the exit code says the rest
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// By name, byte by byte
    Name,
    /// In the order in which they were defined
    Definition,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Make a new, empty store
    #[command(override_usage = "slotfile create [OPTIONS] FILE")]
    Create(Create),
    /// Define a slot; succeeds if it already exists with this type
    #[command(override_usage = "slotfile define [OPTIONS] FILE NAME TYPE [VALUE...]")]
    Define(Define),
    /// List the slots: name, type, version, value (shortened)
    #[command(
        override_usage = "slotfile ls [OPTIONS] FILE [GLOB]",
        after_help = "In GLOB, `*` matches any characters, `/` too; `?` any one; `[...]` one of a set; `\\` escapes."
    )]
    Ls(Ls),
    /// Print a slot's value, in the form that `set FILE NAME -` reads
    #[command(override_usage = "slotfile get [OPTIONS] FILE NAME")]
    Get(Get),
    /// Replace a slot's value
    #[command(
        override_usage = "slotfile set [OPTIONS] FILE NAME VALUE...",
        after_help = VALUES
    )]
    Set(Set),
    /// Add N (or 1) to a number atomically, and print the new value
    #[command(override_usage = "slotfile add [OPTIONS] FILE NAME [N]")]
    Add(Add),
    /// Set NEW if the value is EXPECTED; otherwise print the current value and exit with 1
    #[command(override_usage = "slotfile cas [OPTIONS] FILE NAME EXPECTED NEW")]
    Cas(Words),
    /// Remove slots
    #[command(override_usage = "slotfile rm [OPTIONS] FILE NAME...")]
    Rm(Words),
    /// Print a line each time a slot has a new version (some may be skipped)
    #[command(
        override_usage = "slotfile watch [OPTIONS] FILE [GLOB]",
        after_help = "A line has the name, the version and the value (shortened), or `removed`. Slots defined\n\
            meanwhile are watched too: the first line of each is its first state. Adds to a counter wake\n\
            nobody, and print no line.\n\
            Exit code: 0 after --count lines, or at --timeout without --count; 1 at --timeout with fewer\n\
            than --count lines."
    )]
    Watch(Watch),
    /// Wait until a slot's value satisfies OP VALUE; exit with 1 at --timeout
    #[command(
        override_usage = "slotfile wait [OPTIONS] FILE NAME OP VALUE",
        after_help = "OP is eq, ne, lt, le, gt or ge. Numbers compare as numbers, texts and bytes byte by byte."
    )]
    Wait(Wait),
    /// Run a command while holding a slot's lock
    #[command(
        override_usage = "slotfile lock [OPTIONS] FILE NAME -- COMMAND...",
        after_help = "The command inherits the lock, which lasts as long as the command, even if slotfile is killed.\n\
            It reads the slot, but cannot change it: `slotfile set`, `add` and the like would wait for the\n\
            lock. So lock another slot than those that it changes, as a name for them all:\n\n\
            \x20   slotfile lock FILE pose-lock -- COMMAND...\n\n\
            A slot that does not exist is defined as bool.\n\n\
            Exit code: the command's (128 + the signal that killed it); 124: no lock in time; 125: slotfile\n\
            itself failed; 126: the command cannot be run; 127: there is no such command."
    )]
    Lock(Lock),
    /// Make several changes at once, or none: `set`, `add` and `check` lines on standard input
    #[command(
        override_usage = "slotfile txn [OPTIONS] FILE",
        after_help = TXN
    )]
    Txn(Words),
    /// Show the store's format, its size, the room left and the processes that have it open
    #[command(override_usage = "slotfile info [OPTIONS] FILE")]
    Info(Info),
    /// Make everything committed so far survive a power cut
    #[command(override_usage = "slotfile sync [OPTIONS] FILE")]
    Sync(Words),
    /// Verify all that can be verified, and list what cannot; exit with 3 if something is wrong
    #[command(override_usage = "slotfile check [OPTIONS] FILE")]
    Check(Info),
    /// Make a consistent copy of the store while others use it
    #[command(override_usage = "slotfile copy [OPTIONS] FILE DEST")]
    Copy(Words),
    /// Reclaim the space of removed slots; no other process may have the store open
    #[command(override_usage = "slotfile compact [OPTIONS] FILE")]
    Compact(Words),
    /// Show what slotfile is for, with real processes, in a few seconds
    #[command(override_usage = "slotfile demo [OPTIONS] [FILE]")]
    Demo(Demo),
}

const TXN: &str = "Each line is one of\n\n\
    \x20   set [--index INDEX] [--json] NAME VALUE...   as `slotfile set`\n\
    \x20   add [--index INDEX] NAME [N]                 as `slotfile add`\n\
    \x20   check NAME OP VALUE                          all is undone unless it holds; OP is eq,\n\
    \x20                                                ne, lt, le, gt or ge\n\
    \x20   # comment\n\n\
    Words are quoted as in sh. A line sees what the lines before it have done. A VALUE cannot be `-`,\n\
    since standard input has the lines. Exit code 1: a check did not hold, or a number would\n\
    overflow; the message names the line, and nothing was changed.";

const VALUES: &str = "An array takes one VALUE per element, or per element in --index. Integers are decimal, or 0x and\n\
    hex; floats may be nan, inf, -inf; bool is true or false; text is one VALUE; bytes are hex.\n\
    A lone `-` reads standard input: numbers between white space, text without its final newline.";

#[derive(Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) new: NewStore,
    /// Succeed if the store already exists
    #[arg(long)]
    pub(crate) if_missing: bool,
    #[command(flatten)]
    pub(crate) words: Words,
}

/// What a store is created with.
#[derive(Args, Default, PartialEq, Eq)]
pub(crate) struct NewStore {
    /// Maximum number of slots [default: 65536]
    #[arg(long, value_name = "N", value_parser = whole, allow_negative_numbers = true)]
    pub(crate) max_slots: Option<u64>,
    /// Maximum size of the file, such as 512M [default: 16G]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
    /// Permissions of the file, regardless of the umask [default: 600]
    #[arg(long, value_name = "OCTAL", value_parser = mode)]
    pub(crate) mode: Option<u32>,
    /// Keep no checkpoints: half the disk space, but empty after a power cut
    #[arg(long)]
    pub(crate) no_checkpoint: bool,
}

#[derive(Args)]
pub(crate) struct Define {
    /// Create the store if it is missing
    #[arg(long)]
    pub(crate) create: bool,
    /// Exit with 1 if the slot already exists
    #[arg(long)]
    pub(crate) new: bool,
    #[command(flatten)]
    pub(crate) slot: NewSlot,
    #[command(flatten)]
    pub(crate) words: Words,
}

/// What a slot is defined with, besides its type and value.
#[derive(Args)]
pub(crate) struct NewSlot {
    /// Copies of an array: 2, 4 or 8; more copies help readers beside busy writers
    #[arg(long, value_name = "K")]
    pub(crate) areas: Option<usize>,
    /// What the slot is for, shown by `ls --long`
    #[arg(long, value_name = "TEXT")]
    pub(crate) doc: Option<String>,
    /// Unit of measure of its numbers, such as m/s
    #[arg(long)]
    pub(crate) unit: Option<String>,
}

#[derive(Args)]
pub(crate) struct Ls {
    /// Show bytes, areas, units of measure and docs too
    #[arg(long, short)]
    pub(crate) long: bool,
    /// Print a JSON array of objects, with values in full
    #[arg(long)]
    pub(crate) json: bool,
    /// Print only the names, unquoted, one per line
    #[arg(long, conflicts_with_all = ["json", "long"])]
    pub(crate) names: bool,
    /// Leave out the header
    #[arg(long)]
    pub(crate) no_header: bool,
    /// How to sort; by name, all names are read before the first is printed
    #[arg(long, value_name = "BY", default_value = "definition")]
    pub(crate) sort: Order,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Get {
    /// Only these elements: I, I,J or A..B (B not included)
    #[arg(long, value_name = "INDEX", allow_negative_numbers = true)]
    pub(crate) index: Option<String>,
    /// Print a JSON object with name, type, version and value
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the little-endian bytes, nothing else
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Set {
    /// Only these elements: I, I,J or A..B (B not included)
    #[arg(long, value_name = "INDEX", allow_negative_numbers = true)]
    pub(crate) index: Option<String>,
    /// VALUE is JSON: the object that `get --json` prints, or its "value"
    #[arg(long)]
    pub(crate) json: bool,
    /// Read the little-endian bytes from standard input
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Add {
    /// The element of an array: I or I,J
    #[arg(long, value_name = "INDEX", allow_negative_numbers = true)]
    pub(crate) index: Option<String>,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Watch {
    /// End after N lines
    #[arg(long, value_name = "N", value_parser = whole, allow_negative_numbers = true)]
    pub(crate) count: Option<u64>,
    /// End after S seconds
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Option<Duration>,
    /// First print each slot as it is now
    #[arg(long)]
    pub(crate) initial: bool,
    /// Print one JSON object per line, with values in full
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Wait {
    /// Seconds to wait [default: forever]
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Lock {
    /// Seconds to wait for the lock; then exit with 124 [default: as --lock-timeout]
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Info {
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) words: Words,
}

/// What a worker of the demo does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Adds 1, again and again.
    Adder,
    /// Writes equal numbers.
    Mirror,
    /// Checks that they are equal.
    Reader,
    /// Writes the machine's figures.
    Sampler,
    /// Is killed in the middle of an update.
    Victim,
}

#[derive(Args)]
pub(crate) struct Demo {
    /// The role in which the demo starts its own executable again
    #[arg(long, hide = true)]
    pub(crate) worker: Option<Role>,
    #[arg(hide = true, trailing_var_arg = true)]
    pub(crate) file: Vec<OsString>,
}

fn whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "write a whole number, such as 10".into())
}

fn seconds(text: &str) -> Result<Duration, String> {
    if ["inf", "infinity"].contains(&text) {
        return Ok(Duration::MAX);
    }
    let Ok(seconds) = text.parse::<f64>() else {
        let refused = |_| {
            "write seconds, such as 0.5, or a number and a unit, such as 500ms or 2m".to_owned()
        };
        return humantime::parse_duration(text).map_err(refused);
    };
    match seconds {
        // Too long for a `Duration`: as good as forever.
        0.0.. => Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
        _ => Err("a time must be 0 or more".into()),
    }
}

/// `4096`, `64K`, `512M`, `16G`, `1T`: powers of 1,024.
fn size(text: &str) -> Result<u64, String> {
    let refused = "write bytes, or a number with K, M, G or T, such as 512M";
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        Some((at, 't' | 'T')) => (&text[..at], 40),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refused.into());
    }
    let number: u64 = digits.parse().map_err(|_| "too large")?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".into())
}

fn mode(text: &str) -> Result<u32, String> {
    let octal = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o777 => Ok(mode),
        _ => Err("write three octal digits, such as 640".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::path::PathBuf;

    #[test]
    fn clap_finds_no_mistake() {
        Cli::command().debug_assert();
    }

    #[test]
    fn after_the_file_all_is_data() {
        let cli = Cli::try_parse_from([
            "slotfile", "set", "--index", "2", "F", "t", "-5", "--json", "--",
        ]);
        let Ok(Cli { verb: Verb::Set(set), .. }) = cli else {
            panic!("not parsed");
        };
        assert_eq!(set.index.as_deref(), Some("2"));
        assert!(!set.json);
        let mut words = set.words.read();
        assert_eq!(words.file().unwrap(), PathBuf::from("F"));
        assert_eq!(words.rest().unwrap(), ["t", "-5", "--json", "--"]);
    }

    #[test]
    fn sizes_and_modes_are_strict() {
        assert_eq!(size("16G"), Ok(16 << 30));
        assert_eq!(size("4096"), Ok(4096));
        for bad in ["", "K", "+1", "-1", "1.5G", "1KB", "16777216T", " 1"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(mode("640"), Ok(0o640));
        for (text, millis) in [("0.5", 500), ("10", 10_000), ("500ms", 500), ("2m 1s", 121_000)] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for forever in ["inf", "1e300"] {
            assert_eq!(seconds(forever), Ok(Duration::MAX));
        }
        for bad in ["", "-1", "nan", "-inf", "soon", "1 x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        for bad in ["", "8", "1777", "+644", "rw"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }
}
