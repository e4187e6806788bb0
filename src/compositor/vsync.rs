//! What users and clients say of an output's vblanks, brought to its head: variable refresh, and tearing.
//!
//! Joins settings, the surface that covers an output, and what its display can. The rules are [`crate::output::vsync`]'s.

use super::{Screen, scene::Scene, show::Attempt};
use crate::{
    output::{
        Head,
        frame::Cadence,
        vsync::{self, Vrr},
    },
    surface::hints::{Content, Hints},
    wayland::hints,
};

impl Screen {
    /// Whether this frame, and the display from this frame on, keeps to vblanks at a fixed rate.
    pub(super) fn keep_to_vblanks(&mut self, scene: &Scene, attempt: &mut Attempt) {
        let tears = self.tearing && attempt.covers() && self.head.can_tear();
        let hints = if tears || self.vrr == Vrr::Auto { self.covering(scene) } else { None };
        attempt.may_tear = tears && hints.is_some_and(|hints| hints.tearing);
        // A still picture gains nothing by another rate.
        let is_covered = hints.is_some_and(|hints| hints.content != Content::Photo);
        self.head.set_variable(self.vrr.applies(is_covered));
    }

    /// What the client of the surface says that covers the output, if one does.
    fn covering(&self, scene: &Scene) -> Option<Hints> {
        let surface = scene.surface(scene.covering(self.head.mode().size)?)?;
        Some(hints::of(surface))
    }

    /// When the next frame can be shown; `None` where another than the kernel has the last word on it.
    pub(super) fn cadence(&self, may_tear: bool) -> Option<Cadence> {
        let Head::Kms(head) = &self.head else { return None };
        Some(vsync::cadence(head.is_variable(), may_tear && head.can_tear()))
    }
}
