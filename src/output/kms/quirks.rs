//! What devices turn out not to be able to do, although their properties say so.
//!
//! One table: each entry is learnt by trying, once, when a commit is refused with it and accepted without (see
//! [`super::commit`]); it is remembered for the device and never tried again. Known causes:
//!
//! | what | seen on | meanwhile |
//! |---|---|---|
//! | [`Quirks::no_in_fence`] | nvidia-drm before 560.35.03: `EPERM` for any `IN_FENCE_FD` | wait on the CPU, then commit |
//! | [`Quirks::no_out_fence`] | drivers with a property and no vblank event behind it: `EINVAL` | release at the flip event |
//!
//! One is not learnt, and needs no entry, as nobody but a test can meet it. vkms signals flip and out-fence in its vblank
//! timer (`vkms_crtc_handle_vblank_timeout`), and a worker reads the planes afterwards: the one of commit N may still read
//! when commit N+1 flips. But it reads only while a picture is being written back, or while somebody asks debugfs for
//! checksums (`composer_enabled`). So the out-fence of commit N+1 may release the buffers of commit N if commit N+1 is made
//! after the picture of commit N is finished; [`super::writeback`] makes it wait for that. Without writeback nothing is
//! read.

/// What was found out about a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// A commit with `IN_FENCE_FD` is refused.
    pub no_in_fence: bool,
    /// A commit with `OUT_FENCE_PTR` is refused.
    pub no_out_fence: bool,
}
