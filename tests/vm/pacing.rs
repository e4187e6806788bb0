//! fifo-v1 and commit-timing-v1 on KMS: what the display shows when, and with which fences.

use std::time::{Duration, Instant};

use fencepost::fence::Status;
use wayland_protocols::wp::commit_timing::v1::client::wp_commit_timing_manager_v1::WpCommitTimingManagerV1;
use wayland_protocols::wp::fifo::v1::client::wp_fifo_manager_v1::WpFifoManagerV1;

use crate::chain::{Chain, SLOW};
use crate::fixture::Log;
use crate::harness::Session;
use crate::paced::{Lid, Paced, now, set_timestamp};
use crate::setup::{Fate, releases};

/// Of [`Chain::start`].
const OUTPUT: (i32, i32) = (640, 480);

#[test]
fn commits_in_turn_are_each_on_the_display_in_order() {
    let chain = Chain::start(&[]);
    let mut paced = Paced::new(&chain.desk);
    let commits: Vec<_> = (0..30).map(|_| paced.show_in_turn()).collect();
    let times = paced.all_times(&commits);
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "one flip for each: {times:?}");
    let commits: Vec<_> = (0..6).map(|_| paced.show()).collect();
    let shown = paced.times(&commits).into_iter().flatten().count();
    assert!(shown < 6, "without barriers some are superseded");
    drop(paced);
    chain.end();
}

/// How often content is to be on the display soon after its time: the machine is emulated, and slow when its host is busy.
const ATTEMPTS: usize = 5;

#[test]
fn content_is_on_the_display_not_before_its_time_and_soon_after() {
    let chain = Chain::of(Session::start(&[SLOW]));
    let mut paced = Paced::new(&chain.desk);
    assert!((0..ATTEMPTS).any(|_| times_in_the_first_refresh(&mut paced) >= 10), "not in the first refresh");
    drop(paced);
    chain.end();
}

/// How many of 20 commits with a time are shown in the first refresh after it. None is before.
fn times_in_the_first_refresh(paced: &mut Paced) -> usize {
    let mut late = Vec::new();
    for round in 0..20 {
        let warm = [paced.show_in_turn(), paced.show_in_turn()];
        let base = paced.all_times(&warm)[1];
        let target = base.max(now()) + Duration::from_millis(60) + Duration::from_micros(2_700) * round;
        paced.not_before(target);
        let timed = paced.show();
        let shown = paced.all_times(&[timed])[0];
        let by = shown.checked_sub(target);
        late.push(by.unwrap_or_else(|| panic!("shown {:?} before its time", target - shown)));
    }
    println!("shown after their times: {late:?}");
    // A refresh is 50 ms.
    late.iter().filter(|late| **late < Duration::from_millis(51)).count()
}

/// All constraints hold: the last of them to be met decides, whichever it is.
#[test]
fn fence_barrier_and_time_all_hold_content_back() {
    let chain = Chain::start(&[]);
    for fence_is_last in [false, true] {
        let mut app = chain.app();
        let mut clock = chain.clock();
        let window = app.sync_window();
        let (ours, theirs) = (app.timeline(), app.timeline());
        ours.signal(1);
        let first = app.show(&window, &app.heap_buffer(), (&ours, 1), (&theirs, 1));
        app.app.until_shown(&first);

        let handle = app.app.client.handle();
        let (fifos, timers): (WpFifoManagerV1, WpCommitTimingManagerV1) =
            (app.app.client.bind(1), app.app.client.bind(1));
        let fifo = fifos.get_fifo(&window.window.surface, &handle, Log::default());
        let timer = timers.get_timer(&window.window.surface, &handle, Log::default());
        fifo.set_barrier();
        ours.signal(2);
        let second = app.show(&window, &app.heap_buffer(), (&ours, 2), (&theirs, 2));
        fifo.set_barrier();
        fifo.wait_barrier();
        let target = now() + Duration::from_millis(if fence_is_last { 50 } else { 1500 });
        set_timestamp(&timer, target);
        let third = app.show(&window, &app.heap_buffer(), (&ours, 3), (&theirs, 3));
        fifo.wait_barrier();
        let fourth = app.show(&window, &app.heap_buffer(), (&ours, 1), (&theirs, 4));
        app.app.until_shown(&second);
        if fence_is_last {
            while now() < target + Duration::from_millis(200) {
                clock.tick();
            }
            assert_eq!(app.app.fate(&third), Fate::Waiting, "its fence has not signalled");
        }
        ours.signal(3);
        app.app.until_shown(&third);
        assert!(now() >= target, "its time had not come");
        assert_eq!(theirs.status(2), Status::Signalled, "what it replaced is given back");
        app.app.until_shown(&fourth);
        drop((app, clock));
    }
    chain.end();
}

#[test]
fn a_client_that_is_hidden_on_the_display_gets_on() {
    let chain = Chain::start(&[]);
    let mut paced = Paced::new(&chain.desk);
    let lid = Lid::new(&chain.desk, true, OUTPUT);
    let buffers: Vec<_> = (0..5).map(|_| paced.app.shm_buffer()).collect();
    let start = Instant::now();
    for buffer in &buffers {
        paced.fifo.set_barrier();
        paced.fifo.wait_barrier();
        paced.window.surface.attach(Some(buffer), 0, 0);
        paced.window.surface.commit();
    }
    let mut back = [0; 5];
    paced.app.client.until(|| {
        buffers.iter().zip(&mut back).for_each(|(buffer, back)| *back += releases(buffer));
        // Of the last one nothing may have been read.
        back[..4] == [1; 4]
    });
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    let seen = paced.show_in_turn();
    lid.lift();
    paced.all_times(&[seen]);
    drop(paced);
    chain.end();
}
