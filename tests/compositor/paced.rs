//! Clients that use fifo-v1 and commit-timing-v1, and windows that hide them.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::time::Duration;

use fencepost::halves::whole;
use rustix::time::{ClockId, clock_gettime};
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::commit_timing::v1::client::wp_commit_timer_v1::WpCommitTimerV1;
use wayland_protocols::wp::commit_timing::v1::client::wp_commit_timing_manager_v1::WpCommitTimingManagerV1;
use wayland_protocols::wp::fifo::v1::client::wp_fifo_manager_v1::WpFifoManagerV1;
use wayland_protocols::wp::fifo::v1::client::wp_fifo_v1::WpFifoV1;
use wayland_protocols::wp::presentation_time::client::wp_presentation_feedback::{
    Event as FeedbackEvent, WpPresentationFeedback,
};
use wayland_protocols::wp::viewporter::client::wp_viewporter::WpViewporter;

use crate::fixture::{Fixture, Log, Server, events};
use crate::setup::{App, Window};

/// A client with a window that is shown, its fifo and its timer.
pub(crate) struct Paced {
    pub(crate) app: App,
    pub(crate) fifos: WpFifoManagerV1,
    pub(crate) timers: WpCommitTimingManagerV1,
    pub(crate) window: Window,
    pub(crate) fifo: WpFifoV1,
    pub(crate) timer: WpCommitTimerV1,
}

impl Paced {
    pub(crate) fn new(desk: &Fixture<impl Server>) -> Self {
        let mut app = App::new(desk);
        let (fifos, timers): (WpFifoManagerV1, WpCommitTimingManagerV1) =
            (app.client.bind(1), app.client.bind(1));
        let window = app.window();
        let first = app.show(&window.surface, &app.shm_buffer());
        app.until_shown(&first);
        let handle = app.client.handle();
        let fifo = fifos.get_fifo(&window.surface, &handle, Log::default());
        let timer = timers.get_timer(&window.surface, &handle, Log::default());
        app.client.expect_no_error();
        Self { app, fifos, timers, window, fifo, timer }
    }

    /// A commit of the window with a new buffer, with whatever was asked for before.
    pub(crate) fn show(&self) -> Shown {
        self.show_on(&self.window.surface)
    }

    pub(crate) fn show_on(&self, surface: &WlSurface) -> Shown {
        surface.attach(Some(&self.app.shm_buffer()), 0, 0);
        surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
        let feedback = self.app.presentation.feedback(surface, &self.app.client.handle(), Log::default());
        surface.commit();
        Shown(feedback)
    }

    /// As Vulkan's FIFO: a commit that replaces the one before not sooner than that has been shown.
    pub(crate) fn show_in_turn(&self) -> Shown {
        self.fifo.set_barrier();
        self.fifo.wait_barrier();
        self.show()
    }

    pub(crate) fn not_before(&self, time: Duration) {
        set_timestamp(&self.timer, time);
    }

    /// When each of the commits was shown; `None` for one that was superseded.
    #[track_caller]
    pub(crate) fn times(&mut self, commits: &[Shown]) -> Vec<Option<Duration>> {
        let mut answered = 0;
        let mut times = vec![None; commits.len()];
        self.app.client.until(|| {
            for (commit, time) in commits.iter().zip(&mut times) {
                for event in events(&commit.0) {
                    match event {
                        FeedbackEvent::Presented { tv_sec_hi, tv_sec_lo, tv_nsec, .. } => {
                            let seconds = whole(tv_sec_hi, tv_sec_lo);
                            *time = Some(Duration::new(seconds, tv_nsec));
                            answered += 1;
                        }
                        FeedbackEvent::Discarded => answered += 1,
                        _ => {}
                    }
                }
            }
            answered == commits.len()
        });
        times
    }

    /// As [`Self::times`], for commits that all have to be shown.
    #[track_caller]
    pub(crate) fn all_times(&mut self, commits: &[Shown]) -> Vec<Duration> {
        self.times(commits).into_iter().map(|time| time.expect("a commit that was shown")).collect()
    }
}

pub(crate) struct Shown(pub(crate) WpPresentationFeedback);

pub(crate) fn set_timestamp(timer: &WpCommitTimerV1, time: Duration) {
    let seconds = time.as_secs();
    timer.set_timestamp((seconds >> 32) as u32, seconds as u32, time.subsec_nanos());
}

/// On the presentation clock.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Another window, on top of everything.
pub(crate) struct Lid {
    pub(crate) app: App,
    pub(crate) window: Window,
}

impl Lid {
    pub(crate) fn new(desk: &Fixture<impl Server>, fullscreen: bool, (width, height): (i32, i32)) -> Self {
        let mut app = App::new(desk);
        let window = app.new_window();
        if fullscreen {
            window.toplevel.set_fullscreen(None);
        }
        window.surface.commit();
        app.client.expect_no_error();
        window.ack();
        let (viewporter, handle): (WpViewporter, _) = (app.client.bind(1), app.client.handle());
        viewporter.get_viewport(&window.surface, &handle, Log::default()).set_destination(width, height);
        let shown = app.show(&window.surface, &app.shm_buffer());
        app.until_shown(&shown);
        Self { app, window }
    }

    pub(crate) fn lift(mut self) {
        self.window.toplevel.destroy();
        self.window.xdg_surface.destroy();
        self.window.surface.destroy();
        self.app.client.expect_no_error();
    }
}
