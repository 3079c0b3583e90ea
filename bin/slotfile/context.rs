//! What every verb has at hand: the options for all of them, the output, and opening stores.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use slotfile::{BusError, Error, OpenOptions, Recovery, Store};

use crate::cli::Everywhere;
use crate::display::quoted;
use crate::exit::{Exit, Failure};
use crate::listing::is_pattern;
use crate::output::{Output, complain};

/// What every verb has at hand.
pub(crate) struct Context {
    pub(crate) out: Output,
    pub(crate) everywhere: Everywhere,
    /// What was changed; reported if its output cannot be written.
    pub(crate) changed: Option<String>,
    /// What may have been meant; appended to the error message.
    pub(crate) hint: RefCell<Option<String>>,
    /// The stores to close at the end, each with the exit code of its verb's own failures, if the
    /// verb has one.
    pub(crate) opened: RefCell<Vec<(Store, Option<Exit>)>>,
}

impl Context {
    /// The options to open a store with, from the command line.
    pub(crate) fn options(&self) -> OpenOptions {
        let Everywhere { no_sync, lock_timeout, read_only, any_file_system, .. } = self.everywhere;
        let mut options = OpenOptions::new();
        options.read_only(read_only).any_file_system(any_file_system);
        // A run is short, and syncs when it closes: it needs no background thread.
        options.sync_every((!no_sync).then_some(Duration::MAX));
        if lock_timeout.is_some() {
            options.lock_timeout(lock_timeout);
        }
        options
    }

    /// Opens a store, for writing unless `--read-only` was given.
    pub(crate) fn open(&self, file: &Path) -> Result<Store, Failure> {
        Ok(self.open_with(file, &self.options(), None)?)
    }

    /// For the verbs that only read: permission to read is enough.
    pub(crate) fn open_to_read(&self, file: &Path) -> Result<Store, Failure> {
        Ok(self.open_with(file, self.options().read_only(true), None)?)
    }

    /// For the verbs that wait. Opens for writing if allowed, since a process that may write is
    /// woken by a change; others have to poll.
    pub(crate) fn open_to_wait(&self, file: &Path) -> Result<Store, Failure> {
        match self.open_with(file, &self.options(), None) {
            Err(Error::PermissionDenied { .. } | Error::Io { .. }) => self.open_to_read(file),
            opened => Ok(opened?),
        }
    }

    /// Opens a store, and prints what the recovery did, if it did anything. `own_exit` is the exit
    /// code of the verb's own failures, if it has one: for the file being truncated while it is
    /// open, and for a sync that fails at the end.
    pub(crate) fn open_with(
        &self,
        file: &Path,
        options: &OpenOptions,
        own_exit: Option<Exit>,
    ) -> Result<Store, Error> {
        let truncated = own_exit.unwrap_or(Exit::DAMAGED);
        let shown = file.display();
        slotfile::exit_on_bus_error(
            |why| format!("slotfile: {shown}: {}\n", cannot_be_had(why)),
            truncated.0.into(),
        )?;
        let store = options.open(file).inspect_err(|error| self.hint_at_order(file, error))?;
        let dropped = |newer_dropped: bool| match newer_dropped {
            true => "; a newer sync was not completed, or its record cannot be read",
            false => "",
        };
        match store.recovery() {
            Recovery::Restored { epoch, newer_dropped } => self.note(&format!(
                "{shown}: the machine was restarted, or the file copied: restored to sync \
                 {epoch}{}",
                dropped(newer_dropped)
            )),
            Recovery::Frozen { epoch, newer_dropped } => self.note(&format!(
                "{shown}: the machine was restarted, or the file copied, and it cannot be written: \
                 this is sync {epoch}, read into memory{}",
                dropped(newer_dropped)
            )),
            Recovery::Emptied => self.note(&format!(
                "{shown}: emptied: it was made with --no-checkpoint, and the machine was \
                 restarted, or the file copied; `slotfile copy` makes copies that keep their \
                 content"
            )),
            _ => {}
        }
        self.opened.borrow_mut().push((store.clone(), own_exit));
        Ok(store)
    }

    /// Closes the stores that were opened. A sync that fails then is a failure of this run.
    pub(crate) fn close(&self) -> Result<(), Failure> {
        for (store, own_exit) in self.opened.take() {
            let shown = store.path().display().to_string();
            store.close().map_err(|error| {
                let what = "the changes were made, but would not survive a power cut";
                Failure::new(
                    own_exit.unwrap_or_else(|| Exit::from(&error)),
                    format!("{shown}: not synced: {what}: {error}"),
                )
            })?;
        }
        Ok(())
    }

    /// Notes which slot may have been meant by a name that none has. In a large store only for a
    /// person: the look at all names would take a script longer than all that it asked for.
    pub(crate) fn hint_at_slot(&self, name: &str) {
        if let Some(hint) = self.hint_at_form(name) {
            *self.hint.borrow_mut() = Some(hint);
            return;
        }
        let most = if std::io::stderr().is_terminal() { usize::MAX } else { 1_000 };
        let meant =
            self.opened.borrow().iter().find_map(|(store, _)| store.closest_name(name, most));
        if let Some(meant) = meant {
            *self.hint.borrow_mut() = Some(format!("did you mean {meant:?}?"));
        }
    }

    /// What was probably meant by a word that no slot has as its name, if it does not look like one.
    fn hint_at_form(&self, name: &str) -> Option<String> {
        if name.starts_with('-') {
            return Some("options come before FILE".into());
        }
        if let Some((array, index)) = name.split_once('[')
            && self.opened.borrow().iter().any(|(store, _)| store.slot(array).is_ok())
        {
            let index = index.trim_end_matches(']');
            return Some(format!("--index {index} before FILE means an element of {array:?}"));
        }
        is_pattern(name).then(|| "this takes a name; `slotfile ls FILE GLOB` lists several".into())
    }

    /// `slotfile set FILE NAME 5 --no-sync`: an easy slip, as what follows FILE is data.
    pub(crate) fn hint_at_options<'a>(&self, mut data: impl Iterator<Item = &'a str>) {
        if data.any(|word| word.starts_with("--")) {
            *self.hint.borrow_mut() = Some("options come before FILE".into());
        }
    }

    /// `slotfile get hits state.slots`: an easy slip.
    fn hint_at_order(&self, file: &Path, error: &Error) {
        let is_missing = matches!(error, Error::NotFound { slot: None, link: None, .. });
        let words: Vec<OsString> = std::env::args_os().collect();
        let at = words.iter().position(|word| word.as_os_str() == file.as_os_str());
        let next = at.and_then(|at| words.get(at + 1)).map(Path::new);
        if let Some(next) = next.filter(|next| is_missing && next.is_file()) {
            let next = quoted(&next.to_string_lossy());
            let hint = format!("FILE comes first, and {next} is a file");
            *self.hint.borrow_mut() = Some(hint);
        }
    }

    /// Shows how many bytes of a store's contents are done, if standard error is a terminal.
    pub(crate) fn progress(&self, done: &str, store: &Store) -> Result<Progress, Failure> {
        if self.everywhere.quiet {
            return Ok(Progress { bar: ProgressBar::hidden(), all: 0 });
        }
        let all = store.slots()?.iter().map(|slot| slot.size() as u64).sum();
        let template = "{spinner} {bytes} of {total_bytes} {msg} ({bytes_per_sec})";
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::new(all)
            // The default ones are not ASCII.
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).tick_chars(r"|/-\ "))
            .with_message(done.to_owned());
        // Keeps turning while nothing is counted, as while the disk writes. That needs a thread;
        // the call would panic without one, so try first.
        if !bar.is_hidden() && std::thread::Builder::new().spawn(|| ()).is_ok() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Ok(Progress { bar, all })
    }

    /// A message for people, not a result.
    pub(crate) fn note(&self, message: &str) {
        if !self.everywhere.quiet {
            complain(message);
        }
    }
}

/// A progress bar, removed when dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    all: u64,
}

impl Progress {
    /// Bytes that change meanwhile are counted twice, so there may be more than `all`.
    pub(crate) fn set(&self, bytes: u64) {
        self.bar.set_position(bytes.min(self.all));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What is wrong with the file, and what to do.
fn cannot_be_had(why: BusError) -> &'static str {
    match why {
        BusError::Truncated => "the file was truncated while it was open: restore it from a copy",
        BusError::Unreadable => {
            "the disk cannot read a part of the file (see `dmesg`): restart the machine, or \
             unmount and mount its file system, so that the last sync is restored; or restore a \
             copy"
        }
        BusError::NoBlock => {
            "the disk is full, and a part of the file has no block of its own, as after a copy \
             with `cp`: make room"
        }
        _ => {
            "a part of the file cannot be accessed: it was truncated, or the disk cannot read it \
             (see `dmesg`), or the disk is full"
        }
    }
}
