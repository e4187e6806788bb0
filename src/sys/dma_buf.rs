//! dma-buf: implicit fences in and out, CPU access. From `include/uapi/linux/dma-buf.h` and
//! `drivers/dma-buf/dma-buf.c`.
//!
//! A dma-buf carries a reservation object: fences of everyone who writes or reads it. Explicitly
//! synchronised work adds its fences as BOOKKEEP, which none of these calls sees.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{fstat, fstatfs};
use rustix::ioctl::{Opcode, opcode};

use super::ioctl::{call, owned};

/// `DMA_BUF_MAGIC` of `include/uapi/linux/magic.h`.
const MAGIC: i64 = 0x444d_4142;

const SYNC_READ: u32 = 1;
const SYNC_WRITE: u32 = 2;
const SYNC_END: u64 = 4;

#[repr(C)]
struct SyncFile {
    flags: u32,
    fd: i32,
}

const SYNC: Opcode = opcode::write::<u64>(b'b', 0);
const EXPORT_SYNC_FILE: Opcode = opcode::read_write::<SyncFile>(b'b', 2);
const IMPORT_SYNC_FILE: Opcode = opcode::write::<SyncFile>(b'b', 3);

/// What an access does to the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads only.
    Read,
    /// Writes only.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    fn flags(self) -> u32 {
        match self {
            Self::Read => SYNC_READ,
            Self::Write => SYNC_WRITE,
            Self::ReadWrite => SYNC_READ | SYNC_WRITE,
        }
    }
}

/// Whether `fd` is a dma-buf.
///
/// # Errors
/// Those of fstatfs(2).
pub fn is_dma_buf(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // `f_type` is i64 on some architectures and narrower on others.
    #[allow(clippy::unnecessary_cast)]
    Ok(fstatfs(fd)?.f_type as i64 == MAGIC)
}

/// A number that two fds share exactly if they are the same dma-buf (Linux 5.3).
///
/// # Errors
/// Those of fstat(2).
pub fn identity(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(fstat(fd)?.st_ino)
}

/// A snapshot of the implicit fences that an access of this kind has to wait for: for [`Access::Read`] the
/// writers, else everyone. Without any, a sync_file that has signalled. Linux 6.0.
///
/// # Errors
/// `ENOTTY` on older kernels and on what is no dma-buf, `EMFILE`, `ENOMEM`.
pub fn export_sync_file(fd: BorrowedFd<'_>, access: Access) -> io::Result<OwnedFd> {
    let mut args = SyncFile { flags: access.flags(), fd: -1 };
    // SAFETY: DMA_BUF_IOCTL_EXPORT_SYNC_FILE takes a `struct dma_buf_export_sync_file`.
    unsafe { call::<EXPORT_SYNC_FILE, _>(fd, &mut args)? };
    // SAFETY: on success the kernel has installed a new fd there for us.
    unsafe { owned(args.fd) }
}

/// Adds the fences of a sync_file to the dma-buf: as a reader ([`Access::Read`]: later writers wait), or as a
/// writer (everyone waits). It adds, never replaces. Linux 6.0.
///
/// Export, submit, import is not atomic: whoever does all three keeps others out meanwhile.
///
/// # Errors
/// `EINVAL` if `sync_file` is none, `ENOTTY` on older kernels and on what is no dma-buf, `ENOMEM`.
pub fn import_sync_file(fd: BorrowedFd<'_>, access: Access, sync_file: BorrowedFd<'_>) -> io::Result<()> {
    let mut args = SyncFile { flags: access.flags(), fd: sync_file.as_raw_fd() };
    // SAFETY: DMA_BUF_IOCTL_IMPORT_SYNC_FILE takes a `struct dma_buf_import_sync_file`; `sync_file` is open
    // for the whole call.
    unsafe { call::<IMPORT_SYNC_FILE, _>(fd, &mut args)? };
    Ok(())
}

/// Starts CPU access through a mapping: waits (without limit) for the implicit fences in the way, then
/// makes caches coherent. End it with [`end_cpu_access`]. Linux 4.6.
///
/// # Errors
/// Those of the exporter.
pub fn begin_cpu_access(fd: BorrowedFd<'_>, access: Access) -> io::Result<()> {
    cpu_access(fd, u64::from(access.flags()))
}

/// Ends what [`begin_cpu_access`] started, with the same `access`.
///
/// # Errors
/// Those of the exporter.
pub fn end_cpu_access(fd: BorrowedFd<'_>, access: Access) -> io::Result<()> {
    cpu_access(fd, u64::from(access.flags()) | SYNC_END)
}

fn cpu_access(fd: BorrowedFd<'_>, mut flags: u64) -> io::Result<()> {
    // SAFETY: DMA_BUF_IOCTL_SYNC takes a `struct dma_buf_sync`, which is one u64.
    unsafe { call::<SYNC, _>(fd, &mut flags)? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_kernel_header() {
        assert_eq!(SYNC, 0x4008_6200);
        assert_eq!(EXPORT_SYNC_FILE, 0xc008_6202);
        assert_eq!(IMPORT_SYNC_FILE, 0x4008_6203);
    }

    #[test]
    fn a_pipe_is_no_dma_buf() {
        let (pipe, _writer) = std::io::pipe().expect("pipe");
        let enotty = Some(rustix::io::Errno::NOTTY.raw_os_error());
        assert!(!is_dma_buf(pipe.as_fd()).expect("fstatfs"));
        let error = export_sync_file(pipe.as_fd(), Access::Read).expect_err("export from a pipe");
        assert_eq!(error.raw_os_error(), enotty);
        let error = begin_cpu_access(pipe.as_fd(), Access::Read).expect_err("CPU access to a pipe");
        assert_eq!(error.raw_os_error(), enotty);
    }
}
