//! fifo-v1: clients have a content update wait until the one before it has been shown for a refresh.
//!
//! Owns the two protocol objects. What a barrier does is [`crate::surface::queue`]; when it is cleared,
//! `compositor/pacing.rs`.
//!
//! Not smithay 0.7's `wayland::fifo`: it posts `already_exists` on the `wl_surface`, which has no such error, and its
//! barriers are blockers of their own, beside the order, the bound and the superseding of our queue.

use smithay::reexports::{
    wayland_protocols::wp::fifo::v1::server::{
        wp_fifo_manager_v1::{self as manager, WpFifoManagerV1},
        wp_fifo_v1::{self as fifo, WpFifoV1},
    },
    wayland_server::{
        Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, Weak, backend::ClientId,
        protocol::wl_surface::WlSurface,
    },
};

#[cfg(feature = "guest")]
use super::broken::{self, BrokenRule};
use super::commit::with_sync;
use crate::compositor::Compositor;

/// Announces the global.
pub(super) fn create_global(display: &DisplayHandle) {
    display.create_global::<Compositor, WpFifoManagerV1, ()>(1, ());
}

impl GlobalDispatch<WpFifoManagerV1, ()> for Compositor {
    fn bind(
        _state: &mut Self,
        _display: &DisplayHandle,
        _client: &Client,
        resource: New<WpFifoManagerV1>,
        _data: &(),
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(resource, ());
    }
}

impl Dispatch<WpFifoManagerV1, ()> for Compositor {
    #[cfg_attr(not(feature = "guest"), expect(unused_variables, reason = "only tests break rules"))]
    fn request(
        _state: &mut Self,
        client: &Client,
        object: &WpFifoManagerV1,
        request: manager::Request,
        _data: &(),
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let manager::Request::GetFifo { id, surface } = request else { return };
        let is_taken = with_sync(&surface, |sync| sync.pacing.fifo.is_some());
        #[cfg(feature = "guest")]
        let is_taken = broken::object::is_taken(client, is_taken);
        if is_taken {
            let message = format!("{} already has a wp_fifo_v1", surface.id());
            return object.post_error(manager::Error::AlreadyExists, message);
        }
        let fifo = init.init(id, surface.downgrade());
        with_sync(&surface, |sync| sync.pacing.fifo = Some(fifo.downgrade()));
    }
}

impl Dispatch<WpFifoV1, Weak<WlSurface>> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        object: &WpFifoV1,
        request: fifo::Request,
        surface: &Weak<WlSurface>,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        let set_barrier = match request {
            fifo::Request::SetBarrier => true,
            fifo::Request::WaitBarrier => false,
            _ => return,
        };
        let Ok(surface) = surface.upgrade() else {
            #[cfg(feature = "guest")]
            if broken::is(BrokenRule::NoSurface) {
                return;
            }
            return object.post_error(fifo::Error::SurfaceDestroyed, "the wl_surface was destroyed");
        };
        with_sync(&surface, |sync| match set_barrier {
            true => sync.pacing.pending.set_barrier = true,
            false => sync.pacing.pending.wait_barrier = true,
        });
    }

    fn destroyed(_state: &mut Self, _client: ClientId, _object: &WpFifoV1, surface: &Weak<WlSurface>) {
        #[cfg(feature = "guest")]
        if broken::is(BrokenRule::Stays) {
            return;
        }
        if let Ok(surface) = surface.upgrade() {
            with_sync(&surface, |sync| sync.pacing.fifo = None);
        }
    }
}
