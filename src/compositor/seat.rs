//! What input asks for, carried out: focus, key bindings, interactive grabs.

use smithay::{
    reexports::{
        wayland_protocols::xdg::shell::server::xdg_toplevel::State,
        wayland_server::protocol::{wl_seat::WlSeat, wl_surface::WlSurface},
    },
    utils::{Logical, Point, SERIAL_COUNTER, Serial},
};

use super::Compositor;
use crate::shell::{Grab, Window, keys::Action, window::Edges};

impl Compositor {
    /// Gives a window the keyboard and raises it; `None` takes the keyboard from all.
    pub(crate) fn focus(&mut self, toplevel: Option<&WlSurface>) {
        let Some(keyboard) = self.seat.get_keyboard() else { return };
        if keyboard.is_grabbed() {
            return;
        }
        if let Some(surface) = toplevel {
            self.shell.raise(surface);
        }
        if keyboard.current_focus().as_ref() != toplevel {
            for window in self.shell.visible() {
                let active = Some(window.surface()) == toplevel;
                window.toplevel.with_pending_state(|state| match active {
                    true => state.states.set(State::Activated),
                    false => state.states.unset(State::Activated),
                });
                window.toplevel.send_pending_configure();
            }
            keyboard.set_focus(self, toplevel.cloned(), SERIAL_COUNTER.next_serial());
        }
        self.scene_changed();
    }

    /// The focused window is gone: the topmost one takes over.
    pub(crate) fn focus_topmost(&mut self) {
        let topmost = self.shell.visible().next().map(|window| window.surface().clone());
        self.focus(topmost.as_ref());
    }

    fn focused(&self) -> Option<WlSurface> {
        let focus = self.seat.get_keyboard()?.current_focus()?;
        self.shell.window_of(&focus).map(|window| window.surface().clone())
    }

    /// Carries out what a key combination asks for.
    pub(crate) fn perform(&mut self, action: Action) {
        match action {
            Action::SwitchVt(vt) => self.backend.switch_vt(vt),
            Action::Terminal => self.children.start_terminal(),
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
        if !self.seat.owns(seat) || !pointer.has_grab(serial) {
            return;
        }
        let position = self.pointer_position();
        let grab = self.shell.window(surface).and_then(|window| grab(window, position));
        self.begin_grab(grab);
    }

    /// A window follows the pointer from now on, until a button is released.
    pub(crate) fn begin_grab(&mut self, grab: Option<Grab>) {
        if grab.is_some() {
            self.shell.grab = grab;
        }
    }

    /// A button was released; whether a grab ended by it.
    pub(crate) fn end_grab(&mut self) -> bool {
        let Some(grab) = self.shell.grab.take() else { return false };
        if let Some(window) = self.shell.window_mut(&grab.surface) {
            grab.end(window);
        }
        true
    }

    /// Where the pointer is.
    pub(crate) fn pointer_position(&self) -> Point<f64, Logical> {
        self.seat.get_pointer().map(|pointer| pointer.current_location()).unwrap_or_default()
    }
}
