//! Trees of surfaces: what is applied with what.

use std::time::Duration;

use fencepost::surface::queue::MAX_QUEUED_COMMITS;

use wayland_protocols::wp::commit_timing::v1::client::wp_commit_timing_manager_v1::WpCommitTimingManagerV1;
use wayland_protocols::wp::viewporter::client::wp_viewport;
use wayland_protocols::wp::viewporter::client::wp_viewporter::WpViewporter;

use crate::paced::{now, set_timestamp};
use crate::setup::{App, Clock, Fate, NO_MEMORY, SIZE, desk, releases};

#[test]
fn a_synchronised_child_is_shown_with_its_parents_commit() {
    let desk = desk();
    let (mut app, mut clock) = (App::new(&desk), Clock::new(&desk));
    let window = app.window();
    let (child, _subsurface) = app.subsurface(&window.surface);
    let first = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&first);
    let held = app.show(&child, &app.shm_buffer());
    app.client.expect_no_error();
    clock.tick();
    assert_eq!(app.fate(&held), Fate::Waiting);
    window.surface.commit();
    app.until_shown(&held);
}

#[test]
fn a_desynchronised_child_is_shown_alone() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let (child, subsurface) = app.subsurface(&window.surface);
    subsurface.set_desync();
    let first = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&first);
    let alone = app.show(&child, &app.shm_buffer());
    app.until_shown(&alone);
}

#[test]
fn what_a_child_has_not_committed_is_not_taken_by_its_parents_commit() {
    let desk = desk();
    let (mut app, mut clock) = (App::new(&desk), Clock::new(&desk));
    let window = app.window();
    let (child, _subsurface) = app.subsurface(&window.surface);
    let first = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&first);

    let buffer = app.shm_buffer();
    child.attach(Some(&buffer), 0, 0);
    child.damage_buffer(0, 0, i32::MAX, i32::MAX);
    let watched = app.watch(&child);
    let frame = app.frame(&child);
    window.surface.commit();
    app.client.expect_no_error();
    clock.tick();
    assert_eq!(app.fate(&watched), Fate::Waiting);
    assert_eq!(releases(&buffer), 0);

    child.commit();
    window.surface.commit();
    app.until_shown(&watched);
    app.client.until(|| !crate::fixture::events(&frame).is_empty());
    app.client.until(|| releases(&buffer) == 1);
}

#[test]
fn how_a_child_is_to_be_shown_is_not_taken_before_it_commits() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let (child, _subsurface) = app.subsurface(&window.surface);
    let viewporter: WpViewporter = app.client.bind(1);
    let viewport = viewporter.get_viewport(&child, &app.client.handle(), Default::default());
    app.show(&child, &app.shm_buffer());
    let first = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&first);

    // Outside of the buffer that the child shows: taken now, it would be an error.
    viewport.set_source(f64::from(SIZE.0), 0.0, 1.0, 1.0);
    window.surface.commit();
    app.client.expect_no_error();
    viewport.set_source(0.0, 0.0, 1.0, 1.0);
    let shown = app.show(&child, &app.shm_buffer());
    viewport.set_source(f64::from(SIZE.0), 0.0, 1.0, 1.0);
    window.surface.commit();
    app.until_shown(&shown);

    child.commit();
    window.surface.commit();
    app.client.expect_protocol_error(&viewport, wp_viewport::Error::OutOfBuffer);
}

#[test]
fn a_child_that_commits_again_gets_each_buffer_back_once() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let (child, _subsurface) = app.subsurface(&window.surface);
    let first = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&first);
    let (one, two) = (app.shm_buffer(), app.shm_buffer());
    let never = app.show(&child, &one);
    let shown = app.show(&child, &two);
    app.client.expect_no_error();
    window.surface.commit();
    app.until_shown(&shown);
    assert_eq!(app.fate(&never), Fate::Superseded);
    assert_eq!((releases(&one), releases(&two)), (1, 1));
}

#[test]
fn a_child_that_goes_on_without_its_parent_is_stopped_at_the_bound() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let (child, _subsurface) = app.subsurface(&window.surface);
    let buffer = app.shm_buffer();
    for _ in 0..MAX_QUEUED_COMMITS {
        app.show(&child, &buffer);
        app.client.roundtrip();
    }
    app.client.expect_no_error();
    app.show(&child, &buffer);
    let display = app.client.display();
    app.client.expect_protocol_error(&display, NO_MEMORY);
}

#[test]
fn commits_without_a_buffer_behind_a_child_that_waits_are_bounded() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    for (set_desync, destroy) in [(false, false), (true, false), (false, true)] {
        let mut app = App::new(&desk);
        let timers: WpCommitTimingManagerV1 = app.client.bind(1);
        let window = app.window();
        let (child, subsurface) = app.subsurface(&window.surface);
        let timer = timers.get_timer(&child, &app.client.handle(), Default::default());
        set_timestamp(&timer, now() + Duration::from_secs(3600));
        app.show(&child, &app.shm_buffer());
        // Takes the child's, and waits with it.
        window.surface.commit();
        match (set_desync, destroy) {
            (true, _) => subsurface.set_desync(),
            (_, true) => subsurface.destroy(),
            _ => {}
        }
        for _ in 0..MAX_QUEUED_COMMITS {
            window.surface.commit();
        }
        app.client.expect_no_error();
        window.surface.commit();
        let display = app.client.display();
        app.client.expect_protocol_error(&display, NO_MEMORY);
        clock.tick();
    }
}

#[test]
fn a_child_without_its_parent_still_gets_its_buffers_back() {
    let desk = desk();
    for parent_goes in [false, true] {
        let mut app = App::new(&desk);
        let parent = app.surface();
        let (child, subsurface) = app.subsurface(&parent);
        match parent_goes {
            true => parent.destroy(),
            false => subsurface.destroy(),
        }
        let (one, two) = (app.shm_buffer(), app.shm_buffer());
        app.show(&child, &one);
        app.show(&child, &two);
        app.client.expect_no_error();
        assert_eq!((releases(&one), releases(&two)), (1, 0), "the parent is gone: {parent_goes}");
    }
}

#[test]
fn a_child_that_gets_a_parent_again_is_synchronised_again() {
    let desk = desk();
    let (mut app, mut clock) = (App::new(&desk), Clock::new(&desk));
    let window = app.window();
    let (child, subsurface) = app.subsurface(&window.surface);
    let first = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&first);
    subsurface.destroy();
    app.show(&child, &app.shm_buffer());
    let handle = app.client.handle();
    app.subcompositor.get_subsurface(&child, &window.surface, &handle, Default::default());
    let held = app.show(&child, &app.shm_buffer());
    app.client.expect_no_error();
    clock.tick();
    assert_eq!(app.fate(&held), Fate::Waiting);
    window.surface.commit();
    app.until_shown(&held);
}

#[test]
fn a_child_goes_from_the_screen_with_its_wl_subsurface() {
    let desk = desk();
    let (mut app, mut clock) = (App::new(&desk), Clock::new(&desk));
    let window = app.window();
    let (child, subsurface) = app.subsurface(&window.surface);
    subsurface.set_desync();
    let first = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&first);
    let shown = app.show(&child, &app.shm_buffer());
    app.until_shown(&shown);
    subsurface.destroy();
    let hidden = app.show(&child, &app.shm_buffer());
    app.client.expect_no_error();
    clock.tick();
    assert_eq!(app.fate(&hidden), Fate::Waiting);
}
