//! `fencepost screenshot`: a picture of an output, as a file.
//!
//! An ordinary client of ext-image-copy-capture-v1: any compositor that has it will do. The picture is complete when the
//! compositor says `ready`, so nothing is waited for here but that. It is as the display shows it: an output that is turned
//! gives a turned picture.

use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use calloop::EventLoop;
use calloop_wayland_source::WaylandSource;
use wayland_client::globals::{GlobalList, GlobalListContents, registry_queue_init};
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_output::{self, WlOutput};
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_shm::{Format, WlShm};
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_client::{Connection, Dispatch, Proxy, QueueHandle, WEnum, delegate_noop};
use wayland_protocols::ext::image_capture_source::v1::client::ext_image_capture_source_v1::ExtImageCaptureSourceV1;
use wayland_protocols::ext::image_capture_source::v1::client::ext_output_image_capture_source_manager_v1::ExtOutputImageCaptureSourceManagerV1;
use wayland_protocols::ext::image_copy_capture::v1::client::ext_image_copy_capture_frame_v1::{
    self as frame, ExtImageCopyCaptureFrameV1, FailureReason,
};
use wayland_protocols::ext::image_copy_capture::v1::client::ext_image_copy_capture_manager_v1::{
    ExtImageCopyCaptureManagerV1, Options as CaptureOptions,
};
use wayland_protocols::ext::image_copy_capture::v1::client::ext_image_copy_capture_session_v1::{
    self as session, ExtImageCopyCaptureSessionV1,
};

use crate::errors::how_it_ended;
use crate::sys::memfd;

/// How long the compositor may take for all of it.
const LIMIT: Duration = Duration::from_secs(10);

/// How often a picture is asked for whose output has changed its size meanwhile.
const ATTEMPTS: u32 = 5;

/// The command line of `fencepost screenshot`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where the picture goes, as PNG.
    pub file: PathBuf,
    /// Of which output [default: the first].
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// With the pointer's image.
    #[arg(long)]
    pub cursor: bool,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No compositor.
    #[error("Could not connect to a Wayland compositor: is WAYLAND_DISPLAY right?")]
    Connect(#[source] wayland_client::ConnectError),
    /// The connection ended.
    #[error("Could not go on: the compositor ended the connection ({0})")]
    Disconnected(String),
    /// A compositor without screen capture, or without outputs.
    #[error("Could not take a picture: the compositor has no {0}")]
    Missing(&'static str),
    /// No such output.
    #[error("Could not find the output {wanted}: there are {present}")]
    NoOutput {
        /// Its name.
        wanted: String,
        /// The names of those that there are.
        present: String,
    },
    /// It answers nothing.
    #[error("Could not take a picture: the compositor has not answered for {LIMIT:?}")]
    Silent,
    /// The `failed` and `stopped` events.
    #[error("Could not take a picture: the compositor says {0}")]
    Failed(String),
    /// It takes neither XRGB8888 nor ARGB8888.
    #[error("Could not take a picture: the compositor gives it in no format that is known here")]
    Format,
    /// No event loop.
    #[error("Could not run an event loop")]
    Loop(#[source] calloop::Error),
    /// Memory for the picture.
    #[error("Could not hold the picture in memory")]
    Memory(#[source] io::Error),
    /// The file.
    #[error("Could not write {file}")]
    Write {
        /// Its path.
        file: String,
        /// What is in the way.
        #[source]
        source: png::EncodingError,
    },
}

/// Takes a picture of an output of the compositor in the environment, and writes it.
///
/// # Errors
/// [`Error`].
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    let connection = Connection::connect_to_env().map_err(Error::Connect)?;
    let picture = take(&connection, options)?;
    picture.write(&options.file)?;
    Ok(ExitCode::SUCCESS)
}

/// What a display shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Red, green and blue of each, row by row.
    pub rgb: Vec<u8>,
}

impl Picture {
    fn of_xrgb(size: (u32, u32), pixels: &[u8]) -> Self {
        // Little endian: blue first.
        let rgb =
            pixels.as_chunks().0.iter().flat_map(|[blue, green, red, _]| [*red, *green, *blue]).collect();
        Self { width: size.0, height: size.1, rgb }
    }

    fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Write { file: path.display().to_string(), source };
        let file = File::create(path).map_err(|error| failed(error.into()))?;
        let mut encoder = png::Encoder::new(BufWriter::new(file), self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.rgb).map_err(failed)?;
        writer.finish().map_err(failed)
    }
}

/// Takes a picture of an output of the compositor behind `connection`.
///
/// # Errors
/// [`Error`].
pub fn take(connection: &Connection, options: &Options) -> Result<Picture, Error> {
    let (globals, queue) =
        registry_queue_init::<Heard>(connection).map_err(|error| Error::Disconnected(error.to_string()))?;
    let handle = queue.handle();
    let shm: WlShm = bind(&globals, &handle, "wl_shm")?;
    let sources: ExtOutputImageCaptureSourceManagerV1 =
        bind(&globals, &handle, "ext_output_image_capture_source_manager_v1")?;
    let manager: ExtImageCopyCaptureManagerV1 = bind(&globals, &handle, "ext_image_copy_capture_manager_v1")?;
    let mut exchange = Exchange::new(connection, queue)?;
    let output = exchange.choose_output(&globals, &handle, options.output.as_deref())?;
    let source = sources.create_source(&output, &handle, ());
    let pointer = if options.cursor { CaptureOptions::PaintCursors } else { CaptureOptions::empty() };
    let session = manager.create_session(&source, pointer, &handle, ());
    for _ in 0..ATTEMPTS {
        exchange.until(|heard| heard.is_announced || heard.stopped)?;
        let size = exchange.heard.size.filter(|_| !exchange.heard.stopped);
        let size = size.ok_or_else(|| Error::Failed("that there is nothing to take it of".into()))?;
        let format = exchange.heard.format.ok_or(Error::Format)?;
        let memory = Memory::new(&shm, size, format, &handle)?;
        (exchange.heard.answer, exchange.heard.is_announced) = (None, false);
        let frame = session.create_frame(&handle, ());
        frame.attach_buffer(&memory.buffer);
        frame.damage_buffer(0, 0, i32::MAX, i32::MAX);
        frame.capture();
        exchange.until(|heard| heard.answer.is_some())?;
        frame.destroy();
        match exchange.heard.answer.take() {
            Some(Ok(())) => return memory.picture(),
            // Other constraints are announced.
            Some(Err(Some(FailureReason::BufferConstraints))) => {}
            Some(Err(reason)) => return Err(Error::Failed(format!("{reason:?}"))),
            None => return Err(Error::Silent),
        }
    }
    Err(Error::Failed("that the output changes all the time".into()))
}

fn bind<I: Proxy + 'static>(
    globals: &GlobalList,
    handle: &QueueHandle<Heard>,
    name: &'static str,
) -> Result<I, Error>
where
    Heard: Dispatch<I, ()>,
{
    globals.bind(handle, 1..=1, ()).map_err(|_| Error::Missing(name))
}

/// Memory that the compositor writes the picture to.
struct Memory {
    memory: File,
    buffer: WlBuffer,
    size: (u32, u32),
    bytes: usize,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.buffer.destroy();
    }
}

impl Memory {
    fn new(
        shm: &WlShm,
        size: (u32, u32),
        format: Format,
        handle: &QueueHandle<Heard>,
    ) -> Result<Self, Error> {
        let too_large = || Error::Memory(io::ErrorKind::FileTooLarge.into());
        let [width, height] = [size.0, size.1].map(|side| i32::try_from(side).map_err(|_| too_large()));
        let (width, height) = (width?, height?);
        let stride = width.checked_mul(4).ok_or_else(too_large)?;
        let bytes = stride.checked_mul(height).ok_or_else(too_large)?;
        let len = u64::try_from(bytes).map_err(|_| too_large())?;
        let memory = memfd::sealed("fencepost-screenshot", len).map(File::from).map_err(Error::Memory)?;
        let pool = shm.create_pool(memory.as_fd(), bytes, handle, ());
        let buffer = pool.create_buffer(0, width, height, stride, format, handle, ());
        pool.destroy();
        Ok(Self { memory, buffer, size, bytes: usize::try_from(bytes).map_err(|_| too_large())? })
    }

    fn picture(&self) -> Result<Picture, Error> {
        let mut pixels = vec![0; self.bytes];
        self.memory.read_exact_at(&mut pixels, 0).map_err(Error::Memory)?;
        Ok(Picture::of_xrgb(self.size, &pixels))
    }
}

/// What the compositor has said.
#[derive(Debug, Default)]
struct Heard {
    outputs: Vec<(WlOutput, Option<String>)>,
    /// The answer to the last question has come.
    is_synced: bool,
    size: Option<(u32, u32)>,
    format: Option<Format>,
    /// Size and format are complete.
    is_announced: bool,
    stopped: bool,
    answer: Option<Result<(), Option<FailureReason>>>,
}

/// The connection, with a limit on all that is waited for.
struct Exchange<'a> {
    connection: &'a Connection,
    event_loop: EventLoop<'static, Heard>,
    heard: Heard,
    deadline: Instant,
}

impl<'a> Exchange<'a> {
    fn new(connection: &'a Connection, queue: wayland_client::EventQueue<Heard>) -> Result<Self, Error> {
        let event_loop = EventLoop::try_new().map_err(Error::Loop)?;
        let source = WaylandSource::new(connection.clone(), queue);
        source.insert(event_loop.handle()).map_err(|error| Error::Loop(error.error))?;
        let deadline = Instant::now() + LIMIT;
        Ok(Self { connection, event_loop, heard: Heard::default(), deadline })
    }

    fn until(&mut self, reached: impl Fn(&Heard) -> bool) -> Result<(), Error> {
        while !reached(&self.heard) {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Silent);
            }
            let turn = self.event_loop.dispatch(Some(left), &mut self.heard);
            // The Wayland source passes on I/O errors only.
            if turn.is_err() || self.connection.protocol_error().is_some() {
                let otherwise = turn.err().map_or_else(String::new, |error| error.to_string());
                return Err(Error::Disconnected(how_it_ended(self.connection, &otherwise)));
            }
        }
        Ok(())
    }

    /// The output of this name, or the first.
    fn choose_output(
        &mut self,
        globals: &GlobalList,
        handle: &QueueHandle<Heard>,
        wanted: Option<&str>,
    ) -> Result<WlOutput, Error> {
        let registry = globals.registry();
        globals.contents().with_list(|list| {
            for global in list.iter().filter(|global| global.interface == WlOutput::interface().name) {
                let output = registry.bind(global.name, global.version.min(4), handle, ());
                self.heard.outputs.push((output, None));
            }
        });
        self.connection.display().sync(handle, ());
        self.until(|heard| heard.is_synced)?;
        let mut outputs = self.heard.outputs.iter();
        let Some(wanted) = wanted else {
            return outputs.next().map(|(output, _)| output.clone()).ok_or(Error::Missing("output"));
        };
        let found =
            outputs.find(|(_, name)| name.as_deref() == Some(wanted)).map(|(output, _)| output.clone());
        found.ok_or_else(|| {
            let names = self.heard.outputs.iter().filter_map(|(_, name)| name.as_deref());
            Error::NoOutput { wanted: wanted.into(), present: names.collect::<Vec<_>>().join(", ") }
        })
    }
}

impl Dispatch<WlOutput, ()> for Heard {
    fn event(
        heard: &mut Self,
        output: &WlOutput,
        event: wl_output::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let wl_output::Event::Name { name } = event else { return };
        for (_, known) in heard.outputs.iter_mut().filter(|(known, _)| known == output) {
            *known = Some(name.clone());
        }
    }
}

impl Dispatch<wayland_client::protocol::wl_callback::WlCallback, ()> for Heard {
    fn event(
        heard: &mut Self,
        _: &wayland_client::protocol::wl_callback::WlCallback,
        _: wayland_client::protocol::wl_callback::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        heard.is_synced = true;
    }
}

impl Dispatch<ExtImageCopyCaptureSessionV1, ()> for Heard {
    fn event(
        heard: &mut Self,
        _: &ExtImageCopyCaptureSessionV1,
        event: session::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            session::Event::BufferSize { width, height } => heard.size = Some((width, height)),
            session::Event::ShmFormat { format: WEnum::Value(format) }
                if matches!(format, Format::Xrgb8888 | Format::Argb8888) =>
            {
                heard.format = Some(format);
            }
            session::Event::Done => heard.is_announced = true,
            session::Event::Stopped => heard.stopped = true,
            _ => {}
        }
    }
}

impl Dispatch<ExtImageCopyCaptureFrameV1, ()> for Heard {
    fn event(
        heard: &mut Self,
        _: &ExtImageCopyCaptureFrameV1,
        event: frame::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            frame::Event::Ready => heard.answer = Some(Ok(())),
            frame::Event::Failed { reason } => heard.answer = Some(Err(reason.into_result().ok())),
            _ => {}
        }
    }
}

impl Dispatch<WlRegistry, GlobalListContents> for Heard {
    fn event(
        _: &mut Self,
        _: &WlRegistry,
        _: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

delegate_noop!(Heard: WlShmPool);
delegate_noop!(Heard: ignore WlShm);
delegate_noop!(Heard: ignore WlBuffer);
delegate_noop!(Heard: ExtImageCaptureSourceV1);
delegate_noop!(Heard: ExtOutputImageCaptureSourceManagerV1);
delegate_noop!(Heard: ExtImageCopyCaptureManagerV1);
