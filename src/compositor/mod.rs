//! The compositor: one field per stage of the chain, and the event loop that joins them.
//!
//! Owns the loop. Contains no policy and no protocol: the callbacks here pass things from one stage to the next.

mod acquire;
mod advice;
mod backend;
mod capture;
mod children;
mod config;
mod configure;
mod debug;
mod displays;
mod gone;
mod headless;
mod kept;
mod kms;
mod latch;
mod nested;
mod occlusion;
mod outputs;
mod overlay;
mod pacing;
mod pointed;
mod pointer;
mod power;
mod recover;
mod scene;
mod screen;
mod seat;
mod show;
mod signals;
mod sleep;
mod socket;
mod start;
mod traced;
mod vsync;
mod watchdog;
mod writeback;

use calloop::{LoopHandle, LoopSignal};
use smithay::{
    backend::allocator::dmabuf::Dmabuf,
    input::Seat,
    reexports::wayland_server::{
        DisplayHandle, Resource,
        protocol::{wl_output::WlOutput, wl_surface::WlSurface},
    },
    utils::{Logical, Rectangle},
};

use crate::{
    buffer::{Releases, release::Lost},
    errors::chain,
    fence::timeline::SyncobjDevice,
    input::Fingers,
    render::{Renderer, texture::ImportError},
    shell::{Mapping, Shell},
    trace::Record,
    wayland::{ClientState, Globals, commit::Effect, disconnect},
};
pub use acquire::AcquireState;
use backend::Backend;
pub use backend::Kind;
use children::Children;
use displays::Displays;
use outputs::{OutputId, Screens};
use pointer::Pointer;
pub use screen::Screen;
pub use start::{Error, Options, Running, run};

/// Everything, in data-flow order.
#[derive(Debug)]
pub struct Compositor {
    /// The event loop.
    pub handle: LoopHandle<'static, Self>,
    /// Ends it.
    pub stop: LoopSignal,
    /// The Wayland side.
    pub display: DisplayHandle,
    /// The globals' state.
    pub globals: Globals,
    /// The processes that we started.
    children: Children,
    /// The one seat.
    pub seat: Seat<Self>,
    /// Those on its touch screens.
    pub(crate) fingers: Fingers,
    /// Windows and policy.
    pub shell: Shell,
    /// The pointer's image.
    pointer: Pointer,
    /// Composition.
    renderer: Renderer,
    /// Who waits for acquire fences.
    acquire: acquire::Rule,
    /// Where pictures go.
    backend: Backend,
    /// The outputs.
    screens: Screens,
    /// The displays that they show it on, and those that are dark.
    displays: Displays,
    /// Surfaces that wait for an output.
    pacing: pacing::Pacing,
    /// What clients get back.
    pub releases: Releases,
    /// What happened, per client.
    pub record: Record,
    /// Why it cannot go on, if it cannot.
    failure: Option<String>,
}

impl Compositor {
    /// A surface's pending state was applied.
    pub(crate) fn surface_applied(&mut self, surface: &WlSurface, effect: Effect) {
        self.shell.popups.commit(surface);
        self.configure_initially(surface);
        match self.shell.committed(surface) {
            Mapping::Mapped => {
                self.focus(Some(surface));
                self.scene_changed();
            }
            Mapping::Unmapped => {
                self.focus_topmost();
                self.scene_changed();
            }
            Mapping::Unchanged => self.surface_changed(surface, effect),
        }
    }

    /// Tells the outputs that show the surface.
    fn surface_changed(&mut self, surface: &WlSurface, effect: Effect) {
        // A walk of its window's surfaces: not for the outputs that are known to show it.
        let mut frame = None;
        for id in self.screens.ids() {
            let Some(screen) = self.screens.get_mut(id) else { continue };
            let is_seen = match effect {
                Effect::Changed => {
                    screen.forget_scene();
                    true
                }
                Effect::Redrawn | Effect::CallbacksOnly => screen.look_at(surface),
                Effect::Nothing => false,
            };
            // A popup or a subsurface may reach beyond its window's frame; then it is drawn with its next change.
            if !screen.shows(surface) {
                let frame = *frame.get_or_insert_with(|| self.shell.frame_of(surface));
                if frame.is_some_and(|frame| !screen.area().overlaps(frame)) {
                    continue;
                }
            }
            let now = crate::trace::now();
            let action = match effect {
                Effect::Changed | Effect::Redrawn if is_seen => screen.machine.damaged(now),
                // A hidden client that draws whenever its buffer comes back has that once in a refresh, as if it were seen.
                Effect::Changed | Effect::Redrawn | Effect::CallbacksOnly => {
                    screen.machine.callback_wanted(now)
                }
                Effect::Nothing => None,
            };
            self.act(id, action);
        }
    }

    /// A surface is destroyed.
    pub(crate) fn surface_gone(&mut self, surface: &WlSurface) {
        for (_, screen) in self.screens.iter_mut() {
            screen.forget(surface);
        }
        self.pace_no_more(surface);
        self.pointer.surface_gone(surface);
        self.shell.cleanup();
        self.scene_changed();
        self.enter_under_pointer();
    }

    /// Windows moved, came or went: every output looks at the scene again.
    pub(crate) fn scene_changed(&mut self) {
        for id in self.screens.ids() {
            let action = self.screens.get_mut(id).and_then(|screen| screen.damaged(crate::trace::now()));
            self.act(id, action);
        }
    }

    /// Whether a client's dma-buf can be shown; the renderer's word.
    pub(crate) fn can_import(&mut self, dmabuf: &Dmabuf) -> Result<(), ImportError> {
        self.renderer.can_import(dmabuf)
    }

    /// The area that a window is to fill: the output that the client names, else the one it is on.
    pub(crate) fn area_for(
        &self,
        surface: &WlSurface,
        output: Option<&WlOutput>,
    ) -> Option<Rectangle<i32, Logical>> {
        let named =
            output.and_then(|output| self.screens.iter().find(|(_, screen)| screen.output.owns(output)));
        if let Some((_, screen)) = named {
            return Some(screen.area());
        }
        let window = self.shell.window(surface)?;
        match window.mapped {
            true => self.shell.area_at(window.frame().to_f64().loc),
            false => self.shell.area_at(self.pointer_position()),
        }
    }

    /// The end of one turn of the event loop: settle what became due, tell the clients.
    fn turn(&mut self) {
        if self.globals.syncobj.as_ref().is_some_and(SyncobjDevice::is_gone) {
            self.syncobj_device_gone();
        }
        self.latch_due();
        let record = &mut self.record;
        let lost = self.releases.settle(
            &self.handle,
            |state: &mut Self, key| {
                let lost = state.releases.finish(key);
                state.disconnect(lost);
            },
            |buffer, commit, how| record.released(ClientState::pid(buffer.client().as_ref()), commit, how),
        );
        self.disconnect(lost);
        self.globals.debug.tell();
        if let Err(error) = self.display.flush_clients() {
            tracing::debug!("a client could not be sent its events: {error}");
        }
    }

    /// A client whose release point cannot be signalled would wait for ever; it is told why instead.
    fn disconnect(&mut self, lost: impl IntoIterator<Item = Lost>) {
        for Lost { client, error } in lost {
            let why = chain(&error);
            tracing::warn!("a release is lost: {why}");
            if let Some(client) = client {
                disconnect::failed(&self.display, &client, &why);
            }
        }
    }

    /// The end: every release is settled, also of what is on the screens.
    fn release_everything(&mut self) {
        self.screens.iter_mut().for_each(|(_, screen)| screen.forget_scene());
        for surface in self.globals.surfaces() {
            crate::wayland::commit::surface_destroyed(&surface);
        }
        // What the outputs show is given back with them.
        self.screens.ids().into_iter().for_each(|id| drop(self.screens.remove(id)));
        self.releases.drain();
    }
}
