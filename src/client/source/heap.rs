//! Buffers of the system dma-heap.

use std::os::fd::{AsFd, OwnedFd};

use super::cpu::{Allocation, Exporter};
use super::{SourceError, open_device};
use crate::client::swapchain::Size;
use crate::sys::dma_heap;

/// The heap.
pub(super) struct Heap(OwnedFd);

impl Heap {
    pub(super) fn open() -> Result<Self, SourceError> {
        Ok(Self(open_device(dma_heap::SYSTEM_PATH)?))
    }
}

impl Exporter for Heap {
    fn allocate(&self, size: Size) -> Result<Allocation, SourceError> {
        Allocation::of(size, |bytes| dma_heap::allocate(self.0.as_fd(), bytes))
    }
}
