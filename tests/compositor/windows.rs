//! xdg-shell: the order of configures, and what comes of breaking it.

use smithay::input::pointer::MotionEvent;
use smithay::utils::{Point, SERIAL_COUNTER};
use wayland_client::WEnum;
use wayland_client::protocol::{wl_callback, wl_pointer, wl_seat::WlSeat, wl_subcompositor};
use wayland_protocols::xdg::decoration::zv1::client::zxdg_decoration_manager_v1::ZxdgDecorationManagerV1;
use wayland_protocols::xdg::decoration::zv1::client::zxdg_toplevel_decoration_v1::{
    Event as DecorationEvent, Mode, ZxdgToplevelDecorationV1,
};
use wayland_protocols::xdg::shell::client::{xdg_surface, xdg_toplevel, xdg_wm_base};

use crate::fixture::{Log, events};
use crate::setup::{App, Clock, Desk, Fate, desk};

#[test]
fn the_first_configure_answers_the_initial_commit_and_nothing_sooner() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.new_window();
    app.client.expect_no_error();
    assert_eq!(window.ack(), 0);
    window.surface.commit();
    app.client.expect_no_error();
    let toplevel = events(&window.toplevel);
    let configures = toplevel.iter().filter(|e| matches!(e, xdg_toplevel::Event::Configure { .. })).count();
    assert_eq!((configures, window.ack()), (1, 1));
    window.surface.commit();
    app.client.expect_no_error();
    assert_eq!(window.ack(), 0, "a second commit without a buffer is not initial");
}

#[test]
fn a_window_is_shown_with_its_first_buffer_and_its_frame_callback_comes() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let frame = app.frame(&window.surface);
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    assert!(matches!(events(&frame).as_slice(), [wl_callback::Event::Done { .. }]));
}

#[test]
fn a_window_that_lost_its_buffer_is_configured_anew_before_it_comes_back() {
    let desk = desk();
    let (mut app, mut clock) = (App::new(&desk), Clock::new(&desk));
    let window = app.window();
    let buffer = app.shm_buffer();
    let shown = app.show(&window.surface, &buffer);
    app.until_shown(&shown);
    window.ack();
    window.surface.attach(None, 0, 0);
    window.surface.commit();
    app.client.expect_no_error();
    clock.tick();
    app.client.expect_no_error();
    window.ack();
    window.surface.commit();
    app.client.expect_no_error();
    assert_eq!(window.ack(), 1, "the commit after an unmapping is an initial one");
    let again = app.show(&window.surface, &buffer);
    app.until_shown(&again);
}

#[test]
fn a_window_without_a_buffer_is_never_shown() {
    let desk = desk();
    let (mut app, mut clock) = (App::new(&desk), Clock::new(&desk));
    let window = app.window();
    let watched = app.watch(&window.surface);
    window.surface.commit();
    app.client.expect_no_error();
    clock.tick();
    assert_eq!(app.fate(&watched), Fate::Waiting);
}

#[test]
fn a_serial_that_was_never_sent_cannot_be_acknowledged() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    app.client.expect_no_error();
    window.xdg_surface.ack_configure(0xdead_beef);
    // smithay 0.7 posts it on the xdg_wm_base, not on the xdg_surface; the number is the same.
    let wm_base = app.wm_base.clone();
    app.client.expect_protocol_error(&wm_base, xdg_surface::Error::InvalidSerial);
}

#[test]
fn a_window_cannot_become_a_subsurface() {
    let desk = desk();
    let mut app = App::new(&desk);
    let (window, other) = (app.window(), app.surface());
    app.subcompositor.get_subsurface(&window.surface, &other, &app.client.handle(), Log::default());
    let subcompositor = app.subcompositor.clone();
    app.client.expect_protocol_error(&subcompositor, wl_subcompositor::Error::BadSurface);
}

#[test]
fn the_shell_cannot_go_before_its_surfaces() {
    let desk = desk();
    let mut app = App::new(&desk);
    let _window = app.window();
    app.wm_base.destroy();
    let wm_base = app.wm_base.clone();
    app.client.expect_protocol_error(&wm_base, xdg_wm_base::Error::DefunctSurfaces);
}

#[test]
fn decorations_are_left_to_the_server_whatever_the_client_wants() {
    let desk = desk();
    let mut app = App::new(&desk);
    let manager: ZxdgDecorationManagerV1 = app.client.bind(1);
    let window = app.new_window();
    let decoration: ZxdgToplevelDecorationV1 =
        manager.get_toplevel_decoration(&window.toplevel, &app.client.handle(), Log::default());
    decoration.set_mode(Mode::ClientSide);
    window.surface.commit();
    app.client.expect_no_error();
    let modes: Vec<_> = events(&decoration);
    assert!(
        matches!(modes.as_slice(), [DecorationEvent::Configure { mode }] if *mode == WEnum::Value(Mode::ServerSide)),
        "{modes:?}"
    );
    window.ack();
    decoration.unset_mode();
    app.client.expect_no_error();
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
}

#[test]
fn every_wish_for_a_decoration_is_answered() {
    let desk = desk();
    let mut app = App::new(&desk);
    let manager: ZxdgDecorationManagerV1 = app.client.bind(1);
    let window = app.window();
    for _ in 0..2 {
        let decoration: ZxdgToplevelDecorationV1 =
            manager.get_toplevel_decoration(&window.toplevel, &app.client.handle(), Log::default());
        for wish in [None, Some(Mode::ClientSide), Some(Mode::ServerSide)] {
            match wish {
                None => {}
                Some(Mode::ClientSide) => decoration.set_mode(Mode::ClientSide),
                Some(_) => decoration.unset_mode(),
            }
            app.client.expect_no_error();
            assert_eq!((events(&decoration).len(), window.ack()), (1, 1), "{wish:?}");
        }
        decoration.destroy();
    }
}

#[test]
fn a_buffer_before_the_first_configure_is_refused() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let mut app = App::new(&desk);
    let window = app.new_window();
    app.show(&window.surface, &app.shm_buffer());
    app.client.expect_protocol_error(&window.xdg_surface, xdg_surface::Error::UnconfiguredBuffer);
    clock.tick();

    // Nor does one that was sent help, until it is acknowledged.
    let mut app = App::new(&desk);
    let window = app.new_window();
    window.surface.commit();
    app.client.expect_no_error();
    app.show(&window.surface, &app.shm_buffer());
    app.client.expect_protocol_error(&window.xdg_surface, xdg_surface::Error::UnconfiguredBuffer);
    clock.tick();
}

#[test]
fn a_window_that_lost_its_buffer_may_not_come_back_unconfigured() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let buffer = app.shm_buffer();
    let shown = app.show(&window.surface, &buffer);
    app.until_shown(&shown);
    window.surface.attach(None, 0, 0);
    window.surface.commit();
    app.show(&window.surface, &buffer);
    app.client.expect_protocol_error(&window.xdg_surface, xdg_surface::Error::UnconfiguredBuffer);
}

#[test]
fn a_window_that_lost_its_buffer_is_maximised_no_more() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let buffer = app.shm_buffer();
    window.toplevel.set_maximized();
    let shown = app.show(&window.surface, &buffer);
    app.until_shown(&shown);
    window.surface.attach(None, 0, 0);
    window.surface.commit();
    app.client.expect_no_error();
    events(&window.toplevel);
    window.surface.commit();
    app.client.expect_no_error();
    let told = events(&window.toplevel);
    let configure = told.iter().find_map(|event| match event {
        xdg_toplevel::Event::Configure { width, height, states } => Some((*width, *height, states.len())),
        _ => None,
    });
    assert_eq!(configure, Some((0, 0, 0)), "as in the beginning");
    window.ack();
    let again = app.show(&window.surface, &buffer);
    app.until_shown(&again);
    assert!(!desk.server_mut().state().shell.visible().next().expect("a window").is_filling());
}

#[test]
fn the_pointer_enters_a_window_that_comes_and_leaves_one_that_goes() {
    let desk = desk();
    let mut app = App::new(&desk);
    let seat: WlSeat = app.client.bind(5);
    let pointer = seat.get_pointer(&app.client.handle(), Log::default());
    move_pointer(&desk, 64.0, 64.0);
    let window = app.window();
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    let told = events(&pointer);
    assert!(
        matches!(told.first(), Some(wl_pointer::Event::Enter { surface, .. }) if *surface == window.surface),
        "{told:?}"
    );
    window.surface.attach(None, 0, 0);
    window.surface.commit();
    app.client.expect_no_error();
    let told = events(&pointer);
    assert!(
        told.iter().any(
            |event| matches!(event, wl_pointer::Event::Leave { surface, .. } if *surface == window.surface)
        ),
        "{told:?}"
    );
}

/// Moves the pointer as an input device does.
fn move_pointer(desk: &Desk, x: f64, y: f64) {
    let mut server = desk.server_mut();
    let state = server.state();
    let pointer = state.seat.get_pointer().expect("a pointer");
    let location = Point::from((x, y));
    let under = state.shell.surface_under(location);
    let event = MotionEvent { location, serial: SERIAL_COUNTER.next_serial(), time: 0 };
    pointer.motion(state, under, &event);
    pointer.frame(state);
}
