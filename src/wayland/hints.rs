//! What a client says of how its surface should be presented: content-type-v1, and tearing-control-v1's hint.
//!
//! Owns the reading of it. What follows from it is the output's to say.

use smithay::{
    reexports::{
        wayland_protocols::wp::content_type::v1::server::wp_content_type_v1::Type,
        wayland_server::{DisplayHandle, protocol::wl_surface::WlSurface},
    },
    wayland::{
        compositor::with_states,
        content_type::{ContentTypeState, ContentTypeSurfaceCachedState},
    },
};

use super::tearing_control::{self, Tearing};
use crate::{
    compositor::Compositor,
    shell::tree,
    surface::hints::{Content, Hints},
};

/// Announces both globals.
pub(super) fn create_globals(display: &DisplayHandle) {
    tearing_control::create_global(display);
    ContentTypeState::new::<Compositor>(display);
}

/// The hints for what a surface shows. Where it has none of its own, those of its window hold: a player may show its film with a
/// subsurface.
pub fn of(surface: &WlSurface) -> Hints {
    let (own, window) = (read(surface), read(&tree::root(surface)));
    Hints {
        content: if own.content == Content::Unknown { window.content } else { own.content },
        tearing: own.tearing || window.tearing,
    }
}

fn read(surface: &WlSurface) -> Hints {
    with_states(surface, |states| {
        let content =
            match states.cached_state.get::<ContentTypeSurfaceCachedState>().current().content_type() {
                Type::Photo => Content::Photo,
                Type::Video => Content::Video,
                Type::Game => Content::Game,
                _ => Content::Unknown,
            };
        Hints { content, tearing: states.cached_state.get::<Tearing>().current().0 }
    })
}

smithay::delegate_content_type!(Compositor);
