//! Popups: which may be, which is above which, and when one comes or goes.
//!
//! Owns the order and the mapping of popups. smithay's [`PopupManager`] owns their tree; must not know grabs.

use std::cell::Cell;

use smithay::{
    desktop::{PopupKind, PopupManager},
    reexports::wayland_server::protocol::wl_surface::WlSurface,
    utils::{Logical, Point},
    wayland::{
        compositor::with_states,
        shell::xdg::{PopupSurface, XdgPopupSurfaceData},
    },
};

use super::{Mapping, Shell, tree};

/// How deep popups may be nested: smithay walks their trees by recursion.
const MAX_NESTED_POPUPS: usize = 64;

/// Why a popup cannot be.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum PopupError {
    /// It is its own parent, or an ancestor of it.
    #[error("a popup cannot be among its own parents")]
    Cycle,
    /// There are too many popups above each other.
    #[error("Could not nest more than {MAX_NESTED_POPUPS} popups")]
    TooDeep,
}

/// What we keep for each popup.
#[derive(Debug, Default)]
struct Kept {
    /// Later popups have larger numbers.
    number: Cell<u64>,
    mapped: Cell<bool>,
}

fn with_kept<T>(popup: &WlSurface, f: impl FnOnce(&Kept) -> T) -> T {
    with_states(popup, |states| f(states.data_map.get_or_insert(Kept::default)))
}

impl Shell {
    /// A new popup, not mapped yet.
    ///
    /// # Errors
    ///
    /// When it must not be. It has no parent then: whoever asks for its window would search for ever.
    pub fn add_popup(&mut self, popup: &PopupSurface) -> Result<(), PopupError> {
        if let Err(error) = check_nesting(popup) {
            with_popup_data(popup.wl_surface(), |data| data.parent = None);
            return Err(error);
        }
        self.newest_popup += 1;
        with_kept(popup.wl_surface(), |kept| {
            kept.number.set(self.newest_popup);
            kept.mapped.set(false);
        });
        self.unconstrain(popup);
        // The only failure is a popup that is dead already; it needs no tracking.
        if self.popups.track_popup(PopupKind::Xdg(popup.clone())).is_err() {
            tracing::debug!("a popup was destroyed before it could be tracked");
        }
        Ok(())
    }

    /// Takes note of an applied commit of a popup. One that has lost its buffer is as it was when it was new.
    pub fn popup_committed(&mut self, popup: &PopupSurface) -> Mapping {
        let surface = popup.wl_surface();
        let has_buffer = tree::content(surface, |content| content.view.is_some());
        match (with_kept(surface, |kept| kept.mapped.replace(has_buffer)), has_buffer) {
            (false, true) => Mapping::Mapped,
            (true, false) => {
                popup.reset_initial_configure_sent();
                with_popup_data(surface, |data| data.configured = false);
                Mapping::Unmapped
            }
            _ => Mapping::Unchanged,
        }
    }
}

/// The popups of a toplevel, newest first, which is top to bottom, with their places relative to its geometry.
pub(super) fn of_window(toplevel: &WlSurface) -> Vec<(PopupKind, Point<i32, Logical>)> {
    let mut popups: Vec<_> = PopupManager::popups_for_surface(toplevel).collect();
    popups.sort_by_cached_key(|(popup, _)| {
        std::cmp::Reverse(with_kept(popup.wl_surface(), |kept| kept.number.get()))
    });
    popups
}

/// There was no cycle before this popup, so it would be part of any.
fn check_nesting(popup: &PopupSurface) -> Result<(), PopupError> {
    let mut parents = 0;
    let mut parent = popup.get_parent_surface();
    while let Some(surface) = parent {
        parents += 1;
        if surface == *popup.wl_surface() {
            return Err(PopupError::Cycle);
        }
        if parents > MAX_NESTED_POPUPS {
            return Err(PopupError::TooDeep);
        }
        parent = with_popup_data(&surface, |data| data.parent.clone()).flatten();
    }
    Ok(())
}

fn with_popup_data<T>(
    surface: &WlSurface,
    f: impl FnOnce(&mut smithay::wayland::shell::xdg::XdgPopupSurfaceRoleAttributes) -> T,
) -> Option<T> {
    with_states(surface, |states| {
        let data = states.data_map.get::<XdgPopupSurfaceData>()?;
        data.lock().ok().map(|mut data| f(&mut data))
    })
}
