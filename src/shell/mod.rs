//! Policy: which windows there are, where they stand, which one has the keyboard, what a key combination does.
//!
//! Owns every such decision. Must not know protocols beyond the handles that they give (a toplevel, a popup), nor
//! how windows are drawn or when.

pub mod areas;
pub mod cursor;
pub mod grab;
pub mod keys;
mod overlay;
pub mod place;
pub mod popups;
pub mod tree;
pub mod window;

use std::{
    collections::HashSet,
    ops::{Deref, DerefMut},
};

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

pub use areas::Area;
pub use grab::Grab;
pub use window::Window;

/// The windows, bottom to top, and what is being done with them.
#[derive(Debug, Default)]
pub struct Shell {
    windows: Numbered<Vec<Window>>,
    overlay: Numbered<Option<overlay::Overlay>>,
    /// The popups of all windows.
    pub popups: PopupManager,
    newest_popup: u64,
    /// Where windows go: the outputs in the global coordinate space.
    areas: Vec<Area>,
    /// Keys that were ours when they went down: no client is to see them come up.
    pub swallowed_keys: HashSet<Keycode>,
}

/// Something with a number that is another after every access that may have changed it.
#[derive(Debug, Default)]
struct Numbered<T> {
    value: T,
    number: u64,
}

impl<T> Deref for Numbered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Numbered<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.number = self.number.wrapping_add(1);
        &mut self.value
    }
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
    /// A new toplevel, not mapped yet.
    pub fn add(&mut self, toplevel: ToplevelSurface) {
        self.windows.push(Window::new(toplevel));
    }

    /// A toplevel is gone.
    pub fn remove(&mut self, surface: &WlSurface) {
        self.windows.retain(|window| window.surface() != surface);
    }

    /// A number that stays the same only while no window comes, goes, or may have moved, and the overlay neither.
    pub fn arrangement(&self) -> u64 {
        self.windows.number.wrapping_add(self.overlay.number)
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
        let has_buffer = tree::content(surface, |content| content.view.is_some());
        if self.windows.get(index).is_some_and(|window| window.mapped == has_buffer && !window.is_resizing())
        {
            return Mapping::Unchanged;
        }
        let Some(window) = self.windows.get_mut(index) else { return Mapping::Unchanged };
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
        let Some(area) = self.area_at(frame.loc.to_f64()) else { return frame.loc };
        let others: Vec<_> = self
            .windows
            .iter()
            .enumerate()
            .filter(|(other, window)| *other != index && window.mapped)
            .map(|(_, window)| window.frame())
            .collect();
        place::place(frame.size, area, &others)
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

    /// The frame of the window that `surface` belongs to, or of the overlay.
    pub fn frame_of(&self, surface: &WlSurface) -> Option<Rectangle<i32, Logical>> {
        let overlay = self.overlay().filter(|(overlay, _)| *overlay == surface);
        overlay.map(|(_, frame)| frame).or_else(|| self.window_of(surface).map(Window::frame))
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
        if let Some((surface, frame)) = self.overlay() {
            tree::for_each(surface, frame.loc, &mut f);
        }
        for window in self.visible() {
            for (popup, at) in popups::of_window(window.surface()) {
                let origin = window.location + at - popup.geometry().loc;
                tree::for_each(popup.wl_surface(), origin, &mut f);
            }
            tree::for_each(window.surface(), window.origin(), &mut f);
        }
    }

    /// What these surfaces showed is lost, and only their clients have it: their windows are configured once more, which makes
    /// most toolkits draw.
    pub fn ask_for_content(&self, surfaces: &[WlSurface]) {
        if surfaces.is_empty() {
            return;
        }
        let owners: Vec<_> = surfaces.iter().filter_map(|surface| self.window_of(surface)).collect();
        for window in self.visible().filter(|window| owners.iter().any(|owner| std::ptr::eq(*owner, *window)))
        {
            window.toplevel.send_configure();
        }
    }

    /// Drops windows whose toplevel is dead, and dead popups.
    pub fn cleanup(&mut self) {
        self.popups.cleanup();
        self.cleanup_overlay();
        if self.windows.iter().any(|window| !window.surface().is_alive()) {
            self.windows.retain(|window| window.surface().is_alive());
        }
    }
}
