//! The pure chain in the steady state: one surface, a new buffer for each frame, everything on time or a fence late.

use std::cell::Cell;
use std::rc::Rc;

use fencepost::buffer::lease::{Consumer, Due, Lease, Ledger};
use fencepost::fence::release::{Outcome, ReleaseError, Sink, resolve_all};
use fencepost::fence::{Fence, Status};
use fencepost::surface::{Applied, Attached, PointOrder, Queue, Sync, validate};

/// A fence that others can signal. Cloning shares it, as with an fd.
#[derive(Clone, Debug)]
pub(crate) struct SimFence(Rc<Cell<Status>>);

impl SimFence {
    fn pending() -> Self {
        Self(Rc::new(Cell::new(Status::Pending)))
    }
}

impl Fence for SimFence {
    fn status(&self) -> Status {
        self.0.get()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Point(u64);

impl PointOrder for Point {
    fn conflicts_with(&self, release: &Self) -> bool {
        self.0 >= release.0
    }
}

#[derive(Debug)]
pub(crate) struct Target {
    released: Rc<Cell<u64>>,
}

impl Sink<SimFence> for Target {
    fn goes_by_fence(&self) -> bool {
        true
    }

    fn merge(&self, first: &SimFence, _: &[SimFence]) -> Result<SimFence, ReleaseError> {
        Ok(first.clone())
    }

    fn import(&self, _: &SimFence) -> Result<(), ReleaseError> {
        self.signal()
    }

    fn signal(&self) -> Result<(), ReleaseError> {
        self.released.set(self.released.get() + 1);
        Ok(())
    }

    fn signal_all<'a>(mut targets: impl Iterator<Item = &'a Self>) -> Result<(), ReleaseError> {
        targets.try_for_each(|target| target.signal())
    }
}

/// What a queued commit brings, as `buffer/content.rs` has it for what concerns synchronisation.
type Picture = Lease<SimFence, Target>;

/// One surface, its queue, and what it shows.
#[derive(Debug)]
pub(crate) struct Chain {
    queue: Queue<SimFence, Picture>,
    ledger: Ledger<SimFence, Target>,
    due: Vec<Due<SimFence, Target>>,
    shown: Option<Picture>,
    released: Rc<Cell<u64>>,
    /// The fence of the last pass, and that of the client's work: made by the kernel, not by us.
    fences: [SimFence; 2],
    commits: u64,
}

impl Chain {
    pub(crate) fn new() -> Self {
        Self {
            queue: Queue::default(),
            ledger: Ledger::default(),
            due: Vec::new(),
            shown: None,
            released: Rc::default(),
            fences: [SimFence::pending(), SimFence::pending()],
            commits: 0,
        }
    }

    /// One commit, from the client's request to the release of the buffer before. `late` says whether its fence is.
    pub(crate) fn frame(&mut self, late: bool) {
        self.commits += 1;
        let [pass, acquire] = &self.fences;
        let sync = validate(true, Attached::Explicit, Some(Point(1)), Some(Point(2)));
        assert!(matches!(sync, Ok(Sync::Explicit { .. })), "a good commit");
        let lease = Lease::new(Target { released: Rc::clone(&self.released) }, &self.ledger);
        acquire.0.set(if late { Status::Pending } else { Status::Signalled });
        let waits = if late { vec![acquire.clone()] } else { Vec::new() };
        let (id, open) = self.queue.push(waits, Some(lease)).expect("room in the queue");
        if !open {
            acquire.0.set(Status::Signalled);
            assert_eq!(self.queue.poll(|_, _| {}), Some(id));
        }
        let Applied { content, superseded } = self.queue.apply(id);
        drop(superseded);
        self.shown = content;
        if let Some(shown) = &self.shown {
            let scene = shown.clone();
            scene.used_until(Consumer::Renderer, pass.clone());
        }
        self.ledger.take_into(&mut self.due);
        resolve_all(self.due.drain(..).map(|due| (due.target, due.fences, ())), |(), outcome| {
            assert!(matches!(outcome, Outcome::Released | Outcome::ByFence(_)), "{outcome:?}");
        });
    }

    /// Commits, and releases of them.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.commits, self.released.get())
    }
}
