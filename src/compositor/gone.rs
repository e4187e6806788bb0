//! Devices that are taken away, or taken over, while the compositor runs.
//!
//! Owns the rules, by device:
//!
//! - The display device is gone: there is nothing left to show on, so the compositor ends and says why. Clients are told
//!   that their outputs are gone and every release is settled before.
//! - The device of the syncobjs is gone, and it is another: no point of a timeline that was imported there can be waited for
//!   or signalled any more. Its clients are disconnected, which ends their waits; the others notice nothing. Clients
//!   that come later import on another device, or are not offered linux-drm-syncobj.
//! - Another process is the display device's master although the session says that it is ours: nobody will say when that
//!   is over, so the outputs try again every second.
//!
//! A device is gone when udev says so, or when it answers that it is: it is asked whenever udev speaks of a removal or the
//! kernel refuses something.

use std::time::Duration;

use calloop::timer::{TimeoutAction, Timer};
use smithay::{
    backend::udev::{UdevBackend, UdevEvent},
    reexports::wayland_server::Client,
};

use super::{Compositor, OutputId, start};
use crate::{
    fence::timeline::SyncobjDevice,
    output::frame::State,
    trace,
    wayland::{ClientState, disconnect},
};

/// How often an output whose device has another master tries again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl Compositor {
    /// Has what udev says of devices heard: a display that comes or goes is looked at, and a device that is removed is
    /// noticed when it is, not only when it refuses something.
    pub(super) fn watch_devices(&self) {
        if self.globals.syncobj.is_none() && !self.backend.has_device() {
            return;
        }
        let ours = self.backend.device_number();
        let watched = UdevBackend::new(self.backend.seat_name()).and_then(|udev| {
            let heard = move |event, (): &mut (), state: &mut Self| match event {
                UdevEvent::Changed { device_id } if Some(device_id) == ours => state.displays_changed(),
                // Not every driver refuses what is asked of a device that was removed: vkms does not.
                UdevEvent::Removed { device_id } if Some(device_id) == ours => state.display_device_gone(),
                UdevEvent::Removed { .. } => state.look_for_lost_devices(),
                UdevEvent::Added { .. } | UdevEvent::Changed { .. } => {}
            };
            Ok(self.handle.insert_source(udev, heard).map_err(|error| error.error)?)
        });
        if let Err(error) = watched {
            tracing::warn!("displays that come or go, and devices that go, are not noticed: {error}");
        }
    }

    /// Asks every device whether it is still there.
    pub(super) fn look_for_lost_devices(&mut self) {
        if self.globals.syncobj.as_ref().is_some_and(SyncobjDevice::look) {
            self.syncobj_device_gone();
        }
        if self.backend.is_gone() {
            self.display_device_gone();
        }
    }

    /// There is nothing left to show on.
    pub(super) fn display_device_gone(&mut self) {
        self.nothing_to_show_on(format!("the display device {} is gone", self.backend.device_name()));
    }

    /// The same, for this reason.
    pub(super) fn nothing_to_show_on(&mut self, why: String) {
        if self.has_failed() {
            return;
        }
        self.give_up(why);
        for id in self.screens.ids() {
            self.darken(id);
        }
        self.outputs_changed();
    }

    /// What clients have imported there can neither be waited for nor signalled.
    pub(super) fn syncobj_device_gone(&mut self) {
        let Some(gone) = self.globals.syncobj.take() else { return };
        drop(gone);
        self.globals.syncobj = start::find_syncobj(self.backend.device_fd());
        let found =
            if self.globals.syncobj.is_some() { "another takes its place" } else { "there is no other" };
        tracing::warn!("the device of the clients' timelines is gone; {found}");
        if self.globals.syncobj.is_none() {
            self.globals.withdraw_syncobj(&self.display);
        }
        let reason = "the device on which its timelines were imported is gone";
        for client in self.clients_with_timelines() {
            disconnect::failed(&self.display, &client, &reason);
        }
    }

    fn clients_with_timelines(&self) -> Vec<Client> {
        let handle = self.display.backend_handle();
        let mut ids = Vec::new();
        handle.with_all_clients(|id| ids.push(id));
        // Every client has its wl_display, and an object leads to its client.
        let client_of = |id| {
            let mut object = None;
            handle.with_all_objects_for(id, |found| object = Some(found)).ok()?;
            self.display.get_client(object?).ok()
        };
        let mut clients: Vec<_> = ids.into_iter().filter_map(client_of).collect();
        clients.retain(|client| ClientState::of(client).is_some_and(ClientState::has_timelines));
        clients
    }

    /// The kernel took no commit of an output: its device is gone, or is another's at the moment.
    pub(super) fn regain(&mut self, id: OutputId) {
        if self.backend.is_gone() {
            return self.display_device_gone();
        }
        let Some(screen) = self.screens.get_mut(id) else { return };
        // The first time it may be a switch of terminals, of which the session will speak in a moment.
        screen.regaining = screen.regaining.saturating_add(1);
        if screen.regaining == 2 {
            tracing::warn!(
                "{} cannot be drawn on: another process has its device; trying again every {TRY_AGAIN:?}",
                screen.head.name()
            );
        }
        let timer = Timer::from_duration(TRY_AGAIN);
        let inserted = self.handle.insert_source(timer, move |_, (), state: &mut Self| {
            state.try_again(id);
            TimeoutAction::Drop
        });
        if let Err(error) = inserted {
            tracing::error!("an output is not tried again: {error}");
        }
    }

    fn try_again(&mut self, id: OutputId) {
        let is_ours = self.backend.is_active();
        let Some(screen) = self.screens.get_mut(id) else { return };
        // A session that is paused says when it is over, and so does who switches an output on.
        if !is_ours || !screen.powered || !matches!(screen.machine.state(), State::Off { .. }) {
            screen.regaining = 0;
            return;
        }
        screen.head.resume();
        screen.canvas.forget();
        let action = screen.machine.resume(trace::now());
        self.act(id, action);
    }
}
