//! The compositor with an output that nobody sees, and applications on it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fencepost::compositor::{Compositor, Kind, Options, Running};
use fencepost::halves::whole;
use fencepost::output::kms::modes::ModeRequest;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use wayland_client::protocol::wl_buffer::{self, WlBuffer};
use wayland_client::protocol::wl_callback::WlCallback;
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_shm::{Format, WlShm};
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_client::protocol::wl_subcompositor::WlSubcompositor;
use wayland_client::protocol::wl_subsurface::WlSubsurface;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::presentation_time::client::wp_presentation::WpPresentation;
use wayland_protocols::wp::presentation_time::client::wp_presentation_feedback::{
    Event as FeedbackEvent, WpPresentationFeedback,
};
use wayland_protocols::xdg::shell::client::xdg_surface::{self, XdgSurface};
use wayland_protocols::xdg::shell::client::xdg_toplevel::XdgToplevel;
use wayland_protocols::xdg::shell::client::xdg_wm_base::XdgWmBase;

use crate::fixture::{Client, Fixture, Log, Server, events};

/// Small, because frames are drawn in software, and fast, because tests wait for them.
pub(crate) const MODE: ModeRequest =
    ModeRequest::Size { width: 128, height: 128, refresh_mhz: Some(200_000) };

/// wl_display.error.no_memory
pub(crate) const NO_MEMORY: u32 = 2;

/// Every buffer of the tests has this size, unless it says otherwise: one page.
pub(crate) const SIZE: (i32, i32) = (64, 16);
pub(crate) const STRIDE: i32 = SIZE.0 * 4;
pub(crate) const BYTES: i32 = STRIDE * SIZE.1;

pub(crate) struct TestCompositor(Option<Running>);

impl TestCompositor {
    pub(crate) fn state(&mut self) -> &mut Compositor {
        self.0.as_mut().expect("a compositor that has not ended").state()
    }

    /// Ends it as SIGTERM does.
    pub(crate) fn end(&mut self) {
        let _code = self.0.take().expect("a compositor that has not ended").end();
    }

    /// How many pixels of the output have this colour (XRGB8888).
    pub(crate) fn pixels_of(&mut self, colour: [u8; 3]) -> usize {
        let picture = self.state().picture().unwrap_or_default();
        picture.chunks_exact(4).filter(|pixel| pixel[..3] == [colour[2], colour[1], colour[0]]).count()
    }

    /// Waits for something to do for as long as this.
    pub(crate) fn sleep(&mut self, at_most: Duration) {
        self.turn_for(at_most);
    }

    fn turn_for(&mut self, timeout: Duration) {
        if let Some(running) = &mut self.0 {
            running.turn(timeout).expect("a turn of the event loop");
        }
    }
}

impl Server for TestCompositor {
    fn connect(&mut self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        self.state().accept(theirs);
        ours
    }

    fn turn(&mut self) {
        self.turn_for(Duration::ZERO);
    }

    fn wait(&mut self) {
        self.turn_for(Duration::from_millis(10));
    }
}

pub(crate) type Desk = Fixture<TestCompositor>;

pub(crate) fn desk() -> Desk {
    desk_with_outputs(1)
}

/// Several outputs of this mode, side by side.
pub(crate) fn desk_with_outputs(count: u8) -> Desk {
    desk_with(Options { outputs: Some(count), ..Options::default() })
}

pub(crate) fn desk_with(options: Options) -> Desk {
    Fixture::new(compositor(Options { backend: Kind::Headless, ..options }))
}

/// A compositor of the tests' mode, unless another was asked for.
pub(crate) fn compositor(options: Options) -> TestCompositor {
    let options = Options { mode: options.mode.or(Some(MODE)), ..options };
    TestCompositor(Some(Running::start(&options).expect("a compositor")))
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Neither shown nor superseded so far.
    Waiting,
    Shown,
    Superseded,
}

/// A commit that is being watched.
pub(crate) struct Watched {
    feedback: WpPresentationFeedback,
    fate: Cell<Fate>,
    at: Cell<Option<Duration>>,
}

impl Watched {
    /// As far as the client has heard.
    pub(crate) fn fate(&self) -> Fate {
        for event in events(&self.feedback) {
            match event {
                FeedbackEvent::Presented { tv_sec_hi, tv_sec_lo, tv_nsec, .. } => {
                    let seconds = whole(tv_sec_hi, tv_sec_lo);
                    self.at.set(Some(Duration::new(seconds, tv_nsec)));
                    self.fate.set(Fate::Shown);
                }
                FeedbackEvent::Discarded => self.fate.set(Fate::Superseded),
                _ => {}
            }
        }
        self.fate.get()
    }

    /// When it was shown, on CLOCK_MONOTONIC, if the client has heard of it.
    pub(crate) fn at(&self) -> Option<Duration> {
        self.fate();
        self.at.get()
    }
}

/// A client with the globals that every application has.
pub(crate) struct App {
    pub(crate) client: Client,
    pub(crate) compositor: WlCompositor,
    pub(crate) subcompositor: WlSubcompositor,
    pub(crate) shm: WlShm,
    pub(crate) wm_base: XdgWmBase,
    pub(crate) presentation: WpPresentation,
}

pub(crate) struct Window {
    pub(crate) surface: WlSurface,
    pub(crate) xdg_surface: XdgSurface,
    pub(crate) toplevel: XdgToplevel,
}

impl App {
    pub(crate) fn new(desk: &Fixture<impl Server>) -> Self {
        let client = desk.client();
        Self {
            compositor: client.bind(6),
            subcompositor: client.bind(1),
            shm: client.bind(1),
            wm_base: client.bind(5),
            presentation: client.bind(1),
            client,
        }
    }

    pub(crate) fn surface(&self) -> WlSurface {
        self.compositor.create_surface(&self.client.handle(), Log::default())
    }

    /// A toplevel before its initial commit.
    pub(crate) fn new_window(&self) -> Window {
        let (surface, handle) = (self.surface(), self.client.handle());
        let xdg_surface = self.wm_base.get_xdg_surface(&surface, &handle, Log::default());
        let toplevel = xdg_surface.get_toplevel(&handle, Log::default());
        Window { surface, xdg_surface, toplevel }
    }

    /// A toplevel that may attach its first buffer.
    #[track_caller]
    pub(crate) fn window(&mut self) -> Window {
        let window = self.new_window();
        window.surface.commit();
        self.client.expect_no_error();
        window.ack();
        window
    }

    pub(crate) fn subsurface(&self, parent: &WlSurface) -> (WlSurface, WlSubsurface) {
        let surface = self.surface();
        let subsurface =
            self.subcompositor.get_subsurface(&surface, parent, &self.client.handle(), Log::default());
        (surface, subsurface)
    }

    pub(crate) fn pool(&self, fd: &OwnedFd, bytes: i32) -> WlShmPool {
        self.shm.create_pool(fd.as_fd(), bytes, &self.client.handle(), Log::default())
    }

    pub(crate) fn shm_buffer(&self) -> WlBuffer {
        self.shm_buffer_of(&memory(BYTES))
    }

    /// A buffer of one colour.
    pub(crate) fn coloured_buffer(&self, [red, green, blue]: [u8; 3]) -> WlBuffer {
        let memory = memory(BYTES);
        let pixels = [blue, green, red, 0].repeat((SIZE.0 * SIZE.1) as usize);
        rustix::io::pwrite(&memory, &pixels, 0).expect("pixels");
        self.shm_buffer_of(&memory)
    }

    fn shm_buffer_of(&self, memory: &OwnedFd) -> WlBuffer {
        let pool = self.pool(memory, BYTES);
        let buffer = pool.create_buffer(
            0,
            SIZE.0,
            SIZE.1,
            STRIDE,
            Format::Xrgb8888,
            &self.client.handle(),
            Log::default(),
        );
        pool.destroy();
        buffer
    }

    /// What becomes of the surface's next commit.
    pub(crate) fn watch(&self, surface: &WlSurface) -> Watched {
        let feedback = self.presentation.feedback(surface, &self.client.handle(), Log::default());
        Watched { feedback, fate: Fate::Waiting.into(), at: Cell::default() }
    }

    /// Attaches and damages all of a buffer, commits it, and watches that commit.
    pub(crate) fn show(&self, surface: &WlSurface, buffer: &WlBuffer) -> Watched {
        surface.attach(Some(buffer), 0, 0);
        surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
        let watched = self.watch(surface);
        surface.commit();
        watched
    }

    pub(crate) fn frame(&self, surface: &WlSurface) -> WlCallback {
        surface.frame(&self.client.handle(), Log::default())
    }

    #[track_caller]
    pub(crate) fn until_shown(&mut self, watched: &Watched) {
        self.client.until(|| watched.fate() != Fate::Waiting);
        assert_eq!(watched.fate(), Fate::Shown);
    }

    /// The fate of a commit, after everything that the compositor has sent.
    #[track_caller]
    pub(crate) fn fate(&mut self, watched: &Watched) -> Fate {
        self.client.expect_no_error();
        watched.fate()
    }
}

impl Window {
    /// Acknowledges the last configure that has come; returns how many had.
    pub(crate) fn ack(&self) -> usize {
        ack(&self.xdg_surface)
    }
}

/// Acknowledges the last configure that has come; returns how many had.
pub(crate) fn ack(xdg_surface: &XdgSurface) -> usize {
    let serials: Vec<_> = events(xdg_surface)
        .into_iter()
        .filter_map(|event| match event {
            xdg_surface::Event::Configure { serial } => Some(serial),
            _ => None,
        })
        .collect();
    if let Some(serial) = serials.last() {
        xdg_surface.ack_configure(*serial);
    }
    serials.len()
}

/// Another client, whose frames tell that time has passed on the output.
pub(crate) struct Clock {
    pub(crate) app: App,
    window: Window,
    buffer: WlBuffer,
}

impl Clock {
    pub(crate) fn new(desk: &Fixture<impl Server>) -> Self {
        let mut app = App::new(desk);
        let window = app.window();
        let buffer = app.shm_buffer();
        Self { app, window, buffer }
    }

    /// A frame with all that was applied before is on the screen, since the time returned, and whoever is in it has been told.
    #[track_caller]
    pub(crate) fn tick(&mut self) -> Option<Duration> {
        let watched = self.app.show(&self.window.surface, &self.buffer);
        self.app.until_shown(&watched);
        watched.at()
    }
}

pub(crate) fn memory(bytes: i32) -> OwnedFd {
    let fd = memfd_create(c"pool", MemfdFlags::CLOEXEC).expect("a memfd");
    ftruncate(&fd, bytes.unsigned_abs().into()).expect("its size");
    fd
}

/// How often a buffer has been released since this was last asked.
pub(crate) fn releases(buffer: &WlBuffer) -> usize {
    events(buffer).iter().filter(|event| matches!(event, wl_buffer::Event::Release)).count()
}
