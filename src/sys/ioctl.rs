//! The one place that calls ioctl(2): the retry on EINTR, and fds that the kernel gave us.
//!
//! Knows no ioctl by name.

use std::ffi::c_void;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

/// An ioctl with a pointer to `T`, in or out, that keeps the value ioctl(2) returned.
struct Call<'a, const OPCODE: Opcode, T>(&'a mut T);

// SAFETY: `as_ptr` is valid for reads and writes of a `T` for as long as the call lasts, and the caller of
// `call` vouches that OPCODE takes a pointer to exactly that `T`. Claiming that every call mutates `T` is
// always sound.
unsafe impl<const OPCODE: Opcode, T> Ioctl for Call<'_, OPCODE, T> {
    type Output = IoctlOutput;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<IoctlOutput> {
        Ok(output)
    }
}

/// Calls `OPCODE` on `fd` with a pointer to `args`, again while the kernel answers EINTR or EAGAIN, as
/// libdrm's `drmIoctl` does. Returns what ioctl(2) returned.
///
/// Every ioctl in [`crate::sys`] can be repeated: those that wait take an absolute time or none.
///
/// # Safety
///
/// `OPCODE` must be an ioctl whose argument is a pointer to `T`, on any fd that knows this opcode; pointers
/// inside `args` must be valid for what the kernel does with them.
pub(super) unsafe fn call<const OPCODE: Opcode, T>(
    fd: BorrowedFd<'_>,
    args: &mut T,
) -> io::Result<IoctlOutput> {
    loop {
        // SAFETY: handed on to our caller.
        match unsafe { ioctl(fd, Call::<OPCODE, T>(&mut *args)) } {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
}

/// Takes ownership of an fd that an ioctl has just written.
///
/// # Safety
///
/// `fd` must be negative, or an open fd that nothing else owns.
pub(super) unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::other("the kernel reported success and returned no file descriptor"));
    }
    // SAFETY: not negative, so by our contract open and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
