//! commit-timing-v1: a content update is not shown before its time.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use wayland_protocols::wp::commit_timing::v1::client::wp_commit_timer_v1::{Error, WpCommitTimerV1};
use wayland_protocols::wp::commit_timing::v1::client::wp_commit_timing_manager_v1::{
    Error as ManagerError, WpCommitTimingManagerV1,
};

use crate::client::probe::Probe;
use crate::client::probe::app::{App, Fate, Watched, Window};
use crate::client::probe::case::{Case, case};
use crate::client::probe::connection::Inbox;
use crate::client::probe::verdict::{Outcome, Stop};
use crate::halves::halves;

const GET: &str = "commit-timing-v1: wp_commit_timing_manager_v1.get_timer";
const DESTROY: &str = "commit-timing-v1: wp_commit_timer_v1.destroy";
const SET: &str = "commit-timing-v1: wp_commit_timer_v1.set_timestamp";
const ORDER: &str =
    "commit-timing-v1: wp_commit_timing_manager_v1, \"applied in the order they are received\"";

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("commit-timing.second", "a second timer for a surface is commit_timer_exists, on the manager", GET, second),
    case("commit-timing.again", "a surface may have a new timer when the old one is destroyed", DESTROY, again),
    case("commit-timing.nanoseconds", "10^9 nanoseconds are invalid_timestamp", SET, nanoseconds),
    case("commit-timing.twice", "a second time for one commit is timestamp_exists", SET, twice),
    case("commit-timing.each-commit", "every commit may have a time", SET, each_commit),
    case("commit-timing.destroyed", "a time for a destroyed surface is surface_destroyed", SET, destroyed),
    case("commit-timing.past", "a commit whose time has passed is shown", SET, past),
    case("commit-timing.not-before", "no commit is shown before its time", SET, not_before),
    case("commit-timing.order", "a commit without a time waits for the one before, which has one", ORDER, order).thrice(),
    case("commit-timing.idle", "a commit is shown at its time also when nothing else is going on", SET, idle).thrice(),
    case("commit-timing.timer-destroyed", "destroying the timer does not change the time of a commit", DESTROY, timer_destroyed).thrice(),
];

const SECOND_NS: u64 = 1_000_000_000;

/// Far enough to be seen, near enough to be waited for.
const AHEAD_NS: u64 = 400_000_000;

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * SECOND_NS + u64::try_from(now.tv_nsec).unwrap_or(0)
}

fn set(timer: &WpCommitTimerV1, at_ns: u64) {
    let (high, low) = halves(at_ns / SECOND_NS);
    timer.set_timestamp(high, low, (at_ns % SECOND_NS) as u32);
}

fn timer(probe: &Probe) -> Result<(App, WpCommitTimingManagerV1), Stop> {
    let app = probe.app()?;
    let manager = app.client.bind(1..=1)?;
    Ok((app, manager))
}

fn second(probe: &mut Probe) -> Outcome {
    let (mut app, manager) = timer(probe)?;
    let (surface, handle) = (app.surface(), app.client.handle());
    manager.get_timer(&surface, &handle, Inbox::default());
    manager.get_timer(&surface, &handle, Inbox::default());
    app.client.expect_error(&manager, ManagerError::CommitTimerExists)
}

fn again(probe: &mut Probe) -> Outcome {
    let (mut app, manager) = timer(probe)?;
    let (surface, handle) = (app.surface(), app.client.handle());
    manager.get_timer(&surface, &handle, Inbox::default()).destroy();
    manager.get_timer(&surface, &handle, Inbox::default());
    app.client.expect_no_error()
}

fn nanoseconds(probe: &mut Probe) -> Outcome {
    let (mut app, manager) = timer(probe)?;
    let timer = manager.get_timer(&app.surface(), &app.client.handle(), Inbox::default());
    timer.set_timestamp(0, 0, SECOND_NS as u32 - 1);
    app.client.roundtrip()?;
    let timer = manager.get_timer(&app.surface(), &app.client.handle(), Inbox::default());
    timer.set_timestamp(0, 0, SECOND_NS as u32);
    app.client.expect_error(&timer, Error::InvalidTimestamp)
}

fn twice(probe: &mut Probe) -> Outcome {
    let (mut app, manager) = timer(probe)?;
    let timer = manager.get_timer(&app.surface(), &app.client.handle(), Inbox::default());
    set(&timer, 1);
    set(&timer, 2);
    app.client.expect_error(&timer, Error::TimestampExists)
}

fn each_commit(probe: &mut Probe) -> Outcome {
    let (mut app, manager) = timer(probe)?;
    let surface = app.surface();
    let timer = manager.get_timer(&surface, &app.client.handle(), Inbox::default());
    for at in 1..=3 {
        set(&timer, at);
        surface.commit();
    }
    app.client.expect_no_error()
}

fn destroyed(probe: &mut Probe) -> Outcome {
    let (mut app, manager) = timer(probe)?;
    let surface = app.surface();
    let timer = manager.get_timer(&surface, &app.client.handle(), Inbox::default());
    surface.destroy();
    app.client.roundtrip()?;
    set(&timer, 1);
    app.client.expect_error(&timer, Error::SurfaceDestroyed)
}

/// A window with a timer, on a compositor whose presentation times can be compared with ours.
struct Timed {
    app: App,
    window: Window,
    timer: WpCommitTimerV1,
}

impl Timed {
    fn new(probe: &mut Probe) -> Result<Self, Stop> {
        let (mut app, manager) = timer(probe)?;
        probe.clock()?;
        let window = app.window()?;
        let timer = manager.get_timer(&window.surface, &app.client.handle(), Inbox::default());
        Ok(Self { app, window, timer })
    }

    fn show(&mut self, at_ns: Option<u64>) -> Result<Watched, Stop> {
        if let Some(at_ns) = at_ns {
            set(&self.timer, at_ns);
        }
        let buffer = self.app.shm_buffer()?;
        Ok(self.app.show(&self.window.surface, &buffer))
    }

    /// It is shown, at `target` or later, while another window goes on. Says how much later.
    fn expect_after(&mut self, probe: &mut Probe, commit: &Watched, target: u64) -> Outcome {
        let start = Instant::now();
        while commit.fate() == Fate::Waiting && start.elapsed() < probe.place.patience {
            probe.settle(&mut self.app.client)?;
        }
        self.expect_in_time(commit, target)
    }

    /// It is shown, at `target` or later. Says how much later.
    fn expect_in_time(&mut self, commit: &Watched, target: u64) -> Outcome {
        self.app.until_shown(commit, "at its time")?;
        match commit.fate() {
            Fate::Shown(0) => Err(Stop::CannotTest("nothing tells when a commit was shown".into())),
            Fate::Shown(at) if at >= target => Ok(format!("{} us after its time", (at - target) / 1000)),
            Fate::Shown(at) => Err(Stop::Fail(format!("shown {} us before its time", (target - at) / 1000))),
            fate => Err(Stop::Fail(format!("{fate:?}"))),
        }
    }
}

fn past(probe: &mut Probe) -> Outcome {
    let mut timed = Timed::new(probe)?;
    let commit = timed.show(Some(1))?;
    timed.app.expect_shown(&commit)
}

fn not_before(probe: &mut Probe) -> Outcome {
    const ROUNDS: u64 = 5;
    let mut timed = Timed::new(probe)?;
    let commit = timed.show(None)?;
    timed.app.until_shown(&commit, "soon")?;
    let mut seen = String::new();
    // Targets all over the refresh cycle.
    for round in 0..ROUNDS {
        let target = now_ns() + AHEAD_NS + round * 3_300_000;
        let commit = timed.show(Some(target))?;
        seen = timed.expect_after(probe, &commit, target)?;
    }
    Ok(format!("{ROUNDS} times; the last was shown {seen}"))
}

fn order(probe: &mut Probe) -> Outcome {
    let mut timed = Timed::new(probe)?;
    let commit = timed.show(None)?;
    timed.app.until_shown(&commit, "soon")?;
    let target = now_ns() + AHEAD_NS;
    timed.show(Some(target))?;
    let second = timed.show(None)?;
    timed.expect_after(probe, &second, target)
}

fn idle(probe: &mut Probe) -> Outcome {
    let mut timed = Timed::new(probe)?;
    let commit = timed.show(None)?;
    timed.app.until_shown(&commit, "soon")?;
    let target = now_ns() + AHEAD_NS;
    let commit = timed.show(Some(target))?;
    timed.expect_in_time(&commit, target)
}

fn timer_destroyed(probe: &mut Probe) -> Outcome {
    let mut timed = Timed::new(probe)?;
    let commit = timed.show(None)?;
    timed.app.until_shown(&commit, "soon")?;
    let target = now_ns() + AHEAD_NS;
    let commit = timed.show(Some(target))?;
    timed.timer.destroy();
    timed.expect_after(probe, &commit, target)
}
