//! xdg-shell and xdg-decoration: toplevels and popups, as requests to the shell.

use smithay::{
    desktop::{
        PopupKeyboardGrab, PopupKind, PopupManager, PopupPointerGrab, PopupUngrabStrategy,
        find_popup_root_surface,
    },
    input::{Seat, pointer::Focus},
    reexports::{
        wayland_protocols::xdg::{
            decoration::zv1::server::zxdg_toplevel_decoration_v1::Mode,
            shell::server::xdg_toplevel::{ResizeEdge, State},
        },
        wayland_server::{
            Resource,
            protocol::{wl_output::WlOutput, wl_seat::WlSeat, wl_surface::WlSurface},
        },
    },
    utils::{SERIAL_COUNTER, Serial},
    wayland::{
        compositor::with_states,
        shell::xdg::{
            PopupSurface, PositionerState, ToplevelSurface, XdgShellHandler, XdgShellState,
            XdgToplevelSurfaceData, decoration::XdgDecorationHandler,
        },
    },
};

use super::xdg_requests;
use crate::{
    compositor::Compositor,
    shell::{Grab, Mapping},
};

impl XdgShellHandler for Compositor {
    fn xdg_shell_state(&mut self) -> &mut XdgShellState {
        &mut self.globals.xdg_shell
    }

    fn new_toplevel(&mut self, surface: ToplevelSurface) {
        self.shell.add(surface);
    }

    fn toplevel_destroyed(&mut self, surface: ToplevelSurface) {
        self.shell.remove(surface.wl_surface());
        self.focus_topmost();
        self.scene_changed();
    }

    fn new_popup(&mut self, surface: PopupSurface, positioner: PositionerState) {
        surface.with_pending_state(|state| {
            state.geometry = positioner.get_geometry();
            state.positioner = positioner;
        });
        if let Err(error) = self.shell.add_popup(&surface) {
            xdg_requests::refuse_popup(&self.display, &surface, error);
        }
    }

    fn popup_destroyed(&mut self, surface: PopupSurface) {
        self.popup_gone(&surface);
    }

    fn reposition_request(&mut self, surface: PopupSurface, positioner: PositionerState, token: u32) {
        surface.with_pending_state(|state| {
            state.geometry = positioner.get_geometry();
            state.positioner = positioner;
        });
        self.shell.unconstrain(&surface);
        surface.send_repositioned(token);
    }

    fn grab(&mut self, surface: PopupSurface, seat: WlSeat, serial: Serial) {
        let Some(seat) = Seat::<Self>::from_resource(&seat) else { return };
        let kind = PopupKind::Xdg(surface);
        let Ok(root) = find_popup_root_surface(&kind) else { return };
        if !may_grab(&seat, kind.wl_surface(), serial) {
            tracing::debug!("a popup grabs without an event of its client's; it is dismissed");
            // Fails for a root that is dead, whose popups are dead too.
            if PopupManager::dismiss_popup(&root, &kind).is_ok() {
                self.scene_changed();
            }
            return;
        }
        let Ok(mut grab) = self.shell.popups.grab_popup(root, kind, &seat, serial) else { return };
        if let Some(keyboard) = seat.get_keyboard() {
            if keyboard.is_grabbed()
                && !(keyboard.has_grab(serial)
                    || grab.previous_serial().is_some_and(|s| keyboard.has_grab(s)))
            {
                grab.ungrab(PopupUngrabStrategy::All);
                return;
            }
            keyboard.set_focus(self, grab.current_grab(), serial);
            keyboard.set_grab(self, PopupKeyboardGrab::new(&grab), serial);
        }
        if let Some(pointer) = seat.get_pointer() {
            if pointer.is_grabbed()
                && !(pointer.has_grab(serial) || grab.previous_serial().is_some_and(|s| pointer.has_grab(s)))
            {
                grab.ungrab(PopupUngrabStrategy::All);
                return;
            }
            pointer.set_grab(self, PopupPointerGrab::new(&grab), serial, Focus::Keep);
        }
    }

    fn move_request(&mut self, surface: ToplevelSurface, seat: WlSeat, serial: Serial) {
        self.start_grab(surface.wl_surface(), &seat, serial, |window, at| Some(Grab::to_move(window, at)));
    }

    fn resize_request(&mut self, surface: ToplevelSurface, seat: WlSeat, serial: Serial, edges: ResizeEdge) {
        self.start_grab(surface.wl_surface(), &seat, serial, |window, at| {
            (!window.is_filling()).then(|| Grab::to_resize(window, edges, at))
        });
    }

    fn maximize_request(&mut self, surface: ToplevelSurface) {
        self.fill(&surface, State::Maximized, None);
    }

    fn unmaximize_request(&mut self, surface: ToplevelSurface) {
        self.unfill(&surface, State::Maximized);
    }

    fn fullscreen_request(&mut self, surface: ToplevelSurface, output: Option<WlOutput>) {
        self.fill(&surface, State::Fullscreen, output);
    }

    fn unfullscreen_request(&mut self, surface: ToplevelSurface) {
        self.unfill(&surface, State::Fullscreen);
    }
}

impl XdgDecorationHandler for Compositor {
    fn new_decoration(&mut self, toplevel: ToplevelSurface) {
        set_server_side(&toplevel);
    }

    fn request_mode(&mut self, toplevel: ToplevelSurface, _mode: Mode) {
        set_server_side(&toplevel);
    }

    fn unset_mode(&mut self, toplevel: ToplevelSurface) {
        set_server_side(&toplevel);
    }
}

/// Server-side decoration, of which we draw none: clients leave their frame away. They wait for the answer, even if
/// nothing changes; before the initial commit the initial configure is the answer.
fn set_server_side(toplevel: &ToplevelSurface) {
    toplevel.with_pending_state(|state| state.decoration_mode = Some(Mode::ServerSide));
    with_states(toplevel.wl_surface(), |states| {
        if let Some(Ok(mut data)) = states.data_map.get::<XdgToplevelSurfaceData>().map(|data| data.lock()) {
            data.initial_decoration_configure_sent = false;
        }
    });
    if toplevel.is_initial_configure_sent() {
        toplevel.send_configure();
    }
}

/// Whether `serial` can be of an event that the popup's client has got from the user: one since the pointer or the
/// keyboard came to it.
fn may_grab(seat: &Seat<Compositor>, popup: &WlSurface, serial: Serial) -> bool {
    let next = SERIAL_COUNTER.next_serial();
    let owns = |focus: &WlSurface| focus.id().same_client_as(&popup.id());
    let keyboard = seat.get_keyboard().filter(|it| it.current_focus().as_ref().is_some_and(owns));
    let pointer = seat.get_pointer().filter(|it| it.current_focus().as_ref().is_some_and(owns));
    let entered = [keyboard.and_then(|it| it.last_enter()), pointer.and_then(|it| it.last_enter())];
    entered.into_iter().flatten().any(|entered| entered <= serial && serial < next)
}

impl Compositor {
    fn fill(&mut self, toplevel: &ToplevelSurface, state: State, output: Option<WlOutput>) {
        let area = self.area_for(toplevel.wl_surface(), output.as_ref());
        if let (Some(area), Some(window)) = (area, self.shell.window_mut(toplevel.wl_surface())) {
            window.fill(state, area);
        }
        self.answer(toplevel);
    }

    fn unfill(&mut self, toplevel: &ToplevelSurface, state: State) {
        if let Some(window) = self.shell.window_mut(toplevel.wl_surface()) {
            window.unfill(state);
        }
        self.answer(toplevel);
    }

    /// Each of these requests is answered by a configure, even if nothing changes; before the initial commit the
    /// initial configure is the answer.
    fn answer(&mut self, toplevel: &ToplevelSurface) {
        if toplevel.is_initial_configure_sent() {
            toplevel.send_configure();
        }
        self.scene_changed();
    }

    /// Sends the first configure of a toplevel or popup after its initial commit.
    pub(crate) fn configure_initially(&mut self, surface: &WlSurface) {
        if let Some(window) = self.shell.window(surface) {
            if !window.toplevel.is_initial_configure_sent() {
                window.toplevel.send_configure();
            }
        } else if let Some(PopupKind::Xdg(popup)) = self.shell.popups.find_popup(surface) {
            match self.shell.popup_committed(&popup) {
                Mapping::Mapped | Mapping::Unmapped => {
                    self.scene_changed();
                    self.enter_under_pointer();
                }
                Mapping::Unchanged if popup.is_initial_configure_sent() => {}
                Mapping::Unchanged => {
                    if let Err(error) = popup.send_configure() {
                        tracing::error!("the initial configure of a popup was refused: {error}");
                    }
                }
            }
        }
    }
}

smithay::delegate_xdg_decoration!(Compositor);
