//! The pointer's image as a surface of the parent's, which moves it along with its own pointer.
//!
//! Owns the surface, and the buffers that the image is drawn into. Decides nothing: the compositor draws.

use smithay::utils::{Buffer, Logical, Physical, Point, Rectangle, Size, Transform};
use wayland_client::protocol::wl_pointer::WlPointer;

use super::buffers::{Slot, Source, Swapchain};
use super::parent::Parent;
use super::window::{Contents, View, Window};
use crate::fence::roles::RenderFence;
use crate::output::display::Scale;
use crate::output::kms::swapchain::BufferError;

/// The size of every image.
pub(super) const SIZE: (i32, i32) = (64, 64);

/// The pointer's image; one for all windows.
#[derive(Debug)]
pub(super) struct Cursor {
    surface: Window,
    source: Source,
    swapchain: Swapchain,
    /// The window whose output has drawn the image, and its scale then.
    drawn_for: Option<(usize, Scale)>,
    /// What the parent was told last: the `wl_pointer.enter` that it is about, and the image's hotspot, if it has one.
    told: Option<(u32, Option<Point<i32, Logical>>)>,
}

impl Cursor {
    /// An image that is drawn into such buffers.
    pub(super) fn new(surface: Window, source: Source) -> Self {
        Self { surface, source, swapchain: Swapchain::default(), drawn_for: None, told: None }
    }

    /// Its surface.
    pub(super) fn surface_mut(&mut self) -> &mut Window {
        &mut self.surface
    }

    /// A buffer for a new image.
    pub(super) fn next_slot(&mut self, parent: &Parent) -> Result<Slot, BufferError> {
        self.swapchain.acquire(parent, Some(&self.surface), Some(&self.source), SIZE.into())
    }

    /// Whether the output of this window has drawn the image, with this scale.
    pub(super) fn is_drawn_for(&self, window: usize, scale: Scale) -> bool {
        self.drawn_for == Some((window, scale))
    }

    /// Shows a new image, which the parent waits for.
    ///
    /// # Errors
    /// Nothing was committed.
    pub(super) fn commit(
        &mut self,
        parent: &Parent,
        (window, scale): (usize, Scale),
        slot: &Slot,
        render: Option<&RenderFence>,
    ) -> std::io::Result<()> {
        let acquire = render.map(RenderFence::as_consumer);
        let (buffer, sync, view) = (slot.buffer(), slot.sync(), view(scale));
        let contents = Contents { buffer, sync, acquire, damage: &[], view };
        self.drawn_for = None;
        parent.commit_cursor(&self.surface, contents).inspect_err(|_| self.swapchain.forget_ages())?;
        slot.lend();
        self.swapchain.committed(slot);
        self.drawn_for = Some((window, scale));
        Ok(())
    }

    /// Tells the parent where the image points, or that there is none, unless it knows.
    pub(super) fn tell(
        &mut self,
        (pointer, entered): (&WlPointer, u32),
        scale: Scale,
        hotspot: Option<Point<i32, Physical>>,
    ) {
        let hotspot = hotspot.map(|at| at.to_f64().to_logical(scale.get()).to_i32_round());
        if self.told.replace((entered, hotspot)) == Some((entered, hotspot)) {
            return;
        }
        let at = hotspot.unwrap_or_default();
        pointer.set_cursor(entered, hotspot.map(|_| self.surface.surface()), at.x, at.y);
    }
}

/// Shows as much of an image as makes whole units of the parent's, so that no pixel is stretched.
fn view(scale: Scale) -> Option<View> {
    let size = Size::<i32, Buffer>::from(SIZE);
    let dst: Size<i32, Logical> = size.to_f64().to_logical(scale.get(), Transform::Normal).to_i32_floor();
    let src = dst.to_f64().to_buffer(scale.get(), Transform::Normal);
    View::of(Rectangle::from_size(src), size, dst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pixel_of_the_image_is_stretched() {
        let view = |scale| view(Scale::new(scale).expect("a scale"));
        let of = |src: f64, dst: i32| {
            Some(View { src: Rectangle::from_size((src, src).into()), dst: (dst, dst).into() })
        };
        assert_eq!(view(1.0), None);
        assert_eq!(view(2.0), of(64.0, 32));
        assert_eq!(view(1.5), of(63.0, 42));
        assert_eq!(view(0.5), of(64.0, 128));
    }
}
