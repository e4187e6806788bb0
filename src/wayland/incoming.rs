//! What a commit brings: its buffer, what is to be waited for before it is read, and what is to be released after.
//!
//! Translates smithay's pending state. Decides nothing, and waits for nothing.

use smithay::{
    reexports::wayland_server::protocol::wl_buffer::WlBuffer,
    utils::{Buffer, Size},
    wayland::compositor::{BufferAssignment, SurfaceAttributes, SurfaceData},
};

use super::dmabuf::dmabuf_of;
use crate::{
    buffer::ClientBuffer,
    fence::{release::Target, roles::AcquireFence, timeline::Point},
    surface::{Attached, Sync},
    trace::SyncKind,
};

/// The buffer that a commit brings.
pub(super) enum Incoming {
    /// None: that of the last commit stays.
    Nothing,
    /// That of the last commit goes.
    Null,
    /// This one.
    Buffer { wl_buffer: WlBuffer, buffer: ClientBuffer, size: Size<i32, Buffer>, has_alpha: bool },
}

impl Incoming {
    /// Takes it from the surface's pending state.
    pub(super) fn take(states: &SurfaceData) -> Self {
        let mut cached = states.cached_state.get::<SurfaceAttributes>();
        // Taken: a buffer that smithay finds in the state is released by it too, when a newer state supersedes it.
        match cached.pending().buffer.take() {
            None => Self::Nothing,
            Some(BufferAssignment::Removed) => Self::Null,
            Some(BufferAssignment::NewBuffer(wl_buffer)) => {
                match ClientBuffer::of(&wl_buffer, dmabuf_of(&wl_buffer)) {
                    Some((buffer, size, has_alpha)) => Self::Buffer { wl_buffer, buffer, size, has_alpha },
                    // Every buffer there is comes from a global of ours; one without content is a surface without.
                    None => Self::Null,
                }
            }
        }
    }

    /// As [`crate::surface::validate`] knows it.
    pub(super) fn attached(&self) -> Attached {
        match self {
            Self::Nothing => Attached::Nothing,
            Self::Null => Attached::Null,
            Self::Buffer { buffer: ClientBuffer::Dmabuf(_), .. } => Attached::Explicit,
            Self::Buffer { buffer: ClientBuffer::Shm(_) | ClientBuffer::Pixel(_), .. } => {
                Attached::ImplicitOnly
            }
        }
    }
}

/// What is to be released at the end, and the fences to wait for before the start.
///
/// For implicit buffers the fences are a snapshot of the writers: later writes belong to later commits. Where it cannot
/// be taken the dma-buf itself is polled.
pub(super) fn target_and_fences(
    sync: Sync<Point>,
    buffer: &ClientBuffer,
) -> (SyncKind, Target, Vec<AcquireFence>) {
    match (sync, buffer) {
        (Sync::Explicit { acquire, release }, _) => {
            (SyncKind::Explicit, Target::Point(release), vec![AcquireFence::Point(acquire)])
        }
        (Sync::Implicit | Sync::NoBuffer, ClientBuffer::Dmabuf(client)) => {
            let planes = &client.planes;
            let writers = planes.writers().unwrap_or_else(|error| {
                tracing::warn!("the writers of a dma-buf are polled: {error}");
                planes.polled()
            });
            (SyncKind::Implicit, Target::DmaBuf(planes.clone()), writers)
        }
        (Sync::Implicit | Sync::NoBuffer, ClientBuffer::Shm(_) | ClientBuffer::Pixel(_)) => {
            (SyncKind::Shm, Target::Nothing, Vec::new())
        }
    }
}
