//! DRM master: who may change what a device shows. From `include/uapi/drm/drm.h` and `drivers/gpu/drm/drm_auth.c`.
//!
//! The first to open a primary node that has no master becomes it, asked or not.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{NoArg, Opcode, ioctl, opcode};

const SET_MASTER: Opcode = opcode::none(b'd', 0x1e);
const DROP_MASTER: Opcode = opcode::none(b'd', 0x1f);

/// Becomes master: everyone who has been before may, and root. Linux 5.8.
///
/// # Errors
/// `EBUSY` if somebody else is, `EACCES`.
pub fn set(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: DRM_IOCTL_SET_MASTER takes nothing.
    Ok(unsafe { ioctl(fd, NoArg::<SET_MASTER>::new()) }?)
}

/// Gives it up. All fds of one open(2) are one master.
///
/// # Errors
/// `EINVAL` if we are not, `EACCES` without having become it, `ENODEV`.
pub fn give_up(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: DRM_IOCTL_DROP_MASTER takes nothing.
    Ok(unsafe { ioctl(fd, NoArg::<DROP_MASTER>::new()) }?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_kernel_header() {
        assert_eq!((SET_MASTER, DROP_MASTER), (0x641e, 0x641f));
    }
}
