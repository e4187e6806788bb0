//! The reference client against a small compositor that can be told to misbehave: what an honest one does is
//! never a violation, and every fault is seen, by the client or in the pixels.
//!
//! The compositor reads pixels with the CPU at the moment that stands for sampling, and counts what it read.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use fencepost::client::marker::{Flaw, Frame};
use fencepost::client::stats::Report;
use fencepost::client::{self, Options};
use fencepost::fence::Fence;
use fencepost::fence::implicit::Planes;
use fencepost::fence::roles::AcquireFence;
use fencepost::fence::timeline::{Point, SyncobjDevice, Timeline};
use fencepost::halves::whole;
use fencepost::sys::dma_buf::Access;
use fencepost::sys::mapping::Mapping;
use rustix::time::{ClockId, clock_gettime};
use wayland_protocols::wp::linux_dmabuf::zv1::server::zwp_linux_buffer_params_v1::{
    self, ZwpLinuxBufferParamsV1,
};
use wayland_protocols::wp::linux_dmabuf::zv1::server::zwp_linux_dmabuf_v1::{self, ZwpLinuxDmabufV1};
use wayland_protocols::wp::linux_drm_syncobj::v1::server::wp_linux_drm_syncobj_manager_v1::{
    self, WpLinuxDrmSyncobjManagerV1,
};
use wayland_protocols::wp::linux_drm_syncobj::v1::server::wp_linux_drm_syncobj_surface_v1::{
    self, WpLinuxDrmSyncobjSurfaceV1,
};
use wayland_protocols::wp::linux_drm_syncobj::v1::server::wp_linux_drm_syncobj_timeline_v1::WpLinuxDrmSyncobjTimelineV1;
use wayland_protocols::wp::presentation_time::server::wp_presentation::{self, WpPresentation};
use wayland_protocols::wp::presentation_time::server::wp_presentation_feedback::{
    Kind, WpPresentationFeedback,
};
use wayland_protocols::xdg::shell::server::xdg_surface::{self, XdgSurface};
use wayland_protocols::xdg::shell::server::xdg_toplevel::XdgToplevel;
use wayland_protocols::xdg::shell::server::xdg_wm_base::{self, XdgWmBase};
use wayland_server::backend::ClientData;
use wayland_server::protocol::wl_buffer::WlBuffer;
use wayland_server::protocol::wl_callback::WlCallback;
use wayland_server::protocol::wl_compositor::{self, WlCompositor};
use wayland_server::protocol::wl_surface::{self, WlSurface};
use wayland_server::{Client, DataInit, Dispatch, Display, DisplayHandle, GlobalDispatch, New, Resource};

use crate::harness::modprobe;

const XRGB8888: u32 = drm::buffer::DrmFourcc::Xrgb8888 as u32;

/// What the compositor does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Reads and shows without waiting for the fence.
    DoesNotWait,
    /// Gives the buffer back at the commit, and reads it later.
    ReadsAfterRelease,
    /// Keeps every buffer.
    NeverReleases,
    /// Keeps the last buffer although the surface is gone.
    ForgetsTheLast,
    /// Sends `wl_buffer.release` twice.
    ReleasesTwice,
    /// Shows a buffer by scan-out and gives it back at once.
    ReleasesOnScreen,
}

/// A client's buffer.
struct Pixels {
    fd: OwnedFd,
    stride: u32,
    size: (u32, u32),
}

/// A commit that has not been applied, or the one on the screen.
struct Commit {
    buffer: WlBuffer,
    acquire: Vec<AcquireFence>,
    release: Option<Point>,
    frame: Option<WlCallback>,
    feedback: Option<WpPresentationFeedback>,
    at: Instant,
}

#[derive(Default)]
struct PendingState {
    buffer: Option<WlBuffer>,
    points: [Option<Point>; 2],
    frame: Option<WlCallback>,
    feedback: Option<WpPresentationFeedback>,
}

struct Compositor {
    fault: Fault,
    reads: bool,
    device: Option<SyncobjDevice>,
    pending: PendingState,
    queue: Vec<Commit>,
    shown: Option<Commit>,
    read: Vec<Result<u32, Flaw>>,
}

impl Compositor {
    fn commit(&mut self) {
        let PendingState { buffer, points, frame, feedback } = std::mem::take(&mut self.pending);
        let Some(buffer) = buffer else { return };
        let [acquire, release] = points;
        let acquire = match acquire {
            Some(point) => vec![AcquireFence::Point(point)],
            None => Planes::new([pixels(&buffer).fd.as_fd()]).expect("planes").writers().expect("writers"),
        };
        let commit = Commit { buffer, acquire, release, frame, feedback, at: Instant::now() };
        if self.fault == Fault::ReadsAfterRelease {
            self.release(&commit);
        }
        self.queue.push(commit);
    }

    /// Applies what is ready: reads it, shows it, gives the one before back.
    fn turn(&mut self) {
        while let Some(first) = self.queue.first() {
            let is_ready = match self.fault {
                Fault::DoesNotWait => true,
                Fault::ReadsAfterRelease => first.at.elapsed() > Duration::from_millis(60),
                _ => first.acquire.iter().all(|fence| fence.status().is_done()),
            };
            if !is_ready {
                return;
            }
            let mut commit = self.queue.remove(0);
            if self.reads {
                self.read.push(read(pixels(&commit.buffer)));
            }
            // A display of about 100 Hz.
            thread::sleep(Duration::from_millis(10));
            if let Some(frame) = commit.frame.take() {
                frame.done(0);
            }
            if let Some(feedback) = commit.feedback.take() {
                let on_screen = self.fault == Fault::ReleasesOnScreen;
                present(&feedback, if on_screen { Kind::ZeroCopy } else { Kind::Vsync });
            }
            if self.fault == Fault::ReleasesOnScreen {
                self.release(&commit);
            }
            let before = self.shown.replace(commit);
            let keeps = matches!(self.fault, Fault::ReadsAfterRelease | Fault::ReleasesOnScreen);
            if let Some(before) = before.filter(|_| !keeps) {
                self.release(&before);
            }
        }
    }

    fn release(&self, commit: &Commit) {
        if self.fault == Fault::NeverReleases {
            return;
        }
        match &commit.release {
            Some(point) => point.signal().expect("signal"),
            None => commit.buffer.release(),
        }
        if self.fault == Fault::ReleasesTwice {
            commit.buffer.release();
        }
    }

    fn surface_destroyed(&mut self) {
        let keeps =
            matches!(self.fault, Fault::ForgetsTheLast | Fault::ReadsAfterRelease | Fault::ReleasesOnScreen);
        let commits: Vec<Commit> = self.queue.drain(..).chain(self.shown.take()).collect();
        for commit in commits.iter().filter(|_| !keeps) {
            self.release(commit);
        }
    }
}

fn pixels(buffer: &WlBuffer) -> &Pixels {
    buffer.data::<Pixels>().expect("a dma-buf")
}

fn read(Pixels { fd, stride, size: (width, height) }: &Pixels) -> Result<u32, Flaw> {
    let len = *stride as usize * *height as usize;
    let mapping = Mapping::new(fd.as_fd(), len, Access::Read).expect("map");
    let mut bytes = vec![0; len];
    mapping.read(0, &mut bytes).expect("read");
    let words = bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_ne_bytes(*bytes));
    let words: Vec<u32> = words.collect();
    Frame { pixels: &words, width: *width, height: *height, stride: stride / 4 }.check()
}

fn present(feedback: &WpPresentationFeedback, kind: Kind) {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (now.tv_sec as u64, now.tv_nsec as u32);
    feedback.presented((seconds >> 32) as u32, seconds as u32, nanos, 10_000_000, 0, 0, kind);
}

struct Quiet;
impl ClientData for Quiet {}

/// Runs the client with `args` against a compositor with `fault`. Returns the client's report and what the
/// compositor read.
fn run(fault: Fault, args: &str) -> (Report, Vec<Result<u32, Flaw>>) {
    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }
    let args = std::iter::once("client").chain(args.split_whitespace());
    let options = CommandLine::parse_from(args).options;

    let mut display = Display::<Compositor>::new().expect("display");
    let mut handle = display.handle();
    handle.create_global::<Compositor, WlCompositor, _>(4, ());
    handle.create_global::<Compositor, XdgWmBase, _>(1, ());
    handle.create_global::<Compositor, ZwpLinuxDmabufV1, _>(3, ());
    handle.create_global::<Compositor, WpPresentation, _>(1, ());
    handle.create_global::<Compositor, WpLinuxDrmSyncobjManagerV1, _>(1, ());
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    handle.insert_client(ours, Arc::new(Quiet)).expect("a client");
    let mut compositor = Compositor {
        fault,
        reads: options.source != client::Kind::Gpu,
        device: SyncobjDevice::open(Path::new("/dev/dri/renderD128")).ok(),
        pending: PendingState::default(),
        queue: Vec::new(),
        shown: None,
        read: Vec::new(),
    };
    let client = thread::spawn(move || {
        let connection = wayland_client::Connection::from_socket(theirs).expect("connect");
        client::show(&connection, &options)
    });
    while !client.is_finished() {
        display.dispatch_clients(&mut compositor).expect("dispatch");
        compositor.turn();
        display.flush_clients().expect("flush");
        thread::sleep(Duration::from_millis(1));
    }
    (client.join().expect("the client").expect("a report"), compositor.read)
}

fn expect_honest(args: &str, frames: u64) {
    modprobe("sw_sync");
    modprobe("vgem");
    let (report, read) = run(Fault::None, &format!("{args} --frames {frames} --size 160x112"));
    assert!(report.is_clean(), "{args}: {report}");
    assert_eq!((report.committed, report.presented, report.released), (frames, frames, frames), "{args}");
    if !args.contains("gpu") {
        assert_eq!(read, (1..=frames as u32).map(Ok).collect::<Vec<_>>(), "{args}");
    }
}

#[test]
fn an_honest_compositor_sees_every_frame_whole_and_in_order_from_every_source() {
    for source in ["heap", "udmabuf", "vgem"] {
        for sync in ["explicit", "implicit"] {
            expect_honest(&format!("--sync {sync} --source {source}"), 20);
        }
    }
}

#[test]
fn late_fences_are_no_violation_of_an_honest_compositor() {
    for source in ["heap", "vgem"] {
        for sync in ["explicit", "implicit"] {
            let args = format!("--sync {sync} --source {source} --fence-ms 30 --fence-random --seed 7");
            expect_honest(&args, 20);
        }
    }
}

#[test]
fn a_gpu_client_is_shown_and_released() {
    expect_honest("--sync explicit --source gpu", 20);
    expect_honest("--sync implicit --source gpu", 20);
    expect_honest("--sync explicit --source gpu --gpu-ms 20 --fence-ms 20", 10);
}

#[test]
fn a_compositor_that_does_not_wait_is_accused_and_reads_poison() {
    modprobe("sw_sync");
    for sync in ["explicit", "implicit"] {
        let args = format!("--sync {sync} --source heap --frames 10 --fence-ms 100 --size 160x112");
        let (report, read) = run(Fault::DoesNotWait, &args);
        assert!(
            report.violations.iter().any(|violation| violation.contains("was shown")),
            "{sync}: {report}"
        );
        assert!(read.iter().any(|frame| matches!(frame, Err(Flaw::Poisoned { .. }))), "{sync}: {read:?}");
    }
}

#[test]
fn a_compositor_that_reads_after_the_release_reads_poison() {
    for sync in ["explicit", "implicit"] {
        let args = format!("--sync {sync} --source heap --frames 10 --size 160x112");
        let (_, read) = run(Fault::ReadsAfterRelease, &args);
        let poisoned = read.iter().filter(|frame| matches!(frame, Err(Flaw::Poisoned { .. }))).count();
        assert!(poisoned > 0, "{sync}: {read:?}");
    }
}

#[test]
fn a_compositor_that_keeps_every_buffer_is_accused() {
    let args = "--source heap --frames 10 --size 160x112 --busy-limit-s 1 --buffers 2";
    let (report, _) = run(Fault::NeverReleases, args);
    assert_eq!(report.committed, 2);
    assert!(report.errors[0].contains("all 2 buffers for 1 s, for commits [1, 2]"), "{report}");
}

#[test]
fn a_compositor_that_forgets_a_release_with_the_surface_is_accused() {
    let args = "--source heap --frames 5 --size 160x112 --busy-limit-s 1";
    let (report, _) = run(Fault::ForgetsTheLast, args);
    assert_eq!(report.violations, ["commits [5] were not released although their surface is gone"]);
}

#[test]
fn a_compositor_that_releases_twice_is_accused() {
    let args = "--sync implicit --source heap --frames 5 --size 160x112";
    let (report, _) = run(Fault::ReleasesTwice, args);
    assert!(report.violations.iter().any(|violation| violation.contains("not the compositor's")), "{report}");
}

#[test]
fn a_compositor_that_releases_what_is_scanned_out_is_accused() {
    let args = "--source heap --frames 5 --size 160x112";
    let (report, _) = run(Fault::ReleasesOnScreen, args);
    assert!(report.violations.iter().any(|violation| violation.contains("was scanned out")), "{report}");
}

#[test]
fn a_fence_that_never_signals_ends_with_the_surface() {
    let args = "--source heap --frames 4 --fence-ms never --size 160x112 --busy-limit-s 1";
    let (report, read) = run(Fault::None, args);
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.committed, report.presented, report.released), (4, 3, 4));
    assert_eq!(read, [Ok(1), Ok(2), Ok(3)]);
}

macro_rules! global {
    ($interface:ty, $bind:expr) => {
        impl GlobalDispatch<$interface, ()> for Compositor {
            fn bind(
                _: &mut Self,
                _: &DisplayHandle,
                _: &Client,
                resource: New<$interface>,
                (): &(),
                init: &mut DataInit<'_, Self>,
            ) {
                let resource = init.init(resource, ());
                let bind: fn($interface) = $bind;
                bind(resource);
            }
        }
    };
}

global!(WlCompositor, |_| {});
global!(XdgWmBase, |_| {});
global!(ZwpLinuxDmabufV1, |dmabuf| {
    dmabuf.format(XRGB8888);
    dmabuf.modifier(XRGB8888, 0, 0);
});
global!(WpPresentation, |presentation| presentation.clock_id(ClockId::Monotonic as u32));
global!(WpLinuxDrmSyncobjManagerV1, |_| {});

macro_rules! requests {
    ($interface:ty, $data:ty, |$compositor:ident, $resource:ident, $request:ident, $info:ident, $init:ident| $body:expr) => {
        impl Dispatch<$interface, $data> for Compositor {
            fn request(
                $compositor: &mut Self,
                _: &Client,
                $resource: &$interface,
                $request: <$interface as Resource>::Request,
                $info: &$data,
                _: &DisplayHandle,
                $init: &mut DataInit<'_, Self>,
            ) {
                $body
            }
        }
    };
}

requests!(WlCompositor, (), |_c, _r, request, _d, init| {
    if let wl_compositor::Request::CreateSurface { id } = request {
        init.init(id, ());
    }
});

requests!(WlSurface, (), |compositor, _r, request, _d, init| match request {
    wl_surface::Request::Attach { buffer, .. } => compositor.pending.buffer = buffer,
    wl_surface::Request::Frame { callback } => compositor.pending.frame = Some(init.init(callback, ())),
    wl_surface::Request::Commit => compositor.commit(),
    wl_surface::Request::Destroy => compositor.surface_destroyed(),
    _ => {}
});

requests!(XdgWmBase, (), |_c, _r, request, _d, init| {
    if let xdg_wm_base::Request::GetXdgSurface { id, .. } = request {
        init.init(id, ());
    }
});

requests!(XdgSurface, (), |_c, xdg_surface, request, _d, init| {
    if let xdg_surface::Request::GetToplevel { id } = request {
        init.init(id, ()).configure(0, 0, Vec::new());
        xdg_surface.configure(1);
    }
});

requests!(ZwpLinuxDmabufV1, (), |_c, _r, request, _d, init| {
    if let zwp_linux_dmabuf_v1::Request::CreateParams { params_id } = request {
        init.init(params_id, std::sync::Mutex::new(None));
    }
});

type Params = std::sync::Mutex<Option<(OwnedFd, u32)>>;

requests!(ZwpLinuxBufferParamsV1, Params, |_c, _r, request, params, init| match request {
    zwp_linux_buffer_params_v1::Request::Add { fd, stride, .. } => {
        *params.lock().expect("lock") = Some((fd, stride));
    }
    zwp_linux_buffer_params_v1::Request::CreateImmed { buffer_id, width, height, .. } => {
        let (fd, stride) = params.lock().expect("lock").take().expect("a plane");
        init.init(buffer_id, Pixels { fd, stride, size: (width as u32, height as u32) });
    }
    _ => {}
});

requests!(WpPresentation, (), |compositor, _r, request, _d, init| {
    if let wp_presentation::Request::Feedback { callback, .. } = request {
        compositor.pending.feedback = Some(init.init(callback, ()));
    }
});

requests!(WpLinuxDrmSyncobjManagerV1, (), |compositor, _r, request, _d, init| match request {
    wp_linux_drm_syncobj_manager_v1::Request::GetSurface { id, .. } => {
        init.init(id, ());
    }
    wp_linux_drm_syncobj_manager_v1::Request::ImportTimeline { id, fd } => {
        let device = compositor.device.as_ref().expect("a device with syncobjs");
        init.init(id, Timeline::import(device, fd.as_fd()).expect("import"));
    }
    _ => {}
});

fn point(timeline: &WpLinuxDrmSyncobjTimelineV1, high: u32, low: u32) -> Option<Point> {
    Some(timeline.data::<Timeline>()?.point(whole(high, low)))
}

requests!(WpLinuxDrmSyncobjSurfaceV1, (), |compositor, _r, request, _d, _i| match request {
    wp_linux_drm_syncobj_surface_v1::Request::SetAcquirePoint { timeline, point_hi, point_lo } => {
        compositor.pending.points[0] = point(&timeline, point_hi, point_lo);
    }
    wp_linux_drm_syncobj_surface_v1::Request::SetReleasePoint { timeline, point_hi, point_lo } => {
        compositor.pending.points[1] = point(&timeline, point_hi, point_lo);
    }
    _ => {}
});

requests!(WlBuffer, Pixels, |_c, _r, _q, _d, _i| {});
requests!(WpLinuxDrmSyncobjTimelineV1, Timeline, |_c, _r, _q, _d, _i| {});
requests!(WlCallback, (), |_c, _r, _q, _d, _i| {});
requests!(XdgToplevel, (), |_c, _r, _q, _d, _i| {});
requests!(WpPresentationFeedback, (), |_c, _r, _q, _d, _i| {});
