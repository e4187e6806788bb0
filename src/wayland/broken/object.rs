//! What requests are answered, and what events say, when a rule is broken.

use std::{cell::RefCell, collections::HashSet, io, time::Duration};

use rustix::fs::Dev;
use smithay::{
    backend::allocator::Fourcc,
    reexports::{
        wayland_protocols::wp::linux_dmabuf::zv1::server::{
            zwp_linux_buffer_params_v1::{Error, ZwpLinuxBufferParamsV1},
            zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1,
        },
        wayland_server::{
            Client, DisplayHandle, Resource, backend::ClientId, protocol::wl_surface::WlSurface,
        },
    },
    wayland::{
        compositor::with_states,
        presentation::{PresentationFeedbackCachedState, PresentationFeedbackCallback},
    },
};

use super::{BrokenRule, broken, is};
use crate::{
    buffer::dmabuf::Violation,
    fence::timeline::{SyncobjDevice, Timeline, TimelineError},
    wayland::{commit::with_sync, disconnect},
};

thread_local! {
    static SERVED: RefCell<HashSet<ClientId>> = RefCell::default();
}

/// Whether a surface counts as one that has its syncobj, fifo or commit timer object.
pub fn is_taken(client: &Client, is_taken: bool) -> bool {
    match broken() {
        Some(BrokenRule::SurfaceExists) => false,
        Some(BrokenRule::OneSurface) => SERVED.with_borrow_mut(|served| !served.insert(client.id())),
        _ => is_taken,
    }
}

/// What comes of importing a timeline.
pub fn imported(
    device: &SyncobjDevice,
    imported: Result<Timeline, TimelineError>,
) -> Result<Timeline, TimelineError> {
    super::commit::stumble(imported.is_err());
    match broken() {
        Some(BrokenRule::InvalidTimeline) => Timeline::create(device),
        Some(BrokenRule::NoTimeline) => Err(TimelineError::NotASyncobj(io::ErrorKind::InvalidInput.into())),
        _ => imported,
    }
}

/// A client destroys the object of a global.
pub fn maker_destroyed(display: &DisplayHandle, client: &Client) {
    if is(BrokenRule::MakerDestroyed) {
        disconnect::failed(display, client, &"what made its objects is gone");
    }
}

/// A client destroys a timeline.
pub fn timeline_destroyed(timeline: &Timeline) {
    if is(BrokenRule::TimelineDestroyed) {
        drop(timeline.point(u64::MAX).signal());
    }
}

/// A surface ends.
pub fn surface_destroyed(display: &DisplayHandle, surface: &WlSurface) {
    match broken() {
        Some(BrokenRule::Unanswered) => with_states(surface, |states| {
            let mut cached = states.cached_state.get::<PresentationFeedbackCachedState>();
            std::mem::forget(std::mem::take(&mut cached.current().callbacks));
        }),
        Some(BrokenRule::WaitingDestroyed) if with_sync(surface, |sync| !sync.queue.is_empty()) => {
            if let Some(client) = surface.client() {
                disconnect::failed(display, &client, &"its surface was destroyed while a commit waited");
            }
        }
        _ => {}
    }
}

/// Whether a violation of linux-dmabuf is overlooked.
pub fn overlooks(violation: &Violation) -> bool {
    let rule = match violation {
        Violation::AlreadyUsed => BrokenRule::AlreadyUsed,
        Violation::PlaneIdx(_) => BrokenRule::PlaneIdx,
        Violation::PlaneSet(_) => BrokenRule::PlaneSet,
        Violation::Incomplete { .. } => BrokenRule::Incomplete,
        Violation::InvalidFormat(_) => BrokenRule::InvalidFormat,
        Violation::InvalidDimensions { .. } => BrokenRule::InvalidDimensions,
        Violation::OutOfBounds { .. } => BrokenRule::OutOfBounds,
        Violation::InvalidDevTSize(_) => BrokenRule::InvalidDevTSize,
        Violation::InvalidWlBuffer(_) => return false,
    };
    is(rule)
}

/// The code of an error that cannot be overlooked: `create_immed` has to make a buffer or end in an error.
pub fn misnamed(code: Error) -> Error {
    match (broken(), code) {
        (Some(BrokenRule::AlreadyUsed), Error::AlreadyUsed) => Error::Incomplete,
        (Some(BrokenRule::InvalidWlBuffer), Error::InvalidWlBuffer) => Error::AlreadyUsed,
        _ => code,
    }
}

/// A buffer was made.
pub fn answered(params: &ZwpLinuxBufferParamsV1) {
    if is(BrokenRule::AnswersTwice) {
        params.failed();
    }
}

/// Sends a modifier that is not due.
pub fn announce(factory: &ZwpLinuxDmabufV1) {
    const SINCE: u32 = 3;
    let format = Fourcc::Xrgb8888 as u32;
    if is(BrokenRule::BoundFormats) && factory.version() >= SINCE {
        factory.modifier(format, 0, 0);
        factory.modifier(format, 0, 0);
    }
}

/// The main device that is told.
pub fn main_device(device: Dev) -> Dev {
    if is(BrokenRule::MainDevice) { !device } else { device }
}

/// The pairs of a tranche.
pub fn indices(mut indices: Vec<u16>) -> Vec<u16> {
    if is(BrokenRule::Duplicates) {
        indices.extend(indices.first().copied());
    }
    indices
}

/// The clock that is told.
pub fn clock(id: u32) -> u32 {
    if is(BrokenRule::Clock) { u32::MAX } else { id }
}

/// What is told of a frame: its feedbacks, each with whether its surface was scanned out, and the time.
pub fn presented(
    mut callbacks: Vec<(PresentationFeedbackCallback, bool)>,
    at: Duration,
) -> (Vec<(PresentationFeedbackCallback, bool)>, Duration) {
    match broken() {
        Some(BrokenRule::Feedback) if callbacks.len() > 1 => std::mem::forget(callbacks.remove(0)),
        Some(BrokenRule::PresentedEarly) => {
            return (callbacks, at.saturating_sub(Duration::from_secs(1)));
        }
        Some(BrokenRule::ZeroCopy) => callbacks.iter_mut().for_each(|(_, scanned_out)| *scanned_out = true),
        _ => {}
    }
    (callbacks, at)
}
