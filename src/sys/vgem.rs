//! vgem: implicit fences that a test signals by hand. From `drivers/gpu/drm/vgem`.
//!
//! The fences work on any buffer of the vgem device, named by its GEM handle; the kernel signals them by
//! itself after 10 s. Buffers come from the `drm` crate (dumb buffers, PRIME).

use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Opcode, opcode};

use super::dma_buf::Access;
use super::ioctl::call;

const FENCE_WRITE: u32 = 1;

#[repr(C)]
struct FenceAttach {
    handle: u32,
    flags: u32,
    out_fence: u32,
    pad: u32,
}

#[repr(C)]
struct FenceSignal {
    fence: u32,
    flags: u32,
}

const FENCE_ATTACH: Opcode = opcode::read_write::<FenceAttach>(b'd', 0x41);
const FENCE_SIGNAL: Opcode = opcode::write::<FenceSignal>(b'd', 0x42);

/// Attaches a new fence to a buffer, as a reader for [`Access::Read`], else as a writer. Returns its id.
///
/// # Errors
/// `EBUSY` if a fence in the way is pending, `ENOENT` if there is no such buffer, `ENOTTY` or `EINVAL` on
/// other devices.
pub fn attach_fence(card: BorrowedFd<'_>, gem_handle: u32, access: Access) -> io::Result<u32> {
    let flags = if access == Access::Read { 0 } else { FENCE_WRITE };
    let mut args = FenceAttach { handle: gem_handle, flags, out_fence: 0, pad: 0 };
    // SAFETY: DRM_IOCTL_VGEM_FENCE_ATTACH takes a `struct drm_vgem_fence_attach`.
    unsafe { call::<FENCE_ATTACH, _>(card, &mut args)? };
    Ok(args.out_fence)
}

/// Signals a fence of [`attach_fence`] and forgets it.
///
/// # Errors
/// `ETIMEDOUT` if the kernel had to signal it first, `ENOENT` if there is no such fence.
pub fn signal_fence(card: BorrowedFd<'_>, fence: u32) -> io::Result<()> {
    let mut args = FenceSignal { fence, flags: 0 };
    // SAFETY: DRM_IOCTL_VGEM_FENCE_SIGNAL takes a `struct drm_vgem_fence_signal`.
    unsafe { call::<FENCE_SIGNAL, _>(card, &mut args)? };
    Ok(())
}
