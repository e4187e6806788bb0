//! The acquire fences of a commit: which of them pend, and whether we wait for them or whoever reads the content.
//!
//! Owns the crossing from a point to the kernel fence behind it, the event-loop sources that wait, and what is known of each
//! surface's fences. What is handed over is `surface::policy`'s decision, and the order of commits `surface::queue`'s.

use std::{cell::Cell, collections::BTreeSet, rc::Rc, sync::Arc, time::Duration};

use smithay::{
    reexports::wayland_server::{Client, DisplayHandle, Resource, Weak, protocol::wl_surface::WlSurface},
    wayland::compositor::{get_children, get_parent, is_sync_subsurface},
};

use super::{
    ClientState,
    commit::{fence_fired, with_sync},
    disconnect, traced,
};
use crate::{
    buffer::content::{Change, Picture},
    compositor::Compositor,
    fence::{
        Fence, Status,
        roles::AcquireFence,
        sync_file::SyncFile,
        wait::{self, WaitToken},
    },
    surface::{
        Acquire, CommitId,
        policy::{Deadline, Judgement, Reason, Standing, Verdict},
    },
    trace::{self, Event, Text},
};

/// A fence that a queued commit waits for, and the event-loop source that tells of it.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) fence: AcquireFence,
    pub(super) committed_at: Duration,
    /// Set once the point that it waits for has got a fence, which is to be waited for next.
    materialised: Rc<Cell<bool>>,
    /// Removes the source when the wait is over, or the commit is gone.
    token: WaitToken,
    /// One of the client's [`MAX_WAITS`](super::MAX_WAITS).
    _count: Arc<()>,
}

impl Fence for Wait {
    fn status(&self) -> Status {
        match (self.fence.status(), &self.fence) {
            // Asked once: the queue lets a fence go that is done.
            (Status::Signalled, AcquireFence::SyncFile(fence)) => {
                fence.error().map_or(Status::Signalled, Status::Failed)
            }
            (status, _) => status,
        }
    }
}

/// The client waits for more than it may.
#[derive(Debug, thiserror::Error)]
#[error("too many commits wait for fences that do not signal; no more are accepted")]
struct TooManyWaits;

/// What is known of a surface's fences.
#[derive(Debug, Default)]
pub struct Acquiring {
    /// What its fences have been like.
    pub standing: Standing,
    /// The last decision.
    pub verdict: Option<Verdict>,
    /// The fence to be judged next.
    open: Option<Open>,
    /// What was committed as one, and not decided because a fence of it was missing.
    undecided: Vec<Vec<(Weak<WlSurface>, CommitId)>>,
}

/// A pending fence whose end is to be judged.
#[derive(Debug)]
struct Open {
    fence: SyncFile,
    deadline: Deadline,
    from: Duration,
    handed_over: bool,
    judged: bool,
}

impl Acquiring {
    /// Judges the open fence as far as it can be at `now`.
    fn judge(&mut self, now: Duration) -> Option<Judgement> {
        let open = self.open.as_mut()?;
        let done = open.fence.status().is_done();
        let until = match open.fence.signalled_at_ns() {
            Ok(Some(at_ns)) if done => Duration::from_nanos(at_ns),
            _ => now,
        };
        let missed = until > open.deadline.at.saturating_add(open.deadline.refresh);
        let judgement =
            (!open.judged && (done || missed)).then(|| self.standing.judge(open.deadline, open.from, until));
        open.judged |= judgement.is_some();
        // A fence that was waited for and is known to be late says nothing more.
        if done || open.judged && !open.handed_over {
            self.open = None;
        }
        judgement
    }

    fn is_unjudged(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.handed_over)
    }
}

/// Those of `fences` that have not signalled, and of points the kernel fence behind them, once there is one: it can be
/// waited for and let go like any file, takes a deadline, and tells of an error.
pub(super) fn pending(
    state: &mut Compositor,
    surface: &WlSurface,
    id: CommitId,
    fences: Vec<AcquireFence>,
) -> Vec<AcquireFence> {
    let mut pending = Vec::new();
    for fence in fences {
        match fence.status() {
            Status::Signalled => {}
            Status::Failed(errno) => report_failed(state, surface, id, errno),
            Status::Unmaterialised => pending.push(fence),
            Status::Pending => pending.push(kernel_fence(&fence).unwrap_or(fence)),
        }
    }
    pending
}

/// The kernel fence behind a point; `None` for what has none, or where it cannot be had: then the point itself is waited
/// for.
fn kernel_fence(fence: &AcquireFence) -> Option<AcquireFence> {
    let AcquireFence::Point(_) = fence else { return None };
    let exported =
        fence.hand_over().inspect_err(|error| tracing::warn!("a point is waited for itself: {error}"));
    exported.ok().flatten().map(AcquireFence::SyncFile)
}

/// Sets up an event-loop source for each of `pending`; `None` if the client has to go.
pub(super) fn set_up_waits(
    state: &Compositor,
    display: &DisplayHandle,
    client: &Client,
    surface: &WlSurface,
    pending: Vec<AcquireFence>,
) -> Option<Vec<Wait>> {
    let committed_at = trace::now();
    let deadline = if pending.is_empty() { None } else { state.acquire_deadline(surface, committed_at) };
    let mut waits = Vec::with_capacity(pending.len());
    for fence in pending {
        let too_many = match &fence {
            AcquireFence::Point(point) => !point.timeline().has_room(),
            AcquireFence::SyncFile(_) | AcquireFence::DmaBufPoll(_) => false,
        };
        let count = ClientState::of(client).and_then(ClientState::count_wait);
        let Some(count) = count.filter(|_| !too_many) else {
            disconnect::exhausted(display, client, &TooManyWaits);
            return None;
        };
        let materialised = Rc::default();
        match arm(state, surface, &fence, &materialised, deadline) {
            Ok(token) => waits.push(Wait { fence, committed_at, materialised, token, _count: count }),
            // Not ready, and nobody would ever say so.
            Err(error) => {
                disconnect::failed(display, client, &error);
                return None;
            }
        }
    }
    Some(waits)
}

/// Waits for a fence; for a point without one until it has got one.
fn arm(
    state: &Compositor,
    surface: &WlSurface,
    fence: &AcquireFence,
    materialised: &Rc<Cell<bool>>,
    deadline: Option<Deadline>,
) -> Result<WaitToken, wait::WaitError> {
    let weak = surface.downgrade();
    match fence {
        AcquireFence::Point(point) if !point.is_materialised() => {
            let materialised = materialised.clone();
            wait::wait_materialised(&state.handle, point, move |state: &mut Compositor| {
                materialised.set(true);
                fence_fired(state, weak);
            })
        }
        AcquireFence::Point(_) | AcquireFence::SyncFile(_) | AcquireFence::DmaBufPoll(_) => {
            if let (AcquireFence::SyncFile(fence), Some(deadline)) = (fence, deadline) {
                set_deadline(fence, deadline);
            }
            wait::wait(&state.handle, fence, move |state: &mut Compositor| fence_fired(state, weak))
        }
    }
}

/// Tells the driver when we need it; it may do nothing about it.
fn set_deadline(fence: &SyncFile, deadline: Deadline) {
    let at_ns = u64::try_from(deadline.at.as_nanos()).unwrap_or(u64::MAX);
    if let Err(error) = fence.set_deadline(at_ns) {
        tracing::debug!("a fence takes no deadline: {error}");
    }
}

/// Points of this surface have got fences: these are waited for now, or handed over. Returns other surfaces whose commits may
/// open with it.
pub(super) fn materialised(state: &mut Compositor, surface: &WlSurface) -> Vec<WlSurface> {
    let Some(client) = surface.client() else { return Vec::new() };
    let deadline = state.acquire_deadline(surface, trace::now());
    let mut any = false;
    let armed = with_sync(surface, |sync| {
        for wait in sync.queue.waiting_mut().filter(|wait| wait.materialised.take()) {
            any = true;
            if let Some(fence) = kernel_fence(&wait.fence) {
                wait.fence = fence;
            }
            wait.token = arm(state, surface, &wait.fence, &wait.materialised, deadline)?;
        }
        Ok::<_, wait::WaitError>(())
    });
    if let Err(error) = armed {
        disconnect::failed(&state.display, &client, &error);
    }
    if !any || state.acquire_policy() == Acquire::Wait {
        return Vec::new();
    }
    let mut opened = Vec::new();
    let mut above = Some(surface.clone());
    while let Some(root) = above {
        opened.extend(decide_remembered(state, &root));
        above = get_parent(&root);
    }
    opened.retain(|other| other != surface);
    opened
}

/// Decides what was committed as one with `root`, as far as its fences have materialised. Returns the surfaces with commits
/// that may open now.
pub(super) fn decide_remembered(state: &mut Compositor, root: &WlSurface) -> Vec<WlSurface> {
    let trees = with_sync(root, |sync| std::mem::take(&mut sync.acquiring.undecided));
    trees.into_iter().flat_map(|tree| decide_tree(state, root, tree)).collect()
}

/// Judges what the surface's last fence has been like, for its record.
pub(super) fn judge(state: &mut Compositor, surface: &WlSurface) {
    let now = trace::now();
    let judgement = with_sync(surface, |sync| sync.acquiring.judge(now));
    if let Some(judgement) = judgement {
        let pid = ClientState::pid(surface.client().as_ref());
        state.record.judged(pid, judgement != Judgement::InTime);
        if judgement == Judgement::Miss {
            tracing::debug!("{} is demoted: its fence came more than a refresh late", surface.id());
        }
    }
}

/// Decides for a commit of a surface that applies by itself, and for what its synchronised subsurfaces have committed for
/// it: all of their fences are handed over, or none (I4). Returns whether `pending` went with `change`.
///
/// What cannot be decided yet is remembered for [`decide_remembered`].
pub(super) fn decide(
    state: &mut Compositor,
    surface: &WlSurface,
    id: CommitId,
    change: Option<&mut Change>,
    pending: &[AcquireFence],
) -> bool {
    if is_sync_subsurface(surface) {
        return false;
    }
    if state.acquire_policy() == Acquire::Wait {
        if !pending.is_empty() {
            state.record.decided(ClientState::pid(surface.client().as_ref()), false);
        }
        return false;
    }
    let mut tree = Vec::new();
    cached(surface, &mut tree);
    match change {
        _ if pending.is_empty() && tree.is_empty() => false,
        Some(Change::Attach(picture)) if tree.is_empty() => {
            match sync_files(pending) {
                Some(fences) => return decide_alone(state, surface, (id, picture), &fences),
                None => remember(surface, vec![(surface.downgrade(), id)]),
            }
            false
        }
        _ => {
            // The commit itself is not in its queue yet: it is looked at again once it is.
            if !pending.is_empty() {
                tree.push((surface.downgrade(), id));
            }
            remember(surface, tree);
            false
        }
    }
}

fn remember(root: &WlSurface, tree: Vec<(Weak<WlSurface>, CommitId)>) {
    with_sync(root, |sync| sync.acquiring.undecided.push(tree));
}

/// The commits of synchronised subsurfaces that apply with the commit of `surface` that happens now.
fn cached(surface: &WlSurface, tree: &mut Vec<(Weak<WlSurface>, CommitId)>) {
    for child in get_children(surface).into_iter().filter(is_sync_subsurface) {
        with_sync(&child, |sync| {
            // Those before are another commit's, which has decided or remembers them.
            let Some(first) = sync.taken_from else { return };
            let waiting = sync.queue.waiting().map(|(id, _)| id).filter(|id| *id >= first);
            let ids: BTreeSet<_> = waiting.collect();
            tree.extend(ids.into_iter().map(|id| (child.downgrade(), id)));
        });
        cached(&child, tree);
    }
}

/// The kernel fences, if all have one.
fn sync_files(fences: &[AcquireFence]) -> Option<Vec<SyncFile>> {
    let fences = fences.iter().map(|fence| match fence {
        AcquireFence::SyncFile(fence) => Some(fence.clone()),
        AcquireFence::Point(_) | AcquireFence::DmaBufPoll(_) => None,
    });
    fences.collect()
}

fn decide_alone(
    state: &mut Compositor,
    surface: &WlSurface,
    (id, picture): (CommitId, &mut Picture),
    fences: &[SyncFile],
) -> bool {
    let verdict = verdict(state, surface, picture, fences);
    let live = match SyncFile::merge_all(fences) {
        Ok(live) if verdict.hand_over => live,
        Ok(_) => None,
        Err(error) => {
            tracing::warn!("fences are waited for instead of handed over: {error}");
            None
        }
    };
    conclude(state, surface, verdict, fences);
    picture.live = live;
    if picture.live.is_some() {
        traced::handed_over(surface, id);
    }
    picture.live.is_some()
}

fn verdict(state: &mut Compositor, surface: &WlSurface, picture: &Picture, fences: &[SyncFile]) -> Verdict {
    judge(state, surface);
    let now = trace::now();
    let facts = state.acquire_facts(surface, &picture.buffer, fences, now);
    with_sync(surface, |sync| {
        let Acquiring { standing, .. } = sync.acquiring;
        standing.decide(state.acquire_policy(), facts, sync.acquiring.is_unjudged(), now)
    })
}

/// Takes note of a decision, and of the fence that it will be judged by.
fn conclude(state: &mut Compositor, surface: &WlSurface, verdict: Verdict, fences: &[SyncFile]) {
    let now = trace::now();
    let deadline = state.acquire_deadline(surface, now);
    if let Some(deadline) = deadline.filter(|_| verdict.hand_over) {
        fences.iter().for_each(|fence| set_deadline(fence, deadline));
    }
    with_sync(surface, |sync| {
        let acquiring = &mut sync.acquiring;
        if let (Some(deadline), Some(fence), None) = (deadline, fences.last(), &acquiring.open) {
            let handed_over = verdict.hand_over;
            acquiring.open =
                Some(Open { fence: fence.clone(), deadline, from: now, handed_over, judged: false });
        }
        if acquiring.verdict.replace(verdict) != Some(verdict) {
            let (number, reason) = (sync.number(), Text::new(verdict.reason.name()));
            trace::note(Event::Policy { surface: number, hand_over: verdict.hand_over, reason });
            let who = if verdict.hand_over { "are handed over" } else { "are waited for" };
            tracing::debug!("the fences of {} {who}: {:?}", surface.id(), verdict.reason);
        }
    });
    state.record.decided(ClientState::pid(surface.client().as_ref()), verdict.hand_over);
}

/// Decides for commits that apply as one. Returns the surfaces with commits that may open now.
fn decide_tree(
    state: &mut Compositor,
    root: &WlSurface,
    tree: Vec<(Weak<WlSurface>, CommitId)>,
) -> Vec<WlSurface> {
    let mut members = Vec::new();
    for (surface, id) in &tree {
        let Ok(surface) = surface.upgrade() else { continue };
        // Those that are open, or gone, have nothing to decide.
        let fences: Vec<_> = with_sync(&surface, |sync| {
            sync.queue.waiting().filter(|(of, _)| of == id).map(|(_, wait)| wait.fence.clone()).collect()
        });
        if fences.is_empty() {
            continue;
        }
        match sync_files(&fences) {
            Some(fences) => members.push((surface, *id, fences)),
            None if fences.iter().any(|fence| fence.status() == Status::Unmaterialised) => {
                remember(root, tree);
                return Vec::new();
            }
            None => return Vec::new(),
        }
    }
    let mut verdicts = Vec::with_capacity(members.len());
    for (surface, id, fences) in &members {
        judge(state, surface);
        let now = trace::now();
        // Taken out: the facts are about the surface's tree, which cannot be asked while its data is borrowed.
        let buffer = with_sync(surface, |sync| match sync.queue.content_mut(*id)? {
            Change::Attach(picture) => Some(picture.buffer.clone()),
            Change::Detach => None,
        });
        let facts = buffer.map(|buffer| state.acquire_facts(surface, &buffer, fences, now));
        let verdict = facts.map_or(Verdict { hand_over: false, reason: Reason::Consumer }, |facts| {
            with_sync(surface, |sync| {
                let unjudged = sync.acquiring.is_unjudged();
                sync.acquiring.standing.decide(state.acquire_policy(), facts, unjudged, now)
            })
        });
        verdicts.push(verdict);
    }
    let all = verdicts.iter().all(|verdict| verdict.hand_over);
    let mut opened = Vec::new();
    for ((surface, id, fences), verdict) in members.into_iter().zip(verdicts) {
        let verdict = match verdict.hand_over && !all {
            true => Verdict { hand_over: false, reason: Reason::Tree },
            false => verdict,
        };
        if verdict.hand_over && give(&surface, id, &fences) {
            opened.push(surface.clone());
        }
        conclude(state, &surface, verdict, &fences);
    }
    opened
}

/// Has the content of a queued commit take its fences along.
fn give(surface: &WlSurface, id: CommitId, fences: &[SyncFile]) -> bool {
    let live = match SyncFile::merge_all(fences) {
        Ok(live) => live,
        Err(error) => {
            tracing::warn!("fences are waited for instead of handed over: {error}");
            return false;
        }
    };
    let given = with_sync(surface, |sync| {
        sync.queue.hand_over(id, |change| {
            if let Change::Attach(picture) = change {
                picture.live = live;
            }
        })
    });
    if given {
        traced::handed_over(surface, id);
    }
    given
}

/// The kernel counts a fence that ended with an error as signalled, and so do we: the frame is shown as it is.
pub(super) fn report_failed(state: &mut Compositor, surface: &WlSurface, id: CommitId, errno: i32) {
    traced::failed(surface, id, errno);
    state.record.fence_failed(ClientState::pid(surface.client().as_ref()));
    tracing::warn!(
        "an acquire fence of {} ended with error {errno}; commit {} is shown as it is",
        surface.id(),
        id.0
    );
}
