//! The outputs that are lit, by names that are never used again.
//!
//! Owns which screens there are. A timer, a flip or a watchdog knows its screen by [`OutputId`]: when it comes late, the
//! screen is gone and it finds nothing, never another's.

use std::collections::BTreeMap;

use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;

use super::{Compositor, Screen};
use crate::{output::layout::Stage, wayland};

/// Names an output from when it is lit until it goes dark for good. One that is lit again has another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct OutputId(u64);

impl OutputId {
    #[cfg(test)]
    pub(super) const fn of(number: u64) -> Self {
        Self(number)
    }

    /// The number that stands for it where its name is not known.
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

/// The outputs that are lit, oldest first.
#[derive(Debug, Default)]
pub(super) struct Screens {
    screens: BTreeMap<OutputId, Screen>,
    newest: u64,
}

impl Screens {
    /// Adds an output.
    pub(super) fn add(&mut self, screen: Screen) -> OutputId {
        self.newest += 1;
        let id = OutputId(self.newest);
        self.screens.insert(id, screen);
        id
    }

    /// The output of this name, if it has not gone.
    pub(super) fn get(&self, id: OutputId) -> Option<&Screen> {
        self.screens.get(&id)
    }

    /// As [`get`](Self::get), to change it.
    pub(super) fn get_mut(&mut self, id: OutputId) -> Option<&mut Screen> {
        self.screens.get_mut(&id)
    }

    /// The names of all, for walks during which outputs may come and go.
    pub(super) fn ids(&self) -> Vec<OutputId> {
        self.screens.keys().copied().collect()
    }

    /// Those whose timer is due already.
    pub(super) fn due(&self) -> Vec<OutputId> {
        self.iter().filter(|(_, screen)| screen.is_due).map(|(id, _)| id).collect()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (OutputId, &Screen)> {
        self.screens.iter().map(|(id, screen)| (*id, screen))
    }

    /// As [`iter`](Self::iter), to change them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (OutputId, &mut Screen)> {
        self.screens.iter_mut().map(|(id, screen)| (*id, screen))
    }

    /// Takes an output out.
    pub(super) fn remove(&mut self, id: OutputId) -> Option<Screen> {
        self.screens.remove(&id)
    }

    /// Those that show something: not those whose power is off.
    pub(super) fn stages(&self) -> Vec<Stage<OutputId>> {
        let stage = |(id, screen): (OutputId, &Screen)| {
            let (area, refresh) = (screen.area(), screen.head.refresh());
            screen.powered.then_some(Stage { id, area, refresh })
        };
        self.iter().filter_map(stage).collect()
    }
}

impl Compositor {
    /// Tells the client of a surface how it had best be drawn: as large as the largest of the outputs that show it needs,
    /// or, before it is shown, the one where the pointer is. And turned as that output is, so that a plane can show it as it
    /// is.
    pub(crate) fn prefer_scale(&self, surface: &WlSurface) {
        let shows = |(_, screen): &(OutputId, &Screen)| screen.shows(surface);
        let scale = |screen: &Screen| screen.output.current_scale().fractional_scale();
        let largest = self.screens.iter().filter(shows).map(|(_, screen)| screen);
        let largest = largest.max_by(|a, b| scale(a).total_cmp(&scale(b)));
        let pointed = || {
            let area = self.shell.area_at(self.pointer_position())?;
            self.screens.iter().find(|(_, screen)| screen.area() == area).map(|(_, screen)| screen)
        };
        if let Some(screen) = largest.or_else(pointed) {
            let (scale, transform) = (screen.output.current_scale(), screen.output.current_transform());
            wayland::prefer(surface, scale.fractional_scale(), scale.integer_scale(), transform);
        }
    }

    /// The scale of an output may have changed.
    pub(super) fn scales_changed(&self) {
        for surface in self.globals.surfaces() {
            self.prefer_scale(&surface);
        }
    }
}
