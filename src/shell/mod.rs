//! Policy: which windows there are, where they stand, which one has the keyboard, what a key combination does.
//!
//! Owns every such decision. Must not know protocols beyond the handles that they give (a toplevel, a popup), nor
//! how windows are drawn or when.

pub mod cursor;
pub mod grab;
pub mod keys;
pub mod place;
pub mod popups;
pub mod tree;
pub mod window;

use std::collections::HashSet;

use smithay::{
    desktop::{PopupKind, PopupManager},
    input::keyboard::Keycode,
    reexports::wayland_server::{Resource, protocol::wl_surface::WlSurface},
    utils::{Logical, Point, Rectangle},
    wayland::{
        compositor::SurfaceData,
        shell::xdg::{PopupSurface, ToplevelSurface},
    },
};

pub use grab::Grab;
pub use window::Window;

/// The windows, bottom to top, and what is being done with them.
#[derive(Debug, Default)]
pub struct Shell {
    windows: Vec<Window>,
    /// The popups of all windows.
    pub popups: PopupManager,
    newest_popup: u64,
    /// Where windows go: the outputs in the global coordinate space.
    areas: Vec<Rectangle<i32, Logical>>,
    /// Keys that were ours when they went down: no client is to see them come up.
    pub swallowed_keys: HashSet<Keycode>,
}

/// What a commit did to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// It was not mapped and is not now, or it was and still is.
    Unchanged,
    /// It got its first buffer.
    Mapped,
    /// It lost its buffer.
    Unmapped,
}

impl Shell {
    /// Sets where windows go; windows that would be out of sight move.
    pub fn set_areas(&mut self, areas: Vec<Rectangle<i32, Logical>>) {
        self.areas = areas;
        for index in 0..self.windows.len() {
            let Some(window) = self.windows.get(index) else { continue };
            let frame = window.frame();
            if window.mapped && !self.areas.iter().any(|area| area.overlaps(frame)) {
                let location = self.place(index, frame);
                if let Some(window) = self.windows.get_mut(index) {
                    window.location = location;
                }
            }
        }
    }

    /// The area in which `point` lies, or the one nearest to it.
    pub fn area_at(&self, point: Point<f64, Logical>) -> Option<Rectangle<i32, Logical>> {
        let distance = |area: &Rectangle<i32, Logical>| {
            let off = point - nearest_in(*area, point);
            off.x * off.x + off.y * off.y
        };
        let at = self.areas.iter().find(|area| area.to_f64().contains(point));
        at.or_else(|| self.areas.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))).copied()
    }

    /// `point`, moved into the nearest area.
    pub fn clamp(&self, point: Point<f64, Logical>) -> Point<f64, Logical> {
        match self.area_at(point) {
            Some(area) if !area.to_f64().contains(point) => nearest_in(area, point),
            _ => point,
        }
    }

    /// A new toplevel, not mapped yet.
    pub fn add(&mut self, toplevel: ToplevelSurface) {
        self.windows.push(Window::new(toplevel));
    }

    /// A toplevel is gone.
    pub fn remove(&mut self, surface: &WlSurface) {
        self.windows.retain(|window| window.surface() != surface);
    }

    /// The windows that can be seen, top to bottom.
    pub fn visible(&self) -> impl Iterator<Item = &Window> {
        self.windows.iter().rev().filter(|window| window.mapped)
    }

    /// The window whose toplevel is `surface`.
    pub fn window(&self, surface: &WlSurface) -> Option<&Window> {
        self.windows.iter().find(|window| window.surface() == surface)
    }

    /// As [`window`](Self::window), to change it.
    pub fn window_mut(&mut self, surface: &WlSurface) -> Option<&mut Window> {
        self.windows.iter_mut().find(|window| window.surface() == surface)
    }

    /// Puts a window above the others.
    pub fn raise(&mut self, surface: &WlSurface) {
        if let Some(index) = self.windows.iter().position(|window| window.surface() == surface) {
            let window = self.windows.remove(index);
            self.windows.push(window);
        }
    }

    /// The window after the topmost one: what Super+Tab raises next.
    pub fn lowest(&self) -> Option<&Window> {
        self.windows.iter().find(|window| window.mapped)
    }

    /// Takes note of an applied commit of a toplevel and places a window that got its first buffer.
    pub fn committed(&mut self, surface: &WlSurface) -> Mapping {
        let Some(index) = self.windows.iter().position(|window| window.surface() == surface) else {
            return Mapping::Unchanged;
        };
        let Some(window) = self.windows.get_mut(index) else { return Mapping::Unchanged };
        let has_buffer = tree::content(surface, |content| content.view.is_some());
        let was_mapped = std::mem::replace(&mut window.mapped, has_buffer);
        window.settle_resize();
        match (was_mapped, has_buffer) {
            (false, true) => {
                if !window.is_filling() {
                    let frame = window.frame();
                    let location = self.place(index, frame);
                    if let Some(window) = self.windows.get_mut(index) {
                        window.location = location;
                    }
                }
                Mapping::Mapped
            }
            (true, false) => {
                if let Some(window) = self.windows.get_mut(index) {
                    window.reset();
                }
                Mapping::Unmapped
            }
            _ => Mapping::Unchanged,
        }
    }

    fn place(&self, index: usize, frame: Rectangle<i32, Logical>) -> Point<i32, Logical> {
        let Some(area) = self.areas.first() else { return frame.loc };
        let others: Vec<_> = self
            .windows
            .iter()
            .enumerate()
            .filter(|(other, window)| *other != index && window.mapped)
            .map(|(_, window)| window.frame())
            .collect();
        place::place(frame.size, *area, &others)
    }

    /// The surface that takes input at `point`, with the place of its origin.
    pub fn surface_under(&self, point: Point<f64, Logical>) -> Option<(WlSurface, Point<f64, Logical>)> {
        self.visible().find_map(|window| {
            let origin = window.origin();
            popups::of_window(window.surface())
                .into_iter()
                .find_map(|(popup, at)| {
                    let origin = window.location + at - popup.geometry().loc;
                    tree::surface_under(popup.wl_surface(), origin, point)
                })
                .or_else(|| tree::surface_under(window.surface(), origin, point))
        })
    }

    /// The window that `surface` belongs to: as its toplevel, a subsurface, or a popup.
    pub fn window_of(&self, surface: &WlSurface) -> Option<&Window> {
        let mut root = tree::root(surface);
        if let Some(popup) = self.popups.find_popup(&root) {
            root = smithay::desktop::find_popup_root_surface(&popup).ok()?;
        }
        self.window(&root)
    }

    /// Makes a popup fit into the area that its window is in.
    pub fn unconstrain(&self, popup: &PopupSurface) {
        let kind = PopupKind::Xdg(popup.clone());
        let Ok(root) = smithay::desktop::find_popup_root_surface(&kind) else { return };
        let Some(window) = self.window(&root) else { return };
        let Some(mut target) = self.area_at(window.location.to_f64()) else { return };
        target.loc -= window.location + smithay::desktop::get_popup_toplevel_coords(&kind);
        popup
            .with_pending_state(|state| state.geometry = state.positioner.get_unconstrained_geometry(target));
    }

    /// Every surface that can be seen, top to bottom, with its data and the place of its origin.
    pub fn for_each_surface(&self, mut f: impl FnMut(&WlSurface, &SurfaceData, Point<i32, Logical>)) {
        for window in self.visible() {
            for (popup, at) in popups::of_window(window.surface()) {
                let origin = window.location + at - popup.geometry().loc;
                tree::for_each(popup.wl_surface(), origin, &mut f);
            }
            tree::for_each(window.surface(), window.origin(), &mut f);
        }
    }

    /// Drops windows whose toplevel is dead, and dead popups.
    pub fn cleanup(&mut self) {
        self.popups.cleanup();
        self.windows.retain(|window| window.surface().is_alive());
    }
}

/// The pixel of `area` that is nearest to a point outside.
fn nearest_in(area: Rectangle<i32, Logical>, point: Point<f64, Logical>) -> Point<f64, Logical> {
    let (first, size) = (area.loc.to_f64(), area.size.to_f64());
    // Not `clamp`, which panics for an empty area.
    let axis = |at: f64, first: f64, length: f64| at.min(first + length - 1.0).max(first);
    Point::from((axis(point.x, first.x, size.w), axis(point.y, first.y, size.h)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two outputs side by side, the second one half as high.
    fn shell() -> Shell {
        let mut shell = Shell::default();
        shell.set_areas(vec![
            Rectangle::new((0, 0).into(), (100, 100).into()),
            Rectangle::new((100, 0).into(), (100, 50).into()),
        ]);
        shell
    }

    fn clamped(x: f64, y: f64) -> (f64, f64) {
        shell().clamp((x, y).into()).into()
    }

    #[test]
    fn a_pointer_that_leaves_the_outputs_stays_on_the_one_that_it_leaves() {
        assert_eq!(clamped(250.0, 20.0), (199.0, 20.0));
        assert_eq!(clamped(150.0, -5.0), (150.0, 0.0));
        assert_eq!(clamped(150.0, 52.0), (150.0, 49.0));
        assert_eq!(clamped(-1.0, 120.0), (0.0, 99.0));
    }

    #[test]
    fn a_slow_pointer_crosses_from_one_output_to_the_next() {
        assert_eq!(clamped(99.5, 20.0), (99.5, 20.0));
        assert_eq!(clamped(100.0, 20.0), (100.0, 20.0));
    }

    #[test]
    fn a_pointer_without_outputs_and_one_on_an_empty_output_are_somewhere() {
        let mut shell = Shell::default();
        assert_eq!(shell.clamp((5.0, 5.0).into()), (5.0, 5.0).into());
        shell.set_areas(vec![Rectangle::default()]);
        assert_eq!(shell.clamp((5.0, 5.0).into()), (0.0, 0.0).into());
    }
}
