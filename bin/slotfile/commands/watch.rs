//! `watch`: a line each time a slot has a new version.

use std::io::Write;
use std::time::{Instant, SystemTime};

use slotfile::Change;

use super::Context;
use super::ls::shortened_data;
use crate::cli::Watch;
use crate::exit::{Exit, Failure};
use crate::json;
use crate::output::{Output, end_when_nobody_reads};

pub(super) fn run(context: &mut Context, args: Watch) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    let pattern = words.optional()?;
    words.end()?;
    let pattern = pattern.as_deref().unwrap_or("*");
    // A time that no clock can tell is for ever.
    let until = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let count = args.count.unwrap_or(u64::MAX);

    let store = context.open_to_wait(&file)?;
    let mut watch = store.watch(pattern)?;
    if args.initial {
        watch = watch.with_present();
    }
    end_when_nobody_reads();
    let mut printed = 0;
    while printed < count {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Changes may come faster than they can be printed.
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

fn write(out: &mut Output, change: &Change, json: bool) -> Result<(), Failure> {
    let Change { slot, version, content, .. } = change;
    if json {
        let time = humantime::format_rfc3339_micros(SystemTime::now());
        write!(out, "{{")?;
        json::write_slot(out, slot.name(), slot.slot_type(), *version, content)?;
        writeln!(out, r#","time":"{time}"}}"#)?;
    } else {
        writeln!(out, "{}  {version}  {}", slot.name(), shortened_data(content))?;
    }
    Ok(())
}
