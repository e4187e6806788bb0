//! Outputs that are off and keep their place: display power management.
//!
//! Owns the switch. An output that is off commits nothing, and its displays' windows stay where they are.

use smithay::output::Output;

use super::{Compositor, OutputId};
use crate::trace::{self, Event};

impl Compositor {
    /// Whether an output is on; `None` if it has gone.
    pub(crate) fn is_powered(&self, output: &Output) -> Option<bool> {
        Some(self.screens.get(self.screen_of(output)?)?.powered)
    }

    /// Switches an output off or on again.
    pub(crate) fn set_power(&mut self, output: &Output, on: bool) {
        let Some(id) = self.screen_of(output) else { return };
        let Some(screen) = self.screens.get_mut(id) else { return };
        if std::mem::replace(&mut screen.powered, on) == on {
            return;
        }
        let active = self.backend.is_active();
        if on {
            screen.head.resume();
            screen.canvas.forget();
            let action = active.then(|| screen.machine.resume(trace::now())).flatten();
            self.act(id, action);
        } else {
            self.switch_off(id);
        }
        self.globals.power_changed(output, on);
        // Surfaces on it are paced by another output meanwhile, if one shows them.
        self.scene_changed();
    }

    /// Turns an output's display off, which may be off already.
    pub(super) fn switch_off(&mut self, id: OutputId) {
        let Some(screen) = self.screens.get_mut(id) else { return };
        let action = screen.machine.pause();
        if let Err(error) = screen.head.disable() {
            tracing::warn!("{} may stay lit: {error}", screen.head.name());
        }
        trace::note(Event::Dark { output: screen.number });
        for (callback, _) in screen.in_flight.drain(..) {
            callback.discarded();
        }
        self.act(id, action);
        self.drain_flips();
        // The head has forgotten what was in flight; so must its machine.
        let now = trace::now();
        let forgotten = self.screens.get_mut(id).and_then(|screen| screen.machine.flipped(now, now));
        self.act(id, forgotten);
        self.repace();
    }
}
