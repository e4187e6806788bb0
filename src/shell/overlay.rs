//! The overlay: one surface above all windows, which says what they do.
//!
//! Owns where it is. It takes no input, is no window, and is nobody's audience: what is done with other surfaces must not
//! depend on it.

use smithay::{
    reexports::wayland_server::{Resource, protocol::wl_surface::WlSurface},
    utils::{Logical, Point, Rectangle},
};

use super::{Shell, tree};

/// How far from the edges of its output it is, in logical pixels.
const MARGIN: i32 = 16;

/// The surface, and the point whose output it is on; if that has gone, the nearest.
#[derive(Debug)]
pub(super) struct Overlay {
    surface: WlSurface,
    near: Point<f64, Logical>,
}

impl Shell {
    /// Shows this surface above all others, on the output at `near`, in place of any that was shown so.
    pub fn set_overlay(&mut self, surface: WlSurface, near: Point<f64, Logical>) {
        *self.overlay = Some(Overlay { surface, near });
    }

    /// The overlay, if it has something to show, and where it is.
    pub fn overlay(&self) -> Option<(&WlSurface, Rectangle<i32, Logical>)> {
        let Overlay { surface, near } = self.overlay.as_ref()?;
        let area = self.area_at(*near)?;
        let size = tree::content(surface, |content| content.size())?;
        let right = area.loc.x.saturating_add(area.size.w);
        let left = right.saturating_sub(size.w).saturating_sub(MARGIN).max(area.loc.x);
        let at = Point::from((left, area.loc.y.saturating_add(MARGIN)));
        Some((surface, Rectangle::new(at, size)))
    }

    /// Forgets an overlay whose surface is gone.
    pub(super) fn cleanup_overlay(&mut self) {
        if self.overlay.as_ref().is_some_and(|overlay| !overlay.surface.is_alive()) {
            *self.overlay = None;
        }
    }
}
