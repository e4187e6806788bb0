//! What a subsurface has asked for but not committed, kept out of its parent's commit.
//!
//! Owns this one repair of smithay 0.7, which commits the pending state of synchronised subsurfaces along with their
//! parent. Must not know what a commit does.

use std::cell::RefCell;

use smithay::{
    reexports::wayland_server::protocol::{
        wl_callback::WlCallback, wl_output::Transform, wl_surface::WlSurface,
    },
    utils::{Logical, Point},
    wayland::{
        compositor::{
            BufferAssignment, Damage, RegionAttributes, SurfaceAttributes, SurfaceData, get_children,
            is_sync_subsurface, with_states,
        },
        presentation::{PresentationFeedbackCachedState, PresentationFeedbackCallback},
        viewporter::ViewportCachedState,
    },
};

/// State that stays until it is changed.
#[derive(Clone, Debug)]
struct Lasting {
    scale: i32,
    transform: Transform,
    opaque: Option<RegionAttributes>,
    input: Option<RegionAttributes>,
    viewport: ViewportCachedState,
}

impl Lasting {
    fn of(attributes: &SurfaceAttributes, viewport: ViewportCachedState) -> Self {
        Self {
            scale: attributes.buffer_scale,
            transform: attributes.buffer_transform,
            opaque: attributes.opaque_region.clone(),
            input: attributes.input_region.clone(),
            viewport,
        }
    }

    fn pending(states: &SurfaceData) -> Self {
        let viewport = *states.cached_state.get::<ViewportCachedState>().pending();
        Self::of(states.cached_state.get::<SurfaceAttributes>().pending(), viewport)
    }

    fn current(states: &SurfaceData) -> Self {
        let viewport = *states.cached_state.get::<ViewportCachedState>().current();
        Self::of(states.cached_state.get::<SurfaceAttributes>().current(), viewport)
    }

    fn make_pending(self, states: &SurfaceData) {
        let mut attributes = states.cached_state.get::<SurfaceAttributes>();
        let pending = attributes.pending();
        pending.buffer_scale = self.scale;
        pending.buffer_transform = self.transform;
        pending.opaque_region = self.opaque;
        pending.input_region = self.input;
        *states.cached_state.get::<ViewportCachedState>().pending() = self.viewport;
    }
}

/// What a subsurface has committed last, applied or not.
type Committed = RefCell<Option<Lasting>>;

/// What a subsurface has not committed, while its parent commits.
#[derive(Debug)]
#[must_use = "it has to be given back, or the client's requests are lost"]
pub(super) struct Withheld {
    surface: WlSurface,
    lasting: Lasting,
    buffer: Option<BufferAssignment>,
    buffer_delta: Option<Point<i32, Logical>>,
    damage: Vec<Damage>,
    frame_callbacks: Vec<WlCallback>,
    feedback: Vec<PresentationFeedbackCallback>,
}

/// Keeps what subsurfaces have not committed out of their parent's commit: smithay 0.7 commits the pending state of
/// synchronised ones along with it.
pub(super) fn withhold(surface: &WlSurface) -> Vec<Withheld> {
    with_states(surface, |states| {
        if states.role == Some("subsurface") {
            states.data_map.get_or_insert(Committed::default).replace(Some(Lasting::pending(states)));
        }
    });
    if is_sync_subsurface(surface) {
        return Vec::new();
    }
    let mut withheld = Vec::new();
    let mut left = get_children(surface);
    left.retain(is_sync_subsurface);
    while let Some(child) = left.pop() {
        left.extend(get_children(&child));
        withheld.push(Withheld::take(child));
    }
    withheld
}

impl Withheld {
    fn take(surface: WlSurface) -> Self {
        with_states(&surface.clone(), |states| {
            let lasting = Lasting::pending(states);
            // A surface that has not committed as a subsurface has committed what is applied.
            let committed = states.data_map.get_or_insert(Committed::default).borrow().clone();
            committed.unwrap_or_else(|| Lasting::current(states)).make_pending(states);
            let mut attributes = states.cached_state.get::<SurfaceAttributes>();
            let pending = attributes.pending();
            let mut feedback = states.cached_state.get::<PresentationFeedbackCachedState>();
            Self {
                surface,
                lasting,
                buffer: pending.buffer.take(),
                buffer_delta: pending.buffer_delta.take(),
                damage: std::mem::take(&mut pending.damage),
                frame_callbacks: std::mem::take(&mut pending.frame_callbacks),
                feedback: std::mem::take(&mut feedback.pending().callbacks),
            }
        })
    }

    /// The surface whose commits so far go with its parent's.
    pub(super) fn surface(&self) -> &WlSurface {
        &self.surface
    }

    /// The parent has committed.
    pub(super) fn give_back(self) {
        let Self { surface, lasting, buffer, buffer_delta, damage, frame_callbacks, feedback } = self;
        with_states(&surface, |states| {
            lasting.make_pending(states);
            let mut attributes = states.cached_state.get::<SurfaceAttributes>();
            let pending = attributes.pending();
            pending.buffer = buffer;
            pending.buffer_delta = buffer_delta;
            pending.damage = damage;
            pending.frame_callbacks = frame_callbacks;
            states.cached_state.get::<PresentationFeedbackCachedState>().pending().callbacks = feedback;
        });
    }
}
