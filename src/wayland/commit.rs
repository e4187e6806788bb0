//! From `wl_surface.commit` to applied content: the front half of the chain.
//!
//! Gathers what a commit brings, has `surface/` judge and queue it, and sets up the waits. smithay's transactions
//! apply the rest of the surface state with it: a commit that waits adds a [`Gate`] to its transaction, so that a
//! synchronised subsurface tree applies as one and when the last of its fences has signalled (I4).

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use smithay::{
    reexports::{
        wayland_protocols::wp::tearing_control::v1::server::wp_tearing_control_v1::WpTearingControlV1,
        wayland_server::{
            Client, DisplayHandle, Resource, Weak,
            protocol::{
                wl_callback::WlCallback,
                wl_surface::{self, WlSurface},
            },
        },
    },
    utils::{Logical, Point as Place, Rectangle},
    wayland::{
        compositor::{
            Blocker, BlockerState, Cacheable, CompositorHandler, SubsurfaceCachedState, SurfaceAttributes,
            SurfaceData, add_blocker, get_children, get_role, is_sync_subsurface, with_states,
        },
        presentation::PresentationFeedbackCachedState,
        shell::xdg::{SurfaceCachedState as XdgCachedState, XDG_POPUP_ROLE},
    },
};

#[cfg(not(feature = "guest"))]
use crate::surface::validate;

#[cfg(feature = "guest")]
use super::broken::commit::{self as broken, validate};
use super::{
    ClientState,
    acquire::{self, Acquiring, Wait},
    disconnect,
    drm_syncobj::SyncobjSurface,
    incoming::{Incoming, target_and_fences},
    pacing::PacingObjects,
    traced,
};
use crate::{
    buffer::{
        Release,
        content::{Change, Changed, Picture},
    },
    compositor::Compositor,
    fence::{roles::AcquireFence, timeline::Point},
    shell::tree,
    surface::{self, Attached, CommitId, Constraints, PointOrder, Queue},
    trace::{self, Event},
};

/// The synchronisation of one surface.
#[derive(Debug, Default)]
pub struct SurfaceSync {
    pub(super) queue: Queue<Wait, Change>,
    /// Its fences, as far as they are not in the queue.
    pub acquiring: Acquiring,
    opened: Arc<AtomicU64>,
    /// The first of the commits that the last commit of its parent has taken, if that has taken any.
    pub(super) taken_from: Option<CommitId>,
    /// The surface's number in the trace; 0 until somebody asks.
    number: u32,
    shape: Shape,
    /// Whether the queue is to be asked at the end of this turn.
    fired: bool,
    /// Shared with every release that is owed for this surface.
    held: Rc<()>,
    /// The live linux-drm-syncobj object, with the points set since the last commit.
    pub explicit: Option<SyncobjSurface>,
    /// The callbacks of `wl_surface.get_release` since the last commit.
    pub release_callbacks: Vec<WlCallback>,
    /// The live fifo and commit-timing objects, with the constraints set since the last commit.
    pub pacing: PacingObjects,
    /// The live tearing-control object.
    pub(super) tearing_control: Option<Weak<WpTearingControlV1>>,
}

impl SurfaceSync {
    /// The surface's number in the trace.
    pub fn number(&mut self) -> u32 {
        if self.number == 0 {
            self.number = trace::next_surface();
        }
        self.number
    }

    /// The time that the next commit waits for, if it waits for nothing else.
    pub fn target(&self) -> Option<Duration> {
        self.queue.target()
    }

    /// Whether the surface has a fifo barrier.
    pub fn has_barrier(&self) -> bool {
        self.queue.has_barrier()
    }

    /// Clears its fifo barrier. [`advance`] then opens what waited for it.
    pub fn clear_barrier(&mut self) {
        self.queue.clear_barrier();
    }

    /// Lets commits go that wait for times up to `presents_at`. [`advance`] then opens them.
    pub fn reached(&mut self, presents_at: Duration) {
        self.queue.reached(presents_at);
    }

    /// How many of its commits are not released.
    pub(super) fn unreleased(&self) -> usize {
        Rc::strong_count(&self.held).saturating_sub(1)
    }

    /// The surface's parent has committed what the surface has.
    pub fn taken_by_parent(&mut self) {
        self.taken_from = self.queue.seal();
    }
}

#[cfg(feature = "guest")]
impl SurfaceSync {
    /// Forgets what waits, for a test.
    pub(super) fn overtake(&mut self) {
        drop(self.queue.clear());
    }
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

/// Runs on `wl_surface.commit`, before smithay caches the pending state.
pub fn before_commit(state: &mut Compositor, display: &DisplayHandle, surface: &WlSurface) {
    let _span = tracing::trace_span!("commit", surface = %surface.id()).entered();
    let (incoming, explicit, points, constraints) = with_states(surface, |states| {
        sync_of(states, |sync| {
            let points = sync.explicit.as_mut().map(SyncobjSurface::take_points).unwrap_or_default();
            let explicit = sync.explicit.as_ref().map(SyncobjSurface::object);
            (Incoming::take(states), explicit, points, sync.pacing.take_constraints())
        })
    });
    #[cfg(feature = "guest")]
    let constraints = broken::constraints(surface, incoming.attached(), constraints);
    let attached = incoming.attached();
    let is_explicit = explicit.is_some();
    let sync = match validate(is_explicit, attached, points.acquire, points.release) {
        Ok(sync) => sync,
        Err(violation) => {
            if let Some(object) = explicit.and_then(|object| object.upgrade().ok()) {
                super::drm_syncobj::post(&object, violation);
            }
            return;
        }
    };
    let callbacks = with_sync(surface, |sync| std::mem::take(&mut sync.release_callbacks));
    #[cfg(feature = "guest")]
    let callbacks = broken::callbacks(attached, callbacks);
    if !callbacks.is_empty() && matches!(attached, Attached::Nothing | Attached::Null) {
        return surface.post_error(wl_surface::Error::NoBuffer, "get_release is for a commit with a buffer");
    }
    let Some(client) = surface.client() else { return };
    // Nothing to wait for and nothing to wait behind: smithay's transaction is all there is to it.
    if matches!(incoming, Incoming::Nothing)
        && constraints.is_empty()
        && !is_sync_subsurface(surface)
        && let Some(id) = pass(surface)
    {
        acquire::decide(state, surface, id, None, &[]);
        return decide_with_subsurfaces(state, surface);
    }
    let (mut change, fences) = match incoming {
        Incoming::Nothing => (None, Vec::new()),
        Incoming::Null => (Some(Change::Detach), Vec::new()),
        Incoming::Buffer { wl_buffer, buffer, size, has_alpha } => {
            let committed_at = trace::now();
            let (kind, target, fences) = target_and_fences(sync, &buffer);
            let commit = traced::committed(state, surface, &wl_buffer, (kind, &target, &fences));
            let held = with_sync(surface, |sync| sync.held.clone());
            let release = Release { target, buffer: wl_buffer, callbacks, commit, held };
            let lease = Some(state.releases.lease(release));
            #[cfg(feature = "guest")]
            let (lease, fences) = broken::content(state, surface, &buffer, lease, fences);
            (
                Some(Change::Attach(Picture {
                    buffer,
                    commit,
                    committed_at,
                    size,
                    has_alpha,
                    lease,
                    live: None,
                })),
                fences,
            )
        }
    };
    let Some(waits) = set_up_waits(state, display, &client, surface, &mut change, fences) else { return };
    enqueue(state, display, &client, surface, change, waits, constraints);
}

/// Has a commit go past the queue, unless it has to wait behind others.
fn pass(surface: &WlSurface) -> Option<CommitId> {
    with_states(surface, |states| {
        let id = sync_of(states, |sync| sync.queue.pass())?;
        states.cached_state.get::<Tag>().pending().0 = id;
        Some(id)
    })
}

/// Sets up an event-loop source for each fence that has not signalled and is not handed over with its content; `None` if the
/// client has to go.
fn set_up_waits(
    state: &mut Compositor,
    display: &DisplayHandle,
    client: &Client,
    surface: &WlSurface,
    change: &mut Option<Change>,
    fences: Vec<AcquireFence>,
) -> Option<Vec<Wait>> {
    let id = with_sync(surface, |sync| sync.queue.next_id());
    let mut pending = acquire::pending(state, surface, id, fences);
    if acquire::decide(state, surface, id, change.as_mut(), &pending) {
        pending.clear();
    }
    acquire::set_up_waits(state, display, client, surface, pending)
}

fn enqueue(
    state: &mut Compositor,
    display: &DisplayHandle,
    client: &Client,
    surface: &WlSurface,
    change: Option<Change>,
    waits: Vec<Wait>,
    constraints: Constraints,
) {
    let not_before = constraints.not_before.filter(|time| *time > state.presents_at(surface));
    let constraints = Constraints { not_before, ..constraints };
    let is_sync = is_sync_subsurface(surface);
    let pushed = with_states(surface, |states| {
        sync_of(states, |sync| {
            let pushed = sync.queue.push_with(waits, change, constraints, is_sync)?;
            states.cached_state.get::<Tag>().pending().0 = pushed.id;
            if let Some(newest) = pushed.opened {
                sync.opened.store(newest.0, Ordering::Release);
            }
            Ok::<_, surface::Overflow>((pushed, sync.opened.clone()))
        })
    });
    if let Ok((pushed, _)) = &pushed {
        traced::pushed(surface, pushed);
    }
    // What was superseded is dropped here, and its lease with it.
    match pushed {
        Ok((pushed, _)) if pushed.opened == Some(pushed.id) => {
            state.record.opened(ClientState::pid(Some(client)), trace::now());
        }
        Ok((pushed, opened)) => add_blocker(surface, Gate { opened, commit: pushed.id }),
        Err(overflow) => disconnect::exhausted(display, client, &overflow),
    }
    if not_before.is_some() {
        state.pace(surface);
    }
    decide_with_subsurfaces(state, surface);
}

/// The commit is in its queue: what it brings is decided with what its subsurfaces have brought before.
fn decide_with_subsurfaces(state: &mut Compositor, surface: &WlSurface) {
    for opened in acquire::decide_remembered(state, surface) {
        fence_fired(state, opened.downgrade());
    }
}

/// An event-loop source says that a fence of this surface may have signalled. The queue is asked once for all sources that
/// fire in this turn: what it drops then has fired, and is no longer a source.
pub(super) fn fence_fired(state: &mut Compositor, surface: Weak<WlSurface>) {
    let Ok(alive) = surface.upgrade() else { return };
    if !with_sync(&alive, |sync| std::mem::replace(&mut sync.fired, true)) {
        state.handle.insert_idle(move |state| fences_done(state, &surface));
    }
}

fn fences_done(state: &mut Compositor, surface: &Weak<WlSurface>) {
    let Ok(surface) = surface.upgrade() else { return };
    let _span = tracing::trace_span!("acquire", surface = %surface.id()).entered();
    with_sync(&surface, |sync| sync.fired = false);
    let others = acquire::materialised(state, &surface);
    acquire::judge(state, &surface);
    for surface in others.iter().chain([&surface]) {
        open_polled(state, surface);
        // Its time may be all that it waits for now.
        if with_sync(surface, |sync| sync.target().is_some()) {
            state.pace(surface);
        }
    }
}

fn open_polled(state: &mut Compositor, surface: &WlSurface) {
    let mut failed = Vec::new();
    open(state, surface, |queue| queue.poll(|id, errno| failed.push((id, errno))));
    for (id, errno) in failed {
        acquire::report_failed(state, surface, id, errno);
    }
}

/// Opens the commits of a surface that a barrier or a time has held back, and applies what waited for them. Asks no fence:
/// those have sources of their own.
pub fn advance(state: &mut Compositor, surface: &WlSurface) {
    open(state, surface, Queue::open_ready);
}

fn open(
    state: &mut Compositor,
    surface: &WlSurface,
    ask: impl FnOnce(&mut Queue<Wait, Change>) -> Option<CommitId>,
) {
    let Some(client) = surface.client() else { return };
    let opened = with_sync(surface, |sync| {
        let waiting: BTreeMap<_, _> =
            sync.queue.waiting().map(|(id, wait)| (id, wait.committed_at)).collect();
        let newest = ask(&mut sync.queue)?;
        sync.opened.store(newest.0, Ordering::Release);
        trace::note(Event::Open { surface: sync.number(), id: newest.0 });
        Some(waiting.into_iter().filter(move |(id, _)| *id <= newest).map(|(_, committed_at)| committed_at))
    });
    let Some(opened) = opened else { return };
    for committed_at in opened {
        state.record.opened(ClientState::pid(Some(&client)), committed_at);
    }
    let display = state.display.clone();
    state.client_compositor_state(&client).blocker_cleared(state, &display);
}

/// What an applied commit asks of the outputs that show its surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// There is something new to draw, perhaps in another place or size, or something else is hidden.
    Changed,
    /// There is something new to draw where the old was, and nothing else has changed.
    Redrawn,
    /// The picture is the same, but the client waits for a frame callback, for presentation feedback, or for the end of a
    /// fifo barrier.
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
            let applied = sync.queue.apply(id);
            if applied.content.is_some() {
                trace::note(Event::Apply { surface: sync.number(), id: id.0 });
            }
            (applied, std::mem::replace(&mut sync.shape, shape) != shape)
        });
        // What was superseded was never shown: its leases end here.
        let surface::Applied { content, superseded: _ } = applied;
        let changed = tree::content_of(states, |current| current.apply(states, content));
        if changed == Changed::Shape || moved || moves_others {
            return Effect::Changed;
        }
        if changed == Changed::Picture {
            return Effect::Redrawn;
        }
        let wants_callback =
            !states.cached_state.get::<SurfaceAttributes>().current().frame_callbacks.is_empty();
        let wants_feedback =
            !states.cached_state.get::<PresentationFeedbackCachedState>().current().callbacks.is_empty();
        match wants_callback || wants_feedback || sync_of(states, |sync| sync.has_barrier()) {
            true => Effect::CallbacksOnly,
            false => Effect::Nothing,
        }
    })
}

/// Runs when the surface is destroyed, also by its client's end: every queued and current use of a buffer ends.
pub fn surface_destroyed(surface: &WlSurface) {
    with_states(surface, |states| {
        sync_of(states, |sync| {
            trace::note(Event::Destroy { surface: sync.number() });
            sync.opened.store(u64::MAX, Ordering::Release);
            sync.explicit = None;
            sync.acquiring = Acquiring::default();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queued_commit_is_small() {
        // With one fence, as every explicit commit has. What is behind the handles in it is the kernel's and the buffer's.
        let bytes = Queue::<Wait, Change>::BYTES_PER_COMMIT + size_of::<Wait>();
        assert!(bytes <= 320, "{bytes} bytes");
    }
}
