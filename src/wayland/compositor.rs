//! `wl_compositor` and `wl_subcompositor`.
//!
//! Hooks our commit path into smithay's transactions, and passes on what was applied.

use std::sync::LazyLock;

use smithay::{
    reexports::wayland_server::{
        Client, DataInit, Dispatch, DisplayHandle, Resource,
        backend::ClientId,
        delegate_dispatch, delegate_global_dispatch,
        protocol::{
            wl_callback::WlCallback,
            wl_compositor::{self, WlCompositor},
            wl_region::{self, WlRegion},
            wl_subcompositor::{self, WlSubcompositor},
            wl_subsurface::{self, WlSubsurface},
            wl_surface::{self, WlSurface},
        },
    },
    wayland::compositor::{
        CompositorClientState, CompositorHandler, CompositorState, RegionUserData, SubsurfaceUserData,
        SurfaceUserData, add_destruction_hook, add_pre_commit_hook, get_children, get_parent,
        is_sync_subsurface,
    },
};

use super::{ClientState, commit, disconnect, withheld, xdg_requests};
use crate::{compositor::Compositor, shell::tree};

/// The version of `wl_compositor` that is offered: 7 has `wl_surface.get_release`.
const VERSION: u32 = 7;

/// How deep subsurfaces may be nested: smithay walks their trees by recursion.
const MAX_SUBSURFACE_DEPTH: usize = 64;

/// The client has nested its subsurfaces deeper than that.
#[derive(Debug, thiserror::Error)]
#[error("Could not nest more than {MAX_SUBSURFACE_DEPTH} subsurfaces")]
struct TooDeep;

impl CompositorHandler for Compositor {
    fn compositor_state(&mut self) -> &mut CompositorState {
        &mut self.globals.compositor
    }

    fn client_compositor_state<'a>(&self, client: &'a Client) -> &'a CompositorClientState {
        static STRANGER: LazyLock<CompositorClientState> = LazyLock::new(Default::default);
        ClientState::of(client).map_or(&STRANGER, |state| &state.compositor)
    }

    fn new_surface(&mut self, surface: &WlSurface) {
        self.globals.surfaces.insert(surface.id(), surface.downgrade());
        add_pre_commit_hook::<Self, _>(surface, commit::before_commit);
        add_destruction_hook::<Self, _>(surface, |state, surface| {
            commit::surface_destroyed(surface);
            state.globals.surfaces.remove(&surface.id());
            state.globals.subsurfaces.remove(&surface.id());
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
            self.pace(surface);
        }
    }
}

/// Announces the globals of `wl_compositor`, in [`VERSION`], and `wl_subcompositor`.
pub(super) fn create_globals(display: &DisplayHandle) -> CompositorState {
    let state = CompositorState::new_v6::<Compositor>(display);
    display.remove_global::<Compositor>(state.compositor_global());
    display.create_global::<Compositor, WlCompositor, ()>(VERSION, ());
    state
}

impl Dispatch<WlCompositor, ()> for Compositor {
    fn request(
        state: &mut Self,
        client: &Client,
        compositor: &WlCompositor,
        request: wl_compositor::Request,
        data: &(),
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        // smithay 0.7 holds requests of version 7 to be impossible.
        if !matches!(request, wl_compositor::Request::Release) {
            <CompositorState as Dispatch<_, _, Self>>::request(
                state, client, compositor, request, data, display, init,
            );
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
        let request = match request {
            // Of version 7, as above.
            wl_surface::Request::GetRelease { callback } => {
                let callback = init.init(callback, ());
                return commit::with_sync(surface, |sync| sync.release_callbacks.push(callback));
            }
            request => request,
        };
        let withheld = match &request {
            // smithay 0.7 makes sizes of these numbers, and asserts that no size is negative.
            wl_surface::Request::Damage { width, height, .. } if *width < 0 || *height < 0 => return,
            wl_surface::Request::Commit if xdg_requests::refuse_unconfigured_buffer(surface) => return,
            wl_surface::Request::Commit => {
                free_orphan(state, client, surface, display, init);
                let withheld = withheld::withhold(surface);
                for child in &withheld {
                    commit::with_sync(child.surface(), commit::SurfaceSync::taken_by_parent);
                }
                withheld
            }
            _ => Vec::new(),
        };
        <CompositorState as Dispatch<_, _, Self>>::request(
            state, client, surface, request, data, display, init,
        );
        withheld.into_iter().for_each(withheld::Withheld::give_back);
    }

    fn destroyed(state: &mut Self, client: ClientId, surface: &WlSurface, data: &SurfaceUserData) {
        #[cfg(feature = "guest")]
        super::broken::object::surface_destroyed(&state.display, surface);
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

impl Dispatch<WlSubcompositor, ()> for Compositor {
    fn request(
        state: &mut Self,
        client: &Client,
        subcompositor: &WlSubcompositor,
        request: wl_subcompositor::Request,
        data: &(),
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let mut again = None;
        if let wl_subcompositor::Request::GetSubsurface { surface, parent, .. } = &request {
            // The protocol allows any depth, so the bound is ours and so is the error.
            if depth(parent) + height(surface) > MAX_SUBSURFACE_DEPTH {
                return disconnect::exhausted(display, client, &TooDeep);
            }
            again = state.globals.subsurfaces.remove(&surface.id());
        }
        <CompositorState as Dispatch<_, _, Self>>::request(
            state,
            client,
            subcompositor,
            request,
            data,
            display,
            init,
        );
        if let Some(former) = again {
            set_mode(state, client, &former, wl_subsurface::Request::SetSync, display, init);
        }
    }
}

/// How many ancestors a surface has.
fn depth(surface: &WlSurface) -> usize {
    std::iter::successors(get_parent(surface), get_parent).count()
}

/// How many levels the tree of a surface has, itself included.
fn height(surface: &WlSurface) -> usize {
    let mut level = vec![surface.clone()];
    let mut height = 0;
    while !level.is_empty() {
        height += 1;
        level = level.iter().flat_map(get_children).collect();
    }
    height
}

impl Dispatch<WlSubsurface, SubsurfaceUserData> for Compositor {
    fn request(
        state: &mut Self,
        client: &Client,
        subsurface: &WlSubsurface,
        request: wl_subsurface::Request,
        data: &SubsurfaceUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        if let wl_subsurface::Request::PlaceAbove { sibling } | wl_subsurface::Request::PlaceBelow { sibling } =
            &request
            && sibling == data.surface()
        {
            // smithay 0.7 would take the surface out of the stack, and not find its place any more.
            return subsurface
                .post_error(wl_subsurface::Error::BadSurface, "a surface is no sibling of itself");
        }
        <CompositorState as Dispatch<_, _, Self>>::request(
            state, client, subsurface, request, data, display, init,
        );
    }

    fn destroyed(state: &mut Self, client: ClientId, subsurface: &WlSubsurface, data: &SubsurfaceUserData) {
        <CompositorState as Dispatch<_, _, Self>>::destroyed(state, client, subsurface, data);
        if data.surface().is_alive() {
            state.globals.subsurfaces.insert(data.surface().id(), subsurface.clone());
            state.scene_changed();
            state.enter_under_pointer();
        }
    }
}

/// Ends the synchronised mode of a subsurface that has lost its parent, if `surface` is or depends on one: smithay 0.7
/// leaves it on, and then no commit would ever apply and no buffer come back.
fn free_orphan(
    state: &mut Compositor,
    client: &Client,
    surface: &WlSurface,
    display: &DisplayHandle,
    init: &mut DataInit<'_, Compositor>,
) {
    if !is_sync_subsurface(surface) {
        return;
    }
    let root = tree::root(surface);
    if !is_sync_subsurface(&root) {
        return;
    }
    if let Some(subsurface) = subsurface_of(state, client, &root, display) {
        set_mode(state, client, &subsurface, wl_subsurface::Request::SetDesync, display, init);
    }
}

/// The object that gives `surface` its mode, or the last one that did: it lives as long as we remember it.
fn subsurface_of(
    state: &mut Compositor,
    client: &Client,
    surface: &WlSurface,
    display: &DisplayHandle,
) -> Option<WlSubsurface> {
    if let Some(former) = state.globals.subsurfaces.get(&surface.id()) {
        return Some(former.clone());
    }
    // Its parent is gone, but the object is not.
    let mut ids = Vec::new();
    let listed = display.backend_handle().with_all_objects_for(client.id(), |id| {
        if id.interface().name == WlSubsurface::interface().name {
            ids.push(id);
        }
    });
    listed.ok()?;
    let mut live = ids.into_iter().filter_map(|id| WlSubsurface::from_id(display, id).ok());
    live.find(|live| live.data::<SubsurfaceUserData>().is_some_and(|data| data.surface() == surface))
}

/// Has smithay carry out `set_sync` or `set_desync`, which is the only way in to the mode.
fn set_mode(
    state: &mut Compositor,
    client: &Client,
    subsurface: &WlSubsurface,
    mode: wl_subsurface::Request,
    display: &DisplayHandle,
    init: &mut DataInit<'_, Compositor>,
) {
    if let Some(data) = subsurface.data::<SubsurfaceUserData>() {
        <CompositorState as Dispatch<_, _, Compositor>>::request(
            state, client, subsurface, mode, data, display, init,
        );
    }
}

delegate_global_dispatch!(Compositor: [WlCompositor: ()] => CompositorState);
delegate_global_dispatch!(Compositor: [WlSubcompositor: ()] => CompositorState);
delegate_dispatch!(Compositor: [WlCallback: ()] => CompositorState);
smithay::delegate_viewporter!(Compositor);
smithay::delegate_presentation!(Compositor);
