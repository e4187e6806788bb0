//! Another configuration of all outputs at once: tested as a whole, then taken, or nothing changes.
//!
//! Owns the transaction. Who asks for it, and how, is `wayland/`'s; what the kernel takes, `output/`'s.

use smithay::{
    output::Mode,
    utils::{Logical, Point},
};

use super::{Compositor, OutputId, displays::DisplayId};
use crate::{
    output::{
        Head,
        display::{Scale, Settings},
        layout,
        proposal::Proposal,
        vsync::Vrr,
    },
    wayland::output_management::{HeadInfo, HeadState, Wanted},
};

/// Why a configuration is not taken. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It is about another set of displays than there is.
    #[error("it does not say of each display what becomes of it")]
    Displays,
    /// A mode that no display can have.
    #[error("there is no mode {0:?}")]
    Mode(Mode),
    /// A number that no output can have.
    #[error("no output can be scaled by {0}")]
    Scale(f64),
    /// Too far out.
    #[error("no output can be as far out as {0:?}")]
    Position(Point<i32, Logical>),
    /// The display has no variable refresh.
    #[error("{0} has a fixed refresh rate")]
    AdaptiveSync(String),
    /// The backend or the kernel would not do it.
    #[error("{0}")]
    Backend(String),
}

impl Compositor {
    /// Takes another configuration, which has to say of each display what becomes of it; with `test` only says whether it
    /// would.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) fn configure_outputs(&mut self, wanted: &[(u64, Wanted)], test: bool) -> Result<(), Refused> {
        let settings = self.resolve(wanted)?;
        let on = |id: &DisplayId| settings.iter().any(|(of, settings)| of == id && settings.on);
        let mut wishes = Vec::new();
        let mut off = Vec::new();
        let mut names = Vec::new();
        for display in self.displays.iter() {
            let screen = display.screen.and_then(|id| Some((id, self.screens.get(id)?)));
            let Some((_, settings)) = settings.iter().find(|(id, _)| *id == display.id) else { continue };
            match screen {
                Some((id, _)) if !on(&display.id) => off.push(id),
                // Another place, scale or transform is no business of the kernel's.
                Some((_, screen)) if Some(settings.mode) == display.info.request(screen.head.mode()) => {}
                Some((_, screen))
                    if settings.mode == display.settings.mode
                        && display.info.keeps(settings.mode, screen.head.mode()) => {}
                _ if on(&display.id) => wishes.push((display.info.name.as_str(), settings.mode)),
                _ => {}
            }
            names.extend(on(&display.id).then_some(display.info.name.as_str()));
        }
        let mut proposals =
            self.backend.propose(&self.renderer, &names, &wishes).map_err(Refused::Backend)?;
        let heads: Vec<&Head> = off.iter().filter_map(|id| Some(&self.screens.get(*id)?.head)).collect();
        self.backend.test(&mut proposals, &heads).map_err(Refused::Backend)?;
        if !test {
            self.take(&settings, off, proposals);
        }
        Ok(())
    }

    fn take(&mut self, settings: &[(DisplayId, Settings)], off: Vec<OutputId>, proposals: Vec<Proposal>) {
        for display in self.displays.iter_mut() {
            if let Some((_, settings)) = settings.iter().find(|(id, _)| *id == display.id) {
                display.settings = *settings;
            }
        }
        // First: they may leave their CRTCs to others.
        for id in off {
            self.darken(id);
        }
        for proposal in proposals {
            self.light(proposal);
        }
        self.outputs_changed();
    }

    /// What is wanted as settings, of every display that there is.
    fn resolve(&self, wanted: &[(u64, Wanted)]) -> Result<Vec<(DisplayId, Settings)>, Refused> {
        let mut resolved = Vec::new();
        for display in self.displays.iter() {
            let (_, wanted) = wanted.iter().find(|(id, _)| *id == display.id.0).ok_or(Refused::Displays)?;
            let mut settings = display.settings;
            match wanted {
                Wanted::Off => settings.on = false,
                Wanted::On(change) => {
                    settings.on = true;
                    match change.adaptive_sync {
                        Some(true) if !display.info.varies => {
                            return Err(Refused::AdaptiveSync(display.info.name.clone()));
                        }
                        // What the file says of when stays, as long as it is to be at all.
                        Some(true) if settings.vrr != Vrr::Off => {}
                        Some(true) => settings.vrr = Vrr::On,
                        Some(false) => settings.vrr = Vrr::Off,
                        None => {}
                    }
                    if let Some(scale) = change.scale {
                        settings.scale = Some(Scale::new(scale).ok_or(Refused::Scale(scale))?);
                    }
                    if let Some(at) = change.position {
                        let far = |at: i32| at.unsigned_abs() > layout::FARTHEST.unsigned_abs();
                        if far(at.x) || far(at.y) {
                            return Err(Refused::Position(at));
                        }
                        settings.position = Some(at);
                    }
                    settings.transform = change.transform.unwrap_or(settings.transform);
                    if let Some(mode) = change.mode {
                        settings.mode = display.info.request(mode).ok_or(Refused::Mode(mode))?;
                    }
                }
            }
            resolved.push((display.id, settings));
        }
        match resolved.len() == wanted.len() {
            true => Ok(resolved),
            false => Err(Refused::Displays),
        }
    }

    /// Tells the clients that configure outputs what they are now.
    pub(super) fn announce_outputs(&mut self) {
        let info = |display: &super::displays::Display| {
            let screen = display.screen.and_then(|id| self.screens.get(id));
            let info = &display.info;
            HeadInfo {
                id: display.id.0,
                name: info.name.clone(),
                make: info.make.clone(),
                model: info.model.clone(),
                serial: info.serial.clone(),
                size_mm: info.size_mm,
                modes: info.modes.clone(),
                preferred: info.preferred,
                state: screen.map(|screen| HeadState {
                    mode: screen.head.mode(),
                    position: screen.output.current_location(),
                    transform: screen.output.current_transform(),
                    scale: screen.output.current_scale().fractional_scale(),
                    adaptive_sync: screen.head.can_vary() && display.settings.vrr != Vrr::Off,
                }),
            }
        };
        let heads = self.displays.iter().map(info).collect();
        self.globals.output_management.update(&self.display, heads);
    }
}
