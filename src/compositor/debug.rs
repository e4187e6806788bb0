//! What fencepost-debug-v1 tells of outputs.
//!
//! Owns the way from screens and their frame machines to the protocol's words. Decides nothing.

use std::time::Duration;

use smithay::reexports::wayland_server::{Resource, protocol::wl_surface::WlSurface};

use super::{Compositor, Screen};
use crate::{
    output::frame::State,
    protocol::server::fencepost_debug_v1::OutputState,
    wayland::debug::{OutputFacts, Stage},
};

fn facts(screen: &Screen, now: Duration) -> OutputFacts {
    let pace = screen.machine.pace();
    OutputFacts {
        number: screen.number,
        name: screen.head.name().to_owned(),
        state: match screen.machine.state() {
            State::Off { .. } => OutputState::Off,
            State::Idle => OutputState::Idle,
            State::Scheduled { .. } => OutputState::Scheduled,
            State::Latching { .. } => OutputState::Latching,
            State::InFlight { .. } => OutputState::InFlight,
        },
        refresh: screen.head.refresh(),
        frame_time: pace.frame_time(),
        margin: pace.margin(),
        deadline: screen.machine.signal_by(now),
        frames: screen.frames,
        misses: pace.misses(),
    }
}

impl Compositor {
    /// The outputs that are lit, oldest first.
    pub(crate) fn output_facts(&self, now: Duration) -> Vec<OutputFacts> {
        self.screens.iter().map(|(_, screen)| facts(screen, now)).collect()
    }

    /// Where a surface can be seen.
    pub(crate) fn stage_of(&self, surface: &WlSurface) -> Stage {
        let paces = |(_, screen): &(_, &Screen)| screen.is_paced(surface);
        let output = self.screens.iter().find(paces).map_or(0, |(_, screen)| screen.number);
        let latches = |(_, screen): (_, &Screen)| {
            screen.presenting.iter().any(|presenting| presenting.id() == surface.id())
        };
        Stage { output, latched: self.screens.iter().any(latches) }
    }
}
