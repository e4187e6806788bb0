//! Atomic KMS commits that ask for out-fences. From `drivers/gpu/drm/drm_atomic_uapi.c`.
//!
//! The `drm` crate builds and sends the request. What it cannot do safely is `OUT_FENCE_PTR`: a property
//! whose value is the address of an `s32` that the kernel writes an fd to.

use std::io;
use std::os::fd::OwnedFd;

use drm::control::atomic::AtomicModeReq;
use drm::control::{AtomicCommitFlags, Device, RawResourceHandle, property};

use super::ioctl::owned;

/// One out-fence to ask for: `OUT_FENCE_PTR` of a CRTC or `WRITEBACK_OUT_FENCE_PTR` of a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutFence {
    /// The CRTC or connector.
    pub object: RawResourceHandle,
    /// That property of this object.
    pub property: property::Handle,
}

/// Commits `req`, with a slot for each of `out`, and returns what the kernel put there: a sync_file for each,
/// `None` where it gave none and for a TEST_ONLY commit. Linux 4.10.
///
/// A CRTC's fence signals with the flip event, when the framebuffers of *this* commit are scanned out: it
/// releases those of the commit before. With `PAGE_FLIP_ASYNC` asking for one is `EINVAL`.
///
/// # Errors
/// Those of DRM_IOCTL_MODE_ATOMIC; then there is no fence. EINTR is retried; EAGAIN is not, because some
/// drivers answer it for lack of resources.
pub fn atomic_commit_with_out_fences(
    device: &impl Device,
    flags: AtomicCommitFlags,
    mut req: AtomicModeReq,
    out: &[OutFence],
) -> io::Result<Vec<Option<OwnedFd>>> {
    let mut slots = vec![-1_i32; out.len()];
    for (slot, fence) in slots.iter_mut().zip(out) {
        let address = std::ptr::from_mut(slot).expose_provenance();
        req.add_raw_property(fence.object, fence.property, address as u64);
    }
    loop {
        match device.atomic_commit(flags, req.clone()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    }
    if flags.contains(AtomicCommitFlags::TEST_ONLY) {
        return Ok(out.iter().map(|_| None).collect());
    }
    slots.iter().map(take).collect()
}

fn take(slot: &i32) -> io::Result<Option<OwnedFd>> {
    // SAFETY: `slot` is initialised. Volatile: the kernel wrote it through an address that left us as a number.
    let fd = unsafe { std::ptr::from_ref(slot).read_volatile() };
    if fd < 0 {
        return Ok(None);
    }
    // SAFETY: the commit succeeded and was no test, so a slot that is not -1 holds a new fd for us. The kernel
    // writes slots only during the ioctl, to which they were still alive.
    unsafe { owned(fd) }.map(Some)
}
