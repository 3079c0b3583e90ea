//! The command line of slotfile. It uses the library's public interface only.

mod cli;
mod commands;
mod context;
mod display;
mod exit;
mod listing;
mod output;
mod streams;
mod usage;
mod values;
mod words;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let exit = match cli::Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(error) => usage::explain(&error),
    };
    ExitCode::from(exit.0)
}
