//! Surfaces that wait for an output: with a fifo barrier, a target time, or a frame callback.
//!
//! Owns which surfaces those are, and the one timer for all that no latch will see to. Decides nothing about order:
//! barriers and times are kept in [`crate::surface::queue`]. A surface that can be seen is served by the latches of its
//! outputs; one that cannot has its turn every [`HIDDEN_INTERVAL`]. With no such surface there is no timer.

use std::{collections::HashMap, time::Duration};

use calloop::{
    RegistrationToken,
    timer::{TimeoutAction, Timer},
};
use smithay::reexports::wayland_server::{
    Resource, Weak, backend::ObjectId, protocol::wl_surface::WlSurface,
};

use super::{Compositor, latch};
#[cfg(feature = "guest")]
use crate::wayland::broken::{self, BrokenRule};
use crate::{
    output::forecast::Forecast,
    surface::pacing::HIDDEN_INTERVAL,
    trace,
    wayland::commit::{self, SurfaceSync, with_sync},
};

/// The surfaces that wait, and the timer.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    waiting: HashMap<ObjectId, Waiting>,
    timer: Option<(Duration, RegistrationToken)>,
}

/// One surface that waits.
#[derive(Debug)]
struct Waiting {
    surface: Weak<WlSurface>,
    /// It is seen, and stays as it is until this time, the end of a refresh for which nothing had to be drawn. Then its
    /// barrier is cleared.
    refresh_end: Option<Duration>,
    /// It is not seen. At this time its barrier is cleared and its callbacks are sent.
    hidden_turn: Option<Duration>,
    /// Its barrier was cleared, and nobody has looked yet at what waited for it.
    cleared: bool,
}

impl Compositor {
    /// Content of this surface that is applied now is shown at this time or later: at the next refresh of the outputs that
    /// show it, or now if none does.
    pub(crate) fn presents_at(&self, surface: &WlSurface) -> Duration {
        let now = trace::now();
        self.forecasts(surface, now).map(|forecast| forecast.presents_at).min().unwrap_or(now)
    }

    fn forecasts(&self, surface: &WlSurface, now: Duration) -> impl Iterator<Item = Forecast> {
        let shown = self.screens.iter().filter(|(_, screen)| screen.shows(surface));
        shown.filter_map(move |(_, screen)| screen.machine.forecast(now))
    }

    /// Has the surface served in time, if it waits for something that an output gives.
    pub(crate) fn pace(&mut self, surface: &WlSurface) {
        let due = self.due(surface, trace::now());
        if let Some(due) = due
            && self.pacing.timer.as_ref().is_none_or(|(at, _)| due < *at)
        {
            self.arm_pacing(Some(due));
        }
    }

    /// A surface is gone.
    pub(super) fn pace_no_more(&mut self, surface: &WlSurface) {
        self.pacing.waiting.remove(&surface.id());
        if self.pacing.waiting.is_empty() {
            self.arm_pacing(None);
        }
    }

    /// What waits for a barrier of one of these surfaces may be applied: an output has latched them. [`Self::repace`]
    /// applies it.
    pub(super) fn clear_barriers<'a>(&mut self, latched: impl Iterator<Item = &'a WlSurface>) {
        for surface in latched.filter(|surface| with_sync(surface, |sync| sync.has_barrier())) {
            with_sync(surface, SurfaceSync::clear_barrier);
            if let Some(waiting) = self.pacing.waiting.get_mut(&surface.id()) {
                waiting.cleared = true;
                waiting.refresh_end = None;
            }
        }
    }

    /// An output had nothing to draw: what was applied there is on the screen already, and stays for a refresh, until `next`.
    pub(super) fn clear_barriers_at<'a>(
        &mut self,
        latched: impl Iterator<Item = &'a WlSurface>,
        next: Duration,
    ) {
        for surface in latched.filter(|surface| with_sync(surface, |sync| sync.has_barrier())) {
            if let Some(waiting) = self.pacing.waiting.get_mut(&surface.id()) {
                waiting.refresh_end.get_or_insert(next);
            }
        }
    }

    /// Applies what may be applied now, serves whose turn has come, and sets the timer for the rest. Runs before and after
    /// latches, at flips, and when the timer is due.
    pub(super) fn repace(&mut self) {
        if self.pacing.waiting.is_empty() && self.pacing.timer.is_none() {
            return;
        }
        let waiting: Vec<_> = self.pacing.waiting.values().map(|waiting| waiting.surface.clone()).collect();
        for surface in waiting.iter().filter_map(|surface| surface.upgrade().ok()) {
            self.serve(&surface);
        }
        let now = trace::now();
        let due = waiting
            .iter()
            .filter_map(|surface| surface.upgrade().ok())
            .filter_map(|surface| self.due(&surface, now))
            .min();
        self.arm_pacing(due);
    }

    fn serve(&mut self, surface: &WlSurface) {
        let now = trace::now();
        let presents_at = self.presents_at(surface);
        let Some(waiting) = self.pacing.waiting.get_mut(&surface.id()) else { return };
        let refresh_ended = waiting.refresh_end.take_if(|at| *at <= now).is_some();
        let has_turn = waiting.hidden_turn.take_if(|at| *at <= now).is_some();
        let cleared = std::mem::take(&mut waiting.cleared) || refresh_ended || has_turn;
        if has_turn {
            latch::send_frame_callbacks([surface]);
        }
        let reached = with_sync(surface, |sync| {
            if refresh_ended || has_turn {
                sync.clear_barrier();
            }
            let reached = sync.target().is_some_and(|target| target <= presents_at);
            if reached {
                sync.reached(presents_at);
            }
            reached
        });
        if cleared || reached {
            commit::advance(self, surface);
        }
    }

    /// When the timer has to see to a surface; `None` if it waits for nothing, or for latches only.
    fn due(&mut self, surface: &WlSurface, now: Duration) -> Option<Duration> {
        let (has_barrier, target) = with_sync(surface, |sync| (sync.has_barrier(), sync.target()));
        let needs_turn = has_barrier || latch::wants_callback(surface);
        if !needs_turn && target.is_none() {
            self.pacing.waiting.remove(&surface.id());
            return None;
        }
        let paced = self.is_paced(surface);
        let target_due = target.and_then(|target| {
            let wake = self.forecasts(surface, now).map(|forecast| forecast.wake_for(target)).max();
            match wake {
                None => Some(target),
                Some(wake) if wake > now => Some(wake),
                // Reached, or an output is late with a flip, and looks again when it comes.
                Some(_) => (target <= self.presents_at(surface)).then_some(now),
            }
        });
        let waiting = self.pacing.waiting.entry(surface.id()).or_insert_with(|| Waiting {
            surface: surface.downgrade(),
            refresh_end: None,
            hidden_turn: None,
            cleared: false,
        });
        match needs_turn && !paced {
            true => drop(waiting.hidden_turn.get_or_insert(now.saturating_add(HIDDEN_INTERVAL))),
            false => waiting.hidden_turn = None,
        }
        waiting.refresh_end.into_iter().chain(waiting.hidden_turn).chain(target_due).min()
    }

    fn is_paced(&self, surface: &WlSurface) -> bool {
        self.screens.iter().any(|(_, screen)| screen.paces(surface))
    }

    fn arm_pacing(&mut self, due: Option<Duration>) {
        if self.pacing.timer.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        if let Some((_, token)) = self.pacing.timer.take() {
            self.handle.remove(token);
        }
        let Some(due) = due else { return };
        #[cfg(feature = "guest")]
        if broken::is(BrokenRule::Asleep) {
            return;
        }
        let timer = Timer::from_duration(due.saturating_sub(trace::now()));
        let inserted = self.handle.insert_source(timer, |_, (), state: &mut Self| {
            state.pacing.timer = None;
            state.repace();
            TimeoutAction::Drop
        });
        match inserted {
            Ok(token) => self.pacing.timer = Some((due, token)),
            Err(error) => tracing::error!("hidden surfaces stand still: {error}"),
        }
    }
}
