//! single-pixel-buffer-v1: buffers of one colour.
//!
//! smithay's objects; what such a buffer shows is `ClientBuffer::Pixel` in [`crate::buffer`].

use smithay::{
    reexports::wayland_server::DisplayHandle, wayland::single_pixel_buffer::SinglePixelBufferState,
};

use crate::compositor::Compositor;

/// Announces the global.
pub(super) fn create_global(display: &DisplayHandle) {
    SinglePixelBufferState::new::<Compositor>(display);
}

smithay::delegate_single_pixel_buffer!(Compositor);
