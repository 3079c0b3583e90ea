//! `add`: adds to a number, atomically.

use std::io::Write;
use std::path::Path;

use slotfile::Scalar;

use crate::cli::Add;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::values::addition::{self, Step};

pub(super) fn run(context: &mut Context, args: Add) -> Result<Exit, Failure> {
    let mut words = args.words.read();
    let file = words.file()?;
    let name = words.word("NAME")?;
    let text = words.optional()?.unwrap_or_else(|| "1".into());
    words.end()?;

    let store = context.open(&file)?;
    let slot = store.slot(&name)?;
    let fail = |(exit, what): (Exit, String)| Failure::of_slot(exit, &file, &name, what);
    let (scalar, range) =
        addition::target(slot.slot_type(), args.index.as_deref()).map_err(fail)?;
    let by = Step::parse(&text, scalar).map_err(|what| {
        context.hint_at_options([text.as_str()].into_iter());
        fail((Exit::USAGE, what))
    })?;
    if let Some(counter) = slot.counter() {
        let Step::Integer(by) = by else { unreachable!("a counter takes whole numbers") };
        let too_much =
            || fail((Exit::USAGE, format!("it is a counter, and {text} exceeds an i64")));
        counter.add(i64::try_from(by).map_err(|_| too_much())?)?;
        let new = counter.load();
        return added(context, &file, &name, Scalar::I64(new));
    }
    let new = slot.update_range(range, |elements| {
        let old = elements.get(0).unwrap_or(Scalar::zero(scalar));
        let overflow = || fail((Exit::NO, addition::overflow(old, &text, scalar)));
        let new = by.from(old).ok_or_else(overflow)?;
        elements.set(0, new);
        Ok::<_, Failure>(new)
    })?;
    added(context, &file, &name, new)
}

fn added(context: &mut Context, file: &Path, name: &str, new: Scalar) -> Result<Exit, Failure> {
    let what = format!("{}: slot {name:?} WAS changed: it is {new} now", file.display());
    context.changed = Some(what);
    writeln!(context.out, "{new}")?;
    Ok(Exit::DONE)
}
