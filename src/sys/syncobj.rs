//! DRM syncobjs: binary ones and timelines. From `include/uapi/drm/drm.h` and
//! `drivers/gpu/drm/drm_syncobj.c`.
//!
//! Every call works on a primary or a render node, without privileges. A handle belongs to the open file
//! it was made on; destroying it is the caller's business (see [`crate::fence::timeline`] for RAII).
//!
//! Point 0 means "the payload as a whole": waiting for 0 waits for whatever fence is there now, and
//! transferring or importing *to* 0 replaces the payload, timeline and all.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

use super::ioctl::{call, owned};

/// A syncobj's name within one open DRM file. Never 0.
pub type Handle = u32;

const CAP_SYNCOBJ: u64 = 0x13;
const CAP_SYNCOBJ_TIMELINE: u64 = 0x14;

const FLAG_SYNC_FILE: u32 = 1 << 0;
const FLAG_WAIT_ALL: u32 = 1 << 0;
const FLAG_WAIT_FOR_SUBMIT: u32 = 1 << 1;
const FLAG_WAIT_AVAILABLE: u32 = 1 << 2;
const FLAG_WAIT_DEADLINE: u32 = 1 << 3;
const FLAG_LAST_SUBMITTED: u32 = 1 << 0;

#[repr(C)]
struct GetCap {
    capability: u64,
    value: u64,
}

#[repr(C)]
struct Create {
    handle: u32,
    flags: u32,
}

#[repr(C)]
struct Destroy {
    handle: u32,
    pad: u32,
}

/// `struct drm_syncobj_handle` as it was until 6.15. The later one appends a point, which the kernel reads
/// as 0 from this one.
#[repr(C)]
struct HandleFd {
    handle: u32,
    flags: u32,
    fd: i32,
    pad: u32,
}

#[repr(C)]
struct Transfer {
    src_handle: u32,
    dst_handle: u32,
    src_point: u64,
    dst_point: u64,
    flags: u32,
    pad: u32,
}

#[repr(C)]
struct TimelineWait {
    handles: u64,
    points: u64,
    timeout_nsec: i64,
    count_handles: u32,
    flags: u32,
    first_signaled: u32,
    pad: u32,
    deadline_nsec: u64,
}

#[repr(C)]
struct TimelineArray {
    handles: u64,
    points: u64,
    count_handles: u32,
    flags: u32,
}

#[repr(C)]
struct Eventfd {
    handle: u32,
    flags: u32,
    point: u64,
    fd: i32,
    pad: u32,
}

const GET_CAP: Opcode = opcode::read_write::<GetCap>(b'd', 0x0c);
const CREATE: Opcode = opcode::read_write::<Create>(b'd', 0xbf);
const DESTROY: Opcode = opcode::read_write::<Destroy>(b'd', 0xc0);
const HANDLE_TO_FD: Opcode = opcode::read_write::<HandleFd>(b'd', 0xc1);
const FD_TO_HANDLE: Opcode = opcode::read_write::<HandleFd>(b'd', 0xc2);
const TIMELINE_WAIT: Opcode = opcode::read_write::<TimelineWait>(b'd', 0xca);
const QUERY: Opcode = opcode::read_write::<TimelineArray>(b'd', 0xcb);
const TRANSFER: Opcode = opcode::read_write::<Transfer>(b'd', 0xcc);
const TIMELINE_SIGNAL: Opcode = opcode::read_write::<TimelineArray>(b'd', 0xcd);
const EVENTFD: Opcode = opcode::read_write::<Eventfd>(b'd', 0xcf);

/// What a wait waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The point has a fence.
    Materialised,
    /// The point has a fence, and it has signalled.
    Signalled,
}

/// The flags of [`timeline_wait`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaitFlags {
    /// Wait for all the points; else for any of them.
    pub all: bool,
    /// Wait for points without a fence to get one and for that to signal; else such a point is `EINVAL`.
    pub for_submit: bool,
    /// Wait only until the points have fences.
    pub available: bool,
    /// Tell the fences' drivers that we need them by then (CLOCK_MONOTONIC, ns). Linux 6.8.
    pub deadline_ns: Option<u64>,
}

/// Whether the device has syncobjs, and whether it has timelines.
///
/// # Errors
/// `ENOTTY` or `EINVAL` if `fd` is no DRM device.
pub fn capabilities(fd: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
    let mut values = [0, 0];
    for (value, capability) in values.iter_mut().zip([CAP_SYNCOBJ, CAP_SYNCOBJ_TIMELINE]) {
        let mut args = GetCap { capability, value: 0 };
        // SAFETY: DRM_IOCTL_GET_CAP takes a `struct drm_get_cap`.
        unsafe { call::<GET_CAP, _>(fd, &mut args)? };
        *value = args.value;
    }
    Ok((values[0] != 0, values[1] != 0))
}

/// Makes a syncobj without a fence. Linux 4.12.
///
/// # Errors
/// `EOPNOTSUPP` if the driver has no syncobjs, `ENOMEM`.
pub fn create(fd: BorrowedFd<'_>) -> io::Result<Handle> {
    let mut args = Create { handle: 0, flags: 0 };
    // SAFETY: DRM_IOCTL_SYNCOBJ_CREATE takes a `struct drm_syncobj_create`.
    unsafe { call::<CREATE, _>(fd, &mut args)? };
    Ok(args.handle)
}

/// Drops a handle. The syncobj lives on while other handles or fds name it; pending eventfds do not count.
///
/// # Errors
/// `EINVAL` if there is no such handle.
pub fn destroy(fd: BorrowedFd<'_>, handle: Handle) -> io::Result<()> {
    let mut args = Destroy { handle, pad: 0 };
    // SAFETY: DRM_IOCTL_SYNCOBJ_DESTROY takes a `struct drm_syncobj_destroy`.
    unsafe { call::<DESTROY, _>(fd, &mut args)? };
    Ok(())
}

/// An fd for the syncobj itself, to be shared with other processes. It is close-on-exec.
///
/// # Errors
/// `EINVAL` if there is no such handle, `EMFILE`.
pub fn handle_to_fd(fd: BorrowedFd<'_>, handle: Handle) -> io::Result<OwnedFd> {
    handle_to_any_fd(fd, handle, 0)
}

/// The fence in a binary syncobj as a sync_file.
///
/// # Errors
/// `EINVAL` if it has none, `ENOENT` if there is no such handle, `EMFILE`.
pub fn export_sync_file(fd: BorrowedFd<'_>, handle: Handle) -> io::Result<OwnedFd> {
    handle_to_any_fd(fd, handle, FLAG_SYNC_FILE)
}

/// A new handle for the syncobj behind an fd. It is the same syncobj, not a copy.
///
/// # Errors
/// `EINVAL` if `syncobj` is no syncobj, `ENOMEM`.
pub fn fd_to_handle(fd: BorrowedFd<'_>, syncobj: BorrowedFd<'_>) -> io::Result<Handle> {
    let mut args = HandleFd { handle: 0, flags: 0, fd: syncobj.as_raw_fd(), pad: 0 };
    // SAFETY: DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE takes a `struct drm_syncobj_handle`; `syncobj` is open.
    unsafe { call::<FD_TO_HANDLE, _>(fd, &mut args)? };
    Ok(args.handle)
}

/// Makes the sync_file's fence the payload of `handle`, an existing syncobj, instead of what it had.
///
/// Newer kernels can import straight to a point (`FLAGS_TIMELINE`, 6.16). That path adds a fence chain
/// inside a sync_file to the timeline unflattened, at which `dma_fence_chain_init` warns (seen on 7.2);
/// [`transfer`] flattens. Hence no wrapper for it.
///
/// # Errors
/// `EINVAL` if `sync_file` is none, `ENOENT` if there is no such handle.
pub fn import_sync_file(fd: BorrowedFd<'_>, handle: Handle, sync_file: BorrowedFd<'_>) -> io::Result<()> {
    let mut args = HandleFd { handle, flags: FLAG_SYNC_FILE, fd: sync_file.as_raw_fd(), pad: 0 };
    // SAFETY: DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE takes a `struct drm_syncobj_handle`; `sync_file` is open.
    unsafe { call::<FD_TO_HANDLE, _>(fd, &mut args)? };
    Ok(())
}

/// Adds the fence at `(handle, point)` `src` to `dst` as a new point. A `dst` point of 0 replaces the
/// payload. A point not above the last one is accepted, and makes the timeline "unordered". Linux 5.2.
///
/// # Errors
/// `EINVAL` if the source is unmaterialised, unless `for_submit`: then this waits up to 5 s and answers
/// `ETIME`. `ENOENT` if there is no such handle, `ENOMEM`.
pub fn transfer(
    fd: BorrowedFd<'_>,
    src: (Handle, u64),
    dst: (Handle, u64),
    for_submit: bool,
) -> io::Result<()> {
    let mut args = Transfer {
        src_handle: src.0,
        dst_handle: dst.0,
        src_point: src.1,
        dst_point: dst.1,
        flags: if for_submit { FLAG_WAIT_FOR_SUBMIT } else { 0 },
        pad: 0,
    };
    // SAFETY: DRM_IOCTL_SYNCOBJ_TRANSFER takes a `struct drm_syncobj_transfer`.
    unsafe { call::<TRANSFER, _>(fd, &mut args)? };
    Ok(())
}

/// Waits until `timeout_ns`, absolute on CLOCK_MONOTONIC; one in the past (0) only looks. Returns the index
/// of a point that is there, meaningful without [`WaitFlags::all`]. Linux 5.2.
///
/// The points' fences having failed counts as signalled.
///
/// # Errors
/// `ETIME` if the time passed first; `EINVAL` for a point without a fence, unless `for_submit` or
/// `available`; `ENOENT` if there is no such handle.
pub fn timeline_wait(
    fd: BorrowedFd<'_>,
    handles: &[Handle],
    points: &[u64],
    timeout_ns: i64,
    flags: WaitFlags,
) -> io::Result<u32> {
    let mut bits = 0;
    for (set, bit) in [
        (flags.all, FLAG_WAIT_ALL),
        (flags.for_submit, FLAG_WAIT_FOR_SUBMIT),
        (flags.available, FLAG_WAIT_AVAILABLE),
        (flags.deadline_ns.is_some(), FLAG_WAIT_DEADLINE),
    ] {
        bits |= if set { bit } else { 0 };
    }
    let mut args = TimelineWait {
        handles: handles.as_ptr().expose_provenance() as u64,
        points: points.as_ptr().expose_provenance() as u64,
        timeout_nsec: timeout_ns,
        count_handles: count(handles, points)?,
        flags: bits,
        first_signaled: 0,
        pad: 0,
        deadline_nsec: flags.deadline_ns.unwrap_or(0),
    };
    // SAFETY: DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT takes a `struct drm_syncobj_timeline_wait`; both arrays have
    // `count_handles` entries and live until the call returns.
    unsafe { call::<TIMELINE_WAIT, _>(fd, &mut args)? };
    Ok(args.first_signaled)
}

/// The last signalled point, or the last one that has a fence (`last_submitted`). Linux 5.2.
///
/// # Errors
/// `ENOENT` if there is no such handle.
pub fn query(fd: BorrowedFd<'_>, handle: Handle, last_submitted: bool) -> io::Result<u64> {
    let mut point = 0_u64;
    let mut args = TimelineArray {
        handles: (&raw const handle).expose_provenance() as u64,
        points: (&raw mut point).expose_provenance() as u64,
        count_handles: 1,
        flags: if last_submitted { FLAG_LAST_SUBMITTED } else { 0 },
    };
    // SAFETY: DRM_IOCTL_SYNCOBJ_QUERY takes a `struct drm_syncobj_timeline_array`; the kernel reads one
    // handle and writes one point, both live until the call returns.
    unsafe { call::<QUERY, _>(fd, &mut args)? };
    // SAFETY: `point` is initialised. Volatile: it was written through an address that left this function
    // as a number.
    Ok(unsafe { (&raw const point).read_volatile() })
}

/// Adds a signalled fence at each of `points`, on the timeline at the same place in `handles`. Never replaces: at 0, or
/// below the last point, it chains to what is there, so it signals no sooner than that. Linux 5.2.
///
/// # Errors
/// `ENOENT` if there is no such handle, `ENOMEM`; none of the points has been signalled then. `EINVAL` for none.
pub fn timeline_signal(fd: BorrowedFd<'_>, handles: &[Handle], points: &[u64]) -> io::Result<()> {
    let mut args = TimelineArray {
        handles: handles.as_ptr().expose_provenance() as u64,
        points: points.as_ptr().expose_provenance() as u64,
        count_handles: count(handles, points)?,
        flags: 0,
    };
    // SAFETY: DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL takes a `struct drm_syncobj_timeline_array`; the kernel reads
    // `count_handles` entries of both arrays, which have that many and live until the call returns.
    unsafe { call::<TIMELINE_SIGNAL, _>(fd, &mut args)? };
    Ok(())
}

/// Adds 1 to `eventfd`, once, when the point is there. Both kinds wait for a fence first. Linux 6.6, right
/// from 6.6.19 and 6.8: before, a point that a later one had overtaken never fired.
///
/// The entry cannot be cancelled, and it does not keep the syncobj alive: when the last handle and fd go
/// before the point has a fence, it is dropped and never fires.
///
/// # Errors
/// `ENOENT` if there is no such handle, `EOPNOTSUPP` if the driver has no timelines, `ENOTTY` or `EINVAL` on
/// older kernels, `ENOMEM`.
pub fn eventfd(
    fd: BorrowedFd<'_>,
    handle: Handle,
    point: u64,
    until: Until,
    eventfd: BorrowedFd<'_>,
) -> io::Result<()> {
    let flags = match until {
        Until::Materialised => FLAG_WAIT_AVAILABLE,
        Until::Signalled => 0,
    };
    let mut args = Eventfd { handle, flags, point, fd: eventfd.as_raw_fd(), pad: 0 };
    // SAFETY: DRM_IOCTL_SYNCOBJ_EVENTFD takes a `struct drm_syncobj_eventfd`; `eventfd` is open.
    unsafe { call::<EVENTFD, _>(fd, &mut args)? };
    Ok(())
}

/// Whether the kernel has [`eventfd`] at all, and the driver timelines: then handle 0 answers `ENOENT`.
pub fn has_eventfd(fd: BorrowedFd<'_>) -> bool {
    // Any fd does in the place of the eventfd: the kernel looks up the handle first.
    match eventfd(fd, 0, 0, Until::Signalled, fd) {
        Err(error) => error.raw_os_error() == Some(Errno::NOENT.raw_os_error()),
        Ok(()) => false,
    }
}

fn handle_to_any_fd(fd: BorrowedFd<'_>, handle: Handle, flags: u32) -> io::Result<OwnedFd> {
    let mut args = HandleFd { handle, flags, fd: -1, pad: 0 };
    // SAFETY: DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD takes a `struct drm_syncobj_handle`.
    unsafe { call::<HANDLE_TO_FD, _>(fd, &mut args)? };
    // SAFETY: on success the kernel has installed a new fd there for us.
    unsafe { owned(args.fd) }
}

fn count(handles: &[Handle], points: &[u64]) -> io::Result<u32> {
    match u32::try_from(handles.len()) {
        Ok(count) if handles.len() == points.len() => Ok(count),
        _ => Err(Errno::INVAL.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_kernel_header() {
        assert_eq!(HANDLE_TO_FD, 0xc010_64c1);
        assert_eq!(TIMELINE_WAIT, 0xc030_64ca);
        assert_eq!(TRANSFER, 0xc020_64cc);
        assert_eq!(EVENTFD, 0xc018_64cf);
    }

    #[test]
    fn a_pipe_is_no_drm_device() {
        let (pipe, _writer) = std::io::pipe().expect("pipe");
        let enotty = Some(Errno::NOTTY.raw_os_error());
        assert_eq!(create(pipe.as_fd()).expect_err("syncobj on a pipe").raw_os_error(), enotty);
        assert!(!has_eventfd(pipe.as_fd()));
        assert!(capabilities(pipe.as_fd()).is_err());
    }

    #[test]
    fn a_wait_needs_one_point_for_each_handle() {
        let (pipe, _writer) = std::io::pipe().expect("pipe");
        let error = timeline_wait(pipe.as_fd(), &[1, 2], &[1], 0, WaitFlags::default());
        let einval = Some(Errno::INVAL.raw_os_error());
        assert_eq!(error.expect_err("two handles, one point").raw_os_error(), einval);
    }
}
