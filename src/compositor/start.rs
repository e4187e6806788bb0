//! Start and end: opens what the options ask for, runs the loop, leaves nothing behind.

use std::{
    ffi::OsString,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction, generic::Generic};
use smithay::{
    backend::{
        allocator::{Format, Fourcc, Modifier},
        drm::{DrmNode, NodeType},
    },
    input::keyboard::XkbConfig,
    reexports::wayland_server::{Display, DisplayHandle},
};

use super::{
    Compositor, acquire,
    backend::{self, Backend, Kind},
    children::Children,
    config::{self, Config, ConfigError},
    displays::Displays,
    outputs::Screens,
    pointer::Pointer,
    signals, socket,
};
use crate::{
    buffer::Releases,
    fence::timeline::SyncobjDevice,
    input::Fingers,
    output::kms::modes::ModeRequest,
    render::{self, Renderer},
    shell::{
        Shell,
        cursor::{CursorImages, theme_from_environment},
    },
    surface::Acquire,
    trace::{self, Record, Times, file::Header, stream::Stream},
    wayland::{
        self, Globals,
        dmabuf::{DmabufState, Feedback},
    },
};

#[cfg(feature = "guest")]
use crate::wayland::broken::{self, BrokenRule};

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
    /// The device that draws what the other shows, as /dev/dri/renderDN [default: the one that shows it].
    #[arg(long, env = "FENCEPOST_RENDER_DEVICE", value_name = "NODE")]
    pub render_device: Option<PathBuf>,
    /// The Wayland socket of the compositor to be a window of.
    #[arg(long, env = "WAYLAND_DISPLAY", value_name = "SOCKET")]
    pub parent: Option<PathBuf>,
    /// The mode of every output, as WIDTHxHEIGHT or WIDTHxHEIGHT@HZ, with `custom:` before it if the display does not list
    /// it [default: the preferred one].
    #[arg(long)]
    pub mode: Option<ModeRequest>,
    /// How many virtual outputs there are with the headless backend, or windows with the nested one [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub outputs: Option<u8>,
    /// The configuration file [default: fencepost/config.toml in $XDG_CONFIG_HOME or ~/.config, if there is one].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The name of the Wayland socket [default: the first free wayland-N].
    #[arg(long)]
    pub socket: Option<String>,
    /// With the headless backend: no vblank comes by itself, each SIGUSR2 is one. A frame is latched as soon as it may be, and shown by
    /// the next step. What changes no pixel is answered without one.
    #[arg(long)]
    pub step: bool,
    /// Who waits for the clients' acquire fences.
    #[arg(long, value_enum, default_value_t)]
    pub acquire: Acquire,
    /// Compose everything: no plane shows a client's buffer or the pointer by itself.
    #[arg(long)]
    pub no_planes: bool,
    /// Write the record of the run, per client and per output, as JSON when it ends.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Write every hand-over of every buffer to this file while the compositor runs, as JSON lines (tests/TRACE.md); or, if
    /// its name ends in .pftrace, at the end for ui.perfetto.dev. The newest are kept without it, too: SIGUSR1 has them written to the runtime directory.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Let `fencepost watch` look: open a second socket, whose name is that of the Wayland socket followed by "-debug", where
    /// processes of this user can ask what all clients do.
    #[arg(long)]
    pub debug: bool,
    /// Write every picture that KMS has scanned out to a file or pipe, as tests want it: for each a header of the commit's
    /// number (8 bytes), width and height (4 bytes each), then XRGB8888 rows; all little-endian. Needs a writeback
    /// connector (vkms), and slows the compositor down to the reader's speed.
    #[arg(long, value_name = "FILE")]
    pub writeback: Option<PathBuf>,
    /// Break a rule, so that a test can be seen to fail.
    #[cfg(feature = "guest")]
    #[arg(long, value_enum, hide = true)]
    pub break_rule: Option<BrokenRule>,
    /// Break the rule that this file names, now and whenever a client connects.
    #[cfg(feature = "guest")]
    #[arg(long, value_name = "FILE", conflicts_with = "break_rule", hide = true)]
    pub break_rules_of: Option<PathBuf>,
    /// A client to run; the compositor ends when it does.
    #[arg(last = true, value_name = "CLIENT")]
    pub client: Vec<OsString>,
}

/// Why the compositor could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mistake in the configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
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
    /// The trace cannot be written.
    #[error("could not write the trace to {path}: {error}")]
    Trace {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// Something that the system never refuses, refused.
    #[error("could not set up the event loop: {0}")]
    Loop(String),
    /// It had started, and could not go on.
    #[error("ended, because {0}")]
    Ended(String),
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
/// Whatever keeps it from starting; after that, [`Error::Ended`].
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    let inherited = socket::raise_fd_limit();
    let mut options = options.clone();
    options.config = options.config.or_else(config::default_path);
    let mut running = Running::start(&options)?;
    signals::watch(&running.state.handle)?;
    trace::dump::on_panic();
    // Last: whoever finds the socket finds a compositor that is ready.
    let socket = socket::open(options.socket.as_deref())?;
    let debug = options.debug.then(|| socket::open_debug(&socket)).transpose()?;
    tracing::info!("listening on {}", socket::name(&socket).display());
    running.state.children.inherit(socket::name(&socket), inherited);
    socket::listen(&running.state.handle, socket, Compositor::accept)?;
    if let Some(socket) = debug {
        socket::listen(&running.state.handle, socket, Compositor::accept_watcher)?;
    }
    running.start_client(&options.client)?;
    let ended = running.event_loop.run(None, &mut running.state, Compositor::turn).map_err(loop_error);
    // Also when the loop has failed: release points are owed whatever happens.
    let failure = running.state.failure.take();
    let code = running.end();
    ended?;
    failure.map_or(Ok(code), |why| Err(Error::Ended(why)))
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
    let config = match &options.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    start_trace(options)?;
    let event_loop = EventLoop::<Compositor>::try_new().map_err(loop_error)?;
    let handle = event_loop.handle();
    let display = Display::<Compositor>::new().map_err(loop_error)?;
    let display_handle = display.handle();

    let (mut backend, sources) = Backend::open(
        options.backend,
        options.device.as_deref(),
        options.render_device.as_deref(),
        options.parent.as_deref(),
        options.outputs.unwrap_or(1),
        options.mode.unwrap_or_default(),
    )?;
    let default_mode = backend.default_mode(options.mode.unwrap_or_default());
    let mut renderer = backend.renderer()?;
    let acquire = acquire::Rule::new(options.acquire, &mut renderer);
    let dmabuf = announce_dmabuf(&display_handle, &renderer)?;
    let syncobj = find_syncobj(backend.device_fd());
    syncobj.iter().for_each(|device| backend.synchronise_on(device));
    #[cfg(feature = "guest")]
    {
        broken::set(options.break_rule);
        options.break_rules_of.iter().for_each(|file| broken::follow(file));
    }
    let (globals, mut seat) =
        Globals::new(&display_handle, &backend.seat_name(), CLOCK_MONOTONIC, syncobj, dmabuf);
    seat.add_keyboard(XkbConfig::default(), 400, 25).map_err(|error| Error::Keyboard(error.to_string()))?;
    seat.add_pointer();

    let no_planes = options.no_planes || backend.composes_all();
    let mut state = Compositor {
        stop: event_loop.get_signal(),
        children: Children::default(),
        handle,
        display: display_handle,
        globals,
        seat,
        fingers: Fingers::default(),
        shell: Shell::default(),
        pointer: Pointer::new(load_cursors()),
        renderer,
        acquire,
        backend,
        screens: Screens::default(),
        displays: Displays::new(config, default_mode).with(no_planes, options.step),
        pacing: Default::default(),
        releases: Releases::default(),
        record: Record::default(),
        failure: None,
    };
    wayland::debug::create_global(&state.display);
    dispatch_clients(&state.handle, display)?;
    sources.insert(&mut state)?;
    state.watch_devices();
    state.watch_for_sleep();
    state.light_screens()?;
    if let Some(path) = &options.writeback {
        state.write_back_to(path)?;
    }
    Ok(Running { event_loop, state, record: options.record.clone() })
}

/// Fences are watched for the record and for a trace that is written; the newest events are kept in any case.
fn start_trace(options: &Options) -> Result<(), Error> {
    let acquire = options.acquire.name();
    let times = match (&options.trace, &options.record) {
        (Some(_), _) => Times::All,
        (None, Some(_)) => Times::Releases,
        (None, None) => Times::Unwanted,
    };
    let header = Header::new(&acquire, true, "asked for with --trace");
    let open = |path: &PathBuf| {
        let opened = Stream::open(path, &header);
        opened.map_err(|error| Error::Trace { path: path.display().to_string(), error })
    };
    let stream = options.trace.as_ref().map(open).transpose()?;
    trace::tracer::start(&acquire, times, stream);
    Ok(())
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
pub(super) fn find_syncobj(preferred: Option<std::os::fd::OwnedFd>) -> Option<SyncobjDevice> {
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

impl Compositor {
    /// The end: every release point signalled, every client told, the screen given back.
    fn end(mut self, record: Option<&Path>) -> ExitCode {
        self.release_everything();
        self.children.end();
        if let Err(error) = self.display.flush_clients() {
            tracing::debug!("a client could not be sent its last events: {error}");
        }
        let traced = trace::tracer::end();
        if let Err(error) = &traced {
            tracing::error!("could not write the trace: {error}");
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
        if traced.is_err() { ExitCode::FAILURE } else { self.children.exit_code() }
    }
}
