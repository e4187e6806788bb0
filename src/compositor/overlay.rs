//! Super+F: a picture of what becomes of the surfaces' commits, above them.
//!
//! Owns its life. It is a process of its own (`crate::overlay`), the client of a connection that nobody else has and on which it
//! may look at what others do. That it cannot be started disturbs nobody.

use std::{io, os::unix::net::UnixStream};

use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;

use super::Compositor;
use crate::wayland::ClientState;

impl Compositor {
    /// Starts the overlay, or ends it.
    pub(super) fn toggle_overlay(&mut self) {
        if self.children.end_overlay() {
            return;
        }
        if let Err(error) = self.start_overlay() {
            tracing::warn!("there is no overlay: {error}");
        }
    }

    fn start_overlay(&mut self) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        let pid = self.children.start_overlay(theirs.into())?;
        self.insert(ours, pid, ClientState::trusted(pid));
        Ok(())
    }

    /// Shows a surface above all others.
    pub(crate) fn show_overlay(&mut self, surface: &WlSurface) {
        let near = self.pointer_position();
        self.shell.set_overlay(surface.clone(), near);
        self.scene_changed();
    }
}
