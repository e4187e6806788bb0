//! udmabuf: dma-bufs made of the pages of a memfd. From `include/uapi/linux/udmabuf.h`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::ioctl::{Opcode, opcode};

use super::ioctl::{call, owned};
use super::memfd;

/// The device.
pub const PATH: &str = "/dev/udmabuf";

const FLAGS_CLOEXEC: u32 = 1;

#[repr(C)]
struct Create {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

const CREATE: Opcode = opcode::write::<Create>(b'u', 0x42);

/// Makes a dma-buf of `size` bytes, a multiple of the page size, of fresh zeroed memory. Linux 4.20.
///
/// # Errors
/// `EINVAL` for a size that is 0, not whole pages or above the module's limit, `ENOTTY` if `device` is not
/// udmabuf, `ENOMEM`, `EMFILE`.
pub fn create(device: BorrowedFd<'_>, size: u64) -> io::Result<OwnedFd> {
    // The kernel insists on the seal: its pages must not go away under the dma-buf.
    let memory = memfd::sealed("fencepost", size)?;
    let memfd = u32::try_from(memory.as_raw_fd()).map_err(|_| rustix::io::Errno::BADF)?;
    let mut args = Create { memfd, flags: FLAGS_CLOEXEC, offset: 0, size };
    // SAFETY: UDMABUF_CREATE takes a `struct udmabuf_create`; the memfd is open for the whole call.
    let fd = unsafe { call::<CREATE, _>(device, &mut args)? };
    // SAFETY: UDMABUF_CREATE returns a new fd for us as its value.
    unsafe { owned(fd) }
}
