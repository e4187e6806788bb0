//! The latch: from applied contents to a committed frame, and from its flip to the clients.
//!
//! Joins `shell/` (what is where), `render/` (pixels and a fence) and `output/` (the screen), and leaves the frame's
//! fence on the lease of every buffer that it has read.

use std::time::Duration;

use calloop::timer::{TimeoutAction, Timer};
use smithay::{
    reexports::{
        wayland_protocols::wp::presentation_time::server::wp_presentation_feedback::Kind,
        wayland_server::{Resource, protocol::wl_surface::WlSurface},
    },
    utils::{Logical, Point},
    wayland::{
        compositor::{SurfaceAttributes, SurfaceData},
        presentation::{PresentationFeedbackCachedState, PresentationFeedbackCallback, Refresh},
    },
};

use super::{Compositor, Screen};
use crate::{
    buffer::{Lease, lease::Consumer},
    output::{
        Flipped, Head,
        frame::{Action, Outcome, State},
        headless::Vblank,
    },
    render::{Renderer, element::Element},
    shell::tree,
    trace,
    wayland::ClientState,
};

/// How long a commit may take to flip before it is given up: longer than any fence of the kernel's takes when all is well.
const FLIP_LIMIT: Duration = Duration::from_secs(5);

/// What one frame of one output is made of.
#[derive(Default)]
struct Scene {
    /// Top to bottom.
    elements: Vec<Element>,
    /// The leases on the buffers that the elements read.
    leases: Vec<Lease>,
    /// The surfaces on the output, top to bottom.
    surfaces: Vec<WlSurface>,
    /// Who wants to know when the frame is on the screen.
    feedback: Vec<PresentationFeedbackCallback>,
    /// The surfaces whose content has not been on a screen before.
    fresh: Vec<WlSurface>,
}

impl Scene {
    /// Adds a surface, bringing its texture up to date first.
    fn add(
        &mut self,
        screen: &Screen,
        renderer: &mut Renderer,
        surface: &WlSurface,
        states: &SurfaceData,
        at: Point<i32, Logical>,
    ) {
        let area = screen.area();
        tree::content_of(states, |content| {
            let Some(size) = content.size() else { return };
            if !area.overlaps(smithay::utils::Rectangle::new(at, size)) {
                return;
            }
            if let Err(error) = renderer.import(states, content) {
                // The surface keeps the texture that it had; the buffer stays leased until it is replaced.
                tracing::warn!("{} keeps its old picture: {error}", surface.id());
            }
            if std::mem::take(&mut content.fresh) {
                self.fresh.push(surface.clone());
            }
            if let Some(element) = Element::of_content(content, at - area.loc, screen.canvas.scale()) {
                self.elements.push(element);
                self.leases.extend(content.picture.as_ref().and_then(|picture| picture.lease.clone()));
            }
            self.surfaces.push(surface.clone());
            let mut cached = states.cached_state.get::<PresentationFeedbackCachedState>();
            self.feedback.append(&mut cached.current().callbacks);
        });
    }
}

impl Compositor {
    /// Performs what a frame machine asks for.
    pub(super) fn act(&mut self, index: usize, action: Option<Action>) {
        let mut action = action;
        while let Some(next) = action.take() {
            match next {
                Action::ArmTimer(at) => self.arm(index, at),
                Action::DisarmTimer => self.disarm(index),
                Action::Latch { callbacks } => action = self.latch(index, callbacks),
            }
        }
    }

    fn disarm(&mut self, index: usize) {
        if let Some(token) = self.screens.get_mut(index).and_then(|screen| screen.timer.take()) {
            self.handle.remove(token);
        }
    }

    fn arm(&mut self, index: usize, at: Duration) {
        self.disarm(index);
        let timer = Timer::from_duration(at.saturating_sub(trace::now()));
        let inserted = self.handle.insert_source(timer, move |_, (), state: &mut Self| {
            let now = trace::now();
            let action = state.screens.get_mut(index).and_then(|screen| {
                screen.timer = None;
                screen.machine.timer(now)
            });
            state.act(index, action);
            TimeoutAction::Drop
        });
        match inserted {
            Ok(token) => {
                if let Some(screen) = self.screens.get_mut(index) {
                    screen.timer = Some(token);
                }
            }
            Err(error) => tracing::error!("an output has no timer and stands still: {error}"),
        }
    }

    fn latch(&mut self, index: usize, callbacks: bool) -> Option<Action> {
        let scene = self.scene(index)?;
        let screen = self.screens.get_mut(index)?;
        let (outcome, vblank_at) = screen.draw(&mut self.renderer, &scene.elements, |fence| {
            for lease in &scene.leases {
                lease.used_until(Consumer::Renderer, fence.clone());
            }
        });
        screen.set_shown(&scene.surfaces);
        match outcome {
            // A frame that was not accepted is drawn again, and shows the same contents.
            Outcome::Submitted | Outcome::Retry | Outcome::Lost => {
                screen.in_flight.extend(scene.feedback);
                screen.presenting.extend(scene.fresh.iter().map(Resource::downgrade));
            }
            // The same picture is on the screen already, since the last flip.
            Outcome::NothingToDraw => present(screen, scene.feedback, trace::now(), 0, Kind::empty()),
        }
        if matches!(outcome, Outcome::Retry | Outcome::Lost) {
            screen.canvas.forget();
        }
        let mut action = screen.machine.latched(outcome, trace::now());
        if !callbacks && scene.surfaces.iter().any(wants_callback) {
            // They came with a commit of this refresh, whose callbacks were sent before.
            action = screen.machine.callback_wanted(trace::now()).or(action);
        }
        if outcome == Outcome::Submitted {
            self.watch(index);
        }
        if let Some(at) = vblank_at {
            self.await_vblank(index, at);
        }
        if callbacks {
            self.send_frame_callbacks(&scene.surfaces);
        }
        action
    }

    /// Gathers what is on an output, with every texture up to date.
    fn scene(&mut self, index: usize) -> Option<Scene> {
        let Self { screens, shell, renderer, pointer, seat, .. } = self;
        let screen = screens.get(index)?;
        let mut scene = Scene::default();
        let position = seat.get_pointer().map(|pointer| pointer.current_location()).unwrap_or_default();
        if let Some((surface, at)) = pointer.surface(position) {
            tree::for_each(&surface, at, |surface, states, at| {
                scene.add(screen, renderer, surface, states, at)
            });
        } else if let Some(element) =
            pointer.element(renderer, screen.canvas.scale(), position - screen.area().loc.to_f64())
        {
            scene.elements.push(element);
        }
        shell.for_each_surface(|surface, states, at| scene.add(screen, renderer, surface, states, at));
        Some(scene)
    }

    fn send_frame_callbacks(&self, surfaces: &[WlSurface]) {
        let time_ms = trace::now_ms();
        for surface in surfaces {
            smithay::wayland::compositor::with_states(surface, |states| {
                let callbacks = std::mem::take(
                    &mut states.cached_state.get::<SurfaceAttributes>().current().frame_callbacks,
                );
                for callback in callbacks {
                    callback.done(time_ms);
                }
            });
        }
    }

    /// Sets the watchdog on an output, unless it is set already: it looks once in [`FLIP_LIMIT`] while frames go out,
    /// and never on an idle output.
    pub(super) fn watch(&mut self, index: usize) {
        let Some(screen) = self.screens.get_mut(index).filter(|screen| !screen.watched) else { return };
        let inserted =
            self.handle.insert_source(Timer::from_duration(FLIP_LIMIT), move |_, (), state: &mut Self| {
                let Some(screen) = state.screens.get_mut(index) else { return TimeoutAction::Drop };
                let now = trace::now();
                if !matches!(screen.machine.state(), State::InFlight { .. }) {
                    screen.watched = false;
                    return TimeoutAction::Drop;
                }
                if screen.machine.stuck(now, FLIP_LIMIT) {
                    tracing::warn!(
                        "{} has not flipped for {FLIP_LIMIT:?}; drawing again",
                        screen.head.name()
                    );
                    screen.head.abandon();
                    screen.canvas.forget();
                    let action = screen.machine.abandon(now);
                    state.act(index, action);
                }
                TimeoutAction::ToDuration(FLIP_LIMIT)
            });
        match inserted {
            Ok(_) => screen.watched = true,
            Err(error) => tracing::error!("an output has no watchdog: {error}"),
        }
    }

    /// Calls the head of an output without a kernel behind it at its virtual vblank.
    fn await_vblank(&mut self, index: usize, at: Duration) {
        let timer = Timer::from_duration(at.saturating_sub(trace::now()));
        let inserted = self.handle.insert_source(timer, move |_, (), state: &mut Self| {
            match state.screens.get_mut(index).map(|screen| screen.head.vblank(trace::now())) {
                Some(Vblank::Flipped(flipped)) => state.flipped(index, flipped),
                Some(Vblank::Late(at)) => return TimeoutAction::ToDuration(at.saturating_sub(trace::now())),
                Some(Vblank::Idle) | None => {}
            }
            TimeoutAction::Drop
        });
        if let Err(error) = inserted {
            tracing::error!("a virtual output has no vblank and stands still: {error}");
        }
    }

    /// The frame in flight of an output is on the screen.
    pub(super) fn flipped(&mut self, index: usize, flipped: Flipped) {
        let Some(screen) = self.screens.get_mut(index) else { return };
        let callbacks = std::mem::take(&mut screen.in_flight);
        // A virtual vblank is nobody's vsync; KMS flips carry the hardware's time and are reported by it.
        let flags = match &screen.head {
            Head::Kms(_) => Kind::Vsync | Kind::HwClock | Kind::HwCompletion,
            Head::Headless(_) => Kind::empty(),
        };
        let at = flipped.at;
        present(screen, callbacks, at, flipped.sequence.into(), flags);
        for surface in screen.presenting.drain(..).filter_map(|surface| surface.upgrade().ok()) {
            self.record.presented(ClientState::pid(surface.client().as_ref()));
        }
        screen.write_back();
        let action = screen.machine.flipped(at, trace::now());
        self.act(index, action);
    }
}

fn wants_callback(surface: &WlSurface) -> bool {
    smithay::wayland::compositor::with_states(surface, |states| {
        !states.cached_state.get::<SurfaceAttributes>().current().frame_callbacks.is_empty()
    })
}

fn present(
    screen: &Screen,
    callbacks: Vec<PresentationFeedbackCallback>,
    at: Duration,
    sequence: u64,
    flags: Kind,
) {
    if callbacks.is_empty() {
        return;
    }
    let refresh = Refresh::fixed(screen.head.refresh());
    for callback in callbacks {
        callback.presented(&screen.output, at, refresh, sequence, flags);
    }
}
