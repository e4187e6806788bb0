//! What the trace and the record are told of commits.
//!
//! Owns the way from Wayland objects to the numbers by which the trace knows them. Decides nothing.

use smithay::reexports::wayland_server::{
    Resource,
    protocol::{wl_buffer::WlBuffer, wl_surface::WlSurface},
};

use super::{
    ClientState,
    commit::{SurfaceSync, with_sync},
};
use crate::{
    buffer::content::Change,
    compositor::Compositor,
    fence::{release::Target, roles::AcquireFence},
    surface::{CommitId, Pushed},
    trace::{self, CommitNumber, Committed, Event, SyncKind},
};

/// A buffer was committed, with how it is synchronised, what is to be released, and what is to be waited for. Returns the
/// commit's number.
pub(super) fn committed(
    state: &mut Compositor,
    surface: &WlSurface,
    buffer: &WlBuffer,
    (sync, target, fences): (SyncKind, &Target, &[AcquireFence]),
) -> CommitNumber {
    let (number, id) = with_sync(surface, |sync| (sync.number(), sync.queue.next_id().0));
    let (pid, buffer) = (ClientState::pid(surface.client().as_ref()), buffer.id().protocol_id());
    state.record.committed(&Committed { pid, surface: number, id, buffer, sync, target, fences })
}

/// A commit is in its queue.
pub(super) fn pushed(surface: &WlSurface, pushed: &Pushed<Change>) {
    if let Some(Change::Attach(before)) = &pushed.superseded {
        trace::note(Event::Discard { commit: before.commit });
    }
    if let Some(newest) = pushed.opened {
        trace::note(Event::Open { surface: with_sync(surface, SurfaceSync::number), id: newest.0 });
    }
}

/// The fences of a commit go along with its content.
pub(super) fn handed_over(surface: &WlSurface, id: CommitId) {
    trace::note(Event::HandOver { surface: with_sync(surface, SurfaceSync::number), id: id.0 });
}

/// A fence of a commit ended with an error.
pub(super) fn failed(surface: &WlSurface, id: CommitId, errno: i32) {
    let number = with_sync(surface, SurfaceSync::number);
    trace::note(Event::Failed { surface: number, id: id.0, errno });
}
