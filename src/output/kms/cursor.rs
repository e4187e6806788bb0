//! The pointer's image on its plane: the buffers that it is drawn into, and the one that is shown.
//!
//! Owns no decision: the compositor draws, and says where the image is.

use std::rc::Rc;

use smithay::backend::allocator::format::FormatSet;
use smithay::utils::{Physical, Size};

use super::device::{Device, Pipe};
use super::formats;
use super::light::{self, Drawing};
use super::stack::{Planes, Which};
use super::swapchain::{BufferError, Slot, Swapchain};

/// A cursor plane that can be used.
#[derive(Debug)]
pub(super) struct Cursor {
    swapchain: Swapchain,
    size: Size<i32, Physical>,
    shown: Option<Rc<Slot>>,
    /// The kernel has refused it.
    refused: bool,
}

impl Cursor {
    /// The cursor plane of a pipe, if it has one and buffers of the renderer's fit it.
    pub(super) fn find(device: &Device, pipe: &Pipe, drawing: Drawing<'_>) -> Option<Self> {
        let planes = Planes::of(device, pipe);
        let plane = planes.get(Which::Cursor)?;
        let swapchain = Self::swapchain(device, &plane.formats, drawing)?;
        let (width, height) = device.caps().cursor_size;
        let size = (i32::try_from(width).ok()?, i32::try_from(height).ok()?).into();
        Some(Self { swapchain, size, shown: None, refused: false })
    }

    fn swapchain(device: &Device, plane: &FormatSet, drawing: Drawing<'_>) -> Option<Swapchain> {
        let sources = light::sources(device, &formats::WITH_ALPHA, plane, drawing).ok()?;
        sources.into_iter().find_map(|source| {
            let mut swapchain = Swapchain::new(device, source, device.caps().cursor_size);
            match swapchain.acquire() {
                Ok(_back_at_once) => Some(swapchain),
                Err(error) => {
                    tracing::debug!(%error, "no buffer of this kind for the pointer's image");
                    None
                }
            }
        })
    }

    /// The size of every image; `None` while the plane cannot be used.
    pub(super) fn size(&self) -> Option<Size<i32, Physical>> {
        (!self.refused).then_some(self.size)
    }

    /// A buffer for a new image.
    pub(super) fn next_slot(&mut self) -> Result<Slot, BufferError> {
        self.swapchain.acquire()
    }

    /// The newest image that was committed.
    pub(super) fn shown(&self) -> Option<&Rc<Slot>> {
        self.shown.as_ref()
    }

    /// A new image was committed.
    pub(super) fn committed(&mut self, slot: Rc<Slot>) {
        self.swapchain.committed(&slot);
        self.shown = Some(slot);
    }

    /// An image was drawn and not committed.
    pub(super) fn forget_ages(&mut self) {
        self.swapchain.forget_ages();
    }

    /// A frame with the image was refused: the pointer is composed until [`Cursor::forgive`].
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }

    /// The device is in another state: it may be tried again, with a new image.
    pub(super) fn forgive(&mut self) {
        (self.refused, self.shown) = (false, None);
    }
}
