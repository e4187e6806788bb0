//! `wl_output`, xdg-output, and the scale that a surface had best be drawn at.
//!
//! The outputs themselves are made where the screens are known. Owns what keeps an output alive for the clients that
//! hold it: smithay 0.7 looks it up when one asks for its xdg-output, and takes it for granted that it is there.

use smithay::{
    output::Output,
    reexports::{
        wayland_protocols::xdg::xdg_output::zv1::server::{
            zxdg_output_manager_v1::ZxdgOutputManagerV1, zxdg_output_v1::ZxdgOutputV1,
        },
        wayland_server::{
            Client, DataInit, Dispatch, DisplayHandle, Resource,
            backend::ClientId,
            delegate_dispatch, delegate_global_dispatch,
            protocol::{wl_output, wl_output::WlOutput, wl_surface::WlSurface},
        },
    },
    utils::Transform,
    wayland::{
        compositor::{send_surface_state, with_states},
        output::{OutputHandler, OutputManagerState, OutputUserData, WlOutputData, XdgOutputUserData},
    },
};

use super::fractional_scale;
use crate::compositor::Compositor;

impl OutputHandler for Compositor {
    fn output_bound(&mut self, output: Output, wl_output: WlOutput) {
        self.globals.held_outputs.insert(wl_output.id(), output);
    }
}

impl Dispatch<WlOutput, OutputUserData> for Compositor {
    fn request(
        state: &mut Self,
        client: &Client,
        output: &WlOutput,
        request: wl_output::Request,
        data: &OutputUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        <OutputManagerState as Dispatch<_, _, Self>>::request(
            state, client, output, request, data, display, init,
        );
    }

    fn destroyed(state: &mut Self, client: ClientId, output: &WlOutput, data: &OutputUserData) {
        <OutputManagerState as Dispatch<_, _, Self>>::destroyed(state, client, output, data);
        state.globals.held_outputs.remove(&output.id());
    }
}

/// Tells a client how its surface had best be drawn: wp_fractional_scale_v1 exactly, `wl_surface` (version 6) in whole
/// scales. What it knows already is not told again.
pub fn prefer(surface: &WlSurface, scale: f64, whole: i32, transform: Transform) {
    with_states(surface, |states| {
        send_surface_state(surface, states, whole, transform);
        fractional_scale::prefer(states, scale);
    });
}

delegate_global_dispatch!(Compositor: [WlOutput: WlOutputData] => OutputManagerState);
delegate_global_dispatch!(Compositor: [ZxdgOutputManagerV1: ()] => OutputManagerState);
delegate_dispatch!(Compositor: [ZxdgOutputV1: XdgOutputUserData] => OutputManagerState);
delegate_dispatch!(Compositor: [ZxdgOutputManagerV1: ()] => OutputManagerState);
