//! One window: a toplevel, its place, and the states that change its size.
//!
//! Owns geometry and what to restore. Must not know other windows.

use smithay::{
    reexports::{
        wayland_protocols::xdg::shell::server::xdg_toplevel::State,
        wayland_server::protocol::wl_surface::WlSurface,
    },
    utils::{Logical, Point, Rectangle, Size},
    wayland::{
        compositor::with_states,
        shell::xdg::{SurfaceCachedState, ToplevelState, ToplevelSurface, XdgToplevelSurfaceData},
    },
};

use super::tree;

/// Nothing of a window is looked for farther from its surface's origin than this: sums of such numbers do not overflow.
pub const FARTHEST: i32 = 1 << 18;

/// Which edges a resize moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    /// The left edge moves, the right one stays.
    pub left: bool,
    /// The top edge moves, the bottom one stays.
    pub top: bool,
}

/// A window of the shell.
#[derive(Debug)]
pub struct Window {
    /// The protocol's handle.
    pub toplevel: ToplevelSurface,
    /// Where the top left corner of the window's geometry is.
    pub location: Point<i32, Logical>,
    /// Whether it has a buffer.
    pub mapped: bool,
    /// Where to go back to when it is no longer maximised or fullscreen.
    restore: Option<Rectangle<i32, Logical>>,
    /// The corner that must stay where it is until the client has resized, and where it is.
    anchor: Option<(Edges, Point<i32, Logical>)>,
}

impl Window {
    pub(super) fn new(toplevel: ToplevelSurface) -> Self {
        Self { toplevel, location: Point::default(), mapped: false, restore: None, anchor: None }
    }

    /// The surface of the toplevel.
    pub fn surface(&self) -> &WlSurface {
        self.toplevel.wl_surface()
    }

    /// The window's geometry in surface coordinates: what the client said, as far as it shows it, or all that it shows.
    pub fn geometry(&self) -> Rectangle<i32, Logical> {
        let set = with_states(self.surface(), |states| {
            states.cached_state.get::<SurfaceCachedState>().current().geometry
        });
        let extents = self.extents().unwrap_or_default();
        set.and_then(|set| set.intersection(extents)).unwrap_or(extents)
    }

    /// All that the surface and its subsurfaces show, in surface coordinates.
    fn extents(&self) -> Option<Rectangle<i32, Logical>> {
        let space = Rectangle::from_extremities((-FARTHEST, -FARTHEST), (FARTHEST, FARTHEST));
        let mut extents: Option<Rectangle<_, _>> = None;
        tree::for_each(self.surface(), Point::default(), |_, states, at| {
            let size = tree::content_of(states, |content| content.size()).unwrap_or_default();
            if let Some(shown) = Rectangle::new(at, size).intersection(space) {
                extents = Some(extents.map_or(shown, |others| others.merge(shown)));
            }
        });
        extents
    }

    /// The window has lost its buffer: it is as it was when it was new, and needs an initial commit and a configure to
    /// come back.
    pub(super) fn reset(&mut self) {
        self.restore = None;
        self.anchor = None;
        self.toplevel.reset_initial_configure_sent();
        self.toplevel.with_pending_state(|pending| {
            *pending = ToplevelState {
                decoration_mode: pending.decoration_mode,
                capabilities: pending.capabilities.clone(),
                ..ToplevelState::default()
            };
        });
        with_states(self.surface(), |states| {
            if let Some(Ok(mut data)) =
                states.data_map.get::<XdgToplevelSurfaceData>().map(|data| data.lock())
            {
                data.configured = false;
            }
        });
    }

    /// The window's geometry in the global coordinate space.
    pub fn frame(&self) -> Rectangle<i32, Logical> {
        Rectangle::new(self.location, self.geometry().size)
    }

    /// Where the origin of the toplevel's surface is.
    pub fn origin(&self) -> Point<i32, Logical> {
        self.location - self.geometry().loc
    }

    /// Whether it is maximised or fullscreen.
    pub fn is_filling(&self) -> bool {
        self.restore.is_some()
    }

    /// Makes the window fill `area`, as `state` says: maximised or fullscreen.
    pub fn fill(&mut self, state: State, area: Rectangle<i32, Logical>) {
        let frame = self.frame();
        self.restore.get_or_insert(frame);
        self.anchor = None;
        self.location = area.loc;
        self.toplevel.with_pending_state(|pending| {
            pending.states.set(state);
            pending.size = Some(area.size);
        });
    }

    /// The area that a maximised or fullscreen window fills is another now.
    pub fn refill(&mut self, area: Rectangle<i32, Logical>) {
        if !self.is_filling() {
            return;
        }
        self.location = area.loc;
        self.toplevel.with_pending_state(|pending| pending.size = Some(area.size));
        if self.toplevel.is_initial_configure_sent() {
            self.toplevel.send_pending_configure();
        }
    }

    /// Ends `state`. A window that was mapped in it has no size to go back to and chooses one itself.
    pub fn unfill(&mut self, state: State) {
        let still_filling = self.toplevel.with_pending_state(|pending| {
            pending.states.unset(state);
            pending.states.contains(State::Maximized) || pending.states.contains(State::Fullscreen)
        });
        if still_filling {
            return;
        }
        let Some(frame) = self.restore.take() else { return };
        self.location = frame.loc;
        let size = (!frame.size.is_empty()).then_some(frame.size);
        self.toplevel.with_pending_state(|pending| pending.size = size);
    }

    /// Asks the client for another size; the corner opposite to `edges` stays where it is.
    pub fn resize(&mut self, size: Size<i32, Logical>, edges: Edges) {
        if self.is_filling() {
            return;
        }
        let (min, max) = with_states(self.surface(), |states| {
            let mut cached = states.cached_state.get::<SurfaceCachedState>();
            let current = cached.current();
            (current.min_size, current.max_size)
        });
        let limit = |wanted: i32, min: i32, max: i32| {
            wanted.max(min.max(1)).min(if max > 0 { max } else { i32::MAX })
        };
        let size = Size::from((limit(size.w, min.w, max.w), limit(size.h, min.h, max.h)));
        let frame = self.frame();
        if self.anchor.is_none_or(|(anchored, _)| anchored != edges) {
            let corner = Point::from((
                if edges.left { frame.loc.x.saturating_add(frame.size.w) } else { frame.loc.x },
                if edges.top { frame.loc.y.saturating_add(frame.size.h) } else { frame.loc.y },
            ));
            self.anchor = Some((edges, corner));
        }
        self.toplevel.with_pending_state(|pending| {
            pending.states.set(State::Resizing);
            pending.size = Some(size);
        });
        self.toplevel.send_pending_configure();
    }

    /// The last resize has been asked for; the client may settle on it.
    pub fn end_resize(&mut self) {
        self.toplevel.with_pending_state(|pending| pending.states.unset(State::Resizing));
        self.toplevel.send_pending_configure();
    }

    /// Whether a corner is held that a commit may move.
    pub(super) fn is_resizing(&self) -> bool {
        self.anchor.is_some()
    }

    /// Moves the window so that the corner that a resize holds stays where it is.
    pub(super) fn settle_resize(&mut self) {
        let Some((edges, corner)) = self.anchor else { return };
        let size = self.geometry().size;
        if edges.left {
            self.location.x = corner.x.saturating_sub(size.w);
        }
        if edges.top {
            self.location.y = corner.y.saturating_sub(size.h);
        }
        let resizing = self.toplevel.with_pending_state(|pending| pending.states.contains(State::Resizing));
        if !resizing {
            self.anchor = None;
        }
    }
}
