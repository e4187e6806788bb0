//! KMS property blobs of any length. From `include/uapi/drm/drm_mode.h` and `drivers/gpu/drm/drm_property.c`.
//!
//! The `drm` crate makes blobs of one sized value only; damage is a list.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

use super::ioctl::call;

#[repr(C)]
struct CreateBlob {
    data: u64,
    length: u32,
    blob_id: u32,
}

const CREATE_BLOB: Opcode = opcode::read_write::<CreateBlob>(b'd', 0xbd);

/// Gives the kernel a copy of `bytes` under an id, which stays valid until DESTROYPROPBLOB or the end of the fd; a
/// state that uses the blob keeps it. Linux 4.0, primary node.
///
/// # Errors
/// `EINVAL` if `bytes` is empty, `ENOMEM`, `EOPNOTSUPP` without KMS.
pub fn create(device: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<NonZeroU32> {
    let length = u32::try_from(bytes.len()).map_err(|_| Errno::INVAL)?;
    let data = bytes.as_ptr().expose_provenance() as u64;
    let mut args = CreateBlob { data, length, blob_id: 0 };
    // SAFETY: DRM_IOCTL_MODE_CREATEPROPBLOB takes a `struct drm_mode_create_blob`, and reads `length` bytes at
    // `data`, which `bytes` lends for the call.
    unsafe { call::<CREATE_BLOB, _>(device, &mut args)? };
    NonZeroU32::new(args.blob_id)
        .ok_or_else(|| io::Error::other("the kernel reported success and returned no blob"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_that_of_the_kernel_header() {
        assert_eq!(CREATE_BLOB, 0xc010_64bd);
    }
}
