//! wl_shm: releases of its buffers, and pools that are not what they say.

use rustix::fs::ftruncate;
use wayland_client::protocol::wl_shm::{Error, Format};

use crate::fixture::Log;
use crate::setup::{App, BYTES, Clock, Fate, SIZE, STRIDE, desk, memory, releases};

#[test]
fn every_commit_of_a_buffer_is_answered_by_one_release() {
    let desk = desk();
    let (mut app, mut clock) = (App::new(&desk), Clock::new(&desk));
    let window = app.window();
    let (one, two) = (app.shm_buffer(), app.shm_buffer());
    for (round, buffer) in [&one, &two, &one].into_iter().enumerate() {
        let shown = app.show(&window.surface, buffer);
        app.until_shown(&shown);
        clock.tick();
        assert_eq!(app.fate(&shown), Fate::Shown);
        assert_eq!((releases(&one), releases(&two)), if round == 1 { (0, 1) } else { (1, 0) }, "{round}");
    }
}

#[test]
fn a_buffer_that_was_replaced_before_it_was_shown_is_released_once() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let (one, two) = (app.shm_buffer(), app.shm_buffer());
    let (never, shown) = (app.show(&window.surface, &one), app.show(&window.surface, &two));
    app.until_shown(&shown);
    app.client.expect_no_error();
    assert_eq!(never.fate(), Fate::Superseded);
    assert_eq!((releases(&one), releases(&two)), (1, 1));
}

#[test]
fn a_buffer_that_was_never_committed_is_never_released() {
    let desk = desk();
    let (mut app, mut clock) = (App::new(&desk), Clock::new(&desk));
    let window = app.window();
    let (one, two) = (app.shm_buffer(), app.shm_buffer());
    window.surface.attach(Some(&one), 0, 0);
    let shown = app.show(&window.surface, &two);
    app.until_shown(&shown);
    clock.tick();
    app.client.expect_no_error();
    assert_eq!((releases(&one), releases(&two)), (0, 1));
}

#[test]
fn a_buffer_may_be_destroyed_as_soon_as_it_is_committed() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let buffer = app.shm_buffer();
    let shown = app.show(&window.surface, &buffer);
    buffer.destroy();
    app.until_shown(&shown);
}

#[test]
fn a_pool_of_no_bytes_is_refused_and_others_live_on() {
    for size in [0, -1, i32::MIN] {
        let desk = desk();
        let (mut app, mut clock) = (App::new(&desk), Clock::new(&desk));
        app.pool(&memory(BYTES), size);
        let shm = app.shm.clone();
        app.client.expect_protocol_error(&shm, Error::InvalidStride);
        clock.tick();
    }
}

#[test]
fn a_pool_cannot_become_smaller_or_nothing_and_others_live_on() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    for size in [0, -1, i32::MIN, BYTES - 1] {
        let mut app = App::new(&desk);
        let pool = app.pool(&memory(BYTES), BYTES);
        pool.resize(size);
        app.client.expect_protocol_error(&pool, Error::InvalidFd);
        clock.tick();
    }
    let mut app = App::new(&desk);
    app.pool(&memory(BYTES), BYTES).resize(BYTES);
    app.client.expect_no_error();
}

#[test]
fn a_buffer_must_lie_in_its_pool() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let (width, height) = SIZE;
    for (offset, width, height, stride) in [
        (-1, width, height, STRIDE),
        (1, width, height, STRIDE),
        (i32::MAX, width, height, STRIDE),
        (0, 0, height, STRIDE),
        (0, width, -1, STRIDE),
        (0, width, height + 1, STRIDE),
        (0, width + 1, height, STRIDE),
        (0, width, height, 0),
        (0, width, height, -STRIDE),
        (0, width, height, i32::MIN),
        (0, i32::MAX, i32::MAX, i32::MAX),
        (0, i32::MAX, 1, i32::MAX),
        (0, i32::MIN, i32::MIN, i32::MIN),
        (0, 1, i32::MAX, 4),
    ] {
        let mut app = App::new(&desk);
        let pool = app.pool(&memory(BYTES), BYTES);
        let (format, handle) = (Format::Xrgb8888, app.client.handle());
        pool.create_buffer(offset, width, height, stride, format, &handle, Log::default());
        app.client.expect_protocol_error(&pool, Error::InvalidStride);
        clock.tick();
    }
}

#[test]
fn a_pool_whose_memory_was_taken_away_ends_its_client_only() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let mut app = App::new(&desk);
    let window = app.window();
    let memory = memory(BYTES);
    let pool = app.pool(&memory, BYTES);
    let (format, handle) = (Format::Xrgb8888, app.client.handle());
    let buffer = pool.create_buffer(0, SIZE.0, SIZE.1, STRIDE, format, &handle, Log::default());
    ftruncate(&memory, 0).unwrap();
    app.show(&window.surface, &buffer);
    // It is read with the frame that shows it: with this turn where the display stands still, or with the tick's.
    app.client.roundtrip();
    clock.tick();
    app.client.expect_protocol_error(&buffer, Error::InvalidFd);
    clock.tick();
}
