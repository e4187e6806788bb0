//! The frame state machine of one output: when to latch, when to wait, when to do nothing at all.
//!
//! Owns every decision about the timing of an output. Pure: it sees no fd, no smithay, no renderer and no clock; `now`
//! is passed in, as the time since an arbitrary monotonic origin. Each input returns at most one [`Action`]; the
//! caller performs it and decides nothing.
//!
//! ```text
//!            damaged, callback_wanted                 timer
//!   ┌──────┐ ───────────────────────► ┌───────────┐ ─────────► ┌──────────┐
//!   │ Idle │                          │ Scheduled │            │ Latching │
//!   └──────┘ ◄──────────┐             └───────────┘ ◄───────── └──────────┘
//!       ▲               │               ▲       nothing to draw,     │
//!       │               │               │       but wanted; retry    │ submitted
//!       │               └───────────────┼──── nothing to draw ───────┤
//!       │ flipped,                      │ flipped,                   ▼
//!       │ nothing wanted                │ wanted               ┌──────────┐
//!       └───────────────────────────────┴───────────────────── │ InFlight │
//!                                                              └──────────┘
//!   any state ── pause, lost ──► Off ── resume ──► Scheduled, or InFlight if the old flip has yet to come
//! ```
//!
//! Two things can be wanted, and both outlive any state until a latch takes them: *damage*, which is latched when
//! [`super::schedule`] says, and *frame callbacks* without damage. Callbacks go out with a latch, at most
//! once per refresh. Where a latch draws nothing there is no flip to tell the refreshes apart, so the machine estimates the
//! next one and does not send callbacks before it. Nothing is armed for that estimate unless a client asks again:
//! an idle output has no timer, and wakes nobody.

use std::time::Duration;

use super::{
    forecast::Forecast,
    schedule::{self, Pace},
};

/// What the caller has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the machine relies on the caller to perform its actions"]
pub enum Action {
    /// Arm this output's one timer for the given time, in place of what it was armed for, and call
    /// [`FrameMachine::timer`] then. A time that is not after `now` means: once the event loop has dispatched what
    /// is ready, so that all commits of one wake-up end up in one frame.
    ArmTimer(Duration),
    /// The output's timer is no longer needed.
    DisarmTimer,
    /// Take what is ready, draw it and commit, then call [`FrameMachine::latched`], also when that failed.
    Latch {
        /// The frame callbacks of the surfaces on this output are due. Where false they were sent earlier in this
        /// refresh, and another latch follows for them.
        callbacks: bool,
    },
}

/// How a latch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A commit was accepted; its flip will come.
    Submitted,
    /// Nothing changed, nothing was committed.
    NothingToDraw,
    /// The frame was drawn but not accepted, and may be next time (the CRTC was busy, memory was short).
    Retry,
    /// The device is not ours at the moment (VT switched away) or gone. Only [`FrameMachine::resume`] helps.
    Lost,
}

/// When an output can show a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cadence {
    /// At refreshes that come at a fixed rate.
    #[default]
    Fixed,
    /// When it comes, but not sooner than a refresh after the one before: variable refresh.
    Variable,
    /// When it comes, so that nothing is gained by waiting: a window, whose parent has a last moment of its own and does not tell it;
    /// vblanks that come by command; frames that may tear.
    AtOnce,
}

/// Where an output is in the life of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Paused, switched off or unplugged: nothing is done, whatever is wanted.
    Off {
        /// A commit was in flight when it happened, made at this time. Its flip may still come.
        in_flight: Option<Duration>,
    },
    /// Nothing is wanted, nothing is armed.
    Idle,
    /// Something is wanted and the timer is armed.
    Scheduled {
        /// When the timer is due.
        latch_at: Duration,
    },
    /// The caller was told to latch and has not yet said how it ended.
    Latching {
        /// The output was paused meanwhile: it goes off when the latch ends.
        paused: bool,
    },
    /// A commit was accepted; the kernel waits for its fence and the vblank. No timer is armed, no second commit made.
    InFlight {
        /// When the commit was made.
        submitted_at: Duration,
    },
}

/// How far from the grid a flip may lie that others are foreseen from: this part of a refresh. A flip that is dated late
/// would have the next ones come sooner than foreseen, and with them content before its time.
const REGULAR: u32 = 32;

/// Longest wait between two attempts of a frame that the device refuses.
const LONGEST_RETRY: Duration = Duration::from_secs(1);

/// The frame state machine of one output. It starts [`State::Off`]: call [`FrameMachine::resume`] once it is lit.
#[derive(Clone, Debug)]
pub struct FrameMachine {
    state: State,
    /// The length of a refresh.
    refresh: Duration,
    /// The last real refresh seen.
    last_flip: Option<Duration>,
    /// That refresh lay on the grid of the one before: the output flips with its vblanks, and says when they were.
    regular: bool,
    /// What frames take, and when to begin them.
    pace: Pace,
    cadence: Cadence,
    /// When the latch was to be that is under way or in flight; `None` if what it takes is not ours to answer for.
    planned: Option<Duration>,
    /// The refresh that it waited for the last moment of.
    aim: Option<Duration>,
    /// Something changed that no latch has taken yet.
    damage: bool,
    /// A client waits for a frame callback that no latch has sent yet.
    callbacks: bool,
    /// Callbacks were sent in the refresh that ends here; zero when a flip has ended it.
    callbacks_not_before: Duration,
    /// No latch before this, after a refused commit.
    latch_not_before: Duration,
    /// Refused commits in a row.
    refused: u32,
}

impl FrameMachine {
    /// A machine for an output with this refresh interval.
    pub fn new(refresh: Duration) -> Self {
        Self {
            state: State::Off { in_flight: None },
            refresh: refresh.max(schedule::SHORTEST_REFRESH),
            last_flip: None,
            regular: false,
            pace: Pace::default(),
            cadence: Cadence::Fixed,
            planned: None,
            aim: None,
            damage: false,
            callbacks: false,
            callbacks_not_before: Duration::ZERO,
            latch_not_before: Duration::ZERO,
            refused: 0,
        }
    }

    /// As it is, with another cadence.
    #[must_use]
    pub fn with_cadence(self, cadence: Cadence) -> Self {
        Self { cadence, ..self }
    }

    /// When it can show a frame.
    pub fn cadence(&self) -> Cadence {
        self.cadence
    }

    /// From the next latch on, the output shows frames at other times.
    pub fn set_cadence(&mut self, cadence: Cadence) {
        self.cadence = cadence;
    }

    /// Where the output is.
    pub fn state(&self) -> State {
        self.state
    }

    /// What is known of the output's frames, for people who look.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Which refresh will show what is latched next; `None` while the output is off.
    pub fn forecast(&self, now: Duration) -> Option<Forecast> {
        let in_flight = match self.state {
            State::Off { .. } => return None,
            State::Idle | State::Scheduled { .. } | State::Latching { .. } => None,
            State::InFlight { submitted_at } => Some(submitted_at),
        };
        let last = self.last_flip.filter(|_| self.regular && self.cadence != Cadence::Variable);
        Some(Forecast::new(now, last, self.refresh, in_flight))
    }

    /// The end of the refresh that `now` is in, as an estimate.
    pub fn refresh_end(&self, now: Duration) -> Duration {
        schedule::next_refresh(now, self.last_flip, self.refresh)
    }

    /// Until when a fence has to signal for what is committed now to be in the next refresh that it can be in; `None` while
    /// the output is off.
    pub fn signal_by(&self, now: Duration) -> Option<Duration> {
        let refresh = match self.state {
            State::Off { .. } => return None,
            State::InFlight { submitted_at } => {
                // The flip comes first, and perhaps it should have come already.
                schedule::next_refresh(submitted_at, self.last_flip, self.refresh)
                    .max(now)
                    .saturating_add(self.refresh)
            }
            State::Idle | State::Scheduled { .. } | State::Latching { .. } => {
                let ready = now.saturating_add(self.pace.lead());
                match (self.cadence, self.last_flip) {
                    (Cadence::Variable, Some(last)) => ready.max(last.saturating_add(self.refresh)),
                    _ => schedule::next_refresh(ready, self.last_flip, self.refresh),
                }
            }
        };
        Some(refresh.saturating_sub(self.pace.lead()))
    }

    /// Whether it is worth a system call to know when the frame in flight, which has flipped at `at`, was ready; then
    /// [`FrameMachine::ready`] is to be called before [`FrameMachine::flipped`].
    pub fn asks_when_ready(&self, at: Duration) -> bool {
        self.planned.is_some() && (self.pace.asks() || self.aim.is_some_and(|aim| at > aim))
    }

    /// The frame in flight was ready at this time.
    pub fn ready(&mut self, at: Duration) {
        if let Some(planned) = self.planned {
            self.pace.took(planned, at);
        }
    }

    /// The frame in flight waits for a fence that was handed over: when it flips says nothing of what frames take.
    pub fn waits_for_a_client(&mut self) {
        (self.aim, self.planned) = (None, None);
    }

    /// How many refreshes were missed by frames that were begun at the last moment.
    pub fn misses(&self) -> u64 {
        self.pace.misses()
    }

    /// The output has a new mode.
    pub fn set_refresh(&mut self, refresh: Duration) {
        let refresh = refresh.max(schedule::SHORTEST_REFRESH);
        if refresh != self.refresh {
            (self.refresh, self.pace) = (refresh, Pace::default());
        }
    }

    /// Something that this output shows has changed.
    pub fn damaged(&mut self, now: Duration) -> Option<Action> {
        self.damage = true;
        self.wanted(now)
    }

    /// A client asked for a frame callback on this output (with damage or without).
    pub fn callback_wanted(&mut self, now: Duration) -> Option<Action> {
        self.callbacks = true;
        self.wanted(now)
    }

    /// The timer is due. May be called at any time: nothing happens before the time that was asked for.
    pub fn timer(&mut self, now: Duration) -> Option<Action> {
        let State::Scheduled { latch_at } = self.state else {
            return None;
        };
        if now < latch_at {
            return Some(Action::ArmTimer(latch_at));
        }
        let callbacks = now >= self.callbacks_not_before;
        if callbacks {
            self.callbacks = false;
            self.callbacks_not_before = self.refresh_end(now);
        }
        self.damage = false;
        self.planned = Some(latch_at);
        self.state = State::Latching { paused: false };
        Some(Action::Latch { callbacks })
    }

    /// The latch that was asked for has ended.
    pub fn latched(&mut self, outcome: Outcome, now: Duration) -> Option<Action> {
        let State::Latching { paused } = self.state else {
            tracing::error!(state = ?self.state, ?outcome, "a latch ended that was never asked for");
            return None;
        };
        if outcome == Outcome::Retry {
            self.damage = true;
            let factor = 1_u32.checked_shl(self.refused).unwrap_or(u32::MAX);
            let wait = self.refresh.saturating_mul(factor).min(LONGEST_RETRY);
            self.refused = self.refused.saturating_add(1);
            self.latch_not_before = now.saturating_add(wait);
        }
        match outcome {
            Outcome::Submitted => {
                self.refused = 0;
                self.ready(now);
                self.state = match paused {
                    true => State::Off { in_flight: Some(now) },
                    false => State::InFlight { submitted_at: now },
                };
                None
            }
            Outcome::NothingToDraw | Outcome::Retry if !paused => self.settle(now),
            Outcome::NothingToDraw | Outcome::Retry | Outcome::Lost => {
                self.state = State::Off { in_flight: None };
                None
            }
        }
    }

    /// What was refused may be accepted now: a frame that waits to be tried again is tried at once.
    pub fn retry(&mut self, now: Duration) -> Option<Action> {
        if self.refused == 0 {
            return None;
        }
        (self.refused, self.latch_not_before) = (0, Duration::ZERO);
        self.wanted(now)
    }

    /// The commit in flight is on the screen since `at` (the kernel's timestamp; the same clock as `now`).
    pub fn flipped(&mut self, at: Duration, now: Duration) -> Option<Action> {
        match self.state {
            State::InFlight { .. } => {
                if self.pace.flipped(self.aim.take(), self.last_flip, at, self.refresh) {
                    tracing::debug!(misses = self.misses(), lead = ?self.pace.lead(), "a refresh was missed");
                }
                self.regular = self.last_flip.is_some_and(|last| {
                    schedule::off_grid(at.saturating_sub(last), self.refresh) <= self.refresh / REGULAR
                });
                self.last_flip = Some(at.min(now));
                self.callbacks_not_before = Duration::ZERO;
                self.settle(now)
            }
            State::Off { .. } => {
                self.state = State::Off { in_flight: None };
                None
            }
            State::Idle | State::Scheduled { .. } | State::Latching { .. } => None,
        }
    }

    /// When a commit that was begun at `begun` reached the screen, if the kernel says `at`: not a refresh or more before. vkms
    /// gives the first flip of a CRTC that was off the time of its last vblank before that.
    ///
    /// Less is believed. The vblanks of virtual devices are a timer's, which dates a flip with the time for which it was set:
    /// one that is late takes along what was committed since. The out-fence has the same date, and so have releases.
    pub fn flip_time(&self, at: Duration, begun: Duration) -> Duration {
        if begun.saturating_sub(at) > self.refresh { begun } else { at }
    }

    /// Stop: the session is paused, or the output is switched off or unplugged. What is wanted stays wanted.
    pub fn pause(&mut self) -> Option<Action> {
        match self.state {
            State::Off { .. } => None,
            State::Latching { .. } => {
                self.state = State::Latching { paused: true };
                None
            }
            State::Idle => {
                self.state = State::Off { in_flight: None };
                None
            }
            State::InFlight { submitted_at } => {
                self.state = State::Off { in_flight: Some(submitted_at) };
                None
            }
            State::Scheduled { .. } => {
                self.state = State::Off { in_flight: None };
                Some(Action::DisarmTimer)
            }
        }
    }

    /// Go on, with a full frame: whatever is on the screen is no longer ours. Does nothing on an output that is on.
    pub fn resume(&mut self, now: Duration) -> Option<Action> {
        match self.state {
            State::Off { in_flight } => {
                self.damage = true;
                self.refused = 0;
                self.latch_not_before = Duration::ZERO;
                if in_flight.is_some() {
                    // The watchdog's time starts anew: nobody could have read the flip while paused.
                    self.state = State::InFlight { submitted_at: now };
                    return None;
                }
                self.settle(now)
            }
            State::Latching { paused: true } => {
                self.damage = true;
                self.state = State::Latching { paused: false };
                None
            }
            State::Idle | State::Scheduled { .. } | State::Latching { .. } | State::InFlight { .. } => None,
        }
    }

    /// Whether a commit has been in flight for longer than `limit`: a flip event was lost, or a fence never signals.
    pub fn stuck(&self, now: Duration, limit: Duration) -> bool {
        match self.state {
            State::InFlight { submitted_at } => now.saturating_sub(submitted_at) > limit,
            State::Off { .. } | State::Idle | State::Scheduled { .. } | State::Latching { .. } => false,
        }
    }

    /// Give up waiting for the flip in flight and draw again; the watchdog's reaction.
    pub fn abandon(&mut self, now: Duration) -> Option<Action> {
        let State::InFlight { .. } = self.state else {
            return None;
        };
        self.damage = true;
        self.callbacks_not_before = Duration::ZERO;
        self.settle(now)
    }

    /// Something new is wanted: start, or start sooner.
    fn wanted(&mut self, now: Duration) -> Option<Action> {
        match self.state {
            State::Idle => self.settle(now),
            State::Scheduled { latch_at }
                if self.earliest_latch(now).is_some_and(|latch| latch.at < latch_at) =>
            {
                self.settle(now)
            }
            State::Off { .. } | State::Scheduled { .. } | State::Latching { .. } | State::InFlight { .. } => {
                None
            }
        }
    }

    /// Nothing is in flight: schedule what is wanted, or rest.
    fn settle(&mut self, now: Duration) -> Option<Action> {
        match self.earliest_latch(now) {
            Some(schedule::Latch { at: latch_at, aim }) => {
                self.aim = aim;
                self.state = State::Scheduled { latch_at };
                Some(Action::ArmTimer(latch_at))
            }
            None => {
                self.state = State::Idle;
                None
            }
        }
    }

    /// When what is wanted may be latched; `None` if nothing is.
    fn earliest_latch(&self, now: Duration) -> Option<schedule::Latch> {
        let not_before = match (self.damage, self.callbacks) {
            (true, _) => self.latch_not_before,
            (false, true) => self.latch_not_before.max(self.callbacks_not_before),
            (false, false) => return None,
        };
        let from = now.max(not_before);
        Some(match self.cadence {
            Cadence::Fixed => self.pace.latch(from, self.last_flip, self.refresh),
            Cadence::Variable => self.pace.latch_variable(from, self.last_flip, self.refresh),
            Cadence::AtOnce => schedule::Latch { at: from, aim: None },
        })
    }
}

#[cfg(test)]
mod tests;
