//! single-pixel-buffer-v1: a colour without memory.

use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::single_pixel_buffer::v1::client::wp_single_pixel_buffer_manager_v1::WpSinglePixelBufferManagerV1;
use wayland_protocols::wp::viewporter::client::wp_viewporter::WpViewporter;

use crate::fixture::Log;
use crate::setup::{App, Clock, desk, releases};

const FULL: u32 = u32::MAX;
const HALF: u32 = u32::MAX / 2;

fn pixel(app: &App, [red, green, blue, alpha]: [u32; 4]) -> WlBuffer {
    let manager: WpSinglePixelBufferManagerV1 = app.client.bind(1);
    let handle = app.client.handle();
    let buffer = manager.create_u32_rgba_buffer(red, green, blue, alpha, &handle, Log::default());
    manager.destroy();
    buffer
}

/// Stretches a surface to 20 times 10.
fn stretch(app: &App, surface: &WlSurface) {
    let (viewporter, handle): (WpViewporter, _) = (app.client.bind(1), app.client.handle());
    viewporter.get_viewport(surface, &handle, Log::default()).set_destination(20, 10);
}

#[test]
fn a_pixel_fills_what_its_viewport_asks_for_and_is_given_back() {
    let desk = desk();
    let (mut app, mut clock) = (App::new(&desk), Clock::new(&desk));
    let window = app.window();
    stretch(&app, &window.surface);
    let buffer = pixel(&app, [FULL, HALF, 0, FULL]);
    let shown = app.show(&window.surface, &buffer);
    app.until_shown(&shown);
    clock.tick();
    app.client.expect_no_error();
    assert_eq!(desk.server_mut().pixels_of([255, 127, 0]), 200);
    assert_eq!(releases(&buffer), 1);
}

#[test]
fn a_pixel_may_be_seen_through() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    stretch(&app, &window.surface);
    let (child, _subsurface) = app.subsurface(&window.surface);
    app.show(&child, &pixel(&app, [HALF, 0, 0, HALF]));
    let shown = app.show(&window.surface, &pixel(&app, [0, 0, FULL, FULL]));
    app.until_shown(&shown);
    let mut server = desk.server_mut();
    assert_eq!((server.pixels_of([0, 0, 255]), server.pixels_of([127, 0, 128])), (199, 1));
}
