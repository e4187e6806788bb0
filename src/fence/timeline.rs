//! [`Timeline`] and [`Point`]: DRM timeline syncobjs, with handles that destroy themselves.
//!
//! A point is a promise by its client, not a kernel fence: it may never materialise. Only what
//! [`Point::export_sync_file`] returns may be given to the GPU or to KMS.
//!
//! # Point 0
//!
//! To the kernel, 0 is not a point but the payload as a whole. Waiting for 0 waits for whatever fence is
//! there; signalling it chains a signalled fence to what is there. Both are safe and allowed here.
//! Importing a fence *at* 0 would replace the timeline by a binary payload, with every point on it; that is
//! refused ([`TimelineError::PointZero`]), and [`super::release`] then waits and signals instead.

mod eventfd;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use tracing::error;

use super::sync_file::{self, SyncFile};
use super::{Fence, Status};
use crate::sys::drm_master;
use crate::sys::syncobj::{self, Handle, WaitFlags};

use eventfd::Registered;

pub use crate::sys::syncobj::Until;
pub use eventfd::{Eventfd, MAX_EVENTFDS};

/// What can go wrong with timelines.
#[derive(Debug, thiserror::Error)]
pub enum TimelineError {
    /// No device file there, or no permission.
    #[error("Could not open a DRM device for syncobjs")]
    Open(#[source] io::Error),
    /// The device lacks something this project cannot do without.
    #[error("Could not use a DRM device for explicit sync: it has no working {what}")]
    Unsupported {
        /// What it lacks.
        what: &'static str,
        /// What it answered, if it did.
        source: Option<io::Error>,
    },
    /// The fd is something else than a syncobj.
    #[error("Could not import a timeline: the file descriptor is not a syncobj")]
    NotASyncobj(#[source] io::Error),
    /// Out of memory or file descriptors, or the device is gone.
    #[error("Could not {what}")]
    Kernel {
        /// The operation.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The point has no fence to export.
    #[error("Could not export a sync_file from a point that has not materialised")]
    Unmaterialised,
    /// A fence imported at 0 would replace the timeline.
    #[error("Could not import a sync_file at point 0")]
    PointZero,
    /// Few file descriptors are left.
    #[error("Could not create an eventfd: the last file descriptors are kept for frames and buffers")]
    Scarce,
    /// The kernel holds as many for this timeline as it may.
    #[error("Could not create an eventfd: {MAX_EVENTFDS} of one timeline have not fired")]
    TooManyEventfds,
}

fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> TimelineError {
    move |source| TimelineError::Kernel { what, source }
}

/// A DRM device that is used for syncobjs. Any device will do for any client: they are not tied to a GPU.
#[derive(Debug, Clone)]
pub struct SyncobjDevice(Arc<Device>);

#[derive(Debug)]
struct Device {
    fd: OwnedFd,
    /// The binary syncobj that every crossing between a point and a sync_file goes through: the kernel has
    /// no other way that also flattens fence chains. It keeps the last fence alive, which costs nothing.
    scratch: Mutex<Scratch>,
    /// The kernel has said `ENODEV`, which it does not take back.
    gone: AtomicBool,
}

#[derive(Debug)]
struct Scratch {
    handle: Handle,
    /// The sync_file whose fence it holds, if it was one: a pass that releases many buffers is imported once.
    holds: Weak<sync_file::Inner>,
}

impl SyncobjDevice {
    /// Opens a device file, which [`Self::from_fd`] then checks.
    ///
    /// # Errors
    /// [`TimelineError::Open`], [`TimelineError::Unsupported`].
    pub fn open(path: &Path) -> Result<Self, TimelineError> {
        let fd = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let fd = fd.map_err(|error| TimelineError::Open(error.into()))?;
        // Whoever opens a primary node first is made its master, and would keep a display server out. Where we are not,
        // there is nothing to give up.
        let _not_master = drm_master::give_up(fd.as_fd());
        Self::from_fd(fd)
    }

    /// Takes a device and tries everything this module will ask of it.
    ///
    /// # Errors
    /// [`TimelineError::Unsupported`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, TimelineError> {
        let unsupported = |what| move |source| TimelineError::Unsupported { what, source: Some(source) };
        let (syncobj, timeline) =
            syncobj::capabilities(fd.as_fd()).map_err(unsupported("DRM_CAP_SYNCOBJ"))?;
        for (present, what) in [(syncobj, "DRM_CAP_SYNCOBJ"), (timeline, "DRM_CAP_SYNCOBJ_TIMELINE")] {
            if !present {
                return Err(TimelineError::Unsupported { what, source: None });
            }
        }
        if !syncobj::has_eventfd(fd.as_fd()) {
            return Err(TimelineError::Unsupported { what: "DRM_IOCTL_SYNCOBJ_EVENTFD", source: None });
        }
        let handle = syncobj::create(fd.as_fd()).map_err(unsupported("syncobjs"))?;
        let scratch = Scratch { handle, holds: Weak::new() };
        let (scratch, gone) = (Mutex::new(scratch), AtomicBool::new(false));
        let device = Self(Arc::new(Device { fd, scratch, gone }));
        device.check_eventfd()?;
        Ok(device)
    }

    /// The first device that will do: of `given`, then of the render nodes there are, then of the primary nodes, which a
    /// device without a renderer has alone. Each is tried, none is believed.
    ///
    /// # Errors
    /// What the last candidate lacked.
    pub fn find(given: impl IntoIterator<Item = OwnedFd>) -> Result<Self, TimelineError> {
        // DRM hands out minors 128 to 191 to render nodes, 0 to 63 to primary ones.
        let render = (128..192).map(|minor| format!("/dev/dri/renderD{minor}"));
        let primary = (0..64).map(|minor| format!("/dev/dri/card{minor}"));
        let nodes = render.chain(primary).map(|path| Self::open(Path::new(&path)));
        let mut last = None;
        for tried in given.into_iter().map(Self::from_fd).chain(nodes) {
            match tried {
                Ok(device) => return Ok(device),
                Err(TimelineError::Open(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| TimelineError::Open(Errno::NOENT.into())))
    }

    /// Whether the device has been taken away, as far as anybody has noticed: none of its timelines can be waited for or
    /// signalled any more.
    pub fn is_gone(&self) -> bool {
        self.0.gone.load(Ordering::Relaxed)
    }

    /// As [`Self::is_gone`], after asking the kernel.
    pub fn look(&self) -> bool {
        // What it can is of no interest here; that it does not answer is.
        let _capabilities = self.heard(syncobj::capabilities(self.fd()));
        self.is_gone()
    }

    /// Takes note of an answer of the kernel's.
    fn heard<T>(&self, answer: io::Result<T>) -> io::Result<T> {
        if answer.as_ref().is_err_and(|error| is(error, Errno::NODEV)) {
            self.0.gone.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Before 6.6.19 and in 6.7 the eventfd of a point that a later one has overtaken never fires.
    fn check_eventfd(&self) -> Result<(), TimelineError> {
        let timeline = Timeline::create(self)?;
        timeline.point(1).signal()?;
        timeline.point(2).signal()?;
        let eventfd = timeline.point(1).eventfd(Until::Signalled)?;
        if is_readable(eventfd.as_fd()) {
            return Ok(());
        }
        Err(TimelineError::Unsupported { what: "DRM_IOCTL_SYNCOBJ_EVENTFD for passed points", source: None })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    /// Runs `f` with the scratch syncobj to itself, and whatever is in it.
    fn with_scratch<R>(&self, f: impl FnOnce(BorrowedFd<'_>, Handle) -> io::Result<R>) -> io::Result<R> {
        let mut scratch = self.0.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        scratch.holds = Weak::new();
        self.heard(f(self.fd(), scratch.handle))
    }

    /// As [`Self::with_scratch`], with the fence of a sync_file in it.
    fn with_fence<R>(
        &self,
        fence: &SyncFile,
        f: impl FnOnce(BorrowedFd<'_>, Handle) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut scratch = self.0.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        if !fence.is(&scratch.holds) {
            scratch.holds = Weak::new();
            self.heard(syncobj::import_sync_file(self.fd(), scratch.handle, fence.as_fd()))?;
            scratch.holds = fence.downgrade();
        }
        self.heard(f(self.fd(), scratch.handle))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let scratch = self.scratch.get_mut().unwrap_or_else(PoisonError::into_inner).handle;
        destroy(self.fd.as_fd(), scratch);
    }
}

/// A timeline syncobj. Cloning shares the handle, which goes with the last clone and the last point.
#[derive(Debug, Clone)]
pub struct Timeline(Arc<TimelineHandle>);

#[derive(Debug)]
struct TimelineHandle {
    device: SyncobjDevice,
    handle: Handle,
    eventfds: Mutex<Registered>,
    /// One of those that its client may have.
    _count: Option<Arc<()>>,
}

impl Timeline {
    /// Makes a new one, without points.
    ///
    /// # Errors
    /// [`TimelineError::Kernel`].
    pub fn create(device: &SyncobjDevice) -> Result<Self, TimelineError> {
        let handle = syncobj::create(device.fd()).map_err(kernel("create a timeline"))?;
        Ok(Self::from_handle(device, handle, None))
    }

    /// Whether both are the same import. Two imports of one syncobj are not told apart from two syncobjs: the kernel
    /// gives each a handle of its own.
    pub fn is_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Imports a client's timeline. The fd is not needed any more afterwards.
    ///
    /// # Errors
    /// [`TimelineError::NotASyncobj`] for every other kind of fd, [`TimelineError::Kernel`].
    pub fn import(device: &SyncobjDevice, fd: BorrowedFd<'_>) -> Result<Self, TimelineError> {
        Self::import_counted(device, fd, None)
    }

    /// As [`Self::import`]. `count` is dropped with the kernel's handle.
    ///
    /// # Errors
    /// As [`Self::import`].
    pub fn import_counted(
        device: &SyncobjDevice,
        fd: BorrowedFd<'_>,
        count: Option<Arc<()>>,
    ) -> Result<Self, TimelineError> {
        let handle = device.heard(syncobj::fd_to_handle(device.fd(), fd)).map_err(|source| {
            if is(&source, Errno::INVAL) {
                TimelineError::NotASyncobj(source)
            } else {
                TimelineError::Kernel { what: "import a timeline", source }
            }
        })?;
        Ok(Self::from_handle(device, handle, count))
    }

    fn from_handle(device: &SyncobjDevice, handle: Handle, count: Option<Arc<()>>) -> Self {
        let (device, eventfds) = (device.clone(), Mutex::default());
        Self(Arc::new(TimelineHandle { device, handle, eventfds, _count: count }))
    }

    /// An fd for the other side to import.
    ///
    /// # Errors
    /// [`TimelineError::Kernel`].
    pub fn export(&self) -> Result<OwnedFd, TimelineError> {
        syncobj::handle_to_fd(self.0.device.fd(), self.0.handle).map_err(kernel("export a timeline"))
    }

    /// The point at `value`.
    pub fn point(&self, value: u64) -> Point {
        Point { timeline: self.clone(), value }
    }

    /// A number for people to know it by, among the timelines of its device.
    pub fn number(&self) -> u32 {
        self.0.handle
    }
}

/// The same import. Two imports of one syncobj are two timelines, as they are in the protocol.
impl PartialEq for Timeline {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Timeline {}

impl Drop for TimelineHandle {
    fn drop(&mut self) {
        destroy(self.device.fd(), self.handle);
    }
}

/// A point on a timeline. It keeps the timeline alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    timeline: Timeline,
    value: u64,
}

impl Point {
    /// Its timeline.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Its place on the timeline.
    pub fn value(&self) -> u64 {
        self.value
    }

    /// Whether the point has a fence, signalled or not.
    pub fn is_materialised(&self) -> bool {
        self.status() != Status::Unmaterialised
    }

    /// The point's fence as a sync_file: a live fence that is bound to signal.
    ///
    /// # Errors
    /// [`TimelineError::Unmaterialised`], [`TimelineError::Kernel`].
    pub fn export_sync_file(&self) -> Result<SyncFile, TimelineError> {
        let sync_file = self.timeline.0.device.with_scratch(|fd, scratch| {
            syncobj::transfer(fd, self.raw(), (scratch, 0), false)?;
            syncobj::export_sync_file(fd, scratch)
        });
        sync_file.map(SyncFile::from_kernel).map_err(|source| {
            // Handles and flags are right, so this is the kernel's word for a point without a fence.
            if is(&source, Errno::INVAL) {
                TimelineError::Unmaterialised
            } else {
                TimelineError::Kernel { what: "export a sync_file from a point", source }
            }
        })
    }

    /// Materialises the point with the sync_file's fence: the point signals when that does, without us.
    ///
    /// # Errors
    /// [`TimelineError::PointZero`], [`TimelineError::Kernel`]; the timeline is then as it was.
    pub fn import_sync_file(&self, fence: &SyncFile) -> Result<(), TimelineError> {
        if self.value == 0 {
            return Err(TimelineError::PointZero);
        }
        let device = &self.timeline.0.device;
        let result =
            device.with_fence(fence, |fd, scratch| syncobj::transfer(fd, (scratch, 0), self.raw(), false));
        result.map_err(kernel("import a sync_file at a point"))
    }

    /// Signals the point now.
    ///
    /// # Errors
    /// [`TimelineError::Kernel`].
    pub fn signal(&self) -> Result<(), TimelineError> {
        let (handle, value) = self.raw();
        let device = &self.timeline.0.device;
        device
            .heard(syncobj::timeline_signal(device.fd(), &[handle], &[value]))
            .map_err(kernel("signal a point"))
    }

    /// Signals all of `points` now: in one system call where they are on one device.
    ///
    /// # Errors
    /// [`TimelineError::Kernel`]; some of the points may have been signalled, and may be signalled again.
    pub fn signal_all<'a>(points: impl IntoIterator<Item = &'a Self>) -> Result<(), TimelineError> {
        let mut points = points.into_iter().peekable();
        while let Some(first) = points.next() {
            let device = &first.timeline.0.device;
            let (mut handles, mut values) = (vec![first.timeline.0.handle], vec![first.value]);
            while let Some(next) = points.next_if(|next| Arc::ptr_eq(&device.0, &next.timeline.0.device.0)) {
                handles.push(next.timeline.0.handle);
                values.push(next.value);
            }
            device
                .heard(syncobj::timeline_signal(device.fd(), &handles, &values))
                .map_err(kernel("signal points"))?;
        }
        Ok(())
    }

    fn raw(&self) -> (Handle, u64) {
        (self.timeline.0.handle, self.value)
    }

    /// `Ok(false)` if not there yet.
    fn reached(&self, flags: WaitFlags) -> io::Result<bool> {
        let (handle, value) = self.raw();
        let device = &self.timeline.0.device;
        match device.heard(syncobj::timeline_wait(device.fd(), &[handle], &[value], 0, flags)) {
            Ok(_) => Ok(true),
            Err(error) if is(&error, Errno::TIME) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// One TIMELINE_WAIT for a point that has signalled, a second one only for others. The kernel does not tell
/// errors of a point's fence, so this is never [`Status::Failed`]; export it to see them.
impl Fence for Point {
    fn status(&self) -> Status {
        let signalled = WaitFlags { for_submit: true, ..WaitFlags::default() };
        let materialised = WaitFlags { available: true, ..WaitFlags::default() };
        let status = self.reached(signalled).and_then(|signalled| {
            if signalled {
                return Ok(Status::Signalled);
            }
            let materialised = self.reached(materialised)?;
            Ok(if materialised { Status::Pending } else { Status::Unmaterialised })
        });
        status.unwrap_or_else(|error| {
            if self.timeline.0.device.is_gone() {
                return Status::Unmaterialised;
            }
            error!(%error, point = self.value, "a point does not tell its status; it counts as unmaterialised");
            Status::Unmaterialised
        })
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())) == Ok(1)
}

fn destroy(fd: BorrowedFd<'_>, handle: Handle) {
    if let Err(error) = syncobj::destroy(fd, handle) {
        // Also when the device has been unplugged; the handle is gone either way.
        tracing::debug!(%error, handle, "could not destroy a syncobj handle");
    }
}

#[cfg(test)]
mod tests;
