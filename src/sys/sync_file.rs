//! sync_file: the fd form of a `dma_fence`. From `include/uapi/linux/sync_file.h` and
//! `drivers/dma-buf/sync_file.c`.
//!
//! A sync_file always wraps a real, bounded kernel fence; it polls readable once that has signalled.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

use super::ioctl::{call, owned};

/// Length of every name in this interface, with the terminating zero.
const NAME_LEN: usize = 32;

#[repr(C)]
struct MergeData {
    name: [u8; NAME_LEN],
    fd2: i32,
    fence: i32,
    flags: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct FenceInfo {
    obj_name: [u8; NAME_LEN],
    driver_name: [u8; NAME_LEN],
    status: i32,
    flags: u32,
    timestamp_ns: u64,
}

impl FenceInfo {
    const EMPTY: Self =
        Self { obj_name: [0; NAME_LEN], driver_name: [0; NAME_LEN], status: 0, flags: 0, timestamp_ns: 0 };
}

#[repr(C)]
struct FileInfo {
    name: [u8; NAME_LEN],
    status: i32,
    flags: u32,
    num_fences: u32,
    pad: u32,
    sync_fence_info: u64,
}

#[repr(C)]
struct SetDeadline {
    deadline_ns: u64,
    pad: u64,
}

const MERGE: Opcode = opcode::read_write::<MergeData>(b'>', 3);
const FILE_INFO: Opcode = opcode::read_write::<FileInfo>(b'>', 4);
const SET_DEADLINE: Opcode = opcode::write::<SetDeadline>(b'>', 5);

/// What FILE_INFO says about a sync_file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// 1: every fence has signalled; 0: pending; negative errno: a fence completed with that error.
    pub status: i32,
    /// The name it got when it was made, for people.
    pub name: String,
    /// The fences inside, merged ones one by one.
    pub fences: Vec<FenceDetail>,
}

/// One fence of a sync_file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceDetail {
    /// The driver that made the fence.
    pub driver: String,
    /// The driver's timeline it belongs to.
    pub timeline: String,
    /// As in [`Info::status`].
    pub status: i32,
    /// When it signalled, CLOCK_MONOTONIC; 0 while it is pending.
    pub timestamp_ns: u64,
}

/// Merges two sync_files into a new one that signals when both have. The fd is close-on-exec.
///
/// Duplicate and signalled fences are dropped by the kernel, nested containers flattened.
///
/// # Errors
/// `ENOENT` if `b` is no sync_file, `ENOTTY` if `a` is none, `EMFILE`, `ENOMEM`.
pub fn merge(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut args = MergeData { name: [0; NAME_LEN], fd2: b.as_raw_fd(), fence: -1, flags: 0, pad: 0 };
    args.name[..9].copy_from_slice(b"fencepost");
    // SAFETY: SYNC_IOC_MERGE takes a `struct sync_merge_data`; `b` is open for the whole call.
    unsafe { call::<MERGE, _>(a, &mut args)? };
    // SAFETY: on success the kernel has installed a new fd there for us.
    unsafe { owned(args.fence) }
}

/// The status alone, in one call: 1 signalled, 0 pending, negative errno completed with an error.
///
/// # Errors
/// `ENOTTY` if `fd` is no sync_file.
pub fn status(fd: BorrowedFd<'_>) -> io::Result<i32> {
    Ok(file_info(fd, &mut [])?.status)
}

/// Everything FILE_INFO tells. One call if there is one fence, as in most sync_files.
///
/// # Errors
/// `ENOTTY` if `fd` is no sync_file, `ENOMEM`.
pub fn info(fd: BorrowedFd<'_>) -> io::Result<Info> {
    let mut fences = vec![FenceInfo::EMPTY];
    let head = match file_info(fd, &mut fences) {
        // Room for none at all makes the kernel say how many there are, and room for too few is an error.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            let count = file_info(fd, &mut [])?.num_fences;
            fences.resize(count as usize, FenceInfo::EMPTY);
            file_info(fd, &mut fences)?
        }
        head => head?,
    };
    fences.truncate(head.num_fences as usize);
    let detail = |fence: &FenceInfo| FenceDetail {
        driver: text(&fence.driver_name),
        timeline: text(&fence.obj_name),
        status: fence.status,
        timestamp_ns: fence.timestamp_ns,
    };
    Ok(Info { status: head.status, name: text(&head.name), fences: fences.iter().map(detail).collect() })
}

/// Tells the fence's driver when the result is needed (CLOCK_MONOTONIC, ns). A hint. Linux 6.8.
///
/// # Errors
/// `ENOTTY` on older kernels or if `fd` is no sync_file.
pub fn set_deadline(fd: BorrowedFd<'_>, deadline_ns: u64) -> io::Result<()> {
    let mut args = SetDeadline { deadline_ns, pad: 0 };
    // SAFETY: SYNC_IOC_SET_DEADLINE takes a `struct sync_set_deadline`.
    unsafe { call::<SET_DEADLINE, _>(fd, &mut args)? };
    Ok(())
}

fn file_info(fd: BorrowedFd<'_>, fences: &mut [FenceInfo]) -> io::Result<FileInfo> {
    let mut args = FileInfo {
        name: [0; NAME_LEN],
        status: 0,
        flags: 0,
        num_fences: u32::try_from(fences.len()).unwrap_or(u32::MAX),
        pad: 0,
        sync_fence_info: fences.as_mut_ptr().expose_provenance() as u64,
    };
    // SAFETY: SYNC_IOC_FILE_INFO takes a `struct sync_file_info`; the kernel writes at most `num_fences`
    // entries to the array, which has that many and lives until the call returns.
    unsafe { call::<FILE_INFO, _>(fd, &mut args)? };
    Ok(args)
}

fn text(name: &[u8]) -> String {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(name.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_structs_have_the_sizes_of_the_kernel_header() {
        assert_eq!(size_of::<MergeData>(), 48);
        assert_eq!(size_of::<FenceInfo>(), 80);
        assert_eq!(size_of::<FileInfo>(), 56);
        assert_eq!(FILE_INFO, 0xc038_3e04);
        assert_eq!(SET_DEADLINE, 0x4010_3e05);
    }

    #[test]
    fn a_pipe_is_no_sync_file() {
        let (pipe, _writer) = std::io::pipe().expect("pipe");
        let enotty = Some(rustix::io::Errno::NOTTY.raw_os_error());
        assert_eq!(status(pipe.as_fd()).expect_err("status of a pipe").raw_os_error(), enotty);
        assert_eq!(info(pipe.as_fd()).expect_err("info of a pipe").raw_os_error(), enotty);
        assert_eq!(merge(pipe.as_fd(), pipe.as_fd()).expect_err("merge of pipes").raw_os_error(), enotty);
        assert_eq!(set_deadline(pipe.as_fd(), 1).expect_err("deadline of a pipe").raw_os_error(), enotty);
    }

    #[test]
    fn names_end_at_the_first_zero() {
        assert_eq!(text(b"sw_sync\0junk"), "sw_sync");
        assert_eq!(text(b"full"), "full");
    }
}
