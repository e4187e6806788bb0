//! Clients with explicit sync: timelines that both sides know, and commits between two points.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_manager_v1::WpLinuxDrmSyncobjManagerV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_surface_v1::WpLinuxDrmSyncobjSurfaceV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_timeline_v1::WpLinuxDrmSyncobjTimelineV1;

use super::Probe;
use super::app::{App, Watched, Window};
use super::connection::Inbox;
use super::verdict::{Outcome, Stop};
use crate::fence::timeline::{Point, Timeline};
use crate::fence::{Fence, Status};
use crate::halves::halves;

/// A client that has bound linux-drm-syncobj.
pub(super) struct SyncApp {
    /// The rest of it.
    pub(super) app: App,
    /// The global.
    pub(super) manager: WpLinuxDrmSyncobjManagerV1,
}

/// A timeline as both sides of the protocol see it.
pub(super) struct SharedTimeline {
    /// Ours.
    pub(super) kernel: Timeline,
    /// What requests name.
    pub(super) object: WpLinuxDrmSyncobjTimelineV1,
}

/// A place on a timeline.
pub(super) type At<'a> = (&'a SharedTimeline, u64);

impl SharedTimeline {
    /// The point at `value`.
    pub(super) fn point(&self, value: u64) -> Point {
        self.kernel.point(value)
    }

    /// Signals the point at `value`.
    pub(super) fn signal(&self, value: u64) -> Result<(), Stop> {
        Ok(self.point(value).signal()?)
    }

    /// Whether the point at `value` has signalled.
    pub(super) fn has_signalled(&self, value: u64) -> bool {
        self.point(value).status() == Status::Signalled
    }
}

impl SyncApp {
    /// Connects.
    pub(super) fn open(probe: &Probe) -> Result<Self, Stop> {
        let app = probe.app()?;
        Ok(Self { manager: app.client.bind(1..=1)?, app })
    }

    /// A new timeline.
    pub(super) fn timeline(&self, probe: &Probe) -> Result<SharedTimeline, Stop> {
        let kernel = probe.machine.timeline()?;
        let object = self.import(kernel.export()?);
        Ok(SharedTimeline { kernel, object })
    }

    /// Imports any fd as a timeline.
    pub(super) fn import(&self, fd: impl AsFd) -> WpLinuxDrmSyncobjTimelineV1 {
        self.manager.import_timeline(fd.as_fd(), &self.app.client.handle(), Inbox::default())
    }

    /// Makes a surface explicitly synchronised.
    pub(super) fn sync_surface(&self, surface: &WlSurface) -> WpLinuxDrmSyncobjSurfaceV1 {
        self.manager.get_surface(surface, &self.app.client.handle(), Inbox::default())
    }

    /// Shows a buffer between two points.
    pub(super) fn show(
        &self,
        surface: &WlSurface,
        sync: &WpLinuxDrmSyncobjSurfaceV1,
        buffer: &WlBuffer,
        (acquire, release): (At<'_>, At<'_>),
    ) -> Watched {
        set_acquire(sync, acquire);
        set_release(sync, release);
        self.app.show(surface, buffer)
    }

    /// The compositor has to signal the point soon.
    pub(super) fn until_signalled(&mut self, (timeline, value): At<'_>, when: &str) -> Result<(), Stop> {
        let what = format!("release point {value} signals {when}");
        self.app.client.until(&what, || timeline.has_signalled(value))
    }
}

/// Sets the acquire point of the next commit.
pub(super) fn set_acquire(sync: &WpLinuxDrmSyncobjSurfaceV1, (timeline, value): At<'_>) {
    let (high, low) = halves(value);
    sync.set_acquire_point(&timeline.object, high, low);
}

/// Sets the release point of the next commit.
pub(super) fn set_release(sync: &WpLinuxDrmSyncobjSurfaceV1, (timeline, value): At<'_>) {
    let (high, low) = halves(value);
    sync.set_release_point(&timeline.object, high, low);
}

/// For rules that are checked at commit: a surface without a role that is explicitly synchronised, and everything that it
/// could be given.
pub(super) struct Bench {
    /// The client.
    pub(super) app: SyncApp,
    /// The surface.
    pub(super) surface: WlSurface,
    /// Its extension.
    pub(super) sync: WpLinuxDrmSyncobjSurfaceV1,
    /// A timeline.
    pub(super) one: SharedTimeline,
    /// Another.
    pub(super) two: SharedTimeline,
    /// A dma-buf.
    pub(super) buffer: WlBuffer,
}

impl Bench {
    /// Everything is there, and the compositor has accepted it.
    pub(super) fn new(probe: &mut Probe) -> Result<Self, Stop> {
        let mut app = SyncApp::open(probe)?;
        let surface = app.app.surface();
        let sync = app.sync_surface(&surface);
        let (one, two) = (app.timeline(probe)?, app.timeline(probe)?);
        let buffer = app.app.buffer(probe.machine.image()?.as_ref())?;
        app.app.client.roundtrip()?;
        Ok(Self { app, surface, sync, one, two, buffer })
    }

    /// Attaches the dma-buf.
    pub(super) fn attach(&self) {
        self.surface.attach(Some(&self.buffer), 0, 0);
    }

    /// Sets two points of the first timeline.
    pub(super) fn set_points(&self, acquire: u64, release: u64) {
        set_acquire(&self.sync, (&self.one, acquire));
        set_release(&self.sync, (&self.one, release));
    }

    /// A commit that must not be an error.
    pub(super) fn commits(&mut self) -> Outcome {
        self.surface.commit();
        self.app.app.client.expect_no_error()
    }

    /// A commit that must end in this error on the extension of the surface.
    pub(super) fn commits_to(mut self, error: impl Into<u32>) -> Outcome {
        self.surface.commit();
        self.app.app.client.expect_error(&self.sync, error)
    }
}

/// For rules about what is shown and released when: a window that is explicitly synchronised.
pub(super) struct Stage {
    /// The client.
    pub(super) app: SyncApp,
    /// The window.
    pub(super) window: Window,
    /// Its extension.
    pub(super) sync: WpLinuxDrmSyncobjSurfaceV1,
    /// A timeline for acquire points.
    pub(super) acquire: SharedTimeline,
    /// A timeline for release points.
    pub(super) release: SharedTimeline,
    /// The dma-buf that the next commit shows.
    pub(super) buffer: WlBuffer,
    /// Those of the commits after it.
    spares: VecDeque<WlBuffer>,
}

/// One is shown, one waits, and one is back: also with a compositor that releases buffers, not commits.
const SPARES: usize = 2;

impl Stage {
    /// A window without content, on a compositor that shows windows.
    pub(super) fn new(probe: &mut Probe) -> Result<Self, Stop> {
        let mut app = SyncApp::open(probe)?;
        let (acquire, release) = (app.timeline(probe)?, app.timeline(probe)?);
        let image = probe.machine.image()?;
        probe.clock()?;
        let buffer = app.app.buffer(image.as_ref())?;
        let spares = (0..SPARES).map(|_| app.app.buffer(probe.machine.image()?.as_ref()));
        let spares = spares.collect::<Result<_, _>>()?;
        let window = app.app.window()?;
        let sync = app.sync_surface(&window.surface);
        app.app.client.roundtrip()?;
        Ok(Self { app, window, sync, acquire, release, buffer, spares })
    }

    /// Shows the buffer between two points.
    pub(super) fn show(&self, acquire: At<'_>, release: At<'_>) -> Watched {
        self.app.show(&self.window.surface, &self.sync, &self.buffer, (acquire, release))
    }

    /// Shows the buffer between points `value` of the two timelines.
    pub(super) fn show_at(&self, value: u64) -> Watched {
        self.show((&self.acquire, value), (&self.release, value))
    }

    /// Takes another buffer: what is learnt of two commits is then nothing about showing one buffer twice.
    pub(super) fn turn(&mut self) {
        if let Some(next) = self.spares.pop_front() {
            self.spares.push_back(std::mem::replace(&mut self.buffer, next));
        }
    }

    /// Shows the buffer between points `value` of the two timelines, with the acquire point signalled already, waits until it
    /// is there, and takes another.
    pub(super) fn show_ready(&mut self, value: u64) -> Result<(), Stop> {
        self.acquire.signal(value)?;
        let commit = self.show_at(value);
        self.app.app.until_shown(&commit, "when its acquire point has signalled before")?;
        self.turn();
        Ok(())
    }

    /// Another buffer of the same client.
    pub(super) fn other_buffer(&mut self, probe: &mut Probe) -> Result<WlBuffer, Stop> {
        let image = probe.machine.image()?;
        self.app.app.buffer(image.as_ref())
    }

    /// Lets the compositor show several frames of others, in which this commit must not be shown.
    pub(super) fn stays_away(&mut self, probe: &mut Probe, commit: &Watched, why: &str) -> Result<(), Stop> {
        self.app.app.client.roundtrip()?;
        probe.settle(&mut self.app.app.client)?;
        commit.expect_waiting(why)
    }
}
