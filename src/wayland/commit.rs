//! From `wl_surface.commit` to applied content: the front half of the chain.
//!
//! Gathers what a commit brings, has `surface/` judge and queue it, and sets up the waits. smithay's transactions
//! apply the rest of the surface state with it: a commit that waits adds a [`Gate`] to its transaction, so that a
//! synchronised subsurface tree applies as one and when the last of its fences has signalled (I4).

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use smithay::{
    reexports::wayland_server::{
        Client, DisplayHandle, Resource, Weak,
        protocol::{wl_buffer::WlBuffer, wl_surface::WlSurface},
    },
    utils::{Buffer, Logical, Point as Place, Rectangle, Size},
    wayland::{
        compositor::{
            Blocker, BlockerState, BufferAssignment, Cacheable, CompositorHandler, SubsurfaceCachedState,
            SurfaceAttributes, SurfaceData, add_blocker, get_children, get_role, is_sync_subsurface,
            with_states,
        },
        presentation::PresentationFeedbackCachedState,
        shell::xdg::{SurfaceCachedState as XdgCachedState, XDG_POPUP_ROLE},
    },
};

use super::{ClientState, disconnect, dmabuf::dmabuf_of, drm_syncobj::SyncobjSurface};
use crate::{
    buffer::{
        ClientBuffer, Release,
        content::{Change, Picture},
    },
    compositor::Compositor,
    fence::{
        Fence, Status,
        release::Target,
        roles::AcquireFence,
        timeline::Point,
        wait::{self, WaitToken},
    },
    shell::tree,
    surface::{self, Attached, CommitId, PointOrder, Queue, Sync, validate},
    trace::{self, SyncKind},
};

/// A fence that a queued commit waits for, and the event-loop source that tells of it.
#[derive(Debug)]
struct Wait {
    fence: AcquireFence,
    committed_at: Duration,
    /// Removes the source when the wait is over, or the commit is gone.
    _token: WaitToken,
    /// One of the client's [`MAX_WAITS`](super::MAX_WAITS).
    _count: Arc<()>,
}

/// How many eventfds a timeline may have registered and not fired (I8): the kernel keeps each until the timeline goes, also
/// after the surface that waited for it.
const MAX_EVENTFDS: u32 = 4096;

/// The client waits for more than it may.
#[derive(Debug, thiserror::Error)]
#[error("too many commits wait for fences that do not signal; no more are accepted")]
struct TooManyWaits;

impl Fence for Wait {
    fn status(&self) -> Status {
        self.fence.status()
    }
}

/// The synchronisation of one surface.
#[derive(Debug, Default)]
pub struct SurfaceSync {
    queue: Queue<Wait, Change>,
    opened: Arc<AtomicU64>,
    shape: Shape,
    /// The live linux-drm-syncobj object, with the points set since the last commit.
    pub explicit: Option<SyncobjSurface>,
}

/// Accesses the synchronisation state of a surface.
pub fn with_sync<T>(surface: &WlSurface, f: impl FnOnce(&mut SurfaceSync) -> T) -> T {
    with_states(surface, |states| sync_of(states, f))
}

fn sync_of<T>(states: &SurfaceData, f: impl FnOnce(&mut SurfaceSync) -> T) -> T {
    let cell = states.data_map.get_or_insert(RefCell::<SurfaceSync>::default);
    f(&mut cell.borrow_mut())
}

/// Names the commit that a cached surface state belongs to.
#[derive(Clone, Copy, Debug, Default)]
struct Tag(CommitId);

impl Cacheable for Tag {
    fn commit(&mut self, _display: &DisplayHandle) -> Self {
        *self
    }

    fn merge_into(self, into: &mut Self, _display: &DisplayHandle) {
        into.0 = into.0.max(self.0);
    }
}

/// Holds a transaction until its commit is open.
struct Gate {
    opened: Arc<AtomicU64>,
    commit: CommitId,
}

impl Blocker for Gate {
    fn state(&self) -> BlockerState {
        if self.opened.load(Ordering::Acquire) >= self.commit.0 {
            BlockerState::Released
        } else {
            BlockerState::Pending
        }
    }
}

/// The buffer that a commit brings.
enum Incoming {
    Nothing,
    Null,
    Buffer { wl_buffer: WlBuffer, buffer: ClientBuffer, size: Size<i32, Buffer>, has_alpha: bool },
}

impl Incoming {
    fn take(states: &SurfaceData) -> Self {
        let mut cached = states.cached_state.get::<SurfaceAttributes>();
        // Taken: a buffer that smithay finds in the state is released by it too, when a newer state supersedes it.
        match cached.pending().buffer.take() {
            None => Self::Nothing,
            Some(BufferAssignment::Removed) => Self::Null,
            Some(BufferAssignment::NewBuffer(wl_buffer)) => {
                match ClientBuffer::of(&wl_buffer, dmabuf_of(&wl_buffer)) {
                    Some((buffer, size, has_alpha)) => Self::Buffer { wl_buffer, buffer, size, has_alpha },
                    // Every buffer there is comes from a global of ours; one without content is a surface without.
                    None => Self::Null,
                }
            }
        }
    }

    fn attached(&self) -> Attached {
        match self {
            Self::Nothing => Attached::Nothing,
            Self::Null => Attached::Null,
            Self::Buffer { buffer: ClientBuffer::Dmabuf(..), .. } => Attached::Explicit,
            Self::Buffer { buffer: ClientBuffer::Shm(_), .. } => Attached::ImplicitOnly,
        }
    }
}

/// Runs on `wl_surface.commit`, before smithay caches the pending state.
pub fn before_commit(state: &mut Compositor, display: &DisplayHandle, surface: &WlSurface) {
    let (incoming, explicit, points) = with_states(surface, |states| {
        sync_of(states, |sync| {
            let points = sync.explicit.as_mut().map(SyncobjSurface::take_points).unwrap_or_default();
            (Incoming::take(states), sync.explicit.as_ref().map(SyncobjSurface::object), points)
        })
    });
    let sync = match validate(explicit.is_some(), incoming.attached(), points.acquire, points.release) {
        Ok(sync) => sync,
        Err(violation) => {
            if let Some(object) = explicit.and_then(|object| object.upgrade().ok()) {
                super::drm_syncobj::post(&object, violation);
            }
            return;
        }
    };
    let Some(client) = surface.client() else { return };
    let (change, fences) = match incoming {
        // Nothing to wait for and nothing to wait behind: smithay's transaction is all there is to it.
        Incoming::Nothing
            if !is_sync_subsurface(surface) && with_sync(surface, |sync| sync.queue.is_empty()) =>
        {
            return;
        }
        Incoming::Nothing => (None, Vec::new()),
        Incoming::Null => (Some(Change::Detach), Vec::new()),
        Incoming::Buffer { wl_buffer, buffer, size, has_alpha } => {
            let (kind, target, fences) = target_and_fences(sync, &buffer);
            state.record.committed(ClientState::pid(Some(&client)), kind);
            let lease = Some(state.releases.lease(Release { target, buffer: wl_buffer }));
            #[cfg(feature = "guest")]
            let (lease, fences) = break_rule(state.globals.broken, lease, fences);
            (Some(Change::Attach(Picture { buffer, size, has_alpha, lease })), fences)
        }
    };
    enqueue(state, display, &client, surface, change, fences);
}

/// What is to be released at the end, and the fences to wait for before the start.
///
/// For implicit buffers the fences are a snapshot of the writers: later writes belong to later commits. Where it cannot
/// be taken the dma-buf itself is polled.
fn target_and_fences(sync: Sync<Point>, buffer: &ClientBuffer) -> (SyncKind, Target, Vec<AcquireFence>) {
    match (sync, buffer) {
        (Sync::Explicit { acquire, release }, _) => {
            (SyncKind::Explicit, Target::Point(release), vec![AcquireFence::Point(acquire)])
        }
        (Sync::Implicit | Sync::NoBuffer, ClientBuffer::Dmabuf(_, planes)) => {
            let writers = planes.writers().unwrap_or_else(|error| {
                tracing::warn!("the writers of a dma-buf are polled: {error}");
                planes.polled()
            });
            (SyncKind::Implicit, Target::DmaBuf(planes.clone()), writers)
        }
        (Sync::Implicit | Sync::NoBuffer, ClientBuffer::Shm(_)) => {
            (SyncKind::Shm, Target::Nothing, Vec::new())
        }
    }
}

/// Does what the rule forbids that a test has us break.
#[cfg(feature = "guest")]
fn break_rule(
    broken: Option<super::BrokenRule>,
    lease: Option<crate::buffer::Lease>,
    fences: Vec<AcquireFence>,
) -> (Option<crate::buffer::Lease>, Vec<AcquireFence>) {
    match broken {
        None => (lease, fences),
        Some(super::BrokenRule::Acquire) => (lease, Vec::new()),
        Some(super::BrokenRule::Release) => (None, fences),
    }
}

fn enqueue(
    state: &mut Compositor,
    display: &DisplayHandle,
    client: &Client,
    surface: &WlSurface,
    change: Option<Change>,
    fences: Vec<AcquireFence>,
) {
    let id = with_sync(surface, |sync| sync.queue.next_id());
    let committed_at = trace::now();
    let mut waits = Vec::new();
    for fence in fences {
        match fence.status() {
            Status::Signalled => continue,
            Status::Failed(errno) => {
                report_failed(surface, id, errno);
                continue;
            }
            Status::Pending | Status::Unmaterialised => {}
        }
        let Some(count) = ClientState::of(client).and_then(ClientState::count_wait) else {
            return disconnect::exhausted(display, client, &TooManyWaits);
        };
        if let AcquireFence::Point(point) = &fence
            && point.timeline().eventfds() >= MAX_EVENTFDS
        {
            return disconnect::exhausted(display, client, &TooManyWaits);
        }
        let weak = surface.downgrade();
        match wait::wait(&state.handle, &fence, move |state: &mut Compositor| fence_done(state, &weak)) {
            Ok(token) => waits.push(Wait { fence, committed_at, _token: token, _count: count }),
            // Not ready, and nobody would ever say so.
            Err(error) => return disconnect::failed(display, client, &error),
        }
    }
    let pushed = with_states(surface, |states| {
        states.cached_state.get::<Tag>().pending().0 = id;
        sync_of(states, |sync| sync.queue.push(waits, change).map(|(_, open)| (open, sync.opened.clone())))
    });
    match pushed {
        Ok((true, opened)) => {
            opened.store(id.0, Ordering::Release);
            state.record.opened(ClientState::pid(Some(client)), committed_at);
        }
        Ok((false, opened)) => add_blocker(surface, Gate { opened, commit: id }),
        Err(overflow) => disconnect::exhausted(display, client, &overflow),
    }
}

/// An event-loop source says that a fence of this surface may have signalled; the queue asks the fences.
fn fence_done(state: &mut Compositor, surface: &Weak<WlSurface>) {
    let Ok(surface) = surface.upgrade() else { return };
    let Some(client) = surface.client() else { return };
    let opened = with_sync(&surface, |sync| {
        let waiting: BTreeMap<_, _> =
            sync.queue.waiting().map(|(id, wait)| (id, wait.committed_at)).collect();
        let newest = sync.queue.poll(|id, errno| report_failed(&surface, id, errno))?;
        sync.opened.store(newest.0, Ordering::Release);
        Some(waiting.into_iter().filter(move |(id, _)| *id <= newest).map(|(_, committed_at)| committed_at))
    });
    let Some(opened) = opened else { return };
    for committed_at in opened {
        state.record.opened(ClientState::pid(Some(&client)), committed_at);
    }
    let display = state.display.clone();
    state.client_compositor_state(&client).blocker_cleared(state, &display);
}

/// The kernel counts a fence that ended with an error as signalled, and so do we: the frame is shown as it is.
fn report_failed(surface: &WlSurface, id: CommitId, errno: i32) {
    tracing::warn!(
        "an acquire fence of {} ended with error {errno}; commit {} is shown as it is",
        surface.id(),
        id.0
    );
}

/// What an applied commit asks of the outputs that show its surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// There is something new to draw, or in another place.
    Changed,
    /// The picture is the same, but the client waits for a frame callback or for presentation feedback.
    CallbacksOnly,
    /// Nothing.
    Nothing,
}

/// What a commit can move without a new buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Shape {
    in_parent: Place<i32, Logical>,
    window: Option<Rectangle<i32, Logical>>,
}

impl Shape {
    fn of(states: &SurfaceData) -> Self {
        let in_parent = match states.role {
            Some("subsurface") => states.cached_state.get::<SubsurfaceCachedState>().current().location,
            _ => Place::default(),
        };
        Self { in_parent, window: states.cached_state.get::<XdgCachedState>().current().geometry }
    }
}

/// Runs when smithay has applied a transaction with this surface in it.
pub fn apply(surface: &WlSurface) -> Effect {
    // The order of subsurfaces is state of their parent that cannot be looked at; where a popup is, its parent's.
    let moves_others = !get_children(surface).is_empty() || get_role(surface) == Some(XDG_POPUP_ROLE);
    with_states(surface, |states| {
        let id = states.cached_state.get::<Tag>().current().0;
        let shape = Shape::of(states);
        let (applied, moved) = sync_of(states, |sync| {
            (sync.queue.apply(id), std::mem::replace(&mut sync.shape, shape) != shape)
        });
        // What was superseded was never shown: its leases end here.
        let surface::Applied { content, superseded: _ } = applied;
        let changed = tree::content_of(states, |current| current.apply(states, content));
        if changed || moved || moves_others {
            return Effect::Changed;
        }
        let wants_callback =
            !states.cached_state.get::<SurfaceAttributes>().current().frame_callbacks.is_empty();
        let wants_feedback =
            !states.cached_state.get::<PresentationFeedbackCachedState>().current().callbacks.is_empty();
        match wants_callback || wants_feedback {
            true => Effect::CallbacksOnly,
            false => Effect::Nothing,
        }
    })
}

/// Runs when the surface is destroyed, also by its client's end: every queued and current use of a buffer ends.
pub fn surface_destroyed(surface: &WlSurface) {
    with_states(surface, |states| {
        sync_of(states, |sync| {
            sync.opened.store(u64::MAX, Ordering::Release);
            sync.explicit = None;
            drop(sync.queue.clear());
        });
        tree::content_of(states, |content| content.clear());
    });
}

impl PointOrder for Point {
    fn conflicts_with(&self, release: &Self) -> bool {
        self.timeline().is_same_as(release.timeline()) && self.value() >= release.value()
    }
}
