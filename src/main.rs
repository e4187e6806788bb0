//! The command line: a table of contents, no logic.

use std::{io::IsTerminal, process::ExitCode};

use clap::{Parser, Subcommand};
use fencepost::{client, compositor};
use tracing_subscriber::EnvFilter;

/// A Wayland compositor that is the reference for buffer synchronisation on Linux.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: compositor::Options,
}

#[derive(Subcommand)]
enum Command {
    /// Run the compositor (also without a command).
    Run(compositor::Options),
    /// Run the reference client, which accuses its compositor.
    Client(client::Options),
}

fn main() -> ExitCode {
    // EGL logs what it refuses as an error of ours; whoever asked for it says what follows from that.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,smithay=warn,smithay::backend::egl=off"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    match arguments.command.unwrap_or(Command::Run(arguments.run)) {
        Command::Run(options) => finish(compositor::run(&options)),
        Command::Client(options) => finish(client::run(&options)),
    }
}

fn finish<E: std::error::Error>(result: Result<ExitCode, E>) -> ExitCode {
    result.unwrap_or_else(|error| {
        let mut chain = vec![error.to_string()];
        let mut source = error.source();
        while let Some(error) = source {
            chain.push(error.to_string());
            source = error.source();
        }
        complain(&chain.join(": "));
        ExitCode::FAILURE
    })
}

#[expect(clippy::print_stderr, reason = "the one place that speaks to the person at the terminal")]
fn complain(message: &str) {
    eprintln!("fencepost: {message}");
}
