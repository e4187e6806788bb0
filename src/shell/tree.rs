//! Walks over surface trees: a surface with its subsurfaces.
//!
//! Owns how positions add up and which surface takes input. Must not know windows.

use std::cell::RefCell;

use smithay::{
    reexports::wayland_server::protocol::wl_surface::WlSurface,
    utils::{Logical, Point, Rectangle},
    wayland::compositor::{
        self, SubsurfaceCachedState, SurfaceAttributes, SurfaceData, TraversalAction,
        with_surface_tree_downward,
    },
};

use crate::buffer::content::Content;

/// Accesses the content of a surface.
pub fn content<T>(surface: &WlSurface, f: impl FnOnce(&mut Content) -> T) -> T {
    compositor::with_states(surface, |states| content_of(states, f))
}

/// As [`content`], where the surface's data is at hand.
pub fn content_of<T>(states: &SurfaceData, f: impl FnOnce(&mut Content) -> T) -> T {
    let cell = states.data_map.get_or_insert(RefCell::<Content>::default);
    f(&mut cell.borrow_mut())
}

/// The toplevel or popup surface at the root of the tree of `surface`.
pub fn root(surface: &WlSurface) -> WlSurface {
    let mut root = surface.clone();
    while let Some(parent) = compositor::get_parent(&root) {
        root = parent;
    }
    root
}

/// The offset of a mapped surface in its parent: zero unless it is a subsurface.
fn offset(states: &SurfaceData) -> Option<Point<i32, Logical>> {
    content_of(states, |content| content.view)?;
    if states.role != Some("subsurface") {
        return Some(Point::default());
    }
    Some(states.cached_state.get::<SubsurfaceCachedState>().current().location)
}

/// Whether a walk goes on to the children, and from where: those of an unmapped surface cannot be seen.
fn descend(states: &SurfaceData, at: Point<i32, Logical>) -> TraversalAction<Point<i32, Logical>> {
    match offset(states) {
        Some(offset) => TraversalAction::DoChildren(at + offset),
        None => TraversalAction::SkipChildren,
    }
}

/// Calls `f` for every mapped surface of the tree, top to bottom, with its data and the place of its origin.
pub fn for_each(
    surface: &WlSurface,
    origin: Point<i32, Logical>,
    mut f: impl FnMut(&WlSurface, &SurfaceData, Point<i32, Logical>),
) {
    with_surface_tree_downward(
        surface,
        origin,
        |_, states, at| descend(states, *at),
        |surface, states, at| {
            if let Some(offset) = offset(states) {
                f(surface, states, *at + offset);
            }
        },
        |_, _, _| true,
    );
}

/// The surface of the tree that takes input at `point`, with the place of its origin.
pub fn surface_under(
    surface: &WlSurface,
    origin: Point<i32, Logical>,
    point: Point<f64, Logical>,
) -> Option<(WlSurface, Point<f64, Logical>)> {
    let found = RefCell::new(None);
    with_surface_tree_downward(
        surface,
        origin,
        |_, states, at| descend(states, *at),
        |surface, states, at| {
            let Some(offset) = offset(states) else { return };
            let at = *at + offset;
            if takes_input(states, point - at.to_f64()) {
                found.borrow_mut().get_or_insert_with(|| (surface.clone(), at.to_f64()));
            }
        },
        |_, _, _| found.borrow().is_none(),
    );
    found.into_inner()
}

fn takes_input(states: &SurfaceData, point: Point<f64, Logical>) -> bool {
    let Some(size) = content_of(states, |content| content.size()) else { return false };
    if !Rectangle::from_size(size).to_f64().contains(point) {
        return false;
    }
    let mut cached = states.cached_state.get::<SurfaceAttributes>();
    cached.current().input_region.as_ref().is_none_or(|region| region.contains(point.to_i32_floor()))
}
