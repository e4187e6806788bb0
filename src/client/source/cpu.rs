//! Images drawn by the CPU, through a mapping of a linear dma-buf.
//!
//! The CPU access of DMA_BUF_IOCTL_SYNC spans everything from the poison to the content. It is begun before
//! the client puts a fence of its own in the buffer: begun after, it would wait for that fence.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use drm::buffer::DrmModifier;

use super::{Image, Layout, Plane, Source, SourceError};
use crate::client::formats::Formats;
use crate::client::late::{LateError, Pledge};
use crate::client::marker::{self, POISON};
use crate::client::swapchain::Size;
use crate::fence::sync_file::SyncFile;
use crate::sys::dma_buf::{self, Access};
use crate::sys::mapping::Mapping;

const BYTES_PER_PIXEL: u32 = 4;

/// Rows start at multiples of this, as GPUs that import linear buffers want it.
const STRIDE_ALIGNMENT: u32 = 256;

const PAGE: u64 = 4096;

/// Whoever makes dma-bufs.
pub(super) trait Exporter {
    /// Makes one that has room for an XRGB8888 image.
    fn allocate(&self, size: Size) -> Result<Allocation, SourceError>;
}

/// A dma-buf of an [`Exporter`].
pub(super) struct Allocation {
    /// The dma-buf.
    pub(super) fd: OwnedFd,
    /// Bytes from one row to the next.
    pub(super) stride: u32,
    /// How the exporter makes late fences, if it has its own way. Keeps the exporter's handle.
    pub(super) pledge: Option<Box<dyn Fn() -> Result<Pledge, LateError>>>,
}

impl Allocation {
    /// Has `allocate` make a dma-buf of as many whole pages as the image needs.
    pub(super) fn of(
        (width, height): Size,
        allocate: impl FnOnce(u64) -> io::Result<OwnedFd>,
    ) -> Result<Self, SourceError> {
        let stride = width
            .checked_mul(BYTES_PER_PIXEL)
            .and_then(|bytes| bytes.checked_next_multiple_of(STRIDE_ALIGNMENT))
            .ok_or(SourceError::Size(width, height))?;
        let bytes = (u64::from(stride) * u64::from(height)).next_multiple_of(PAGE);
        let fd = allocate(bytes).map_err(|error| SourceError::Allocate(bytes, error))?;
        Ok(Self { fd, stride, pledge: None })
    }
}

/// The source for any exporter.
pub(super) struct Cpu<E> {
    exporter: E,
    modifier: u64,
}

impl<E: Exporter> Cpu<E> {
    pub(super) fn new(exporter: E, formats: &Formats) -> Result<Self, SourceError> {
        let wanted = [DrmModifier::Linear, DrmModifier::Invalid].map(u64::from);
        let modifier = wanted.into_iter().find(|modifier| formats.modifiers.contains(modifier));
        Ok(Self { exporter, modifier: modifier.ok_or(SourceError::NoLinear)? })
    }
}

impl<E: Exporter> Source for Cpu<E> {
    fn allocate(&mut self, size: Size) -> Result<Box<dyn Image>, SourceError> {
        let Allocation { fd, stride, pledge } = self.exporter.allocate(size)?;
        let len = stride as usize * size.1 as usize;
        let mapping = Mapping::new(fd.as_fd(), len, Access::Write).map_err(SourceError::Access)?;
        let layout = Layout { size, planes: vec![Plane { fd, offset: 0, stride }], modifier: self.modifier };
        Ok(Box::new(CpuImage { mapping, layout, stride, pledge, in_access: false }))
    }
}

struct CpuImage {
    mapping: Mapping,
    layout: Layout,
    stride: u32,
    pledge: Option<Box<dyn Fn() -> Result<Pledge, LateError>>>,
    in_access: bool,
}

impl CpuImage {
    fn fd(&self) -> io::Result<std::os::fd::BorrowedFd<'_>> {
        let plane = self.layout.planes.first().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(plane.fd.as_fd())
    }

    fn begin_access(&mut self) -> io::Result<()> {
        if !self.in_access {
            dma_buf::begin_cpu_access(self.fd()?, Access::Write)?;
            self.in_access = true;
        }
        Ok(())
    }

    fn end_access(&mut self) -> io::Result<()> {
        self.in_access = false;
        dma_buf::end_cpu_access(self.fd()?, Access::Write)
    }

    fn fill(&mut self, rect: marker::Rect) -> io::Result<()> {
        let (width, height) = self.layout.size;
        let right = rect.x.saturating_add(rect.width).min(width);
        let bottom = rect.y.saturating_add(rect.height).min(height);
        for y in rect.y..bottom {
            let start = y as usize * self.stride as usize + (rect.x * BYTES_PER_PIXEL) as usize;
            self.mapping.fill(start, right.saturating_sub(rect.x) as usize, rect.colour)?;
        }
        Ok(())
    }
}

impl Image for CpuImage {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn scribble(&mut self) -> Result<(), SourceError> {
        let (width, height) = self.layout.size;
        let all = marker::Rect { x: 0, y: 0, width, height, colour: POISON };
        self.begin_access().and_then(|()| self.fill(all)).map_err(SourceError::Access)
    }

    fn draw(&mut self, counter: u32) -> Result<Option<SyncFile>, SourceError> {
        let (width, height) = self.layout.size;
        self.begin_access().map_err(SourceError::Access)?;
        for rect in marker::picture(counter, width, height) {
            self.fill(rect).map_err(SourceError::Access)?;
        }
        self.end_access().map_err(SourceError::Access)?;
        Ok(None)
    }

    fn pledge(&self) -> Result<Pledge, LateError> {
        match &self.pledge {
            Some(pledge) => pledge(),
            None => Pledge::in_dma_buf(self.fd().map_err(LateError::Import)?),
        }
    }
}
