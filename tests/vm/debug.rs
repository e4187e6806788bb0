//! fencepost-debug-v1: fences as they pend, and users who are not ours.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use fencepost::protocol::client::fencepost_debug_v1::{Cause, CommitState};
use fencepost::watch::feed::FeedError;
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use wayland_client::WEnum;

use crate::sync_app::SyncApp;
use crate::watcher::{Watcher, surface, watched_desk};

/// Nobody in particular.
const OTHER: u32 = 1234;

#[test]
fn a_commit_whose_point_has_no_fence_is_seen_with_the_point_and_since_when_it_waits() {
    let desk = watched_desk();
    let mut app = SyncApp::new(&desk);
    let (window, timeline) = (app.sync_window(), app.timeline());
    window.window.toplevel.set_app_id("late".to_owned());
    let commit = app.show(&window, &app.heap_buffer(), (&timeline, 7), (&timeline, 8));
    app.app.client.expect_no_error();
    let mut watcher = Watcher::new(&desk);
    watcher.until_seen(|model| surface(model, "late").is_some_and(|late| !late.commits.is_empty()));
    let late = surface(&watcher.model, "late").expect("a surface").clone();
    let (waiting, wait) = late.waiting().expect("a commit that waits");
    assert_eq!(waiting.state, WEnum::Value(CommitState::Unmaterialised));
    assert_eq!((wait.cause, wait.value), (WEnum::Value(Cause::Point), 7));
    assert_eq!((late.queued, late.unreleased), (1, 1));
    let first = watcher.model.now.time;
    watcher.until_seen(|model| model.now.time >= first + Duration::from_millis(50).as_nanos() as u64);
    let still = surface(&watcher.model, "late").expect("a surface");
    assert_eq!(still.waiting().map(|(commit, _)| commit.since), Some(waiting.since));
    assert!(waiting.since < first);
    timeline.signal(7);
    app.app.until_shown(&commit);
    watcher.until_seen(|model| {
        surface(model, "late").is_some_and(|late| late.queued == 0 && late.waiting().is_none())
    });
}

#[test]
fn another_user_sees_nothing_through_the_socket_for_those_who_watch() {
    let desk = watched_desk();
    // The kernel notes who makes a pair of sockets; the user of a thread is its own.
    let pair = thread::spawn(|| {
        let other = Uid::from_raw(OTHER);
        set_thread_res_uid(other, other, other).expect("another user");
        UnixStream::pair().expect("a socket pair")
    });
    let (ours, theirs) = pair.join().expect("a pair");
    let error = Watcher::over(&desk, ours, theirs).until_ended();
    assert!(matches!(error, FeedError::NotOffered), "{error}");
    Watcher::new(&desk);
}
