//! From input events to the seat and the shell.
//!
//! Owns the paths of keys, pointer and fingers: what is ours, what is a client's, and which client's. Only [`handle`] knows
//! smithay's input backends; libinput and a parent compositor would feed it alike. What a key combination means is
//! [`crate::shell::keys`].

mod grab;
pub mod libinput;
pub mod touch;

pub use grab::Ours;
pub use touch::{Fingers, Touch};

use smithay::{
    backend::input::{
        AbsolutePositionEvent, Axis, AxisSource, ButtonState, Device as _, DeviceCapability, Event,
        InputBackend, InputEvent, KeyState, KeyboardKeyEvent, Keycode, PointerAxisEvent, PointerButtonEvent,
        PointerMotionEvent, TouchEvent as _,
    },
    input::{
        keyboard::FilterResult,
        pointer::{AxisFrame, ButtonEvent, MotionEvent, RelativeMotionEvent},
    },
    utils::{Logical, Point, SERIAL_COUNTER},
};

use crate::{compositor::Compositor, shell::keys, trace};

/// Handles one event.
pub fn handle<B: InputBackend>(state: &mut Compositor, event: InputEvent<B>) {
    match event {
        InputEvent::Keyboard { event } => key(state, event.key_code(), event.state(), event.time_msec()),
        InputEvent::PointerMotion { event } => {
            move_pointer_by(state, event.delta(), event.delta_unaccel(), event.time());
            put_pointer(state, state.pointer_position() + event.delta(), event.time_msec());
            frame(state);
        }
        InputEvent::PointerMotionAbsolute { event } => {
            let Some(position) = on_screen(state, &event) else { return };
            move_pointer(state, position, event.time_msec());
        }
        InputEvent::PointerButton { event } => {
            button(state, event.button_code(), event.state(), event.time_msec());
        }
        InputEvent::PointerAxis { event } => axis::<B>(state, &event),
        InputEvent::DeviceAdded { device } if device.has_capability(DeviceCapability::Touch) => {
            touch::appeared(state);
        }
        InputEvent::TouchDown { event } => {
            let (slot, time_ms) = (event.slot(), event.time_msec());
            let at = on_screen(state, &event);
            at.into_iter().for_each(|at| touch::touch(state, Touch::Down { slot, at, time_ms }));
        }
        InputEvent::TouchMotion { event } => {
            let (slot, time_ms) = (event.slot(), event.time_msec());
            let at = on_screen(state, &event);
            at.into_iter().for_each(|at| touch::touch(state, Touch::Motion { slot, at, time_ms }));
        }
        InputEvent::TouchUp { event } => {
            touch::touch(state, Touch::Up { slot: event.slot(), time_ms: event.time_msec() });
        }
        InputEvent::TouchFrame { .. } => touch::touch(state, Touch::Frame),
        InputEvent::TouchCancel { .. } => touch::touch(state, Touch::Cancel),
        _ => {}
    }
}

/// Where something happened on a device that covers an output: the one where the pointer is.
fn on_screen<B: InputBackend>(
    state: &Compositor,
    event: &impl AbsolutePositionEvent<B>,
) -> Option<Point<f64, Logical>> {
    let area = state.shell.area_at(state.pointer_position())?;
    Some(area.loc.to_f64() + event.position_transformed(area.size))
}

/// A key goes down or comes up.
pub fn key(state: &mut Compositor, code: Keycode, key_state: KeyState, time_ms: u32) {
    let Some(keyboard) = state.seat.get_keyboard() else { return };
    let (serial, pressed) = (SERIAL_COUNTER.next_serial(), key_state == KeyState::Pressed);
    // Let go of already: by `release_keys`, or on one of two keyboards.
    if !pressed && !keyboard.pressed_keys().contains(&code) {
        return;
    }
    let action = keyboard.input(state, code, key_state, serial, time_ms, |state, modifiers, keysym| {
        if !pressed {
            // The client never saw this key go down, so it must not see it come up.
            return match state.shell.swallowed_keys.remove(&code) {
                true => FilterResult::Intercept(None),
                false => FilterResult::Forward,
            };
        }
        match keys::action(modifiers, keysym.modified_sym()) {
            Some(action) if state.has(action) => {
                state.shell.swallowed_keys.insert(code);
                FilterResult::Intercept(Some(action))
            }
            _ => FilterResult::Forward,
        }
    });
    if let Some(Some(action)) = action {
        state.perform(action);
    }
}

/// Lets go of every key: another session has the keyboard from now on, and sees them come up.
///
/// libinput says so too, but not before its next event, and until then a client would repeat the key.
pub fn release_keys(state: &mut Compositor) {
    let Some(keyboard) = state.seat.get_keyboard() else { return };
    for code in keyboard.pressed_keys() {
        key(state, code, KeyState::Released, trace::now_ms());
    }
}

/// Moves the pointer to `position`, or as near to it as there is an output, and that is all that has happened.
pub fn move_pointer(state: &mut Compositor, position: Point<f64, Logical>, time_ms: u32) {
    if put_pointer(state, position, time_ms) {
        frame(state);
    }
}

/// What was said of the pointer since the last of these belongs together.
pub fn frame(state: &mut Compositor) {
    if let Some(pointer) = state.seat.get_pointer() {
        pointer.frame(state);
    }
}

/// As [`move_pointer`], with a [`frame`] to follow. Whether it has moved.
fn put_pointer(state: &mut Compositor, position: Point<f64, Logical>, time_ms: u32) -> bool {
    let Some(pointer) = state.seat.get_pointer() else { return false };
    let position = state.shell.clamp(position);
    if position == pointer.current_location() {
        return false;
    }
    let under = state.shell.surface_under(position);
    let event = MotionEvent { location: position, serial: SERIAL_COUNTER.next_serial(), time: time_ms };
    pointer.motion(state, under, &event);
    state.pointer_moved(position);
    true
}

/// Tells who has the pointer how far the device has moved, wherever the pointer may go: in logical pixels, and before
/// acceleration. The time is in microseconds. A [`frame`] is to follow.
pub fn move_pointer_by(
    state: &mut Compositor,
    delta: Point<f64, Logical>,
    delta_unaccel: Point<f64, Logical>,
    utime: u64,
) {
    let Some(pointer) = state.seat.get_pointer() else { return };
    let under = state.shell.surface_under(pointer.current_location());
    pointer.relative_motion(state, under, &RelativeMotionEvent { delta, delta_unaccel, utime });
}

/// A button of the pointer, by its code in linux/input-event-codes.h.
pub fn button(state: &mut Compositor, button: u32, button_state: ButtonState, time_ms: u32) {
    let Some(pointer) = state.seat.get_pointer() else { return };
    state.enter_under_pointer();
    let (serial, pressed) = (SERIAL_COUNTER.next_serial(), button_state == ButtonState::Pressed);
    if pressed && !pointer.is_grabbed() {
        let under = state.shell.surface_under(pointer.current_location()).map(|(surface, _)| surface);
        let window = under.as_ref().and_then(|surface| state.shell.window_of(surface));
        let toplevel = window.map(|window| window.surface().clone());
        state.focus(toplevel.as_ref());
        let logo = state.seat.get_keyboard().is_some_and(|keyboard| keyboard.modifier_state().logo);
        if logo && let Some(toplevel) = toplevel {
            state.press_with_logo(&toplevel, button, serial);
        }
    }
    pointer.button(state, &ButtonEvent { button, state: button_state, serial, time: time_ms });
    pointer.frame(state);
    // While a button was held, the pointer stayed with where it was pressed.
    state.enter_under_pointer();
}

fn axis<B: InputBackend>(state: &mut Compositor, event: &B::PointerAxisEvent) {
    let source = event.source();
    let mut frame = AxisFrame::new(event.time_msec()).source(source);
    for axis in [Axis::Horizontal, Axis::Vertical] {
        let steps = event.amount_v120(axis);
        // A wheel that only counts clicks moves 15 degrees with each: libinput's own convention.
        let amount = event.amount(axis).unwrap_or_else(|| steps.unwrap_or(0.0) * 15.0 / 120.0);
        if amount != 0.0 {
            frame = frame.relative_direction(axis, event.relative_direction(axis)).value(axis, amount);
            if let Some(steps) = steps {
                #[expect(clippy::cast_possible_truncation, reason = "the wire carries whole 120ths")]
                let steps = steps as i32;
                frame = frame.v120(axis, steps);
            }
        } else if source == AxisSource::Finger && event.amount(axis) == Some(0.0) {
            frame = frame.stop(axis);
        }
    }
    scroll(state, frame);
}

/// Scrolls what is under the pointer.
pub fn scroll(state: &mut Compositor, frame: AxisFrame) {
    let Some(pointer) = state.seat.get_pointer() else { return };
    state.enter_under_pointer();
    pointer.axis(state, frame);
    pointer.frame(state);
}
