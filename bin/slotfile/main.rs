//! The command line of slotfile. It uses the library's public interface only.

mod cli;
mod commands;
mod compare;
mod exit;
mod index;
mod input;
mod json;
mod output;
mod value;
mod words;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let exit = match cli::Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(error) => cli::explain(&error),
    };
    ExitCode::from(exit.0)
}
