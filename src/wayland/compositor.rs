//! `wl_compositor` and `wl_subcompositor`.
//!
//! Hooks our commit path into smithay's transactions, and passes on what was applied.

use smithay::{
    reexports::wayland_server::{
        Client, DataInit, Dispatch, DisplayHandle, Resource,
        backend::ClientId,
        delegate_dispatch, delegate_global_dispatch,
        protocol::{
            wl_callback::WlCallback,
            wl_compositor::WlCompositor,
            wl_region::{self, WlRegion},
            wl_subcompositor::WlSubcompositor,
            wl_subsurface::WlSubsurface,
            wl_surface::{self, WlSurface},
        },
    },
    wayland::compositor::{
        CompositorClientState, CompositorHandler, CompositorState, RegionUserData, SubsurfaceUserData,
        SurfaceUserData, add_destruction_hook, add_pre_commit_hook,
    },
};

use super::{ClientState, commit};
use crate::compositor::Compositor;

impl CompositorHandler for Compositor {
    fn compositor_state(&mut self) -> &mut CompositorState {
        &mut self.globals.compositor
    }

    fn client_compositor_state<'a>(&self, client: &'a Client) -> &'a CompositorClientState {
        static STRANGER: std::sync::LazyLock<CompositorClientState> =
            std::sync::LazyLock::new(Default::default);
        ClientState::of(client).map_or(&STRANGER, |state| &state.compositor)
    }

    fn new_surface(&mut self, surface: &WlSurface) {
        self.globals.surfaces.insert(surface.id(), surface.downgrade());
        add_pre_commit_hook::<Self, _>(surface, commit::before_commit);
        add_destruction_hook::<Self, _>(surface, |state, surface| {
            commit::surface_destroyed(surface);
            state.globals.surfaces.remove(&surface.id());
            // Its gates are open now, and the rest of a tree may wait behind them.
            if let Some(client) = surface.client() {
                let display = state.display.clone();
                state.client_compositor_state(&client).blocker_cleared(state, &display);
            }
            state.surface_gone(surface);
        });
    }

    fn commit(&mut self, surface: &WlSurface) {
        if surface.is_alive() {
            let effect = commit::apply(surface);
            self.surface_applied(surface, effect);
        }
    }
}

impl Dispatch<WlSurface, SurfaceUserData> for Compositor {
    fn request(
        state: &mut Self,
        client: &Client,
        surface: &WlSurface,
        request: wl_surface::Request,
        data: &SurfaceUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let withheld = match &request {
            // smithay 0.7 makes sizes of these numbers, and asserts that no size is negative.
            wl_surface::Request::Damage { width, height, .. } if *width < 0 || *height < 0 => return,
            wl_surface::Request::Commit => commit::withhold(surface),
            _ => Vec::new(),
        };
        <CompositorState as Dispatch<_, _, Self>>::request(
            state, client, surface, request, data, display, init,
        );
        withheld.into_iter().for_each(commit::Withheld::give_back);
    }

    fn destroyed(state: &mut Self, client: ClientId, surface: &WlSurface, data: &SurfaceUserData) {
        <CompositorState as Dispatch<_, _, Self>>::destroyed(state, client, surface, data);
    }
}

impl Dispatch<WlRegion, RegionUserData> for Compositor {
    fn request(
        state: &mut Self,
        client: &Client,
        region: &WlRegion,
        request: wl_region::Request,
        data: &RegionUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        if let wl_region::Request::Add { width, height, .. }
        | wl_region::Request::Subtract { width, height, .. } = &request
            && (*width < 0 || *height < 0)
        {
            return;
        }
        <CompositorState as Dispatch<_, _, Self>>::request(
            state, client, region, request, data, display, init,
        );
    }
}

delegate_global_dispatch!(Compositor: [WlCompositor: ()] => CompositorState);
delegate_global_dispatch!(Compositor: [WlSubcompositor: ()] => CompositorState);
delegate_dispatch!(Compositor: [WlCompositor: ()] => CompositorState);
delegate_dispatch!(Compositor: [WlCallback: ()] => CompositorState);
delegate_dispatch!(Compositor: [WlSubcompositor: ()] => CompositorState);
delegate_dispatch!(Compositor: [WlSubsurface: SubsurfaceUserData] => CompositorState);
smithay::delegate_viewporter!(Compositor);
smithay::delegate_presentation!(Compositor);
