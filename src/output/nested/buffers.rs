//! The buffers of a window: dma-bufs that the renderer draws into, or shared memory that pictures are copied into.
//!
//! Owns the memory. A buffer is free when nobody here holds its [`Slot`] and the parent is done with every commit of it:
//! its release point has signalled; or, without explicit sync, `wl_buffer.release` has come and every fence in the dma-buf
//! is done. A failure to find out counts as in use.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use drm::buffer::DrmFourcc as Fourcc;
use smithay::backend::allocator::Allocator;
use smithay::backend::allocator::dmabuf::{AsDmabuf, Dmabuf};
use smithay::backend::allocator::gbm::{GbmAllocator, GbmBuffer, GbmBufferFlags, GbmDevice};
use smithay::backend::drm::DrmDeviceFd;
use smithay::utils::{Physical, Size};
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::ZwpLinuxBufferParamsV1;

use super::explicit::Shared;
use super::parent::Parent;
use super::window::{Sync, Window};
use crate::fence::implicit::Planes;
use crate::fence::roles::AcquireFence;
use crate::output::kms::formats::Candidate;
use crate::output::kms::swapchain::{BufferError, CAPACITY, Pixels};
use crate::output::ring::Ring;
use crate::sys::dma_buf::Access;
use crate::sys::mapping::Mapping;
use crate::sys::memfd;

/// Whether the parent reads a buffer; it goes along with the `wl_buffer`.
#[derive(Clone, Debug, Default)]
pub struct Lent(Arc<AtomicBool>);

impl Lent {
    /// The parent has released the buffer.
    pub(super) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// The parent reads the buffer from now on.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The parent has not released it.
    pub(super) fn holds(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Buffer {
    wire: WlBuffer,
    lent: Lent,
    /// With explicit sync.
    release: Option<Shared>,
    memory: Memory,
    size: Size<i32, Physical>,
}

#[derive(Debug)]
enum Memory {
    Shm {
        mapping: RefCell<Mapping>,
        stride: usize,
    },
    /// The question for the `wl_buffer` stays open as long as that: a refusal is an event of it.
    Gbm {
        dmabuf: Dmabuf,
        planes: Planes,
        question: ZwpLinuxBufferParamsV1,
        _buffer: Box<GbmBuffer>,
    },
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Memory::Gbm { question, .. } = &self.memory {
            question.destroy();
        }
        self.wire.destroy();
    }
}

impl Buffer {
    fn is_gbm(&self) -> bool {
        matches!(self.memory, Memory::Gbm { .. })
    }

    /// Whether the parent is done with it.
    fn is_back(&self) -> bool {
        match (&self.release, &self.memory) {
            (Some(release), _) => release.is_over(),
            (None, Memory::Shm { .. }) => !self.lent.holds(),
            (None, Memory::Gbm { planes, .. }) => {
                let is_idle = || planes.is_idle().inspect_err(|error| tracing::warn!("{error}"));
                !self.lent.holds() && is_idle().unwrap_or(false)
            }
        }
    }

    /// What the parent is still to do with it, as far as that can be waited for. What it says is heard without.
    fn awaits(&self) -> Vec<AcquireFence> {
        match (&self.release, &self.memory) {
            (Some(release), _) => release.newest().into_iter().map(AcquireFence::Point).collect(),
            (None, Memory::Gbm { planes, .. }) if !self.lent.holds() => {
                let users = planes.users().inspect_err(|error| tracing::warn!("{error}")).unwrap_or_default();
                users.into_iter().map(AcquireFence::SyncFile).collect()
            }
            (None, _) => Vec::new(),
        }
    }
}

/// A buffer to draw into and commit.
#[derive(Debug)]
pub struct Slot {
    buffer: Rc<Buffer>,
    age: usize,
}

/// How a slot is filled.
#[derive(Debug)]
pub enum Fill<'slot> {
    /// The renderer draws.
    Draw(&'slot Dmabuf),
    /// The CPU copies.
    Copy(Pixels<'slot>),
}

impl Slot {
    /// How it is filled.
    pub fn fill(&self) -> Fill<'_> {
        match &self.buffer.memory {
            Memory::Shm { mapping, stride } => Fill::Copy(Pixels::of_memory(mapping, *stride)),
            Memory::Gbm { dmabuf, .. } => Fill::Draw(dmabuf),
        }
    }

    /// As [`crate::output::Slot::age`].
    pub fn age(&self) -> usize {
        self.age
    }

    pub(super) fn buffer(&self) -> &WlBuffer {
        &self.buffer.wire
    }

    pub(super) fn size(&self) -> Size<i32, Physical> {
        self.buffer.size
    }

    /// How a commit of it is synchronised.
    pub(super) fn sync(&self) -> Sync<'_> {
        match (&self.buffer.release, &self.buffer.memory) {
            (Some(release), _) => Sync::Points(release),
            (None, Memory::Gbm { planes, .. }) => Sync::Implicit(Some(planes)),
            (None, Memory::Shm { .. }) => Sync::Implicit(None),
        }
    }

    /// The parent reads it from now on.
    pub(super) fn lend(&self) {
        self.buffer.lent.begin();
    }
}

/// The buffers of one window.
#[derive(Debug, Default)]
pub(super) struct Swapchain(Ring<Buffer>);

impl Swapchain {
    /// A free buffer of this size, for a window, from this source or of shared memory. Those of another size or kind go when
    /// the parent is done with them.
    pub(super) fn acquire(
        &mut self,
        parent: &Parent,
        window: Option<&Window>,
        source: Option<&Source>,
        size: Size<i32, Physical>,
    ) -> Result<Slot, BufferError> {
        let fits = |buffer: &Buffer| buffer.size == size && buffer.is_gbm() == source.is_some();
        self.0.retain(|buffer| fits(buffer) || !buffer.is_back());
        if let Some((buffer, age)) = self.0.free(|buffer| fits(buffer) && buffer.is_back()) {
            return Ok(Slot { buffer, age });
        }
        // Also those that wait for the parent: one that keeps everything gets no more.
        if self.0.len() >= 2 * CAPACITY || self.0.count(fits) >= CAPACITY {
            return Err(BufferError::NoneFree);
        }
        let side = |side: i32| u32::try_from(side).unwrap_or(0);
        let failed = |source| BufferError::Allocate {
            width: side(size.w),
            height: side(size.h),
            fourcc: Fourcc::Xrgb8888,
            source,
        };
        let buffer = match source {
            Some(source) => of_gbm(parent, window, source, size),
            None => of_shm(parent, size),
        };
        Ok(Slot { buffer: self.0.add(buffer.map_err(failed)?), age: 0 })
    }

    /// The newest picture, if the parent is done with it.
    pub(super) fn newest(&self, size: Size<i32, Physical>) -> Option<Slot> {
        let (buffer, age) = self.0.newest()?;
        (buffer.size == size && buffer.is_back()).then_some(Slot { buffer, age })
    }

    /// Whether there is a picture.
    pub(super) fn has_picture(&self, size: Size<i32, Physical>) -> bool {
        self.0.newest().is_some_and(|(buffer, _)| buffer.size == size)
    }

    /// What the parent is still to do before a buffer is free.
    pub(super) fn awaits(&self) -> Vec<AcquireFence> {
        self.0.iter().filter(|buffer| !buffer.is_back()).flat_map(Buffer::awaits).collect()
    }

    /// The slot's drawing goes to the parent.
    pub(super) fn committed(&mut self, slot: &Slot) {
        self.0.committed(&slot.buffer);
    }

    /// A drawing was not committed.
    pub(super) fn forget_ages(&mut self) {
        self.0.forget_ages();
    }
}

/// Where dma-bufs come from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) gbm: GbmDevice<DrmDeviceFd>,
    pub(super) candidate: Candidate,
}

impl Source {
    /// A new buffer, for the renderer to draw in and for the parent, or a display of its, to read.
    pub(super) fn allocate(&self, size: Size<i32, Physical>) -> io::Result<(GbmBuffer, Dmabuf)> {
        let side = |side: i32| u32::try_from(side).map_err(io::Error::other);
        let Candidate { fourcc, modifiers } = &self.candidate;
        let mut allocator = GbmAllocator::new(self.gbm.clone(), GbmBufferFlags::RENDERING);
        let buffer = allocator.create_buffer(side(size.w)?, side(size.h)?, *fourcc, modifiers)?;
        let dmabuf = buffer.export().map_err(io::Error::other)?;
        Ok((buffer, dmabuf))
    }
}

fn of_gbm(
    parent: &Parent,
    window: Option<&Window>,
    source: &Source,
    size: Size<i32, Physical>,
) -> io::Result<Buffer> {
    let (buffer, dmabuf) = source.allocate(size)?;
    let planes = Planes::new(dmabuf.handles()).map_err(io::Error::other)?;
    let release =
        window.and_then(|window| parent.release_timeline(window)).transpose().map_err(io::Error::other)?;
    let lent = Lent::default();
    let (wire, question) = parent.dma_buffer(&dmabuf, lent.clone()).ok_or(io::ErrorKind::Unsupported)?;
    let memory = Memory::Gbm { dmabuf, planes, question, _buffer: Box::new(buffer) };
    Ok(Buffer { wire, lent, release, memory, size })
}

fn of_shm(parent: &Parent, size: Size<i32, Physical>) -> io::Result<Buffer> {
    let invalid = || io::Error::from(rustix::io::Errno::INVAL);
    let stride = size.w.checked_mul(4).filter(|stride| *stride > 0).ok_or_else(invalid)?;
    let bytes = stride.checked_mul(size.h).filter(|bytes| *bytes > 0).ok_or_else(invalid)?;
    let len = usize::try_from(bytes).map_err(io::Error::other)?;
    let memory = memfd::sealed("fencepost-window", u64::try_from(bytes).map_err(io::Error::other)?)?;
    let mapping = RefCell::new(Mapping::new(memory.as_fd(), len, Access::Write)?);
    let lent = Lent::default();
    let wire = parent.shm_buffer(memory.as_fd(), bytes, size, stride, lent.clone());
    let stride = usize::try_from(stride).map_err(io::Error::other)?;
    Ok(Buffer { wire, lent, release: None, memory: Memory::Shm { mapping, stride }, size })
}
