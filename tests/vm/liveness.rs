//! Every committed release is given in the end (I3), once, and never while the buffer is still in use (I2).

use fencepost::fence::timeline::Point;
use fencepost::fence::{Fence, Status};

use crate::setup::{Clock, Fate, desk, releases};
use crate::sync_app::{ClientTimeline, SyncApp, SyncWindow};

/// A window that shows a buffer of the GPU until something happens to it.
fn showing(app: &mut SyncApp, timeline: &ClientTimeline) -> SyncWindow {
    let window = app.sync_window();
    timeline.signal(1);
    let commit = app.show(&window, &app.gpu_buffer(), (timeline, 1), (timeline, 2));
    app.app.until_shown(&commit);
    assert_eq!(timeline.status(2), Status::Unmaterialised, "it is on the screen");
    window
}

#[test]
fn a_commit_that_was_replaced_before_it_was_shown_is_released() {
    let desk = desk();
    let mut app = SyncApp::new(&desk);
    let (window, acquire, release) = (app.sync_window(), app.timeline(), app.timeline());
    acquire.signal(1);
    let never = app.show(&window, &app.gpu_buffer(), (&acquire, 1), (&release, 1));
    let shown = app.show(&window, &app.gpu_buffer(), (&acquire, 1), (&release, 2));
    app.app.until_shown(&shown);
    assert_eq!(app.app.fate(&never), Fate::Superseded);
    app.until_signalled(&release.point(1));
    assert_eq!(release.status(2), Status::Unmaterialised);
}

#[test]
fn a_commit_is_released_when_another_has_replaced_it_on_the_screen() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (old, new) = (app.timeline(), app.timeline());
    let window = showing(&mut app, &old);
    let late = app.show(&window, &app.gpu_buffer(), (&new, 1), (&new, 2));
    app.app.client.expect_no_error();
    clock.tick();
    assert_eq!(old.status(2), Status::Unmaterialised, "its successor is not ready");
    new.signal(1);
    app.app.until_shown(&late);
    app.until_signalled(&old.point(2));
    assert_eq!(new.status(2), Status::Unmaterialised);
}

#[test]
fn a_buffer_that_was_copied_is_released_although_it_is_shown() {
    let desk = desk();
    let mut app = SyncApp::new(&desk);
    let (window, timeline) = (app.sync_window(), app.timeline());
    timeline.signal(1);
    let shown = app.show(&window, &app.heap_buffer(), (&timeline, 1), (&timeline, 2));
    app.app.until_shown(&shown);
    app.until_signalled(&timeline.point(2));
}

#[test]
fn an_unmapped_window_releases_what_it_showed() {
    let desk = desk();
    let mut app = SyncApp::new(&desk);
    let timeline = app.timeline();
    let window = showing(&mut app, &timeline);
    window.window.surface.attach(None, 0, 0);
    window.window.surface.commit();
    app.until_signalled(&timeline.point(2));
}

/// Commits that nothing will ever make ready, on a window that shows something; their release points.
fn hopeless(app: &mut SyncApp, window: &SyncWindow) -> Vec<Point> {
    let never = app.timeline();
    // A timeline for each: a later point would signal the earlier ones.
    let points = (1..=5).map(|value| {
        let release = app.timeline();
        app.show(window, &app.heap_buffer(), (&never, value), (&release, 1));
        release.point(1)
    });
    let points = points.collect();
    app.app.client.expect_no_error();
    points
}

#[test]
fn a_destroyed_surface_releases_what_it_showed_and_what_would_never_be_ready() {
    let desk = desk();
    let mut app = SyncApp::new(&desk);
    let timeline = app.timeline();
    let window = showing(&mut app, &timeline);
    let points = hopeless(&mut app, &window);
    assert!(points.iter().all(|point| point.status() == Status::Unmaterialised));
    window.sync.destroy();
    window.window.toplevel.destroy();
    window.window.xdg_surface.destroy();
    window.window.surface.destroy();
    app.until_signalled(&timeline.point(2));
    for point in points {
        app.until_signalled(&point);
    }
}

#[test]
fn a_client_that_goes_leaves_its_points_signalled_to_whoever_shares_them() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let timeline = app.timeline();
    let window = showing(&mut app, &timeline);
    let mut points = hopeless(&mut app, &window);
    points.push(timeline.point(2));
    drop((app, window));
    clock.app.client.until(|| points.iter().all(|point| point.status() == Status::Signalled));
}

#[test]
fn a_client_that_is_thrown_out_has_its_points_signalled_too() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let timeline = app.timeline();
    let window = showing(&mut app, &timeline);
    let mut points = hopeless(&mut app, &window);
    points.push(timeline.point(2));
    window.window.surface.set_buffer_scale(-1);
    app.app.client.roundtrip();
    assert!(!app.app.client.is_connected());
    clock.app.client.until(|| points.iter().all(|point| point.status() == Status::Signalled));
}

#[test]
fn a_compositor_that_ends_signals_every_point() {
    let desk = desk();
    let mut app = SyncApp::new(&desk);
    let timeline = app.timeline();
    let window = showing(&mut app, &timeline);
    let mut points = hopeless(&mut app, &window);
    points.push(timeline.point(2));
    desk.server_mut().end();
    let left: Vec<_> = points.iter().filter(|point| point.status() != Status::Signalled).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_buffer_that_was_destroyed_is_shown_and_released_all_the_same() {
    let desk = desk();
    let mut app = SyncApp::new(&desk);
    let (window, timeline, next) = (app.sync_window(), app.timeline(), app.timeline());
    let buffer = app.gpu_buffer();
    let commit = app.show(&window, &buffer, (&timeline, 1), (&timeline, 2));
    buffer.destroy();
    app.app.client.expect_no_error();
    timeline.signal(1);
    app.app.until_shown(&commit);
    assert_eq!(timeline.status(2), Status::Unmaterialised);
    next.signal(1);
    app.show(&window, &app.heap_buffer(), (&next, 1), (&next, 2));
    app.until_signalled(&timeline.point(2));
}

#[test]
fn an_implicit_buffer_is_released_once_and_not_while_it_is_shown() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let window = app.app.window();
    let (one, two) = (app.gpu_buffer(), app.gpu_buffer());
    let shown = app.app.show(&window.surface, &one);
    app.app.until_shown(&shown);
    clock.tick();
    app.app.client.expect_no_error();
    assert_eq!(releases(&one), 0);
    let shown = app.app.show(&window.surface, &two);
    app.app.until_shown(&shown);
    app.app.client.until(|| releases(&one) == 1);
    window.surface.attach(None, 0, 0);
    window.surface.commit();
    app.app.client.until(|| releases(&two) == 1);
    clock.tick();
    app.app.client.expect_no_error();
    assert_eq!((releases(&one), releases(&two)), (0, 0));
}

#[test]
fn a_compositor_that_ends_sends_implicit_releases() {
    let desk = desk();
    let mut app = SyncApp::new(&desk);
    let window = app.app.window();
    let buffer = app.gpu_buffer();
    let shown = app.app.show(&window.surface, &buffer);
    app.app.until_shown(&shown);
    desk.server_mut().end();
    app.app.client.until(|| releases(&buffer) == 1);
}
