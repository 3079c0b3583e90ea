//! Verifying a store: its structure and locks (`structure.rs`), its texts (`text.rs`), its
//! checkpoint (`checkpoint.rs`), and its contents, compared with the checkpoint (`contents.rs`).

mod checkpoint;
mod contents;
mod structure;
mod text;

pub(crate) use text::is_utf8;

use std::time::Duration;

use self::structure::{Structure, check_table};

use crate::attachment::attach::Attachment;
use crate::attachment::descriptors;
use crate::error::{Error, Result};

/// What [`Store::check`](crate::Store::check) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What could not be verified, and why.
    pub unverified: Vec<String>,
}

/// Something that is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The slot that it concerns, if any.
    pub slot: Option<String>,
    /// What was expected and what was found.
    pub what: String,
}

impl Check {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Verifies everything that can be verified.
pub(crate) fn check(
    attachment: &Attachment,
    timeout: Option<Duration>,
    progress: &mut dyn FnMut(u64),
) -> Result<Check> {
    let mut check = Check::default();
    let mut structure = Structure::new(attachment);
    let mut done = 0;
    let walked = descriptors::each(attachment, |descriptor| {
        structure.add(&descriptor, &mut check);
        done += descriptor.content_len;
        progress(done);
        Ok(())
    });
    structure.add_tiers(&mut check)?;
    match walked {
        Ok(()) => structure.check_ends(&mut check)?,
        Err(error) => check.note_error(error)?,
    }
    structure.check_locks(&mut check);
    structure.look_again(&mut check);
    structure.check_overlaps(&mut check);
    check_table(attachment, &mut check);
    if attachment.has_strange_superseded() {
        check.note(None, "the word that says whether it was compacted says neither yes nor no");
    }
    if structure.steps_left == 0 {
        let what =
            "whether the index leads to each slot: it has far more entries than there are slots";
        check.unverified.push(what.into());
    }
    if !structure.busy.is_empty() {
        let what = "areas that are not current, of slots that others had locked";
        let busy: Vec<String> = structure.busy.into_iter().map(|(slot, _)| slot.name).collect();
        check.unverified.push(contents::list(what, &busy));
    }
    if attachment.header.has_checkpoint() {
        checkpoint::check(attachment, timeout, &mut check)?;
    } else if !structure.there.is_empty() {
        check
            .unverified
            .push("contents: a store without checkpoints has no checksums of them".into());
    }
    Ok(check)
}

impl Check {
    fn note(&mut self, slot: Option<&str>, what: impl Into<String>) {
        self.problems.push(Problem { slot: slot.map(str::to_owned), what: what.into() });
    }

    /// Notes what an error says of a damaged file. Any other error ends the check.
    fn note_error(&mut self, error: Error) -> Result<()> {
        let slot = match &error {
            Error::Corrupt { slot, .. } => slot.clone(),
            _ => None,
        };
        self.note(slot.as_deref(), error_text(error)?);
        Ok(())
    }
}

/// What an error says of a damaged file. Any other error ends the check.
fn error_text(error: Error) -> Result<String> {
    match error {
        Error::Corrupt { what, .. } => Ok(what),
        Error::Truncated { have, need, .. } => {
            Ok(format!("the file has {have} bytes and should have at least {need}"))
        }
        other => Err(other),
    }
}
