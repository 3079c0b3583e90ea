//! `txn`: several changes at once, or none of them.

use std::collections::HashMap;
use std::io::{Read, StdinLock};
use std::ops::Range;
use std::path::Path;

use slotfile::{Data, Elements, Scalar, ScalarType, Slot, SlotType, Store, Transaction};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::streams;
use crate::values::addition::{self, Step};
use crate::values::compare::{self, Comparison};
use crate::values::index::Selection;
use crate::values::{json, value};
use crate::words::Words;

/// Maximum length of standard input, so that an input without an end is refused.
const LONGEST: u64 = 64 << 20;

pub(super) fn run(context: &mut Context, words: Words) -> Result<Exit, Failure> {
    let mut words = words.read();
    let file = words.file()?;
    words.end()?;

    // A line that is wrong is found before anything is locked.
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
            // Conflicts are passed on too: the library notices them by itself and tries again.
            done.map_err(|failure| failure.at_line(line.number))?;
        }
        Ok::<_, Failure>(())
    })?;
    Ok(Exit::DONE)
}

/// A request and its line number.
#[derive(Debug)]
struct Line {
    number: usize,
    request: Request,
}

/// A line, as far as it can be understood without knowing the slots.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Set { name: String, index: Option<String>, json: bool, values: Vec<String> },
    Add { name: String, index: Option<String>, by: String },
    Check { name: String, how: Comparison, with: String },
}

/// A request, parsed for the type of its slot.
enum Action {
    Set(Data),
    SetElements(Range<usize>, Elements),
    Add(ScalarType, Range<usize>, Step, String),
    Check(Comparison, Data, String),
}

/// Splits the input as sh does: an open quote, or a backslash at the end of a line, continues in
/// the next line.
fn lines(input: &str) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    let (mut number, mut left) = (1, input);
    while !left.is_empty() {
        let usage = |what: String| Failure::new(Exit::USAGE, what).at_line(number);
        let (command, len) = command(left);
        let words = shlex::split(command.strip_suffix('\r').unwrap_or(&command))
            .ok_or_else(|| usage("a quote is not closed, or a backslash ends the input".into()))?;
        if !words.is_empty() {
            let request = Request::parse(words).map_err(usage)?;
            lines.push(Line { number, request });
        }
        number += left[..len].matches('\n').count();
        left = &left[len..];
    }
    Ok(lines)
}

/// The first command of the text, and how many bytes it takes: up to the first newline that is
/// neither quoted nor escaped. Outside quotes, a backslash removes the end of its line.
fn command(text: &str) -> (String, usize) {
    let (mut command, mut from) = (String::new(), 0);
    let (mut quote, mut in_word) = (None, false);
    // Every byte of interest is ASCII, so it is never part of another character.
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (quote, byte) {
            (None | Some(b'#'), b'\n') => {
                return (command + &text[from..at], at + 1);
            }
            (None, b'\\') => {
                let behind = &text[at + 1..];
                if let Some(end) = ["\n", "\r\n"].into_iter().find(|end| behind.starts_with(end)) {
                    command.push_str(&text[from..at]);
                    from = at + 1 + end.len();
                    bytes.nth(end.len() - 1);
                    continue;
                }
                bytes.next();
            }
            (Some(b'"'), b'\\') => _ = bytes.next(),
            (None, b'\'' | b'"') => quote = Some(byte),
            // A comment, which ends with its line.
            (None, b'#') if !in_word => quote = Some(byte),
            (Some(opened), _) if opened == byte && opened != b'#' => quote = None,
            _ => {}
        }
        in_word = !matches!(byte, b' ' | b'\t');
    }
    (command + &text[from..], text.len())
}

impl Request {
    fn parse(words: Vec<String>) -> Result<Request, String> {
        let mut words = words.into_iter();
        let verb = words.next().unwrap_or_default();
        let mut rest: Vec<String> = words.collect();
        let shape = match verb.as_str() {
            "set" => "set [--index INDEX] [--json] NAME VALUE...",
            "add" => "add [--index INDEX] NAME [N]",
            "check" => "check NAME OP VALUE",
            _ => {
                let verb = value::shown(&verb);
                return Err(format!("{verb} is not a command; write set, add or check"));
            }
        };
        let (index, json) = options(&verb, &mut rest)?;
        match (verb.as_str(), rest.len()) {
            ("set", 2..) => {
                let values = rest.split_off(1);
                if values == ["-"] && !json {
                    let what = "`-` would read standard input, which has the lines; write the \
                                value, or --json and \"-\" for a text of this one character";
                    return Err(what.into());
                }
                Ok(Request::Set { name: rest.remove(0), index, json, values })
            }
            ("add", 1 | 2) => {
                let by = rest.get(1).map_or("1", String::as_str).to_owned();
                Ok(Request::Add { name: rest.remove(0), index, by })
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

/// Takes the options before the name: `--index INDEX`, `--json`. `--` ends them.
fn options(verb: &str, rest: &mut Vec<String>) -> Result<(Option<String>, bool), String> {
    let (mut index, mut json) = (None, false);
    while let Some(word) = rest.first() {
        match word.as_str() {
            "--index" if verb != "check" && rest.len() > 1 => {
                index = Some(rest.remove(1));
                rest.remove(0);
            }
            "--json" if verb == "set" => {
                json = true;
                rest.remove(0);
            }
            "--" => {
                rest.remove(0);
                break;
            }
            word if word.starts_with("--") => {
                return Err(format!(
                    "{verb} has no option {}; write `--` before a name that begins so",
                    value::shown(word)
                ));
            }
            _ => break,
        }
    }
    Ok((index, json))
}

/// Finds the slot, and parses the line's values for its type.
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
        Request::Set { index, json, values, .. } => {
            let read = |slot_type: &SlotType| match (json, values.as_slice()) {
                (true, [value]) => json::read(value, slot_type),
                (true, _) => Err("--json takes one VALUE; quote it".into()),
                (false, values) => value::from_words(values.iter().map(String::as_str), slot_type),
            };
            match index {
                None => Action::Set(read(slot.slot_type()).map_err(usage)?),
                Some(index) => {
                    let part = Selection::new(slot.slot_type(), index).map_err(usage)?;
                    let elements = read(&part.slot_type).and_then(value::elements_of);
                    Action::SetElements(part.range, elements.map_err(usage)?)
                }
            }
        }
        Request::Add { index, by, .. } => {
            let (scalar, range) =
                addition::target(slot.slot_type(), index.as_deref()).map_err(fail)?;
            let step = Step::parse(by, scalar).map_err(usage)?;
            Action::Add(scalar, range, step, by.clone())
        }
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
            Action::SetElements(range, elements) => {
                tx.store_range(slot, range.clone(), elements)?;
            }
            Action::Add(scalar, range, step, by) => {
                let old = tx.load_range(slot, range.clone())?;
                let old = old.get(0).unwrap_or(Scalar::zero(*scalar));
                let sum = step.from(old).ok_or_else(|| {
                    let what = addition::overflow(old, by, *scalar);
                    Failure::of_slot(Exit::NO, file, slot.name(), what)
                })?;
                tx.store_range(slot, range.clone(), &value::one(sum))?;
            }
            Action::Check(how, with, word) => {
                let found = tx.load(slot)?;
                if !how.holds(&found, with) {
                    let mut shown = Vec::new();
                    value::print(&mut shown, &found, slot.slot_type())?;
                    let shown = String::from_utf8_lossy(&shown);
                    let (shown, word) = (value::shown(shown.trim_end()), value::shown(word));
                    let how = how.word();
                    return Err(no(format!("it is {shown}; `check` wants {how} {word}")));
                }
            }
        }
        Ok(())
    }
}

fn standard_input() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = |input: StdinLock| input.take(LONGEST + 1).read_to_end(&mut bytes);
    streams::stdin().and_then(read).map_err(|error| {
        Failure::new(Exit::IO, format!("standard input: {error}; nothing was changed"))
    })?;
    let usage = |what: &str| Failure::new(Exit::USAGE, format!("standard input {what}"));
    if bytes.len() as u64 > LONGEST {
        return Err(usage("has more than 64 MiB; split it into several transactions"));
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
        Request::Set { name: name.into(), index: None, json: false, values }
    }

    #[test]
    fn lines_are_quoted_as_in_sh() {
        let add = |by: &str| Request::Add { name: "x".into(), index: None, by: by.into() };
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
            ("set a -", 1),
            ("set --index 1", 1),
            ("set --raw a 1", 1),
            ("check --index 1 a eq 1", 1),
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
