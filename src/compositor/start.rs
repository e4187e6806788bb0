//! Start and end: opens what the options ask for, runs the loop, leaves nothing behind.

use std::{
    ffi::OsString,
    os::{fd::AsFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use calloop::{
    EventLoop, Interest, LoopHandle, Mode, PostAction,
    generic::{Generic, NoIoDrop},
};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use smithay::{
    backend::{
        allocator::{Format, Fourcc, Modifier},
        drm::{DrmNode, NodeType},
    },
    input::keyboard::XkbConfig,
    reexports::wayland_server::{Display, DisplayHandle},
};

use super::{
    Compositor,
    backend::{self, Backend, Kind},
    children::Children,
    pointer::Pointer,
    socket,
};
use crate::{
    buffer::Releases,
    fence::timeline::SyncobjDevice,
    output::kms::modes::ModeRequest,
    render::{self, Renderer},
    shell::{
        Shell,
        cursor::{CursorImages, theme_from_environment},
    },
    trace::Record,
    wayland::{
        Globals,
        dmabuf::{DmabufState, Feedback},
    },
};

#[cfg(feature = "guest")]
use crate::wayland::BrokenRule;

/// The clock of presentation times: that of KMS flips.
const CLOCK_MONOTONIC: u32 = rustix::time::ClockId::Monotonic as u32;

/// How the compositor is started.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// Where the picture goes: a screen, nothing (for tests and CI), or whatever fits.
    #[arg(long, value_enum, default_value_t)]
    pub backend: Kind,
    /// The DRM device to show the picture on, as /dev/dri/cardN [default: the seat's primary one].
    #[arg(long, env = "FENCEPOST_DRM_DEVICE", value_name = "NODE")]
    pub device: Option<PathBuf>,
    /// The mode of every output, as WIDTHxHEIGHT or WIDTHxHEIGHT@HZ [default: the preferred one].
    #[arg(long)]
    pub mode: Option<ModeRequest>,
    /// The name of the Wayland socket [default: the first free wayland-N].
    #[arg(long)]
    pub socket: Option<String>,
    /// Write the record of the run, per client, as JSON when it ends.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Write every picture that KMS has scanned out to a file or pipe, as tests want it: for each a header of the commit's
    /// number (8 bytes), width and height (4 bytes each), then XRGB8888 rows; all little-endian. Needs a writeback
    /// connector (vkms), and slows the compositor down to the reader's speed.
    #[arg(long, value_name = "FILE")]
    pub writeback: Option<PathBuf>,
    /// Break a rule, so that a test can be seen to fail.
    #[cfg(feature = "guest")]
    #[arg(long, value_enum, hide = true)]
    pub break_rule: Option<BrokenRule>,
    /// A client to run; the compositor ends when it does.
    #[arg(last = true, value_name = "CLIENT")]
    pub client: Vec<OsString>,
}

/// Why the compositor could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No output.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// No OpenGL.
    #[error(transparent)]
    Render(#[from] render::Error),
    /// No socket.
    #[error(
        "could not open a Wayland socket in XDG_RUNTIME_DIR, which has to name a directory of yours: {0}"
    )]
    Socket(String),
    /// No keyboard layout.
    #[error(
        "could not load the keyboard layout: {0}; install xkb-data, and check the XKB_DEFAULT_* variables"
    )]
    Keyboard(String),
    /// The client did not start.
    #[error("could not run {program}: {error}")]
    Client {
        /// What was to be run.
        program: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// Something that the system never refuses, refused.
    #[error("could not set up the event loop: {0}")]
    Loop(String),
}

pub(super) fn loop_error(error: impl std::fmt::Display) -> Error {
    Error::Loop(error.to_string())
}

/// A compositor that has started, with its event loop. It takes nothing of the process: no socket, no signals; [`run`]
/// adds those.
#[derive(Debug)]
pub struct Running {
    event_loop: EventLoop<'static, Compositor>,
    state: Compositor,
    record: Option<PathBuf>,
}

/// Runs the compositor until it is told to end.
///
/// # Errors
/// Whatever keeps it from starting; nothing after that.
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    let inherited = socket::raise_fd_limit();
    let mut running = Running::start(options)?;
    watch_signals(&running.state.handle)?;
    // Last: whoever finds the socket finds a compositor that is ready.
    let socket = socket::open(options.socket.as_deref())?;
    tracing::info!("listening on {}", socket::name(&socket).display());
    running.state.children.inherit(socket::name(&socket), inherited);
    socket::listen(&running.state.handle, socket)?;
    running.start_client(&options.client)?;
    let ended = running.event_loop.run(None, &mut running.state, Compositor::turn).map_err(loop_error);
    // Also when the loop has failed: release points are owed whatever happens.
    let code = running.end();
    ended.map(|()| code)
}

impl Running {
    /// Starts a compositor; clients come through [`Compositor::accept`].
    ///
    /// # Errors
    /// Whatever keeps it from starting.
    pub fn start(options: &Options) -> Result<Self, Error> {
        start(options)
    }

    /// One turn of the event loop: waits no longer than `timeout` for something to do, and does all that is ready.
    ///
    /// # Errors
    /// Those of epoll(7).
    pub fn turn(&mut self, timeout: Duration) -> Result<(), Error> {
        self.event_loop.dispatch(Some(timeout), &mut self.state).map_err(loop_error)?;
        self.state.turn();
        Ok(())
    }

    /// The compositor.
    pub fn state(&mut self) -> &mut Compositor {
        &mut self.state
    }

    /// Ends it: every release point is signalled, every client told, the record written.
    pub fn end(self) -> ExitCode {
        self.state.end(self.record.as_deref())
    }

    fn start_client(&mut self, command: &[OsString]) -> Result<(), Error> {
        let Some((program, arguments)) = command.split_first() else { return Ok(()) };
        self.state
            .children
            .start_main(program, arguments)
            .map_err(|error| Error::Client { program: program.display().to_string(), error })
    }
}

fn start(options: &Options) -> Result<Running, Error> {
    let event_loop = EventLoop::<Compositor>::try_new().map_err(loop_error)?;
    let handle = event_loop.handle();
    let display = Display::<Compositor>::new().map_err(loop_error)?;
    let display_handle = display.handle();

    let (backend, sources) = Backend::open(options.backend, options.device.as_deref())?;
    let renderer = backend.renderer()?;
    let dmabuf = announce_dmabuf(&display_handle, &renderer)?;
    let syncobj = find_syncobj(backend.device_fd());
    #[cfg_attr(not(feature = "guest"), expect(unused_mut, reason = "only tests break rules"))]
    let (mut globals, mut seat) =
        Globals::new(&display_handle, &backend.seat_name(), CLOCK_MONOTONIC, syncobj, dmabuf);
    seat.add_keyboard(XkbConfig::default(), 400, 25).map_err(|error| Error::Keyboard(error.to_string()))?;
    seat.add_pointer();

    #[cfg(feature = "guest")]
    {
        globals.broken = options.break_rule;
    }

    let mut state = Compositor {
        stop: event_loop.get_signal(),
        children: Children::default(),
        handle,
        display: display_handle,
        globals,
        seat,
        shell: Shell::default(),
        pointer: Pointer::new(load_cursors()),
        renderer,
        backend,
        screens: Vec::new(),
        releases: Releases::default(),
        record: Record::default(),
    };
    dispatch_clients(&state.handle, display)?;
    sources.insert(&mut state)?;
    state.light_screens(options.mode.unwrap_or_default())?;
    if let Some(path) = &options.writeback {
        state.write_back_to(path)?;
    }
    Ok(Running { event_loop, state, record: options.record.clone() })
}

/// Offers linux-dmabuf, if there is a device that clients can allocate on.
///
/// Linear buffers of the two formats that every client has are always taken: where the GPU cannot import one, the CPU
/// copies it.
fn announce_dmabuf(display: &DisplayHandle, renderer: &Renderer) -> Result<DmabufState, Error> {
    let linear = |code| Format { code, modifier: Modifier::Linear };
    let mut formats = renderer.texture_formats().into_iter().collect::<Vec<_>>();
    for format in [Fourcc::Argb8888, Fourcc::Xrgb8888].map(linear) {
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    let node = renderer.node().and_then(|path| DrmNode::from_path(path).ok());
    let node = node.map(|node| node.node_with_type(NodeType::Render).and_then(Result::ok).unwrap_or(node));
    let device = node.map(|node| node.dev_id());
    let feedback = Feedback::new(device.unwrap_or_default(), formats).map_err(loop_error)?;
    if device.is_none() {
        tracing::warn!("linux-dmabuf is not offered: there is no device to allocate on");
        return Ok(DmabufState::unannounced(feedback));
    }
    Ok(DmabufState::new::<Compositor>(display, feedback))
}

fn load_cursors() -> CursorImages {
    let (theme, size) = theme_from_environment();
    CursorImages::load(&theme, size)
}

/// The device for clients' timelines: any will do, so the one that shows the picture comes first, then every render
/// node. Without one, explicit sync is not offered, and clients fall back to implicit.
fn find_syncobj(preferred: Option<std::os::fd::OwnedFd>) -> Option<SyncobjDevice> {
    SyncobjDevice::find(preferred)
        .inspect_err(|error| tracing::warn!("linux-drm-syncobj is not offered: {error}"))
        .ok()
}

fn dispatch_clients(
    handle: &LoopHandle<'static, Compositor>,
    mut display: Display<Compositor>,
) -> Result<(), Error> {
    // A duplicate, so that the display itself can be borrowed for dispatching while its fd is being polled.
    let fd = display.as_fd().try_clone_to_owned().map_err(loop_error)?;
    let source = Generic::new(fd, Interest::READ, Mode::Level);
    let dispatch = move |_, _: &mut _, state: &mut Compositor| {
        if let Err(error) = display.dispatch_clients(state) {
            tracing::error!("a client's requests could not be read: {error}");
        }
        Ok(PostAction::Continue)
    };
    handle.insert_source(source, dispatch).map(drop).map_err(loop_error)
}

/// SIGINT and SIGTERM end the compositor, SIGCHLD says that a child has ended.
///
/// Through a handler that writes to a socket, not a signalfd: that would need the signals blocked, and children would
/// inherit the block.
fn watch_signals(handle: &LoopHandle<'static, Compositor>) -> Result<(), Error> {
    let (reader, writer) = UnixStream::pair().map_err(loop_error)?;
    reader.set_nonblocking(true).map_err(loop_error)?;
    for signal in [SIGINT, SIGTERM] {
        let writer = writer.try_clone().map_err(loop_error)?;
        signal_hook::low_level::pipe::register(signal, writer).map_err(loop_error)?;
    }
    let on_end = |_, stream: &mut NoIoDrop<UnixStream>, state: &mut Compositor| {
        drain(stream);
        tracing::info!("asked to end by a signal");
        state.stop.stop();
        Ok(PostAction::Continue)
    };
    handle.insert_source(Generic::new(reader, Interest::READ, Mode::Level), on_end).map_err(loop_error)?;

    let (reader, writer) = UnixStream::pair().map_err(loop_error)?;
    reader.set_nonblocking(true).map_err(loop_error)?;
    signal_hook::low_level::pipe::register(SIGCHLD, writer).map_err(loop_error)?;
    let on_child = |_, stream: &mut NoIoDrop<UnixStream>, state: &mut Compositor| {
        drain(stream);
        if let Some(status) = state.children.reap() {
            tracing::info!("the client has ended: {status}");
            state.stop.stop();
        }
        Ok(PostAction::Continue)
    };
    handle
        .insert_source(Generic::new(reader, Interest::READ, Mode::Level), on_child)
        .map(drop)
        .map_err(loop_error)
}

/// Empties a signal's socket: how many bytes there are says nothing.
fn drain(stream: &UnixStream) {
    let mut stream = stream;
    let mut bytes = [0; 64];
    while std::io::Read::read(&mut stream, &mut bytes).is_ok_and(|read| read > 0) {}
}

impl Compositor {
    /// The end: every release point signalled, every client told, the screen given back.
    fn end(mut self, record: Option<&Path>) -> ExitCode {
        self.release_everything();
        self.children.end();
        if let Err(error) = self.display.flush_clients() {
            tracing::debug!("a client could not be sent its last events: {error}");
        }
        if let Some(path) = record {
            let written = self
                .record
                .to_json()
                .map_err(std::io::Error::from)
                .and_then(|json| std::fs::write(path, json));
            if let Err(error) = written {
                tracing::error!("could not write the record to {}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
        self.children.exit_code()
    }
}
