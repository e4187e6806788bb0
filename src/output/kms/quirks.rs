//! What devices turn out not to be able to do, although their properties say so.
//!
//! One table: each entry is learnt by trying, once, when a commit is refused with it and accepted without (see
//! [`super::commit`]); it is remembered for the device and never tried again. Known causes:
//!
//! | what | seen on | meanwhile |
//! |---|---|---|
//! | [`Quirks::no_in_fence`] | nvidia-drm before 560.35.03: `EPERM` for any `IN_FENCE_FD` | wait on the CPU, then commit |
//! | [`Quirks::no_out_fence`] | drivers with a property and no vblank event behind it: `EINVAL` | release at the flip event |

/// What was found out about a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// A commit with `IN_FENCE_FD` is refused.
    pub no_in_fence: bool,
    /// A commit with `OUT_FENCE_PTR` is refused.
    pub no_out_fence: bool,
}
