//! `info`: what the store is, and which processes have it open.

use std::io::Write;

use serde_json::json;
use slotfile::AttachedProcess;

use crate::cli::Info;
use crate::context::Context;
use crate::display::visible;
use crate::exit::{Exit, Failure};

pub(super) fn run(context: &mut Context, args: Info) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    words.end()?;
    let info = context.open_to_read(&file)?.info()?;
    let format = format!("{}.{}", info.format.0, info.format.1);
    let out = &mut context.out;
    if args.json {
        let openers: Vec<_> = info
            .open_by
            .iter()
            .map(|opener| {
                let AttachedProcess { pid, command, state, .. } = opener;
                json!({ "pid": pid, "command": command, "state": state.to_string() })
            })
            .collect();
        let object = json!({
            "path": info.path.to_string_lossy(),
            "format": format,
            "size": info.size,
            "allocated": info.allocated,
            "max_size": info.max_size,
            "slots": info.slots,
            "definitions_left": info.definitions_left,
            "max_slots": info.max_slots,
            "free": info.free,
            "open_by": openers,
            "failed_sync": info.failed_sync.map(|failed| failed.to_string()),
            "detached": info.detached.map(|how| how.to_string()),
            "last_sync": info.last_sync.map(event),
            "unsynced": info.unsynced,
            "recovery": info.last_recovery.map(event),
        });
        writeln!(out, "{object}")?;
        return Ok(Exit::DONE);
    }
    writeln!(out, "path       {}", visible(&info.path.to_string_lossy()))?;
    if let Some(how) = info.detached {
        writeln!(out, "detached   {how}")?;
    }
    writeln!(out, "format     {format}")?;
    writeln!(out, "size       {}, {} of it on disk", bytes(info.size), bytes(info.allocated))?;
    writeln!(out, "room       {} more, up to {}", bytes(info.free), bytes(info.max_size))?;
    let mut removed = match info.removed {
        0 => String::new(),
        removed => format!("; {removed} removed slots count until `slotfile compact`"),
    };
    if info.slots + info.removed + info.definitions_left < info.max_slots {
        removed += "; long docs have used up most of the directory";
    }
    writeln!(
        out,
        "slots      {} of {}, {} more can be defined{removed}",
        info.slots, info.max_slots, info.definitions_left
    )?;
    match (info.unsynced, info.last_sync) {
        (None, _) => writeln!(out, "last sync  none: it keeps no checkpoints")?,
        (Some(changed), last) => {
            let last =
                last.map_or(NEVER.into(), |last| format!("{} (sync {})", age(last.at), last.epoch));
            writeln!(out, "last sync  {last}; {changed} slots have changed since")?;
        }
    }
    if let Some(failed) = info.failed_sync {
        writeln!(out, "failed     {}: {failed}", age(failed.at))?;
    }
    if let Some(last) = info.last_recovery {
        writeln!(out, "restored   {}, to sync {}", age(last.at), last.epoch)?;
    }
    for (at, opener) in info.open_by.iter().enumerate() {
        let title = if at == 0 { "open by" } else { "" };
        writeln!(out, "{title:10} {opener}")?;
    }
    if info.open_by.is_empty() {
        writeln!(out, "open by    no process that writes")?;
    }
    Ok(Exit::DONE)
}

/// There is no date of a sync: it is dropped when the machine starts.
const NEVER: &str = "none since it was created, or since the machine was started";

/// An object with the time in seconds since 1970, which every language can read.
fn event(event: slotfile::SyncPoint) -> serde_json::Value {
    let at = event.at.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({ "sync": event.epoch, "time": at })
}

/// `5 s ago`.
fn age(at: std::time::SystemTime) -> String {
    let seconds = at.elapsed().map_or(0, |age| age.as_secs());
    let units = [(86_400, "days"), (3_600, "h"), (60, "min")];
    match units.into_iter().find(|(length, _)| seconds >= 2 * length) {
        Some((length, unit)) => format!("{} {unit} ago", seconds / length),
        None => format!("{seconds} s ago"),
    }
}

/// `4096 bytes`, `1.5 MiB`.
fn bytes(count: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| count >= 1 << shift) {
        Some((shift, unit)) => {
            let number = format!("{:.1}", count as f64 / (1u64 << shift) as f64);
            format!("{} {unit}", number.trim_end_matches(".0"))
        }
        None => format!("{count} bytes"),
    }
}
