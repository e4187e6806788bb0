//! Dumb buffers of the vgem card, with its own fences.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use drm::Device as _;
use drm::buffer::{Buffer, DrmFourcc};
use drm::control::Device as _;
use drm::control::dumbbuffer::DumbBuffer;

use super::cpu::{Allocation, Exporter};
use super::{SourceError, open_device};
use crate::client::late::{LateError, Pledge};
use crate::client::swapchain::Size;

/// The card.
pub(super) struct Vgem(Card);

struct Card(Rc<OwnedFd>);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Card {}
impl drm::control::Device for Card {}

impl Vgem {
    /// Finds the card among the first few: DRM numbers them in the order of their coming.
    pub(super) fn open() -> Result<Self, SourceError> {
        let cards = (0..16).filter_map(|n| open_device(&format!("/dev/dri/card{n}")).ok());
        let is_vgem = |card: &Card| card.get_driver().is_ok_and(|driver| driver.name() == "vgem");
        cards.map(|fd| Card(Rc::new(fd))).find(is_vgem).map(Self).ok_or(SourceError::NoVgem)
    }
}

impl Exporter for Vgem {
    fn allocate(&self, (width, height): Size) -> Result<Allocation, SourceError> {
        let bytes = u64::from(width) * u64::from(height) * 4;
        let failed = |error| SourceError::Allocate(bytes, error);
        let buffer = self.0.create_dumb_buffer((width, height), DrmFourcc::Xrgb8888, 32).map_err(failed)?;
        let buffer = Dumb { card: Rc::clone(&self.0.0), buffer };
        let flags = drm::CLOEXEC | drm::RDWR;
        let fd = self.0.buffer_to_prime_fd(buffer.buffer.handle(), flags).map_err(failed)?;
        let stride = buffer.buffer.pitch();
        Ok(Allocation { fd, stride, pledge: Some(Box::new(move || buffer.pledge())) })
    }
}

/// A GEM handle, closed with the image.
struct Dumb {
    card: Rc<OwnedFd>,
    buffer: DumbBuffer,
}

impl Dumb {
    fn pledge(&self) -> Result<Pledge, LateError> {
        Pledge::in_vgem_buffer(Rc::clone(&self.card), self.buffer.handle().into())
    }
}

impl Drop for Dumb {
    fn drop(&mut self) {
        if let Err(error) = Card(Rc::clone(&self.card)).destroy_dumb_buffer(self.buffer) {
            tracing::warn!(%error, "could not destroy a dumb buffer");
        }
    }
}
