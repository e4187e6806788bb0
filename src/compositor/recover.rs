//! What the compositor does about a GPU or a display device that is lost.
//!
//! Joins the renderer, which makes its context anew, to those who hold something of the old one. The buffers of clients stay
//! leased meanwhile: a loss ends no use of a buffer, its fences do (I2, I3).

use super::{Compositor, outputs::OutputId};
use crate::{
    output::frame::{Action, Outcome},
    render::lost::{PATIENCE, Renewal},
    shell::tree,
    trace,
};

impl Compositor {
    /// Sees to it that the renderer can draw, before a frame; false if it cannot at the moment.
    pub(super) fn gpu_is_sound(&mut self) -> bool {
        let Self { renderer, globals, pointer, screens, .. } = self;
        let mut orphans = Vec::new();
        let renewal = renderer.renew(trace::now(), || {
            for surface in globals.surfaces() {
                if tree::content(&surface, |content| content.forget_texture()) {
                    orphans.push(surface);
                }
            }
            pointer.forget_textures();
            screens.iter_mut().for_each(|(_, screen)| screen.lose_drawings());
        });
        self.shell.ask_for_content(&orphans);
        match renewal {
            Renewal::Sound => true,
            Renewal::Renewed => {
                // The other outputs, too, show what the old context drew, if anything.
                self.scene_changed();
                true
            }
            Renewal::Waiting => false,
            Renewal::Hopeless(error) => {
                self.give_up(format!("the GPU was lost and did not come back within {PATIENCE:?}: {error}"));
                false
            }
        }
    }

    /// A frame that cannot be drawn for want of a renderer: the output keeps its picture, and tries again.
    pub(super) fn put_off(&mut self, id: OutputId, callbacks: bool) -> Option<Action> {
        let screen = self.screens.get_mut(id)?;
        let now = trace::now();
        let action = screen.machine.latched(Outcome::Retry, now);
        match callbacks {
            true => screen.machine.callback_wanted(now).or(action),
            false => action,
        }
    }

    /// Ends the compositor, as there is no way to go on: `why` is said, and the exit status is a failure.
    pub(super) fn give_up(&mut self, why: String) {
        self.failure.get_or_insert(why);
        self.stop.stop();
    }

    /// Whether it is about to end because it cannot go on.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The GPU context is lost: as after a reset, for tests. The next `failures` tries to make a new one fail.
    #[doc(hidden)]
    pub fn lose_gpu(&mut self, failures: u32) {
        self.renderer.lose(failures);
        self.scene_changed();
    }
}
