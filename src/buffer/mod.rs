//! Client buffers: what a client attached, who still uses it, and how it is given back.
//!
//! Owns [`ClientBuffer`], the current [`content`] of a surface and the [`lease`] on each commit's buffer. Must not
//! know how the content is drawn or scanned out.

pub mod content;
pub mod dmabuf;
pub mod lease;
pub mod release;

use std::sync::Arc;

use smithay::{
    backend::allocator::{Buffer as _, Fourcc, dmabuf::Dmabuf},
    reexports::wayland_server::protocol::wl_buffer::WlBuffer,
    utils::{Buffer, Size},
    wayland::{shm, single_pixel_buffer::get_single_pixel_buffer},
};

use crate::fence::{implicit::Planes, sync_file::SyncFile};

pub use release::{Release, Releases};

/// A fence that ends a use of a buffer; cheap to clone, for all the leases that the use concerns.
pub type UseFence = SyncFile;
/// The lease on the buffer of one commit.
pub type Lease = lease::Lease<UseFence, Release>;
/// Where the releases of client buffers gather.
pub type Ledger = lease::Ledger<UseFence, Release>;

/// What stands behind a `wl_buffer` of linux-dmabuf: shared with every commit that still needs it, which may be longer than
/// there is a `wl_buffer`.
#[derive(Debug)]
pub struct ClientDmabuf {
    /// The buffer.
    pub dmabuf: Dmabuf,
    /// The dma-bufs behind its planes, looked at once.
    pub planes: Planes,
    /// One for each file descriptor in the two, of those that its client may have (I8).
    pub counts: Vec<Arc<()>>,
}

/// A buffer that a client can attach.
#[derive(Clone, Debug)]
pub enum ClientBuffer {
    /// A buffer of linux-dmabuf, with the dma-bufs behind its planes for their implicit fences.
    Dmabuf(Arc<ClientDmabuf>),
    /// A buffer of `wl_shm`.
    Shm(WlBuffer),
    /// A buffer of single-pixel-buffer-v1: premultiplied ARGB8888. There is no memory to read, and nothing to wait for.
    Pixel([u8; 4]),
}

impl ClientBuffer {
    /// What stands behind `buffer`, with its size and whether its alpha counts; `None` for a buffer of no
    /// protocol that we offer.
    pub fn of(
        buffer: &WlBuffer,
        client: Option<&Arc<ClientDmabuf>>,
    ) -> Option<(Self, Size<i32, Buffer>, bool)> {
        if let Some(client) = client {
            let has_alpha = has_alpha(client.dmabuf.format().code);
            return Some((Self::Dmabuf(Arc::clone(client)), client.dmabuf.size(), has_alpha));
        }
        if let Ok(pixel) = get_single_pixel_buffer(buffer) {
            let [red, green, blue, alpha] = pixel.rgba8888();
            return Some((Self::Pixel([blue, green, red, alpha]), (1, 1).into(), pixel.has_alpha()));
        }
        let data = shm::with_buffer_contents(buffer, |_, _, data| data).ok()?;
        let has_alpha = shm::shm_format_to_fourcc(data.format).is_none_or(has_alpha);
        Some((Self::Shm(buffer.clone()), (data.width, data.height).into(), has_alpha))
    }
}

fn has_alpha(format: Fourcc) -> bool {
    smithay::backend::allocator::format::has_alpha(format)
}
