//! Clients that a test drives by hand, on the compositor as people use it: a process of its own, on KMS.
//!
//! Owns the commits of such clients as one thing, whichever way they are synchronised.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fencepost::fence::sync_file::SyncFile;
use fencepost::fence::timeline::Point;
use fencepost::fence::{Fence, Status};
use fencepost::sys::dma_buf::{self, Access};
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_surface_v1::WpLinuxDrmSyncobjSurfaceV1;

use crate::fences::heap_buffer;
use crate::fixture::{Fixture, Server};
use crate::harness::{Record, Session};
use crate::setup::{Clock, Fate, Watched, Window, releases};
use crate::sync_app::{SyncApp, gpu_dma_buf, set_acquire, set_release};

/// The compositor's end of the socket. It takes its turns by itself.
pub(crate) struct Remote(PathBuf);

/// How long one turn lets the compositor work.
const TURN: Duration = Duration::from_millis(1);

impl Remote {
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self(socket)
    }
}

impl Server for Remote {
    fn connect(&mut self) -> UnixStream {
        UnixStream::connect(&self.0).expect("the compositor accepts clients")
    }

    fn turns(&self) -> usize {
        120_000
    }

    fn turn(&mut self) {
        sleep(TURN);
    }
}

/// A mode whose refresh of 50 ms is long for an emulated machine, too: for tests that ask in which refresh something happens.
pub(crate) const SLOW: &str = "--mode=custom:640x480@20";

/// A compositor on KMS and its clients.
pub(crate) struct Chain {
    pub(crate) session: Session,
    pub(crate) desk: Fixture<Remote>,
}

impl Chain {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::of(Session::start(&[&["--mode=640x480"], arguments].concat()))
    }

    pub(crate) fn of(session: Session) -> Self {
        let desk = Fixture::new(Remote(session.socket()));
        Self { session, desk }
    }

    pub(crate) fn app(&self) -> SyncApp {
        SyncApp::new(&self.desk)
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock::new(&self.desk)
    }

    pub(crate) fn end(self) -> Record {
        self.session.end()
    }
}

/// How a client synchronises its buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Explicit,
    Implicit,
}

pub(crate) const WAYS: [Way; 2] = [Way::Explicit, Way::Implicit];

/// Whose memory a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The GPU samples it, for as long as it is shown.
    Gpu,
    /// The CPU copies it, once.
    Heap,
}

/// A client with a window.
pub(crate) struct Shower {
    pub(crate) app: SyncApp,
    pub(crate) window: Window,
    pub(crate) sync: Option<WpLinuxDrmSyncobjSurfaceV1>,
}

/// A commit, as its client knows it.
pub(crate) struct Given {
    pub(crate) commit: Watched,
    pub(crate) buffer: WlBuffer,
    /// The release point, which the test shares with the compositor; `None` with implicit sync.
    pub(crate) point: Option<Point>,
    released: Cell<usize>,
}

impl Given {
    /// A commit between points.
    pub(crate) fn explicit(commit: Watched, buffer: WlBuffer, point: Point) -> Self {
        Self { commit, buffer, point: Some(point), released: Cell::default() }
    }

    /// Whether the client may use the buffer again.
    pub(crate) fn is_back(&self) -> bool {
        match &self.point {
            Some(point) => point.status() == Status::Signalled,
            None => {
                self.released.set(self.released.get() + releases(&self.buffer));
                self.released.get() > 0
            }
        }
    }
}

impl Shower {
    pub(crate) fn new(chain: &Chain, way: Way) -> Self {
        let mut app = chain.app();
        let window = app.app.window();
        let sync = (way == Way::Explicit).then(|| app.sync_surface(&window.surface));
        Self { app, window, sync }
    }

    /// Commits a new buffer that is ready when `fence` has signalled; at once without one.
    pub(crate) fn show(&self, memory: Memory, fence: Option<&SyncFile>) -> Given {
        self.show_on(&self.window.surface, self.sync.as_ref(), memory, fence)
    }

    /// As [`Self::show`], on any surface of the client.
    pub(crate) fn show_on(
        &self,
        surface: &WlSurface,
        sync: Option<&WpLinuxDrmSyncobjSurfaceV1>,
        memory: Memory,
        fence: Option<&SyncFile>,
    ) -> Given {
        let implicit = fence.filter(|_| sync.is_none());
        let buffer = match memory {
            Memory::Gpu => {
                let dma_buf = gpu_dma_buf();
                written(&dma_buf.handles().next().expect("a plane"), implicit);
                self.app.gpu_buffer_of(&dma_buf)
            }
            Memory::Heap => {
                let dma_buf = heap_buffer();
                written(&dma_buf, implicit);
                self.app.buffer_of(&dma_buf)
            }
        };
        self.show_buffer(surface, sync, buffer, fence)
    }

    /// Commits a buffer of the client; with explicit sync it is ready when `fence` has signalled.
    pub(crate) fn show_buffer(
        &self,
        surface: &WlSurface,
        sync: Option<&WpLinuxDrmSyncobjSurfaceV1>,
        buffer: WlBuffer,
        fence: Option<&SyncFile>,
    ) -> Given {
        let point = sync.map(|sync| {
            // Timelines of their own: a later point would signal the earlier ones.
            let (acquire, release) = (self.app.timeline(), self.app.timeline());
            match fence {
                Some(fence) => acquire.point(1).import_sync_file(fence).expect("import"),
                None => acquire.signal(1),
            }
            set_acquire(sync, (&acquire, 1));
            set_release(sync, (&release, 1));
            for timeline in [acquire.object, release.object] {
                timeline.destroy();
            }
            release.kernel.point(1)
        });
        let commit = self.app.app.show(surface, &buffer);
        Given { commit, buffer, point, released: Cell::default() }
    }

    /// What has become of the commit, after everything that the compositor has sent.
    #[track_caller]
    pub(crate) fn fate(&mut self, given: &Given) -> Fate {
        self.app.app.fate(&given.commit)
    }

    /// Whether it comes about in `limit`. Takes in what the compositor sends.
    pub(crate) fn comes(&mut self, limit: Duration, mut so: impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        let mut came = false;
        self.app.app.client.until(|| {
            came = so();
            came || start.elapsed() > limit
        });
        came
    }
}

/// The dma-buf is being written to until the fence signals.
fn written(dma_buf: &impl AsFd, fence: Option<&SyncFile>) {
    if let Some(fence) = fence {
        dma_buf::import_sync_file(dma_buf.as_fd(), Access::Write, fence.as_fd()).expect("import");
    }
}
