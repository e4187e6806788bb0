//! Clients' buffers that the parent shows as they are: made known to it once, and lent to it with a commit.
//!
//! Owns the parent's `wl_buffer` of each, a refusal included, and what is still lent. When the parent has released a buffer, its
//! fence goes to the client's lease, so that the kernel carries the release out. Which buffer is passed on is decided
//! elsewhere.

use std::collections::HashMap;
use std::rc::Rc;

use calloop::LoopHandle;
use drm::buffer::DrmFourcc as Fourcc;
use smithay::backend::allocator::Buffer as _;
use smithay::backend::allocator::dmabuf::{Dmabuf, WeakDmabuf};
use smithay::utils::{Logical, Size};
use wayland_client::Proxy as _;
use wayland_client::protocol::wl_buffer::WlBuffer;

use super::buffers::Lent;
use super::explicit::Shared;
use super::offer::Answer;
use super::parent::Parent;
use super::window::{Sync, View, Window};
use crate::buffer::Lease;
use crate::buffer::lease::Consumer;
use crate::fence::implicit::{ImplicitError, Planes};
use crate::fence::roles::AcquireFence;
use crate::fence::sync_file::{SyncFile, SyncFileError};
use crate::fence::timeline::{Point, TimelineError};
use crate::fence::wait::{self, WaitError, WaitToken};
use crate::fence::{Fence, Status};
use crate::output::layer::Layer;

/// How many commits of clients' buffers the parent may hold at a time; then frames are composed.
const MAX_LOANS: usize = 16;

/// A client's buffer, as the parent knows it.
#[derive(Debug)]
pub(super) struct Foreign {
    answer: Answer,
    planes: Planes,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // An answer that is still to come finds nobody, and destroys what it brings.
        self.buffer().iter().for_each(|buffer| buffer.destroy());
    }
}

impl Foreign {
    /// The parent's buffer; `None` if it has made none, or has not answered yet.
    pub(super) fn buffer(&self) -> Option<&WlBuffer> {
        self.answer.get()?
    }

    /// The dma-bufs behind it.
    pub(super) fn planes(&self) -> &Planes {
        &self.planes
    }

    fn lent(&self) -> Option<&Lent> {
        self.buffer()?.data()
    }
}

/// The buffers that the parent was asked to make; `None` for one that it cannot be asked for.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<(WeakDmabuf, Fourcc), Option<Rc<Foreign>>>);

impl Known {
    /// The buffer, read as `fourcc`. The parent is asked for it once; its refusal is remembered for the buffer's life.
    pub(super) fn get(
        &mut self,
        buffer: &Dmabuf,
        fourcc: Fourcc,
        ask: impl FnOnce(Answer) -> bool,
    ) -> Option<Rc<Foreign>> {
        let key = (buffer.weak(), fourcc);
        if let Some(known) = self.0.get(&key) {
            return known.clone();
        }
        self.0.retain(|(buffer, _), _| !buffer.is_gone());
        let answer = Answer::default();
        let planes = Planes::new(buffer.handles());
        let planes =
            planes.inspect_err(|error| tracing::warn!("a client's buffer is composed: {error}")).ok();
        let planes = planes.filter(|_| ask(answer.clone()));
        let foreign = planes.map(|planes| Rc::new(Foreign { answer, planes }));
        self.0.insert(key, foreign.clone());
        foreign
    }

    /// A commit with it was refused: it is composed from now on.
    pub(super) fn refuse(&mut self, buffer: &Dmabuf, fourcc: Fourcc) {
        self.0.insert((buffer.weak(), fourcc), None);
    }
}

/// How the parent says that it is done with a buffer.
#[derive(Debug)]
enum Until {
    /// By a release point, the only one of its timeline that is in use.
    Point(Rc<Shared>),
    /// By `wl_buffer.release`, with the fences that are in the dma-buf then.
    Event,
}

/// A commit of a client's buffer that the parent has not released.
#[derive(Debug)]
pub(super) struct Loan {
    number: u64,
    lease: Lease,
    foreign: Rc<Foreign>,
    until: Until,
    /// The parent's buffer goes with it.
    _buffer: Dmabuf,
    /// The release point could not be handed to the client's release, and is waited for.
    failed: bool,
    /// Tells when the release point has got that far.
    token: Option<WaitToken>,
}

impl Loan {
    /// The release point; `None` where the parent says it by an event.
    fn point(&self) -> Option<Point> {
        match &self.until {
            Until::Point(release) => release.newest(),
            Until::Event => None,
        }
    }

    /// The parent's fence, if it has released the buffer: `Ok(None)` if it has not, `Ok(Some(None))` if nothing is left to
    /// wait for.
    fn ended(&self) -> Result<Option<Option<SyncFile>>, Error> {
        match &self.until {
            Until::Point(release) => match release.newest().map(|point| (point.status(), point)) {
                None | Some((Status::Signalled, _)) => Ok(Some(None)),
                Some((Status::Unmaterialised, _)) => Ok(None),
                Some((Status::Pending | Status::Failed(_), point)) => {
                    Ok(Some(Some(point.export_sync_file()?)))
                }
            },
            Until::Event if self.foreign.lent().is_some_and(Lent::holds) => Ok(None),
            Until::Event => {
                let users = self.foreign.planes.users()?;
                Ok(Some(SyncFile::merge_all(&users)?))
            }
        }
    }
}

/// Why it is not known whether a buffer is released; it counts as in use.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Point(#[from] TimelineError),
    #[error(transparent)]
    Implicit(#[from] ImplicitError),
    #[error(transparent)]
    Merge(#[from] SyncFileError),
}

/// What is lent to the parent by one window.
#[derive(Debug, Default)]
pub(super) struct Loans {
    list: Vec<Loan>,
    /// Release timelines, each for one commit at a time: a point says nothing of the points before it.
    timelines: Vec<Rc<Shared>>,
}

impl Loans {
    /// Whether another commit of this buffer can be lent. Without points, `wl_buffer.release` does not say which commit it
    /// means, so that a buffer has to be back before.
    pub(super) fn take(&self, foreign: &Rc<Foreign>) -> bool {
        let ambiguous =
            |loan: &Loan| Rc::ptr_eq(&loan.foreign, foreign) && matches!(loan.until, Until::Event);
        self.list.len() < MAX_LOANS && !self.list.iter().any(ambiguous)
    }

    /// A release timeline that no commit uses; `None` without explicit sync.
    ///
    /// # Errors
    /// Those of making one.
    pub(super) fn timeline(
        &mut self,
        parent: &Parent,
        window: &Window,
    ) -> Result<Option<Rc<Shared>>, TimelineError> {
        if window.explicit().is_none() {
            return Ok(None);
        }
        let free = self.timelines.iter().find(|timeline| Rc::strong_count(timeline) == 1).cloned();
        let made =
            if free.is_none() { parent.release_timeline(window).transpose()?.map(Rc::new) } else { None };
        self.timelines.extend(made.clone());
        Ok(free.or(made))
    }

    /// A commit of this number has gone to the parent with the buffer.
    pub(super) fn begin(
        &mut self,
        number: u64,
        layer: Layer,
        foreign: Rc<Foreign>,
        release: Option<Rc<Shared>>,
    ) {
        foreign.lent().iter().for_each(|lent| lent.begin());
        let until = release.map_or(Until::Event, Until::Point);
        let (lease, _buffer) = (layer.lease, layer.buffer);
        self.list.push(Loan { number, lease, foreign, until, _buffer, failed: false, token: None });
    }

    /// Ends what the parent has released. What cannot be found out is asked again.
    pub(super) fn settle(&mut self) {
        self.list.retain_mut(|loan| match loan.ended() {
            Ok(None) => true,
            Ok(Some(fence)) => {
                if let Some(fence) = fence {
                    loan.lease.used_until(Consumer::Parent(loan.number), fence);
                }
                false
            }
            Err(error) => {
                tracing::warn!("a buffer counts as read by the parent compositor: {error}");
                (loan.failed, loan.token) = (true, None);
                true
            }
        });
    }

    /// Has `done` called when a release point has got a fence; one that had to be waited for, when it has signalled.
    ///
    /// # Errors
    /// [`WaitError`]; it is not called for every point.
    pub(super) fn watch<D: 'static>(
        &mut self,
        handle: &LoopHandle<'static, D>,
        done: &(impl Fn(&mut D) + Clone + 'static),
    ) -> Result<(), WaitError> {
        for loan in self.list.iter_mut().filter(|loan| loan.token.is_none()) {
            let Some(point) = loan.point() else { continue };
            loan.token = Some(match loan.failed {
                true => wait::wait(handle, &AcquireFence::Point(point), done.clone())?,
                false => wait::wait_materialised(handle, &point, done.clone())?,
            });
        }
        Ok(())
    }

    /// Whether the parent has released everything.
    pub(super) fn are_over(&self) -> bool {
        self.list.is_empty()
    }
}

/// The view of a window of this size that is filled by the layer; `None` for the whole buffer as it is.
pub(super) fn view(layer: &Layer, window: Size<i32, Logical>) -> Option<View> {
    View::of(layer.src, layer.buffer.size(), window)
}

/// How a commit of the buffer is synchronised.
pub(super) fn sync<'a>(foreign: &'a Foreign, release: Option<&'a Rc<Shared>>) -> Sync<'a> {
    release.map_or(Sync::Implicit(Some(foreign.planes())), |release| Sync::Points(release))
}
