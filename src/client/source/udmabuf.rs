//! Buffers made of the pages of a memfd.

use std::os::fd::{AsFd, OwnedFd};

use super::cpu::{Allocation, Exporter};
use super::{SourceError, open_device};
use crate::client::swapchain::Size;
use crate::sys::udmabuf;

/// The device.
pub(super) struct Udmabuf(OwnedFd);

impl Udmabuf {
    pub(super) fn open() -> Result<Self, SourceError> {
        Ok(Self(open_device(udmabuf::PATH)?))
    }
}

impl Exporter for Udmabuf {
    fn allocate(&self, size: Size) -> Result<Allocation, SourceError> {
        Allocation::of(size, |bytes| udmabuf::create(self.0.as_fd(), bytes))
    }
}
