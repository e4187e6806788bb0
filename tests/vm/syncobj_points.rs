//! What the points of linux-drm-syncobj-v1 mean, P1 to P13: when a commit is shown, and when it is released.

use fencepost::fence::Status;

use crate::fences::SwSync;
use crate::fixture::events;
use crate::setup::{Clock, Fate, desk};
use crate::sync_app::{SyncApp, set_acquire, set_release};

#[test]
fn p5_a_commit_is_shown_when_its_acquire_point_has_signalled_and_not_before() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, timeline) = (app.sync_window(), app.timeline());
    let frame = app.app.frame(&window.window.surface);
    let commit = app.show(&window, &app.heap_buffer(), (&timeline, 1), (&timeline, 2));
    assert_eq!(app.app.fate(&commit), Fate::Waiting);
    clock.tick();
    assert_eq!(app.app.fate(&commit), Fate::Waiting);
    assert!(events(&frame).is_empty());
    timeline.signal(1);
    app.app.until_shown(&commit);
    assert_eq!(events(&frame).len(), 1);
}

#[test]
fn p1_p2_neither_manager_nor_timelines_are_needed_for_what_was_set() {
    let desk = desk();
    let mut app = SyncApp::new(&desk);
    let (window, acquire, release) = (app.sync_window(), app.timeline(), app.timeline());
    set_acquire(&window.sync, (&acquire, 1));
    set_release(&window.sync, (&release, 1));
    acquire.object.destroy();
    release.object.destroy();
    app.manager.destroy();
    let commit = app.app.show(&window.window.surface, &app.heap_buffer());
    assert_eq!(app.app.fate(&commit), Fate::Waiting);
    acquire.signal(1);
    app.app.until_shown(&commit);
    app.until_signalled(&release.point(1));
}

#[test]
fn p3_without_its_syncobj_object_a_surface_is_implicit_and_its_commits_keep_their_points() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, timeline, never) = (app.sync_window(), app.timeline(), app.timeline());
    let explicit = app.show(&window, &app.heap_buffer(), (&timeline, 1), (&timeline, 2));
    set_acquire(&window.sync, (&never, 1));
    set_release(&window.sync, (&never, 2));
    window.sync.destroy();
    let implicit = app.app.show(&window.window.surface, &app.heap_buffer());
    app.app.client.expect_no_error();
    clock.tick();
    assert_eq!((app.app.fate(&explicit), app.app.fate(&implicit)), (Fate::Waiting, Fate::Waiting));
    timeline.signal(1);
    app.app.until_shown(&implicit);
    app.until_signalled(&timeline.point(2));
    assert_eq!(never.status(2), Status::Unmaterialised);
}

#[test]
fn p4_of_points_that_are_set_twice_the_last_ones_count() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, dropped, kept) = (app.sync_window(), app.timeline(), app.timeline());
    set_acquire(&window.sync, (&dropped, 1));
    set_release(&window.sync, (&dropped, 2));
    let commit = app.show(&window, &app.heap_buffer(), (&kept, 1), (&kept, 2));
    app.app.client.expect_no_error();
    dropped.signal(1);
    clock.tick();
    assert_eq!(app.app.fate(&commit), Fate::Waiting);
    kept.signal(1);
    app.app.until_shown(&commit);
    app.until_signalled(&kept.point(2));
    assert_eq!(dropped.status(2), Status::Unmaterialised);
}

#[test]
fn p6_a_release_point_is_of_its_commit_and_not_of_the_buffer() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, acquire, release) = (app.sync_window(), app.timeline(), app.timeline());
    acquire.signal(1);
    let buffer = app.gpu_buffer();
    let first = app.show(&window, &buffer, (&acquire, 1), (&release, 1));
    app.app.until_shown(&first);
    clock.tick();
    assert_eq!(release.status(1), Status::Unmaterialised, "it is on the screen");
    let second = app.show(&window, &buffer, (&acquire, 1), (&release, 2));
    app.app.until_shown(&second);
    app.until_signalled(&release.point(1));
    clock.tick();
    assert_eq!(release.status(2), Status::Unmaterialised, "it is still on the screen");
}

#[test]
fn p9_points_have_64_bits() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let window = app.sync_window();
    let buffer = app.heap_buffer();
    for value in [1 << 32, (1 << 32) + 1, (5 << 32) + 4, 1 << 63, u64::MAX] {
        let (acquire, release) = (app.timeline(), app.timeline());
        let commit = app.show(&window, &buffer, (&acquire, value), (&release, value));
        app.app.client.expect_no_error();
        acquire.signal(value - 1);
        clock.tick();
        assert_eq!(app.app.fate(&commit), Fate::Waiting, "{value}");
        acquire.signal(value);
        app.app.until_shown(&commit);
        app.until_signalled(&release.point(value));
    }
}

#[test]
fn p9_point_0_waits_for_any_fence_and_its_release_costs_the_timeline_nothing() {
    let desk = desk();
    let mut sw = SwSync::new();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, acquire, release) = (app.sync_window(), app.timeline(), app.timeline());
    release.point(3).import_sync_file(&sw.fence()).expect("import");
    let commit = app.show(&window, &app.gpu_buffer(), (&acquire, 0), (&release, 0));
    app.app.client.expect_no_error();
    clock.tick();
    assert_eq!(app.app.fate(&commit), Fate::Waiting);
    acquire.signal(7);
    app.app.until_shown(&commit);
    acquire.signal(8);
    let next = app.show(&window, &app.heap_buffer(), (&acquire, 8), (&acquire, 9));
    app.app.until_shown(&next);
    app.until_signalled(&acquire.point(9));
    assert_eq!(release.status(3), Status::Pending);
    sw.step();
    app.until_signalled(&release.point(0));
    assert_eq!(release.status(3), Status::Signalled);
    assert_eq!(release.status(4), Status::Unmaterialised);
}

#[test]
fn p12_a_point_may_get_its_fence_after_the_commit() {
    let desk = desk();
    let mut sw = SwSync::new();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, timeline) = (app.sync_window(), app.timeline());
    let commit = app.show(&window, &app.heap_buffer(), (&timeline, 1), (&timeline, 2));
    app.app.client.expect_no_error();
    clock.tick();
    timeline.point(1).import_sync_file(&sw.fence()).expect("import");
    clock.tick();
    assert_eq!(app.app.fate(&commit), Fate::Waiting, "there is a fence, but it has not signalled");
    sw.step();
    app.app.until_shown(&commit);
}

#[test]
fn p13_a_commit_that_is_ready_first_waits_for_the_one_before() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, late, early) = (app.sync_window(), app.timeline(), app.timeline());
    let first = app.show(&window, &app.heap_buffer(), (&late, 1), (&late, 2));
    let second = app.show(&window, &app.heap_buffer(), (&early, 1), (&early, 2));
    app.app.client.expect_no_error();
    early.signal(1);
    clock.tick();
    assert_eq!((app.app.fate(&first), app.app.fate(&second)), (Fate::Waiting, Fate::Waiting));
    late.signal(1);
    app.app.until_shown(&second);
    assert_eq!(app.app.fate(&first), Fate::Superseded);
    app.until_signalled(&late.point(2));
    app.until_signalled(&early.point(2));
}

#[test]
fn p13_points_of_one_timeline_that_materialise_out_of_order_show_their_commits_in_order() {
    let desk = desk();
    let mut sw = SwSync::new();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, acquire, release) = (app.sync_window(), app.timeline(), app.timeline());
    let first = app.show(&window, &app.heap_buffer(), (&acquire, 1), (&release, 1));
    let second = app.show(&window, &app.heap_buffer(), (&acquire, 2), (&release, 2));
    app.app.client.expect_no_error();
    acquire.point(2).import_sync_file(&sw.fence()).expect("import");
    clock.tick();
    assert_eq!((app.app.fate(&first), app.app.fate(&second)), (Fate::Waiting, Fate::Waiting));
    sw.step();
    app.app.until_shown(&second);
    app.until_signalled(&release.point(2));
}

#[test]
fn p13_a_commit_without_a_buffer_waits_for_the_one_before() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, timeline) = (app.sync_window(), app.timeline());
    app.show(&window, &app.heap_buffer(), (&timeline, 1), (&timeline, 2));
    let frame = app.app.frame(&window.window.surface);
    window.window.surface.commit();
    app.app.client.expect_no_error();
    clock.tick();
    app.app.client.expect_no_error();
    assert!(events(&frame).is_empty());
    timeline.signal(1);
    app.app.client.until(|| !events(&frame).is_empty());
}
