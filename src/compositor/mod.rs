//! The compositor: one field per stage of the chain, and the event loop that joins them.
//!
//! Owns the loop. Contains no policy and no protocol: the callbacks here pass things from one stage to the next.

mod backend;
mod children;
mod latch;
mod pointer;
mod screen;
mod seat;
mod socket;
mod start;
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
    render::{Renderer, texture::ImportError},
    shell::{Mapping, Shell},
    trace::Record,
    wayland::{ClientState, Globals, commit::Effect, disconnect},
};
use backend::Backend;
pub use backend::Kind;
use children::Children;
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
    /// Windows and policy.
    pub shell: Shell,
    /// The pointer's image.
    pointer: Pointer,
    /// Composition.
    renderer: Renderer,
    /// Where pictures go.
    backend: Backend,
    /// The outputs.
    screens: Vec<Screen>,
    /// What clients get back.
    pub releases: Releases,
    /// What happened, per client.
    pub record: Record,
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
        let shown = self.shell.window_of(surface).map(crate::shell::Window::frame);
        for index in 0..self.screens.len() {
            let Some(screen) = self.screens.get_mut(index) else { continue };
            // A popup or a subsurface may reach beyond its window's frame; then it is drawn with its next change.
            if shown.is_some_and(|frame| !screen.area().overlaps(frame)) && !screen.shows(surface) {
                continue;
            }
            let now = crate::trace::now();
            let action = match effect {
                Effect::Changed => screen.machine.damaged(now),
                Effect::CallbacksOnly => screen.machine.callback_wanted(now),
                Effect::Nothing => None,
            };
            self.act(index, action);
        }
    }

    /// A surface is destroyed.
    pub(crate) fn surface_gone(&mut self, surface: &WlSurface) {
        for screen in &mut self.screens {
            screen.forget(surface);
        }
        self.pointer.surface_gone(surface);
        self.shell.cleanup();
        self.scene_changed();
        self.enter_under_pointer();
    }

    /// Windows moved, came or went: every output looks at the scene again.
    pub(crate) fn scene_changed(&mut self) {
        for index in 0..self.screens.len() {
            let action =
                self.screens.get_mut(index).and_then(|screen| screen.machine.damaged(crate::trace::now()));
            self.act(index, action);
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
        let named = output.and_then(|output| self.screens.iter().find(|screen| screen.output.owns(output)));
        if let Some(screen) = named {
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
        let record = &mut self.record;
        let lost = self.releases.settle(
            &self.handle,
            |state: &mut Self, key| {
                let lost = state.releases.finish(key);
                state.disconnect(lost);
            },
            |buffer, told| record.released(ClientState::pid(buffer.client().as_ref()), told),
        );
        self.disconnect(lost);
        if let Err(error) = self.display.flush_clients() {
            tracing::debug!("a client could not be sent its events: {error}");
        }
    }

    /// A client whose release point cannot be signalled would wait for ever; it is told why instead.
    fn disconnect(&mut self, lost: impl IntoIterator<Item = Lost>) {
        for Lost { client, error } in lost {
            tracing::warn!("a release point could not be signalled: {error}");
            if let Some(client) = client {
                disconnect::failed(&self.display, &client, &error);
            }
        }
    }

    /// The end: every release is settled, also of what is on the screens.
    fn release_everything(&mut self) {
        for surface in self.globals.surfaces() {
            crate::wayland::commit::surface_destroyed(&surface);
        }
        self.releases.drain();
    }
}
