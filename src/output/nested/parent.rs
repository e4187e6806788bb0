//! The connection to the parent compositor, with the windows on it.
//!
//! Owns the socket, the windows and what the parent has said ([`Event`]s). Decides nothing about frames and input.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use drm::buffer::{DrmFourcc as Fourcc, DrmModifier as Modifier};
use rustix::fs::Dev;
use smithay::backend::allocator::dmabuf::Dmabuf;
use smithay::backend::allocator::format::FormatSet;
use smithay::backend::allocator::gbm::GbmDevice;
use smithay::backend::allocator::{Buffer as _, Format};
use smithay::backend::drm::DrmDeviceFd;
use smithay::utils::{Logical, Physical, Point, Size};
use wayland_client::backend::WaylandError;
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_shm::{Format as ShmFormat, WlShm};
use wayland_client::{Connection, Dispatch, EventQueue};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::{
    Flags, ZwpLinuxBufferParamsV1,
};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_feedback_v1::ZwpLinuxDmabufFeedbackV1;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_manager_v1::WpLinuxDrmSyncobjManagerV1;
use wayland_protocols::wp::presentation_time::client::wp_presentation::WpPresentation;

use super::buffers::{Lent, Source};
use super::configured::Configured;
use super::cursor::Cursor;
use super::event::Event;
use super::explicit::Shared;
use super::foreign::{Foreign, Known};
use super::offer::Answer;
pub use super::open::Error;
use super::open::{Opening, until};
use super::window::{Contents, Makers, Window};
use super::wire::Heard;
use crate::errors::how_it_ended;
use crate::fence::timeline::{SyncobjDevice, TimelineError};
use crate::halves::halves;
use crate::output::display::Scale;
use crate::output::kms::formats::{self, Candidate};
use crate::output::layer::Layer;

/// The size of the dma-buf that the parent is tried with.
const TRIED: (i32, i32) = (64, 64);

/// How often a window that is hidden is looked at, until the parent is done with it.
const HIDING_INTERVAL: Duration = Duration::from_millis(2);

/// The parent.
#[derive(Debug)]
pub struct Parent {
    connection: Connection,
    queue: EventQueue<Heard>,
    heard: Heard,
    shm: WlShm,
    dmabuf: Option<ZwpLinuxDmabufV1>,
    syncobj: Option<WpLinuxDrmSyncobjManagerV1>,
    presentation: Option<WpPresentation>,
    /// By their numbers; `None` for one that was closed.
    windows: Vec<Option<Window>>,
    /// Where dma-bufs come from; without, the windows' buffers are shared memory.
    source: Option<Source>,
    /// Clients' buffers that it was asked to make.
    known: Known,
    makers: Makers,
    /// The pointer's image; without dma-bufs the pointer is composed.
    cursor: Option<Cursor>,
    /// Commits of all windows.
    commits: Cell<u64>,
    limit: Duration,
    lost: bool,
}

impl Parent {
    /// Connects, and opens so many windows, of `size` if the parent leaves that to us. Waits until they are configured, or
    /// the parent has been silent for `limit`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(
        socket: &Path,
        windows: u8,
        size: Size<i32, Logical>,
        limit: Duration,
    ) -> Result<Self, Error> {
        let windows = usize::from(windows.max(1));
        let mut opening = Opening::connect(socket, (windows, size), limit)?;
        let makers = Makers::bind(&mut opening)?;
        let shm: WlShm = opening.need("wl_shm", 1..=1)?;
        opening.heard.seat.motions = opening.bind(1..=1);
        if opening.bind::<WlSeat>(5..=8).is_none() {
            tracing::warn!("no input: the parent compositor has no wl_seat of version 5");
        }
        let handle = opening.queue.handle();
        let dmabuf = opening.bind::<ZwpLinuxDmabufV1>(4..=5);
        let feedback = dmabuf.as_ref().map(|dmabuf| dmabuf.get_default_feedback(&handle, ()));
        let (syncobj, presentation) = (opening.bind(1..=1), opening.bind(1..=2));
        let open = |number| Some(Window::new(number, &makers, &handle));
        let windows = (0..windows).map(open).collect();
        opening.until(|heard| {
            heard.windows.iter().all(|window| window.once) && (feedback.is_none() || heard.offer.is_complete)
        })?;
        feedback.iter().for_each(ZwpLinuxDmabufFeedbackV1::destroy);
        let Opening { connection, queue, mut heard, .. } = opening;
        // Nobody has seen other sizes yet.
        heard
            .events
            .retain(|event| matches!(event, Event::Keymap(_) | Event::Repeat { .. } | Event::HasTouch));
        Ok(Self {
            connection,
            queue,
            heard,
            shm,
            dmabuf,
            syncobj,
            presentation,
            windows,
            source: None,
            known: Known::default(),
            makers,
            cursor: None,
            commits: Cell::new(0),
            limit,
            lost: false,
        })
    }

    /// The device that the parent wants dma-bufs of, by any of its nodes; `None` if it takes none.
    pub fn device(&self) -> Option<Dev> {
        self.heard.offer.device()
    }

    /// Has the window's buffers allocated there, if the parent takes one that is tried.
    ///
    /// # Errors
    /// Says why it stays with shared memory.
    pub fn allocate_on(
        &mut self,
        gbm: &GbmDevice<DrmDeviceFd>,
        drawable: &FormatSet,
    ) -> Result<(), &'static str> {
        let source = self.find_source(gbm, drawable, &formats::PREFERRED);
        self.source = Some(source.ok_or("it takes none of the formats that are drawn here")?);
        let cursor = self.find_source(gbm, drawable, &formats::WITH_ALPHA);
        let surface = || Window::bare(&self.makers, &self.queue.handle());
        self.cursor = cursor.map(|source| Cursor::new(surface(), source));
        Ok(())
    }

    /// Buffers of the first of these formats of which the parent takes one.
    fn find_source(
        &mut self,
        gbm: &GbmDevice<DrmDeviceFd>,
        drawable: &FormatSet,
        preferred: &[Fourcc],
    ) -> Option<Source> {
        let offered = self.heard.offer.formats();
        let takes = |candidate: &Candidate| {
            let format = |&modifier: &Modifier| Format { code: candidate.fourcc, modifier };
            candidate.modifiers.iter().map(format).all(|format| offered.contains(&format))
        };
        let candidates = formats::candidates(preferred, &offered, drawable, true);
        for candidate in candidates.into_iter().filter(takes) {
            let source = Source { gbm: gbm.clone(), candidate };
            let Ok((_buffer, dmabuf)) = source.allocate(TRIED.into()) else { continue };
            if self.try_out(&dmabuf) {
                tracing::debug!(format = ?dmabuf.format(), "the parent takes dma-bufs");
                return Some(source);
            }
        }
        None
    }

    /// Whether the parent makes a buffer of it.
    fn try_out(&mut self, dmabuf: &Dmabuf) -> bool {
        let answer = Answer::default();
        if !self.ask(dmabuf, dmabuf.format().code, answer.clone()) {
            return false;
        }
        let deadline = Instant::now() + self.limit;
        let answered = |_: &Heard| answer.get().is_some();
        // A connection that has ended is noticed when it is read again.
        let heard = until(&self.connection, &mut self.queue, &mut self.heard, deadline, answered);
        self.heard.events.retain(|event| *event != Event::Answered);
        let buffer = answer.get().flatten();
        buffer.iter().for_each(|buffer| buffer.destroy());
        heard == Ok(true) && buffer.is_some()
    }

    /// Has the windows' commits carry points of this device, where the parent knows what they are and the buffers are
    /// dma-bufs: no others may have points.
    pub fn synchronise_on(&mut self, device: &SyncobjDevice) {
        let (Some(manager), Some(_)) = (&self.syncobj, &self.source) else { return };
        let handle = self.queue.handle();
        let cursor = self.cursor.as_mut().map(Cursor::surface_mut);
        for window in self.windows.iter_mut().flatten().chain(cursor) {
            if let Err(error) = window.synchronise_on(device, manager, &handle) {
                tracing::warn!("the parent is synchronised with implicitly: {error}");
            }
        }
    }

    /// The parent refuses a buffer like those that it has taken: it gets shared memory instead. It may refuse several.
    fn refused(&mut self) {
        if self.source.take().is_none() {
            return;
        }
        tracing::warn!("the parent compositor refuses a dma-buf; frames go by shared memory from now on");
        self.cursor = None;
        self.windows.iter_mut().flatten().for_each(Window::synchronise_implicitly);
    }

    /// Where dma-bufs come from, if that is what the windows' buffers are.
    pub(super) fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// A window that is open.
    pub(super) fn window(&self, number: usize) -> Option<&Window> {
        self.windows.get(number)?.as_ref()
    }

    /// A release timeline for a new buffer, with explicit sync.
    pub(super) fn release_timeline(&self, window: &Window) -> Option<Result<Shared, TimelineError>> {
        Some(window.explicit()?.release_timeline(&self.queue.handle()))
    }

    /// The pointer's image, where it is the parent's to show.
    pub(super) fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref().filter(|_| self.heard.seat.pointer().is_some())
    }

    /// Lets `f` change the pointer's image.
    pub(super) fn with_cursor<R>(&mut self, f: impl FnOnce(&mut Cursor, &Self) -> R) -> Option<R> {
        let mut cursor = self.cursor.take()?;
        let result = f(&mut cursor, self);
        self.cursor = Some(cursor);
        Some(result)
    }

    /// The pointer's image points there while the pointer is on this window; `None` for no image.
    pub(super) fn point(&mut self, (window, scale): (usize, Scale), hotspot: Option<Point<i32, Physical>>) {
        let (Some(cursor), Some(pointer)) = (&mut self.cursor, self.heard.seat.pointer()) else { return };
        if self.heard.seat.pointed == window {
            cursor.tell(pointer, scale, hotspot);
            self.flush();
        }
    }

    /// The parent's buffer of a client's, if it takes that as it is. It is asked once, and has to answer before.
    pub(super) fn foreign(&mut self, layer: &Layer) -> Option<Rc<Foreign>> {
        let format = Format { code: layer.fourcc(), modifier: layer.buffer.format().modifier };
        let _like_ours = self.source.as_ref()?;
        if !self.heard.offer.takes(&format) {
            return None;
        }
        let mut known = std::mem::take(&mut self.known);
        let foreign =
            known.get(&layer.buffer, format.code, |answer| self.ask(&layer.buffer, format.code, answer));
        self.known = known;
        self.flush();
        foreign.filter(|foreign| foreign.buffer().is_some())
    }

    /// A commit with a client's buffer was refused.
    pub(super) fn refuse(&mut self, layer: &Layer) {
        self.known.refuse(&layer.buffer, layer.fourcc());
    }

    /// Asks for a buffer of a dma-buf, read as `fourcc`; false if it cannot be put in words.
    fn ask(&self, dmabuf: &Dmabuf, fourcc: Fourcc, answer: Answer) -> bool {
        let (Ok(width), Ok(height)) = (i32::try_from(dmabuf.width()), i32::try_from(dmabuf.height())) else {
            return false;
        };
        let Some(params) = self.params(dmabuf, answer) else { return false };
        params.create(width, height, fourcc as u32, Flags::empty());
        true
    }

    /// Whether it says when a frame was shown, on our clock.
    pub(super) fn tells_times(&self) -> bool {
        self.presentation.is_some() && self.heard.monotonic
    }

    /// The refresh rate, in mHz.
    pub fn refresh_mhz(&self) -> i32 {
        self.heard.refresh_mhz
    }

    /// The windows that are open: their numbers, their sizes, and their scales.
    pub fn windows(&self) -> impl Iterator<Item = (usize, Size<i32, Physical>, Scale)> {
        let windows = self.windows.iter().zip(&self.heard.windows).enumerate();
        windows.filter_map(|(number, (window, heard))| {
            window.as_ref().map(|_| (number, heard.pixels(), heard.scale()))
        })
    }

    /// What the parent wants of a window.
    pub(super) fn configured(&self, window: usize) -> Option<&Configured> {
        self.heard.windows.get(window)
    }

    /// Asks that the window with the keyboard fill the parent's screen, or no longer does.
    pub fn toggle_fullscreen(&self) {
        let Some(number) = self.heard.seat.keyed else { return };
        let fills = self.configured(number).is_some_and(Configured::is_fullscreen);
        self.window(number).iter().for_each(|window| window.set_fullscreen(!fills));
        self.flush();
    }

    /// Closes a window. Whether another is open.
    pub fn close(&mut self, number: usize) -> bool {
        drop(self.windows.get_mut(number).and_then(Option::take));
        self.flush();
        self.windows.iter().any(Option::is_some)
    }

    /// Whether the connection has ended.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// A duplicate of the socket, to be polled for reading.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn poll_fd(&self) -> io::Result<OwnedFd> {
        self.connection.as_fd().try_clone_to_owned()
    }

    /// Takes what the parent has said since.
    ///
    /// # Errors
    /// [`Error::Lost`]; nothing more will come.
    pub fn read(&mut self) -> Result<Vec<Event>, Error> {
        let turn = self.turn();
        let protocol_error = self.connection.protocol_error().is_some();
        match turn {
            Ok(()) if !protocol_error => {
                let events = std::mem::take(&mut self.heard.events);
                if events.contains(&Event::Refused) {
                    self.refused();
                }
                Ok(events)
            }
            failed => {
                self.lost = true;
                let otherwise = failed.err().unwrap_or_default();
                Err(Error::Lost(how_it_ended(&self.connection, &otherwise)))
            }
        }
    }

    fn turn(&mut self) -> Result<(), String> {
        loop {
            self.queue.dispatch_pending(&mut self.heard).map_err(|error| error.to_string())?;
            let Some(guard) = self.queue.prepare_read() else { continue };
            match guard.read() {
                Ok(_) => {}
                Err(WaylandError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        self.flush();
        Ok(())
    }

    /// Shows something in a window. The commit's number, among those of all windows.
    ///
    /// # Errors
    /// Nothing was committed.
    pub(super) fn commit(&self, window: usize, contents: Contents<'_>) -> io::Result<u64> {
        let window = self.window(window).ok_or(io::ErrorKind::NotConnected)?;
        let number = self.commits.get().saturating_add(1);
        let presentation = self.presentation.as_ref().filter(|_| self.heard.monotonic);
        window.commit(contents, presentation, Some(number), &self.queue.handle())?;
        self.commits.set(number);
        self.flush();
        Ok(number)
    }

    /// Shows something as the pointer's image.
    ///
    /// # Errors
    /// Nothing was committed.
    pub(super) fn commit_cursor(&self, surface: &Window, contents: Contents<'_>) -> io::Result<()> {
        surface.commit(contents, None, None, &self.queue.handle())
    }

    /// Has a window show nothing, and hears the parent until it is done with what `is_over` looks at, or the limit is over.
    pub(super) fn hide(&mut self, window: usize, limit: Duration, mut is_over: impl FnMut() -> bool) {
        let Some(window) = self.window(window).filter(|_| !self.lost) else { return };
        window.hide();
        let deadline = Instant::now() + limit;
        while !is_over() && Instant::now() < deadline {
            let next = Instant::now() + HIDING_INTERVAL;
            let heard = until(&self.connection, &mut self.queue, &mut self.heard, next, |_| false);
            if heard.is_err() {
                return;
            }
        }
    }

    fn params<T: Send + Sync + 'static>(&self, dmabuf: &Dmabuf, data: T) -> Option<ZwpLinuxBufferParamsV1>
    where
        Heard: Dispatch<ZwpLinuxBufferParamsV1, T>,
    {
        let params = self.dmabuf.as_ref()?.create_params(&self.queue.handle(), data);
        let (high, low) = halves(dmabuf.format().modifier.into());
        let planes = dmabuf.handles().zip(dmabuf.offsets()).zip(dmabuf.strides());
        for (index, ((fd, offset), stride)) in (0..).zip(planes) {
            params.add(fd, index, offset, stride, high, low);
        }
        Some(params)
    }

    /// A `wl_buffer` of a dma-buf like the one that was tried, and who is told if the parent refuses it after all.
    pub(super) fn dma_buffer(
        &self,
        dmabuf: &Dmabuf,
        lent: Lent,
    ) -> Option<(WlBuffer, ZwpLinuxBufferParamsV1)> {
        let (width, height) = (i32::try_from(dmabuf.width()).ok()?, i32::try_from(dmabuf.height()).ok()?);
        let (params, format) = (self.params(dmabuf, ())?, dmabuf.format().code as u32);
        let buffer = params.create_immed(width, height, format, Flags::empty(), &self.queue.handle(), lent);
        Some((buffer, params))
    }

    /// An XRGB8888 `wl_buffer` of the memory.
    pub(super) fn shm_buffer(
        &self,
        memory: BorrowedFd<'_>,
        bytes: i32,
        size: Size<i32, Physical>,
        stride: i32,
        lent: Lent,
    ) -> WlBuffer {
        let handle = self.queue.handle();
        let pool = self.shm.create_pool(memory, bytes, &handle, ());
        let buffer = pool.create_buffer(0, size.w, size.h, stride, ShmFormat::Xrgb8888, &handle, lent);
        pool.destroy();
        buffer
    }

    /// A connection that has ended is noticed when it is read.
    fn flush(&self) {
        if let Err(error) = self.connection.flush() {
            tracing::debug!("the parent compositor could not be sent everything: {error}");
        }
    }
}
