//! Smithay's side of a window that follows the pointer, and of presses that are ours alone.
//!
//! Owns who sees the pointer meanwhile: nobody. The client has lost it when the grab begins (as xdg_toplevel's move and
//! resize say), and whoever is under it gets it when the last button is up, so that no client sees half a click. What the
//! window does is [`crate::shell::Grab`]'s.

use smithay::{
    input::pointer::{
        AxisFrame, ButtonEvent, GestureHoldBeginEvent, GestureHoldEndEvent, GesturePinchBeginEvent,
        GesturePinchEndEvent, GesturePinchUpdateEvent, GestureSwipeBeginEvent, GestureSwipeEndEvent,
        GestureSwipeUpdateEvent, GrabStartData, MotionEvent, PointerGrab, PointerInnerHandle,
        RelativeMotionEvent,
    },
    reexports::wayland_server::protocol::wl_surface::WlSurface,
    utils::{Logical, Point},
};

use crate::{compositor::Compositor, shell::Grab};

type Handle<'a> = PointerInnerHandle<'a, Compositor>;
type Focus = Option<(WlSurface, Point<f64, Logical>)>;

/// The pointer is ours until no button is pressed.
pub struct Ours {
    /// The window that follows it, if one does.
    window: Option<Grab>,
    start: GrabStartData<Compositor>,
}

impl Ours {
    /// A grab that begins with the pointer at `location`.
    pub fn new(window: Option<Grab>, button: u32, location: Point<f64, Logical>) -> Self {
        Self { window, start: GrabStartData { focus: None, button, location } }
    }
}

/// Smithay holds the lock of the pointer during all of these: `state` may do anything but ask the pointer something.
impl PointerGrab<Compositor> for Ours {
    fn motion(&mut self, state: &mut Compositor, handle: &mut Handle<'_>, _: Focus, event: &MotionEvent) {
        handle.motion(state, None, event);
        if let Some(grab) = &self.window
            && let Some(window) = state.shell.window_mut(&grab.surface)
        {
            grab.motion(window, event.location);
            state.scene_changed();
        }
    }

    fn button(&mut self, state: &mut Compositor, handle: &mut Handle<'_>, event: &ButtonEvent) {
        if handle.current_pressed().is_empty() {
            // The focus that smithay would restore was found before the window had moved: the caller looks again.
            handle.unset_grab(self, state, event.serial, event.time, false);
        }
    }

    fn start_data(&self) -> &GrabStartData<Compositor> {
        &self.start
    }

    fn unset(&mut self, state: &mut Compositor) {
        if let Some(grab) = self.window.take()
            && let Some(window) = state.shell.window_mut(&grab.surface)
        {
            grab.end(window);
        }
    }

    fn relative_motion(&mut self, _: &mut Compositor, _: &mut Handle<'_>, _: Focus, _: &RelativeMotionEvent) {
    }
    fn axis(&mut self, _: &mut Compositor, _: &mut Handle<'_>, _: AxisFrame) {}
    fn frame(&mut self, _: &mut Compositor, _: &mut Handle<'_>) {}
    fn gesture_swipe_begin(&mut self, _: &mut Compositor, _: &mut Handle<'_>, _: &GestureSwipeBeginEvent) {}
    fn gesture_swipe_update(&mut self, _: &mut Compositor, _: &mut Handle<'_>, _: &GestureSwipeUpdateEvent) {}
    fn gesture_swipe_end(&mut self, _: &mut Compositor, _: &mut Handle<'_>, _: &GestureSwipeEndEvent) {}
    fn gesture_pinch_begin(&mut self, _: &mut Compositor, _: &mut Handle<'_>, _: &GesturePinchBeginEvent) {}
    fn gesture_pinch_update(&mut self, _: &mut Compositor, _: &mut Handle<'_>, _: &GesturePinchUpdateEvent) {}
    fn gesture_pinch_end(&mut self, _: &mut Compositor, _: &mut Handle<'_>, _: &GesturePinchEndEvent) {}
    fn gesture_hold_begin(&mut self, _: &mut Compositor, _: &mut Handle<'_>, _: &GestureHoldBeginEvent) {}
    fn gesture_hold_end(&mut self, _: &mut Compositor, _: &mut Handle<'_>, _: &GestureHoldEndEvent) {}
}
