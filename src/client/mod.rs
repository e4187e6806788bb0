//! `fencepost client`: a client that accuses the compositor.
//!
//! It shows frames whose number can be read back from their pixels, owns its buffers strictly, and covers
//! each one with poison as soon as the compositor gives it back: a buffer that is read too late shows poison,
//! and with late fences one that is read too early does. What it can see itself it holds against the compositor in a
//! ledger. Any compositor will do; the window is a plain toplevel.
//!
//! [`marker`] is the picture, [`swapchain`] says whose a buffer is, [`late`] when its fence signals, [`ledger`]
//! what must not happen; `source` makes and draws buffers, `frames` takes a frame from its buffer to the
//! release, `run` says when it is enough, `window` speaks Wayland, and [`stats`] sums up. [`probe`] is a client of its own, with the same buffers
//! and fences: it tests rules one by one.

pub mod late;
pub mod ledger;
pub mod marker;
pub mod probe;
pub mod screenshot;
pub mod stats;
pub mod swapchain;

pub(crate) mod formats;
mod frames;
mod run;
mod source;
mod window;
mod wire;

use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use calloop::EventLoop;
use calloop::signals::{Signal, Signals};
use calloop_wayland_source::WaylandSource;
use wayland_client::Connection;
use wayland_client::globals::registry_queue_init;

pub use self::late::Lateness;
pub use self::source::Kind;

use self::formats::Formats;
use self::frames::Client;
use self::late::LateError;
use self::source::SourceError;
use self::stats::Report;
use self::window::Window;
use crate::errors::how_it_ended;
use crate::fence::implicit::ImplicitError;
use crate::fence::timeline::{SyncobjDevice, TimelineError};
use crate::fence::wait::WaitError;

/// The command line of `fencepost client`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How buffers are synchronised.
    #[arg(long, value_enum, default_value_t = Sync::Explicit)]
    pub sync: Sync,
    /// Where buffers come from.
    #[arg(long, value_enum, default_value_t = Kind::Gpu)]
    pub source: Kind,
    /// Buffers to go round with.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub buffers: u16,
    /// Frames to show; 0 goes on until the window is closed, or SIGINT or SIGTERM come.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub frames: u64,
    /// Extra GPU work in each frame, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub gpu_ms: u32,
    /// How long after its frame callback each frame is begun.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub after_ms: u64,
    /// Each frame is begun anything up to --after-ms after its frame callback, so that commits come at any time of a refresh.
    #[arg(long, requires = "after_ms")]
    pub after_random: bool,
    /// Frames that are presented before anything is counted or timed; with --json a line says when.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub warm_up: u64,
    /// How late each frame's fence signals after its commit. `never`: all frames are on time but the last (the
    /// eleventh, without --frames), whose fence never signals. The content comes just before the fence, but with
    /// --sync implicit and --source gpu before the commit: a GPU may itself wait for what is in the buffer.
    #[arg(long, value_name = "MS|never")]
    pub fence_ms: Option<Lateness>,
    /// Each fence is late by anything up to --fence-ms.
    #[arg(long, requires = "fence_ms")]
    pub fence_random: bool,
    /// Ask to be fullscreen.
    #[arg(long)]
    pub fullscreen: bool,
    /// The frames are the pointer's image while it is on the window.
    #[arg(long)]
    pub pointer: bool,
    /// Say that frames may be shown in the middle of a refresh (tearing-control-v1).
    #[arg(long)]
    pub tearing: bool,
    /// The size, where the compositor leaves it to us.
    #[arg(long, value_name = "WxH", default_value = "640x480")]
    pub size: WindowSize,
    /// How the buffers are said to be turned, as `wl_output.transform` counts: 0 to 7. The picture in them is what it is.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..8))]
    pub buffer_transform: u32,
    /// End with a line of JSON instead of a summary.
    #[arg(long)]
    pub json: bool,
    /// That line has the times of each commit, too.
    #[arg(long, requires = "json")]
    pub each: bool,
    /// Where --fence-random and --after-random start.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How long all buffers may be busy, and how long to wait at the end.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub busy_limit_s: u32,
}

impl Options {
    /// Whether the content comes before the promise of a late fence: with that in the buffer, a GPU may wait for it before it
    /// draws.
    fn draws_before_its_pledge(&self) -> bool {
        self.source == Kind::Gpu && self.sync == Sync::Implicit
    }

    /// Refuses what could only be measured wrong.
    fn check(&self) -> Result<(), Error> {
        let implicit = self.sync == Sync::Implicit;
        let too_long_for_vgem = match self.fence_ms {
            Some(Lateness::After(delay)) => delay > VGEM_FENCE_MAX,
            Some(Lateness::Never) => true,
            None => false,
        };
        let contradictions = [
            (self.gpu_ms > 0 && self.source != Kind::Gpu, "--gpu-ms needs --source gpu"),
            (
                too_long_for_vgem && implicit && self.source == Kind::Vgem,
                "the kernel signals vgem's fences by itself after 10 s",
            ),
        ];
        match contradictions.into_iter().find(|(holds, _)| *holds) {
            Some((_, reason)) => Err(Error::Contradiction(reason)),
            None => Ok(()),
        }
    }
}

/// How late a vgem fence may be: the kernel's limit is 10 s, from some time before the commit.
const VGEM_FENCE_MAX: Duration = Duration::from_secs(8);

/// `--sync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sync {
    /// linux-drm-syncobj-v1.
    Explicit,
    /// The fences in the dma-bufs, and `wl_buffer.release`.
    Implicit,
}

/// `--size`, in pixels; at least as large as the marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize(pub swapchain::Size);

impl FromStr for WindowSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| text.parse::<u32>().ok().filter(|side| *side <= 16_384);
        let size = text.split_once('x').and_then(|(width, height)| side(width).zip(side(height)));
        let (width, height) = marker::MARKER_SIZE;
        let large_enough = size.filter(|size| size.0 >= width && size.1 >= height);
        large_enough
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no size from {width}x{height} to 16384x16384"))
    }
}

/// Why there is no run, or why it ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No compositor.
    #[error("Could not connect to a Wayland compositor: is WAYLAND_DISPLAY right?")]
    Connect(#[source] wayland_client::ConnectError),
    /// The connection ended, by the compositor's fault or ours.
    #[error("Could not go on: the compositor ended the connection ({0})")]
    Disconnected(String),
    /// A compositor that cannot be used.
    #[error("Could not find {name} among the compositor's globals")]
    MissingGlobal {
        /// What it lacks.
        name: &'static str,
    },
    /// It lists no modifier for XRGB8888.
    #[error("Could not find XRGB8888 among the compositor's dma-buf formats")]
    NoFormat,
    /// The `failed` event.
    #[error("Could not make a wl_buffer: the compositor refuses this dma-buf")]
    ImportRefused,
    /// The one this client is for.
    #[error(
        "Could not draw: the compositor has had all {} buffers for {seconds} s, for commits {commits:?}. Server bug?",
        commits.len()
    )]
    AllBusy {
        /// The commits whose buffers it has.
        commits: Vec<u64>,
        /// The limit.
        seconds: u32,
    },
    /// Options that exclude each other.
    #[error("Could not do that: {0}")]
    Contradiction(&'static str),
    /// No event loop.
    #[error("Could not run an event loop")]
    Loop(#[source] calloop::Error),
    /// Buffers and drawing.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Late fences.
    #[error(transparent)]
    Late(#[from] LateError),
    /// Explicit sync.
    #[error(transparent)]
    Timeline(#[from] TimelineError),
    /// Implicit sync.
    #[error(transparent)]
    Implicit(#[from] ImplicitError),
    /// Waiting.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// stdout.
    #[error("Could not write the report")]
    Report(#[source] io::Error),
}

impl Error {
    fn disconnected(connection: &Connection, otherwise: &str) -> Self {
        Self::Disconnected(how_it_ended(connection, otherwise))
    }
}

/// Runs until the end, and writes the report to stdout. The exit code is 0 if there was nothing to complain
/// about, else 1.
///
/// # Errors
/// Whatever prevents the first frame.
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    let connection = Connection::connect_to_env().map_err(Error::Connect)?;
    let report = show(&connection, options)?;
    let mut stdout = io::stdout().lock();
    if options.json {
        serde_json::to_writer(&mut stdout, &report).map_err(|error| Error::Report(error.into()))?;
        writeln!(stdout).map_err(Error::Report)?;
    } else {
        write!(stdout, "{report}").map_err(Error::Report)?;
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs until the end with the compositor behind `connection`.
///
/// # Errors
/// Whatever prevents the first frame; what comes later is in the report.
pub fn show(connection: &Connection, options: &Options) -> Result<Report, Error> {
    options.check()?;
    let (globals, queue) = registry_queue_init::<Client>(connection)
        .map_err(|error| Error::disconnected(connection, &error.to_string()))?;
    let (dmabuf, formats) = Formats::ask(connection, &globals)?;
    let source = source::open(options.source, &formats, options.gpu_ms)?;
    let device = match options.sync {
        Sync::Implicit => None,
        Sync::Explicit => Some(match SyncobjDevice::open(&source::render_node(formats.main_device)) {
            Ok(device) => device,
            // Any device will do: syncobjs are not tied to the one the buffers come from.
            Err(_) => SyncobjDevice::find([])?,
        }),
    };
    let window = Window::open(&globals, queue.handle(), dmabuf, options)?;

    let mut event_loop = EventLoop::try_new().map_err(Error::Loop)?;
    let mut client = Client::new(options.clone(), event_loop.handle(), window, source, device);
    WaylandSource::new(connection.clone(), queue)
        .insert(event_loop.handle())
        .map_err(|error| Error::Loop(error.error))?;
    let signals = Signals::new(&[Signal::SIGINT, Signal::SIGTERM]).map_err(Error::Loop)?;
    event_loop
        .handle()
        .insert_source(signals, |_, (), client: &mut Client| client.close())
        .map_err(|error| Error::Loop(error.error))?;
    while !client.is_over() {
        let turn = event_loop.dispatch(None, &mut client);
        // The Wayland source passes on I/O errors only; a protocol error it would read again for ever.
        if turn.is_err() || connection.protocol_error().is_some() {
            let reason = turn.err().map_or_else(String::new, |error| error.to_string());
            client.fail(Error::disconnected(connection, &reason));
        }
    }
    Ok(client.report())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn parse(args: &[&str]) -> Result<Options, clap::Error> {
        let program = std::iter::once("client");
        Command::try_parse_from(program.chain(args.iter().copied())).map(|command| command.options)
    }

    #[test]
    fn the_defaults_are_an_explicit_gpu_client_on_time() {
        let options = parse(&[]).expect("defaults");
        assert_eq!((options.sync, options.source, options.buffers), (Sync::Explicit, Kind::Gpu, 3));
        assert_eq!((options.frames, options.fence_ms), (0, None));
        assert_eq!(options.size, WindowSize((640, 480)));
    }

    #[test]
    fn every_option_is_understood() {
        let options = parse(&[
            "--sync=implicit",
            "--source=vgem",
            "--buffers=2",
            "--frames=9",
            "--gpu-ms=3",
            "--fence-ms=40",
            "--fence-random",
            "--fullscreen",
            "--pointer",
            "--tearing",
            "--size=800x600",
            "--json",
            "--seed=5",
            "--after-ms=40",
            "--after-random",
            "--warm-up=3",
            "--each",
            "--busy-limit-s=2",
        ])
        .expect("options");
        assert_eq!((options.sync, options.source, options.buffers), (Sync::Implicit, Kind::Vgem, 2));
        assert_eq!(options.size, WindowSize((800, 600)));
        assert!(options.fence_random && options.fullscreen && options.pointer && options.tearing);
        assert!(options.json && options.each);
        assert_eq!((options.after_ms, options.after_random, options.warm_up), (40, true, 3));
    }

    #[test]
    fn nonsense_is_refused() {
        for args in [
            &["--buffers=0"],
            &["--size=10x10"],
            &["--size=640"],
            &["--size=99999x99999"],
            &["--fence-random"],
            &["--fence-ms=soon"],
            &["--source=tape"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn options_that_would_measure_nothing_are_refused() {
        for args in [
            &["--source=heap", "--gpu-ms=5"][..],
            &["--sync=implicit", "--source=vgem", "--fence-ms=never"],
            &["--sync=implicit", "--source=vgem", "--fence-ms=9000"],
        ] {
            let options = parse(args).expect("options");
            assert!(matches!(options.check(), Err(Error::Contradiction(_))), "{args:?}");
        }
        assert!(parse(&["--source=vgem", "--fence-ms=never"]).expect("options").check().is_ok());
    }
}
