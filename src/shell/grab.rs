//! A window that follows the pointer: interactive move and resize.
//!
//! Owns the arithmetic from pointer to window. Must not know buttons: whoever starts a grab ends it.

use smithay::{
    reexports::{
        wayland_protocols::xdg::shell::server::xdg_toplevel::ResizeEdge,
        wayland_server::protocol::wl_surface::WlSurface,
    },
    utils::{Logical, Point, Rectangle},
};

use super::{Window, window::Edges};

/// What the pointer does to the window.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Move,
    Resize { horizontal: bool, vertical: bool, edges: Edges },
}

/// A window that is being moved or resized by the pointer.
#[derive(Debug)]
pub struct Grab {
    /// The toplevel's surface.
    pub surface: WlSurface,
    start: Point<f64, Logical>,
    frame: Rectangle<i32, Logical>,
    kind: Kind,
}

impl Grab {
    /// The window follows the pointer, which is at `start`.
    pub fn to_move(window: &Window, start: Point<f64, Logical>) -> Self {
        Self { surface: window.surface().clone(), start, frame: window.frame(), kind: Kind::Move }
    }

    /// The named edges of the window follow the pointer, which is at `start`.
    pub fn to_resize(window: &Window, edge: ResizeEdge, start: Point<f64, Logical>) -> Self {
        use ResizeEdge::*;
        let kind = Kind::Resize {
            horizontal: !matches!(edge, Top | Bottom | None),
            vertical: !matches!(edge, Left | Right | None),
            edges: Edges {
                left: matches!(edge, Left | TopLeft | BottomLeft),
                top: matches!(edge, Top | TopLeft | TopRight),
            },
        };
        Self { surface: window.surface().clone(), start, frame: window.frame(), kind }
    }

    /// The edges nearest to `point`: what Super and the right button resize.
    pub fn nearest_edge(frame: Rectangle<i32, Logical>, point: Point<f64, Logical>) -> ResizeEdge {
        let centre = frame.to_f64().loc + frame.size.to_f64().downscale(2.0).to_point();
        match (point.x < centre.x, point.y < centre.y) {
            (true, true) => ResizeEdge::TopLeft,
            (false, true) => ResizeEdge::TopRight,
            (true, false) => ResizeEdge::BottomLeft,
            (false, false) => ResizeEdge::BottomRight,
        }
    }

    /// The pointer is at `point` now. A window that has come to fill the screen meanwhile stays where it is.
    pub fn motion(&self, window: &mut Window, point: Point<f64, Logical>) {
        if window.is_filling() {
            return;
        }
        let delta = (point - self.start).to_i32_round::<i32>();
        match self.kind {
            Kind::Move => window.location = self.frame.loc + delta,
            Kind::Resize { horizontal, vertical, edges } => {
                let mut size = self.frame.size;
                if horizontal {
                    size.w += if edges.left { -delta.x } else { delta.x };
                }
                if vertical {
                    size.h += if edges.top { -delta.y } else { delta.y };
                }
                window.resize(size, edges);
            }
        }
    }

    /// The grab is over.
    pub fn end(&self, window: &mut Window) {
        if matches!(self.kind, Kind::Resize { .. }) {
            window.end_resize();
        }
    }
}
