//! Fingers on a touch screen: the surface that the first one came down on has them all, until the last is lifted.
//!
//! Owns that path. A finger does not move the pointer, and moves no window.

use std::collections::HashMap;

use smithay::{
    backend::input::TouchSlot,
    input::touch::{DownEvent, MotionEvent, TouchHandle, UpEvent},
    utils::{Logical, Point, SERIAL_COUNTER},
};

use crate::{compositor::Compositor, trace};

/// What a finger does. Times are in milliseconds, of the device's or the parent's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Touch {
    /// It comes down.
    Down {
        /// Which one.
        slot: TouchSlot,
        /// Where, in the global coordinate space.
        at: Point<f64, Logical>,
        /// When.
        time_ms: u32,
    },
    /// It moves.
    Motion {
        /// Which one.
        slot: TouchSlot,
        /// Where to, in the global coordinate space.
        at: Point<f64, Logical>,
        /// When.
        time_ms: u32,
    },
    /// It is lifted.
    Up {
        /// Which one.
        slot: TouchSlot,
        /// When.
        time_ms: u32,
    },
    /// What was said since the last of these belongs together.
    Frame,
    /// Somebody else takes over: what the fingers did is to be taken for nothing.
    Cancel,
}

/// The fingers that are down, and where they are in the global coordinate space.
#[derive(Debug, Default)]
pub struct Fingers(HashMap<TouchSlot, Point<f64, Logical>>);

/// There is a touch screen: clients are told. A seat that has once had one keeps it.
pub fn appeared(state: &mut Compositor) {
    if state.seat.get_touch().is_none() {
        state.seat.add_touch();
    }
}

/// A finger does something, on a seat that has a touch screen. Nothing comes of what one does that never came down here: smithay
/// would count it as lifted.
pub fn touch(state: &mut Compositor, touch: Touch) {
    let Some(handle) = state.seat.get_touch() else { return };
    match touch {
        Touch::Down { slot, at, time_ms } => down(state, &handle, slot, at, time_ms),
        Touch::Motion { slot, at, time_ms } => {
            let Some(known) = state.fingers.0.get_mut(&slot) else { return };
            *known = at;
            let under = state.shell.surface_under(at);
            handle.motion(state, under, &MotionEvent { slot, location: at, time: time_ms });
        }
        Touch::Up { slot, time_ms } => {
            if state.fingers.0.remove(&slot).is_none() {
                return;
            }
            let serial = SERIAL_COUNTER.next_serial();
            handle.up(state, &UpEvent { slot, serial, time: time_ms });
        }
        Touch::Frame => handle.frame(state),
        Touch::Cancel => cancel(state, &handle),
    }
}

/// Takes back what the fingers did. Smithay 0.7 tells only of fingers of which something was said since the last frame, so
/// something is said of all: they are where they are.
fn cancel(state: &mut Compositor, handle: &TouchHandle<Compositor>) {
    for (slot, location) in std::mem::take(&mut state.fingers.0) {
        handle.motion(state, None, &MotionEvent { slot, location, time: trace::now_ms() });
    }
    handle.cancel(state);
}

fn down(
    state: &mut Compositor,
    handle: &TouchHandle<Compositor>,
    slot: TouchSlot,
    location: Point<f64, Logical>,
    time: u32,
) {
    state.fingers.0.insert(slot, location);
    let under = state.shell.surface_under(location);
    // The first finger takes the keyboard along, as a click does.
    if !handle.is_grabbed() {
        let window = under.as_ref().and_then(|(surface, _)| state.shell.window_of(surface));
        let toplevel = window.map(|window| window.surface().clone());
        state.focus(toplevel.as_ref());
    }
    let serial = SERIAL_COUNTER.next_serial();
    handle.down(state, under, &DownEvent { slot, location, serial, time });
}
