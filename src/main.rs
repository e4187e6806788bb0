//! The command line: a table of contents, no logic.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fencepost::{caps, client, compositor, errors::chain, logging, overlay, trace, watch};

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
    /// Test, rule by rule, whether a compositor synchronises buffers as the protocols say.
    Probe(client::probe::Options),
    /// Take a picture of an output.
    Screenshot(client::screenshot::Options),
    /// Say what the kernel and the devices can, and what follows.
    Caps(caps::Options),
    /// Show what becomes of the surfaces' commits, above all windows; fencepost starts this itself, for Super+F.
    #[command(hide = true)]
    Overlay,
    /// Read a trace: check the invariants, sum it up.
    Trace(trace::command::Options),
    /// Show what a running fencepost waits for, live.
    Watch(watch::Options),
}

fn main() -> ExitCode {
    logging::start();
    let arguments = Arguments::parse();
    match arguments.command.unwrap_or(Command::Run(arguments.run)) {
        Command::Run(options) => finish(compositor::run(&options)),
        Command::Client(options) => finish(client::run(&options)),
        Command::Probe(options) => finish(client::probe::run(&options)),
        Command::Screenshot(options) => finish(client::screenshot::run(&options)),
        Command::Caps(options) => finish(caps::run(&options)),
        Command::Overlay => finish(overlay::run()),
        Command::Trace(options) => finish_with(trace::command::run(&options), trace::command::UNREADABLE),
        Command::Watch(options) => finish(watch::run(&options)),
    }
}

fn finish<E: std::error::Error>(result: Result<ExitCode, E>) -> ExitCode {
    finish_with(result, 1)
}

fn finish_with<E: std::error::Error>(result: Result<ExitCode, E>, failure: u8) -> ExitCode {
    result.unwrap_or_else(|error| {
        complain(&chain(&error));
        ExitCode::from(failure)
    })
}

#[expect(clippy::print_stderr, reason = "the one place that speaks to the person at the terminal")]
fn complain(message: &str) {
    eprintln!("fencepost: {message}");
}
