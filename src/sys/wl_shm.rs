//! The pixels of a client's `wl_shm` buffer. smithay hands out a raw pointer, because the client may write at the same time.

use std::io;

use smithay::{
    backend::renderer::gles::{GlesError, GlesRenderer, GlesTexture},
    reexports::wayland_server::protocol::{wl_buffer::WlBuffer, wl_shm::Format},
    utils::{Buffer, Rectangle},
    wayland::shm::{BufferAccessError, with_buffer_contents, with_buffer_contents_mut},
};

use super::gl::{self, Pixels};

/// Why a buffer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It is no shared memory, or its client has taken the memory away.
    #[error(transparent)]
    Access(#[from] BufferAccessError),
    /// The rows do not fit in it.
    #[error("the rows do not fit in the buffer")]
    Bounds,
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        Self::other(error)
    }
}

/// Copies tightly packed rows of `row_len` bytes into the buffer, from its first row on.
///
/// # Errors
/// [`WriteError`]; some rows may have been written.
pub fn write(buffer: &WlBuffer, row_len: usize, pixels: &[u8]) -> Result<(), WriteError> {
    with_buffer_contents_mut(buffer, |memory, len, data| {
        let offset = usize::try_from(data.offset).map_err(|_| WriteError::Bounds)?;
        let stride = usize::try_from(data.stride).map_err(|_| WriteError::Bounds)?;
        for (row, pixels) in pixels.chunks_exact(row_len.max(1)).enumerate() {
            let at = row.checked_mul(stride).and_then(|at| at.checked_add(offset));
            let end = at.and_then(|at| at.checked_add(pixels.len()));
            let (Some(at), Some(_)) = (at, end.filter(|end| *end <= len)) else {
                return Err(WriteError::Bounds);
            };
            // SAFETY: `memory` is the client's pool, mapped for `len` bytes while this closure runs (a pool that shrinks
            // raises SIGBUS, which smithay turns into the outer error); at..end lies in it. No reference to
            // the memory exists, which the client may change at any time.
            unsafe { std::ptr::copy_nonoverlapping(pixels.as_ptr(), memory.add(at), pixels.len()) };
        }
        Ok(())
    })?
}

/// Makes the buffer a texture. Where `into` has its size and format, only what has `changed` is copied.
///
/// # Errors
/// [`GlesError`], also if the buffer has a format that is not announced, or its client has taken the memory away.
pub fn upload(
    gles: &mut GlesRenderer,
    buffer: &WlBuffer,
    into: Option<&GlesTexture>,
    changed: &[Rectangle<i32, Buffer>],
) -> Result<GlesTexture, GlesError> {
    let filled = with_buffer_contents(buffer, |memory, len, data| {
        let opaque = match data.format {
            Format::Argb8888 => false,
            Format::Xrgb8888 => true,
            other => return Err(GlesError::UnsupportedWlPixelFormat(other)),
        };
        let size = (data.width, data.height).into();
        // SAFETY: `memory` is the client's pool, mapped for `len` bytes while this closure runs (a pool that shrinks raises
        // SIGBUS, which smithay turns into the outer error), and GL has copied it when `fill` returns.
        let pixels = unsafe { Pixels::new(memory, len, (data.offset, data.stride), size, opaque) };
        gl::fill(gles, pixels.ok_or(GlesError::UnexpectedSize)?, into, changed)
    });
    filled.map_err(GlesError::BufferAccessError)?
}
