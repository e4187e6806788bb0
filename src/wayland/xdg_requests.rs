//! What clients may not ask of xdg-shell: looked at here before smithay acts on it.
//!
//! Owns those checks and their protocol errors. smithay 0.7 makes sizes of the clients' numbers and asserts that none
//! is negative, adds places up with plain arithmetic, and has no objects to post the errors on.

use std::cell::RefCell;

use smithay::{
    reexports::{
        wayland_protocols::xdg::shell::server::{
            xdg_popup::XdgPopup,
            xdg_positioner::{self, XdgPositioner},
            xdg_surface::{self, XdgSurface},
            xdg_toplevel::{self, XdgToplevel},
            xdg_wm_base::{self, XdgWmBase},
        },
        wayland_server::{
            Client, DataInit, Dispatch, DisplayHandle, Resource, Weak, backend::ClientId, delegate_dispatch,
            delegate_global_dispatch, protocol::wl_surface::WlSurface,
        },
    },
    wayland::{
        compositor::{BufferAssignment, SurfaceAttributes, SurfaceData, with_states},
        shell::xdg::{
            PopupSurface, XDG_POPUP_ROLE, XDG_TOPLEVEL_ROLE, XdgPopupSurfaceData, XdgPositionerUserData,
            XdgShellState, XdgShellSurfaceUserData, XdgSurfaceUserData, XdgToplevelSurfaceData,
            XdgWmBaseUserData,
        },
    },
};

use crate::{
    compositor::Compositor,
    shell::{popups::PopupError, window::FARTHEST},
};

/// The objects of a surface that errors are posted on.
#[derive(Debug, Default)]
struct Objects {
    wm_base: Option<Weak<XdgWmBase>>,
    xdg_surface: Option<Weak<XdgSurface>>,
}

fn with_objects<T>(states: &SurfaceData, f: impl FnOnce(&mut Objects) -> T) -> T {
    f(&mut states.data_map.get_or_insert(RefCell::<Objects>::default).borrow_mut())
}

/// Whether the pending state brings a buffer before the client has acknowledged a configure. Then it has been told.
pub(super) fn refuse_unconfigured_buffer(surface: &WlSurface) -> bool {
    let object = with_states(surface, |states| {
        let configured = match states.role {
            Some(XDG_TOPLEVEL_ROLE) => {
                states.data_map.get::<XdgToplevelSurfaceData>()?.lock().ok()?.configured
            }
            Some(XDG_POPUP_ROLE) => states.data_map.get::<XdgPopupSurfaceData>()?.lock().ok()?.configured,
            _ => true,
        };
        if configured {
            return None;
        }
        let mut attributes = states.cached_state.get::<SurfaceAttributes>();
        let attached = matches!(attributes.pending().buffer, Some(BufferAssignment::NewBuffer(_)));
        attached.then(|| with_objects(states, |objects| objects.xdg_surface.clone()))?
    });
    let Some(object) = object.and_then(|object| object.upgrade().ok()) else { return false };
    object.post_error(xdg_surface::Error::UnconfiguredBuffer, "the buffer comes before ack_configure");
    true
}

/// Tells a client why its popup cannot be.
pub(super) fn refuse_popup(display: &DisplayHandle, popup: &PopupSurface, error: PopupError) {
    match error {
        PopupError::Cycle => {
            let object = with_states(popup.wl_surface(), |states| {
                with_objects(states, |objects| objects.wm_base.clone())
            });
            if let Some(object) = object.and_then(|object| object.upgrade().ok()) {
                object.post_error(xdg_wm_base::Error::InvalidPopupParent, error.to_string());
            }
        }
        PopupError::TooDeep => {
            if let Some(client) = popup.wl_surface().client() {
                super::disconnect::exhausted(display, &client, &error);
            }
        }
    }
}

fn clamp(value: i32) -> i32 {
    value.clamp(-FARTHEST, FARTHEST)
}

impl Dispatch<XdgWmBase, XdgWmBaseUserData> for Compositor {
    fn request(
        state: &mut Self,
        client: &Client,
        wm_base: &XdgWmBase,
        request: xdg_wm_base::Request,
        data: &XdgWmBaseUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        if let xdg_wm_base::Request::GetXdgSurface { surface, .. } = &request {
            with_states(surface, |states| {
                with_objects(states, |objects| objects.wm_base = Some(wm_base.downgrade()))
            });
        }
        <XdgShellState as Dispatch<_, _, Self>>::request(
            state, client, wm_base, request, data, display, init,
        );
    }

    fn destroyed(state: &mut Self, client: ClientId, wm_base: &XdgWmBase, data: &XdgWmBaseUserData) {
        <XdgShellState as Dispatch<_, _, Self>>::destroyed(state, client, wm_base, data);
    }
}

impl Dispatch<XdgSurface, XdgSurfaceUserData> for Compositor {
    fn request(
        state: &mut Self,
        client: &Client,
        xdg_surface: &XdgSurface,
        mut request: xdg_surface::Request,
        data: &XdgSurfaceUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        if let xdg_surface::Request::SetWindowGeometry { x, y, width, height } = &mut request {
            if *width < 1 || *height < 1 {
                return xdg_surface
                    .post_error(xdg_surface::Error::InvalidSize, "a window geometry of no size");
            }
            for number in [x, y, width, height] {
                *number = clamp(*number);
            }
        }
        let shell = &state.globals.xdg_shell;
        let before = (shell.toplevel_surfaces().len(), shell.popup_surfaces().len());
        <XdgShellState as Dispatch<_, _, Self>>::request(
            state,
            client,
            xdg_surface,
            request,
            data,
            display,
            init,
        );
        // smithay keeps to itself which surface this is; that of the role object that was made just now it tells.
        let shell = &state.globals.xdg_shell;
        let toplevel = shell.toplevel_surfaces().get(before.0..).and_then(<[_]>::last);
        let popup = shell.popup_surfaces().get(before.1..).and_then(<[_]>::last);
        if let Some(surface) = toplevel.map(|it| it.wl_surface()).or(popup.map(|it| it.wl_surface())) {
            with_states(surface, |states| {
                with_objects(states, |objects| objects.xdg_surface = Some(xdg_surface.downgrade()))
            });
        }
    }
}

impl Dispatch<XdgToplevel, XdgShellSurfaceUserData> for Compositor {
    fn request(
        state: &mut Self,
        client: &Client,
        toplevel: &XdgToplevel,
        request: xdg_toplevel::Request,
        data: &XdgShellSurfaceUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        if let xdg_toplevel::Request::SetMinSize { width, height }
        | xdg_toplevel::Request::SetMaxSize { width, height } = &request
            && (*width < 0 || *height < 0)
        {
            return toplevel.post_error(xdg_toplevel::Error::InvalidSize, "a limit below zero");
        }
        <XdgShellState as Dispatch<_, _, Self>>::request(
            state, client, toplevel, request, data, display, init,
        );
    }

    fn destroyed(state: &mut Self, client: ClientId, toplevel: &XdgToplevel, data: &XdgShellSurfaceUserData) {
        <XdgShellState as Dispatch<_, _, Self>>::destroyed(state, client, toplevel, data);
    }
}

impl Dispatch<XdgPositioner, XdgPositionerUserData> for Compositor {
    fn request(
        state: &mut Self,
        client: &Client,
        positioner: &XdgPositioner,
        mut request: xdg_positioner::Request,
        data: &XdgPositionerUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        use xdg_positioner::Request;
        match &mut request {
            Request::SetSize { width: a, height: b } | Request::SetOffset { x: a, y: b } => {
                (*a, *b) = (clamp(*a), clamp(*b));
            }
            Request::SetAnchorRect { x, y, width, height } => {
                for number in [x, y, width, height] {
                    *number = clamp(*number);
                }
            }
            Request::SetParentSize { parent_width, parent_height }
                if *parent_width < 0 || *parent_height < 0 =>
            {
                return positioner
                    .post_error(xdg_positioner::Error::InvalidInput, "a parent of less than no size");
            }
            _ => {}
        }
        <XdgShellState as Dispatch<_, _, Self>>::request(
            state, client, positioner, request, data, display, init,
        );
    }
}

delegate_global_dispatch!(Compositor: [XdgWmBase: ()] => XdgShellState);
delegate_dispatch!(Compositor: [XdgPopup: XdgShellSurfaceUserData] => XdgShellState);
