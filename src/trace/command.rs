//! `fencepost trace`: what a person asks of a trace.
//!
//! Owns the command line and the exit status. What is found is the [audit](super::audit)'s and the
//! [summary](super::summary)'s.

use std::{
    fs::File,
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{
    audit::{self, Report},
    file::{ReadError, Trace},
    perfetto,
    story::Story,
    summary::summarise,
};

/// The command line of `fencepost trace`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    /// Hold a trace against the invariants. The exit status is 1 if one is broken, and 2 if the trace cannot be read.
    Check {
        /// JSON lines, as --trace or SIGUSR1 write them.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Translate a trace for ui.perfetto.dev.
    Convert {
        /// JSON lines, as --trace or SIGUSR1 write them.
        #[arg(value_name = "IN")]
        file: PathBuf,
        /// The translation, as a .pftrace file.
        #[arg(value_name = "OUT.pftrace")]
        to: PathBuf,
    },
    /// How long each step took, per surface and per output.
    Summary {
        /// JSON lines, as --trace or SIGUSR1 write them.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// One JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is no trace.
    #[error("{file}")]
    Read {
        /// Its name.
        file: String,
        /// What is wrong.
        #[source]
        error: ReadError,
    },
    /// Where the answer goes is closed, full or not there.
    #[error("could not write the answer")]
    Print(#[from] io::Error),
}

/// The exit status where there is no answer: 1 is an answer.
pub const UNREADABLE: u8 = 2;

/// Answers.
///
/// # Errors
/// [`Error`], which is to end with status [`UNREADABLE`].
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    let mut out = io::stdout().lock();
    match &options.command {
        Command::Check { file } => {
            let trace = read(file)?;
            let report = audit::audit(&trace);
            tell(&mut out, &trace, &report)?;
            Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Convert { file, to } => {
            let story = Story::of(&read(file)?);
            perfetto::write(&story, &mut File::create(to)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Summary { file, json } => {
            let summary = summarise(&Story::of(&read(file)?));
            match json {
                true => {
                    serde_json::to_writer(&mut out, &summary).map_err(io::Error::from)?;
                    writeln!(out)?;
                }
                false => summary.print(&mut out)?,
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn read(path: &Path) -> Result<Trace, Error> {
    let error = |error| Error::Read { file: path.display().to_string(), error };
    let file = File::open(path).map_err(|why| error(why.into()))?;
    Trace::read(BufReader::new(file)).map_err(error)
}

fn tell(out: &mut impl Write, trace: &Trace, report: &Report) -> io::Result<()> {
    let story = Story::of(trace);
    for violation in &report.violations {
        let at_least = if violation.at_least { "at least " } else { "" };
        writeln!(
            out,
            "{}: {} {}: by {at_least}{}.{:06} ms",
            violation.rule,
            audit::name(&story, violation.commit),
            violation.what,
            violation.by / 1_000_000,
            violation.by % 1_000_000,
        )?;
    }
    let Report {
        violations,
        commits,
        frames,
        unknown_acquires,
        unknown_passes,
        unknown_releases,
        to_the_end,
    } = report;
    writeln!(out, "{commits} commits, {frames} frames, {} violations", violations.len())?;
    if trace.header.lost > 0 || trace.gaps > 0 {
        writeln!(out, "not there: {} events before the first, {} in between", trace.header.lost, trace.gaps)?;
    }
    let unknown = unknown_acquires + unknown_passes + unknown_releases;
    if unknown > 0 {
        writeln!(
            out,
            "not checked, for want of the kernel's times: {unknown_acquires} acquires, {unknown_passes} passes, {unknown_releases} releases"
        )?;
    }
    if !to_the_end {
        writeln!(out, "not checked: that every release came (I3), since the run goes on after the trace")?;
    }
    Ok(())
}
