//! What the parent compositor says, brought to where it belongs.
//!
//! Owns the event-loop source of the connection, and the reactions to a parent that goes away.

use std::{cell::RefCell, os::fd::OwnedFd, path::Path, rc::Rc, time::Duration};

use calloop::{Interest, Mode as Trigger, PostAction, generic::Generic};
use smithay::{
    backend::allocator::gbm::GbmDevice,
    backend::drm::{DrmDeviceFd, DrmNode, NodeType},
    backend::input::{Axis, AxisSource, ButtonState, KeyState, Keycode, TouchSlot},
    input::pointer::AxisFrame,
    output::Mode,
    utils::{DeviceFd, Logical, Physical, Point, Scale},
};

use super::{
    Compositor, OutputId,
    backend::{Backend, Error, headless_mode},
};
use crate::{
    input::{self, Touch, touch},
    output::{
        Head,
        display::Info,
        kms::modes::ModeRequest,
        nested::{
            Word,
            event::{Event, Scroll},
            parent::Parent,
        },
        proposal::Proposal,
    },
    render::{self, Renderer},
    trace,
};

/// How long a parent may take to answer and to configure the window, before there is none.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// The name of a window's output.
fn name(window: usize) -> String {
    format!("WL-{}", window.saturating_add(1))
}

/// The windows' displays: a window's size is the only mode that it has, and the parent says how it is scaled.
pub(super) fn displays(parent: &Parent) -> Vec<Info> {
    let refresh = parent.refresh_mhz();
    let info = |(window, size, scale)| Info { scale, ..Info::headless(name(window), Mode { size, refresh }) };
    parent.windows().map(info).collect()
}

/// What would light windows: each has one mode, and no other can be asked for.
pub(super) fn propose(parent: &Parent, wishes: &[(&str, ModeRequest)]) -> Result<Vec<Proposal>, String> {
    let refresh = parent.refresh_mhz();
    let propose = |&(wanted, mode): &(&str, ModeRequest)| {
        let found = parent.windows().find(|(window, ..)| name(*window) == wanted);
        let (window, size, _) = found.ok_or_else(|| format!("{wanted} has gone"))?;
        let current = Mode { size, refresh };
        if headless_mode(mode).is_some_and(|mode| mode != current) {
            return Err(format!("the size of {wanted} is its window's"));
        }
        Ok(Proposal::Nested { name: wanted.to_owned(), window, mode: current })
    };
    wishes.iter().map(propose).collect()
}

/// Opens so many windows, of the size that was asked for, in the parent's units, where the parent leaves that to us.
pub(super) fn open(socket: &Path, windows: u8, mode: ModeRequest) -> Result<Rc<RefCell<Parent>>, Error> {
    let size = headless_mode(mode).map_or((1280, 720), |mode| (mode.size.w, mode.size.h));
    // As libwayland has it: a name is of the runtime directory.
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_default();
    let parent = Parent::open(&Path::new(&runtime).join(socket), windows, size.into(), OPEN_LIMIT)?;
    Ok(Rc::new(RefCell::new(parent)))
}

/// The renderer: on the device that the parent wants buffers of, or, where there is none to share, anywhere.
pub(super) fn renderer(parent: &RefCell<Parent>) -> Result<Renderer, render::Error> {
    on_parents_device(parent).or_else(|reason| {
        tracing::warn!(
            "frames go to the parent compositor by shared memory, and each is copied by the CPU: {reason}"
        );
        Renderer::anywhere()
    })
}

fn on_parents_device(parent: &RefCell<Parent>) -> Result<Renderer, String> {
    let device = parent.borrow().device().ok_or("it takes no dma-bufs")?;
    let node = DrmNode::from_dev_id(device).ok().and_then(|node| node.dev_path_with_type(NodeType::Render));
    let node = node.ok_or("its device has no render node")?;
    let failed = |error: std::io::Error| format!("{}: {error}", node.display());
    let file = std::fs::File::options().read(true).write(true).open(&node).map_err(failed)?;
    let gbm = GbmDevice::new(DrmDeviceFd::new(DeviceFd::from(OwnedFd::from(file)))).map_err(failed)?;
    let renderer = Renderer::on_device(gbm.clone(), &node).map_err(|error| error.to_string())?;
    parent.borrow_mut().allocate_on(&gbm, &renderer.render_formats())?;
    Ok(renderer)
}

/// Adds the connection to the event loop.
pub(super) fn watch(state: &Compositor) -> Result<(), Error> {
    let Backend::Nested(parent) = &state.backend else { return Ok(()) };
    let fd = parent.borrow().poll_fd().map_err(|error| Error::Source(error.to_string()))?;
    let source = Generic::new(fd, Interest::READ, Trigger::Level);
    let inserted = state.handle.insert_source(source, |_, _, state| Ok(state.read_parent()));
    inserted.map(drop).map_err(|error| Error::Source(error.error.to_string()))
}

impl Compositor {
    /// Takes what the parent has said. One that cannot be read has gone, and is not read again.
    pub(super) fn read_parent(&mut self) -> PostAction {
        let Backend::Nested(parent) = &self.backend else { return PostAction::Remove };
        let events = parent.borrow_mut().read();
        match events {
            Ok(events) => {
                events.into_iter().for_each(|event| self.parent_said(event));
                PostAction::Continue
            }
            Err(error) => {
                self.nothing_to_show_on(error.to_string());
                PostAction::Remove
            }
        }
    }

    fn parent_said(&mut self, event: Event) {
        let key_state = |pressed| if pressed { KeyState::Pressed } else { KeyState::Released };
        let button_state = |pressed| if pressed { ButtonState::Pressed } else { ButtonState::Released };
        match event {
            Event::Resized => self.displays_changed(),
            Event::Closed(window) => self.window_closed(window),
            Event::Frame(number, word) => self.parent_said_of_frame(number, word),
            Event::Released => self.screens.ids().into_iter().for_each(|id| self.parent_released(id)),
            // One that it takes is shown as it is, also if nobody draws anything more.
            Event::Answered => self.scene_changed(),
            Event::Refused => {
                self.screens.iter_mut().for_each(|(_, screen)| screen.canvas.forget());
                self.scene_changed();
            }
            Event::Key { key, pressed, time_ms } => {
                // xkb counts from 8.
                input::key(self, Keycode::new(key.saturating_add(8)), key_state(pressed), time_ms);
            }
            Event::Keymap(keymap) => self.set_keymap(keymap),
            Event::Repeat { rate, delay } => {
                self.seat.get_keyboard().iter().for_each(|keyboard| keyboard.change_repeat_info(rate, delay));
            }
            Event::KeyboardLeft => input::release_keys(self),
            Event::PointerLeft => self.pointer_is_away(true),
            Event::Pointer { window, at, time_ms } => {
                let Some(at) = self.in_window(window, at) else { return };
                self.pointer_is_away(false);
                input::move_pointer(self, at, time_ms);
            }
            Event::Moved { window, delta, unaccelerated, time_us } => {
                let Some((_, scale)) = self.window(window) else { return };
                let logical = |delta| Point::<f64, Physical>::from(delta).to_logical(scale);
                input::move_pointer_by(self, logical(delta), logical(unaccelerated), time_us);
                input::frame(self);
            }
            Event::HasTouch => touch::appeared(self),
            Event::Finger { id, down, window, at, time_ms } => {
                let (slot, Some(at)) = (slot(id), self.in_window(window, at)) else { return };
                let touch = match down {
                    true => Touch::Down { slot, at, time_ms },
                    false => Touch::Motion { slot, at, time_ms },
                };
                touch::touch(self, touch);
            }
            Event::FingerUp { id, time_ms } => touch::touch(self, Touch::Up { slot: slot(id), time_ms }),
            Event::FingersDone => touch::touch(self, Touch::Frame),
            Event::FingersCancelled => touch::touch(self, Touch::Cancel),
            Event::Button { button, pressed, time_ms } => {
                input::button(self, button, button_state(pressed), time_ms);
            }
            Event::Scroll(scroll) => input::scroll(self, frame(&scroll)),
        }
    }

    /// Where the output of a window is, and its scale.
    fn window(&self, window: usize) -> Option<(Point<i32, Logical>, Scale<f64>)> {
        let name = name(window);
        let screen = self.screens.iter().find(|(_, screen)| screen.head.name() == name);
        screen.map(|(_, screen)| (screen.area().loc, screen.canvas.scale()))
    }

    /// Where a pixel of a window is in the global coordinate space.
    fn in_window(&self, window: usize, at: (f64, f64)) -> Option<Point<f64, Logical>> {
        let (origin, scale) = self.window(window)?;
        Some(origin.to_f64() + Point::<f64, Physical>::from(at).to_logical(scale))
    }

    /// The parent's keys mean this; ours, too.
    fn set_keymap(&mut self, keymap: String) {
        let Some(keyboard) = self.seat.get_keyboard() else { return };
        if let Err(error) = keyboard.set_keymap_from_string(self, keymap) {
            tracing::warn!("keys mean what they meant, and not what they mean to the parent: {error}");
        }
    }

    /// A window is closed: the output that is shown there goes. With the last one the compositor ends.
    fn window_closed(&mut self, window: usize) {
        let Backend::Nested(parent) = &self.backend else { return };
        // The last one stays open until its output goes.
        if parent.borrow().windows().count() > 1 {
            self.set_displays_without(&name(window));
            let Backend::Nested(parent) = &self.backend else { return };
            parent.borrow_mut().close(window);
            return;
        }
        tracing::info!("the window was closed");
        self.stop.stop();
    }

    /// The parent may be done with a buffer of this window: a frame that has waited for one is drawn.
    fn parent_released(&mut self, id: OutputId) {
        let Some(screen) = self.screens.get_mut(id) else { return };
        let Head::Nested(head) = &mut screen.head else { return };
        let action = if head.released() { screen.machine.retry(trace::now()) } else { None };
        self.act(id, action);
        self.watch_parent(id);
    }

    /// Has heard what the parent does with the buffers of this window, as far as anything waits for it.
    pub(super) fn watch_parent(&mut self, id: OutputId) {
        let Some(Head::Nested(head)) = self.screens.get_mut(id).map(|screen| &mut screen.head) else {
            return;
        };
        let watched = head.watch(&self.handle, move |state: &mut Self| state.parent_released(id));
        if let Err(error) = watched {
            tracing::error!("a buffer of {} is missed until the next frame: {error}", head.name());
        }
    }

    fn set_displays_without(&mut self, name: &str) {
        let displays = self.displays.iter().map(|display| display.info.clone());
        let displays = displays.filter(|info| info.name != name).collect();
        self.set_displays(displays);
    }

    fn parent_said_of_frame(&mut self, number: u64, word: Word) {
        for id in self.screens.ids() {
            let screen = self.screens.get_mut(id);
            let flipped = screen.and_then(|screen| screen.head.heard(number, word, trace::now()));
            if let Some(flipped) = flipped {
                self.flipped(id, flipped);
            }
        }
    }
}

/// The finger that the parent calls so.
fn slot(id: i32) -> TouchSlot {
    u32::try_from(id).ok().into()
}

/// The same for our clients.
fn frame(scroll: &Scroll) -> AxisFrame {
    let mut frame = AxisFrame::new(scroll.time_ms);
    // wl_pointer.axis_source
    let source = match scroll.source {
        Some(0) => Some(AxisSource::Wheel),
        Some(1) => Some(AxisSource::Finger),
        Some(2) => Some(AxisSource::Continuous),
        Some(3) => Some(AxisSource::WheelTilt),
        _ => None,
    };
    if let Some(source) = source {
        frame = frame.source(source);
    }
    let values = scroll.value.into_iter().zip(scroll.v120).zip(scroll.stop);
    for (axis, ((value, v120), stop)) in [Axis::Horizontal, Axis::Vertical].into_iter().zip(values) {
        if value != 0.0 {
            frame = frame.value(axis, value);
        }
        if v120 != 0 {
            frame = frame.v120(axis, v120);
        }
        if stop {
            frame = frame.stop(axis);
        }
    }
    frame
}
