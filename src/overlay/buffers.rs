//! The overlay's buffers: memory that a plane can read where there is any, else shared memory.
//!
//! Owns where memory comes from and when a buffer may be drawn again: when the compositor has released it. The CPU draws, and
//! is done before the commit, so no fence of ours is in a buffer. A GPU's pass would be work for the GPU that is looked at.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

use super::picture::{HEIGHT, Picture, WIDTH};
use crate::sys::{
    dma_buf::{self, Access},
    dma_heap,
    mapping::Mapping,
    memfd, udmabuf,
};

/// Bytes from one row to the next: a multiple of what GPUs that import linear buffers want.
pub(super) const STRIDE: u32 = WIDTH * 4;

const PAGE: u64 = 4096;

/// What the compositor is to be told that the memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dmabuf,
    Shm,
}

/// Memory for one picture.
pub(super) struct Memory {
    pub(super) fd: OwnedFd,
    pub(super) kind: Kind,
    pub(super) len: u64,
    mapping: Mapping,
}

impl Memory {
    /// A dma-buf, if there may be one and a device that makes them can be opened; else shared memory.
    pub(super) fn new(dmabuf: bool) -> io::Result<Self> {
        let len = (u64::from(STRIDE) * u64::from(HEIGHT)).next_multiple_of(PAGE);
        let made = if dmabuf { Self::dmabuf(len) } else { None };
        let (fd, kind) = match made {
            Some(fd) => (fd, Kind::Dmabuf),
            None => (memfd::sealed("fencepost-overlay", len)?, Kind::Shm),
        };
        let mapped = usize::try_from(len).map_err(io::Error::other)?;
        let mapping = Mapping::new(fd.as_fd(), mapped, Access::Write)?;
        Ok(Self { fd, kind, len, mapping })
    }

    fn dmabuf(len: u64) -> Option<OwnedFd> {
        let open = |path| File::options().read(true).write(true).open(path);
        let made = open(udmabuf::PATH).and_then(|device| udmabuf::create(device.as_fd(), len));
        let made = made.or_else(|_| {
            open(dma_heap::SYSTEM_PATH).and_then(|device| dma_heap::allocate(device.as_fd(), len))
        });
        made.inspect_err(|error| tracing::debug!("the overlay is in shared memory: {error}")).ok()
    }

    /// Copies a picture in.
    pub(super) fn draw(&mut self, picture: &Picture) -> io::Result<()> {
        let is_dmabuf = self.kind == Kind::Dmabuf;
        if is_dmabuf {
            dma_buf::begin_cpu_access(self.fd.as_fd(), Access::Write)?;
        }
        let drawn = self.mapping.write(0, picture.bytes());
        if is_dmabuf {
            dma_buf::end_cpu_access(self.fd.as_fd(), Access::Write)?;
        }
        drawn
    }
}
