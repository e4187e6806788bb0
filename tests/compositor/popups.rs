//! Popups: what may be one, and when one is seen.

use smithay::reexports::wayland_server::Resource;
use wayland_client::Proxy;
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::xdg::shell::client::xdg_popup::{self, XdgPopup};
use wayland_protocols::xdg::shell::client::xdg_positioner::{
    self, Anchor, ConstraintAdjustment, Gravity, XdgPositioner,
};
use wayland_protocols::xdg::shell::client::xdg_surface::XdgSurface;
use wayland_protocols::xdg::shell::client::xdg_wm_base;

use crate::fixture::{Log, events};
use crate::setup::{App, Clock, Desk, NO_MEMORY, SIZE, Window, ack, desk};

pub(crate) struct Popup {
    pub(crate) surface: WlSurface,
    pub(crate) xdg_surface: XdgSurface,
    pub(crate) popup: XdgPopup,
}

fn xdg_surface(app: &App) -> (WlSurface, XdgSurface) {
    let surface = app.surface();
    let xdg_surface = app.wm_base.get_xdg_surface(&surface, &app.client.handle(), Log::default());
    (surface, xdg_surface)
}

/// Puts popups over their parent's top left corner.
pub(crate) fn positioner(app: &App) -> XdgPositioner {
    let positioner = app.wm_base.create_positioner(&app.client.handle(), Log::default());
    positioner.set_size(SIZE.0, SIZE.1);
    positioner.set_anchor_rect(0, 0, 1, 1);
    positioner.set_anchor(Anchor::TopLeft);
    positioner.set_gravity(Gravity::BottomRight);
    positioner
}

/// A popup before its initial commit.
pub(crate) fn new_popup(app: &App, parent: &XdgSurface) -> Popup {
    let (surface, xdg_surface) = xdg_surface(app);
    let popup = xdg_surface.get_popup(Some(parent), &positioner(app), &app.client.handle(), Log::default());
    Popup { surface, xdg_surface, popup }
}

#[track_caller]
pub(crate) fn shown_popup(app: &mut App, parent: &XdgSurface) -> Popup {
    let popup = new_popup(app, parent);
    popup.surface.commit();
    app.client.expect_no_error();
    assert_eq!(ack(&popup.xdg_surface), 1);
    let shown = app.show(&popup.surface, &app.shm_buffer());
    app.until_shown(&shown);
    popup
}

#[track_caller]
pub(crate) fn shown_window(app: &mut App) -> Window {
    let window = app.window();
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    window
}

/// The object id of the surface in the middle of the only window.
fn under(desk: &Desk) -> u32 {
    let mut server = desk.server_mut();
    let shell = &server.state().shell;
    let frame = shell.visible().next().expect("a window").frame();
    let middle = (frame.loc + frame.size.downscale(2).to_point()).to_f64();
    let (surface, _) = shell.surface_under(middle).expect("a surface");
    surface.id().protocol_id()
}

#[test]
fn a_popup_cannot_be_among_its_own_parents() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let mut app = App::new(&desk);
    let (_surface, own) = xdg_surface(&app);
    own.get_popup(Some(&own), &positioner(&app), &app.client.handle(), Log::default());
    let wm_base = app.wm_base.clone();
    app.client.expect_protocol_error(&wm_base, xdg_wm_base::Error::InvalidPopupParent);
    clock.tick();

    let mut app = App::new(&desk);
    let (_surface, one) = xdg_surface(&app);
    let two = new_popup(&app, &one);
    app.client.expect_no_error();
    one.get_popup(Some(&two.xdg_surface), &positioner(&app), &app.client.handle(), Log::default());
    let wm_base = app.wm_base.clone();
    app.client.expect_protocol_error(&wm_base, xdg_wm_base::Error::InvalidPopupParent);
    clock.tick();
}

#[test]
fn popups_are_nested_up_to_a_bound() {
    const MAX_NESTED_POPUPS: usize = 64;
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let mut parent = window.xdg_surface.clone();
    for _ in 0..MAX_NESTED_POPUPS {
        parent = new_popup(&app, &parent).xdg_surface;
    }
    app.client.expect_no_error();
    new_popup(&app, &parent);
    let display = app.client.display();
    app.client.expect_protocol_error(&display, NO_MEMORY);
}

#[test]
fn popups_of_any_place_and_size_hurt_nobody() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let mut app = App::new(&desk);
    let window = shown_window(&mut app);
    for (extreme, size) in [(i32::MIN, i32::MAX), (i32::MAX, i32::MAX), (i32::MAX, 1), (i32::MIN, 1)] {
        for (anchor, gravity) in
            [(Anchor::TopLeft, Gravity::TopLeft), (Anchor::BottomRight, Gravity::BottomRight)]
        {
            let mut parent = window.xdg_surface.clone();
            for _ in 0..3 {
                let positioner = positioner(&app);
                positioner.set_size(size, size);
                positioner.set_anchor_rect(extreme, extreme, size, size);
                positioner.set_anchor(anchor);
                positioner.set_gravity(gravity);
                positioner.set_offset(extreme, extreme);
                positioner.set_constraint_adjustment(ConstraintAdjustment::all());
                let (surface, xdg_surface) = xdg_surface(&app);
                xdg_surface.get_popup(Some(&parent), &positioner, &app.client.handle(), Log::default());
                xdg_surface.set_window_geometry(extreme, extreme, size, size);
                surface.commit();
                app.client.expect_no_error();
                ack(&xdg_surface);
                app.show(&surface, &app.shm_buffer());
                app.client.expect_no_error();
                parent = xdg_surface;
            }
        }
        clock.tick();
    }
}

#[test]
fn a_positioner_refuses_a_parent_of_less_than_no_size() {
    let desk = desk();
    let mut app = App::new(&desk);
    let positioner = positioner(&app);
    positioner.set_parent_size(-1, 1);
    app.client.expect_protocol_error(&positioner, xdg_positioner::Error::InvalidInput);
}

#[test]
fn a_popup_that_lost_its_buffer_is_configured_anew_before_it_comes_back() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = shown_window(&mut app);
    let popup = shown_popup(&mut app, &window.xdg_surface);
    popup.surface.attach(None, 0, 0);
    popup.surface.commit();
    app.client.expect_no_error();
    assert_eq!(ack(&popup.xdg_surface), 0);
    popup.surface.commit();
    app.client.expect_no_error();
    assert_eq!(ack(&popup.xdg_surface), 1, "the commit after an unmapping is an initial one");
    let shown = app.show(&popup.surface, &app.shm_buffer());
    app.until_shown(&shown);
}

#[test]
fn the_newest_popup_is_on_top() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = shown_window(&mut app);
    assert_eq!(under(&desk), window.surface.id().protocol_id());
    let first = shown_popup(&mut app, &window.xdg_surface);
    let second = shown_popup(&mut app, &window.xdg_surface);
    assert_eq!(under(&desk), second.surface.id().protocol_id());
    // Above the second, although its parent is below that.
    let nested = shown_popup(&mut app, &first.xdg_surface);
    assert_eq!(under(&desk), nested.surface.id().protocol_id());
}

#[test]
fn a_popup_that_grabs_without_an_event_of_the_user_is_dismissed() {
    let desk = desk();
    let mut app = App::new(&desk);
    let seat: WlSeat = app.client.bind(5);
    let _keyboard = seat.get_keyboard(&app.client.handle(), Log::default());
    let window = shown_window(&mut app);
    for serial in [0, 0x4000_0000] {
        let popup = new_popup(&app, &window.xdg_surface);
        popup.popup.grab(&seat, serial);
        app.client.expect_no_error();
        let told = events(&popup.popup);
        assert!(matches!(told.as_slice(), [xdg_popup::Event::PopupDone]), "{told:?}");
        assert!(!desk.server_mut().state().seat.get_keyboard().expect("a keyboard").is_grabbed());
    }
}

#[test]
fn a_popup_may_grab_with_an_event_of_its_client() {
    use wayland_client::protocol::wl_keyboard::Event;
    let desk = desk();
    let mut app = App::new(&desk);
    let seat: WlSeat = app.client.bind(5);
    let keyboard = seat.get_keyboard(&app.client.handle(), Log::default());
    let window = shown_window(&mut app);
    let serial = events(&keyboard).into_iter().find_map(|event| match event {
        Event::Enter { serial, .. } => Some(serial),
        _ => None,
    });
    let popup = new_popup(&app, &window.xdg_surface);
    popup.popup.grab(&seat, serial.expect("the keyboard"));
    app.client.expect_no_error();
    assert!(events(&popup.popup).is_empty());
    assert!(desk.server_mut().state().seat.get_keyboard().expect("a keyboard").is_grabbed());
}
