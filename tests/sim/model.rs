//! The compositor of the model: the real queue, lease, release decision and frame machine, joined as
//! `wayland/commit.rs`, `compositor/` and `buffer/release.rs` join them, on the simulated kernel.
//!
//! Holds no rule of its own beyond that joining. Faults are injected here, at the seams, to see the checker find them.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use fencepost::buffer::lease;
use fencepost::fence::release::{Outcome, resolve_all};
use fencepost::fence::{Fence, Status};
use fencepost::surface::{self, Attached, CommitId, PointOrder, Queue, Sync, validate};

use crate::action::{Acquire, Action, Coverage, Fault};
use crate::checker::{Checked, Checker, CommitNo, Shows};
use crate::kernel::{Kernel, ReleasePoint, SimFence, Target};
use crate::output::Output;

pub(crate) type Lease = lease::Lease<SimFence, Target>;

#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) no: CommitNo,
    pub(crate) acquire: SimFence,
    pub(crate) lease: Option<Lease>,
}

#[derive(Debug)]
enum Change {
    Attach(Picture),
    Detach(CommitNo),
}

#[derive(Debug)]
pub(crate) struct Surface {
    /// Unlike its slot, never used again.
    id: usize,
    queue: Queue<SimFence, Change>,
    /// The newest open commit; the gates of smithay's transactions look at it.
    opened: CommitId,
    shown: Option<CommitNo>,
    pub(crate) picture: Option<Picture>,
    pub(crate) wants_frame: bool,
    /// Its buffers are copied when they are first drawn.
    pub(crate) copied: bool,
    /// The outputs it is on, as bits.
    pub(crate) outputs: u32,
}

/// Commits that smithay applies together: those of a tree, or one.
#[derive(Debug)]
struct Transaction {
    /// Slot, commit, and whether a frame callback comes with it.
    members: Vec<(usize, CommitId, bool)>,
}

/// A place on a timeline; acquire and release points of a surface are on timelines of their own.
#[derive(Clone, Copy, Debug)]
struct Place {
    timeline: usize,
    value: u64,
}

impl PointOrder for Place {
    fn conflicts_with(&self, release: &Self) -> bool {
        self.timeline == release.timeline && self.value >= release.value
    }
}

/// The whole model.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) now: Duration,
    pub(crate) fault: Option<Fault>,
    /// Outputs flip on a grid, and have done so for long when they are plugged in: they latch at the last moment.
    pub(crate) steady: bool,
    pub(crate) kernel: Kernel,
    pub(crate) checker: Checker,
    pub(crate) outputs: Vec<Output>,
    pub(crate) surfaces: Vec<Option<Surface>>,
    pub(crate) coverage: Coverage,
    connected: Vec<bool>,
    transactions: Vec<Transaction>,
    ledger: lease::Ledger<SimFence, Target>,
    waiting: Vec<(Target, Vec<SimFence>)>,
    /// The fences of [`Acquire::Named`].
    named: Vec<SimFence>,
    next_surface: usize,
}

/// Surface slots of a client.
pub(crate) const SURFACES_PER_CLIENT: usize = 2;

impl Model {
    /// Clients without surfaces, and dark outputs.
    pub(crate) fn new(clients: usize, outputs: usize, fault: Option<Fault>) -> Self {
        Self {
            now: Duration::from_secs(1),
            fault,
            steady: false,
            kernel: Kernel::new(outputs),
            checker: Checker::new(outputs),
            outputs: (0..outputs).map(|_| Output::new()).collect(),
            surfaces: (0..clients * SURFACES_PER_CLIENT).map(|_| None).collect(),
            coverage: Coverage::default(),
            connected: vec![true; clients],
            transactions: Vec::new(),
            ledger: lease::Ledger::default(),
            waiting: Vec::new(),
            named: Vec::new(),
            next_surface: 0,
        }
    }

    /// Takes one step, lets the event loop come to rest, and checks everything. False if the step was not possible.
    pub(crate) fn act(&mut self, action: Action) -> Checked<bool> {
        self.now += Duration::from_millis(1);
        let done = self.step(action)?;
        self.turn()?;
        Ok(done)
    }

    fn step(&mut self, action: Action) -> Checked<bool> {
        use Action::*;
        let outputs = self.outputs.len();
        match action {
            Commit { surface, acquire, implicit } => self.commit(&[(surface, acquire)], implicit),
            CommitTree { parent, child, acquires, twice } => {
                let (parent, child) = (self.slot(parent), self.slot(child));
                if parent == child || self.client_of(parent) != self.client_of(child) {
                    return Ok(false);
                }
                let child = (child, acquires[1]);
                match twice {
                    true => self.commit(&[child, child, (parent, acquires[0])], false),
                    false => self.commit(&[child, (parent, acquires[0])], false),
                }
            }
            Detach { surface } => self.detach(surface),
            AskFrame { surface } => self.ask_frame(surface),
            CommitWrongly { surface } => self.commit_wrongly(surface),
            Burst { surface } => {
                for _ in 0..=surface::queue::MAX_QUEUED_COMMITS {
                    if !self.commit(&[(surface, Acquire::Done)], false)? {
                        return Ok(false);
                    }
                    // The end of the burst would not show it: an overflow clears the queue.
                    self.bounded()?;
                }
                Ok(true)
            }
            Create { surface, copied, outputs } => Ok(self.create(surface, copied, outputs)),
            Destroy { surface } => self.destroy(surface),
            Disconnect { client } => self.disconnect(client % self.connected.len()),
            Connect { client } => {
                let client = client % self.connected.len();
                Ok(!std::mem::replace(&mut self.connected[client], true))
            }
            Materialise { fence } => Ok(self.advance(fence, Status::Pending)),
            Signal { fence } => Ok(self.advance(fence, Status::Signalled)),
            Fail { fence } => Ok(self.advance(fence, Status::Failed(-5))),
            SignalNamed(name) => {
                self.named(name).set(Status::Signalled);
                Ok(true)
            }
            Gpu => match self.kernel.gpu_can_go_on() {
                true => self.kernel.gpu_done(&mut self.checker).map(|()| true),
                false => Ok(false),
            },
            Timer { output } => self.timer(output % outputs),
            Vblank { output } => self.vblank(output % outputs),
            Plug { output } => self.plug(output % outputs),
            Unplug { output } => self.unplug(output % outputs),
            Pause { output } => self.pause(output % outputs),
            Resume { output } => self.resume(output % outputs),
            Direct { output, direct } => {
                self.outputs[output % outputs].direct = direct;
                Ok(true)
            }
            RefuseCommit { output, outcome } => {
                self.outputs[output % outputs].refuse = Some(outcome);
                Ok(true)
            }
            RefuseMerge => Ok(self.kernel.refusals.merges.replace(1) == 0),
            RefuseImport => Ok(self.kernel.refusals.imports.replace(1) == 0),
            RefuseSignals => Ok(self.kernel.refusals.signals.replace(1) == 0),
            Wait { ms } => {
                self.now += Duration::from_millis(ms);
                Ok(true)
            }
        }
    }

    fn slot(&self, surface: usize) -> usize {
        surface % self.surfaces.len()
    }

    fn client_of(&self, slot: usize) -> usize {
        slot / SURFACES_PER_CLIENT
    }

    fn create(&mut self, surface: usize, copied: bool, outputs: u32) -> bool {
        let slot = self.slot(surface);
        if self.surfaces[slot].is_some() || !self.connected[self.client_of(slot)] {
            return false;
        }
        self.next_surface += 1;
        self.surfaces[slot] = Some(Surface {
            id: self.next_surface,
            queue: Queue::default(),
            opened: CommitId::default(),
            shown: None,
            picture: None,
            wants_frame: false,
            copied,
            outputs,
        });
        true
    }

    /// Commits a buffer on each of some surfaces, applied together.
    fn commit(&mut self, members: &[(usize, Acquire)], implicit: bool) -> Checked<bool> {
        let members: Vec<_> = members.iter().map(|(surface, how)| (self.slot(*surface), *how)).collect();
        if members.iter().any(|(slot, _)| self.surfaces[*slot].is_none()) {
            return Ok(false);
        }
        self.coverage.commits += 1;
        let mut transaction: Vec<(usize, CommitId, bool)> = Vec::new();
        let mut update = Vec::new();
        let alone = members.len() == 1;
        for (slot, how) in members {
            let acquire = self.acquire(how, implicit);
            let Some(surface) = &self.surfaces[slot] else { return Ok(false) };
            let release = ReleasePoint::new(implicit, &self.kernel.refusals);
            let no = self.checker.committed(surface.id, &acquire, &release);
            update.push((surface.id, Shows::Buffer(no, acquire.clone())));
            let place = |timeline| Some(Place { timeline, value: no.0 });
            let points = match implicit {
                true => (None, None),
                false => (place(2 * slot), place(2 * slot + 1)),
            };
            let sync = validate(!implicit, Attached::Explicit, points.0, points.1);
            assert!(
                matches!(sync, Ok(Sync::Implicit | Sync::Explicit { .. })),
                "a commit that keeps the rules"
            );
            let lease = Lease::new(Target(release), &self.ledger);
            let picture = Picture { no, acquire: acquire.clone(), lease: Some(lease) };
            let waits = self.waits(slot, acquire, alone);
            match self.push(slot, waits, Some(Change::Attach(picture))) {
                Ok(id) => {
                    // The cached state of a synchronised child is one, however often it commits.
                    transaction.retain(|(of, _, _)| *of != slot);
                    transaction.push((slot, id, false));
                }
                Err(surface::Overflow) => return self.overflow(slot),
            }
        }
        self.checker.update(update);
        self.transact(transaction)?;
        Ok(true)
    }

    fn acquire(&mut self, how: Acquire, implicit: bool) -> SimFence {
        match how {
            Acquire::Named(name) => self.named(name).clone(),
            Acquire::Done => self.kernel.acquire(Status::Signalled),
            // What is in a dma-buf is a fence.
            Acquire::Unmaterialised if !implicit => self.kernel.acquire(Status::Unmaterialised),
            Acquire::Pending | Acquire::Unmaterialised => self.kernel.acquire(Status::Pending),
        }
    }

    fn named(&mut self, name: usize) -> &SimFence {
        while self.named.len() <= name {
            self.named.push(SimFence::new(Status::Pending));
        }
        &self.named[name]
    }

    fn waits(&self, slot: usize, acquire: SimFence, alone: bool) -> Vec<SimFence> {
        let mut waits: Vec<_> = Some(acquire).filter(|fence| !fence.is_done()).into_iter().collect();
        match self.fault {
            Some(Fault::EarlySample | Fault::NoPlaneFence) => waits.clear(),
            // The CPU, which copies, cannot be given a fence.
            Some(Fault::Unmaterialised)
                if alone && self.surfaces[slot].as_ref().is_some_and(|s| !s.copied) =>
            {
                waits.clear();
            }
            Some(Fault::HeldByOthers) => {
                let others = self.surfaces.iter().enumerate().filter(|(other, _)| *other != slot);
                let others = others.filter_map(|(_, other)| other.as_ref());
                waits.extend(others.flat_map(|other| other.queue.waiting().map(|(_, fence)| fence.clone())));
            }
            _ => {}
        }
        waits
    }

    fn push(
        &mut self,
        slot: usize,
        waits: Vec<SimFence>,
        change: Option<Change>,
    ) -> Result<CommitId, surface::Overflow> {
        let Some(surface) = &mut self.surfaces[slot] else { return Err(surface::Overflow) };
        let (id, open) = surface.queue.push(waits, change)?;
        if open {
            surface.opened = id;
        }
        Ok(id)
    }

    fn transact(&mut self, members: Vec<(usize, CommitId, bool)>) -> Checked {
        match self.fault {
            Some(Fault::SplitTree) => self
                .transactions
                .extend(members.into_iter().map(|member| Transaction { members: vec![member] })),
            _ => self.transactions.push(Transaction { members }),
        }
        self.apply_ready()
    }

    fn overflow(&mut self, slot: usize) -> Checked<bool> {
        self.coverage.overflows += 1;
        let client = self.client_of(slot);
        if self.fault != Some(Fault::IgnoredOverflow) {
            self.disconnect(client)?;
        }
        self.checker.overflowed(self.connected[client])?;
        Ok(false)
    }

    fn detach(&mut self, surface: usize) -> Checked<bool> {
        let slot = self.slot(surface);
        let Some(id) = self.surfaces[slot].as_ref().map(|surface| surface.id) else { return Ok(false) };
        let no = self.checker.number();
        match self.push(slot, Vec::new(), Some(Change::Detach(no))) {
            Ok(commit) => {
                self.checker.update(vec![(id, Shows::Nothing(no))]);
                self.transact(vec![(slot, commit, false)])?;
                Ok(true)
            }
            Err(surface::Overflow) => self.overflow(slot),
        }
    }

    fn ask_frame(&mut self, surface: usize) -> Checked<bool> {
        let slot = self.slot(surface);
        let Some(id) = self.surfaces[slot].as_ref().map(|surface| surface.id) else { return Ok(false) };
        match self.push(slot, Vec::new(), None) {
            Ok(commit) => {
                self.checker.update(vec![(id, Shows::Same)]);
                self.transact(vec![(slot, commit, true)])?;
                Ok(true)
            }
            Err(surface::Overflow) => self.overflow(slot),
        }
    }

    /// A buffer whose release point does not come after its acquire point.
    fn commit_wrongly(&mut self, surface: usize) -> Checked<bool> {
        let slot = self.slot(surface);
        if self.surfaces[slot].is_none() {
            return Ok(false);
        }
        let place = Some(Place { timeline: 0, value: 1 });
        if validate(true, Attached::Explicit, place, place).is_err() {
            self.coverage.violations += 1;
            self.disconnect(self.client_of(slot))?;
        }
        Ok(true)
    }

    fn destroy(&mut self, surface: usize) -> Checked<bool> {
        let slot = self.slot(surface);
        let Some(mut surface) = self.surfaces[slot].take() else { return Ok(false) };
        self.checker.surface_gone(surface.id);
        drop(surface.queue.clear());
        for transaction in &mut self.transactions {
            transaction.members.retain(|(of, _, _)| *of != slot);
        }
        self.transactions.retain(|transaction| !transaction.members.is_empty());
        self.tell_outputs(surface.outputs, true)?;
        Ok(true)
    }

    fn disconnect(&mut self, client: usize) -> Checked<bool> {
        if !std::mem::replace(&mut self.connected[client], false) {
            return Ok(false);
        }
        for slot in client * SURFACES_PER_CLIENT..(client + 1) * SURFACES_PER_CLIENT {
            self.destroy(slot)?;
        }
        Ok(true)
    }

    fn advance(&mut self, fence: usize, to: Status) -> bool {
        if self.kernel.acquires.is_empty() {
            return false;
        }
        let at = fence % self.kernel.acquires.len();
        let fence = &self.kernel.acquires[at];
        if to == Status::Pending && fence.status() != Status::Unmaterialised {
            return false;
        }
        fence.set(to);
        if to.is_done() {
            self.kernel.acquires.swap_remove(at);
        }
        true
    }

    /// The event loop, until it has nothing to do.
    fn turn(&mut self) -> Checked {
        self.checker.releases()?;
        for surface in self.surfaces.iter_mut().flatten() {
            let failed = &mut self.coverage.failed_fences;
            if let Some(newest) = surface.queue.poll(|_, _| *failed += 1) {
                surface.opened = newest;
            }
        }
        self.apply_ready()?;
        self.settle();
        self.checker.releases()?;
        self.check()
    }

    /// As smithay's transaction queue: in order, and each when all of its members are open.
    fn apply_ready(&mut self) -> Checked {
        let mut blocked = BTreeSet::new();
        let mut ready = Vec::new();
        let overtaking = self.fault == Some(Fault::Overtaking);
        let surfaces = &self.surfaces;
        self.transactions.retain_mut(|transaction| {
            let open = transaction.members.iter().all(|(slot, id, _)| {
                let surface = surfaces[*slot].as_ref();
                surface.is_some_and(|surface| match overtaking {
                    true => !surface.queue.waiting().any(|(waiting, _)| waiting == *id),
                    false => surface.opened >= *id && !blocked.contains(slot),
                })
            });
            match open {
                true => ready.append(&mut transaction.members),
                false => blocked.extend(transaction.members.iter().map(|(slot, _, _)| *slot)),
            }
            !open
        });
        for (slot, id, asks_frame) in ready {
            self.apply(slot, id, asks_frame)?;
        }
        Ok(())
    }

    fn apply(&mut self, slot: usize, id: CommitId, asks_frame: bool) -> Checked {
        let Some(surface) = &mut self.surfaces[slot] else { return Ok(()) };
        let surface::Applied { content, superseded } = surface.queue.apply(id);
        self.coverage.superseded += superseded.len() as u64;
        drop(superseded);
        let changed = content.is_some();
        match content {
            Some(Change::Attach(picture)) => {
                self.checker.applied(picture.no)?;
                surface.shown = Some(picture.no);
                surface.picture = Some(picture);
            }
            Some(Change::Detach(no)) => {
                surface.shown = Some(no);
                surface.picture = None;
            }
            None => {}
        }
        surface.wants_frame |= asks_frame;
        let (outputs, mapped, wants_frame) =
            (surface.outputs, surface.picture.is_some(), surface.wants_frame);
        if changed {
            self.tell_outputs(outputs, true)?;
        }
        // A surface without content is on no output; its callbacks come when it has some.
        if mapped && wants_frame {
            self.tell_outputs(outputs, false)?;
        }
        Ok(())
    }

    /// As `buffer/release.rs`.
    fn settle(&mut self) {
        let due = self.ledger.take().into_iter().map(|due| (due.target, due.fences));
        self.release(due.collect());
        let (over, waiting): (Vec<_>, _) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(_, fences)| fences.iter().all(SimFence::is_done));
        self.waiting = waiting;
        for (target, _) in over {
            self.release(vec![(target, Vec::new())]);
        }
    }

    fn release(&mut self, mut due: Vec<(Target, Vec<SimFence>)>) {
        match self.fault {
            Some(Fault::ReleaseLost) if self.coverage.commits % 16 == 7 => return,
            Some(Fault::ReleaseEarly) => due.iter_mut().for_each(|(_, fences)| fences.clear()),
            Some(Fault::ReleaseTwice) => {
                let again =
                    due.iter().map(|(target, fences)| (Target(Rc::clone(&target.0)), fences.clone(), ()));
                resolve_all(again, |(), _| {});
            }
            _ => {}
        }
        let due = due.into_iter().map(|(target, fences)| (target, fences, ()));
        resolve_all(due, |(), outcome| match outcome {
            Outcome::Released => {}
            Outcome::ByFence(_) => self.coverage.by_fence += 1,
            Outcome::Wait { target, fences } => {
                self.coverage.waited_releases += 1;
                self.waiting.push((target, fences));
            }
            Outcome::Lost(error) => {
                unreachable!("the model's kernel signals whatever it is asked to: {error}")
            }
        });
    }

    fn check(&mut self) -> Checked {
        self.bounded()?;
        let shown: std::collections::BTreeMap<_, _> =
            self.surfaces.iter().flatten().map(|surface| (surface.id, surface.shown)).collect();
        self.checker.settled(|id| shown.get(&id).copied().flatten())?;
        self.check_outputs()
    }

    fn bounded(&self) -> Checked {
        let queued = self.surfaces.iter().flatten().map(|surface| surface.queue.len()).max();
        self.checker.bounded(queued.unwrap_or(0), self.waiting.len())
    }

    /// The end of a run: every client goes, and its fences never signal if they have not; the GPU and the outputs finish
    /// what is theirs. Then nothing may be left.
    pub(crate) fn quiesce(&mut self) -> Checked {
        for client in 0..self.connected.len() {
            self.disconnect(client)?;
        }
        self.turn()?;
        for _ in 0..10_000 {
            let mut busy = self.act(Action::Gpu)?;
            for output in 0..self.outputs.len() {
                busy |= self.act(Action::Resume { output })?;
                busy |= self.act(Action::Vblank { output })?;
                busy |= self.act(Action::Timer { output })?;
            }
            if !busy {
                break;
            }
        }
        assert!(self.kernel.is_idle(), "the GPU and the displays have finished");
        assert!(self.outputs.iter().all(|output| output.timer.is_none()), "no timer is armed");
        assert!(self.ledger.is_empty() && self.waiting.is_empty(), "no release waits");
        assert!(self.transactions.is_empty(), "no transaction waits");
        self.checker.finished()
    }
}
