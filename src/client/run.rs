//! The run from its first configure to its end: which phase it is in, how long it waits, what it reports.

use std::io::{self, Write};
use std::time::Duration;

use calloop::RegistrationToken;
use calloop::timer::{TimeoutAction, Timer};

use super::Error;
use super::frames::{Client, now_ns};
use super::stats::Report;
use super::swapchain::Size;
use crate::errors::chain;

/// How far the run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before the first configure.
    Opening,
    /// Frame after frame.
    Showing,
    /// All frames are committed; some have not been answered.
    Answering,
    /// The surface is destroyed; some buffers are not back.
    Draining,
    /// Nothing more to wait for.
    Over,
}

/// Where the run is.
pub(super) struct Run {
    pub(super) phase: Phase,
    pub(super) size: Size,
    pub(super) frame_wanted: bool,
    pub(super) limit: Option<RegistrationToken>,
    pub(super) clock_is_monotonic: bool,
    pub(super) started_ns: Option<u64>,
    /// Whether what is shown is not to be counted yet.
    pub(super) warming_up: bool,
    pub(super) released_by_fence: u64,
    pub(super) errors: Vec<String>,
}

impl Run {
    /// Waiting for its first configure.
    pub(super) fn new(size: Size, warming_up: bool) -> Self {
        Self {
            phase: Phase::Opening,
            size,
            frame_wanted: true,
            limit: None,
            clock_is_monotonic: true,
            started_ns: None,
            warming_up,
            released_by_fence: 0,
            errors: Vec::new(),
        }
    }
}

impl Client {
    /// Whether there is nothing more to wait for.
    pub(super) fn is_over(&self) -> bool {
        self.run.phase == Phase::Over
    }

    /// From now on frames count; whoever measures something else meanwhile is told.
    pub(super) fn warmed_up(&mut self) {
        self.run.warming_up = false;
        self.ledger.start_over();
        self.run.started_ns = Some(now_ns());
        if self.options.json
            && let Err(error) = writeln!(io::stdout(), r#"{{"warmed_up":true}}"#)
        {
            self.fail(Error::Report(error));
        }
    }

    /// Ends the run: the surface goes, and with it every reason to keep a buffer.
    pub(super) fn close(&mut self) {
        if matches!(self.run.phase, Phase::Draining | Phase::Over) {
            return;
        }
        self.stop_limit();
        self.window.close();
        self.ledger.surface_gone();
        if self.swapchain.busy().is_empty() {
            self.run.phase = Phase::Over;
            return;
        }
        self.run.phase = Phase::Draining;
        if let Err(error) = self.start_limit() {
            self.fail(error);
        }
    }

    /// Ends the run at once, with a reason.
    pub(super) fn fail(&mut self, error: Error) {
        self.run.errors.push(chain(&error));
        self.run.phase = Phase::Over;
    }

    pub(super) fn start_limit(&mut self) -> Result<(), Error> {
        self.stop_limit();
        let limit = Duration::from_secs(self.options.busy_limit_s.into());
        self.run.limit = Some(self.after(limit, |client| {
            client.run.limit = None;
            client.limit_reached();
        })?);
        Ok(())
    }

    pub(super) fn stop_limit(&mut self) {
        if let Some(token) = self.run.limit.take() {
            self.handle.remove(token);
        }
    }

    fn limit_reached(&mut self) {
        let commits = self.swapchain.busy();
        match self.run.phase {
            Phase::Showing => self.fail(Error::AllBusy { commits, seconds: self.options.busy_limit_s }),
            // A window that is not seen need not be answered.
            Phase::Answering => self.close(),
            Phase::Draining => {
                self.ledger.never_released(commits);
                self.run.phase = Phase::Over;
            }
            Phase::Opening | Phase::Over => {}
        }
    }

    /// Calls `then` after `delay`.
    pub(super) fn after(
        &self,
        delay: Duration,
        then: impl FnOnce(&mut Client) + 'static,
    ) -> Result<RegistrationToken, Error> {
        let mut then = Some(then);
        let callback = move |_, (): &mut (), client: &mut Client| {
            if let Some(then) = then.take() {
                then(client);
            }
            TimeoutAction::Drop
        };
        let timer = self.handle.insert_source(Timer::from_duration(delay), callback);
        timer.map_err(|error| Error::Loop(error.error))
    }

    /// What there is to say about the compositor.
    pub(super) fn report(&self) -> Report {
        let Self { ledger, run, options, .. } = self;
        let since = |start: u64| now_ns().saturating_sub(start) / 1_000_000;
        Report {
            sync: name(&options.sync),
            source: name(&options.source),
            size: run.size,
            duration_ms: run.started_ns.map_or(0, since),
            committed: ledger.committed,
            presented: ledger.presented,
            zero_copy: ledger.zero_copy,
            missed_vblanks: ledger.missed_vblanks,
            discarded: ledger.discarded,
            released: ledger.released,
            released_by_fence: run.released_by_fence,
            commit_to_present_us: ledger.to_present.summary(),
            commit_to_present_refreshes: ledger.to_present_refreshes.summary(),
            between_presents_us: ledger.between_presents.summary(),
            commit_to_release_us: ledger.to_release.summary(),
            commit_to_ready_us: ledger.to_ready.summary(),
            violations: ledger.violations.iter().map(ToString::to_string).collect(),
            errors: run.errors.clone(),
            commits: ledger.each.clone(),
        }
    }
}

fn name(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
