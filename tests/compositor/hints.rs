//! What clients say of how they want to be presented: tearing-control-v1 and content-type-v1.

use fencepost::surface::hints::{Content, Hints};
use fencepost::wayland::hints;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::content_type::v1::client::wp_content_type_manager_v1::{
    self, WpContentTypeManagerV1,
};
use wayland_protocols::wp::content_type::v1::client::wp_content_type_v1::{Type, WpContentTypeV1};
use wayland_protocols::wp::tearing_control::v1::client::wp_tearing_control_manager_v1::{
    self, WpTearingControlManagerV1,
};
use wayland_protocols::wp::tearing_control::v1::client::wp_tearing_control_v1::{
    PresentationHint, WpTearingControlV1,
};

use crate::fixture::Log;
use crate::setup::{App, Desk, desk};

fn tearing(app: &App, surface: &WlSurface) -> (WpTearingControlManagerV1, WpTearingControlV1) {
    let (manager, handle): (WpTearingControlManagerV1, _) = (app.client.bind(1), app.client.handle());
    let control = manager.get_tearing_control(surface, &handle, Log::default());
    (manager, control)
}

fn content(app: &App, surface: &WlSurface) -> (WpContentTypeManagerV1, WpContentTypeV1) {
    let (manager, handle): (WpContentTypeManagerV1, _) = (app.client.bind(1), app.client.handle());
    let content = manager.get_surface_content_type(surface, &handle, Log::default());
    (manager, content)
}

/// The hints of the only surface that there is.
fn said(desk: &Desk, app: &mut App) -> Hints {
    app.client.expect_no_error();
    let surfaces = desk.server_mut().state().globals.surfaces();
    assert_eq!(surfaces.len(), 1);
    hints::of(&surfaces[0])
}

#[test]
fn hints_hold_from_the_commit_on_and_go_with_their_objects() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let (_, control) = tearing(&app, &window.surface);
    let (_, kind) = content(&app, &window.surface);
    control.set_presentation_hint(PresentationHint::Async);
    kind.set_content_type(Type::Game);
    assert_eq!(said(&desk, &mut app), Hints::default());
    window.surface.commit();
    assert_eq!(said(&desk, &mut app), Hints { content: Content::Game, tearing: true });
    control.set_presentation_hint(PresentationHint::Vsync);
    kind.set_content_type(Type::Photo);
    window.surface.commit();
    assert_eq!(said(&desk, &mut app), Hints { content: Content::Photo, tearing: false });
    control.set_presentation_hint(PresentationHint::Async);
    kind.set_content_type(Type::Video);
    window.surface.commit();
    control.destroy();
    kind.destroy();
    assert_eq!(said(&desk, &mut app), Hints { content: Content::Video, tearing: true });
    window.surface.commit();
    assert_eq!(said(&desk, &mut app), Hints::default());
    // The surface is free for others.
    let _objects = (tearing(&app, &window.surface), content(&app, &window.surface));
    app.client.expect_no_error();
}

#[test]
fn a_surface_has_one_object_of_each() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let _first = tearing(&app, &window.surface);
    let (manager, _) = tearing(&app, &window.surface);
    app.client.expect_protocol_error(&manager, wp_tearing_control_manager_v1::Error::TearingControlExists);
    let mut app = App::new(&desk);
    let window = app.window();
    let _first = content(&app, &window.surface);
    let (manager, _) = content(&app, &window.surface);
    app.client.expect_protocol_error(&manager, wp_content_type_manager_v1::Error::AlreadyConstructed);
}

#[test]
fn the_objects_of_a_surface_that_has_gone_do_nothing() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let (_, control) = tearing(&app, &window.surface);
    let (_, kind) = content(&app, &window.surface);
    window.toplevel.destroy();
    window.xdg_surface.destroy();
    window.surface.destroy();
    control.set_presentation_hint(PresentationHint::Async);
    kind.set_content_type(Type::Game);
    control.destroy();
    kind.destroy();
    app.client.expect_no_error();
}
