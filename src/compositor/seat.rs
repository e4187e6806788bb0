//! What input asks for, carried out: focus, key bindings, interactive grabs.

use smithay::{
    input::pointer::{ClickGrab, Focus, MotionEvent, PointerGrab as _},
    reexports::{
        wayland_protocols::xdg::shell::server::xdg_toplevel::State,
        wayland_server::{
            Resource as _,
            protocol::{wl_seat::WlSeat, wl_surface::WlSurface},
        },
    },
    utils::{Logical, Point, SERIAL_COUNTER, Serial},
    wayland::shell::xdg::PopupSurface,
};

use super::{Compositor, backend::Backend};
use crate::{
    input::Ours,
    shell::{Grab, Window, keys::Action, window::Edges},
    trace,
};

/// linux/input-event-codes.h
const BTN_LEFT: u32 = 0x110;
const BTN_RIGHT: u32 = 0x111;
const BTN_MIDDLE: u32 = 0x112;

impl Compositor {
    /// Gives a window the keyboard and raises it; `None` takes the keyboard from all. A menu that is open keeps it.
    pub(crate) fn focus(&mut self, toplevel: Option<&WlSurface>) {
        let Some(keyboard) = self.seat.get_keyboard() else { return };
        let before = keyboard.current_focus();
        keyboard.set_focus(self, toplevel.cloned(), SERIAL_COUNTER.next_serial());
        if keyboard.current_focus().as_ref() != toplevel {
            return;
        }
        if let Some(surface) = toplevel {
            self.shell.raise(surface);
        }
        if before.as_ref() != toplevel {
            for window in self.shell.visible() {
                let active = Some(window.surface()) == toplevel;
                window.toplevel.with_pending_state(|state| match active {
                    true => state.states.set(State::Activated),
                    false => state.states.unset(State::Activated),
                });
                window.toplevel.send_pending_configure();
            }
        }
        self.scene_changed();
        self.enter_under_pointer();
    }

    /// The focused window is gone: the topmost one takes over.
    pub(crate) fn focus_topmost(&mut self) {
        let topmost = self.shell.visible().next().map(|window| window.surface().clone());
        self.focus(topmost.as_ref());
    }

    /// A popup is gone. If it had the keyboard, the menu that it belongs to has it again, or the topmost window.
    pub(crate) fn popup_gone(&mut self, popup: &PopupSurface) {
        // So that smithay's grab learns whether there is a popup left that it is for.
        self.shell.cleanup();
        let Some(keyboard) = self.seat.get_keyboard() else { return };
        if keyboard.current_focus().as_ref() == Some(popup.wl_surface()) {
            let parent = popup.get_parent_surface();
            match parent.filter(|parent| self.shell.popups.find_popup(parent).is_some()) {
                Some(parent) => keyboard.set_focus(self, Some(parent), SERIAL_COUNTER.next_serial()),
                None => self.focus_topmost(),
            }
        }
        self.scene_changed();
        self.enter_under_pointer();
    }

    fn focused(&self) -> Option<WlSurface> {
        let focus = self.seat.get_keyboard()?.current_focus()?;
        self.shell.window_of(&focus).map(|window| window.surface().clone())
    }

    /// Whether there is such an action here: without a parent its key is the client's, which may have one.
    pub(crate) fn has(&self, action: Action) -> bool {
        action != Action::ToggleOnParent || matches!(self.backend, Backend::Nested(_))
    }

    /// Carries out what a key combination asks for.
    pub(crate) fn perform(&mut self, action: Action) {
        match action {
            Action::SwitchVt(vt) => self.backend.switch_vt(vt),
            Action::Terminal => self.children.start_terminal(),
            Action::ToggleOverlay => self.toggle_overlay(),
            Action::NextWindow => {
                let next = self.shell.lowest().map(|window| window.surface().clone());
                self.focus(next.as_ref());
            }
            Action::Exit => self.stop.stop(),
            Action::CloseWindow => self.on_focused(|window, _| window.toplevel.send_close()),
            Action::ToggleMaximised => {
                let area = self.focused().and_then(|surface| self.area_for(&surface, None));
                self.on_focused(|window, _| {
                    match area {
                        Some(area) if !window.is_filling() => window.fill(State::Maximized, area),
                        _ => {
                            window.unfill(State::Maximized);
                            window.unfill(State::Fullscreen);
                        }
                    }
                    window.toplevel.send_pending_configure();
                });
            }
            Action::ToggleOnParent => {
                if let Backend::Nested(parent) = &self.backend {
                    parent.borrow().toggle_fullscreen();
                }
            }
            Action::Move(dx, dy) => self.on_focused(|window, _| {
                if !window.is_filling() {
                    window.location += Point::from((dx, dy));
                }
            }),
            Action::Resize(dw, dh) => self.on_focused(|window, size| {
                window.resize(((size.w + dw).max(1), (size.h + dh).max(1)).into(), Edges::default());
                window.end_resize();
            }),
        }
    }

    fn on_focused(&mut self, f: impl FnOnce(&mut Window, smithay::utils::Size<i32, Logical>)) {
        let Some(surface) = self.focused() else { return };
        if let Some(window) = self.shell.window_mut(&surface) {
            let size = window.frame().size;
            f(window, size);
            self.scene_changed();
            self.enter_under_pointer();
        }
    }

    /// A client asks that its window follow the pointer, because of the button press with `serial`.
    pub(crate) fn start_grab(
        &mut self,
        surface: &WlSurface,
        seat: &WlSeat,
        serial: Serial,
        grab: impl FnOnce(&Window, Point<f64, Logical>) -> Option<Grab>,
    ) {
        let Some(pointer) = self.seat.get_pointer() else { return };
        // Of a button that is still held, on that client: not of a menu, which no release would end.
        let button = pointer.with_grab(|of, grab| {
            let start = grab.downcast_ref::<ClickGrab<Self>>()?.start_data();
            let (focus, _) = start.focus.as_ref()?;
            (of == serial && focus.id().same_client_as(&surface.id())).then_some(start.button)
        });
        let Some(button) = button.flatten().filter(|_| self.seat.owns(seat)) else { return };
        let at = pointer.current_location();
        let window = self.shell.window(surface).filter(|window| !window.is_filling());
        if let Some(grab) = window.and_then(|window| grab(window, at)) {
            pointer.set_grab(self, Ours::new(Some(grab), button, at), serial, Focus::Clear);
        }
    }

    /// A button is about to go down on a window while Super is held. The press and what follows it, up to the release
    /// of the last button, are ours: the left one moves, the right one resizes, the middle one closes.
    pub(crate) fn press_with_logo(&mut self, toplevel: &WlSurface, button: u32, serial: Serial) {
        let (Some(pointer), Some(window)) = (self.seat.get_pointer(), self.shell.window(toplevel)) else {
            return;
        };
        let at = pointer.current_location();
        let grab = match button {
            BTN_MIDDLE => {
                window.toplevel.send_close();
                None
            }
            BTN_LEFT if !window.is_filling() => Some(Grab::to_move(window, at)),
            BTN_RIGHT if !window.is_filling() => {
                Some(Grab::to_resize(window, Grab::nearest_edge(window.frame(), at), at))
            }
            _ => return,
        };
        pointer.set_grab(self, Ours::new(grab, button, at), serial, Focus::Clear);
    }

    /// What is under the pointer may have changed without it moving.
    pub(crate) fn enter_under_pointer(&mut self) {
        let Some(pointer) = self.seat.get_pointer() else { return };
        let location = pointer.current_location();
        let under = self.shell.surface_under(location);
        if under.as_ref().map(|(surface, _)| surface) != pointer.current_focus().as_ref() {
            let event = MotionEvent { location, serial: SERIAL_COUNTER.next_serial(), time: trace::now_ms() };
            pointer.motion(self, under, &event);
            pointer.frame(self);
        }
    }

    /// Where the pointer is.
    pub(crate) fn pointer_position(&self) -> Point<f64, Logical> {
        self.seat.get_pointer().map(|pointer| pointer.current_location()).unwrap_or_default()
    }
}
