//! How large the window is: as the parent scales it, and fullscreen.

use fencepost::compositor::Options;
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_keyboard::{self, WlKeyboard};
use wayland_client::protocol::wl_output::{self, WlOutput};
use wayland_client::protocol::wl_pointer::{self, WlPointer};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_shm::Format;
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_manager_v1::WpFractionalScaleManagerV1;
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_v1::{
    Event as FractionalEvent, WpFractionalScaleV1,
};
use wayland_protocols::wp::viewporter::client::wp_viewporter::WpViewporter;

use crate::fixture::{Log, events};
use crate::output_management::Tool;
use crate::parent::{Parent, square};
use crate::setup::{App, Desk, memory};

/// The parent's screen, in pixels.
const SIDE: i32 = 192;

const KEY_F11: u32 = 87;

/// XRGB8888 rows in which no pixel is like its neighbours: none can be stretched, moved or left out unseen.
fn pattern() -> Vec<u8> {
    let pixel =
        |x: i32, y: i32| [(x * 85 + y) as u8, (y * 85 + x) as u8, if (x + y) % 2 == 0 { 255 } else { 0 }, 0];
    (0..SIDE).flat_map(|y| (0..SIDE).flat_map(move |x| pixel(x, y))).collect()
}

fn pattern_buffer(app: &App) -> WlBuffer {
    let memory = memory(SIDE * SIDE * 4);
    rustix::io::pwrite(&memory, &pattern(), 0).expect("pixels");
    let (pool, handle) = (app.pool(&memory, SIDE * SIDE * 4), app.client.handle());
    pool.create_buffer(0, SIDE, SIDE, SIDE * 4, Format::Xrgb8888, &handle, Log::default())
}

/// A desk in a window of a parent whose screen is scaled like this.
fn scaled(name: &str, scale: &str, window: u16) -> (Parent, Desk) {
    let parent = Parent::scaled(name, scale, SIDE.unsigned_abs() as u16);
    let desk = parent.desk_with(Options { mode: Some(square(window)), ..Options::default() });
    (parent, desk)
}

/// The pointer has no image as long as it is on a window of this client.
fn hide_pointer(app: &mut App, pointer: &WlPointer) {
    let mut entered = None;
    app.client.until(|| {
        entered = events(pointer).into_iter().find_map(|event| match event {
            wl_pointer::Event::Enter { serial, .. } => Some(serial),
            _ => None,
        });
        entered.is_some()
    });
    pointer.set_cursor(entered.expect("a serial"), None, 0, 0);
}

#[track_caller]
fn expect_pixel_by_pixel(name: &str, scale: &str, window: u16, (told, whole): (u32, i32)) {
    let (parent, desk) = scaled(name, scale, window);
    let mut app = App::new(&desk);
    let output: WlOutput = app.client.bind(4);
    let scales: WpFractionalScaleManagerV1 = app.client.bind(1);
    let viewporter: WpViewporter = app.client.bind(1);
    let seat: WlSeat = app.client.bind(7);
    let pointer: WlPointer = seat.get_pointer(&app.client.handle(), Log::default());
    let window_of_client = app.window();
    let surface = &window_of_client.surface;
    let scale: WpFractionalScaleV1 =
        scales.get_fractional_scale(surface, &app.client.handle(), Log::default());
    app.client.expect_no_error();
    let heard = events(&output);
    let mode =
        |event: &wl_output::Event| matches!(event, wl_output::Event::Mode { width: SIDE, height: SIDE, .. });
    assert!(heard.iter().any(mode), "{heard:?}");
    let factor =
        |event: &wl_output::Event| matches!(event, wl_output::Event::Scale { factor } if *factor == whole);
    assert!(whole == 1 || heard.iter().any(factor), "{heard:?}");
    let heard = events(&scale);
    assert!(matches!(heard[..], [FractionalEvent::PreferredScale { scale }] if scale == told), "{heard:?}");

    let viewport = viewporter.get_viewport(surface, &app.client.handle(), Log::default());
    viewport.set_destination(window.into(), window.into());
    let buffer = pattern_buffer(&app);
    let shown = app.show(surface, &buffer);
    app.until_shown(&shown);
    hide_pointer(&mut app, &pointer);
    parent.until(&mut app, |parent| parent.state().picture().is_some_and(|picture| is_pattern(&picture)));
    let taken = parent.screenshot("HEADLESS-1").expect("a screenshot");
    let drawn: Vec<u8> = pattern().chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
    assert!(taken == drawn, "the picture is not what the client drew");
}

fn is_pattern(picture: &[u8]) -> bool {
    let (picture, pattern) = (picture.chunks_exact(4), pattern());
    picture.len() * 4 == pattern.len() && picture.zip(pattern.chunks_exact(4)).all(|(a, b)| a[..3] == b[..3])
}

#[test]
fn the_window_has_the_pixels_of_the_parents_screen_at_a_scale_of_one_and_a_half() {
    expect_pixel_by_pixel("scale-1.5", "1.5", 128, (180, 2));
}

#[test]
fn the_window_has_the_pixels_of_the_parents_screen_at_a_scale_of_two() {
    expect_pixel_by_pixel("scale-2", "2", 96, (240, 2));
}

#[test]
fn the_window_has_the_pixels_of_the_parents_screen_without_a_scale() {
    expect_pixel_by_pixel("scale-1", "1", 192, (120, 1));
}

#[test]
fn a_scale_that_the_parent_changes_is_followed() {
    let (parent, desk) = scaled("rescale", "1", 128);
    let mut app = App::new(&desk);
    let output: WlOutput = app.client.bind(4);
    let scales: WpFractionalScaleManagerV1 = app.client.bind(1);
    let window = app.window();
    let handle = app.client.handle();
    let told_by: WpFractionalScaleV1 = scales.get_fractional_scale(&window.surface, &handle, Log::default());
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    app.client.expect_no_error();
    let (mut size, mut told) = (None, None);
    let mut hear = || {
        size = sizes(&output).last().copied().or(size);
        let scale = |event| match event {
            FractionalEvent::PreferredScale { scale } => Some(scale),
            _ => None,
        };
        told = events(&told_by).into_iter().filter_map(scale).next_back().or(told);
        (size, told)
    };
    assert_eq!(hear(), (Some((128, 128)), Some(120)));
    let mut tool = Tool::new(&parent.clients());
    let (configuration, heads) = tool.unchanged();
    heads[0].set_scale(1.5);
    assert_eq!(tool.apply(&configuration), "succeeded");
    app.client.until(|| hear() == (Some((SIDE, SIDE)), Some(180)));
}

/// The modes that the output has told since this was last asked.
fn sizes(output: &WlOutput) -> Vec<(i32, i32)> {
    let size = |event| match event {
        wl_output::Event::Mode { width, height, .. } => Some((width, height)),
        _ => None,
    };
    events(output).into_iter().filter_map(size).collect()
}

#[test]
fn super_and_f11_fill_the_parents_screen_with_the_window_and_give_it_back() {
    let (parent, desk) = scaled("fullscreen", "1", 64);
    let mut app = App::new(&desk);
    let output: WlOutput = app.client.bind(4);
    let seat: WlSeat = app.client.bind(7);
    let keyboard: WlKeyboard = seat.get_keyboard(&app.client.handle(), Log::default());
    let window = app.window();
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    assert_eq!(sizes(&output).last(), Some(&(64, 64)));
    for side in [SIDE, 64, SIDE] {
        parent.press_with_super(KEY_F11);
        let mut last = None;
        app.client.until(|| {
            last = sizes(&output).last().copied().or(last);
            last == Some((side, side))
        });
    }
    let keys: Vec<_> = events(&keyboard)
        .into_iter()
        .filter_map(|event| match event {
            wl_keyboard::Event::Key { key, .. } => Some(key),
            _ => None,
        })
        .collect();
    assert!(!keys.contains(&KEY_F11), "{keys:?}");
}
