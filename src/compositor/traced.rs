//! What the trace is told of frames.
//!
//! Owns the way from what a frame is made of to the numbers by which the trace knows it. Decides nothing.

use std::time::Duration;

use super::{Screen, scene::Scene};
use crate::{
    buffer::Lease,
    output::{Committed, Head, layer::Layer},
    shell::tree,
    trace::{self, CommitNumber, Event, FrameNumber, Reader},
};

/// The GPU reads a buffer.
pub(super) fn read(frame: FrameNumber, commit: CommitNumber) {
    trace::note(Event::Read { frame, commit, by: Reader::Gpu });
}

/// As [`read`], where only the lease is known.
pub(super) fn read_lease(frame: FrameNumber, lease: &Lease) {
    if let Some(release) = lease.target() {
        read(frame, release.commit);
    }
}

/// A plane, or the parent of a window, is to show a buffer.
pub(super) fn scanned_out(head: &Head, frame: FrameNumber, layer: &Layer) {
    if let Some(release) = layer.lease.target() {
        let by = if matches!(head, Head::Nested(_)) { Reader::Parent } else { Reader::Plane };
        trace::note(Event::Read { frame, commit: release.commit, by });
    }
}

impl Screen {
    /// The frame that was latched last was committed, if it was not on the screen already.
    pub(super) fn trace_committed(&mut self, in_fences: usize, committed: Option<&Committed>) {
        let Some(committed) = committed else { return };
        self.committed = self.frame;
        let in_fences = u8::try_from(in_fences).unwrap_or(u8::MAX);
        let out_fence = committed.out_fence.is_some();
        trace::note(Event::Kms { output: self.number, frame: self.frame, in_fences, out_fence });
    }

    /// What will be on the screen for the first time with the next flip.
    pub(super) fn trace_fresh(&self, scene: &Scene) {
        for surface in &scene.fresh {
            let commit = tree::content(surface, |content| Some(content.picture.as_ref()?.commit));
            if let Some(commit) = commit {
                trace::note(Event::Show { output: self.number, commit });
            }
        }
    }

    /// The frame in flight is on the screen.
    pub(super) fn trace_flipped(&self, at: Duration, sequence: u32) {
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        trace::note(Event::Flip { output: self.number, frame: self.committed, at, sequence });
    }
}
