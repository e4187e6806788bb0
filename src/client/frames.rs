//! One frame after the other: from a free buffer, over commit and late fence, to the release.
//!
//! The order of things for every buffer: it comes back, is poisoned at once, and gets its content before the
//! commit; or, with a late fence, between the commit and the fence's signal. Wayland is `window`'s, fences
//! and buffers are [`crate::fence`]'s and `source`'s.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

use calloop::LoopHandle;
use rustix::time::{ClockId, clock_gettime};
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_timeline_v1::WpLinuxDrmSyncobjTimelineV1;

use super::late::{Delay, Lateness, Plan, Pledge};
use super::ledger::Ledger;
use super::marker::MARKER_SIZE;
use super::run::{Phase, Run};
use super::source::{Image, Plane, Source};
use super::swapchain::{BufferId, Next, Release, Swapchain};
use super::window::{Pending, Window, WirePoint};
use super::{Error, Options, Sync};
use crate::fence::implicit::ImplicitError;
use crate::fence::roles::AcquireFence;
use crate::fence::sync_file::SyncFile;
use crate::fence::timeline::{Point, SyncobjDevice, Timeline};
use crate::fence::{Fence, Status, wait};
use crate::sys::dma_buf::{self, Access};

/// A buffer as both sides know it.
pub(super) struct Buffer {
    image: Box<dyn Image>,
    wl_buffer: WlBuffer,
    points: Option<Points>,
}

/// The timelines of a buffer: one for each side to signal, so that neither's points can overtake the other's.
/// The points are the commits' numbers.
struct Points {
    acquire: (Timeline, WpLinuxDrmSyncobjTimelineV1),
    release: (Timeline, WpLinuxDrmSyncobjTimelineV1),
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.wl_buffer.destroy();
        if let Some(Points { acquire, release }) = &self.points {
            acquire.1.destroy();
            release.1.destroy();
        }
    }
}

/// A commit whose buffer is not back, or which is not answered.
struct Flight {
    buffer: BufferId,
    /// What the content waits for, if a GPU draws it.
    fence: Option<SyncFile>,
    /// What the client owes.
    pledge: Option<Pledge>,
    /// Whether `wl_buffer.release` has come; its readers may still be at it.
    release_sent: bool,
    waits: Vec<wait::WaitToken>,
}

/// The client's state: what every callback gets.
pub(super) struct Client {
    pub(super) options: Options,
    pub(super) handle: LoopHandle<'static, Client>,
    pub(super) window: Window,
    source: Box<dyn Source>,
    device: Option<SyncobjDevice>,
    pub(super) swapchain: Swapchain<Buffer>,
    plan: Plan,
    /// How long after its frame callback each frame is begun.
    pauses: Plan,
    flights: BTreeMap<u64, Flight>,
    pub(super) ledger: Ledger,
    pub(super) run: Run,
    /// What the toplevel has been told, until `xdg_surface.configure`.
    pub(super) pending: Pending,
}

impl Client {
    /// Ready for its first configure.
    pub(super) fn new(
        options: Options,
        handle: LoopHandle<'static, Client>,
        window: Window,
        source: Box<dyn Source>,
        device: Option<SyncobjDevice>,
    ) -> Self {
        Self {
            run: Run::new(options.size.0, options.warm_up > 0),
            handle,
            window,
            source,
            device,
            swapchain: Swapchain::new(options.buffers.into()),
            plan: Plan::new(options.fence_ms, options.fence_random, options.seed, options.frames),
            pauses: Plan::new(
                Some(Lateness::After(Duration::from_millis(options.after_ms))),
                options.after_random,
                // Other numbers than the fences'.
                !options.seed,
                options.frames,
            ),
            flights: BTreeMap::new(),
            ledger: Ledger::new(options.each),
            pending: Pending::default(),
            options,
        }
    }

    /// The size is settled.
    pub(super) fn configured(&mut self) {
        let (width, height) = self.pending.size.take().unwrap_or(self.run.size);
        self.run.size = (width.max(MARKER_SIZE.0), height.max(MARKER_SIZE.1));
        drop(self.swapchain.drop_obsolete(self.run.size));
        if self.run.phase == Phase::Opening {
            self.run.phase = Phase::Showing;
        }
        self.show_next();
    }

    /// A `frame` callback.
    pub(super) fn frame_wanted(&mut self) {
        let begin = |client: &mut Self| {
            client.run.frame_wanted = true;
            client.show_next();
        };
        match self.pauses.delay(self.ledger.committed) {
            Delay::After(pause) if !pause.is_zero() => {
                if let Err(error) = self.after(pause, begin) {
                    self.fail(error);
                }
            }
            _ => begin(self),
        }
    }

    /// Draws and commits a frame if one is wanted and there is a buffer.
    fn show_next(&mut self) {
        if self.run.phase != Phase::Showing || !self.run.frame_wanted {
            return;
        }
        let shown = match self.swapchain.next(self.run.size) {
            Next::Buffer(id) => self.show(id),
            Next::Allocate => self.allocate().and_then(|id| self.show(id)),
            Next::Busy(_) if self.run.limit.is_some() => return,
            Next::Busy(_) => self.start_limit(),
        };
        if let Err(error) = shown {
            self.fail(error);
        }
    }

    fn allocate(&mut self) -> Result<BufferId, Error> {
        let mut image = self.source.allocate(self.run.size)?;
        image.scribble()?;
        let points = match &self.device {
            Some(device) => Some(Points { acquire: self.timeline(device)?, release: self.timeline(device)? }),
            None => None,
        };
        let id = self.swapchain.next_id();
        let wl_buffer = self.window.create_buffer(id, image.layout());
        Ok(self.swapchain.insert(self.run.size, Buffer { image, wl_buffer, points }))
    }

    fn timeline(&self, device: &SyncobjDevice) -> Result<(Timeline, WpLinuxDrmSyncobjTimelineV1), Error> {
        let timeline = Timeline::create(device)?;
        let missing = Error::MissingGlobal { name: "wp_linux_drm_syncobj_manager_v1" };
        let wire = self.window.import_timeline(timeline.export()?).ok_or(missing)?;
        Ok((timeline, wire))
    }

    fn show(&mut self, id: BufferId) -> Result<(), Error> {
        self.stop_limit();
        let commit = self.ledger.committed + 1;
        let delay = self.plan.delay(commit);
        let Some(buffer) = self.swapchain.get_mut(id) else { return Ok(()) };
        let acquire = buffer.points.as_ref().map(|points| points.acquire.0.point(commit));
        let release = buffer.points.as_ref().map(|points| points.release.0.point(commit));
        let mut flight =
            Flight { buffer: id, fence: None, pledge: None, release_sent: false, waits: Vec::new() };
        match (delay, acquire) {
            (Delay::None, acquire) => {
                flight.fence = buffer.image.draw(commit as u32)?;
                if let Some(point) = acquire {
                    materialise(&point, flight.fence.as_ref())?;
                }
            }
            (_, Some(point)) => flight.pledge = Some(Pledge::Point(point)),
            (_, None) => {
                if self.options.draws_before_its_pledge() {
                    buffer.image.draw(commit as u32)?;
                }
                flight.pledge = Some(buffer.image.pledge()?);
            }
        }
        let points = buffer.points.as_ref().map(|Points { acquire, release }| {
            [acquire, release].map(|(_, timeline)| WirePoint { timeline, value: commit })
        });
        let now = now_ns();
        self.window.commit(commit, &buffer.wl_buffer, points);
        self.ledger.committed(commit, now);
        if delay == Delay::None && flight.fence.is_none() {
            self.ledger.ready(commit, now);
        }
        self.run.started_ns.get_or_insert(now);
        self.run.frame_wanted = false;
        self.swapchain.commit(id, commit);
        if let Some(point) = release {
            flight.waits = self.watch_release(commit, point)?;
        }
        self.flights.insert(commit, flight);
        if let Delay::After(delay) = delay {
            self.after(delay, move |client| client.fulfil(commit))?;
        }
        if commit == self.options.frames {
            self.run.phase = Phase::Answering;
            self.start_limit()?;
        }
        Ok(())
    }

    /// The late fence is due: now the content, then the signal.
    fn fulfil(&mut self, commit: u64) {
        let Some(flight) = self.flights.get_mut(&commit) else { return };
        let Some(pledge) = flight.pledge.take() else { return };
        let id = flight.buffer;
        // A commit may be given up and its buffer given back unread; then the buffer is another frame's.
        let still_there = self.swapchain.commit_of(id) == Some(commit);
        let is_drawn = self.options.draws_before_its_pledge();
        let kept = match self.swapchain.get_mut(id).filter(|_| still_there && !is_drawn) {
            Some(buffer) => match (buffer.image.draw(commit as u32), pledge) {
                (Ok(Some(fence)), Pledge::Point(point)) => {
                    let imported = materialise(&point, Some(&fence));
                    flight.fence = Some(fence);
                    imported
                }
                (Ok(_), pledge) => {
                    self.ledger.ready(commit, now_ns());
                    pledge.keep().map_err(Error::from)
                }
                (Err(error), _) => Err(error.into()),
            },
            None => {
                self.ledger.ready(commit, now_ns());
                pledge.keep().map_err(Error::from)
            }
        };
        self.forget(commit);
        if let Err(error) = kept {
            self.fail(error);
        }
    }

    /// Explicit sync: two waits for one point, to see whether a fence or a signal was put there.
    fn watch_release(&mut self, commit: u64, point: Point) -> Result<Vec<wait::WaitToken>, Error> {
        let fence = point.clone();
        let by_fence = wait::wait_materialised(&self.handle, &point, move |client: &mut Client| {
            client.run.released_by_fence += u64::from(fence.status() == Status::Pending);
        })?;
        let released = wait::wait(&self.handle, &AcquireFence::Point(point), move |client: &mut Client| {
            client.released(commit);
        })?;
        Ok(vec![by_fence, released])
    }

    /// `wl_buffer.release`: says nothing with explicit sync; else what the buffer's fences say still counts.
    pub(super) fn buffer_released(&mut self, id: BufferId) {
        if self.options.sync == Sync::Explicit {
            return;
        }
        let commit = self.swapchain.commit_of(id);
        let flight = commit.and_then(|commit| self.flights.get_mut(&commit).zip(Some(commit)));
        match flight.filter(|(flight, _)| !flight.release_sent) {
            Some((flight, commit)) => {
                flight.release_sent = true;
                if let Err(error) = self.wait_for_readers(commit, id) {
                    self.fail(error);
                }
            }
            None => self.ledger.released_twice(id.0),
        }
    }

    fn wait_for_readers(&mut self, commit: u64, id: BufferId) -> Result<(), Error> {
        let (Some(buffer), Some(flight)) = (self.swapchain.get_mut(id), self.flights.get_mut(&commit)) else {
            return Ok(());
        };
        let export = |plane: &Plane| dma_buf::export_sync_file(plane.fd.as_fd(), Access::ReadWrite);
        let planes = buffer.image.layout().planes.iter();
        let fences =
            planes.map(|plane| export(plane).map(SyncFile::from_kernel)).collect::<Result<Vec<_>, _>>();
        let fences = fences.map_err(ImplicitError::Export)?;
        let token =
            wait::wait_all(&self.handle, &fences, move |client: &mut Client| client.released(commit))?;
        flight.waits.push(token);
        Ok(())
    }

    /// The buffer of `commit` is ours, and is poisoned before anything else.
    fn released(&mut self, commit: u64) {
        let now = now_ns();
        let Some(flight) = self.flights.get(&commit) else { return };
        let id = flight.buffer;
        let poisoned = match self.swapchain.release(id, commit, self.run.size) {
            Release::Ours => self.swapchain.get_mut(id).map_or(Ok(()), |buffer| buffer.image.scribble()),
            Release::Obsolete(_) => Ok(()),
            Release::Unexpected => return self.ledger.released_twice(id.0),
        };
        self.ledger.released(commit, now);
        self.forget(commit);
        if let Err(error) = poisoned {
            return self.fail(error.into());
        }
        if self.run.phase == Phase::Draining && self.swapchain.busy().is_empty() {
            self.run.phase = Phase::Over;
        }
        self.show_next();
    }

    /// Presentation feedback.
    pub(super) fn presented(&mut self, commit: u64, at_ns: u64, refresh_ns: u64, zero_copy: bool) {
        if let Some(fence) = self.flights.get(&commit).and_then(|flight| flight.fence.as_ref())
            && let Ok(Some(ready)) = fence.signalled_at_ns()
        {
            self.ledger.ready(commit, ready);
        }
        let at_ns = if self.run.clock_is_monotonic { at_ns } else { now_ns() };
        if self.run.warming_up && commit > self.options.warm_up {
            self.warmed_up();
        }
        self.ledger.refreshes(commit, at_ns, refresh_ns);
        self.ledger.presented(commit, at_ns, zero_copy);
        self.answered(commit);
    }

    /// Presentation feedback.
    pub(super) fn discarded(&mut self, commit: u64) {
        self.ledger.discarded(commit);
        self.answered(commit);
    }

    /// Which clock presentation times are on.
    pub(super) fn set_presentation_clock(&mut self, is_monotonic: bool) {
        self.run.clock_is_monotonic = is_monotonic;
    }

    fn answered(&mut self, commit: u64) {
        self.forget(commit);
        if self.run.phase == Phase::Answering && self.ledger.is_answered() {
            self.close();
        }
    }

    /// Drops what is known of a commit that nobody will ask about any more.
    fn forget(&mut self, commit: u64) {
        let is_owed = |flight: &Flight| flight.pledge.is_some();
        if self.ledger.is_closed(commit) && !self.flights.get(&commit).is_some_and(is_owed) {
            self.flights.remove(&commit);
        }
    }
}

/// Makes the point signal with the drawing, or now if that is done.
fn materialise(point: &Point, fence: Option<&SyncFile>) -> Result<(), Error> {
    match fence {
        Some(fence) => Ok(point.import_sync_file(fence)?),
        None => Ok(point.signal()?),
    }
}

/// The time on CLOCK_MONOTONIC.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
