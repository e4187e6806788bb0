//! Waits: a callback in the event loop when a fence is done.
//!
//! A wait that cannot be set up (out of fds, a kernel that refuses) is not a fence that is ready. Its one
//! reaction is here: the fence is looked at every 2 ms until it says that it is done.

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

fn register<D: 'static>(
    handle: &LoopHandle<'static, D>,
    subject: Subject,
    done: impl FnOnce(&mut D) + 'static,
) -> Result<Registration, WaitError> {
    let fd = match subject.fd() {
        Ok(fd) => fd,
        Err(error) => {
            warn!(%error, "could not wait for a fence; it is polled instead");
            let pending = Rc::new(RefCell::new(Some((subject, done))));
            let token = poll(handle, Rc::clone(&pending))?;
            return Ok(registration(handle, token, move || pending.borrow_mut().take().is_some()));
        }
    };
    // Shared with the callback, which is lost if the source cannot be inserted.
    let pending = Rc::new(RefCell::new(Some((subject, done))));
    let source = Generic::new(fd, Interest::READ, Mode::OneShot);
    let callback = {
        let (pending, handle) = (Rc::clone(&pending), handle.clone());
        move |_, fd: &mut NoIoDrop<Fd>, data: &mut D| {
            fd.fired();
            // The fd has said its only word, and it does not hold any more: the fence has to be looked at.
            if pending.borrow().as_ref().is_some_and(|(subject, _)| !subject.is_final() && !subject.is_over())
            {
                if let Err(error) = poll(&handle, Rc::clone(&pending)) {
                    error!(%error, "a fence is waited for by nobody");
                }
                return Ok(PostAction::Remove);
            }
            // Done with the cell before the callback runs: it may drop the token, and with it this closure.
            let taken = pending.borrow_mut().take();
            if let Some((_, done)) = taken {
                done(data);
            }
            Ok(PostAction::Remove)
        }
    };
    match handle.insert_source(source, callback) {
        Ok(token) => Ok(registration(handle, token, move || pending.borrow_mut().take().is_some())),
        Err(error) => {
            warn!(error = %error.error, "could not poll a fence; it is looked at by a timer instead");
            let token = poll(handle, Rc::clone(&pending))?;
            Ok(registration(handle, token, move || pending.borrow_mut().take().is_some()))
        }
    }
}

/// Looks at a fence every [`POLL_INTERVAL`] until it is over, or its wait is cancelled.
fn poll<D: 'static>(
    handle: &LoopHandle<'static, D>,
    pending: Rc<RefCell<Option<(Subject, impl FnOnce(&mut D) + 'static)>>>,
) -> Result<RegistrationToken, WaitError> {
    let callback = move |_, _: &mut _, data: &mut D| {
        if pending.borrow().as_ref().is_some_and(|(subject, _)| !subject.is_over()) {
            return TimeoutAction::ToDuration(POLL_INTERVAL);
        }
        let taken = pending.borrow_mut().take();
        if let Some((_, done)) = taken {
            done(data);
        }
        TimeoutAction::Drop
    };
    handle
        .insert_source(Timer::from_duration(POLL_INTERVAL), callback)
        .map_err(|error| WaitError::Timer(error.error))
}

/// `cancel` says whether the wait was still pending. One that has fired has removed its source, and its
/// token may by now be another source's.
fn registration<D: 'static>(
    handle: &LoopHandle<'static, D>,
    token: RegistrationToken,
    cancel: impl FnOnce() -> bool + 'static,
) -> Registration {
    let handle = handle.clone();
    Registration(Some(Box::new(move || {
        if cancel() {
            handle.remove(token);
        }
    })))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use calloop::EventLoop;

    use super::*;

    /// A pipe polls like a fence: readable once, when it is written to.
    fn fence() -> (AcquireFence, std::io::PipeWriter) {
        let (reader, writer) = std::io::pipe().expect("pipe");
        (AcquireFence::DmaBufPoll(Arc::new(reader.into())), writer)
    }

    fn turn(event_loop: &mut EventLoop<'static, u32>, count: &mut u32) {
        event_loop.dispatch(Duration::from_millis(20), count).expect("dispatch");
    }

    #[test]
    fn the_callback_runs_once_and_only_when_the_fence_is_done() {
        let mut event_loop = EventLoop::try_new().expect("event loop");
        let (fence, mut writer) = fence();
        let mut count = 0;
        let _token = wait(&event_loop.handle(), &fence, |count: &mut u32| *count += 1).expect("wait");
        turn(&mut event_loop, &mut count);
        assert_eq!(count, 0);
        writer.write_all(b"x").expect("write");
        turn(&mut event_loop, &mut count);
        turn(&mut event_loop, &mut count);
        assert_eq!(count, 1);
    }

    #[test]
    fn two_waits_for_one_fence_both_end() {
        let mut event_loop = EventLoop::try_new().expect("event loop");
        let (fence, mut writer) = fence();
        let mut count = 0;
        let _first = wait(&event_loop.handle(), &fence, |count: &mut u32| *count += 1).expect("wait");
        let _second = wait(&event_loop.handle(), &fence, |count: &mut u32| *count += 1).expect("wait");
        writer.write_all(b"x").expect("write");
        turn(&mut event_loop, &mut count);
        turn(&mut event_loop, &mut count);
        assert_eq!(count, 2);
    }

    #[test]
    fn a_dropped_token_cancels_the_wait_and_an_old_one_does_no_harm() {
        let mut event_loop = EventLoop::try_new().expect("event loop");
        let (one, mut first_writer) = fence();
        let (two, mut second_writer) = fence();
        let mut count = 0;
        drop(wait(&event_loop.handle(), &one, |count: &mut u32| *count += 1).expect("wait"));
        first_writer.write_all(b"x").expect("write");
        turn(&mut event_loop, &mut count);
        assert_eq!(count, 0);
        // The first wait has fired; the second takes its slot in the loop.
        let old = wait(&event_loop.handle(), &one, |count: &mut u32| *count += 1).expect("wait");
        turn(&mut event_loop, &mut count);
        assert_eq!(count, 1);
        let _token = wait(&event_loop.handle(), &two, |count: &mut u32| *count += 10).expect("wait");
        drop(old);
        second_writer.write_all(b"x").expect("write");
        turn(&mut event_loop, &mut count);
        assert_eq!(count, 11);
    }

    #[test]
    fn a_callback_may_drop_its_own_token() {
        type Slot = Option<WaitToken>;
        let mut event_loop = EventLoop::<'static, Slot>::try_new().expect("event loop");
        let (fence, mut writer) = fence();
        let mut slot = None;
        slot =
            Some(wait(&event_loop.handle(), &fence, |slot: &mut Slot| *slot = None).expect("wait")).or(slot);
        writer.write_all(b"x").expect("write");
        event_loop.dispatch(Duration::from_millis(20), &mut slot).expect("dispatch");
        assert!(slot.is_none());
    }

    #[test]
    fn a_fence_that_epoll_refuses_is_looked_at_until_it_is_done() {
        let mut event_loop = EventLoop::try_new().expect("event loop");
        // epoll takes no regular file (EPERM); poll calls it readable at once.
        let file = std::fs::File::open("/proc/self/exe").expect("a regular file");
        let fence = AcquireFence::DmaBufPoll(Arc::new(file.into()));
        let mut count = 0;
        let _token = wait(&event_loop.handle(), &fence, |count: &mut u32| *count += 1).expect("wait");
        assert_eq!(count, 0);
        turn(&mut event_loop, &mut count);
        assert_eq!(count, 1);
    }

    #[test]
    fn waiting_for_all_of_none_ends_at_the_next_turn_and_for_all_at_the_last() {
        let mut event_loop = EventLoop::try_new().expect("event loop");
        let mut count = 0;
        let _none = wait_all(&event_loop.handle(), &[], |count: &mut u32| *count += 1).expect("wait");
        assert_eq!(count, 0);
        turn(&mut event_loop, &mut count);
        assert_eq!(count, 1);

        let pipes = [std::io::pipe().expect("pipe"), std::io::pipe().expect("pipe")];
        let (readers, mut writers): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        let fences: Vec<_> = readers.into_iter().map(|fd| SyncFile::from_kernel(fd.into())).collect();
        let _all = wait_all(&event_loop.handle(), &fences, |count: &mut u32| *count += 10).expect("wait");
        writers[1].write_all(b"x").expect("write");
        turn(&mut event_loop, &mut count);
        assert_eq!(count, 1);
        writers[0].write_all(b"x").expect("write");
        turn(&mut event_loop, &mut count);
        assert_eq!(count, 11);
    }
}
