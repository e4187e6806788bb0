//! What the fifo and commit-timing objects of a surface have asked for since its last commit.
//!
//! Owns that state, for [`super::fifo`] and [`super::commit_timing`], which translate the requests. What the constraints
//! mean is `surface/`'s.

use smithay::reexports::{
    wayland_protocols::wp::{
        commit_timing::v1::server::wp_commit_timer_v1::WpCommitTimerV1,
        fifo::v1::server::wp_fifo_v1::WpFifoV1,
    },
    wayland_server::Weak,
};

use crate::surface::Constraints;

/// The live objects of a surface, and its pending constraints. These outlast the objects: both protocols say that what
/// was asked for is not affected by their destruction.
#[derive(Debug, Default)]
pub struct PacingObjects {
    /// The one fifo object that a surface may have.
    pub fifo: Option<Weak<WpFifoV1>>,
    /// The one commit timer that a surface may have.
    pub timer: Option<Weak<WpCommitTimerV1>>,
    /// Set since the last commit.
    pub pending: Constraints,
}

impl PacingObjects {
    /// The constraints of the commit that happens now; the next one starts with none.
    pub fn take_constraints(&mut self) -> Constraints {
        std::mem::take(&mut self.pending)
    }
}
