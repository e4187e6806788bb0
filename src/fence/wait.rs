//! Waits: a callback in the event loop when a fence is done.
//!
//! A wait that cannot be set up (out of fds, a kernel that refuses) is not a fence that is ready. Its one
//! reaction is here: the fence is looked at every 2 ms until it says that it is done. So is that to a fence that pends
//! again after it was done: the fence is waited for anew once, then looked at less and less.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use calloop::generic::{Generic, NoIoDrop};
use calloop::timer::{TimeoutAction, Timer};
use calloop::{Interest, LoopHandle, Mode, PostAction, RegistrationToken};
use rustix::event::{EventfdFlags, eventfd};
use tracing::{error, warn};

use super::roles::AcquireFence;
use super::scarce::{self, Use};
use super::sync_file::SyncFile;
use super::timeline::{Eventfd, Point, TimelineError, Until};
use super::{Fence, Status};

/// How often a fence is looked at that cannot be waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// How seldom a fence is looked at in the end that has pended again and again.
const SLOWEST_INTERVAL: Duration = Duration::from_millis(128);

/// Why there is neither a wait nor a poll.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The event loop takes no timer.
    #[error("Could not add a timer to the event loop")]
    Timer(#[source] calloop::Error),
}

/// A wait. Dropping it cancels it: the callback is dropped too, and never runs.
#[must_use = "dropping the token cancels the wait"]
pub struct WaitToken(Vec<Registration>);

impl std::fmt::Debug for WaitToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WaitToken").field(&self.0.len()).finish()
    }
}

impl WaitToken {
    /// Lets the wait go on by itself; nothing cancels it any more.
    pub fn detach(mut self) {
        for registration in &mut self.0 {
            drop(registration.0.take());
        }
    }
}

/// A source in the event loop, removed when this is dropped.
struct Registration(Option<Box<dyn FnOnce()>>);

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(remove) = self.0.take() {
            remove();
        }
    }
}

/// What one source waits for. It lives in the source.
enum Subject {
    Point(Point, Until),
    Fence(AcquireFence),
    /// For callers with an empty list.
    Nothing,
}

impl Subject {
    /// An fd that polls readable when the wait is over, and that nobody else has in an epoll set.
    fn fd(&self) -> Result<Fd, SetupError> {
        let fd = match self {
            Self::Point(point, until) => return Ok(Fd::Eventfd(point.eventfd(*until)?)),
            Self::Fence(AcquireFence::Point(point)) => {
                return Ok(Fd::Eventfd(point.eventfd(Until::Signalled)?));
            }
            Self::Fence(AcquireFence::SyncFile(sync_file)) => sync_file.dup()?,
            Self::Fence(AcquireFence::DmaBufPoll(fd)) => fd.try_clone()?,
            Self::Nothing => eventfd(1, EventfdFlags::CLOEXEC).map_err(io::Error::from)?,
        };
        if scarce::is_kept(&fd, Use::Wait) { Err(SetupError::Scarce) } else { Ok(Fd::Other(fd)) }
    }

    /// Whether its fd says for ever what it says once. A dma-buf may get another writer, a timeline be reset by its client.
    fn is_final(&self) -> bool {
        matches!(self, Self::Nothing | Self::Fence(AcquireFence::SyncFile(_)))
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Point(point, Until::Materialised) => point.status() != Status::Unmaterialised,
            Self::Point(point, Until::Signalled) => point.status().is_done(),
            Self::Fence(fence) => fence.status().is_done(),
            Self::Nothing => true,
        }
    }
}

/// What a source polls.
enum Fd {
    Eventfd(Eventfd),
    Other(OwnedFd),
}

impl Fd {
    /// It has polled readable.
    fn fired(&self) {
        if let Self::Eventfd(eventfd) = self {
            eventfd.fired();
        }
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Eventfd(eventfd) => eventfd.as_fd(),
            Self::Other(fd) => fd.as_fd(),
        }
    }
}

/// Why the fast way is closed; logged, then [`POLL_INTERVAL`].
#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error(transparent)]
    Timeline(#[from] TimelineError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("Could not add a source to the event loop")]
    Source(#[from] calloop::Error),
    #[error("The last file descriptors are kept for frames and buffers")]
    Scarce,
}

/// Calls `done` once, from the event loop, when `fence` is done. Check [`Fence::status`] before: a fence that
/// has signalled needs no wait.
///
/// # Errors
/// [`WaitError`]; `done` will not be called.
pub fn wait<D: 'static>(
    handle: &LoopHandle<'static, D>,
    fence: &AcquireFence,
    done: impl FnOnce(&mut D) + 'static,
) -> Result<WaitToken, WaitError> {
    Ok(WaitToken(vec![register(handle, Subject::Fence(fence.clone()), done)?]))
}

/// Calls `done` once, from the event loop, when `point` has got a fence.
///
/// # Errors
/// [`WaitError`]; `done` will not be called.
pub fn wait_materialised<D: 'static>(
    handle: &LoopHandle<'static, D>,
    point: &Point,
    done: impl FnOnce(&mut D) + 'static,
) -> Result<WaitToken, WaitError> {
    Ok(WaitToken(vec![register(handle, Subject::Point(point.clone(), Until::Materialised), done)?]))
}

/// Calls `done` once, from the event loop, when all of `fences` are done; at the next turn if there are none.
///
/// # Errors
/// [`WaitError`]; `done` will not be called.
pub fn wait_all<D: 'static>(
    handle: &LoopHandle<'static, D>,
    fences: &[SyncFile],
    done: impl FnOnce(&mut D) + 'static,
) -> Result<WaitToken, WaitError> {
    let left = Rc::new(Cell::new(fences.len()));
    let done = Rc::new(Cell::new(Some(done)));
    let one_less = move |data: &mut D| {
        left.set(left.get().saturating_sub(1));
        if left.get() == 0
            && let Some(done) = done.take()
        {
            done(data);
        }
    };
    if fences.is_empty() {
        return Ok(WaitToken(vec![register(handle, Subject::Nothing, one_less)?]));
    }
    let subjects = fences.iter().cloned().map(|fence| Subject::Fence(AcquireFence::SyncFile(fence)));
    subjects
        .map(|subject| register(handle, subject, one_less.clone()))
        .collect::<Result<_, _>>()
        .map(WaitToken)
}

/// A wait that has neither ended nor been cancelled; whichever comes first takes it.
struct Pending<F> {
    subject: Subject,
    done: F,
    /// The source that looks after it now.
    token: Option<RegistrationToken>,
    /// Its first fd has fired for nothing.
    is_again: bool,
}

type Shared<F> = Rc<RefCell<Option<Pending<F>>>>;

fn register<D: 'static, F: FnOnce(&mut D) + 'static>(
    handle: &LoopHandle<'static, D>,
    subject: Subject,
    done: F,
) -> Result<Registration, WaitError> {
    let pending = Rc::new(RefCell::new(Some(Pending { subject, done, token: None, is_again: false })));
    look_after(handle, &pending)?;
    let handle = handle.clone();
    // A wait that is over has removed its source, and its token may by now be another source's.
    Ok(Registration(Some(Box::new(move || {
        let cancelled = pending.borrow_mut().take();
        if let Some(token) = cancelled.and_then(|pending| pending.token) {
            handle.remove(token);
        }
    }))))
}

/// Gives a wait a source: an fd of its own, or a timer where that cannot be had or polled.
fn look_after<D: 'static, F: FnOnce(&mut D) + 'static>(
    handle: &LoopHandle<'static, D>,
    pending: &Shared<F>,
) -> Result<(), WaitError> {
    let Some(fd) = pending.borrow().as_ref().map(|pending| pending.subject.fd()) else { return Ok(()) };
    match fd.and_then(|fd| listen(handle, fd, pending)) {
        Ok(()) => Ok(()),
        Err(error) => {
            warn!(%error, "could not wait for a fence; it is polled instead");
            poll(handle, pending, POLL_INTERVAL)
        }
    }
}

fn listen<D: 'static, F: FnOnce(&mut D) + 'static>(
    handle: &LoopHandle<'static, D>,
    fd: Fd,
    pending: &Shared<F>,
) -> Result<(), SetupError> {
    let callback = {
        let (pending, handle) = (Rc::clone(pending), handle.clone());
        move |_, fd: &mut NoIoDrop<Fd>, data: &mut D| {
            fd.fired();
            if let Err(error) = ended(&handle, &pending, data) {
                error!(%error, "a fence is waited for by nobody");
            }
            Ok(PostAction::Remove)
        }
    };
    let inserted = handle.insert_source(Generic::new(fd, Interest::READ, Mode::OneShot), callback);
    hand_to(pending, inserted.map_err(|error| error.error)?);
    Ok(())
}

/// The fd of a wait has said its only word. Where that does not hold any more, the fence is waited for once more, and then
/// looked at ever less often: whoever takes back what it has signalled is not to cost the others their time.
fn ended<D: 'static, F: FnOnce(&mut D) + 'static>(
    handle: &LoopHandle<'static, D>,
    pending: &Shared<F>,
    data: &mut D,
) -> Result<(), WaitError> {
    let pends = |pending: &Pending<F>| !pending.subject.is_final() && !pending.subject.is_over();
    let again = match pending.borrow_mut().as_mut().filter(|pending| pends(pending)) {
        Some(pending) => Some(std::mem::replace(&mut pending.is_again, true)),
        None => None,
    };
    match again {
        None => finish(pending, data),
        Some(false) => look_after(handle, pending)?,
        Some(true) => poll(handle, pending, SLOWEST_INTERVAL)?,
    }
    Ok(())
}

/// Looks at a fence until it is over, or its wait is cancelled: after [`POLL_INTERVAL`], and then after twice as long each
/// time, up to `slowest`.
fn poll<D: 'static, F: FnOnce(&mut D) + 'static>(
    handle: &LoopHandle<'static, D>,
    pending: &Shared<F>,
    slowest: Duration,
) -> Result<(), WaitError> {
    let mut interval = POLL_INTERVAL;
    let callback = {
        let pending = Rc::clone(pending);
        move |_, _: &mut _, data: &mut D| {
            if pending.borrow().as_ref().is_some_and(|pending| !pending.subject.is_over()) {
                interval = interval.saturating_mul(2).min(slowest);
                return TimeoutAction::ToDuration(interval);
            }
            finish(&pending, data);
            TimeoutAction::Drop
        }
    };
    let inserted = handle.insert_source(Timer::from_duration(interval), callback);
    hand_to(pending, inserted.map_err(|error| WaitError::Timer(error.error))?);
    Ok(())
}

fn hand_to<F>(pending: &Shared<F>, token: RegistrationToken) {
    if let Some(pending) = pending.borrow_mut().as_mut() {
        pending.token = Some(token);
    }
}

fn finish<D, F: FnOnce(&mut D)>(pending: &Shared<F>, data: &mut D) {
    // Done with the cell before the callback runs: it may drop the token, and with it the source.
    let taken = pending.borrow_mut().take();
    if let Some(pending) = taken {
        (pending.done)(data);
    }
}

#[cfg(test)]
mod tests;
