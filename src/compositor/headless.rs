//! Virtual displays that are plugged, unplugged and stepped by command, as tests and CI do.
//!
//! Owns nothing: the headless back end has the list.

use super::{
    Compositor,
    backend::{Backend, headless_mode},
};
use crate::{
    output::{Head, display::Info, kms::modes::ModeRequest},
    trace,
};

impl Compositor {
    /// Plugs in a virtual display; one of that name that is there already is exchanged for another with this mode. Does
    /// nothing on other back ends.
    pub fn plug(&mut self, name: &str, mode: ModeRequest) {
        let (Backend::Headless(displays), Some(mode)) = (&mut self.backend, headless_mode(mode)) else {
            return;
        };
        let info = Info::headless(name.to_owned(), mode);
        match displays.iter_mut().find(|display| display.name == name) {
            Some(display) => *display = info,
            None => displays.push(info),
        }
        self.probe();
    }

    /// A vblank of every virtual display that is stepped: what is in flight is shown, and what has come since is latched, to
    /// be shown by the next.
    pub fn step(&mut self) {
        for id in self.screens.ids() {
            let head = self.screens.get_mut(id).map(|screen| &mut screen.head);
            let Some(Head::Headless(head)) = head else { continue };
            match head.step(trace::now) {
                Ok(Some(flipped)) => self.flipped(id, flipped),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!("{}: the drawing cannot be waited for; no step: {error}", head.name());
                }
            }
        }
    }

    /// Unplugs a virtual display.
    pub fn unplug(&mut self, name: &str) {
        if let Backend::Headless(displays) = &mut self.backend {
            displays.retain(|display| display.name != name);
        }
        self.probe();
    }
}
