//! `fencepost probe`: whether a compositor keeps the rules of buffer synchronisation, as far as a client can see.
//!
//! [`verdict`] says what was found, `rates` whether one thing slowed another, `case` what a rule is, `cases` has all of them; `connection`, `app`, `sync_app`, `clock`,
//! `screen` and `machine` are what a case is written with. How to add a rule is in `tests/PROBE.md`.

pub mod verdict;

mod app;
mod case;
mod cases;
mod clock;
mod connection;
mod machine;
mod parameters;
mod rates;
mod screen;
mod sync_app;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::app::App;
use self::case::{Case, is_named};
use self::clock::Clock;
use self::connection::Client;
use self::machine::Machine;
use self::verdict::{Finding, Outcome, Report, Stop};

/// The command line of `fencepost probe`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Name the rules, and test none.
    #[arg(long)]
    pub list: bool,
    /// Test these rules only: an id, or a pattern with `*` and `?`. May be given several times.
    #[arg(long, value_name = "ID|GLOB")]
    pub only: Vec<String>,
    /// The compositor's socket: a name in XDG_RUNTIME_DIR, or a path.
    #[arg(long, env = "WAYLAND_DISPLAY", value_name = "NAME", default_value = "wayland-0")]
    pub display: String,
    /// The DRM device for buffers and syncobjs [default: the one that the compositor names].
    #[arg(long, value_name = "NODE")]
    pub device: Option<PathBuf>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Write a JUnit file, too.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// How long anything may take that has to happen.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
}

/// Why nothing was tested, or nothing was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No compositor.
    #[error("Could not connect to a Wayland compositor at {}", .0.display())]
    Connect(PathBuf, #[source] io::Error),
    /// A pattern without rules.
    #[error("Could not find a rule that {0} names; --list has them all")]
    NoSuchRule(String),
    /// The table or the file.
    #[error("Could not write the report")]
    Report(#[source] io::Error),
}

/// Where the compositor is, and how long it may take to answer.
#[derive(Debug, Clone)]
struct Place {
    socket: PathBuf,
    patience: Duration,
}

/// What a case is given.
struct Probe {
    place: Place,
    machine: Machine,
    clock: Option<Clock>,
}

impl Probe {
    /// A client of its own.
    fn app(&self) -> Result<App, Stop> {
        App::open(&self.place)
    }

    /// The window that is always ready.
    fn clock(&mut self) -> Result<&mut Clock, Stop> {
        // One that is broken was broken by a compositor that has gone, which is found out by the next.
        let clock = match self.clock.take() {
            Some(clock) => clock,
            None => Clock::open(&self.place)?,
        };
        Ok(self.clock.insert(clock))
    }

    /// Lets the compositor show several frames.
    fn settle(&mut self, client: &mut Client) -> Result<(), Stop> {
        self.clock()?.settle(client)
    }

    fn find_out(&mut self, case: &Case) -> Finding {
        let start = Instant::now();
        let mut outcome = case.find_out(self);
        if let Err(gone) = Client::open(&self.place.socket, self.place.patience) {
            self.clock = None;
            if let Stop::Fail(why) = gone {
                outcome = Err(Stop::Fail(format!("{}; after this {why}", seen(outcome))));
            }
        }
        let Case { id, rule, spec, .. } = *case;
        Finding::new((id, rule, spec), outcome, start.elapsed())
    }
}

fn seen(outcome: Outcome) -> String {
    match outcome {
        Ok(seen) | Err(Stop::Fail(seen) | Stop::NotOffered(seen) | Stop::CannotTest(seen)) => seen,
    }
}

/// The cases that `only` names, all of them if it names none.
fn chosen(only: &[String]) -> Result<Vec<Case>, Error> {
    let all: Vec<Case> = cases::all().collect();
    if let Some(pattern) = only.iter().find(|pattern| !all.iter().any(|case| is_named(case.id, pattern))) {
        return Err(Error::NoSuchRule(pattern.clone()));
    }
    let is_chosen = |case: &Case| only.is_empty() || only.iter().any(|pattern| is_named(case.id, pattern));
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// Tests the rules and tells what was found. The exit code is 0 if no rule was seen broken, else 1.
///
/// # Errors
/// Whatever keeps it from testing at all.
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    let cases = chosen(&options.only)?;
    let mut stdout = io::stdout().lock();
    if options.list {
        for Case { id, rule, spec, .. } in cases {
            writeln!(stdout, "{id:<width$}  {rule} [{spec}]", width = verdict::ID_WIDTH)
                .map_err(Error::Report)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let report = examine(options, &cases, |line| match options.json {
        true => Ok(()),
        false => writeln!(stdout, "{line}").and_then(|()| stdout.flush()),
    })?;
    if options.json {
        let json = report.json().map_err(|error| Error::Report(error.into()))?;
        writeln!(stdout, "{json}").map_err(Error::Report)?;
    }
    if let Some(path) = &options.junit {
        fs::write(path, report.junit()).map_err(Error::Report)?;
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tests `cases`, and tells each line of the table when it is known.
fn examine(
    options: &Options,
    cases: &[Case],
    mut tell: impl FnMut(&dyn std::fmt::Display) -> io::Result<()>,
) -> Result<Report, Error> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).unwrap_or_default();
    // A path that is absolute replaces what it is joined to.
    let socket = runtime.join(&options.display);
    connection::connect(&socket).map_err(|error| Error::Connect(socket.clone(), error))?;
    let place = Place { socket, patience: Duration::from_secs(options.timeout.into()) };
    let machine = Machine::find(&place, options);
    let mut report =
        Report { display: options.display.clone(), machine: machine.description(), findings: Vec::new() };
    tell(&report.machine.join(", ")).map_err(Error::Report)?;
    let mut probe = Probe { place, machine, clock: None };
    for case in cases {
        let finding = probe.find_out(case);
        tell(&finding).map_err(Error::Report)?;
        report.findings.push(finding);
    }
    tell(&report.summary()).map_err(Error::Report)?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_case_has_an_id_of_its_own_and_says_its_rule_and_its_spec() {
        let mut ids = HashSet::new();
        for Case { id, rule, spec, .. } in cases::all() {
            assert!(ids.insert(id), "{id} is there twice");
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
            assert!(id.contains('.') && id.chars().all(is_plain), "{id}");
            assert!(rule.split(' ').count() > 3 && !rule.ends_with('.'), "{id}: {rule}");
            assert!(!spec.is_empty(), "{id}");
        }
    }

    #[test]
    fn patterns_choose_and_those_that_name_nothing_are_refused() {
        let all = chosen(&[]).expect("all").len();
        assert_eq!(all, cases::all().count());
        let some = chosen(&["syncobj.s1.*".into(), "*.s2.*".into()]).expect("some");
        assert!(!some.is_empty() && some.len() < all);
        assert!(
            some.iter().all(|case| case.id.starts_with("syncobj.s1.") || case.id.starts_with("syncobj.s2."))
        );
        assert!(matches!(chosen(&["nonsense".into()]), Err(Error::NoSuchRule(_))));
    }
}
