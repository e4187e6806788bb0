//! The buffers of an output: allocated on demand, lent as [`Slot`]s, reused when nobody holds them.
//!
//! Owns the buffers. A slot is a lease: whoever holds it (the renderer, the commit in flight, the screen)
//! keeps the buffer out of circulation, and dropping it gives the buffer back.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use drm::buffer::{Buffer as _, DrmFourcc as Fourcc, DrmModifier as Modifier};
use smithay::backend::allocator::dmabuf::{AsDmabuf, Dmabuf};
use smithay::backend::allocator::dumb::DumbAllocator;
use smithay::backend::allocator::gbm::{GbmAllocator, GbmBuffer, GbmBufferFlags, GbmDevice};
use smithay::backend::allocator::{Allocator, dumb};
use smithay::backend::drm::DrmDeviceFd;

use super::device::Device;
use super::formats::Candidate;
use super::framebuffer::Framebuffer;
use crate::output::ring::Ring;
use crate::sys::dma_buf::{self, Access};
use crate::sys::mapping::Mapping;

/// One on the screen, one in flight, one being drawn. Drawing starts when nothing is in flight, so usually two exist.
pub const CAPACITY: usize = 3;

/// Why a buffer could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// All are in use: something holds on to slots.
    #[error("Could not find a free buffer: all {CAPACITY} of the output are in use")]
    NoneFree,
    /// Out of memory, or an allocator that cannot do the format.
    #[error("Could not allocate a buffer of {width}x{height} {fourcc}")]
    Allocate {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Format.
        fourcc: Fourcc,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The buffer cannot be shared with the renderer.
    #[error("Could not export a buffer as dma-buf")]
    Export(#[source] io::Error),
    /// The kernel makes no framebuffer of it.
    #[error("Could not make a framebuffer of a buffer")]
    Framebuffer(#[source] io::Error),
    /// The CPU cannot get at its pixels.
    #[error("Could not map a buffer")]
    Map(#[source] io::Error),
}

/// Where buffers come from, and so who draws into them.
#[derive(Debug)]
pub enum Source {
    /// GBM, for the renderer to draw in through the dma-buf.
    Gbm(GbmAllocator<DrmDeviceFd>, Candidate),
    /// GBM of the device that the renderer is on, in linear buffers that this device reads in place: imported through its
    /// own GBM, which counts its handles.
    Elsewhere(GbmAllocator<DrmDeviceFd>, Fourcc, GbmDevice<DrmDeviceFd>),
    /// Dumb buffers, for the CPU to copy finished pictures in (XRGB8888). For renderers that cannot draw into dma-bufs.
    Dumb(DumbAllocator),
}

impl Source {
    /// Buffers for a renderer.
    ///
    /// # Errors
    /// Those of [`Device::gbm`].
    pub fn gbm(device: &Device, candidate: Candidate) -> io::Result<Self> {
        let flags = GbmBufferFlags::SCANOUT | GbmBufferFlags::RENDERING;
        Ok(Self::Gbm(GbmAllocator::new(device.gbm()?.clone(), flags), candidate))
    }

    /// Linear buffers of another device, whose allocator this is.
    ///
    /// # Errors
    /// Those of [`Device::gbm`].
    pub fn elsewhere(device: &Device, gbm: &GbmDevice<DrmDeviceFd>, fourcc: Fourcc) -> io::Result<Self> {
        let allocator = GbmAllocator::new(gbm.clone(), GbmBufferFlags::LINEAR | GbmBufferFlags::RENDERING);
        Ok(Self::Elsewhere(allocator, fourcc, device.gbm()?.clone()))
    }

    /// Buffers for the CPU.
    pub fn dumb(device: &Device) -> Self {
        Self::Dumb(DumbAllocator::new(device.fd().clone()))
    }
}

/// The buffers of one output.
#[derive(Debug)]
pub struct Swapchain {
    device: DrmDeviceFd,
    has_modifiers: bool,
    source: Source,
    size: (u32, u32),
    ring: Ring<Buffer>,
}

/// Field order is drop order: the framebuffer before the memory.
#[derive(Debug)]
struct Buffer {
    framebuffer: Framebuffer,
    dmabuf: Dmabuf,
    memory: Memory,
}

enum Memory {
    Gbm { _buffer: GbmBuffer },
    Dumb { mapping: RefCell<Mapping>, _buffer: dumb::DumbBuffer },
}

/// A buffer to draw into and commit.
#[derive(Debug)]
#[must_use = "a slot that is dropped goes back unused"]
pub struct Slot {
    buffer: Rc<Buffer>,
    age: usize,
}

impl Swapchain {
    /// An empty swapchain; buffers come with [`Swapchain::acquire`].
    pub fn new(device: &Device, source: Source, size: (u32, u32)) -> Self {
        Self {
            device: device.fd().clone(),
            has_modifiers: device.caps().modifiers,
            source,
            size,
            ring: Ring::default(),
        }
    }

    /// A buffer that nobody uses: the one drawn last, which needs the least new drawing, or a new one.
    ///
    /// # Errors
    /// [`BufferError`].
    pub fn acquire(&mut self) -> Result<Slot, BufferError> {
        if let Some((buffer, age)) = self.ring.free(|_| true) {
            return Ok(Slot { buffer, age });
        }
        if self.ring.len() >= CAPACITY {
            return Err(BufferError::NoneFree);
        }
        let buffer = self.allocate()?;
        Ok(Slot { buffer: self.ring.add(buffer), age: 0 })
    }

    /// The slot's drawing was committed: it holds the newest frame.
    pub fn committed(&mut self, slot: &Slot) {
        self.ring.committed(&slot.buffer);
    }

    /// A drawing was not committed, so whoever tracks damage has lost count: every buffer is to be drawn anew.
    pub fn forget_ages(&mut self) {
        self.ring.forget_ages();
    }

    fn allocate(&mut self) -> Result<Buffer, BufferError> {
        let (width, height) = self.size;
        let failed = |fourcc| move |source| BufferError::Allocate { width, height, fourcc, source };
        match &mut self.source {
            Source::Gbm(allocator, Candidate { fourcc, modifiers }) => {
                let buffer = allocator.create_buffer(width, height, *fourcc, modifiers);
                let buffer = buffer.map_err(failed(*fourcc))?;
                let framebuffer = Framebuffer::of_gbm(&self.device, &buffer, self.has_modifiers);
                let framebuffer = framebuffer.map_err(BufferError::Framebuffer)?;
                let dmabuf = buffer.export().map_err(|error| BufferError::Export(io::Error::other(error)))?;
                tracing::debug!(format = ?framebuffer.format(), width, height, "allocated a buffer");
                Ok(Buffer { framebuffer, dmabuf, memory: Memory::Gbm { _buffer: buffer } })
            }
            Source::Elsewhere(allocator, fourcc, import) => {
                let buffer = allocator.create_buffer(width, height, *fourcc, &[Modifier::Linear]);
                let buffer = buffer.map_err(failed(*fourcc))?;
                let dmabuf = buffer.export().map_err(|error| BufferError::Export(io::Error::other(error)))?;
                let framebuffer =
                    Framebuffer::of_dmabuf(&self.device, import, &dmabuf, *fourcc, self.has_modifiers);
                let framebuffer = framebuffer.map_err(BufferError::Framebuffer)?;
                Ok(Buffer { framebuffer, dmabuf, memory: Memory::Gbm { _buffer: buffer } })
            }
            Source::Dumb(allocator) => {
                let fourcc = Fourcc::Xrgb8888;
                let buffer = allocator.create_buffer(width, height, fourcc, &[Modifier::Linear]);
                let buffer = buffer.map_err(failed(fourcc))?;
                let framebuffer = Framebuffer::of_dumb(&self.device, buffer.handle(), fourcc);
                let framebuffer = framebuffer.map_err(BufferError::Framebuffer)?;
                let dmabuf = buffer.export().map_err(BufferError::Export)?;
                let mapping = map(&dmabuf, buffer.handle().pitch(), height, Access::Write);
                let mapping = RefCell::new(mapping.map_err(BufferError::Map)?);
                Ok(Buffer { framebuffer, dmabuf, memory: Memory::Dumb { mapping, _buffer: buffer } })
            }
        }
    }
}

/// Maps the one plane of a linear dma-buf.
pub(super) fn map(dmabuf: &Dmabuf, pitch: u32, height: u32, access: Access) -> io::Result<Mapping> {
    let fd = dmabuf.handles().next().ok_or(rustix::io::Errno::INVAL)?;
    let len = usize::try_from(u64::from(pitch) * u64::from(height)).map_err(io::Error::other)?;
    Mapping::new(fd, len, access)
}

impl Slot {
    /// The buffer as a dma-buf, for the renderer to draw into.
    pub fn dmabuf(&self) -> &Dmabuf {
        &self.buffer.dmabuf
    }

    /// How many frames old the buffer's content is: 1 is the frame committed last, 0 is undefined. What has to
    /// be drawn is the damage of that many frames; of 0, everything.
    pub fn age(&self) -> usize {
        self.age
    }

    /// Whether the CPU copies into it; else the renderer draws into the dma-buf.
    pub fn is_mapped(&self) -> bool {
        matches!(self.buffer.memory, Memory::Dumb { .. })
    }

    /// The buffer's pixels, for the CPU to copy into.
    ///
    /// # Errors
    /// Those of DMA_BUF_IOCTL_SYNC; `EINVAL` unless [`Slot::is_mapped`].
    pub fn pixels(&mut self) -> io::Result<Pixels<'_>> {
        let Memory::Dumb { mapping, .. } = &self.buffer.memory else {
            return Err(rustix::io::Errno::INVAL.into());
        };
        let stride = self.buffer.dmabuf.strides().next().unwrap_or(0);
        Pixels::begin(&self.buffer.dmabuf, mapping, stride)
    }

    /// The framebuffer to show.
    pub(super) fn framebuffer(&self) -> &Framebuffer {
        &self.buffer.framebuffer
    }
}

/// CPU access to a buffer's pixels, XRGB8888, which ends when this is dropped.
#[derive(Debug)]
pub struct Pixels<'slot> {
    /// Whose access has to be bracketed; plain memory has none.
    dmabuf: Option<&'slot Dmabuf>,
    mapping: &'slot RefCell<Mapping>,
    stride: usize,
}

impl<'slot> Pixels<'slot> {
    fn begin(dmabuf: &'slot Dmabuf, mapping: &'slot RefCell<Mapping>, stride: u32) -> io::Result<Self> {
        if let Some(fd) = dmabuf.handles().next() {
            dma_buf::begin_cpu_access(fd.as_fd(), Access::Write)?;
        }
        let stride = usize::try_from(stride).map_err(io::Error::other)?;
        Ok(Self { dmabuf: Some(dmabuf), mapping, stride })
    }

    /// Memory that is no dma-buf.
    pub(in crate::output) fn of_memory(mapping: &'slot RefCell<Mapping>, stride: usize) -> Self {
        Self { dmabuf: None, mapping, stride }
    }

    /// Copies pixels into a row, from its left edge on; more than fit are an error.
    ///
    /// # Errors
    /// `EINVAL` outside of the buffer.
    pub fn write_row(&mut self, y: usize, pixels: &[u8]) -> io::Result<()> {
        if pixels.len() > self.stride {
            return Err(rustix::io::Errno::INVAL.into());
        }
        let offset = y.checked_mul(self.stride).ok_or(rustix::io::Errno::INVAL)?;
        self.mapping.borrow_mut().write(offset, pixels)
    }

    /// Fills the first `count` pixels of a row.
    ///
    /// # Errors
    /// `EINVAL` outside of the buffer.
    pub fn fill_row(&mut self, y: usize, count: usize, pixel: u32) -> io::Result<()> {
        let offset = y.checked_mul(self.stride).ok_or(rustix::io::Errno::INVAL)?;
        self.mapping.borrow_mut().fill(offset, count, pixel)
    }
}

impl Drop for Pixels<'_> {
    fn drop(&mut self) {
        let fd = self.dmabuf.and_then(|dmabuf| dmabuf.handles().next());
        let ended = fd.map(|fd| dma_buf::end_cpu_access(fd.as_fd(), Access::Write));
        if let Some(Err(error)) = ended {
            tracing::warn!(%error, "could not end the CPU's access to a buffer; old pixels may show");
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gbm { .. } => "Gbm",
            Self::Dumb { .. } => "Dumb",
        })
    }
}
