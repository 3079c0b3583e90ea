//! `txn`: several changes at once, or none of them.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

use slotfile::{Data, ScalarType, Slot, SlotType, Store, Transaction};

use super::Context;
use super::add::Step;
use crate::compare::{self, Comparison};
use crate::exit::{Exit, Failure};
use crate::value;
use crate::words::Words;

/// What is read of standard input, at most: what has no end is refused.
const LONGEST: u64 = 64 << 20;

pub(super) fn run(context: &mut Context, words: Words) -> Result<Exit, Failure> {
    let mut words = words.read();
    let file = words.file()?;
    words.end()?;

    // All that can be wrong with a line is found before anything is locked.
    let lines = lines(&standard_input()?)?;
    let store = context.open(&file)?;
    let mut slots = HashMap::new();
    let steps = lines
        .iter()
        .map(|line| {
            let step = prepare(&store, &mut slots, &file, &line.request);
            step.map(|step| (line, step)).map_err(|failure| failure.at_line(line.number))
        })
        .collect::<Result<Vec<_>, _>>()?;
    store.transaction(|tx| {
        for (line, (slot, action)) in &steps {
            let done = action.perform(tx, slot, &file);
            // Conflicts are passed on too: the library sees for itself that it lost.
            done.map_err(|failure| failure.at_line(line.number))?;
        }
        Ok::<_, Failure>(())
    })?;
    Ok(Exit::DONE)
}

/// One thing to be done, and where it stands.
#[derive(Debug)]
struct Line {
    number: usize,
    request: Request,
}

/// A line, as far as it can be understood without knowing the slots.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Set { name: String, values: Vec<String> },
    Add { name: String, by: String },
    Check { name: String, how: Comparison, with: String },
}

/// What it comes to for its slot.
enum Action {
    Set(Data),
    Add(ScalarType, Step, String),
    Check(Comparison, Data, String),
}

/// Takes the input apart as sh would: a quote that is not closed goes on in the next line,
/// and so does a line that ends in a backslash.
fn lines(input: &str) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    let mut left = input.lines().enumerate();
    while let Some((at, line)) = left.next() {
        let mut text = line.to_owned();
        let words = loop {
            if let Some(words) = shlex::split(&text) {
                break words;
            }
            let Some((_, more)) = left.next() else {
                let what = "a quote is not closed, or a backslash ends the input";
                return Err(Failure::new(Exit::USAGE, what).at_line(at + 1));
            };
            // Not in quotes, a backslash takes the end of the line away.
            text = match text.strip_suffix('\\').filter(|text| shlex::split(text).is_some()) {
                Some(text) => format!("{text}{more}"),
                None => format!("{text}\n{more}"),
            };
        };
        if !words.is_empty() {
            let request = Request::parse(words)
                .map_err(|what| Failure::new(Exit::USAGE, what).at_line(at + 1))?;
            lines.push(Line { number: at + 1, request });
        }
    }
    Ok(lines)
}

impl Request {
    fn parse(words: Vec<String>) -> Result<Request, String> {
        let mut words = words.into_iter();
        let verb = words.next().unwrap_or_default();
        let mut rest: Vec<String> = words.collect();
        let shape = match verb.as_str() {
            "set" => "set NAME VALUE...",
            "add" => "add NAME [N]",
            "check" => "check NAME OP VALUE",
            _ => {
                let verb = value::shown(&verb);
                return Err(format!("{verb} is nothing to do; write set, add or check"));
            }
        };
        match (verb.as_str(), rest.len()) {
            ("set", 2..) => {
                let values = rest.split_off(1);
                Ok(Request::Set { name: rest.remove(0), values })
            }
            ("add", 1 | 2) => {
                let by = rest.get(1).map_or("1", String::as_str).to_owned();
                Ok(Request::Add { name: rest.remove(0), by })
            }
            ("check", 3) => {
                let how = Comparison::parse(&rest[1])?;
                let with = rest.remove(2);
                Ok(Request::Check { name: rest.remove(0), how, with })
            }
            (_, found) => Err(format!(
                "write `{shape}`, not {found} words after {verb}; quote a value that has spaces"
            )),
        }
    }

    fn name(&self) -> &str {
        match self {
            Request::Set { name, .. } | Request::Add { name, .. } | Request::Check { name, .. } => {
                name
            }
        }
    }
}

/// Finds the slot, and reads the line's values as its type has it.
fn prepare(
    store: &Store,
    slots: &mut HashMap<String, Slot>,
    file: &Path,
    request: &Request,
) -> Result<(Slot, Action), Failure> {
    let name = request.name();
    let slot = match slots.get(name) {
        Some(slot) => slot.clone(),
        None => slots.entry(name.to_owned()).or_insert(store.slot(name)?).clone(),
    };
    let fail = |(exit, what): (Exit, String)| Failure::of_slot(exit, file, name, what);
    let usage = |what| fail((Exit::USAGE, what));
    let action = match request {
        Request::Set { values, .. } => {
            let words = values.iter().map(String::as_str);
            Action::Set(value::from_words(words, slot.slot_type()).map_err(usage)?)
        }
        Request::Add { by, .. } => match slot.slot_type() {
            SlotType::Value(scalar) if *scalar != ScalarType::Bool => {
                Action::Add(*scalar, Step::parse(by, *scalar).map_err(usage)?, by.clone())
            }
            other => {
                return Err(fail((
                    Exit::TYPE,
                    format!("it is {other}, and add needs a number; use set"),
                )));
            }
        },
        Request::Check { how, with, .. } => {
            let operand = compare::operand(with, slot.slot_type()).map_err(fail)?;
            Action::Check(*how, operand, with.clone())
        }
    };
    Ok((slot, action))
}

impl Action {
    fn perform(&self, tx: &mut Transaction, slot: &Slot, file: &Path) -> Result<(), Failure> {
        let no = |what: String| {
            Failure::of_slot(Exit::NO, file, slot.name(), format!("{what}; nothing was changed"))
        };
        match self {
            Action::Set(data) => tx.store(slot, data.clone())?,
            Action::Add(scalar, step, by) => {
                let old = tx.load_range(slot, ..)?;
                let sum = old.get(0).and_then(|old| step.from(old));
                let Some(sum) = sum else {
                    let (low, high) = scalar.range();
                    let old = old.get(0).map(|old| old.to_string()).unwrap_or_default();
                    return Err(no(format!(
                        "{old} and {by} overflow {scalar}, which is {low} to {high}"
                    )));
                };
                tx.store(slot, sum.into())?;
            }
            Action::Check(how, with, word) => {
                let found = tx.load(slot)?;
                if !how.holds(&found, with) {
                    let mut shown = Vec::new();
                    value::print(&mut shown, &found, slot.slot_type())?;
                    let shown = String::from_utf8_lossy(&shown);
                    let (shown, word) = (value::shown(shown.trim_end()), value::shown(word));
                    return Err(no(format!("it is {shown}, not {} {word}", how.word())));
                }
            }
        }
        Ok(())
    }
}

fn standard_input() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| {
        Failure::new(Exit::IO, format!("standard input: {error}; nothing was changed"))
    })?;
    let usage = |what: &str| Failure::new(Exit::USAGE, format!("standard input {what}"));
    if bytes.len() as u64 > LONGEST {
        return Err(usage("has more than 64 MiB; make several transactions of it"));
    }
    String::from_utf8(bytes).map_err(|_| usage("is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(input: &str) -> Vec<(usize, Request)> {
        lines(input).unwrap().into_iter().map(|line| (line.number, line.request)).collect()
    }

    fn set(name: &str, values: &[&str]) -> Request {
        let values = values.iter().map(|value| value.to_string()).collect();
        Request::Set { name: name.into(), values }
    }

    #[test]
    fn lines_are_quoted_as_in_sh() {
        let add = |by: &str| Request::Add { name: "x".into(), by: by.into() };
        let input =
            "# a comment\n\n  set a 1 2  # and another\nset 'a b' \"c # d\" \\#\nadd x\nadd x -5\n";
        let expected = [
            (3, set("a", &["1", "2"])),
            (4, set("a b", &["c # d", "#"])),
            (5, add("1")),
            (6, add("-5")),
        ];
        assert_eq!(requests(input), expected);
        let input = "set t 'two\nlines'\nset \\\n  u v\nset e ''";
        let expected =
            [(1, set("t", &["two\nlines"])), (3, set("u", &["v"])), (5, set("e", &[""]))];
        assert_eq!(requests(input), expected);
        let how = Comparison::parse("ge").unwrap();
        let check = Request::Check { name: "a".into(), how, with: "5".into() };
        assert_eq!(requests("check a ge 5"), [(1, check)]);
    }

    #[test]
    fn a_line_that_says_nothing_is_named() {
        for (input, line) in [
            ("set a", 1),
            ("\nadd", 2),
            ("add a 1 2", 1),
            ("set a 1\ncheck a eq", 2),
            ("check a == 1", 1),
            ("check a eq 1 2", 1),
            ("get a", 1),
            ("''", 1),
            ("set a 1\n\nset t 'open\n\n", 3),
            ("set a \\", 1),
        ] {
            let failure = lines(input).unwrap_err();
            assert_eq!(failure.exit, Exit::USAGE, "{input}");
            assert!(failure.message.starts_with(&format!("line {line}: ")), "{}", failure.message);
        }
    }
}
