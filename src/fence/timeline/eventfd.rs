//! Eventfds that tell how far a point has come, and how many of them the kernel holds for a timeline.
//!
//! The kernel cannot be told to let go of one: closed, it is held until its point has come or its timeline is gone. Owns the
//! count of those and its bound (I8).

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::{Point, Timeline, TimelineError, Until, kernel};
use crate::fence::scarce::{self, Use};
use crate::sys::syncobj;

/// How many eventfds the kernel may hold for one timeline (I8).
pub const MAX_EVENTFDS: usize = 4096;

/// The eventfds that the kernel holds for a timeline.
#[derive(Debug, Default)]
pub(super) struct Registered {
    /// How many there are that somebody waits with.
    open: usize,
    /// What the others wait for, which nobody will hear.
    closed: Vec<(u64, Until)>,
}

impl Registered {
    fn count(&self) -> usize {
        self.open.saturating_add(self.closed.len())
    }

    /// Those that wait for points up to these are gone.
    fn reached(&mut self, materialised: u64, signalled: u64) {
        self.closed.retain(|(value, until)| {
            let reached = match until {
                Until::Materialised => materialised,
                Until::Signalled => signalled,
            };
            // Point 0 waits for any fence, and 0 is also what a timeline without one has reached.
            (*value).max(1) > reached
        });
    }
}

impl Timeline {
    /// How many eventfds the kernel holds for it, as far as anybody has looked.
    pub fn eventfds(&self) -> usize {
        self.registered().count()
    }

    /// Whether the kernel may hold another one. Looks how far the timeline has come if it seems that it may not.
    pub fn has_room(&self) -> bool {
        let mut registered = self.registered();
        if registered.count() >= MAX_EVENTFDS {
            let device = &self.0.device;
            // No more than the truth, where points have come out of order: 0 then.
            let last = |submitted| device.heard(syncobj::query(device.fd(), self.0.handle, submitted));
            registered.reached(last(true).unwrap_or(0), last(false).unwrap_or(0));
        }
        registered.count() < MAX_EVENTFDS
    }

    fn registered(&self) -> MutexGuard<'_, Registered> {
        self.0.eventfds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Point {
    /// A non-blocking eventfd that becomes readable, once, when the point has come that far.
    ///
    /// If the last handle and fd of the timeline go before the point has materialised, it never does, and the
    /// eventfd never fires.
    ///
    /// # Errors
    /// [`TimelineError::Kernel`], [`TimelineError::Scarce`], [`TimelineError::TooManyEventfds`].
    pub fn eventfd(&self, until: Until) -> Result<Eventfd, TimelineError> {
        if !self.timeline.has_room() {
            return Err(TimelineError::TooManyEventfds);
        }
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| kernel("create an eventfd")(error.into()))?;
        // Before the kernel knows of it: a registration cannot be taken back.
        if scarce::is_kept(&fd, Use::Wait) {
            return Err(TimelineError::Scarce);
        }
        let (handle, value) = self.raw();
        let device = &self.timeline.0.device;
        device
            .heard(syncobj::eventfd(device.fd(), handle, value, until, fd.as_fd()))
            .map_err(kernel("register an eventfd with a point"))?;
        Ok(Eventfd::registered(fd, self, until))
    }
}

/// An eventfd that the kernel knows of. Dropped before it has fired, it counts until its point has come that far.
#[derive(Debug)]
pub struct Eventfd {
    fd: OwnedFd,
    point: Point,
    until: Until,
    has_fired: Cell<bool>,
}

impl Eventfd {
    fn registered(fd: OwnedFd, point: &Point, until: Until) -> Self {
        let mut registered = point.timeline.registered();
        registered.open = registered.open.saturating_add(1);
        Self { fd, point: point.clone(), until, has_fired: Cell::new(false) }
    }

    /// To be called by whoever has seen it readable: the kernel has let go of it.
    pub fn fired(&self) {
        self.has_fired.set(true);
    }
}

impl AsFd for Eventfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Eventfd {
    fn drop(&mut self) {
        let mut registered = self.point.timeline.registered();
        registered.open = registered.open.saturating_sub(1);
        if !self.has_fired.get() {
            registered.closed.push((self.point.value, self.until));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::timeline_of_no_device;
    use super::*;

    fn eventfd_on(point: &Point, until: Until) -> Eventfd {
        Eventfd::registered(eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"), point, until)
    }

    #[test]
    fn an_eventfd_counts_until_it_fires_or_its_point_has_come() {
        let timeline = timeline_of_no_device(None);
        let fires = eventfd_on(&timeline.point(1), Until::Signalled);
        let closed = [
            eventfd_on(&timeline.point(5), Until::Materialised),
            eventfd_on(&timeline.point(5), Until::Signalled),
            eventfd_on(&timeline.point(0), Until::Materialised),
        ];
        assert_eq!(timeline.eventfds(), 4);
        fires.fired();
        drop(fires);
        assert_eq!(timeline.eventfds(), 3);
        drop(closed);
        assert_eq!(timeline.eventfds(), 3, "the kernel has not been told");
        for (materialised, signalled, left) in [(0, 0, 3), (4, 4, 2), (5, 4, 1), (6, 5, 0)] {
            timeline.registered().reached(materialised, signalled);
            assert_eq!(timeline.eventfds(), left, "{materialised} {signalled}");
        }
    }

    #[test]
    fn a_timeline_that_does_not_tell_how_far_it_is_has_room_up_to_the_bound() {
        let timeline = timeline_of_no_device(None);
        for value in 1..=MAX_EVENTFDS as u64 {
            assert!(timeline.has_room());
            drop(eventfd_on(&timeline.point(value), Until::Materialised));
        }
        assert!(!timeline.has_room());
        let refused = timeline.point(1).eventfd(Until::Signalled);
        assert!(matches!(refused, Err(TimelineError::TooManyEventfds)), "{refused:?}");
    }
}
