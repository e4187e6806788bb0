//! The keyboard and the pointer: who has them, and that no client sees half of a click or of a key.

use fencepost::input;
use smithay::backend::input::{ButtonState, KeyState, Keycode};
use wayland_client::WEnum;
use wayland_client::protocol::wl_keyboard::{self, WlKeyboard};
use wayland_client::protocol::wl_pointer::{self, WlPointer};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::xdg::shell::client::xdg_popup::XdgPopup;
use wayland_protocols::xdg::shell::client::xdg_positioner::{Anchor, XdgPositioner};
use wayland_protocols::xdg::shell::client::xdg_surface::XdgSurface;
use wayland_protocols::xdg::shell::client::xdg_toplevel;

use crate::fixture::{Log, events};
use crate::setup::{App, Desk, TestCompositor, Window, desk};

const LEFT: u32 = 0x110;
const RIGHT: u32 = 0x111;
const MIDDLE: u32 = 0x112;

/// linux/input-event-codes.h
const KEY_TAB: u32 = 15;
const KEY_A: u32 = 30;
const KEY_LEFTMETA: u32 = 125;

/// A client with one window, on a seat.
struct User {
    app: App,
    window: Window,
    seat: WlSeat,
    keyboard: WlKeyboard,
    pointer: WlPointer,
}

/// What a client sees of a menu.
struct Menu {
    surface: WlSurface,
    xdg_surface: XdgSurface,
    popup: XdgPopup,
}

impl User {
    fn new(desk: &Desk) -> Self {
        let mut app = App::new(desk);
        let seat: WlSeat = app.client.bind(7);
        let keyboard = seat.get_keyboard(&app.client.handle(), Log::default());
        let pointer = seat.get_pointer(&app.client.handle(), Log::default());
        let window = show_window(&mut app);
        Self { app, window, seat, keyboard, pointer }
    }

    /// What the pointer did since this was last asked, without its frames.
    #[track_caller]
    fn pointer_events(&mut self) -> Vec<wl_pointer::Event> {
        self.app.client.expect_no_error();
        let frame = |event: &wl_pointer::Event| matches!(event, wl_pointer::Event::Frame);
        events(&self.pointer).into_iter().filter(|event| !frame(event)).collect()
    }

    /// The keys that came down and up since this was last asked.
    #[track_caller]
    fn keys(&mut self) -> Vec<(u32, bool)> {
        self.app.client.expect_no_error();
        let key = |event| match event {
            wl_keyboard::Event::Key { key, state, .. } => {
                Some((key, state == WEnum::Value(wl_keyboard::KeyState::Pressed)))
            }
            _ => None,
        };
        events(&self.keyboard).into_iter().filter_map(key).collect()
    }

    /// The surfaces that the keyboard entered since this was last asked.
    #[track_caller]
    fn entered(&mut self) -> Vec<WlSurface> {
        self.app.client.expect_no_error();
        let entered = |event| match event {
            wl_keyboard::Event::Enter { surface, .. } => Some(surface),
            _ => None,
        };
        events(&self.keyboard).into_iter().filter_map(entered).collect()
    }

    /// Presses a button on the window; the serial of the press.
    #[track_caller]
    fn press(&mut self, desk: &Desk) -> u32 {
        click_on(desk, LEFT, ButtonState::Pressed);
        let serial = |event: &wl_pointer::Event| match event {
            wl_pointer::Event::Button { serial, .. } => Some(*serial),
            _ => None,
        };
        self.pointer_events().iter().find_map(serial).expect("a press")
    }

    /// Opens a menu that has the keyboard.
    #[track_caller]
    fn menu(&mut self, desk: &Desk) -> Menu {
        let serial = self.press(desk);
        click_on(desk, LEFT, ButtonState::Released);
        let handle = self.app.client.handle();
        let positioner: XdgPositioner = self.app.wm_base.create_positioner(&handle, Log::default());
        positioner.set_size(32, 8);
        positioner.set_anchor_rect(0, 0, 1, 1);
        positioner.set_anchor(Anchor::TopLeft);
        let surface = self.app.surface();
        let xdg_surface = self.app.wm_base.get_xdg_surface(&surface, &handle, Log::default());
        let popup =
            xdg_surface.get_popup(Some(&self.window.xdg_surface), &positioner, &handle, Log::default());
        popup.grab(&self.seat, serial);
        surface.commit();
        assert_eq!(self.entered().last(), Some(&surface));
        Menu { surface, xdg_surface, popup }
    }
}

impl Menu {
    fn close(self) {
        self.popup.destroy();
        self.xdg_surface.destroy();
        self.surface.destroy();
    }
}

#[track_caller]
fn show_window(app: &mut App) -> Window {
    let window = app.window();
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    window
}

fn on<T>(desk: &Desk, f: impl FnOnce(&mut fencepost::compositor::Compositor) -> T) -> T {
    let server: &mut TestCompositor = &mut desk.server_mut();
    f(server.state())
}

fn click_on(desk: &Desk, code: u32, state: ButtonState) {
    on(desk, |compositor| input::button(compositor, code, state, 0));
}

fn key(desk: &Desk, code: u32, state: KeyState) {
    on(desk, |compositor| input::key(compositor, Keycode::new(code + 8), state, 0));
}

/// The middle of the topmost window.
fn middle(desk: &Desk) -> (f64, f64) {
    on(desk, |compositor| {
        let frame = compositor.shell.visible().next().expect("a window").frame().to_f64();
        (frame.loc.x + frame.size.w / 2.0, frame.loc.y + frame.size.h / 2.0)
    })
}

fn point(desk: &Desk, at: (f64, f64)) {
    on(desk, |compositor| input::move_pointer(compositor, at.into(), 0));
}

fn location(desk: &Desk) -> (i32, i32) {
    on(desk, |compositor| compositor.shell.visible().next().expect("a window").location.into())
}

fn is_button(event: &wl_pointer::Event) -> bool {
    matches!(event, wl_pointer::Event::Button { .. })
}

#[test]
fn a_window_that_is_moved_loses_the_pointer_until_the_last_button_is_up() {
    let desk = desk();
    let mut user = User::new(&desk);
    let (x, y) = middle(&desk);
    let (left, top) = location(&desk);
    point(&desk, (x, y));
    let serial = user.press(&desk);
    user.window.toplevel._move(&user.seat, serial);
    assert!(matches!(user.pointer_events().as_slice(), [wl_pointer::Event::Leave { .. }]));

    point(&desk, (x + 10.0, y + 5.0));
    click_on(&desk, RIGHT, ButtonState::Pressed);
    click_on(&desk, LEFT, ButtonState::Released);
    point(&desk, (x + 12.0, y + 5.0));
    assert_eq!(location(&desk), (left + 12, top + 5));
    assert!(user.pointer_events().is_empty(), "while it moves, the window does not see the pointer");
    click_on(&desk, RIGHT, ButtonState::Released);
    assert!(matches!(user.pointer_events().as_slice(), [wl_pointer::Event::Enter { .. }]));

    click_on(&desk, RIGHT, ButtonState::Pressed);
    click_on(&desk, RIGHT, ButtonState::Released);
    point(&desk, (0.0, 0.0));
    let seen = user.pointer_events();
    assert!(
        matches!(seen.as_slice(), [a, b, wl_pointer::Event::Leave { .. }] if is_button(a) && is_button(b))
    );
    assert_eq!(location(&desk), (left + 12, top + 5), "the move is over");
}

#[test]
fn buttons_pressed_with_super_are_not_the_clients() {
    let desk = desk();
    let mut user = User::new(&desk);
    point(&desk, middle(&desk));
    key(&desk, KEY_LEFTMETA, KeyState::Pressed);
    user.pointer_events();
    events(&user.window.toplevel);
    for code in [LEFT, RIGHT, MIDDLE] {
        click_on(&desk, code, ButtonState::Pressed);
        click_on(&desk, code, ButtonState::Released);
        let seen = user.pointer_events();
        assert!(!seen.iter().any(is_button), "{seen:?}");
    }
    let closes = events(&user.window.toplevel).into_iter();
    assert_eq!(closes.filter(|event| matches!(event, xdg_toplevel::Event::Close)).count(), 1);

    key(&desk, KEY_LEFTMETA, KeyState::Released);
    click_on(&desk, LEFT, ButtonState::Pressed);
    click_on(&desk, LEFT, ButtonState::Released);
    assert_eq!(user.pointer_events().iter().filter(|event| is_button(event)).count(), 2);
}

#[test]
fn a_window_that_fills_the_screen_does_not_move_and_keeps_the_pointer() {
    let desk = desk();
    let mut user = User::new(&desk);
    user.window.toplevel.set_fullscreen(None);
    user.pointer_events();
    point(&desk, middle(&desk));
    let before = location(&desk);
    let serial = user.press(&desk);
    user.window.toplevel._move(&user.seat, serial);
    user.app.client.expect_no_error();
    point(&desk, (20.0, 10.0));
    click_on(&desk, LEFT, ButtonState::Released);
    key(&desk, KEY_LEFTMETA, KeyState::Pressed);
    click_on(&desk, LEFT, ButtonState::Pressed);
    point(&desk, (30.0, 14.0));
    click_on(&desk, LEFT, ButtonState::Released);
    let seen = user.pointer_events();
    assert_eq!(seen.iter().filter(|event| is_button(event)).count(), 3, "{seen:?}");
    assert!(!seen.iter().any(|event| matches!(event, wl_pointer::Event::Leave { .. })), "{seen:?}");
    assert_eq!(location(&desk), before);
}

#[test]
fn a_window_that_comes_to_fill_the_screen_stops_following_the_pointer() {
    let desk = desk();
    let mut user = User::new(&desk);
    let (x, y) = middle(&desk);
    point(&desk, (x, y));
    let serial = user.press(&desk);
    user.window.toplevel._move(&user.seat, serial);
    user.window.toplevel.set_fullscreen(None);
    user.app.client.expect_no_error();
    let before = location(&desk);
    point(&desk, (x + 10.0, y));
    assert_eq!(location(&desk), before);
}

#[test]
fn a_pointer_that_nobody_moves_is_in_the_window_that_came_under_it() {
    let desk = desk();
    point(&desk, (64.0, 64.0));
    let mut user = User::new(&desk);
    assert!(matches!(user.pointer_events().as_slice(), [wl_pointer::Event::Enter { .. }]));
}

#[test]
fn when_a_menu_closes_its_window_has_the_keyboard_at_once() {
    let desk = desk();
    let mut user = User::new(&desk);
    point(&desk, middle(&desk));
    let menu = user.menu(&desk);
    menu.close();
    assert_eq!(user.entered(), [user.window.surface.clone()]);
    let dialog = show_window(&mut user.app);
    assert_eq!(user.entered(), [dialog.surface]);
}

#[test]
fn a_menu_keeps_the_keyboard_when_a_window_appears_and_leaves_it_to_that_window() {
    let desk = desk();
    let mut user = User::new(&desk);
    point(&desk, middle(&desk));
    let menu = user.menu(&desk);
    let dialog = show_window(&mut user.app);
    assert!(user.entered().is_empty());
    menu.close();
    assert_eq!(user.entered(), [dialog.surface]);
}

#[test]
fn a_client_that_dies_with_its_menu_open_leaves_the_keyboard_to_the_next_window() {
    let desk = desk();
    let mut other = User::new(&desk);
    let mut user = User::new(&desk);
    point(&desk, middle(&desk));
    user.menu(&desk);
    other.entered();
    drop(user);
    assert_eq!(other.entered(), [other.window.surface.clone()]);
    key(&desk, KEY_A, KeyState::Pressed);
    assert_eq!(other.keys(), [(KEY_A, true)]);
}

#[test]
fn another_session_gets_a_keyboard_on_which_no_key_is_down() {
    let desk = desk();
    let mut user = User::new(&desk);
    for code in [KEY_A, KEY_LEFTMETA, KEY_TAB] {
        key(&desk, code, KeyState::Pressed);
    }
    assert_eq!(user.keys(), [(KEY_A, true), (KEY_LEFTMETA, true)], "Super+Tab is not the client's");
    on(&desk, input::release_keys);
    let mut released = user.keys();
    released.sort_unstable();
    assert_eq!(released, [(KEY_A, false), (KEY_LEFTMETA, false)]);
    for code in [KEY_A, KEY_LEFTMETA, KEY_TAB] {
        key(&desk, code, KeyState::Released);
    }
    assert_eq!(user.keys(), [], "they are up already");
    key(&desk, KEY_TAB, KeyState::Pressed);
    assert_eq!(user.keys(), [(KEY_TAB, true)], "nor is Super down");
}
