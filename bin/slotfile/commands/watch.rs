//! `watch`: prints a line each time a slot has a new version.

use std::io::Write;
use std::time::{Instant, SystemTime};

use slotfile::{SlotChange, SlotType, Store};

use crate::cli::Watch;
use crate::context::Context;
use crate::display;
use crate::exit::{Exit, Failure};
use crate::listing;
use crate::listing::is_pattern;
use crate::output::{Output, end_when_nobody_reads};
use crate::streams;
use crate::values::json;

pub(super) fn run(context: &mut Context, args: Watch) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    let pattern = words.optional()?;
    words.end_with("watch takes one GLOB; quote it, or the shell expands it")?;
    let pattern = pattern.as_deref().unwrap_or("*");
    // A time beyond the clock's range is forever.
    let until = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let count = args.count.unwrap_or(u64::MAX);

    let store = context.open_to_wait(&file)?;
    let mut watch = store.watch(pattern)?;
    if args.initial {
        watch = watch.with_present();
    }
    streams::check_stdout()?;
    if store.list(pattern)?.next().is_none() {
        say_that_none_matches(context, &store, pattern);
    }
    say_that_adds_are_not_seen(context, &store, pattern)?;
    end_when_nobody_reads();
    let mut printed = 0;
    while printed < count {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Changes may come faster than they are printed, so that `next` never times out.
        let over = printed > 0 && left.is_some_and(|left| left.is_zero());
        let Some(change) = (if over { None } else { watch.next(left)? }) else {
            return Ok(if args.count.is_some() { Exit::NO } else { Exit::DONE });
        };
        write(&mut context.out, &change, args.json)?;
        context.out.flush()?;
        printed += 1;
    }
    Ok(Exit::DONE)
}

/// Says that there is nothing to watch yet, as a misspelt name would wait for ever.
fn say_that_none_matches(context: &Context, store: &Store, pattern: &str) {
    let quoted = display::quoted(pattern);
    let none = match pattern {
        "*" => "no slots yet".into(),
        pattern if is_pattern(pattern) => format!("no slot matches {quoted} yet"),
        name => {
            context.hint_at_slot(name);
            format!("no slot {quoted} yet")
        }
    };
    let hint = context.hint.take().map(|hint| format!("; {hint}")).unwrap_or_default();
    let file = store.path().display();
    context.note(&format!("{file}: {none}: waiting until one is defined{hint}"));
}

/// Says so of the counters that match: they would seem to stand still.
fn say_that_adds_are_not_seen(
    context: &Context,
    store: &Store,
    pattern: &str,
) -> Result<(), Failure> {
    for slot in store.list(pattern)? {
        let slot = slot?;
        if *slot.slot_type() == SlotType::Counter {
            let (file, name) = (store.path().display(), display::quoted(slot.name()));
            context.note(&format!(
                "{file}: adds to counters print no line, as they wake nobody: {name}, and others if \
                 there are any; `slotfile get` prints one from time to time"
            ));
            break;
        }
    }
    Ok(())
}

fn write(out: &mut Output, change: &SlotChange, json: bool) -> Result<(), Failure> {
    let SlotChange { slot, version, content, removed, .. } = change;
    let (name, slot_type) = (slot.name(), slot.slot_type());
    let time = humantime::format_rfc3339_micros(SystemTime::now());
    if json && *removed {
        let (name, slot_type) = (json::string(name), json::string(&slot_type.to_string()));
        writeln!(out, r#"{{"name":{name},"type":{slot_type},"removed":true,"time":"{time}"}}"#)?;
    } else if json {
        write!(out, "{{")?;
        json::write_slot(out, name, slot_type, *version, content)?;
        writeln!(out, r#","time":"{time}"}}"#)?;
    } else if *removed {
        writeln!(out, "{}  removed", display::name(name))?;
    } else {
        writeln!(out, "{}  {version}  {}", display::name(name), listing::shortened_data(content))?;
    }
    Ok(())
}
