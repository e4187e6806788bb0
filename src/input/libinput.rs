//! libinput on the session's seat, as an event-loop source.
//!
//! Owns the libinput context. Must not know what events mean.

use calloop::LoopHandle;
use smithay::{
    backend::{
        libinput::{LibinputInputBackend, LibinputSessionInterface},
        session::{Session as _, libseat::LibSeatSession},
    },
    reexports::input::Libinput,
};

use crate::compositor::Compositor;

/// No input devices.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// udev has no such seat, or does not run.
    #[error("could not assign seat {seat} to libinput: is udevd running?")]
    Seat {
        /// The seat's name.
        seat: String,
    },
    /// The event loop refused the source.
    #[error("could not add libinput to the event loop: {0}")]
    Source(#[from] calloop::Error),
}

/// The input devices of a seat; suspended while another session has them.
#[derive(Debug)]
pub struct Devices(Libinput);

impl Devices {
    /// Opens the devices of the session's seat and feeds their events to the compositor.
    pub fn open(session: &LibSeatSession, handle: &LoopHandle<'static, Compositor>) -> Result<Self, Error> {
        let seat = session.seat();
        let interface: LibinputSessionInterface<_> = session.clone().into();
        let mut context = Libinput::new_with_udev(interface);
        context.udev_assign_seat(&seat).map_err(|()| Error::Seat { seat })?;
        let backend = LibinputInputBackend::new(context.clone());
        handle
            .insert_source(backend, |event, (), state| super::handle(state, event))
            .map_err(|error| Error::Source(error.error))?;
        Ok(Self(context))
    }

    /// Another session takes over.
    pub fn suspend(&self) {
        self.0.suspend();
    }

    /// The session is ours again.
    pub fn resume(&mut self) {
        if self.0.resume().is_err() {
            tracing::warn!(
                "not all input devices came back after the switch; they return when plugged in again"
            );
        }
    }
}
