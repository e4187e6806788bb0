//! linux-dmabuf feedback per surface: tells a client which buffers would be scanned out, when its own are not and that is
//! all that is in the way.
//!
//! Keeps who was told, so that a surface is told again only when the answer is another.

use std::collections::{HashMap, hash_map::Entry};

use smithay::reexports::wayland_server::{
    Resource, Weak, backend::ObjectId, protocol::wl_surface::WlSurface,
};

use super::{Compositor, OutputId, scene::Scene};
use crate::output::layer::Advice;

/// The surfaces that were given a feedback of their own for an output.
#[derive(Debug, Default)]
pub struct Advised(HashMap<ObjectId, Weak<WlSurface>>);

impl Compositor {
    /// Tells the clients on an output what they should know. `topmost` is what is to be said of the topmost surface, if it
    /// has nothing above it; the others have no plane to hope for.
    pub(super) fn advise(&mut self, id: OutputId, scene: &Scene, topmost: Advice) {
        let Some(screen) = self.screens.get_mut(id) else { return };
        let first = scene.surface(0).filter(|surface| screen.is_paced(surface));
        let mut told = Vec::new();
        if let Some(surface) = first.filter(|_| topmost == Advice::Reallocate)
            && let Entry::Vacant(entry) = screen.advised.0.entry(surface.id())
        {
            entry.insert(surface.downgrade());
            told.push((surface.clone(), true));
        }
        // A buffer that is scanned out since is no reason to take the advice back: its client would only reallocate again.
        let stays =
            |id: &ObjectId| topmost != Advice::NoPlane && first.is_some_and(|surface| surface.id() == *id);
        screen.advised.0.retain(|id, surface| {
            let stays = stays(id);
            if !stays {
                told.extend(surface.upgrade().ok().map(|surface| (surface, false)));
            }
            stays
        });
        let scanout = if told.is_empty() { None } else { screen.head.scanout() };
        for (surface, on_plane) in told {
            let default = self.globals.dmabuf.default_feedback();
            let own = scanout.as_ref().filter(|_| on_plane);
            let own = own.map(|(device, formats)| default.with_scanout(*device, formats.iter().copied()));
            self.globals.dmabuf.set_surface_feedback(&surface, own);
        }
    }
}
