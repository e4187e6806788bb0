//! From input events to the seat and the shell.
//!
//! Owns the pointer's path: motion, focus, buttons, and the interactive grabs that buttons start and end. Generic over
//! smithay's input backends, so that libinput and a parent compositor feed it alike. What a key combination means is
//! [`crate::shell::keys`].

pub mod libinput;

use smithay::{
    backend::input::{
        AbsolutePositionEvent, Axis, AxisSource, ButtonState, Event, InputBackend, InputEvent, KeyState,
        KeyboardKeyEvent, MouseButton, PointerAxisEvent, PointerButtonEvent, PointerMotionEvent,
    },
    input::{
        keyboard::FilterResult,
        pointer::{AxisFrame, ButtonEvent, MotionEvent, RelativeMotionEvent},
    },
    utils::{Logical, Point, SERIAL_COUNTER},
};

use crate::{
    compositor::Compositor,
    shell::{Grab, keys},
};

/// Handles one event.
pub fn handle<B: InputBackend>(state: &mut Compositor, event: InputEvent<B>) {
    match event {
        InputEvent::Keyboard { event } => key::<B>(state, &event),
        InputEvent::PointerMotion { event } => {
            let position = state.shell.clamp(state.pointer_position() + event.delta());
            move_pointer(state, position, event.time_msec());
            let relative = RelativeMotionEvent {
                delta: event.delta(),
                delta_unaccel: event.delta_unaccel(),
                utime: event.time(),
            };
            let Some(pointer) = state.seat.get_pointer() else { return };
            let under = state.shell.surface_under(position);
            pointer.relative_motion(state, under, &relative);
            pointer.frame(state);
        }
        InputEvent::PointerMotionAbsolute { event } => {
            let Some(area) = state.shell.area_at(state.pointer_position()) else { return };
            let position = area.loc.to_f64() + event.position_transformed(area.size);
            let position = state.shell.clamp(position);
            move_pointer(state, position, event.time_msec());
            if let Some(pointer) = state.seat.get_pointer() {
                pointer.frame(state);
            }
        }
        InputEvent::PointerButton { event } => button::<B>(state, &event),
        InputEvent::PointerAxis { event } => axis::<B>(state, &event),
        _ => {}
    }
}

fn key<B: InputBackend>(state: &mut Compositor, event: &B::KeyboardKeyEvent) {
    let Some(keyboard) = state.seat.get_keyboard() else { return };
    let (serial, pressed) = (SERIAL_COUNTER.next_serial(), event.state() == KeyState::Pressed);
    let action = keyboard.input(
        state,
        event.key_code(),
        event.state(),
        serial,
        event.time_msec(),
        |state, modifiers, keysym| {
            let code = keysym.raw_code();
            if !pressed {
                // The client never saw this key go down, so it must not see it come up.
                return match state.shell.swallowed_keys.remove(&code) {
                    true => FilterResult::Intercept(None),
                    false => FilterResult::Forward,
                };
            }
            match keys::action(modifiers, keysym.modified_sym()) {
                Some(action) => {
                    state.shell.swallowed_keys.insert(code);
                    FilterResult::Intercept(Some(action))
                }
                None => FilterResult::Forward,
            }
        },
    );
    if let Some(Some(action)) = action {
        state.perform(action);
    }
}

/// Moves the pointer, and the window that follows it.
fn move_pointer(state: &mut Compositor, position: Point<f64, Logical>, time_ms: u32) {
    let Some(pointer) = state.seat.get_pointer() else { return };
    let under = match state.shell.grab.take() {
        Some(grab) => {
            if let Some(window) = state.shell.window_mut(&grab.surface) {
                grab.motion(window, position);
                state.shell.grab = Some(grab);
            }
            state.scene_changed();
            None
        }
        None => state.shell.surface_under(position),
    };
    let event = MotionEvent { location: position, serial: SERIAL_COUNTER.next_serial(), time: time_ms };
    pointer.motion(state, under, &event);
    state.pointer_moved();
}

fn button<B: InputBackend>(state: &mut Compositor, event: &B::PointerButtonEvent) {
    let Some(pointer) = state.seat.get_pointer() else { return };
    let serial = SERIAL_COUNTER.next_serial();
    let pressed = event.state() == ButtonState::Pressed;
    if !pressed && state.end_grab() {
        // The client has asked for the grab, or has not seen the press: either way its pointer left when it began.
        let position = state.pointer_position();
        if pointer.is_grabbed() {
            pointer.unset_grab(state, serial, event.time_msec());
        }
        move_pointer(state, position, event.time_msec());
        pointer.frame(state);
        return;
    }
    if pressed && !pointer.is_grabbed() {
        let position = state.pointer_position();
        let under = state.shell.surface_under(position).map(|(surface, _)| surface);
        let window = under.as_ref().and_then(|surface| state.shell.window_of(surface));
        let toplevel = window.map(|window| window.surface().clone());
        state.focus(toplevel.as_ref());
        let logo = state.seat.get_keyboard().is_some_and(|keyboard| keyboard.modifier_state().logo);
        if logo && let Some(window) = toplevel.as_ref().and_then(|surface| state.shell.window(surface)) {
            if event.button() == Some(MouseButton::Middle) {
                window.toplevel.send_close();
                return;
            }
            let edge = Grab::nearest_edge(window.frame(), position);
            let grab = match event.button() {
                Some(MouseButton::Left) => Some(Grab::to_move(window, position)),
                Some(MouseButton::Right) if !window.is_filling() => {
                    Some(Grab::to_resize(window, edge, position))
                }
                _ => None,
            };
            if grab.is_some() {
                state.begin_grab(grab);
                return;
            }
        }
    }
    let (button, time) = (event.button_code(), event.time_msec());
    pointer.button(state, &ButtonEvent { button, state: event.state(), serial, time });
    pointer.frame(state);
}

fn axis<B: InputBackend>(state: &mut Compositor, event: &B::PointerAxisEvent) {
    let Some(pointer) = state.seat.get_pointer() else { return };
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
    pointer.axis(state, frame);
    pointer.frame(state);
}
