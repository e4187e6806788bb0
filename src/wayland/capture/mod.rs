//! Screen capture: clients ask for a picture of an output in a buffer of theirs.
//!
//! Owns the protocol objects of ext-image-copy-capture-v1 ([`ext`]) and wlr-screencopy-unstable-v1 ([`wlr`]), and the
//! [`Job`] that both come down to. Must not know how a picture is drawn or waited for; that is `compositor/capture.rs`.
//! Neither protocol carries fences: `ready` is sent when the copy's fence has signalled, not before.

mod ext;
mod wlr;

use std::{sync::Arc, time::Duration};

use smithay::{
    backend::allocator::{Buffer as _, Format},
    output::Output,
    reexports::wayland_server::{
        DisplayHandle,
        protocol::{wl_buffer::WlBuffer, wl_shm},
    },
    utils::{Buffer, Rectangle, Size, Transform},
    wayland::shm,
};

use super::dmabuf::dmabuf_of;
use crate::{buffer::ClientDmabuf, halves::halves};

pub(crate) use ext::Sessions;

/// The formats that a picture can be read back in, and so what `wl_shm` buffers may have: every client has these.
const SHM_FORMATS: [wl_shm::Format; 2] = [wl_shm::Format::Xrgb8888, wl_shm::Format::Argb8888];

/// Announces both protocols.
pub(super) fn create_globals(display: &DisplayHandle) {
    ext::create_globals(display);
    wlr::create_global(display);
}

/// Where a picture goes.
#[derive(Debug)]
pub(crate) enum Target {
    /// Shared memory that the CPU copies into.
    Shm(WlBuffer),
    /// A dma-buf that is drawn into.
    Dmabuf(Arc<ClientDmabuf>),
}

/// A buffer cannot take the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the buffer's size, stride or format is not what was announced")]
pub(crate) struct Unfit;

impl Target {
    /// Checks a buffer against a picture's size and the formats that can be drawn into.
    fn of(buffer: WlBuffer, size: Size<i32, Buffer>, drawable: &[Format]) -> Result<Self, Unfit> {
        if let Some(client) = dmabuf_of(&buffer) {
            let fits = client.dmabuf.size() == size && drawable.contains(&client.dmabuf.format());
            return fits.then(|| Self::Dmabuf(Arc::clone(client))).ok_or(Unfit);
        }
        let fits = shm::with_buffer_contents(&buffer, |_, _, data| {
            (data.width, data.height) == (size.w, size.h)
                && data.stride >= size.w.saturating_mul(4)
                && SHM_FORMATS.contains(&data.format)
        });
        fits.unwrap_or(false).then_some(Self::Shm(buffer)).ok_or(Unfit)
    }
}

/// When a picture may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// At once.
    Now,
    /// When the output shows a frame after this one, which the client has seen.
    After(u64),
}

/// Why there is no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The output is gone, or changed so that the buffer no longer fits.
    Unfit,
    /// It was not drawn, or not copied.
    Unknown,
    /// The session has ended.
    Stopped,
}

/// What was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// When, CLOCK_MONOTONIC.
    pub(crate) at: Duration,
    /// How the picture is turned.
    pub(crate) transform: Transform,
    /// Which frame of the output it is.
    pub(crate) frame: u64,
}

/// Who is told.
#[derive(Debug)]
enum Reply {
    Ext(ext::FrameReply),
    Wlr(wlr::FrameReply),
}

/// A picture that a client waits for. Dropping it tells the client that it has failed, so that none is forgotten.
#[derive(Debug)]
pub(crate) struct Job {
    /// Of what.
    pub(crate) output: Output,
    /// The part of the output, in pixels of its mode.
    pub(crate) region: Rectangle<i32, Buffer>,
    /// Whether the pointer's image is part of it.
    pub(crate) cursor: bool,
    /// When.
    pub(crate) when: When,
    /// Where to.
    pub(crate) target: Target,
    reply: Option<Reply>,
}

impl Job {
    /// The picture is in the buffer, its fence has signalled.
    pub(crate) fn ready(mut self, taken: Taken) {
        match self.reply.take() {
            Some(Reply::Ext(reply)) => reply.ready(self.region, taken),
            Some(Reply::Wlr(reply)) => reply.ready(self.region, taken),
            None => {}
        }
    }

    /// There will be no picture.
    pub(crate) fn failed(mut self, failure: Failure) {
        self.fail(failure);
    }

    fn fail(&mut self, failure: Failure) {
        match self.reply.take() {
            Some(Reply::Ext(reply)) => reply.failed(failure),
            Some(Reply::Wlr(reply)) => reply.failed(),
            None => {}
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.fail(Failure::Unknown);
    }
}

/// Seconds and nanoseconds as the protocols send them.
fn split(at: Duration) -> (u32, u32, u32) {
    let (high, low) = halves(at.as_secs());
    (high, low, at.subsec_nanos())
}

/// The pixels of an output's mode; `None` while it has none.
fn size_of(output: &Output) -> Option<Size<i32, Buffer>> {
    output.current_mode().map(|mode| (mode.size.w, mode.size.h).into())
}
