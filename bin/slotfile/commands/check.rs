//! `check`: verifies everything that can be verified.

use std::io::{self, Write};

use serde_json::json;
use slotfile::Check;

use crate::cli::Info;
use crate::context::Context;
use crate::display::{quoted, visible};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(context: &mut Context, args: Info) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    words.end()?;
    let store = context.open_to_read(&file)?;
    let progress = context.progress("verified", &store)?;
    let check = store.check_with(|bytes| progress.set(bytes))?;
    drop(progress);
    let exit = if check.is_ok() { Exit::DONE } else { Exit::DAMAGED };
    exit.printed(print(&mut context.out, &check, args.json))
}

fn print(out: &mut Output, check: &Check, json: bool) -> io::Result<()> {
    if json {
        let problems: Vec<_> = check
            .problems
            .iter()
            .map(|problem| json!({ "slot": problem.slot, "what": problem.what }))
            .collect();
        let object = json!({
            "ok": check.is_ok(),
            "problems": problems,
            "unverified": check.unverified,
        });
        writeln!(out, "{object}")?;
    } else {
        for problem in &check.problems {
            match &problem.slot {
                Some(slot) => {
                    writeln!(out, "problem     slot {}: {}", quoted(slot), visible(&problem.what))?;
                }
                None => writeln!(out, "problem     {}", visible(&problem.what))?,
            }
        }
        for what in &check.unverified {
            writeln!(out, "unverified  {}", visible(what))?;
        }
        if check.is_ok() {
            writeln!(out, "ok          nothing is wrong")?;
        }
    }
    Ok(())
}
