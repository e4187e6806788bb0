//! wlr-output-power-management-unstable-v1: outputs are switched off and on, as wlopm and idle daemons do.
//!
//! Owns the objects. An output that is off keeps its place and its windows; that it commits nothing is the compositor's
//! business.

use smithay::{
    output::Output,
    reexports::wayland_server::{
        Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, backend::ClientId,
    },
};
use wayland_protocols_wlr::output_power_management::v1::server::{
    zwlr_output_power_manager_v1::{self, ZwlrOutputPowerManagerV1},
    zwlr_output_power_v1::{self, Mode, ZwlrOutputPowerV1},
};

use super::Globals;
use crate::compositor::Compositor;

/// A client's hold on the power of an output. The output is there as long as the object is not inert.
#[derive(Debug)]
pub(super) struct Control {
    object: ZwlrOutputPowerV1,
    output: Output,
}

/// Announces the global.
pub(super) fn create_global(display: &DisplayHandle) {
    display.create_global::<Compositor, ZwlrOutputPowerManagerV1, ()>(1, ());
}

fn mode(on: bool) -> Mode {
    match on {
        true => Mode::On,
        false => Mode::Off,
    }
}

impl Globals {
    /// An output has gone: nobody holds its power any more.
    pub fn output_gone(&mut self, output: &Output) {
        self.power_controls.retain(|control| {
            if control.output == *output {
                control.object.failed();
            }
            control.output != *output
        });
    }

    /// An output was switched off or on.
    pub fn power_changed(&self, output: &Output, on: bool) {
        for control in self.power_controls.iter().filter(|control| control.output == *output) {
            control.object.mode(mode(on));
        }
    }
}

impl GlobalDispatch<ZwlrOutputPowerManagerV1, ()> for Compositor {
    fn bind(
        _state: &mut Self,
        _display: &DisplayHandle,
        _client: &Client,
        resource: New<ZwlrOutputPowerManagerV1>,
        _data: &(),
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(resource, ());
    }
}

impl Dispatch<ZwlrOutputPowerManagerV1, ()> for Compositor {
    fn request(
        state: &mut Self,
        _client: &Client,
        _manager: &ZwlrOutputPowerManagerV1,
        request: zwlr_output_power_manager_v1::Request,
        _data: &(),
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let zwlr_output_power_manager_v1::Request::GetOutputPower { id, output } = request else { return };
        let object = init.init(id, ());
        let output = Output::from_resource(&output);
        match output.and_then(|output| Some((state.is_powered(&output)?, output))) {
            Some((on, output)) => {
                object.mode(mode(on));
                state.globals.power_controls.push(Control { object, output });
            }
            None => object.failed(),
        }
    }
}

impl Dispatch<ZwlrOutputPowerV1, ()> for Compositor {
    fn request(
        state: &mut Self,
        _client: &Client,
        object: &ZwlrOutputPowerV1,
        request: zwlr_output_power_v1::Request,
        _data: &(),
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        let zwlr_output_power_v1::Request::SetMode { mode } = request else { return };
        let Ok(mode) = mode.into_result() else {
            return object.post_error(zwlr_output_power_v1::Error::InvalidMode, "there is no such mode");
        };
        let held = state.globals.power_controls.iter().find(|control| control.object == *object);
        if let Some(output) = held.map(|control| control.output.clone()) {
            state.set_power(&output, matches!(mode, Mode::On));
        }
    }

    fn destroyed(state: &mut Self, _client: ClientId, object: &ZwlrOutputPowerV1, _data: &()) {
        state.globals.power_controls.retain(|control| control.object != *object);
    }
}
