//! sw_sync: sync_files that a test signals by hand. From `drivers/dma-buf/sw_sync.c`.
//!
//! For tests and the reference client only: it needs debugfs, root and CONFIG_SW_SYNC, and its fences have
//! no time limit. Closing the timeline completes its pending fences with `ENOENT`.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{Opcode, opcode};

use super::ioctl::{call, owned};

/// Where the kernel puts the device.
pub const PATH: &str = "/sys/kernel/debug/sync/sw_sync";

#[repr(C)]
struct CreateFence {
    value: u32,
    name: [u8; 32],
    fence: i32,
}

#[repr(C)]
struct GetDeadline {
    deadline_ns: u64,
    pad: u32,
    fence_fd: i32,
}

const CREATE_FENCE: Opcode = opcode::read_write::<CreateFence>(b'W', 0);
const INC: Opcode = opcode::write::<u32>(b'W', 1);
const GET_DEADLINE: Opcode = opcode::read_write::<GetDeadline>(b'W', 2);

/// Opens a new timeline, which stands at 0.
///
/// # Errors
/// Those of open(2): `ENOENT` without CONFIG_SW_SYNC, `EACCES` without root.
pub fn open_timeline() -> io::Result<OwnedFd> {
    Ok(open(PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// A sync_file that signals when the timeline reaches `value`.
///
/// # Errors
/// `ENOTTY` if `timeline` is none, `EMFILE`, `ENOMEM`.
pub fn create_fence(timeline: BorrowedFd<'_>, value: u32) -> io::Result<OwnedFd> {
    let mut args = CreateFence { value, name: [0; 32], fence: -1 };
    args.name[..9].copy_from_slice(b"fencepost");
    // SAFETY: SW_SYNC_IOC_CREATE_FENCE takes a `struct sw_sync_create_fence_data`.
    unsafe { call::<CREATE_FENCE, _>(timeline, &mut args)? };
    // SAFETY: on success the kernel has installed a new fd there for us.
    unsafe { owned(args.fence) }
}

/// Moves the timeline on by `by`.
///
/// # Errors
/// `ENOTTY` if `timeline` is none.
pub fn increment(timeline: BorrowedFd<'_>, by: u32) -> io::Result<()> {
    let mut args = by;
    // SAFETY: SW_SYNC_IOC_INC takes a `__u32`.
    unsafe { call::<INC, _>(timeline, &mut args)? };
    Ok(())
}

/// The earliest deadline someone has set on a fence of this timeline (CLOCK_MONOTONIC, ns). Linux 6.8.
///
/// # Errors
/// `ENOENT` if nobody has set one, `EINVAL` if `fence` is of another kind.
pub fn deadline_ns(timeline: BorrowedFd<'_>, fence: BorrowedFd<'_>) -> io::Result<u64> {
    use std::os::fd::AsRawFd;

    let mut args = GetDeadline { deadline_ns: 0, pad: 0, fence_fd: fence.as_raw_fd() };
    // SAFETY: SW_SYNC_GET_DEADLINE takes a `struct sw_sync_get_deadline`; `fence` is open.
    unsafe { call::<GET_DEADLINE, _>(timeline, &mut args)? };
    Ok(args.deadline_ns)
}
