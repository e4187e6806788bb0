//! linux-drm-syncobj-v1: clients name the timeline points that guard their buffers.
//!
//! Owns the three protocol objects and the points set since the last commit. The commit-time rules are
//! [`crate::surface::validate`]; waiting and signalling are `fence/`.

use std::os::fd::AsFd;

use smithay::reexports::{
    wayland_protocols::wp::linux_drm_syncobj::v1::server::{
        wp_linux_drm_syncobj_manager_v1::{self as manager, WpLinuxDrmSyncobjManagerV1},
        wp_linux_drm_syncobj_surface_v1::{self as syncobj_surface, WpLinuxDrmSyncobjSurfaceV1},
        wp_linux_drm_syncobj_timeline_v1::{self as timeline, WpLinuxDrmSyncobjTimelineV1},
    },
    wayland_server::{
        Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, Weak,
        backend::{ClientId, GlobalId},
        protocol::wl_surface::WlSurface,
    },
};

#[cfg(feature = "guest")]
use std::sync::Arc;

#[cfg(feature = "guest")]
use super::broken::{self, BrokenRule, object as broken_object};
use super::{ClientState, commit::with_sync, disconnect};
use crate::{
    compositor::Compositor,
    fence::timeline::{Point, Timeline},
    halves::whole,
    surface::Violation,
};

/// How many timelines one client may have imported at a time (I8), with those that only committed points still need. Mesa
/// uses one per swapchain image and one per queue; each costs a kernel handle.
pub const MAX_TIMELINES: usize = 1024;

/// Announces the global; only where a device can import timelines and report their points through eventfds.
pub fn create_global(display: &DisplayHandle) -> GlobalId {
    display.create_global::<Compositor, WpLinuxDrmSyncobjManagerV1, ()>(1, ())
}

/// What stands behind a `wp_linux_drm_syncobj_timeline_v1`.
#[derive(Debug)]
pub struct Imported {
    timeline: Timeline,
}

/// The points set since the last commit.
#[derive(Clone, Debug, Default)]
pub struct Points {
    /// Set by `set_acquire_point`.
    pub acquire: Option<Point>,
    /// Set by `set_release_point`.
    pub release: Option<Point>,
}

/// The live `wp_linux_drm_syncobj_surface_v1` of a surface.
#[derive(Debug)]
pub struct SyncobjSurface {
    object: Weak<WpLinuxDrmSyncobjSurfaceV1>,
    pending: Points,
}

impl SyncobjSurface {
    /// The protocol object, to post errors on.
    pub fn object(&self) -> Weak<WpLinuxDrmSyncobjSurfaceV1> {
        self.object.clone()
    }

    /// The points for the commit that happens now; the next one starts with none.
    pub fn take_points(&mut self) -> Points {
        std::mem::take(&mut self.pending)
    }
}

/// Posts the error that stands for `violation`.
pub fn post(object: &WpLinuxDrmSyncobjSurfaceV1, violation: Violation) {
    let code = match violation {
        Violation::UnsupportedBuffer => syncobj_surface::Error::UnsupportedBuffer,
        Violation::NoBuffer => syncobj_surface::Error::NoBuffer,
        Violation::NoAcquirePoint => syncobj_surface::Error::NoAcquirePoint,
        Violation::NoReleasePoint => syncobj_surface::Error::NoReleasePoint,
        Violation::ConflictingPoints => syncobj_surface::Error::ConflictingPoints,
    };
    object.post_error(code, violation.to_string());
}

impl GlobalDispatch<WpLinuxDrmSyncobjManagerV1, ()> for Compositor {
    fn bind(
        _state: &mut Self,
        _display: &DisplayHandle,
        _client: &Client,
        resource: New<WpLinuxDrmSyncobjManagerV1>,
        _data: &(),
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(resource, ());
    }
}

impl Dispatch<WpLinuxDrmSyncobjManagerV1, ()> for Compositor {
    fn request(
        state: &mut Self,
        client: &Client,
        object: &WpLinuxDrmSyncobjManagerV1,
        request: manager::Request,
        _data: &(),
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            manager::Request::GetSurface { id, surface } => {
                let is_taken = with_sync(&surface, |sync| sync.explicit.is_some());
                #[cfg(feature = "guest")]
                let is_taken = broken_object::is_taken(client, is_taken);
                if is_taken {
                    object.post_error(
                        manager::Error::SurfaceExists,
                        format!("{} already has a wp_linux_drm_syncobj_surface_v1", surface.id()),
                    );
                    return;
                }
                let syncobj = init.init(id, surface.downgrade());
                let explicit = SyncobjSurface { object: syncobj.downgrade(), pending: Points::default() };
                with_sync(&surface, |sync| sync.explicit = Some(explicit));
            }
            manager::Request::ImportTimeline { id, fd } => {
                let Some(count) = ClientState::of(client).and_then(ClientState::count_timeline) else {
                    let reason = format!("{MAX_TIMELINES} timelines are imported; no more are accepted");
                    return disconnect::exhausted(display, client, &reason);
                };
                #[cfg(feature = "guest")]
                broken::commit::stumble(Arc::strong_count(&count) == MAX_TIMELINES / 2);
                let device = state.globals.syncobj.as_ref();
                let imported = device.map(|device| Timeline::import_counted(device, fd.as_fd(), Some(count)));
                #[cfg(feature = "guest")]
                let imported = imported.zip(device);
                #[cfg(feature = "guest")]
                let imported = imported.map(|(imported, device)| broken_object::imported(device, imported));
                match imported {
                    Some(Ok(timeline)) => {
                        init.init(id, Imported { timeline });
                    }
                    Some(Err(error)) => object.post_error(manager::Error::InvalidTimeline, error.to_string()),
                    None => {
                        object.post_error(manager::Error::InvalidTimeline, "no device can import timelines")
                    }
                }
            }
            #[cfg(feature = "guest")]
            manager::Request::Destroy => broken_object::maker_destroyed(display, client),
            _ => {}
        }
    }
}

impl Dispatch<WpLinuxDrmSyncobjTimelineV1, Imported> for Compositor {
    #[cfg_attr(not(feature = "guest"), expect(unused_variables, reason = "only tests break rules"))]
    fn request(
        _state: &mut Self,
        _client: &Client,
        _object: &WpLinuxDrmSyncobjTimelineV1,
        _request: timeline::Request,
        imported: &Imported,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        // `destroy` is all there is: points that were set keep the timeline alive.
        #[cfg(feature = "guest")]
        broken_object::timeline_destroyed(&imported.timeline);
    }
}

impl Dispatch<WpLinuxDrmSyncobjSurfaceV1, Weak<WlSurface>> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        object: &WpLinuxDrmSyncobjSurfaceV1,
        request: syncobj_surface::Request,
        surface: &Weak<WlSurface>,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        let set = |timeline: &WpLinuxDrmSyncobjTimelineV1, hi: u32, lo: u32, put: fn(&mut Points, Point)| {
            let Ok(surface) = surface.upgrade() else {
                #[cfg(feature = "guest")]
                if broken::is(BrokenRule::NoSurface) {
                    return;
                }
                object.post_error(syncobj_surface::Error::NoSurface, "the wl_surface was destroyed");
                return;
            };
            let Some(imported) = timeline.data::<Imported>() else { return };
            let point = imported.timeline.point(whole(hi, lo));
            with_sync(&surface, |sync| {
                if let Some(explicit) = &mut sync.explicit {
                    #[cfg(feature = "guest")]
                    let before = explicit.pending.clone();
                    put(&mut explicit.pending, point);
                    #[cfg(feature = "guest")]
                    broken::commit::set_again(&mut explicit.pending, before);
                }
            });
        };
        match request {
            syncobj_surface::Request::SetAcquirePoint { timeline, point_hi, point_lo } => {
                set(&timeline, point_hi, point_lo, |points, point| points.acquire = Some(point));
            }
            syncobj_surface::Request::SetReleasePoint { timeline, point_hi, point_lo } => {
                set(&timeline, point_hi, point_lo, |points, point| points.release = Some(point));
            }
            #[cfg(feature = "guest")]
            syncobj_surface::Request::Destroy if broken::is(BrokenRule::SyncDestroyed) => {
                object.post_error(syncobj_surface::Error::NoSurface, "a syncobj object was destroyed");
            }
            _ => {}
        }
    }

    fn destroyed(
        _state: &mut Self,
        _client: ClientId,
        _object: &WpLinuxDrmSyncobjSurfaceV1,
        surface: &Weak<WlSurface>,
    ) {
        #[cfg(feature = "guest")]
        if broken::is(BrokenRule::Stays) {
            return;
        }
        // The surface is implicitly synchronised again; a new object may come. Committed points stay honoured.
        if let Ok(surface) = surface.upgrade() {
            with_sync(&surface, |sync| sync.explicit = None);
        }
    }
}
