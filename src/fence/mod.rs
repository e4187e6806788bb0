//! Fences: what a buffer's users wait for, and what they leave behind for others to wait for.
//!
//! Two vocabularies only, with a named function for every crossing between them: [`sync_file::SyncFile`], a
//! real kernel fence that is bound to complete; and [`timeline::Timeline`] with [`timeline::Point`], which a
//! client names before there is any fence. [`roles`] gives fences the types of their place in the chain,
//! [`wait`] turns them into event-loop callbacks, [`release`] resolves a buffer's release once.
//!
//! Knows nothing of surfaces, outputs or the renderer.

pub mod implicit;
pub mod release;
pub mod roles;
pub mod scarce;
pub mod sync_file;
pub mod timeline;
pub mod wait;

/// How much earlier than a fence that it waited for a flip may be dated. Where vblanks are a timer's, as those of virtual
/// devices are, a flip has the time for which the timer was set (`drm_crtc_vblank_get_vblank_timeout`): one that goes off late
/// takes along a frame whose fence has signalled meanwhile. Who does not wait is earlier by more.
pub const FLIP_DATE_SLACK_NS: u64 = 1_000_000;

/// What the pure core needs to know about a fence. The tests implement it with simulated fences.
pub trait Fence {
    /// Looks, without blocking. A fence that cannot be looked at is not ready: it reads as
    /// [`Status::Pending`] or [`Status::Unmaterialised`], never as done.
    fn status(&self) -> Status;

    /// Whether it is known to be done already. A fence that remembers answers without a system call, and "no" then only
    /// says that nobody has seen it done.
    fn is_known_done(&self) -> bool {
        self.status().is_done()
    }
}

/// How far a fence has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// A timeline point without a fence: nothing says that it will ever get one.
    Unmaterialised,
    /// A kernel fence that has not signalled.
    Pending,
    /// Signalled.
    Signalled,
    /// Signalled, because the work ended with this error (a negative errno). Everybody else in the kernel
    /// takes it for signalled.
    Failed(i32),
}

impl Status {
    /// Whether nobody has to wait any more: signalled, with or without an error.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Signalled | Self::Failed(_))
    }
}
