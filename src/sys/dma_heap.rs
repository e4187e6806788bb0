//! dma-heap: dma-bufs from the kernel's own allocators. From `include/uapi/linux/dma-heap.h`.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::ioctl::{Opcode, opcode};

use super::ioctl::{call, owned};

/// The heap of ordinary memory, which every kernel with dma-heaps has.
pub const SYSTEM_PATH: &str = "/dev/dma_heap/system";

#[repr(C)]
struct Allocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

const ALLOC: Opcode = opcode::read_write::<Allocation>(b'H', 0);

/// Allocates a zeroed dma-buf of `len` bytes, rounded up to pages, that can be mapped for reading and
/// writing. Linux 5.6.
///
/// # Errors
/// `EINVAL` for 0, `ENOMEM`, `EMFILE`, `ENOTTY` if `heap` is none.
pub fn allocate(heap: BorrowedFd<'_>, len: u64) -> io::Result<OwnedFd> {
    let fd_flags = (OFlags::RDWR | OFlags::CLOEXEC).bits();
    let mut args = Allocation { len, fd: 0, fd_flags, heap_flags: 0 };
    // SAFETY: DMA_HEAP_IOCTL_ALLOC takes a `struct dma_heap_allocation_data`.
    unsafe { call::<ALLOC, _>(heap, &mut args)? };
    let fd = i32::try_from(args.fd).unwrap_or(-1);
    // SAFETY: on success the kernel has installed a new fd there for us.
    unsafe { owned(fd) }
}
