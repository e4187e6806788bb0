//! The displays that are connected, lit or not, and what happens when one comes or goes.
//!
//! Owns the list, and the one way on which a screen is lit and goes dark. How a display is to be lit is said elsewhere: by
//! the configuration file when it comes, by a client later ([`super::configure`]).

use std::time::Duration;

use calloop::timer::{TimeoutAction, Timer};
use smithay::{
    output::{Output, PhysicalProperties, Subpixel},
    reexports::wayland_server::DisplayHandle,
};

use super::{Compositor, OutputId, Screen, config::Config, scene::Scene, start};
use crate::{
    input,
    output::{
        Head,
        display::{Info, Settings},
        frame::{Cadence, FrameMachine},
        kms::modes::ModeRequest,
        layout,
        proposal::Proposal,
    },
    shell::Area,
    trace,
};

/// How long the global of an output that has gone can still be bound by clients that have not heard of it.
const GLOBAL_LINGERS: Duration = Duration::from_secs(5);

/// Names a display from when it is connected until it is not. One that comes back has another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct DisplayId(pub(super) u64);

/// A display that is connected.
#[derive(Debug)]
pub(super) struct Display {
    pub(super) id: DisplayId,
    pub(super) info: Info,
    pub(super) settings: Settings,
    /// The output that shows it, if it is lit.
    pub(super) screen: Option<OutputId>,
}

/// The displays, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Displays {
    list: Vec<Display>,
    newest: u64,
    config: Config,
    /// The mode of displays for which the configuration names none.
    mode: ModeRequest,
    /// No plane shows anything but the composed picture.
    no_planes: bool,
    /// Virtual displays have their vblanks by command.
    stepped: bool,
    /// A look at the connectors is due.
    probing: bool,
}

impl Displays {
    pub(super) fn new(config: Config, mode: ModeRequest) -> Self {
        Self { config, mode, ..Self::default() }
    }

    /// As the options say.
    pub(super) fn with(self, no_planes: bool, stepped: bool) -> Self {
        Self { no_planes, stepped, ..self }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Display> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Display> {
        self.list.iter_mut()
    }

    /// The display that an output shows.
    fn of(&self, screen: OutputId) -> Option<&Display> {
        self.list.iter().find(|display| display.screen == Some(screen))
    }

    fn named(&mut self, name: &str) -> Option<&mut Display> {
        self.list.iter_mut().find(|display| display.info.name == name)
    }

    /// Takes note of what is connected now. Returns the screens of displays that are not any more, and of those whose
    /// mode may have to be chosen, or set, anew.
    fn take_note(&mut self, found: Vec<Info>) -> (Vec<OutputId>, Vec<OutputId>) {
        let (mut gone, mut changed) = (Vec::new(), Vec::new());
        self.list.retain(|display| {
            let stays = found.iter().any(|info| info.is_same_display(&display.info));
            gone.extend(display.screen.filter(|_| !stays));
            stays
        });
        for info in found {
            if let Some(known) = self.named(&info.name) {
                // A link that fails once more is told of in the words of the first time.
                if known.info != info || info.link_failed {
                    known.info = info;
                    changed.extend(known.screen);
                }
                continue;
            }
            self.newest += 1;
            let settings = self.config.settings(&info, self.mode);
            self.list.push(Display { id: DisplayId(self.newest), info, settings, screen: None });
        }
        (gone, changed)
    }
}

impl Compositor {
    /// Lights the displays that are there at the start.
    pub(super) fn light_screens(&mut self) -> Result<(), start::Error> {
        let found = self.backend.displays()?;
        let none_found = found.is_empty();
        self.displays.take_note(found);
        let reasons = self.light_missing();
        let wanted = self.displays.iter().any(|display| display.settings.on);
        if self.screens.iter().next().is_none() && (wanted || none_found) {
            return Err(self.backend.dark(reasons).into());
        }
        reasons.iter().for_each(|reason| tracing::warn!("a display stays dark: {reason}"));
        self.outputs_changed();
        self.resume();
        Ok(())
    }

    /// Something about the displays may have changed: looks at them, once the events that are there have been read.
    pub(super) fn displays_changed(&mut self) {
        if !std::mem::replace(&mut self.displays.probing, true) {
            self.handle.insert_idle(Self::probe);
        }
    }

    /// Looks at what is connected now, and lights and darkens screens accordingly.
    pub(super) fn probe(&mut self) {
        self.displays.probing = false;
        if !self.backend.is_active() {
            // The session's return looks again.
            return;
        }
        match self.backend.displays() {
            Ok(found) => self.set_displays(found),
            Err(error) => {
                tracing::warn!("the displays could not be looked at: {error}");
                self.look_for_lost_devices();
            }
        }
    }

    /// These displays are connected now.
    pub(super) fn set_displays(&mut self, found: Vec<Info>) {
        let (gone, changed) = self.displays.take_note(found);
        for id in gone {
            self.darken(id);
        }
        for id in changed {
            self.choose_mode_anew(id);
        }
        for reason in self.light_missing() {
            tracing::warn!("a display stays dark: {reason}");
        }
        self.outputs_changed();
    }

    /// Lights every display that is to be on and is dark. Says why some stay dark.
    pub(super) fn light_missing(&mut self) -> Vec<String> {
        let dark = self.displays.iter().filter(|display| display.settings.on && display.screen.is_none());
        let wishes: Vec<_> = dark.map(|display| (display.info.name.clone(), display.settings.mode)).collect();
        let mut reasons = Vec::new();
        for (name, mode) in wishes {
            let lit = self.propose(&name, mode).or_else(|error| match mode {
                ModeRequest::Preferred => Err(error),
                ModeRequest::Size { .. } | ModeRequest::Custom { .. } => {
                    tracing::warn!("{name} is lit with the mode that it prefers: {error}");
                    self.propose(&name, ModeRequest::Preferred)
                }
            });
            match lit {
                Ok(proposal) => self.light(proposal),
                Err(reason) => reasons.push(reason),
            }
        }
        reasons
    }

    /// What would light one display, beside those that are lit.
    fn propose(&self, name: &str, mode: ModeRequest) -> Result<Proposal, String> {
        let lit = self.displays.iter().filter(|display| display.screen.is_some());
        let lit = lit.map(|display| display.info.name.as_str()).filter(|other| *other != name);
        let on: Vec<_> = lit.chain([name]).collect();
        let mut proposals = self.backend.propose(&self.renderer, &on, &[(name, mode)])?;
        proposals.pop().ok_or_else(|| format!("{name} has gone"))
    }

    /// Something about a display has changed: it keeps its mode if it can. If that needs a modeset, what asks for the same mode
    /// once more is a proposal like others: the kernel is asked whether it would take it.
    fn choose_mode_anew(&mut self, id: OutputId) {
        let (Some(display), Some(screen)) = (self.displays.of(id), self.screens.get(id)) else { return };
        let (info, settings) = (&display.info, display.settings);
        if settings.are_met_by(info, screen.head.mode()) {
            return;
        }
        let name = info.name.clone();
        if info.link_failed {
            tracing::info!("the link of {name} has failed: its mode is set anew");
        }
        let proposal = self.propose(&name, settings.mode);
        match proposal.or_else(|_| self.propose(&name, ModeRequest::Preferred)) {
            Ok(proposal) => self.light(proposal),
            Err(reason) => tracing::warn!("{name} keeps a mode that it can no longer show: {reason}"),
        }
    }

    /// Lights a display as proposed: with the head that it has, or a new one.
    pub(super) fn light(&mut self, proposal: Proposal) {
        let Some(display) = self.displays.named(proposal.name()) else { return };
        let id = display.screen;
        let proposal = match id.and_then(|id| self.screens.get_mut(id)) {
            Some(screen) => match screen.head.adopt(proposal, trace::now()) {
                Ok(()) => {
                    // Its buffers are others, also where they have the same size.
                    screen.canvas.forget();
                    return;
                }
                Err(proposal) => proposal,
            },
            None => proposal,
        };
        // Another CRTC: the old one goes dark first.
        if let Some(id) = id {
            self.darken(id);
        }
        let Some(head) = self.backend.head(proposal) else { return };
        let head = match head {
            Head::Headless(head) if self.displays.stepped => Head::Headless(head.stepped()),
            head => head,
        };
        let no_planes = self.displays.no_planes;
        let Some(display) = self.displays.named(head.name()) else { return };
        let mut screen = new_screen(head, &display.info, &self.display);
        screen.no_planes = no_planes;
        let id = self.screens.add(screen);
        display.screen = Some(id);
        if self.backend.is_active() {
            let action = self.screens.get_mut(id).and_then(|screen| screen.machine.resume(trace::now()));
            self.act(id, action);
        }
    }

    /// An output goes dark for good: whoever was told of it is told so, and none of its buffers is read any more.
    pub(super) fn darken(&mut self, id: OutputId) {
        self.disarm(id);
        let Some(mut screen) = self.screens.remove(id) else { return };
        self.displays.iter_mut().filter(|display| display.screen == Some(id)).for_each(|display| {
            display.screen = None;
        });
        tracing::info!("{} goes dark", screen.head.name());
        self.globals.output_gone(&screen.output);
        self.globals.sessions.output_gone(&screen.output);
        let moved = screen.set_shown(&Scene::empty());
        for (callback, _) in screen.in_flight.drain(..) {
            callback.discarded();
        }
        self.retire(&screen);
        drop(screen);
        moved.iter().for_each(|surface| self.prefer_scale(surface));
        // A flip of its last frame is not to be taken for one of whoever has the CRTC next.
        self.drain_flips();
        self.repace();
    }

    /// Takes an output's global back: nobody is told of it any more, but a client may have asked for it already.
    fn retire(&mut self, screen: &Screen) {
        self.display.disable_global::<Self>(screen.global.clone());
        let global = screen.global.clone();
        let lingers = Timer::from_duration(GLOBAL_LINGERS);
        let inserted = self.handle.insert_source(lingers, move |_, (), state: &mut Self| {
            state.display.remove_global::<Self>(global.clone());
            TimeoutAction::Drop
        });
        if let Err(error) = inserted {
            tracing::error!("the global of an output that has gone stays: {error}");
        }
    }

    /// Outputs came, went or changed: everything that depends on where they are follows.
    pub(super) fn outputs_changed(&mut self) {
        self.place_outputs();
        let areas = self.screens.iter().map(|(id, screen)| Area { output: id.number(), rect: screen.area() });
        self.shell.set_areas(areas.collect());
        self.announce_outputs();
        self.globals.sessions.outputs_changed(&self.drawable_formats(), self.capture_device());
        self.scales_changed();
        input::move_pointer(self, self.pointer_position(), trace::now_ms());
        self.enter_under_pointer();
        self.scene_changed();
    }

    /// Tells each output its place, and what else its settings say.
    fn place_outputs(&mut self) {
        let lit = |display: &Display| {
            let screen = self.screens.get(display.screen?)?;
            let (settings, scale) = (display.settings, display.settings.scale_of(&display.info));
            Some((display.screen?, settings, scale, settings.logical_size(screen.head.mode().size, scale)))
        };
        let lit: Vec<_> = self.displays.iter().filter_map(lit).collect();
        let wanted: Vec<_> = lit
            .iter()
            .map(|(_, settings, _, size)| layout::Wish { size: *size, at: settings.position })
            .collect();
        for ((id, settings, scale, _), at) in lit.into_iter().zip(layout::arrange(&wanted)) {
            if let Some(screen) = self.screens.get_mut(id) {
                screen.configure(&settings, scale, at);
            }
        }
    }
}

/// A screen with its global, dark until its machine is resumed.
fn new_screen(head: Head, info: &Info, display: &DisplayHandle) -> Screen {
    let millimetres = |value: u32| i32::try_from(value).unwrap_or(0);
    let or = |text: &str, otherwise: &str| if text.is_empty() { otherwise } else { text }.to_owned();
    let output = Output::new(
        info.name.clone(),
        PhysicalProperties {
            size: (millimetres(info.size_mm.0), millimetres(info.size_mm.1)).into(),
            subpixel: Subpixel::Unknown,
            make: or(&info.make, "Unknown"),
            model: or(&info.model, "Unknown"),
        },
    );
    for mode in &info.modes {
        output.add_mode(*mode);
    }
    let mode = head.mode();
    output.change_current_state(Some(mode), None, None, None);
    output.set_preferred(info.preferred.unwrap_or(mode));
    tracing::info!("{}: {}x{} at {} mHz", head.name(), mode.size.w, mode.size.h, mode.refresh);
    let machine = FrameMachine::new(head.refresh());
    let machine = if head.has_steady_vblanks() { machine } else { machine.with_cadence(Cadence::AtOnce) };
    Screen::new(output, display, machine, head)
}

#[cfg(test)]
mod tests {
    use smithay::output::Mode;

    use super::*;

    #[test]
    fn a_lit_display_is_looked_at_again_when_it_changes_and_whenever_its_link_has_failed() {
        let mode = Mode { size: (640, 480).into(), refresh: 60_000 };
        let info = Info::headless("DP-1".into(), mode);
        let failed = Info { link_failed: true, ..info.clone() };
        let (mut displays, screen) = (Displays::default(), OutputId::of(1));
        displays.take_note(vec![info.clone()]);
        assert_eq!(displays.take_note(vec![failed.clone()]), (vec![], vec![]), "it is dark");
        displays.iter_mut().for_each(|display| display.screen = Some(screen));
        displays.take_note(vec![info.clone()]);
        assert_eq!(displays.take_note(vec![info.clone()]), (vec![], vec![]));
        for _ in 0..2 {
            assert_eq!(displays.take_note(vec![failed.clone()]), (vec![], vec![screen]));
        }
    }
}
