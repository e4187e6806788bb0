//! Who waits for an acquire fence, in each policy: in one process with the compositor, on a slow output whose refreshes an
//! emulated machine can keep up with; and as a session on KMS.
//!
//! The fences that are handed over are virgl's, as those of other drivers would hold up the thread that submits (see
//! `render/live.rs`). A record is earned with fences of any driver: here with sw_sync's, which a test can end in time.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use fencepost::compositor::Options;
use fencepost::fence::sync_file::SyncFile;
use fencepost::fence::{Fence, Status};
use fencepost::input;
use fencepost::output::kms::modes::ModeRequest;
use fencepost::surface::Acquire;
use fencepost::surface::policy::{PROOF_ALONE, PROOF_BESIDE, Reason};
use fencepost::sys::sw_sync;
use fencepost::trace::{Acquires, now};
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_pointer::{self, WlPointer};
use wayland_client::protocol::wl_seat::WlSeat;

use crate::chain::{Chain, Memory, Shower, Way};
use crate::fixture::{Log, events};
use crate::harness::Session;
use crate::harness::modprobe;
use crate::late::{AGAIN, Driver, Gpu, Source};
use crate::setup::{Clock, Desk, Fate, Watched, desk_with};
use crate::sync_app::{SyncApp, SyncWindow};

/// Long enough for whatever an emulated machine does between two refreshes.
const REFRESH: Duration = Duration::from_millis(400);

/// Fences that signal in each refresh.
const BURST: u32 = 5;

fn desk(acquire: Acquire) -> Desk {
    modprobe("sw_sync");
    let mode = ModeRequest::Size { width: 128, height: 128, refresh_mhz: Some(2_500) };
    desk_with(Options { acquire, mode: Some(mode), ..Options::default() })
}

fn counts(desk: &Desk) -> Acquires {
    desk.server_mut().state().record.acquires(std::process::id().cast_signed())
}

/// A client whose commits wait for fences of the test's.
struct Player {
    app: SyncApp,
    window: SyncWindow,
    buffers: [WlBuffer; 2],
    commits: usize,
}

impl Player {
    fn new(desk: &Desk) -> Self {
        let mut app = SyncApp::new(desk);
        let window = app.sync_window();
        let buffers = [app.gpu_buffer(), app.gpu_buffer()];
        let mut player = Self { app, window, buffers, commits: 0 };
        player.warm_up();
        player
    }

    /// Frames that are ready. What the GPU does for the first time takes it longer than a refresh.
    fn warm_up(&mut self) {
        for _ in 0..3 {
            let ready = self.app.timeline();
            ready.signal(1);
            let shown = self.commit_at((&ready, 1));
            self.app.app.until_shown(&shown);
        }
    }

    fn commit_at(&mut self, acquire: crate::sync_app::At<'_>) -> Watched {
        self.commits += 1;
        let (buffer, release) = (&self.buffers[self.commits % 2], self.app.timeline());
        self.app.show(&self.window, buffer, acquire, (&release, 1))
    }

    fn commit(&mut self, fence: &SyncFile) -> Watched {
        let acquire = self.app.timeline();
        acquire.point(1).import_sync_file(fence).expect("import");
        self.commit_at((&acquire, 1))
    }

    /// Takes the pointer's image away, which is somebody else's on the output.
    fn hide_pointer(&mut self, desk: &Desk) {
        let (seat, handle): (WlSeat, _) = (self.app.app.client.bind(7), self.app.app.client.handle());
        let pointer: WlPointer = seat.get_pointer(&handle, Log::default());
        self.app.app.client.expect_no_error();
        input::move_pointer(desk.server_mut().state(), (64.0, 64.0).into(), 0);
        self.app.app.client.expect_no_error();
        let serial = events(&pointer).into_iter().find_map(|event| match event {
            wl_pointer::Event::Enter { serial, .. } => Some(serial),
            _ => None,
        });
        pointer.set_cursor(serial.expect("the pointer is on the window"), None, 0, 0);
        self.warm_up();
    }

    /// Commits whose fences pend and then signal in time: a few in each refresh, soon after it has begun.
    fn earn(&mut self, frames: u32) {
        for frame in 1..=frames {
            let timeline = sw_sync::open_timeline().expect("a sw_sync timeline");
            let fence = sw_sync::create_fence(timeline.as_fd(), 1).expect("a sw_sync fence");
            let commit = self.commit(&SyncFile::from_kernel(fence));
            self.app.app.client.expect_no_error();
            sw_sync::increment(timeline.as_fd(), 1).expect("a step");
            self.app.app.client.expect_no_error();
            if frame % BURST == 0 || frame == frames {
                self.app.app.until_shown(&commit);
            }
        }
    }

    /// Earns hand-overs with `proof` fences, until one is handed over for this reason.
    ///
    /// An emulated machine may stand still for longer than a refresh, for which the surface is demoted.
    fn until_handed_over(&mut self, desk: &Desk, gpu: &mut Gpu, proof: u32, expected: Reason) {
        let mut reasons = Vec::new();
        while reasons.len() < 10 {
            self.until_forgiven(desk);
            self.earn(proof);
            let (commit, fence, reason) = self.decided(desk, gpu);
            self.until_shown(&commit, &fence);
            if reason == Some(expected) {
                return;
            }
            let states = desk.server_mut().state().acquire_states();
            println!("{reason:?}, not {expected:?}: {:?}", states.iter().find(|s| s.verdict.is_some()));
            reasons.extend(reason);
        }
        panic!("expected {expected:?}, and were {reasons:?}");
    }

    fn until_forgiven(&mut self, desk: &Desk) {
        let demoted = || {
            let states = desk.server_mut().state().acquire_states();
            states.iter().any(|state| state.standing.is_demoted(now()))
        };
        while demoted() {
            sleep(REFRESH / 4);
        }
    }

    /// Commits with a fence of work for the GPU; says what was decided. With more of it, if it was over before there was anything
    /// to decide.
    fn decided(&mut self, desk: &Desk, gpu: &mut Gpu) -> (Watched, SyncFile, Option<Reason>) {
        let decisions = || {
            let counts = counts(desk);
            counts.handed_over + counts.waited_for
        };
        for times in AGAIN {
            let before = decisions();
            let fence = gpu.work_of(times);
            let commit = self.commit(&fence);
            self.app.app.client.expect_no_error();
            if decisions() > before {
                let states = desk.server_mut().state().acquire_states();
                let reason = states.iter().find_map(|state| state.verdict).map(|verdict| verdict.reason);
                return (commit, fence, reason);
            }
            self.until_shown(&commit, &fence);
        }
        panic!("the GPU's work was over each time before there was anything to decide");
    }

    fn until_shown(&mut self, commit: &Watched, fence: &SyncFile) {
        self.app.app.until_shown(commit);
        assert_eq!(fence.status(), Status::Signalled, "shown before its fence");
        let ready = Duration::from_nanos(fence.signalled_at_ns().expect("its times").expect("signalled"));
        assert!(commit.at() >= Some(ready), "{:?}, ready {ready:?}", commit.at());
    }
}

#[test]
fn a_forced_hand_over_shows_nothing_before_its_fence_and_waiting_shows_the_same() {
    for (acquire, handed_over) in [(Acquire::HandOver, true), (Acquire::Wait, false)] {
        let desk = desk(acquire);
        let (mut player, mut gpu) = (Player::new(&desk), Gpu::new());
        for _ in 0..3 {
            let (commit, fence, _) = player.decided(&desk, &mut gpu);
            let counts = counts(&desk);
            assert_eq!(counts.handed_over > 0, handed_over, "{acquire:?}: {counts:?}");
            player.until_shown(&commit, &fence);
        }
    }
}

#[test]
fn a_fence_that_would_hold_up_our_thread_is_never_handed_over() {
    let desk = desk(Acquire::HandOver);
    let mut player = Player::new(&desk);
    let mut source = Source::new();
    for driver in crate::late::BY_HAND {
        let late = source.late(driver);
        let commit = player.commit(&late.fence);
        let mut clock = Clock::new(&desk);
        clock.tick();
        clock.tick();
        assert_eq!(player.app.app.fate(&commit), Fate::Waiting, "{driver:?}");
        late.signal();
        player.app.app.until_shown(&commit);
    }
    let counts = counts(&desk);
    assert_eq!((counts.handed_over, counts.waited_for), (0, 2), "{counts:?}");
}

#[test]
fn auto_hands_over_what_was_earned_alone_and_takes_it_back_after_a_miss() {
    let desk = desk(Acquire::Auto);
    let (mut player, mut gpu) = (Player::new(&desk), Gpu::new());
    player.hide_pointer(&desk);
    let (commit, fence, reason) = player.decided(&desk, &mut gpu);
    assert_eq!(reason, Some(Reason::Unproven));
    player.until_shown(&commit, &fence);
    // More than the proof asks for: what the GPU's first work took is to be forgotten.
    player.until_handed_over(&desk, &mut gpu, PROOF_BESIDE, Reason::Alone);

    // More than a refresh late.
    let late = Source::new().late(Driver::SwSync);
    let commit = player.commit(&late.fence);
    player.app.app.client.expect_no_error();
    sleep(3 * REFRESH);
    late.signal();
    player.app.app.until_shown(&commit);
    let (commit, fence, reason) = player.decided(&desk, &mut gpu);
    assert_eq!(reason, Some(Reason::Demoted));
    player.until_shown(&commit, &fence);
    // Once that is over, and forgotten with the fences since.
    player.until_handed_over(&desk, &mut gpu, PROOF_BESIDE, Reason::Alone);
}

/// The pointer stands still for no fence that was handed over as if nobody saw it (I5).
#[test]
fn a_surface_below_the_pointer_is_not_alone() {
    let desk = desk(Acquire::Auto);
    let (mut player, mut gpu) = (Player::new(&desk), Gpu::new());
    let reasons: Vec<_> = (0..3)
        .map(|_| {
            player.until_forgiven(&desk);
            player.earn(2 * PROOF_ALONE);
            let (commit, fence, reason) = player.decided(&desk, &mut gpu);
            player.until_shown(&commit, &fence);
            reason
        })
        .collect();
    assert!(reasons.contains(&Some(Reason::Unproven)), "{reasons:?}");
    assert!(!reasons.contains(&Some(Reason::Alone)), "{reasons:?}");
    player.hide_pointer(&desk);
    player.until_handed_over(&desk, &mut gpu, PROOF_BESIDE, Reason::Alone);
}

/// Then nobody beside it notices more than a refresh of what is handed over (I5).
#[test]
fn auto_wants_more_of_a_surface_that_is_not_alone_and_keeps_it_from_holding_others_up() {
    let desk = desk(Acquire::Auto);
    let (mut player, mut gpu) = (Player::new(&desk), Gpu::new());
    let mut clock = Clock::new(&desk);
    clock.tick();
    player.earn(PROOF_ALONE);
    player.until_forgiven(&desk);
    let (commit, fence, reason) = player.decided(&desk, &mut gpu);
    assert!(matches!(reason, Some(Reason::Unproven)), "{reason:?}");
    player.until_shown(&commit, &fence);
    player.until_handed_over(&desk, &mut gpu, PROOF_BESIDE, Reason::Proven);

    let before = counts(&desk).handed_over;
    let mut times = vec![clock.tick().expect("a time")];
    for _ in 0..10 {
        let (commit, _fence, _) = player.decided(&desk, &mut gpu);
        while player.app.app.fate(&commit) == Fate::Waiting {
            times.push(clock.tick().expect("a time"));
        }
    }
    let gaps: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).div_duration_f32(REFRESH)).collect();
    let handed_over = counts(&desk).handed_over - before;
    println!("{handed_over} of 10 handed over; refreshes between a neighbour's frames: {gaps:?}");
    // A machine that stands still holds everybody up.
    let long = gaps.iter().filter(|gap| **gap >= 2.5).count();
    assert!(long <= 2, "{gaps:?}");
}

/// What a fence that never signals does to others, after any record.
#[test]
fn under_auto_a_fence_that_a_process_holds_stops_its_own_surface_only() {
    let desk = desk(Acquire::Auto);
    let (mut player, mut clock) = (Player::new(&desk), Clock::new(&desk));
    clock.tick();
    player.earn(PROOF_ALONE);
    let never = Source::new().late(Driver::SwSync);
    let commit = player.commit(&never.fence);
    player.app.app.client.expect_no_error();
    // The median: a machine that stands still holds everybody up.
    let mut took = [(); 10].map(|()| {
        let start = now();
        clock.tick();
        now() - start
    });
    took.sort_unstable();
    assert!(took[5] < 2 * REFRESH, "frames took {took:?}");
    assert_eq!(player.app.app.fate(&commit), Fate::Waiting);
    assert!(never.is_pending());
}

#[test]
fn a_fence_that_pends_gets_the_deadline_of_the_next_refresh() {
    let desk = desk(Acquire::Wait);
    let mut player = Player::new(&desk);
    for materialises_late in [false, true] {
        let timeline = sw_sync::open_timeline().expect("a sw_sync timeline");
        let fence = sw_sync::create_fence(timeline.as_fd(), 1).expect("a sw_sync fence");
        let fence = SyncFile::from_kernel(fence);
        let deadline = || sw_sync::deadline_ns(timeline.as_fd(), fence.as_fd());
        let acquire = player.app.timeline();
        if !materialises_late {
            acquire.point(1).import_sync_file(&fence).expect("import");
        }
        let before = now();
        let commit = player.commit_at((&acquire, 1));
        player.app.app.client.expect_no_error();
        if materialises_late {
            assert!(deadline().is_err(), "nobody can know the fence");
            acquire.point(1).import_sync_file(&fence).expect("import");
            player.app.app.client.until(|| deadline().is_ok());
        }
        let set = Duration::from_nanos(deadline().expect("a deadline"));
        assert!(
            set > before && set < now() + 2 * REFRESH,
            "{set:?} is not between {before:?} and {:?}",
            now()
        );
        sw_sync::increment(timeline.as_fd(), 1).expect("a step");
        player.app.app.until_shown(&commit);
    }
}

/// Whoever may wait: a process's fence is waited for in each policy.
#[test]
fn a_fence_that_ends_with_an_error_counts_as_signalled_and_is_counted_once() {
    for acquire in [Acquire::Auto, Acquire::Wait, Acquire::HandOver] {
        let desk = desk(acquire);
        let mut player = Player::new(&desk);
        for failed in 1..=2 {
            let timeline = sw_sync::open_timeline().expect("a sw_sync timeline");
            let fence = sw_sync::create_fence(timeline.as_fd(), 1).expect("a sw_sync fence");
            let commit = player.commit(&SyncFile::from_kernel(fence));
            player.app.app.client.expect_no_error();
            assert_eq!(player.app.app.fate(&commit), Fate::Waiting);
            // Its end completes what pends on it with ENOENT.
            drop(timeline);
            player.app.app.until_shown(&commit);
            let counts = counts(&desk);
            assert_eq!(counts.fences_failed, failed, "{acquire:?}: {counts:?}");
        }
    }
}

/// A tree is handed over when all of its fences may be, and not before all have materialised.
#[test]
fn a_tree_hands_over_all_of_its_fences_or_none() {
    let desk = desk(Acquire::HandOver);
    let (mut player, mut gpu) = (Player::new(&desk), Gpu::new());
    let (child, _subsurface) = player.app.app.subsurface(&player.window.window.surface);
    let child_sync = player.app.sync_surface(&child);
    for child_may in [true, false] {
        let handed_over = || counts(&desk).handed_over;
        let before = handed_over();
        let (acquire, release) = (player.app.timeline(), player.app.timeline());
        // It is to pend until the other's is there.
        let fence = gpu.work_of(4);
        // The CPU copies a heap's buffer, and cannot be made to wait.
        let buffer = if child_may { player.app.gpu_buffer() } else { player.app.heap_buffer() };
        let shown = player.app.show_between(&child, &child_sync, &buffer, (&acquire, 1), (&release, 1));
        let window = player.commit(&fence);
        player.app.app.client.expect_no_error();
        assert_eq!(handed_over(), before, "a fence of the tree has not materialised");
        let last = gpu.work();
        acquire.point(1).import_sync_file(&last).expect("import");
        player.app.app.until_shown(&window);
        assert_eq!((fence.status(), last.status()), (Status::Signalled, Status::Signalled));
        assert_eq!(player.app.app.fate(&shown), Fate::Shown, "in the same frame");
        assert_eq!(shown.at(), window.at());
        let expected = if child_may { 2 } else { 0 };
        assert_eq!(handed_over() - before, expected, "the child may: {child_may}");
    }
}

/// The same load in each policy, as its client sees it. Counts and ratios only: the machine is emulated.
#[test]
fn what_a_client_sees_of_each_policy() {
    println!("policy     committed presented discarded  handed over  waited for  late");
    for policy in ["auto", "wait", "hand-over"] {
        let session = Session::start(&["--acquire", policy]);
        let client = session.client(&[
            "--sync=explicit",
            "--source=gpu",
            "--gpu-ms=4",
            "--size=320x240",
            "--frames=150",
        ]);
        let pid = client.pid();
        let report = client.wait();
        report.expect_clean();
        let record = session.end();
        let of = |what: &str| record.of(pid)[what].as_u64().unwrap_or(0);
        println!(
            "{policy:10} {:9} {:9} {:9} {:12} {:11} {:5}",
            report.number("committed"),
            report.number("presented"),
            report.number("discarded"),
            of("handed_over"),
            of("waited_for"),
            of("fences_late"),
        );
        match policy {
            "wait" => assert_eq!(of("handed_over"), 0),
            "hand-over" => assert!(of("handed_over") > 0 && of("waited_for") == 0),
            _ => {}
        }
    }
}

/// In the session, with the display's own refresh.
#[test]
fn a_forced_hand_over_on_kms_shows_nothing_before_its_fence() {
    let chain = Chain::start(&["--acquire=hand-over"]);
    let mut source = Source::new();
    let mut shower = Shower::new(&chain, Way::Explicit);
    let first = shower.show(Memory::Gpu, None);
    shower.app.app.until_shown(&first.commit);
    for way in [Way::Explicit, Way::Implicit] {
        let mut shower = Shower::new(&chain, way);
        let late = source.late(Driver::Virgl);
        let given = shower.show(Memory::Gpu, Some(&late.fence));
        shower.app.app.until_shown(&given.commit);
        assert!(!late.is_pending());
        assert!(given.commit.at() >= Some(late.at()), "{way:?}");
    }
    chain.end();
}
