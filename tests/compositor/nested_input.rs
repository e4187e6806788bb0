//! What the parent's seat does, as the clients of the window hear it: fingers, and motion that moves no pointer. All through
//! two scales, the parent's and, as the configuration has it, another one of the window's output.

use fencepost::compositor::Options;
use fencepost::halves::whole;
use fencepost::input::{self, Touch, touch};
use smithay::backend::input::TouchSlot;
use wayland_client::protocol::wl_pointer::{self, WlPointer};
use wayland_client::protocol::wl_seat::{self, WlSeat};
use wayland_client::protocol::wl_touch::{self, WlTouch};
use wayland_client::{Proxy, WEnum};
use wayland_protocols::wp::relative_pointer::zv1::client::zwp_relative_pointer_manager_v1::ZwpRelativePointerManagerV1;
use wayland_protocols::wp::relative_pointer::zv1::client::zwp_relative_pointer_v1::{
    self, ZwpRelativePointerV1,
};

use crate::fixture::{Log, events};
use crate::outputs::config;
use crate::parent::{Parent, square};
use crate::setup::{App, Desk, SIZE, Window};

/// The parent's screen and the window's output, in pixels. The screen has half as many units.
const SIDE: u16 = 192;

/// In the parent's units, the middle; the client's window is there.
const MIDDLE: (f64, f64) = (48.0, 48.0);

fn scaled(name: &str) -> (Parent, Desk) {
    let parent = Parent::scaled(name, "2", SIDE);
    let config = Some(config("[[output]]\nname = \"WL-1\"\nscale = 1\n"));
    let desk = parent.desk_with(Options { config, mode: Some(square(SIDE / 2)), ..Options::default() });
    (parent, desk)
}

/// A client with a window in the middle of the desk.
fn user(desk: &Desk) -> (App, Window, WlSeat) {
    let mut app = App::new(desk);
    let seat: WlSeat = app.client.bind(7);
    let window = app.window();
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    (app, window, seat)
}

/// All that an object hears, until it is enough.
#[track_caller]
fn until<I: Proxy + 'static>(app: &mut App, object: &I, enough: impl Fn(&[I::Event]) -> bool) -> Vec<I::Event>
where
    I::Event: Send + 'static,
{
    let mut heard = Vec::new();
    app.client.until(|| {
        heard.extend(events(object));
        enough(&heard)
    });
    heard
}

#[test]
fn motion_that_moves_no_pointer_reaches_the_client_of_the_window() {
    let (parent, desk) = scaled("relative");
    let (mut app, window, seat) = user(&desk);
    let handle = app.client.handle();
    let pointer: WlPointer = seat.get_pointer(&handle, Log::default());
    let manager: ZwpRelativePointerManagerV1 = app.client.bind(1);
    let relative: ZwpRelativePointerV1 = manager.get_relative_pointer(&pointer, &handle, Log::default());
    parent.ask(|parent| input::move_pointer(parent.state(), MIDDLE.into(), 0));
    let entered = |event: &wl_pointer::Event| matches!(event, wl_pointer::Event::Enter { surface, .. } if *surface == window.surface);
    until(&mut app, &pointer, |heard| heard.iter().any(entered));
    let time = 5_000_000_000_u64;
    parent.ask(move |parent| {
        input::move_pointer_by(parent.state(), (3.0, -2.0).into(), (1.5, -1.0).into(), time);
    });
    let heard = until(&mut app, &relative, |heard| !heard.is_empty());
    let [
        zwp_relative_pointer_v1::Event::RelativeMotion { utime_hi, utime_lo, dx, dy, dx_unaccel, dy_unaccel },
    ] = heard[..]
    else {
        panic!("{heard:?}")
    };
    assert_eq!([dx, dy, dx_unaccel, dy_unaccel], [6.0, -4.0, 3.0, -2.0]);
    assert_eq!(whole(utime_hi, utime_lo), time);
}

/// A finger as the client of the window hears it.
#[derive(Debug, PartialEq)]
enum Heard {
    Down(i32, f64, f64, u32),
    Motion(i32, f64, f64, u32),
    Up(i32, u32),
    Cancel,
}

fn told(heard: &[wl_touch::Event]) -> Vec<Heard> {
    let told = |event: &wl_touch::Event| match *event {
        wl_touch::Event::Down { time, id, x, y, .. } => Some(Heard::Down(id, x, y, time)),
        wl_touch::Event::Motion { time, id, x, y } => Some(Heard::Motion(id, x, y, time)),
        wl_touch::Event::Up { time, id, .. } => Some(Heard::Up(id, time)),
        wl_touch::Event::Cancel => Some(Heard::Cancel),
        _ => None,
    };
    heard.iter().filter_map(told).collect()
}

#[test]
fn the_fingers_on_the_window_reach_its_client() {
    let (parent, desk) = scaled("touch");
    let (mut app, _window, seat) = user(&desk);
    let has_touch = |event: &wl_seat::Event| {
        matches!(event, wl_seat::Event::Capabilities { capabilities: WEnum::Value(has) }
            if has.contains(wl_seat::Capability::Touch))
    };
    app.client.roundtrip();
    assert!(!events(&seat).iter().any(has_touch), "there is no touch screen yet");
    parent.ask(|parent| touch::appeared(parent.state()));
    until(&mut app, &seat, |heard| heard.iter().any(has_touch));
    let wl_touch: WlTouch = seat.get_touch(&app.client.handle(), Log::default());
    app.client.roundtrip();
    // The window has asked for the fingers, and now the parent has heard of it.
    parent.ask(|_| ());

    let fingers = |fingers: Vec<Touch>| {
        parent.ask(move |parent| {
            fingers.into_iter().for_each(|finger| touch::touch(parent.state(), finger));
            touch::touch(parent.state(), Touch::Frame);
        });
    };
    let slot = |number: u32| TouchSlot::from(Some(number));
    let (x, y) = MIDDLE;
    fingers(vec![Touch::Down { slot: slot(0), at: (x, y).into(), time_ms: 10 }]);
    fingers(vec![
        Touch::Motion { slot: slot(0), at: (x + 2.0, y - 1.0).into(), time_ms: 20 },
        Touch::Down { slot: slot(1), at: (x - 2.0, y).into(), time_ms: 20 },
    ]);
    fingers(vec![Touch::Up { slot: slot(0), time_ms: 30 }]);
    // One that never came down.
    fingers(vec![Touch::Up { slot: slot(5), time_ms: 31 }]);
    fingers(vec![Touch::Cancel]);
    let heard = until(&mut app, &wl_touch, |heard| told(heard).contains(&Heard::Cancel));
    // From the window's corner; a unit of the parent's is two of ours.
    let (x, y) = (f64::from(SIZE.0) / 2.0, f64::from(SIZE.1) / 2.0);
    let expected = [
        Heard::Down(0, x, y, 10),
        Heard::Motion(0, x + 4.0, y - 2.0, 20),
        Heard::Down(1, x - 4.0, y, 20),
        Heard::Up(0, 30),
    ];
    let mut told = told(&heard);
    // Before they are cancelled, fingers are said to be where they are, by the parent and by us.
    assert_eq!(told.pop(), Some(Heard::Cancel));
    let moved = told.split_off(expected.len());
    let stays = |heard: &Heard| matches!(heard, Heard::Motion(1, at, ..) if *at == x - 4.0);
    assert!(moved.iter().all(stays), "{moved:?}");
    assert_eq!(told, expected);
    assert!(heard.iter().any(|event| matches!(event, wl_touch::Event::Frame)), "{heard:?}");
}
