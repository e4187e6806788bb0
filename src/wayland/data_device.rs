//! `wl_data_device`: clipboard and drag-and-drop between clients.

use smithay::wayland::selection::{
    SelectionHandler,
    data_device::{ClientDndGrabHandler, DataDeviceHandler, DataDeviceState, ServerDndGrabHandler},
};

use crate::compositor::Compositor;

impl SelectionHandler for Compositor {
    type SelectionUserData = ();
}

impl DataDeviceHandler for Compositor {
    fn data_device_state(&self) -> &DataDeviceState {
        &self.globals.data_device
    }
}

impl ClientDndGrabHandler for Compositor {}
impl ServerDndGrabHandler for Compositor {}

smithay::delegate_data_device!(Compositor);
