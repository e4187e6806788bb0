//! The kernel of the model: fences, release points, one GPU that works in order, and CRTCs that flip.
//!
//! Owns what really happens, and tells [`Checker`] of it. Knows nothing of the compositor's decisions.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use fencepost::fence::release::{ReleaseError, Sink};
use fencepost::fence::timeline::TimelineError;
use fencepost::fence::{Fence, Status};

use crate::checker::{Checked, Checker, CommitNo, Reader};

/// A fence, or the place where one will be: an unmaterialised point.
#[derive(Clone, Debug)]
pub(crate) struct SimFence(Rc<Node>);

#[derive(Debug)]
enum Node {
    One(Cell<Status>),
    All(Vec<SimFence>),
}

impl SimFence {
    pub(crate) fn new(status: Status) -> Self {
        Self(Rc::new(Node::One(Cell::new(status))))
    }

    fn all(fences: Vec<Self>) -> Self {
        Self(Rc::new(Node::All(fences)))
    }

    /// The kernel's or the client's doing. What is done stays as it is.
    pub(crate) fn set(&self, status: Status) {
        if let Node::One(cell) = &*self.0
            && !cell.get().is_done()
        {
            cell.set(status);
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.status().is_done()
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Fence for SimFence {
    fn status(&self) -> Status {
        match &*self.0 {
            Node::One(cell) => cell.get(),
            Node::All(fences) if fences.iter().all(Self::is_done) => Status::Signalled,
            Node::All(_) => Status::Pending,
        }
    }
}

/// Calls that the kernel is going to refuse, for want of memory or file descriptors.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    pub(crate) merges: Cell<u32>,
    pub(crate) imports: Cell<u32>,
    /// Of several points at once; each alone can always be signalled.
    pub(crate) signals: Cell<u32>,
}

fn refused(count: &Cell<u32>) -> Result<(), ReleaseError> {
    match count.get() {
        0 => Ok(()),
        left => {
            count.set(left - 1);
            Err(ReleaseError::Point(TimelineError::Unmaterialised))
        }
    }
}

/// Where a release goes: a point on the client's timeline, or `wl_buffer.release`.
#[derive(Debug)]
pub(crate) struct ReleasePoint {
    pub(crate) implicit: bool,
    signals: RefCell<Vec<SimFence>>,
    refusals: Rc<Refusals>,
}

impl ReleasePoint {
    pub(crate) fn new(implicit: bool, refusals: &Rc<Refusals>) -> Rc<Self> {
        Rc::new(Self { implicit, signals: RefCell::default(), refusals: Rc::clone(refusals) })
    }

    /// How often it was given a fence. The kernel would put up with more than one; no client does.
    pub(crate) fn materialised(&self) -> usize {
        self.signals.borrow().len()
    }

    /// Whether the client sees it signalled.
    pub(crate) fn is_signalled(&self) -> bool {
        self.signals.borrow().iter().any(SimFence::is_done)
    }
}

/// What the release decision is given for a [`ReleasePoint`].
#[derive(Debug)]
pub(crate) struct Target(pub(crate) Rc<ReleasePoint>);

impl Sink<SimFence> for Target {
    fn goes_by_fence(&self) -> bool {
        !self.0.implicit
    }

    fn merge(&self, first: &SimFence, rest: &[SimFence]) -> Result<SimFence, ReleaseError> {
        refused(&self.0.refusals.merges)?;
        let all = std::iter::once(first).chain(rest).cloned().collect();
        Ok(SimFence::all(all))
    }

    fn import(&self, fence: &SimFence) -> Result<(), ReleaseError> {
        refused(&self.0.refusals.imports)?;
        if !self.0.implicit {
            self.0.signals.borrow_mut().push(fence.clone());
        }
        Ok(())
    }

    fn signal(&self) -> Result<(), ReleaseError> {
        self.0.signals.borrow_mut().push(SimFence::new(Status::Signalled));
        Ok(())
    }

    fn signal_all<'a>(targets: impl Iterator<Item = &'a Self>) -> Result<(), ReleaseError> {
        let mut targets = targets.peekable();
        targets.peek().map_or(Ok(()), |target| refused(&target.0.refusals.signals))?;
        targets.try_for_each(|target| target.signal())
    }
}

/// One render pass.
#[derive(Debug)]
struct Job {
    waits: Vec<SimFence>,
    reads: Vec<CommitNo>,
    done: SimFence,
}

/// What a CRTC is to show, or shows: the client buffers on its planes.
#[derive(Debug, Default)]
struct Planes {
    commits: Vec<CommitNo>,
}

#[derive(Debug)]
struct Flip {
    planes: Planes,
    in_fences: Vec<SimFence>,
    /// The pass whose picture it shows, if any: it must be done at the flip.
    pass: Option<SimFence>,
    out_fence: SimFence,
}

/// One CRTC.
#[derive(Debug, Default)]
struct Crtc {
    shown: Planes,
    pending: Option<Flip>,
}

/// A KMS commit as the compositor makes it.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    /// The client buffers on planes.
    pub(crate) planes: Vec<CommitNo>,
    /// `IN_FENCE_FD` of all planes.
    pub(crate) in_fences: Vec<SimFence>,
    /// The pass that drew the rest.
    pub(crate) pass: Option<SimFence>,
}

/// A commit is in flight on this CRTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) refusals: Rc<Refusals>,
    /// Acquire fences that have not signalled.
    pub(crate) acquires: Vec<SimFence>,
    jobs: VecDeque<Job>,
    crtcs: Vec<Crtc>,
}

impl Kernel {
    pub(crate) fn new(crtcs: usize) -> Self {
        Self { crtcs: (0..crtcs).map(|_| Crtc::default()).collect(), ..Self::default() }
    }

    /// An acquire point as a client names it.
    pub(crate) fn acquire(&mut self, status: Status) -> SimFence {
        let fence = SimFence::new(status);
        if !status.is_done() {
            self.acquires.push(fence.clone());
        }
        fence
    }

    /// Starts a pass that reads `reads` once `waits` have signalled; returns its fence.
    pub(crate) fn submit(
        &mut self,
        reads: Vec<CommitNo>,
        waits: Vec<SimFence>,
        checker: &mut Checker,
    ) -> Checked<SimFence> {
        for read in &reads {
            checker.read_begins(*read, Reader::Gpu, &waits)?;
        }
        let done = SimFence::new(Status::Pending);
        self.jobs.push_back(Job { waits, reads, done: done.clone() });
        Ok(done)
    }

    /// Whether the oldest pass can end.
    pub(crate) fn gpu_can_go_on(&self) -> bool {
        self.jobs.front().is_some_and(|job| job.waits.iter().all(SimFence::is_done))
    }

    /// Ends the oldest pass.
    pub(crate) fn gpu_done(&mut self, checker: &mut Checker) -> Checked {
        let Some(job) = self.jobs.pop_front() else { return Ok(()) };
        for read in job.reads {
            checker.read_ends(read, Reader::Gpu);
        }
        job.done.set(Status::Signalled);
        checker.releases()
    }

    /// A non-blocking atomic commit; the result is its out-fence.
    pub(crate) fn commit(
        &mut self,
        crtc: usize,
        commit: Commit,
        checker: &mut Checker,
    ) -> Checked<Result<SimFence, Busy>> {
        let reader = Reader::Crtc(crtc);
        let Some(state) = self.crtcs.get_mut(crtc).filter(|crtc| crtc.pending.is_none()) else {
            return Ok(Err(Busy));
        };
        for read in commit.planes.iter().filter(|read| !state.shown.commits.contains(read)) {
            checker.read_begins(*read, reader, &commit.in_fences)?;
        }
        let out_fence = SimFence::new(Status::Pending);
        state.pending = Some(Flip {
            planes: Planes { commits: commit.planes },
            in_fences: commit.in_fences,
            pass: commit.pass,
            out_fence: out_fence.clone(),
        });
        Ok(Ok(out_fence))
    }

    /// Whether the next vblank flips.
    pub(crate) fn can_flip(&self, crtc: usize) -> bool {
        let pending = self.crtcs.get(crtc).and_then(|crtc| crtc.pending.as_ref());
        pending.is_some_and(|flip| flip.in_fences.iter().all(SimFence::is_done))
    }

    /// A vblank that flips.
    pub(crate) fn flip(&mut self, crtc: usize, checker: &mut Checker) -> Checked {
        let Some(state) = self.crtcs.get_mut(crtc) else { return Ok(()) };
        let Some(flip) = state.pending.take() else { return Ok(()) };
        checker.flips(&flip.planes.commits, flip.pass.as_ref())?;
        let before = std::mem::replace(&mut state.shown, flip.planes);
        for gone in before.commits.iter().filter(|commit| !state.shown.commits.contains(commit)) {
            checker.read_ends(*gone, Reader::Crtc(crtc));
        }
        flip.out_fence.set(Status::Signalled);
        checker.releases()
    }

    /// Switches a CRTC off; what was in flight is over, and nothing is scanned out any more.
    pub(crate) fn disable(&mut self, crtc: usize, checker: &mut Checker) -> Checked {
        let Some(state) = self.crtcs.get_mut(crtc).map(std::mem::take) else { return Ok(()) };
        let new = state.pending.as_ref().map(|flip| flip.planes.commits.clone()).unwrap_or_default();
        let shown = state.shown.commits;
        for commit in new.iter().filter(|commit| !shown.contains(commit)).chain(&shown) {
            checker.read_ends(*commit, Reader::Crtc(crtc));
        }
        if let Some(flip) = state.pending {
            flip.out_fence.set(Status::Signalled);
        }
        checker.releases()
    }

    /// Whether the GPU and the CRTCs have nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.crtcs.iter().all(|crtc| crtc.pending.is_none())
    }
}
