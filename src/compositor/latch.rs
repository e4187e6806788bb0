//! The latch: from applied contents to a committed frame, and from its flip to the clients.
//!
//! Joins the [scene](super::scene) (what is where), the [drawing](super::show) of it and the frame machine (when).

use std::time::Duration;

use calloop::timer::{TimeoutAction, Timer};
use smithay::{
    reexports::{
        wayland_protocols::wp::presentation_time::server::wp_presentation_feedback::Kind,
        wayland_server::{Resource, protocol::wl_surface::WlSurface},
    },
    wayland::{
        compositor::SurfaceAttributes,
        presentation::{PresentationFeedbackCallback, Refresh},
    },
};

use super::{
    Compositor, OutputId, Screen,
    backend::Backend,
    scene::{Feedback, For, Scene},
    show::Shown,
};
use crate::{
    output::{
        Flipped, Head,
        frame::{Action, Cadence, Outcome},
        headless::Vblank,
    },
    trace,
    wayland::{ClientState, commit::with_sync},
};

impl Compositor {
    /// Performs what a frame machine asks for.
    pub(super) fn act(&mut self, id: OutputId, action: Option<Action>) {
        let mut action = action;
        while let Some(next) = action.take() {
            match next {
                Action::ArmTimer(at) => self.arm(id, at),
                Action::DisarmTimer => self.disarm(id),
                Action::Latch { callbacks } => action = self.latch(id, callbacks),
            }
        }
    }

    pub(super) fn disarm(&mut self, id: OutputId) {
        let Some(screen) = self.screens.get_mut(id) else { return };
        screen.is_due = false;
        if let Some(token) = screen.timer.take() {
            self.handle.remove(token);
        }
    }

    /// What is due already is done at the end of this turn of the loop, with all that the turn brings; the timer is there for
    /// whatever is armed later than that.
    fn arm(&mut self, id: OutputId, at: Duration) {
        self.disarm(id);
        let left = at.saturating_sub(trace::now());
        let inserted =
            self.handle.insert_source(Timer::from_duration(left), move |_, (), state: &mut Self| {
                if let Some(screen) = state.screens.get_mut(id) {
                    (screen.timer, screen.is_due) = (None, false);
                }
                state.timer_due(id);
                TimeoutAction::Drop
            });
        match inserted {
            Ok(token) => {
                if let Some(screen) = self.screens.get_mut(id) {
                    (screen.timer, screen.is_due) = (Some(token), left.is_zero());
                }
            }
            Err(error) => tracing::error!("an output has no timer and stands still: {error}"),
        }
    }

    fn timer_due(&mut self, id: OutputId) {
        // What the next refresh may show is to be part of it.
        self.repace();
        let action = self.screens.get_mut(id).and_then(|screen| screen.machine.timer(trace::now()));
        self.act(id, action);
        self.repace();
    }

    /// The end of a turn: outputs that became due in it need not wait for the next one.
    pub(super) fn latch_due(&mut self) {
        for id in self.screens.due() {
            self.disarm(id);
            self.timer_due(id);
        }
    }

    fn latch(&mut self, id: OutputId, callbacks: bool) -> Option<Action> {
        if !self.gpu_is_sound() {
            return self.put_off(id, callbacks);
        }
        let _span = tracing::trace_span!("latch", output = self.screens.get_mut(id)?.head.name()).entered();
        let mut scene = self.scene(id, For::Frame)?;
        let feedback = std::mem::take(&mut scene.feedback);
        let screen = self.screens.get_mut(id)?;
        let Shown { outcome, vblank_at, scanned_out, advice, work, awaited, cadence } =
            screen.show(&mut self.renderer, &mut scene);
        self.record.shown(screen.head.name(), &work);
        if let Some(cadence) = cadence {
            screen.machine.set_cadence(cadence);
        }
        let moved = screen.set_shown(&scene);
        screen.audience = scene.audience();
        match outcome {
            Outcome::Submitted => {
                let presented = |Feedback { surface, callback }| (callback, scanned_out.contains(&surface));
                screen.in_flight.extend(feedback.into_iter().map(presented));
                screen.trace_fresh(&scene);
                screen.presenting.extend(scene.fresh.iter().map(Resource::downgrade));
                screen.scanned_out = scanned_out;
            }
            // By the time that a frame is drawn again, it may show something else.
            Outcome::Retry | Outcome::Lost => scene.give_wishes_back(feedback),
            // The same picture is on the screen already, since the last flip.
            Outcome::NothingToDraw => {
                let presented = feedback.into_iter().map(|feedback| (feedback.callback, false));
                present(screen, presented.collect(), trace::now(), 0, Kind::empty());
            }
        }
        let mut action = screen.machine.latched(outcome, trace::now());
        if !callbacks && scene.waiting().any(wants_callback) {
            // They came with a commit of this refresh, whose callbacks were sent before.
            action = screen.machine.callback_wanted(trace::now()).or(action);
        }
        let refresh_end = screen.machine.refresh_end(trace::now());
        match outcome {
            Outcome::Submitted => {
                screen.frames += 1;
                screen.awaited.replace(awaited);
                screen.regaining = 0;
                if scene.is_live() {
                    screen.machine.waits_for_a_client();
                }
                self.watch(id);
                self.take_pictures(id);
                self.clear_barriers(scene.waiting());
            }
            Outcome::NothingToDraw => self.clear_barriers_at(scene.waiting(), refresh_end),
            Outcome::Lost => self.regain(id),
            Outcome::Retry => {}
        }
        self.watch_parent(id);
        if let Some(at) = vblank_at {
            self.await_vblank(id, at);
        }
        moved.iter().for_each(|surface| self.prefer_scale(surface));
        self.advise(id, &scene, advice);
        if callbacks {
            send_frame_callbacks(scene.waiting());
        }
        scene.told(|surface| wants_callback(surface) || with_sync(surface, |sync| sync.has_barrier()));
        self.keep(id, scene).or(action)
    }

    /// Keeps the scene of a frame for the next one.
    fn keep(&mut self, id: OutputId, scene: Scene) -> Option<Action> {
        let screen = self.screens.get_mut(id)?;
        if scene.failed {
            // What could not be shown hides nothing, as the next frame knows.
            return screen.damaged(trace::now());
        }
        screen.kept.put(scene);
        None
    }

    /// Calls the head of an output without a kernel behind it at its virtual vblank.
    fn await_vblank(&mut self, id: OutputId, at: Duration) {
        let timer = Timer::from_duration(at.saturating_sub(trace::now()));
        let inserted = self.handle.insert_source(timer, move |_, (), state: &mut Self| {
            match state.screens.get_mut(id).map(|screen| screen.head.vblank(trace::now())) {
                Some(Vblank::Flipped(flipped)) => state.flipped(id, flipped),
                Some(Vblank::Late(at)) => return TimeoutAction::ToDuration(at.saturating_sub(trace::now())),
                Some(Vblank::Idle) | None => {}
            }
            TimeoutAction::Drop
        });
        if let Err(error) = inserted {
            tracing::error!("a virtual output has no vblank and stands still: {error}");
        }
    }

    /// Hands over the flip events that there are, so that none is taken for a later one's. What a parent has said while it was
    /// listened to for something else is looked at, too, as its socket does not say it again.
    pub(super) fn drain_flips(&mut self) {
        match self.backend {
            Backend::Kms(_) => {
                // A device that cannot be read says so to the event loop again.
                let _continue = self.read_flips();
            }
            // Later: this may be the reaction to something that the parent has said.
            Backend::Nested(_) => {
                self.handle.insert_idle(|state| {
                    // A parent that is gone has its reaction behind it.
                    let _continue = state.read_parent();
                });
            }
            Backend::Headless(_) => {}
        }
    }

    /// The frame in flight of an output is on the screen.
    pub(super) fn flipped(&mut self, id: OutputId, flipped: Flipped) {
        let Some(screen) = self.screens.get_mut(id) else { return };
        let _span = tracing::trace_span!("flip", output = screen.head.name()).entered();
        screen.unseen = false;
        let callbacks = std::mem::take(&mut screen.in_flight);
        // A virtual vblank is nobody's vsync; KMS flips carry the hardware's time and are reported by it. What holds of
        // the window holds of what it shows.
        let flags = match &screen.head {
            Head::Kms(_) if flipped.torn => Kind::HwCompletion | Kind::ZeroCopy,
            Head::Kms(_) => Kind::Vsync | Kind::HwClock | Kind::HwCompletion | Kind::ZeroCopy,
            Head::Headless(_) => Kind::empty(),
            Head::Nested(head) => Kind::from_bits_truncate(head.flags()),
        };
        // The kernel dates a flip that waited for no vblank with the one before.
        let at = match flipped.torn {
            true => trace::now(),
            false => screen.machine.flip_time(flipped.at, screen.committed_at),
        };
        if !flipped.torn && at != flipped.at {
            tracing::debug!(
                "{} says that it has flipped {:?} before the commit",
                screen.head.name(),
                at - flipped.at
            );
        }
        if screen.machine.asks_when_ready(at)
            && let Some(ready) = screen.pass_ended_at()
        {
            screen.machine.ready(ready);
        }
        screen.pass_flipped(at);
        present(screen, callbacks, at, flipped.sequence.into(), flags);
        for surface in screen.presenting.drain(..).filter_map(|surface| surface.upgrade().ok()) {
            self.record.presented(ClientState::pid(surface.client().as_ref()));
        }
        screen.trace_flipped(at, flipped.sequence);
        self.record.flipped();
        screen.write_back();
        let now = trace::now();
        let misses = screen.machine.misses();
        let next = screen.machine.flipped(at, now);
        if screen.machine.misses() > misses {
            self.record.missed(screen.head.name(), screen.number);
        }
        let action = screen.after_flip(next, now);
        self.act(id, action);
        self.repace();
    }
}

/// Tells the clients of these surfaces to draw their next frames.
pub(super) fn send_frame_callbacks<'a>(surfaces: impl IntoIterator<Item = &'a WlSurface>) {
    let time_ms = trace::now_ms();
    for surface in surfaces {
        smithay::wayland::compositor::with_states(surface, |states| {
            let callbacks =
                std::mem::take(&mut states.cached_state.get::<SurfaceAttributes>().current().frame_callbacks);
            for callback in callbacks {
                callback.done(time_ms);
            }
        });
    }
}

pub(super) fn wants_callback(surface: &WlSurface) -> bool {
    smithay::wayland::compositor::with_states(surface, |states| {
        !states.cached_state.get::<SurfaceAttributes>().current().frame_callbacks.is_empty()
    })
}

fn present(
    screen: &Screen,
    callbacks: Vec<(PresentationFeedbackCallback, bool)>,
    at: Duration,
    sequence: u64,
    flags: Kind,
) {
    if callbacks.is_empty() {
        return;
    }
    #[cfg(feature = "guest")]
    let (callbacks, at) = crate::wayland::broken::object::presented(callbacks, at);
    let refresh = match screen.machine.cadence() {
        Cadence::Variable => Refresh::variable(screen.head.refresh()),
        Cadence::Fixed | Cadence::AtOnce => Refresh::fixed(screen.head.refresh()),
    };
    for (callback, scanned_out) in callbacks {
        let flags = if scanned_out { flags } else { flags - Kind::ZeroCopy };
        callback.presented(&screen.output, at, refresh, sequence, flags);
    }
}
