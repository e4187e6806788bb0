//! wp-fractional-scale-v1: the scale at which a surface had best be drawn, in 120ths.
//!
//! Owns the objects, one of each surface at most. smithay 0.7 has this too, and posts the protocol's error on the wrong
//! object. Which scale it is, the compositor says.

use std::cell::RefCell;

use smithay::{
    reexports::{
        wayland_protocols::wp::fractional_scale::v1::server::{
            wp_fractional_scale_manager_v1::{self, Error, WpFractionalScaleManagerV1},
            wp_fractional_scale_v1::{self, WpFractionalScaleV1},
        },
        wayland_server::{
            Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource as _, Weak,
            protocol::wl_surface::WlSurface,
        },
    },
    wayland::compositor::{SurfaceData, with_states},
};

use crate::compositor::Compositor;

/// What a surface's client was told last.
#[derive(Debug, Default)]
struct Told {
    object: Option<Weak<WpFractionalScaleV1>>,
    scale: Option<u32>,
}

/// Announces the global.
pub(super) fn create_global(display: &DisplayHandle) {
    display.create_global::<Compositor, WpFractionalScaleManagerV1, ()>(1, ());
}

fn with_told<T>(states: &SurfaceData, f: impl FnOnce(&mut Told) -> T) -> T {
    f(&mut states.data_map.get_or_insert(RefCell::<Told>::default).borrow_mut())
}

/// Tells the client of a surface a scale, if it wants to know and does not know it already.
pub(super) fn prefer(states: &SurfaceData, scale: f64) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "scales are small and positive"
    )]
    let scale = (scale * 120.0).round() as u32;
    with_told(states, |told| {
        let object = told.object.as_ref().and_then(|object| object.upgrade().ok());
        if let Some(object) = object.filter(|_| told.scale != Some(scale)) {
            object.preferred_scale(scale);
            told.scale = Some(scale);
        }
    });
}

impl GlobalDispatch<WpFractionalScaleManagerV1, ()> for Compositor {
    fn bind(
        _state: &mut Self,
        _display: &DisplayHandle,
        _client: &Client,
        resource: New<WpFractionalScaleManagerV1>,
        _data: &(),
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(resource, ());
    }
}

impl Dispatch<WpFractionalScaleManagerV1, ()> for Compositor {
    fn request(
        state: &mut Self,
        _client: &Client,
        manager: &WpFractionalScaleManagerV1,
        request: wp_fractional_scale_manager_v1::Request,
        _data: &(),
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let wp_fractional_scale_manager_v1::Request::GetFractionalScale { id, surface } = request else {
            return;
        };
        let object = init.init(id, surface.downgrade());
        let is_second = with_states(&surface, |states| {
            with_told(states, |told| {
                let is_second = told.object.as_ref().is_some_and(|other| other.is_alive());
                *told = Told { object: Some(object.downgrade()), scale: None };
                is_second
            })
        });
        match is_second {
            true => manager.post_error(Error::FractionalScaleExists, "the surface has one already"),
            false => state.prefer_scale(&surface),
        }
    }
}

impl Dispatch<WpFractionalScaleV1, Weak<WlSurface>> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        _object: &WpFractionalScaleV1,
        _request: wp_fractional_scale_v1::Request,
        _surface: &Weak<WlSurface>,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        // `destroy`, which needs nothing but the end of the object.
    }
}
