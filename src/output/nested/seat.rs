//! The parent's seat: keys, pointer, scrolling and fingers, as [`Event`]s.
//!
//! Translates. Its only answer is that the parent's own pointer image is hidden, because ours is shown instead.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use wayland_client::protocol::wl_keyboard::{self, KeyState, KeymapFormat, WlKeyboard};
use wayland_client::protocol::wl_pointer::{self, Axis, ButtonState, WlPointer};
use wayland_client::protocol::wl_seat::{self, Capability, WlSeat};
use wayland_client::protocol::wl_touch::{self, WlTouch};
use wayland_client::{Connection, Dispatch, Proxy as _, QueueHandle, WEnum, delegate_noop};
use wayland_protocols::wp::relative_pointer::zv1::client::zwp_relative_pointer_manager_v1::ZwpRelativePointerManagerV1;
use wayland_protocols::wp::relative_pointer::zv1::client::zwp_relative_pointer_v1::{
    self, ZwpRelativePointerV1,
};

use super::event::{Event, Scroll};
use super::wire::Heard;
use crate::halves::whole;
use crate::trace;

/// Of a keymap: the largest have some 60 KiB.
const LONGEST_KEYMAP: usize = 1 << 20;

/// The devices of the parent's seat, and where they are.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// The window that has the keyboard.
    pub(super) keyed: Option<usize>,
    /// The window that the pointer is on, or was on last.
    pub(super) pointed: usize,
    /// The serial of `wl_pointer.enter`, while it is on one.
    entered: Option<u32>,
    keyboard: Option<WlKeyboard>,
    pointer: Option<WlPointer>,
    scroll: Option<Scroll>,
    /// Tells how far the pointer's device moves, where the parent has it.
    pub(super) motions: Option<ZwpRelativePointerManagerV1>,
    motion: Option<ZwpRelativePointerV1>,
    touch: Option<WlTouch>,
    /// The windows that the fingers came down on, by their ids.
    fingers: HashMap<i32, usize>,
}

impl Seat {
    /// The pointer, while it is on a window, and the serial of its coming there.
    pub(super) fn pointer(&self) -> Option<(&WlPointer, u32)> {
        self.pointer.as_ref().zip(self.entered)
    }

    fn scrolled(&mut self, axis: WEnum<Axis>, note: impl FnOnce(&mut Scroll, usize)) {
        let index = match axis {
            WEnum::Value(Axis::HorizontalScroll) => 0,
            WEnum::Value(Axis::VerticalScroll) => 1,
            _ => return,
        };
        note(self.scroll.get_or_insert_default(), index);
    }
}

fn set<T>(pair: &mut [T; 2], index: usize, value: T) {
    if let Some(place) = pair.get_mut(index) {
        *place = value;
    }
}

impl Heard {
    /// Something in the parent's units, in a window's pixels.
    fn in_pixels(&self, window: usize, (x, y): (f64, f64)) -> (f64, f64) {
        let scale = self.windows.get(window).map_or(1.0, |configured| configured.scale().get());
        (x * scale, y * scale)
    }

    /// The pointer is there, in the parent's units, on the window that it has entered.
    fn pointer_is_at(&mut self, at: (f64, f64), time_ms: u32) {
        let window = self.seat.pointed;
        let at = self.in_pixels(window, at);
        self.events.push(Event::Pointer { window, at, time_ms });
    }

    /// A finger is there, in the parent's units, on the window that it came down on.
    fn finger_is_at(&mut self, id: i32, down: bool, at: (f64, f64), time_ms: u32) {
        let Some(&window) = self.seat.fingers.get(&id) else { return };
        let at = self.in_pixels(window, at);
        self.events.push(Event::Finger { id, down, window, at, time_ms });
    }
}

impl Dispatch<WlSeat, ()> for Heard {
    fn event(
        heard: &mut Self,
        seat: &WlSeat,
        event: wl_seat::Event,
        (): &(),
        _: &Connection,
        handle: &QueueHandle<Self>,
    ) {
        let wl_seat::Event::Capabilities { capabilities: WEnum::Value(has) } = event else { return };
        match (&heard.seat.keyboard, has.contains(Capability::Keyboard)) {
            (None, true) => heard.seat.keyboard = Some(seat.get_keyboard(handle, ())),
            (Some(_), false) => {
                heard.seat.keyboard.take().iter().for_each(WlKeyboard::release);
                heard.events.push(Event::KeyboardLeft);
            }
            _ => {}
        }
        match (&heard.seat.pointer, has.contains(Capability::Pointer)) {
            (None, true) => {
                let pointer = seat.get_pointer(handle, ());
                let motions = heard.seat.motions.as_ref();
                heard.seat.motion = motions.map(|motions| motions.get_relative_pointer(&pointer, handle, ()));
                heard.seat.pointer = Some(pointer);
            }
            (Some(_), false) => {
                heard.seat.motion.take().iter().for_each(ZwpRelativePointerV1::destroy);
                heard.seat.pointer.take().iter().for_each(WlPointer::release);
                heard.seat.entered = None;
                heard.events.push(Event::PointerLeft);
            }
            _ => {}
        }
        match (&heard.seat.touch, has.contains(Capability::Touch)) {
            (None, true) => {
                heard.seat.touch = Some(seat.get_touch(handle, ()));
                heard.events.push(Event::HasTouch);
            }
            (Some(_), false) => {
                heard.seat.touch.take().iter().for_each(WlTouch::release);
                heard.seat.fingers.clear();
                heard.events.push(Event::FingersCancelled);
            }
            _ => {}
        }
    }
}

impl Dispatch<WlKeyboard, ()> for Heard {
    fn event(
        heard: &mut Self,
        _: &WlKeyboard,
        event: wl_keyboard::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            wl_keyboard::Event::Key { time, key, state, .. } => {
                let pressed = match state {
                    WEnum::Value(KeyState::Pressed) => true,
                    WEnum::Value(KeyState::Released) => false,
                    _ => return,
                };
                heard.events.push(Event::Key { key, pressed, time_ms: time });
            }
            wl_keyboard::Event::Keymap { format: WEnum::Value(KeymapFormat::XkbV1), fd, size } => {
                heard.events.extend(keymap(&fd, size).map(Event::Keymap));
            }
            wl_keyboard::Event::RepeatInfo { rate, delay } => {
                heard.events.push(Event::Repeat { rate, delay });
            }
            wl_keyboard::Event::Enter { surface, .. } => heard.seat.keyed = surface.data().copied(),
            wl_keyboard::Event::Leave { .. } => {
                heard.seat.keyed = None;
                heard.events.push(Event::KeyboardLeft);
            }
            _ => {}
        }
    }
}

/// The text of a keymap. Reads, and does not map: nobody can then take the memory away under us.
fn keymap(fd: &OwnedFd, size: u32) -> Option<String> {
    let mut text = vec![0; usize::try_from(size).ok()?.min(LONGEST_KEYMAP)];
    let read = rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut text, 0));
    let read =
        read.inspect_err(|error| tracing::warn!("the parent's keymap cannot be read: {error}")).ok()?;
    text.truncate(read);
    // It ends with a zero.
    text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(read));
    String::from_utf8(text).ok()
}

impl Dispatch<WlPointer, ()> for Heard {
    fn event(
        heard: &mut Self,
        pointer: &WlPointer,
        event: wl_pointer::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use wl_pointer::Event as Wire;

        match event {
            Wire::Enter { serial, surface, surface_x, surface_y } => {
                pointer.set_cursor(serial, None, 0, 0);
                heard.seat.pointed = surface.data().copied().unwrap_or(0);
                heard.seat.entered = Some(serial);
                heard.pointer_is_at((surface_x, surface_y), trace::now_ms());
            }
            Wire::Leave { .. } => {
                heard.seat.entered = None;
                heard.events.push(Event::PointerLeft);
            }
            Wire::Motion { time, surface_x, surface_y } => heard.pointer_is_at((surface_x, surface_y), time),
            Wire::Button { time, button, state: WEnum::Value(state), .. } => {
                let pressed = state == ButtonState::Pressed;
                heard.events.push(Event::Button { button, pressed, time_ms: time });
            }
            Wire::Axis { time, axis, value } => heard.seat.scrolled(axis, |scroll, index| {
                scroll.time_ms = time;
                set(&mut scroll.value, index, value);
            }),
            Wire::AxisSource { axis_source } => {
                heard.seat.scroll.get_or_insert_default().source = Some(axis_source.into());
            }
            Wire::AxisStop { time, axis } => heard.seat.scrolled(axis, |scroll, index| {
                scroll.time_ms = time;
                set(&mut scroll.stop, index, true);
            }),
            Wire::AxisDiscrete { axis, discrete } => heard.seat.scrolled(axis, |scroll, index| {
                set(&mut scroll.v120, index, discrete.saturating_mul(120));
            }),
            Wire::AxisValue120 { axis, value120 } => {
                heard.seat.scrolled(axis, |scroll, index| set(&mut scroll.v120, index, value120));
            }
            Wire::Frame => heard.events.extend(heard.seat.scroll.take().map(Event::Scroll)),
            _ => {}
        }
    }
}

impl Dispatch<ZwpRelativePointerV1, ()> for Heard {
    fn event(
        heard: &mut Self,
        _: &ZwpRelativePointerV1,
        event: zwp_relative_pointer_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use zwp_relative_pointer_v1::Event::RelativeMotion;

        let RelativeMotion { utime_hi, utime_lo, dx, dy, dx_unaccel, dy_unaccel } = event else { return };
        let window = heard.seat.pointed;
        let (delta, unaccelerated) =
            (heard.in_pixels(window, (dx, dy)), heard.in_pixels(window, (dx_unaccel, dy_unaccel)));
        let time_us = whole(utime_hi, utime_lo);
        heard.events.push(Event::Moved { window, delta, unaccelerated, time_us });
    }
}

impl Dispatch<WlTouch, ()> for Heard {
    fn event(
        heard: &mut Self,
        _: &WlTouch,
        event: wl_touch::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            wl_touch::Event::Down { time, surface, id, x, y, .. } => {
                heard.seat.fingers.insert(id, surface.data().copied().unwrap_or(0));
                heard.finger_is_at(id, true, (x, y), time);
            }
            wl_touch::Event::Motion { time, id, x, y } => heard.finger_is_at(id, false, (x, y), time),
            wl_touch::Event::Up { time, id, .. } => {
                heard.seat.fingers.remove(&id);
                heard.events.push(Event::FingerUp { id, time_ms: time });
            }
            wl_touch::Event::Frame => heard.events.push(Event::FingersDone),
            wl_touch::Event::Cancel => {
                heard.seat.fingers.clear();
                heard.events.push(Event::FingersCancelled);
            }
            _ => {}
        }
    }
}

delegate_noop!(Heard: ZwpRelativePointerManagerV1);
