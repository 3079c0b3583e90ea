//! What can be written after `slotfile`.

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
    after_help = "Options stand before the file; after it all is data: `slotfile set state.slots t -5`.\n\n\
        TYPE is a scalar (bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64), an array as f64[6] or\n\
        f32[480,640], text[64], bytes[4096], or raw memory as buffer:u8[480,640].\n\n\
        Exit codes: 0 done; 1 no (lost the compare, the time of --timeout is over, overflow, there\n\
        already); 2 wrong usage; 3 damaged, or no store; 4 no lock in time (lock: 124); 5 another\n\
        type; 6 no space; 7 not allowed, or I/O; 8 no such slot or file.\n\n\
        New here? `slotfile demo` shows all of it in a few seconds."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) everywhere: Everywhere,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Args)]
#[command(next_help_heading = "Options everywhere")]
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
    /// Also on network file systems, which are refused otherwise
    #[arg(long, global = true)]
    pub(crate) any_file_system: bool,
    /// Print no messages, only results; the exit code says the rest
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
    /// Make a new slot; done if it is there already with this type
    #[command(override_usage = "slotfile define [OPTIONS] FILE NAME TYPE [VALUE...]")]
    Define(Define),
    /// List the slots: name, type, version, value (shortened)
    #[command(
        override_usage = "slotfile ls [OPTIONS] FILE [GLOB]",
        after_help = "In GLOB `*` matches any run of characters, `/` too, `?` one, `[...]` a set; `\\` escapes."
    )]
    Ls(Ls),
    /// Print a slot's value, as `set FILE NAME -` reads it
    #[command(override_usage = "slotfile get [OPTIONS] FILE NAME")]
    Get(Get),
    /// Replace a slot's value
    #[command(
        override_usage = "slotfile set [OPTIONS] FILE NAME VALUE...",
        after_help = VALUES
    )]
    Set(Set),
    /// Add to a number, atomically (1 if N is left out), and print the new value
    #[command(override_usage = "slotfile add [OPTIONS] FILE NAME [N]")]
    Add(Add),
    /// Set NEW if the value is EXPECTED; otherwise print the value it has and exit with 1
    #[command(override_usage = "slotfile cas [OPTIONS] FILE NAME EXPECTED NEW")]
    Cas(Words),
    /// Remove slots
    #[command(override_usage = "slotfile rm [OPTIONS] FILE NAME...")]
    Rm(Words),
    /// Print a line each time a slot has a new version (those between are skipped)
    #[command(
        override_usage = "slotfile watch [OPTIONS] FILE [GLOB]",
        after_help = "A line: name, version, value (shortened), or `removed`. Slots that are defined meanwhile are\n\
            picked up, and their first state is a line, too.\n\
            Exit code: 0 when --count lines are printed, or --timeout is over without a --count; 1 when it\n\
            is over with fewer lines than that."
    )]
    Watch(Watch),
    /// Wait until a slot's value compares like this with VALUE; exit with 1 when the time is over
    #[command(
        override_usage = "slotfile wait [OPTIONS] FILE NAME OP VALUE",
        after_help = "OP is eq, ne, lt, le, gt or ge. Numbers compare as numbers, texts and bytes byte by byte."
    )]
    Wait(Wait),
    /// Run a command while holding a slot's lock
    #[command(
        override_usage = "slotfile lock [OPTIONS] FILE NAME -- COMMAND...",
        after_help = "The command inherits the lock: it lasts as long as the command, even if slotfile is killed.\n\
            A slot that is not there is defined, as bool.\n\n\
            Exit code: the command's (128 + the signal that killed it); 124: the lock was not to be had in\n\
            time; 125: slotfile itself failed; 126: the command cannot be run; 127: there is no such command."
    )]
    Lock(Lock),
    /// Make several changes at once, or none: `set`, `add` and `check` lines on standard input
    #[command(
        override_usage = "slotfile txn [OPTIONS] FILE",
        after_help = TXN
    )]
    Txn(Words),
    /// Show the store's format, its size, the room left and who has it open
    #[command(override_usage = "slotfile info [OPTIONS] FILE")]
    Info(Info),
    /// Make everything committed so far survive a power cut
    #[command(override_usage = "slotfile sync [OPTIONS] FILE")]
    Sync(Words),
    /// Verify everything that can be verified, and say what could not; exit with 3 if something is wrong
    #[command(override_usage = "slotfile check [OPTIONS] FILE")]
    Check(Info),
    /// Make a consistent copy of the store, while others go on using it
    #[command(override_usage = "slotfile copy [OPTIONS] FILE DEST")]
    Copy(Words),
    /// Give back the space of removed slots; nobody else may have the store open
    #[command(override_usage = "slotfile compact [OPTIONS] FILE")]
    Compact(Words),
    /// Show what this is for, with real processes, in a few seconds
    #[command(override_usage = "slotfile demo [OPTIONS] [FILE]")]
    Demo(Demo),
}

const TXN: &str = "Each line is one of\n\n\
    \x20   set [--index INDEX] [--json] NAME VALUE...   as `slotfile set`\n\
    \x20   add [--index INDEX] NAME [N]                 as `slotfile add`\n\
    \x20   check NAME OP VALUE                          all is undone unless it holds; OP is eq,\n\
    \x20                                                ne, lt, le, gt or ge\n\
    \x20   # comment\n\n\
    quoted as in sh, and sees what the lines before it have done. A VALUE cannot be `-`: standard\n\
    input has the lines. Exit code 1: a check did not hold, or a number would overflow; the message\n\
    names the line, and nothing was changed.";

const VALUES: &str = "An array takes as many VALUEs as it has elements, or as --index spans. Integers are decimal or\n\
    0x and hex; floats also nan, inf, -inf; bool is true or false; text is one VALUE; bytes are hex.\n\
    A lone `-` reads standard input: numbers by white space, text less one final newline.";

#[derive(Args)]
pub(crate) struct Create {
    /// How many slots it can ever hold [default: 65536]
    #[arg(long, value_name = "N")]
    pub(crate) max_slots: Option<u64>,
    /// How large the file can ever get, as 512M or 16G [default: 16G]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
    /// The file's permissions, whatever the umask [default: 600]
    #[arg(long, value_name = "OCTAL", value_parser = mode)]
    pub(crate) mode: Option<u32>,
    /// Half the disk space, but empty after a power cut
    #[arg(long)]
    pub(crate) no_checkpoint: bool,
    /// Done if the store is there already
    #[arg(long)]
    pub(crate) if_missing: bool,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Define {
    /// Make the store too, if it is missing
    #[arg(long)]
    pub(crate) create: bool,
    /// Exit with 1 if the slot is there already
    #[arg(long)]
    pub(crate) new: bool,
    /// Copies of an array: 2, 4 or 8; more of them help readers beside busy writers
    #[arg(long, value_name = "K")]
    pub(crate) areas: Option<usize>,
    /// What the slot is for, shown by `ls --long`
    #[arg(long, value_name = "TEXT")]
    pub(crate) doc: Option<String>,
    /// What its numbers are measured in, as m/s
    #[arg(long)]
    pub(crate) unit: Option<String>,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Ls {
    /// Show bytes, areas, units of measure and docs too
    #[arg(long, short)]
    pub(crate) long: bool,
    /// An array of objects, values in full
    #[arg(long)]
    pub(crate) json: bool,
    /// Only the names, as they are, one a line
    #[arg(long, conflicts_with_all = ["json", "long"])]
    pub(crate) names: bool,
    /// Leave out the line of titles
    #[arg(long)]
    pub(crate) no_header: bool,
    /// What they are sorted by
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
    /// One object with name, type, version and value
    #[arg(long)]
    pub(crate) json: bool,
    /// The little-endian bytes, nothing else
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
    /// Which element of an array: I or I,J
    #[arg(long, value_name = "INDEX", allow_negative_numbers = true)]
    pub(crate) index: Option<String>,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Watch {
    /// End after so many lines
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Option<Duration>,
    /// Print each slot as it is at first
    #[arg(long)]
    pub(crate) initial: bool,
    /// An object a line, values in full
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Wait {
    /// Seconds to wait [default: for ever]
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Lock {
    /// Seconds to wait for the lock; then exit with 124 [default: that of --lock-timeout]
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) words: Words,
}

#[derive(Args)]
pub(crate) struct Info {
    /// One object
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
    /// What the demo starts itself as
    #[arg(long, hide = true)]
    pub(crate) worker: Option<Role>,
    #[arg(hide = true, trailing_var_arg = true)]
    pub(crate) file: Vec<OsString>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    if ["inf", "infinity"].contains(&text) {
        return Ok(Duration::MAX);
    }
    let Ok(seconds) = text.parse::<f64>() else {
        let refused = |_| "write seconds, as 0.5 or 10, or with units, as 500ms or 2m".to_owned();
        return humantime::parse_duration(text).map_err(refused);
    };
    match seconds {
        // As good as for ever.
        0.0.. => Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
        _ => Err("a time is 0 or more".into()),
    }
}

/// `4096`, `64K`, `512M`, `16G`, `1T`: powers of 1,024.
fn size(text: &str) -> Result<u64, String> {
    let refused = "write bytes, or a number with K, M, G or T, as 512M";
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
        _ => Err("write three octal digits, as 640".into()),
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
        for for_ever in ["inf", "1e300"] {
            assert_eq!(seconds(for_ever), Ok(Duration::MAX));
        }
        for bad in ["", "-1", "nan", "-inf", "soon", "1 x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        for bad in ["", "8", "1777", "+644", "rw"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }
}
