//! Standard output for results, standard error for messages.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use comfy_table::{Attribute, Cell, CellAlignment, ColumnConstraint, Table, Width};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::cli::Color;
use crate::display::visible;
use crate::exit::{Exit, Failure};
use crate::streams;

/// Rows of a table that are in memory at once.
const BLOCK: usize = 1_000;

/// Spaces between two columns.
const GAP: u16 = 2;

/// Standard output, buffered, and whether it takes colour.
pub(crate) struct Output {
    writer: BufWriter<StdoutLock<'static>>,
    color: bool,
}

impl Output {
    pub(crate) fn new(color: Color) -> Output {
        let stdout = io::stdout().lock();
        // The convention of no-color.org: set, and not empty.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => stdout.is_terminal() && !unwanted,
        };
        Output { writer: BufWriter::new(stdout), color }
    }

    /// Text in bold, where that can be shown.
    pub(crate) fn bold(&self, text: &str) -> String {
        match self.color {
            true => format!("\x1b[1m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// Text in red, where that can be shown.
    pub(crate) fn red(&self, text: &str) -> String {
        match self.color {
            true => format!("\x1b[1;31m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// Columns under a header, printed while the rows come. A header that begins with `>` is that of
    /// a column of numbers. Without a row there is no header.
    ///
    /// The first [`BLOCK`] rows decide how wide the columns are; rows that need more make them
    /// wider from their own block on. An error ends it, after the rows before it.
    pub(crate) fn table(
        &mut self,
        header: &[&str],
        mut rows: impl Iterator<Item = Result<Vec<String>, Failure>>,
        titles: bool,
    ) -> Result<(), Failure> {
        let mut widths = vec![0; header.len()];
        let mut failure = None;
        let mut has_header = titles;
        while failure.is_none() {
            let good = |row: Result<_, _>| row.map_err(|error| failure = Some(error)).ok();
            let block: Vec<_> = rows.by_ref().take(BLOCK).map_while(good).collect();
            if block.is_empty() {
                break;
            }
            self.block(header, block, has_header, &mut widths)?;
            has_header = false;
        }
        failure.map_or(Ok(()), Err)
    }

    /// Some rows of a table. `widths` are those of the columns so far.
    fn block(
        &mut self,
        header: &[&str],
        rows: Vec<Vec<String>>,
        has_header: bool,
        widths: &mut Vec<u16>,
    ) -> io::Result<()> {
        let mut table = Table::new();
        // `--color` and NO_COLOR decide; the table must not look at the terminal itself.
        table.force_no_tty();
        table.load_style(comfy_table::presets::NOTHING);
        if self.color {
            table.enforce_styling();
        }
        let title =
            |name: &&str| Cell::new(name.trim_start_matches('>')).add_attribute(Attribute::Bold);
        if has_header {
            table.set_header(header.iter().map(title));
        }
        table.add_rows(rows);
        let needed = table.column_max_content_widths();
        *widths = widths.iter().zip(needed).map(|(before, needed)| needed.max(*before)).collect();
        for ((column, name), width) in table.column_iter_mut().zip(header).zip(widths) {
            column.set_padding((0, GAP));
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width + GAP)));
            if name.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for line in table.lines() {
            writeln!(self, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        streams::check_stdout()?;
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Ends this process quietly as soon as nobody reads its output any more. Without this, a verb
/// that waits would find out only with its next line, which may never come.
pub(crate) fn end_when_nobody_reads() {
    // If no thread can be started, the next line finds out.
    let _ = std::thread::Builder::new().spawn(|| {
        let stdout = io::stdout();
        // Asks for no event: that the other end is gone is reported anyway.
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        let told = loop {
            match poll(&mut fds, None) {
                Err(Errno::INTR) => {}
                told => break told,
            }
        };
        // If poll fails, the next line finds out.
        if told.is_ok() {
            std::process::exit(Exit::DONE.0.into());
        }
    });
}

/// One line on standard error. If it cannot be written, the exit code still tells.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(io::stderr().lock(), "slotfile: {}", visible(message));
}
