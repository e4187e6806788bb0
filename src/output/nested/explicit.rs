//! linux-drm-syncobj-v1 towards the parent: the points of a commit.
//!
//! Owns the acquire timeline of the window, and the release timeline of each buffer. Without the protocol, none of this
//! exists and the fences go with the dma-bufs.

use std::cell::Cell;
use std::os::fd::AsFd;

use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{QueueHandle, delegate_noop};
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_manager_v1::WpLinuxDrmSyncobjManagerV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_surface_v1::WpLinuxDrmSyncobjSurfaceV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_timeline_v1::WpLinuxDrmSyncobjTimelineV1;

use super::wire::Heard;
use crate::fence::sync_file::SyncFile;
use crate::fence::timeline::{Point, SyncobjDevice, Timeline, TimelineError};
use crate::fence::{Fence, Status};
use crate::halves::halves;

/// A timeline that the parent has, too, and the last point of it that was used.
#[derive(Debug)]
pub(super) struct Shared {
    timeline: Timeline,
    wire: WpLinuxDrmSyncobjTimelineV1,
    last: Cell<u64>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.wire.destroy();
    }
}

impl Shared {
    /// Whether its last point has signalled. One that was never used counts as such; a failure does not.
    pub(super) fn is_over(&self) -> bool {
        self.newest().is_none_or(|point| point.status() == Status::Signalled)
    }

    /// Its last point; `None` if it was never used.
    pub(super) fn newest(&self) -> Option<Point> {
        Some(self.last.get()).filter(|last| *last != 0).map(|last| self.timeline.point(last))
    }
}

/// The window's side of it. Dropping it makes the window implicitly synchronised again.
#[derive(Debug)]
pub(super) struct Explicit {
    device: SyncobjDevice,
    manager: WpLinuxDrmSyncobjManagerV1,
    surface: WpLinuxDrmSyncobjSurfaceV1,
    acquire: Shared,
}

impl Drop for Explicit {
    fn drop(&mut self) {
        self.surface.destroy();
    }
}

impl Explicit {
    /// Makes the window explicitly synchronised: from now on every commit of a buffer needs points.
    ///
    /// # Errors
    /// Those of making timelines.
    pub(super) fn new(
        device: &SyncobjDevice,
        manager: &WpLinuxDrmSyncobjManagerV1,
        surface: &WlSurface,
        handle: &QueueHandle<Heard>,
    ) -> Result<Self, TimelineError> {
        let acquire = share(device, manager, handle)?;
        let surface = manager.get_surface(surface, handle, ());
        Ok(Self { device: device.clone(), manager: manager.clone(), surface, acquire })
    }

    /// The release timeline of one buffer.
    ///
    /// # Errors
    /// Those of making timelines.
    pub(super) fn release_timeline(&self, handle: &QueueHandle<Heard>) -> Result<Shared, TimelineError> {
        share(&self.device, &self.manager, handle)
    }

    /// Gives the next commit its points: the acquire point has the fence of what is drawn, or has signalled if that is done.
    /// A fence that cannot be imported is waited for.
    ///
    /// # Errors
    /// Those of signalling a point; nothing was asked of the parent.
    pub(super) fn set_points(
        &self,
        release: &Shared,
        acquire: Option<&SyncFile>,
    ) -> Result<(), TimelineError> {
        let value = self.acquire.last.get().saturating_add(1);
        let point = self.acquire.timeline.point(value);
        match acquire {
            None => point.signal()?,
            Some(acquire) => point.import_sync_file(acquire).or_else(|error| {
                tracing::warn!("the parent is not handed the fence of a frame, which is waited for: {error}");
                let waited = acquire.wait();
                waited.map_err(|source| TimelineError::Kernel { what: "wait for a frame", source })?;
                point.signal()
            })?,
        }
        self.acquire.last.set(value);
        let (high, low) = halves(value);
        self.surface.set_acquire_point(&self.acquire.wire, high, low);
        let value = release.last.get().saturating_add(1);
        release.last.set(value);
        let (high, low) = halves(value);
        self.surface.set_release_point(&release.wire, high, low);
        Ok(())
    }
}

fn share(
    device: &SyncobjDevice,
    manager: &WpLinuxDrmSyncobjManagerV1,
    handle: &QueueHandle<Heard>,
) -> Result<Shared, TimelineError> {
    let timeline = Timeline::create(device)?;
    let wire = manager.import_timeline(timeline.export()?.as_fd(), handle, ());
    Ok(Shared { timeline, wire, last: Cell::new(0) })
}

delegate_noop!(Heard: WpLinuxDrmSyncobjManagerV1);
delegate_noop!(Heard: WpLinuxDrmSyncobjSurfaceV1);
delegate_noop!(Heard: WpLinuxDrmSyncobjTimelineV1);
