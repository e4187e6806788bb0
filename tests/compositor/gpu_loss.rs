//! A GPU context that is lost, as after a reset: what was shown is shown again as far as it can be, and nothing is owed
//! longer than before.

use std::time::{Duration, Instant};

use wayland_client::protocol::wl_callback::WlCallback;

use crate::fixture::events;
use crate::setup::{App, Clock, Desk, Fate, SIZE, desk, releases};

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const ALL: usize = (SIZE.0 * SIZE.1) as usize;

fn lose(desk: &Desk, failures: u32) {
    desk.server_mut().state().lose_gpu(failures);
}

fn pixels_of(desk: &Desk, colour: [u8; 3]) -> usize {
    desk.server_mut().pixels_of(colour)
}

fn is_done(callback: &WlCallback) -> bool {
    !events(callback).is_empty()
}

#[test]
fn what_is_drawn_after_a_loss_is_seen() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    for colour in [RED, GREEN, RED, GREEN] {
        let shown = app.show(&window.surface, &app.coloured_buffer(colour));
        app.until_shown(&shown);
        assert_eq!(pixels_of(&desk, colour), ALL);
        lose(&desk, 0);
    }
    let shown = app.show(&window.surface, &app.coloured_buffer(RED));
    app.until_shown(&shown);
    assert_eq!((pixels_of(&desk, RED), pixels_of(&desk, GREEN)), (ALL, 0));
}

#[test]
fn a_buffer_that_was_given_back_is_not_read_again_and_its_client_is_asked_to_draw() {
    let desk = desk();
    let (mut app, mut clock) = (App::new(&desk), Clock::new(&desk));
    let (window, other) = (app.window(), app.window());
    let (lost, kept) = (app.coloured_buffer(RED), app.shm_buffer());
    for commit in [app.show(&window.surface, &lost), app.show(&other.surface, &kept)] {
        app.until_shown(&commit);
    }
    clock.tick();
    app.client.expect_no_error();
    assert_eq!((releases(&lost), releases(&kept), pixels_of(&desk, RED)), (1, 1, ALL));
    for window in [&window, &other] {
        window.ack();
    }

    let callback = app.frame(&window.surface);
    window.surface.commit();
    lose(&desk, 0);
    clock.tick();
    app.client.until(|| is_done(&callback));
    assert_eq!(pixels_of(&desk, RED), 0, "what was given back may be something else by now");
    assert_eq!((window.ack(), other.ack()), (1, 1));
    assert_eq!((releases(&lost), releases(&kept)), (0, 0), "nothing is given back twice");

    let again = app.show(&window.surface, &lost);
    app.until_shown(&again);
    assert_eq!(pixels_of(&desk, RED), ALL);
}

#[test]
fn a_buffer_that_was_not_drawn_yet_survives_a_loss() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let first = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&first);
    // Lost before the frame that would draw it, and gone for a few tries.
    let buffer = app.coloured_buffer(GREEN);
    let shown = app.show(&window.surface, &buffer);
    lose(&desk, 3);
    app.client.roundtrip();
    assert_eq!(releases(&buffer), 0);
    app.until_shown(&shown);
    assert_eq!(pixels_of(&desk, GREEN), ALL);
    app.client.expect_no_error();
    assert_eq!(releases(&buffer), 1);
}

#[test]
fn while_there_is_no_context_nothing_is_shown_and_everything_comes_in_the_end() {
    let desk = desk();
    let (mut app, mut clock) = (App::new(&desk), Clock::new(&desk));
    clock.tick();
    let window = app.window();
    lose(&desk, 4);
    let (one, two) = (app.shm_buffer(), app.coloured_buffer(RED));
    let (never, shown) = (app.show(&window.surface, &one), app.show(&window.surface, &two));
    let start = Instant::now();
    app.until_shown(&shown);
    // Pauses of 50, 100, 200 and 400 ms lie between the first try and the one that succeeds.
    assert!(start.elapsed() > Duration::from_millis(700), "{:?}", start.elapsed());
    clock.tick();
    app.client.expect_no_error();
    assert_eq!(never.fate(), Fate::Superseded);
    assert_eq!((releases(&one), releases(&two)), (1, 1));
}

#[test]
fn a_loss_with_a_frame_in_flight_costs_no_client_its_frame() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let buffers = [app.coloured_buffer(RED), app.coloured_buffer(GREEN)];
    for round in 0..20 {
        let shown = app.show(&window.surface, &buffers[round % 2]);
        app.client.roundtrip();
        lose(&desk, u32::from(round % 5 == 4));
        app.until_shown(&shown);
    }
    app.client.expect_no_error();
    assert_eq!(buffers.map(|buffer| releases(&buffer)), [10, 10]);
}

#[test]
fn the_pointers_image_is_drawn_again() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    clock.tick();
    // The theme's arrow, or the one built in, has black and white in it; the clock's window is black.
    let white = |desk: &Desk| pixels_of(desk, [255, 255, 255]);
    let before = white(&desk);
    assert!(before > 0, "the pointer has an image");
    lose(&desk, 0);
    clock.tick();
    assert_eq!(white(&desk), before);
}
