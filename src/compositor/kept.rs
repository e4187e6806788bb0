//! The scene of an output between two frames, so that a frame costs what has changed, and not what exists.
//!
//! Owns when it still holds. It is gathered anew unless *all* of this is so:
//!
//! - nobody has had the output drawn anew ([`Screen::damaged`]): everything does that changes what the output shows, as an
//!   output without damage draws nothing;
//! - with one exception: commits that are known to have changed nothing but the picture of their surface
//!   ([`Effect::Redrawn`](crate::wayland::commit::Effect), decided where a commit is applied, in one place). Those surfaces
//!   are looked at again ([`Screen::look_at`]), as are those whose fences pend;
//! - and nothing has changed that a scene is gathered from besides the surfaces, whoever has changed it: the [`Key`].
//!
//! The pointer is no part of it. What shares in a buffer is let go with the commit that replaces it ([`Scene::look_at`]).

use std::time::Duration;

use smithay::{
    reexports::wayland_server::protocol::wl_surface::WlSurface,
    utils::{Logical, Physical, Rectangle, Size, Transform},
};

use super::{OutputId, Screen, scene::Scene};
use crate::output::{frame::Action, layout::Stage};

/// What a scene is gathered from, besides the surfaces.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    area: Rectangle<i32, Logical>,
    size: Size<i32, Physical>,
    scale: f64,
    transform: Transform,
    /// All outputs, as they share the surfaces between them.
    stages: Vec<(OutputId, Rectangle<i32, Logical>, Duration)>,
    /// The number of the windows' arrangement.
    arrangement: u64,
}

impl Key {
    pub(super) fn of(screen: &Screen, stages: &[Stage<OutputId>], arrangement: u64) -> Self {
        Self {
            area: screen.area(),
            size: screen.head.mode().size,
            scale: screen.canvas.scale().x,
            transform: screen.output.current_transform(),
            stages: stages.iter().map(|stage| (stage.id, stage.area, stage.refresh)).collect(),
            arrangement,
        }
    }
}

/// The scene that the last frame has left.
#[derive(Default)]
pub(super) struct Kept {
    scene: Option<Scene>,
    /// What it was gathered from.
    key: Option<Key>,
    /// The scene that a frame has taken still holds.
    holds: bool,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("holds", &self.holds).finish_non_exhaustive()
    }
}

impl Kept {
    /// Takes the scene for a frame, if it still holds; a new one is for this key.
    pub(super) fn take(&mut self, key: Key) -> Option<Scene> {
        let same = self.key.as_ref() == Some(&key);
        (self.key, self.holds) = (Some(key), true);
        self.scene.take().filter(|_| same)
    }

    /// Gives it back after the frame. If something has happened since, it does not hold any more.
    pub(super) fn put(&mut self, mut scene: Scene) {
        if self.holds {
            scene.keep();
            self.scene = Some(scene);
        }
    }

    fn forget(&mut self) {
        *self = Self::default();
    }

    fn look_at(&mut self, surface: &WlSurface, is_shown: bool, is_paced: bool) -> bool {
        match &mut self.scene {
            Some(scene) => scene.look_at(surface, is_shown, is_paced),
            // There is none, or a frame has it.
            None => {
                self.forget();
                true
            }
        }
    }
}

impl Screen {
    /// What the output shows has changed; nobody says how.
    pub(super) fn damaged(&mut self, now: Duration) -> Option<Action> {
        self.forget_scene();
        self.machine.damaged(now)
    }

    /// What the output shows may have changed, or is to be let go.
    pub(super) fn forget_scene(&mut self) {
        self.kept.forget();
    }

    /// A commit has changed no more than the picture of this surface, or its client wants to be told something. Returns whether
    /// the surface can be seen, as far as is known.
    pub(super) fn look_at(&mut self, surface: &WlSurface) -> bool {
        let (is_shown, is_paced) = (self.shows(surface), self.is_paced(surface));
        self.kept.look_at(surface, is_shown, is_paced) || self.points_with(surface)
    }
}
