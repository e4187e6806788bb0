//! fifo-v1 and commit-timing-v1: what is shown in which refresh, and what is refused.
//!
//! The output's virtual vblanks have exact times, so that refreshes can be counted.

use std::time::{Duration, Instant};

use wayland_client::protocol::wl_callback::WlCallback;
use wayland_protocols::wp::commit_timing::v1::client::wp_commit_timer_v1;
use wayland_protocols::wp::commit_timing::v1::client::wp_commit_timing_manager_v1;
use wayland_protocols::wp::fifo::v1::client::{wp_fifo_manager_v1, wp_fifo_v1};

use crate::fixture::{Log, Server, events};
use crate::paced::{Lid, Paced, now, set_timestamp};
use crate::setup::{App, Clock, Fate, Watched, desk, releases};

/// Of the output in [`crate::setup`].
const OUTPUT: (i32, i32) = (128, 128);

/// Of the output in [`crate::setup`]: 200 Hz.
const REFRESH: Duration = Duration::from_millis(5);

/// How often a machine with other things to do may try to be in time.
const ATTEMPTS: usize = 5;

/// How many refreshes lie between each of these and the next.
fn refreshes_between(times: &[Duration]) -> Vec<u128> {
    let apart = |pair: &[Duration]| pair[1].checked_sub(pair[0]).expect("in order").as_nanos();
    times.windows(2).map(|pair| apart(pair) / REFRESH.as_nanos()).collect()
}

#[test]
fn commits_in_turn_are_each_shown_for_a_refresh_and_in_order() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    let mut keeps_up = || {
        let commits: Vec<_> = (0..12).map(|_| paced.show_in_turn()).collect();
        let times = paced.all_times(&commits);
        let between = refreshes_between(&times);
        println!("refreshes between them: {between:?}");
        assert!(between.iter().all(|refreshes| *refreshes >= 1), "two in one refresh: {between:?}");
        // A machine with other things to do may miss some, but not all.
        between.iter().filter(|refreshes| **refreshes == 1).count() >= 3
    };
    assert!((0..ATTEMPTS).any(|_| keeps_up()), "too slow");
}

#[test]
fn commits_that_do_not_take_turns_supersede_each_other() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    let commits: Vec<_> = (0..4).map(|_| paced.show()).collect();
    let shown = paced.times(&commits);
    assert_eq!(shown.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, false, true]);
}

#[test]
fn a_barrier_that_nobody_waits_for_holds_nothing_up() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    paced.fifo.set_barrier();
    let commits = [paced.show(), paced.show()];
    assert_eq!(paced.times(&commits).iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_commit_without_a_buffer_has_its_turn_too() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    let before = paced.show_in_turn();
    for _ in 0..3 {
        paced.fifo.set_barrier();
        paced.fifo.wait_barrier();
        paced.window.surface.commit();
    }
    let after = paced.show_in_turn();
    let times = paced.all_times(&[before, after]);
    assert!(refreshes_between(&times)[0] >= 4, "three refreshes between them: {times:?}");
}

#[test]
fn barriers_outlast_the_fifo_that_set_them() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    paced.fifo.set_barrier();
    paced.fifo.destroy();
    let first = paced.show();
    let handle = paced.app.client.handle();
    paced.fifo = paced.fifos.get_fifo(&paced.window.surface, &handle, Log::default());
    paced.fifo.wait_barrier();
    let second = paced.show();
    let times = paced.all_times(&[first, second]);
    assert!(refreshes_between(&times)[0] >= 1, "{times:?}");
}

#[test]
fn a_hidden_client_gets_on_ten_times_a_second() {
    for fullscreen in [false, true] {
        let desk = desk();
        let mut paced = Paced::new(&desk);
        let lid = Lid::new(&desk, fullscreen, OUTPUT);
        let buffers: Vec<_> = (0..4).map(|_| paced.app.shm_buffer()).collect();
        let start = Instant::now();
        for buffer in &buffers {
            paced.fifo.set_barrier();
            paced.fifo.wait_barrier();
            paced.window.surface.attach(Some(buffer), 0, 0);
            paced.window.surface.commit();
        }
        // Shared memory is copied as soon as it is applied.
        let mut back = [0; 4];
        paced.app.client.until(|| {
            buffers.iter().zip(&mut back).for_each(|(buffer, back)| *back += releases(buffer));
            back == [1; 4]
        });
        assert!(start.elapsed() >= Duration::from_millis(300), "three turns took {:?}", start.elapsed());
        let seen = paced.show_in_turn();
        lid.lift();
        paced.all_times(&[seen]);
    }
}

#[test]
fn a_hidden_client_gets_its_frame_callbacks_slowly() {
    for fullscreen in [false, true] {
        let desk = desk();
        let mut paced = Paced::new(&desk);
        let lid = Lid::new(&desk, fullscreen, OUTPUT);
        let start = Instant::now();
        for _ in 0..3 {
            let callback = paced.app.frame(&paced.window.surface);
            paced.window.surface.commit();
            until_done(&mut paced.app, &callback);
        }
        assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
        lid.lift();
        let mut took = [(); 10].map(|()| {
            let lid = Lid::new(&desk, fullscreen, OUTPUT);
            let callback = paced.app.frame(&paced.window.surface);
            paced.window.surface.commit();
            paced.app.client.expect_no_error();
            let start = Instant::now();
            lid.lift();
            until_done(&mut paced.app, &callback);
            start.elapsed()
        });
        took.sort_unstable();
        assert!(took[5] < Duration::from_millis(50), "it is seen again: {took:?}");
    }
}

#[track_caller]
fn until_done(app: &mut App, callback: &WlCallback) {
    app.client.until(|| !events(callback).is_empty());
}

#[test]
fn a_surface_that_was_never_mapped_gets_on() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    let surface = paced.app.surface();
    let fifo = paced.fifos.get_fifo(&surface, &paced.app.client.handle(), Log::default());
    let mut last = None;
    for _ in 0..2 {
        fifo.set_barrier();
        fifo.wait_barrier();
        last = Some(paced.app.frame(&surface));
        surface.commit();
    }
    until_done(&mut paced.app, &last.expect("a callback"));
}

#[test]
fn nothing_wakes_a_compositor_whose_clients_want_nothing() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    let lid = Lid::new(&desk, false, OUTPUT);
    let callback = paced.app.frame(&paced.window.surface);
    let hidden = [paced.show_in_turn(), paced.show_in_turn()];
    until_done(&mut paced.app, &callback);
    lid.lift();
    paced.times(&hidden);
    // The ends of barriers and refreshes that were under way.
    paced.app.client.roundtrip();
    for _ in 0..50 {
        desk.server_mut().wait();
    }
    // A slow machine may have something under way for longer.
    let slept = [(); 3].map(|()| {
        let start = Instant::now();
        desk.server_mut().sleep(Duration::from_millis(300));
        start.elapsed()
    });
    assert!(slept.iter().any(|slept| *slept >= Duration::from_millis(300)), "woken after {slept:?}");
}

#[test]
fn content_is_shown_in_the_first_refresh_that_is_not_before_its_time() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    assert!((0..ATTEMPTS).any(|_| times_in_the_first_refresh(&mut paced) >= 4), "not in the first refresh");
}

/// How many of 12 commits with a time are shown in the first refresh after it. None is before.
fn times_in_the_first_refresh(paced: &mut Paced) -> usize {
    let mut late = Vec::new();
    for round in 0..12 {
        // Two, so that the output's refreshes are known.
        let warm = [paced.show_in_turn(), paced.show_in_turn()];
        let base = paced.all_times(&warm)[1];
        let target = base + 8 * REFRESH + Duration::from_micros(400) * round;
        paced.not_before(target);
        let timed = paced.show();
        let shown = paced.all_times(&[timed])[0];
        let by = shown.checked_sub(target);
        late.push(by.unwrap_or_else(|| panic!("shown {:?} before its time", target - shown)));
    }
    println!("shown after their times: {late:?}");
    late.iter().filter(|late| **late < REFRESH).count()
}

#[test]
fn a_time_in_the_past_holds_nothing_up_and_one_far_ahead_holds_for_ever() {
    let desk = desk();
    let (mut paced, mut clock) = (Paced::new(&desk), Clock::new(&desk));
    paced.not_before(Duration::ZERO);
    let past = paced.show();
    paced.all_times(&[past]);
    for far in [now() + Duration::from_secs(3600), Duration::MAX] {
        paced.not_before(far);
        let watched = paced.app.show(&paced.window.surface, &paced.app.shm_buffer());
        clock.tick();
        assert_eq!(paced.app.fate(&watched), Fate::Waiting, "{far:?}");
    }
}

#[test]
fn an_earlier_time_does_not_overtake_a_later_one() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    let first = now() + Duration::from_millis(60);
    paced.not_before(first);
    let commits = [paced.show(), {
        paced.not_before(first - Duration::from_millis(50));
        paced.fifo.wait_barrier();
        paced.show()
    }];
    let times = paced.times(&commits);
    assert_eq!(times[0], None, "nothing makes the second wait a refresh longer");
    assert!(times[1] >= Some(first), "{times:?}");
}

#[test]
fn fifo_and_time_both_hold() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    // The first is to be shown before that on a slow machine, too.
    let target = now() + Duration::from_secs(1);
    let mut commits = vec![paced.show_in_turn()];
    paced.not_before(target);
    commits.push(paced.show_in_turn());
    paced.not_before(target);
    commits.push(paced.show_in_turn());
    let times = paced.all_times(&commits);
    assert!(times[0] < target && times[1] >= target, "{target:?} {times:?}");
    assert!(refreshes_between(&times).iter().all(|refreshes| *refreshes >= 1), "{times:?}");
}

#[test]
fn a_commit_without_a_buffer_waits_for_its_time_and_outlives_its_timer() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    let target = now() + Duration::from_millis(60);
    paced.not_before(target);
    paced.timer.destroy();
    let callback = paced.app.frame(&paced.window.surface);
    paced.window.surface.commit();
    until_done(&mut paced.app, &callback);
    // The callback comes with the latch, a refresh before what it is for.
    assert!(now() + REFRESH >= target);
}

#[test]
fn a_tree_waits_for_the_time_of_any_of_its_surfaces() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    let (child, subsurface) = paced.app.subsurface(&paced.window.surface);
    subsurface.set_position(8, 0);
    let timer = paced.timers.get_timer(&child, &paced.app.client.handle(), Log::default());
    let target = now() + Duration::from_millis(60);
    set_timestamp(&timer, target);
    let commits = [paced.show_on(&child), paced.show()];
    let times = paced.all_times(&commits);
    assert!(times[0] >= target, "{target:?} {times:?}");
    assert_eq!(times[0], times[1]);
}

#[test]
fn a_synchronised_child_does_not_wait_for_its_barrier() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    let (child, subsurface) = paced.app.subsurface(&paced.window.surface);
    subsurface.set_position(8, 0);
    let fifo = paced.fifos.get_fifo(&child, &paced.app.client.handle(), Log::default());
    let in_turn = |paced: &Paced| {
        fifo.set_barrier();
        fifo.wait_barrier();
        paced.show_on(&child)
    };
    let commits = [in_turn(&paced), paced.show(), in_turn(&paced), paced.show()];
    let shown: Vec<_> = paced.times(&commits).iter().map(Option::is_some).collect();
    assert_eq!(shown, [false, false, true, true], "the second tree replaces the first at once");
    subsurface.set_desync();
    let commits = [in_turn(&paced), in_turn(&paced)];
    let times = paced.all_times(&commits);
    assert!(refreshes_between(&times)[0] >= 1, "alone, it has turns: {times:?}");
}

#[test]
fn a_childs_buffer_that_nobody_will_see_is_given_back_before_its_parent_commits() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let (child, _subsurface) = app.subsurface(&window.surface);
    let first = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&first);
    let buffers: Vec<_> = (0..3).map(|_| app.shm_buffer()).collect();
    let commits: Vec<Watched> = buffers[..2].iter().map(|buffer| app.show(&child, buffer)).collect();
    app.client.expect_no_error();
    assert_eq!(buffers.iter().map(releases).collect::<Vec<_>>(), [1, 0, 0]);
    // Taken by the parent: a later one does not supersede it any more.
    window.surface.commit();
    let third = app.show(&child, &buffers[2]);
    app.until_shown(&commits[1]);
    assert_eq!((app.fate(&commits[0]), app.fate(&third)), (Fate::Superseded, Fate::Waiting));
}

#[test]
fn a_surface_has_one_fifo_at_a_time() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    let handle = paced.app.client.handle();
    paced.fifo.destroy();
    paced.fifos.get_fifo(&paced.window.surface, &handle, Log::default());
    paced.app.client.expect_no_error();
    paced.fifos.get_fifo(&paced.window.surface, &handle, Log::default());
    let code = wp_fifo_manager_v1::Error::AlreadyExists;
    paced.app.client.expect_protocol_error(&paced.fifos, code);
}

#[test]
fn a_surface_has_one_commit_timer_at_a_time() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    let handle = paced.app.client.handle();
    paced.timer.destroy();
    paced.timers.get_timer(&paced.window.surface, &handle, Log::default());
    paced.app.client.expect_no_error();
    paced.timers.get_timer(&paced.window.surface, &handle, Log::default());
    let code = wp_commit_timing_manager_v1::Error::CommitTimerExists;
    paced.app.client.expect_protocol_error(&paced.timers, code);
}

#[test]
fn barriers_of_a_surface_that_is_gone_are_refused() {
    for set in [true, false] {
        let desk = desk();
        let mut paced = Paced::new(&desk);
        let surface = paced.app.surface();
        let fifo = paced.fifos.get_fifo(&surface, &paced.app.client.handle(), Log::default());
        surface.destroy();
        match set {
            true => fifo.set_barrier(),
            false => fifo.wait_barrier(),
        }
        paced.app.client.expect_protocol_error(&fifo, wp_fifo_v1::Error::SurfaceDestroyed);
    }
}

#[test]
fn a_time_for_a_surface_that_is_gone_is_refused() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    let surface = paced.app.surface();
    let timer = paced.timers.get_timer(&surface, &paced.app.client.handle(), Log::default());
    surface.destroy();
    set_timestamp(&timer, now());
    paced.app.client.expect_protocol_error(&timer, wp_commit_timer_v1::Error::SurfaceDestroyed);
}

#[test]
fn a_second_of_nanoseconds_is_no_time() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    paced.timer.set_timestamp(0, 0, 999_999_999);
    paced.window.surface.commit();
    paced.app.client.expect_no_error();
    paced.timer.set_timestamp(0, 0, 1_000_000_000);
    paced.app.client.expect_protocol_error(&paced.timer, wp_commit_timer_v1::Error::InvalidTimestamp);
}

#[test]
fn a_commit_has_one_time() {
    let desk = desk();
    let mut paced = Paced::new(&desk);
    for _ in 0..2 {
        set_timestamp(&paced.timer, now());
        paced.window.surface.commit();
    }
    paced.app.client.expect_no_error();
    set_timestamp(&paced.timer, now());
    set_timestamp(&paced.timer, now());
    paced.app.client.expect_protocol_error(&paced.timer, wp_commit_timer_v1::Error::TimestampExists);
}
