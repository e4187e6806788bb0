//! tearing-control-v1: clients say that their frames may be shown in the middle of a refresh.
//!
//! Owns the two protocol objects and the hint, which is part of a commit. Whether it is followed is not said here.

use smithay::{
    reexports::{
        wayland_protocols::wp::tearing_control::v1::server::{
            wp_tearing_control_manager_v1::{self as manager, WpTearingControlManagerV1},
            wp_tearing_control_v1::{self as control, PresentationHint, WpTearingControlV1},
        },
        wayland_server::{
            Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, Weak,
            backend::ClientId, protocol::wl_surface::WlSurface,
        },
    },
    wayland::compositor::{Cacheable, with_states},
};

use super::commit::with_sync;
use crate::compositor::Compositor;

/// Whether the content of a surface may tear.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tearing(pub(super) bool);

impl Cacheable for Tearing {
    fn commit(&mut self, _display: &DisplayHandle) -> Self {
        *self
    }

    fn merge_into(self, into: &mut Self, _display: &DisplayHandle) {
        *into = self;
    }
}

/// Announces the global.
pub(super) fn create_global(display: &DisplayHandle) {
    display.create_global::<Compositor, WpTearingControlManagerV1, ()>(1, ());
}

fn set_pending(surface: &WlSurface, tearing: bool) {
    with_states(surface, |states| states.cached_state.get::<Tearing>().pending().0 = tearing);
}

impl GlobalDispatch<WpTearingControlManagerV1, ()> for Compositor {
    fn bind(
        _state: &mut Self,
        _display: &DisplayHandle,
        _client: &Client,
        resource: New<WpTearingControlManagerV1>,
        _data: &(),
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(resource, ());
    }
}

impl Dispatch<WpTearingControlManagerV1, ()> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        object: &WpTearingControlManagerV1,
        request: manager::Request,
        _data: &(),
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let manager::Request::GetTearingControl { id, surface } = request else { return };
        if with_sync(&surface, |sync| sync.tearing_control.is_some()) {
            let message = format!("{} already has a wp_tearing_control_v1", surface.id());
            return object.post_error(manager::Error::TearingControlExists, message);
        }
        let control = init.init(id, surface.downgrade());
        with_sync(&surface, |sync| sync.tearing_control = Some(control.downgrade()));
    }
}

impl Dispatch<WpTearingControlV1, Weak<WlSurface>> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        _object: &WpTearingControlV1,
        request: control::Request,
        surface: &Weak<WlSurface>,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        // A hint that is not known yet is none; the object of a surface that has gone is inert.
        if let (control::Request::SetPresentationHint { hint }, Ok(surface)) = (request, surface.upgrade()) {
            set_pending(&surface, hint.into_result().is_ok_and(|hint| hint == PresentationHint::Async));
        }
    }

    fn destroyed(
        _state: &mut Self,
        _client: ClientId,
        _object: &WpTearingControlV1,
        surface: &Weak<WlSurface>,
    ) {
        if let Ok(surface) = surface.upgrade() {
            with_sync(&surface, |sync| sync.tearing_control = None);
            set_pending(&surface, false);
        }
    }
}
