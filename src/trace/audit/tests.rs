//! Doctored traces: each breaks one invariant in one way, and the auditor has to find just that.

use super::*;
use crate::trace::{
    event::{Role, SyncKind, Text},
    file::Header,
};

const MS: u64 = 1_000_000;

/// A trace that is made up, with times in milliseconds.
struct Forgery(Trace);

impl Forgery {
    fn new(acquire: &str) -> Self {
        let header = Header::new(acquire, true, "a test");
        let mut forgery = Self(Trace { header, entries: Vec::new(), gaps: 0 });
        forgery.at(0, Event::Client { pid: 1, name: Text::new("client") });
        forgery.at(0, Event::Output { output: 1, name: Text::new("HDMI-A-1"), refresh: 16 * MS });
        forgery
    }

    fn at(&mut self, ms: u64, event: Event) {
        self.0.entries.push(Entry { t: ms * MS, event });
    }

    fn commit(&mut self, ms: u64, commit: u64, surface: u32, id: u64) {
        let (sync, fences) = (SyncKind::Explicit, 1);
        let event = Event::Commit {
            commit,
            pid: 1,
            surface,
            id,
            buffer: 9,
            sync,
            fences,
            acquire: None,
            release: None,
        };
        self.at(ms, event);
    }

    fn signal(&mut self, fence: Role, of: u64, ms: u64) {
        let (driver, context, seqno) = (Text::new("sw_sync"), 1, 1);
        self.at(ms, Event::Signal { fence, of, at: ms * MS, driver, context, seqno });
    }

    /// The client's fence signals, and the commit is applied at once.
    fn apply(&mut self, ms: u64, commit: u64, surface: u32, id: u64) {
        self.signal(Role::Acquire, commit, ms);
        self.at(ms, Event::Open { surface, id });
        self.at(ms, Event::Apply { surface, id });
    }

    /// A frame that takes 2 ms to be drawn and is shown 10 ms after it was begun.
    fn frame(&mut self, ms: u64, frame: u64, reads: &[(u64, Reader)]) {
        self.at(ms, Event::Latch { output: 1, frame });
        for (commit, by) in reads {
            self.at(ms, Event::Read { frame, commit: *commit, by: *by });
        }
        if reads.iter().any(|(_, by)| *by == Reader::Gpu) {
            self.at(ms, Event::Render { frame, fence: true });
        }
        for (commit, _) in reads {
            self.at(ms, Event::Show { output: 1, commit: *commit });
        }
        self.at(ms, Event::Kms { output: 1, frame, in_fences: 1, out_fence: true });
        if reads.iter().any(|(_, by)| *by == Reader::Gpu) {
            self.signal(Role::Render, frame, ms + 2);
        }
        self.at(ms + 10, Event::Flip { output: 1, frame, at: (ms + 10) * MS, sequence: 0 });
    }

    fn release(&mut self, ms: u64, commit: u64) {
        self.at(ms, Event::Release { commit, how: How::ByFence });
        self.signal(Role::Release, commit, ms);
    }

    fn end(&mut self, ms: u64) -> Report {
        self.at(ms, Event::End);
        self.0.entries.sort_by_key(|entry| entry.t);
        audit(&self.0)
    }
}

/// The rule and the commit of each violation, and by how many milliseconds it was broken.
fn found(report: &Report) -> Vec<(Rule, u64, u64)> {
    report.violations.iter().map(|of| (of.rule, of.commit, of.by / MS)).collect()
}

/// Two commits of one surface, each read by `reader`, released when the next frame has replaced it.
fn honest(reader: Reader) -> Forgery {
    let mut forgery = Forgery::new("auto");
    forgery.commit(1, 1, 5, 1);
    forgery.apply(2, 1, 5, 1);
    forgery.frame(4, 1, &[(1, reader)]);
    forgery.commit(15, 2, 5, 2);
    forgery.apply(18, 2, 5, 2);
    forgery.frame(20, 2, &[(2, reader)]);
    forgery.release(if reader == Reader::Gpu { 21 } else { 30 }, 1);
    forgery
}

#[test]
fn honest_traces_pass_whoever_reads() {
    for reader in [Reader::Gpu, Reader::Plane, Reader::Parent] {
        let mut forgery = honest(reader);
        forgery.release(40, 2);
        let report = forgery.end(50);
        assert_eq!(found(&report), []);
        assert_eq!((report.commits, report.frames, report.to_the_end), (2, 2, true));
        assert_eq!((report.unknown_acquires, report.unknown_passes, report.unknown_releases), (0, 0, 0));
    }
}

#[test]
fn an_honest_hand_over_passes() {
    let mut forgery = Forgery::new("auto");
    forgery.commit(1, 1, 5, 1);
    forgery.at(1, Event::HandOver { surface: 5, id: 1 });
    forgery.at(1, Event::Open { surface: 5, id: 1 });
    forgery.at(1, Event::Apply { surface: 5, id: 1 });
    forgery.frame(2, 1, &[(1, Reader::Gpu)]);
    forgery.signal(Role::Acquire, 1, 3);
    forgery.release(20, 1);
    assert_eq!(found(&forgery.end(30)), []);
}

#[test]
fn i1_a_frame_that_is_begun_before_the_fence_is_found() {
    for (reader, what) in [
        (Reader::Gpu, "was drawn before"),
        (Reader::Plane, "was given to a plane before"),
        (Reader::Parent, "was given to the parent"),
    ] {
        let mut forgery = Forgery::new("auto");
        forgery.commit(1, 1, 5, 1);
        forgery.at(1, Event::Open { surface: 5, id: 1 });
        forgery.at(1, Event::Apply { surface: 5, id: 1 });
        forgery.frame(2, 1, &[(1, reader)]);
        forgery.signal(Role::Acquire, 1, 9);
        forgery.release(40, 1);
        let report = forgery.end(50);
        assert_eq!(found(&report), [(Rule::I1, 1, 7)]);
        assert!(report.violations[0].what.starts_with(what), "{:?}", report.violations);
    }
}

#[test]
fn i1_a_fence_that_never_signals_is_found_by_at_least_the_rest_of_the_trace() {
    let mut forgery = Forgery::new("auto");
    forgery.commit(1, 1, 5, 1);
    forgery.frame(2, 1, &[(1, Reader::Gpu)]);
    forgery.release(40, 1);
    forgery.at(50, Event::Pending { fence: Role::Acquire, of: 1 });
    let report = forgery.end(52);
    assert_eq!(found(&report), [(Rule::I1, 1, 50)]);
    assert!(report.violations[0].at_least);
}

#[test]
fn i1_a_gpu_or_a_plane_that_was_to_wait_and_did_not_is_found() {
    for (reader, by) in [(Reader::Gpu, 18 - 4), (Reader::Plane, 18 - 12)] {
        let mut forgery = Forgery::new("auto");
        forgery.commit(1, 1, 5, 1);
        forgery.at(1, Event::HandOver { surface: 5, id: 1 });
        forgery.at(1, Event::Open { surface: 5, id: 1 });
        forgery.frame(2, 1, &[(1, reader)]);
        forgery.signal(Role::Acquire, 1, 18);
        forgery.release(40, 1);
        assert_eq!(found(&forgery.end(50)), [(Rule::I1, 1, by)]);
    }
}

#[test]
fn i1_a_flip_that_is_dated_by_a_late_vblank_timer_is_no_violation() {
    let mut forgery = Forgery::new("auto");
    forgery.commit(1, 1, 5, 1);
    forgery.at(1, Event::HandOver { surface: 5, id: 1 });
    forgery.at(1, Event::Open { surface: 5, id: 1 });
    forgery.frame(2, 1, &[(1, Reader::Plane)]);
    forgery.signal(Role::Acquire, 1, 12 + 1);
    forgery.release(40, 1);
    assert_eq!(found(&forgery.end(50)), []);
}

#[test]
fn i1_a_copy_before_the_fence_is_found() {
    let mut forgery = Forgery::new("auto");
    forgery.commit(1, 1, 5, 1);
    forgery.at(3, Event::Copy { commit: 1 });
    forgery.signal(Role::Acquire, 1, 8);
    forgery.release(40, 1);
    assert_eq!(found(&forgery.end(50)), [(Rule::I1, 1, 5)]);
}

#[test]
fn i2_a_release_before_the_gpu_was_done_is_found() {
    let mut forgery = honest(Reader::Gpu);
    forgery.0.entries.retain(|entry| {
        !matches!(entry.event, Event::Release { .. } | Event::Signal { fence: Role::Release, .. })
    });
    forgery.release(5, 1);
    forgery.release(40, 2);
    assert_eq!(found(&forgery.end(50)), [(Rule::I2, 1, 1)]);
}

#[test]
fn i2_a_release_before_the_buffer_is_drawn_at_all_is_found_without_the_gpus_time() {
    let mut forgery = Forgery::new("auto");
    forgery.commit(1, 1, 5, 1);
    forgery.at(1, Event::Release { commit: 1, how: How::Now });
    forgery.apply(2, 1, 5, 1);
    forgery.frame(4, 1, &[(1, Reader::Gpu)]);
    forgery.0.entries.retain(|entry| !matches!(entry.event, Event::Signal { fence: Role::Render, .. }));
    let report = forgery.end(50);
    assert_eq!(found(&report), [(Rule::I2, 1, 3)]);
    assert_eq!(report.unknown_passes, 1);
}

#[test]
fn i2_a_release_while_the_buffer_is_scanned_out_is_found() {
    let mut forgery = honest(Reader::Plane);
    forgery.0.entries.retain(|entry| {
        !matches!(entry.event, Event::Release { .. } | Event::Signal { fence: Role::Release, .. })
    });
    forgery.release(22, 1);
    forgery.release(40, 2);
    assert_eq!(found(&forgery.end(50)), [(Rule::I2, 1, 8)]);
}

#[test]
fn i2_a_parent_may_be_done_with_a_buffer_before_another_is_shown() {
    let mut forgery = honest(Reader::Parent);
    forgery.0.entries.retain(|entry| {
        !matches!(entry.event, Event::Release { .. } | Event::Signal { fence: Role::Release, .. })
    });
    forgery.release(17, 1);
    forgery.release(40, 2);
    assert_eq!(found(&forgery.end(50)), []);
}

#[test]
fn i2_an_output_that_is_switched_off_scans_nothing_out() {
    let mut forgery = honest(Reader::Plane);
    forgery.0.entries.retain(|entry| {
        !matches!(entry.event, Event::Release { .. } | Event::Signal { fence: Role::Release, .. })
    });
    forgery.at(16, Event::Dark { output: 1 });
    forgery.release(17, 1);
    forgery.release(40, 2);
    assert_eq!(found(&forgery.end(50)), []);
}

#[test]
fn i2_a_release_before_the_copy_is_found() {
    let mut forgery = Forgery::new("auto");
    forgery.commit(1, 1, 5, 1);
    forgery.apply(2, 1, 5, 1);
    forgery.release(3, 1);
    forgery.at(7, Event::Copy { commit: 1 });
    assert_eq!(found(&forgery.end(50)), [(Rule::I2, 1, 4)]);
}

#[test]
fn i3_a_release_that_has_not_come_by_the_end_is_found() {
    let report = honest(Reader::Gpu).end(50);
    assert_eq!(found(&report), [(Rule::I3, 2, 35)]);
    assert!(report.violations[0].at_least);
}

#[test]
fn i3_a_release_that_waits_for_ever_is_found() {
    let mut forgery = honest(Reader::Gpu);
    forgery.at(40, Event::Release { commit: 2, how: How::Later });
    assert_eq!(found(&forgery.end(50)), [(Rule::I3, 2, 35)]);
    let mut forgery = honest(Reader::Gpu);
    forgery.at(40, Event::Release { commit: 2, how: How::Later });
    forgery.at(41, Event::Released { commit: 2 });
    assert_eq!(found(&forgery.end(50)), []);
}

#[test]
fn i3_a_release_that_is_owed_for_long_is_found_before_the_end() {
    let mut forgery = honest(Reader::Gpu);
    forgery.0.entries.retain(|entry| !matches!(entry.event, Event::Release { .. }));
    forgery.frame(40, 3, &[]);
    forgery.at(6000, Event::Missed { output: 1 });
    assert_eq!(found(&audit(&forgery.0)), [(Rule::I3, 1, 6000 - 18)]);
}

#[test]
fn i3_what_is_not_in_the_trace_is_not_missed() {
    let mut forgery = honest(Reader::Gpu);
    forgery.0.gaps = 3;
    let report = forgery.end(50);
    assert_eq!(found(&report), []);
    assert!(!report.to_the_end);
}

#[test]
fn i4_a_commit_that_is_applied_after_a_newer_one_is_found() {
    let mut forgery = honest(Reader::Gpu);
    forgery.release(40, 2);
    forgery.at(41, Event::Apply { surface: 5, id: 1 });
    assert_eq!(found(&forgery.end(50)), [(Rule::I4, 1, 41 - 18)]);
}

#[test]
fn i4_a_commit_that_is_overtaken_while_its_fence_is_pending_is_found() {
    let mut forgery = Forgery::new("auto");
    forgery.commit(1, 1, 5, 1);
    forgery.commit(2, 2, 5, 2);
    forgery.release(2, 1);
    forgery.apply(3, 2, 5, 2);
    forgery.signal(Role::Acquire, 1, 30);
    forgery.release(40, 2);
    assert_eq!(found(&forgery.end(50)), [(Rule::I4, 1, 27)]);
}

#[test]
fn i4_a_commit_that_was_replaced_in_order_is_not_overtaken() {
    let mut forgery = Forgery::new("auto");
    forgery.commit(1, 1, 5, 1);
    forgery.commit(2, 2, 5, 2);
    forgery.at(2, Event::Discard { commit: 1 });
    forgery.release(2, 1);
    forgery.apply(3, 2, 5, 2);
    forgery.signal(Role::Acquire, 1, 30);
    forgery.release(40, 2);
    assert_eq!(found(&forgery.end(50)), []);
}

#[test]
fn i4_a_frame_that_shows_an_older_commit_than_the_frame_before_is_found() {
    let mut forgery = honest(Reader::Gpu);
    forgery.frame(40, 3, &[(1, Reader::Gpu)]);
    forgery.0.entries.retain(|entry| {
        !matches!(entry.event, Event::Release { .. } | Event::Signal { fence: Role::Release, .. })
    });
    forgery.release(60, 1);
    forgery.release(60, 2);
    assert_eq!(found(&forgery.end(70)), [(Rule::I4, 1, 20)]);
}

#[test]
fn i4_a_commit_that_is_applied_before_it_is_open_is_found() {
    let mut forgery = Forgery::new("auto");
    forgery.commit(1, 1, 5, 1);
    forgery.at(2, Event::Apply { surface: 5, id: 1 });
    forgery.at(9, Event::Open { surface: 5, id: 1 });
    forgery.signal(Role::Acquire, 1, 1);
    forgery.release(40, 1);
    assert_eq!(found(&forgery.end(50)), [(Rule::I4, 1, 7)]);
}

/// A frame with two surfaces, of which the first has handed a fence over that is late.
fn late_hand_over(acquire: &str) -> Forgery {
    let mut forgery = Forgery::new(acquire);
    forgery.commit(1, 1, 5, 1);
    forgery.at(1, Event::HandOver { surface: 5, id: 1 });
    forgery.at(1, Event::Open { surface: 5, id: 1 });
    forgery.commit(1, 2, 6, 1);
    forgery.apply(2, 2, 6, 1);
    forgery.at(3, Event::Latch { output: 1, frame: 1 });
    for commit in [1, 2] {
        forgery.at(3, Event::Read { frame: 1, commit, by: Reader::Gpu });
        forgery.at(3, Event::Show { output: 1, commit });
    }
    forgery.at(3, Event::Render { frame: 1, fence: true });
    forgery.at(3, Event::Kms { output: 1, frame: 1, in_fences: 1, out_fence: true });
    forgery.signal(Role::Acquire, 1, 99);
    forgery.signal(Role::Render, 1, 100);
    forgery.at(110, Event::Flip { output: 1, frame: 1, at: 110 * MS, sequence: 0 });
    forgery.release(120, 1);
    forgery.release(120, 2);
    forgery
}

#[test]
fn i5_a_hand_over_that_holds_another_surface_up_is_found() {
    assert_eq!(found(&late_hand_over("auto").end(130)), [(Rule::I5, 1, 99 - 3 - 16)]);
}

#[test]
fn i5_who_asks_for_hand_overs_has_chosen_that() {
    assert_eq!(found(&late_hand_over("hand-over").end(130)), []);
}

/// Nothing is done from 1 ms until `until`, and the fence of commit 2 is pending until `signalled`.
fn standstill(until: u64, signalled: u64) -> Forgery {
    let mut forgery = Forgery::new("auto");
    forgery.at(0, Event::Latch { output: 1, frame: 1 });
    forgery.at(0, Event::Kms { output: 1, frame: 1, in_fences: 0, out_fence: true });
    forgery.commit(1, 2, 6, 1);
    forgery.at(until, Event::Flip { output: 1, frame: 1, at: 16 * MS, sequence: 0 });
    forgery.apply(signalled.max(until), 2, 6, 1);
    forgery.0.entries.retain(|entry| !matches!(entry.event, Event::Signal { .. }));
    let event = Event::Signal {
        fence: Role::Acquire,
        of: 2,
        at: signalled * MS,
        driver: Text::default(),
        context: 0,
        seqno: 0,
    };
    forgery.at(signalled.max(until), event);
    forgery.release(400, 2);
    forgery
}

#[test]
fn i5_a_compositor_that_stands_still_for_a_fence_is_found() {
    assert_eq!(found(&standstill(151, 150).end(410)), [(Rule::I5, 2, 150)]);
    assert_eq!(found(&standstill(301, 350).end(410)), [(Rule::I5, 2, 300)]);
}

#[test]
fn i5_a_standstill_without_a_fence_is_not_a_fences_fault() {
    assert_eq!(found(&standstill(301, 3).end(410)), []);
    assert_eq!(found(&standstill(57, 150).end(410)), []);
}
