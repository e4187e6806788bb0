//! What a commit is and in which order commits apply: the pure part of the acquire side.
//!
//! Owns the rules (which points a commit must carry), the per-surface queue and its bound. Must not know
//! fds, Wayland objects, smithay or a clock: everything is generic over [`crate::fence::Fence`], so that
//! the tests drive it with simulated fences.

pub mod hints;
pub mod pacing;
pub mod policy;
pub mod queue;
pub mod validate;

pub use pacing::Constraints;
pub use policy::Acquire;
pub use queue::{Applied, CommitId, Overflow, Pushed, Queue, Queued};
pub use validate::{Attached, PointOrder, Sync, Violation, validate};
