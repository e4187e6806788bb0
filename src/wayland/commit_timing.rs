//! commit-timing-v1: clients say before which time a content update is not to be shown.
//!
//! Owns the two protocol objects. What a time does is [`crate::surface::queue`]; when it is reached,
//! `compositor/pacing.rs`.
//!
//! Not smithay 0.7's `wayland::commit_timing`: it knows no `invalid_timestamp`, posts `commit_timer_exists` on the
//! `wl_surface`, and a surface's blockers are cleared in the order of their times, not of its commits.

use smithay::reexports::{
    wayland_protocols::wp::commit_timing::v1::server::{
        wp_commit_timer_v1::{self as timer, WpCommitTimerV1},
        wp_commit_timing_manager_v1::{self as manager, WpCommitTimingManagerV1},
    },
    wayland_server::{
        Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, Weak, backend::ClientId,
        protocol::wl_surface::WlSurface,
    },
};

#[cfg(feature = "guest")]
use super::broken::{self, BrokenRule};
use super::commit::with_sync;
use crate::{compositor::Compositor, surface::pacing::timestamp};

/// Announces the global. The times are on the clock that `wp_presentation` names.
pub(super) fn create_global(display: &DisplayHandle) {
    display.create_global::<Compositor, WpCommitTimingManagerV1, ()>(1, ());
}

impl GlobalDispatch<WpCommitTimingManagerV1, ()> for Compositor {
    fn bind(
        _state: &mut Self,
        _display: &DisplayHandle,
        _client: &Client,
        resource: New<WpCommitTimingManagerV1>,
        _data: &(),
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(resource, ());
    }
}

impl Dispatch<WpCommitTimingManagerV1, ()> for Compositor {
    #[cfg_attr(not(feature = "guest"), expect(unused_variables, reason = "only tests break rules"))]
    fn request(
        _state: &mut Self,
        client: &Client,
        object: &WpCommitTimingManagerV1,
        request: manager::Request,
        _data: &(),
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let manager::Request::GetTimer { id, surface } = request else { return };
        let is_taken = with_sync(&surface, |sync| sync.pacing.timer.is_some());
        #[cfg(feature = "guest")]
        let is_taken = broken::object::is_taken(client, is_taken);
        if is_taken {
            let message = format!("{} already has a wp_commit_timer_v1", surface.id());
            return object.post_error(manager::Error::CommitTimerExists, message);
        }
        let timer = init.init(id, surface.downgrade());
        with_sync(&surface, |sync| sync.pacing.timer = Some(timer.downgrade()));
    }
}

impl Dispatch<WpCommitTimerV1, Weak<WlSurface>> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        object: &WpCommitTimerV1,
        request: timer::Request,
        surface: &Weak<WlSurface>,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        let timer::Request::SetTimestamp { tv_sec_hi, tv_sec_lo, tv_nsec } = request else { return };
        let Ok(surface) = surface.upgrade() else {
            #[cfg(feature = "guest")]
            if broken::is(BrokenRule::NoSurface) {
                return;
            }
            return object.post_error(timer::Error::SurfaceDestroyed, "the wl_surface was destroyed");
        };
        let Some(time) = timestamp(tv_sec_hi, tv_sec_lo, tv_nsec) else {
            #[cfg(feature = "guest")]
            if broken::is(BrokenRule::InvalidTimestamp) {
                return;
            }
            let message = format!("tv_nsec is {tv_nsec}, which is a second or more");
            return object.post_error(timer::Error::InvalidTimestamp, message);
        };
        let before = with_sync(&surface, |sync| sync.pacing.pending.not_before.replace(time));
        #[cfg(feature = "guest")]
        let before = before.filter(|_| !broken::is(BrokenRule::TimestampExists));
        if before.is_some() {
            object.post_error(timer::Error::TimestampExists, "this commit has a timestamp already");
        }
    }

    fn destroyed(_state: &mut Self, _client: ClientId, _object: &WpCommitTimerV1, surface: &Weak<WlSurface>) {
        #[cfg(feature = "guest")]
        if broken::is(BrokenRule::Stays) {
            return;
        }
        if let Ok(surface) = surface.upgrade() {
            with_sync(&surface, |sync| sync.pacing.timer = None);
        }
    }
}
