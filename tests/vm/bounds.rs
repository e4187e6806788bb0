//! What clients can make grow, and where it ends (I8).

use fencepost::fence::timeline::Timeline;
use fencepost::surface::queue::MAX_QUEUED_COMMITS;
use fencepost::wayland::drm_syncobj::MAX_TIMELINES;

use crate::held::Held;
use crate::setup::{Clock, Desk, Fate, NO_MEMORY, desk};
use crate::sync_app::SyncApp;

#[test]
fn a_client_that_queues_too_many_commits_is_told_so_and_nobody_else() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, never, release) = (app.sync_window(), app.timeline(), app.timeline());
    let buffer = app.heap_buffer();
    for value in 1..=MAX_QUEUED_COMMITS as u64 {
        app.show(&window, &buffer, (&never, value), (&release, value));
        app.app.client.roundtrip();
    }
    app.app.client.expect_no_error();
    app.show(&window, &buffer, (&never, 1000), (&release, 1000));
    let display = app.app.client.display();
    let message = app.app.client.expect_protocol_error(&display, NO_MEMORY);
    assert!(message.contains("256 commits"), "{message}");
    clock.tick();
}

#[test]
fn commits_without_a_buffer_count_while_they_wait_and_only_then() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, never) = (app.sync_window(), app.timeline());
    for _ in 0..2 * MAX_QUEUED_COMMITS {
        window.window.surface.commit();
    }
    app.app.client.expect_no_error();
    app.show(&window, &app.heap_buffer(), (&never, 1), (&never, 2));
    for _ in 1..MAX_QUEUED_COMMITS {
        window.window.surface.commit();
    }
    app.app.client.expect_no_error();
    window.window.surface.commit();
    let display = app.app.client.display();
    app.app.client.expect_protocol_error(&display, NO_MEMORY);
    clock.tick();
}

#[test]
fn commits_that_were_shown_do_not_count() {
    let desk = desk();
    let mut app = SyncApp::new(&desk);
    let (window, acquire, release) = (app.sync_window(), app.timeline(), app.timeline());
    let buffer = app.heap_buffer();
    let mut value = 0;
    for _ in 0..3 {
        let mut last = None;
        for _ in 0..MAX_QUEUED_COMMITS / 2 {
            value += 1;
            last = Some(app.show(&window, &buffer, (&acquire, value), (&release, value)));
            app.app.client.roundtrip();
        }
        acquire.signal(value);
        app.app.until_shown(&last.unwrap());
    }
}

#[test]
fn a_client_that_imports_too_many_timelines_is_told_so_and_nobody_else() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let fd = app.timeline().kernel.export().unwrap();
    app.app.client.expect_no_error();
    for imported in 2..=MAX_TIMELINES {
        app.import(&fd);
        if imported % 16 == 0 {
            app.app.client.expect_no_error();
        }
    }
    app.app.client.expect_no_error();
    let last = app.import(&fd);
    let display = app.app.client.display();
    let message = app.app.client.expect_protocol_error(&display, NO_MEMORY);
    assert!(message.contains("1024 timelines"), "{message}");
    drop(last);
    clock.tick();
}

#[test]
fn destroyed_timelines_do_not_count() {
    let desk = desk();
    let mut app = SyncApp::new(&desk);
    let fd = app.timeline().kernel.export().unwrap();
    for imported in 0..2 * MAX_TIMELINES {
        app.import(&fd).destroy();
        if imported % 16 == 0 {
            app.app.client.expect_no_error();
        }
    }
    app.app.client.expect_no_error();
}

#[test]
fn timelines_that_a_commit_needs_count_although_they_are_destroyed() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let buffer = app.heap_buffer();
    // Two timelines for each commit, and as many as a queue takes for each window.
    for _ in 0..MAX_TIMELINES / 2 / MAX_QUEUED_COMMITS {
        let window = app.sync_window();
        for _ in 0..MAX_QUEUED_COMMITS {
            let (never, release) = (app.timeline(), app.timeline());
            app.show(&window, &buffer, (&never, 1), (&release, 1));
            never.object.destroy();
            release.object.destroy();
            app.app.client.roundtrip();
        }
    }
    app.app.client.expect_no_error();
    let last = app.timeline();
    let display = app.app.client.display();
    let message = app.app.client.expect_protocol_error(&display, NO_MEMORY);
    assert!(message.contains("1024 timelines"), "{message}");
    drop(last);
    clock.tick();
}

/// The file descriptors of this process, and how many of them are in epoll sets.
fn fds_and_sources() -> (usize, usize) {
    let held = Held::by(None);
    (held.fds, held.sources)
}

/// The handle that the next timeline of the compositor's device gets: the kernel gives out the lowest that is free.
fn next_handle(desk: &Desk) -> usize {
    let mut server = desk.server_mut();
    let device = server.state().globals.syncobj.as_ref().expect("a device");
    let timeline = format!("{:?}", Timeline::create(device).expect("a timeline"));
    let handle = timeline.rsplit("handle: ").next().expect("a handle");
    handle.split(',').next().and_then(|number| number.trim().parse().ok()).expect("a number")
}

fn come_and_go(desk: &Desk, clock: &mut Clock) -> (usize, usize) {
    let mut app = SyncApp::new(desk);
    let (window, never, release) = (app.sync_window(), app.timeline(), app.timeline());
    let buffer = app.heap_buffer();
    for value in 1..=200 {
        app.show(&window, &buffer, (&never, value), (&release, value));
        app.app.client.roundtrip();
    }
    app.app.client.expect_no_error();
    let during = fds_and_sources();
    drop((app, window, never, release, buffer));
    clock.tick();
    clock.tick();
    during
}

/// The fewest file descriptors, sources and handles that are seen: a frame may be in flight, with its fence.
fn at_rest(desk: &Desk, clock: &mut Clock) -> [usize; 3] {
    let mut look = || {
        clock.tick();
        let (fds, sources) = fds_and_sources();
        [fds, sources, next_handle(desk)]
    };
    let first = look();
    (1..30).map(|_| look()).fold(first, |least, seen| std::array::from_fn(|of| least[of].min(seen[of])))
}

#[test]
fn a_client_that_dies_with_unmaterialised_commits_leaves_no_fd_no_source_and_no_handle() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    clock.tick();
    // What is opened once and for all is open after this.
    come_and_go(&desk, &mut clock);
    let before = at_rest(&desk, &mut clock);
    let during = come_and_go(&desk, &mut clock);
    assert!(during.0 > before[0] + 200 && during.1 >= before[1] + 200, "{before:?} {during:?}");
    let after = at_rest(&desk, &mut clock);
    assert!(after.iter().zip(&before).all(|(after, before)| after <= before), "{before:?} became {after:?}");
}

#[test]
fn fences_that_have_signalled_leave_no_fd_and_no_source() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, acquire, release) = (app.sync_window(), app.timeline(), app.timeline());
    let buffer = app.heap_buffer();
    let mut seen = Vec::new();
    for value in 1..=20 {
        let commit = app.show(&window, &buffer, (&acquire, value), (&release, value));
        assert_eq!(app.app.fate(&commit), Fate::Waiting);
        acquire.signal(value);
        app.app.until_shown(&commit);
        app.until_signalled(&release.point(value));
        clock.tick();
        seen.push(fds_and_sources());
    }
    // A frame more or less has its fence.
    let (first, last) = (seen[2], seen[19]);
    assert!(last.0.abs_diff(first.0) <= 2 && last.1.abs_diff(first.1) <= 2, "{seen:?}");
}
