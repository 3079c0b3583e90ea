//! The words from FILE on, taken one by one.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::exit::{Exit, Failure};

/// The words from FILE on. All are data, whatever they begin with, so clap sees one list, and
/// they are told apart here.
#[derive(Args)]
pub(crate) struct Words {
    #[arg(value_name = "FILE", hide = true, required = true, trailing_var_arg = true)]
    words: Vec<OsString>,
}

/// The words of one verb, taken one by one.
pub(crate) struct Reader {
    left: std::vec::IntoIter<OsString>,
    /// Whether a word was taken that looks like an option.
    option_taken: bool,
}

impl Words {
    pub(crate) fn read(self) -> Reader {
        Reader { left: self.words.into_iter(), option_taken: false }
    }
}

impl Reader {
    pub(crate) fn file(&mut self) -> Result<PathBuf, Failure> {
        self.path("FILE")
    }

    /// A path, which need not be UTF-8.
    pub(crate) fn path(&mut self, what: &str) -> Result<PathBuf, Failure> {
        let word = self.left.next().ok_or_else(|| missing(what))?;
        match word.as_encoded_bytes() {
            b"" => Err(Failure::of_words(format!("{what} is empty"))),
            b"-" => Err(Failure::new(
                Exit::USAGE,
                format!("`-` cannot be {what}: a store is a file; write ./- if that is its name"),
            )),
            _ => Ok(word.into()),
        }
    }

    pub(crate) fn word(&mut self, what: &str) -> Result<String, Failure> {
        let word = self.left.next().ok_or_else(|| missing(what))?;
        self.option_taken |= word.as_encoded_bytes().starts_with(b"--");
        utf8(what, word)
    }

    pub(crate) fn optional(&mut self) -> Result<Option<String>, Failure> {
        self.left.next().map(|word| utf8("the word", word)).transpose()
    }

    /// All that are left.
    pub(crate) fn rest(self) -> Result<Vec<String>, Failure> {
        self.left.map(|word| utf8("the word", word)).collect()
    }

    /// All that are left, which need not be UTF-8.
    pub(crate) fn raw_rest(self) -> Vec<OsString> {
        self.left.collect()
    }

    /// Refuses what is left.
    pub(crate) fn end(self) -> Result<(), Failure> {
        self.end_with("quote a word that has spaces")
    }

    /// The same, with this advice.
    pub(crate) fn end_with(mut self, advice: &str) -> Result<(), Failure> {
        let Some(word) = self.left.next() else {
            return Ok(());
        };
        // `slotfile get FILE NAME --json` is an easy slip, and hard to see.
        let is_option = word.as_encoded_bytes().starts_with(b"-");
        let advice = match is_option || self.option_taken {
            true => "options come before FILE",
            false => advice,
        };
        Err(Failure::of_words(format!("{word:?} is one word too many: {advice}")))
    }
}

fn missing(what: &str) -> Failure {
    Failure::of_words(format!("{what} is missing"))
}

fn utf8(what: &str, word: OsString) -> Result<String, Failure> {
    let not_text = |word| Failure::new(Exit::USAGE, format!("{what} {word:?} is not UTF-8"));
    word.into_string().map_err(not_text)
}
