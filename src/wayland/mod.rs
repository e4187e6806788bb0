//! The Wayland front end: one file per global; each translates a request and calls.
//!
//! Owns the protocol objects' state. Decides nothing: points and fences are judged by `surface/` and `fence/`,
//! windows by `shell/`. Knows [`Compositor`] because smithay's handlers are implemented on the loop's state; knows
//! neither `render/` nor `output/`.

mod acquire;
#[cfg(feature = "guest")]
pub mod broken;
pub(crate) mod capture;
pub mod commit;
mod commit_timing;
mod compositor;
mod data_device;
pub mod debug;
pub(crate) mod disconnect;
pub mod dmabuf;
pub mod drm_syncobj;
mod fifo;
mod fractional_scale;
pub mod hints;
mod incoming;
mod output;
pub mod output_management;
mod output_power;
mod pacing;
mod seat;
mod shm;
mod single_pixel_buffer;
mod tearing_control;
mod traced;
mod withheld;
mod xdg_requests;
mod xdg_shell;

use std::{collections::HashMap, sync::Arc};

use smithay::{
    backend::allocator::dmabuf::Dmabuf,
    input::{Seat, SeatState},
    output::Output,
    reexports::wayland_server::{
        Client, DisplayHandle, Weak,
        backend::{ClientData, ClientId, DisconnectReason, GlobalId, ObjectId},
        protocol::{wl_subsurface::WlSubsurface, wl_surface::WlSurface},
    },
    wayland::{
        compositor::{CompositorClientState, CompositorState},
        output::OutputManagerState,
        presentation::PresentationState,
        relative_pointer::RelativePointerManagerState,
        selection::data_device::DataDeviceState,
        shell::xdg::{XdgShellState, decoration::XdgDecorationState},
        shm::ShmState,
        viewporter::ViewporterState,
    },
};

use crate::{compositor::Compositor, fence::timeline::SyncobjDevice};
use dmabuf::{DmabufHandler, DmabufState, ImportError};
pub use output::prefer;
use output_management::OutputManagement;

/// The state of every global, and the seat.
#[derive(Debug)]
pub struct Globals {
    compositor: CompositorState,
    surfaces: HashMap<ObjectId, Weak<WlSurface>>,
    /// The destroyed `wl_subsurface` of surfaces that have no other now.
    subsurfaces: HashMap<ObjectId, WlSubsurface>,
    data_device: DataDeviceState,
    pub(crate) dmabuf: DmabufState,
    seat: SeatState<Compositor>,
    shm: ShmState,
    /// The outputs that clients hold, by their objects.
    held_outputs: HashMap<ObjectId, Output>,
    power_controls: Vec<output_power::Control>,
    /// What clients that configure outputs have seen.
    pub output_management: OutputManagement,
    xdg_shell: XdgShellState,
    /// The open sessions of screen capture.
    pub(crate) sessions: capture::Sessions,
    /// The device on which clients' timelines are imported; `None` where no device can, and then
    /// linux-drm-syncobj is not offered.
    pub syncobj: Option<SyncobjDevice>,
    /// linux-drm-syncobj, if it is offered.
    syncobj_global: Option<GlobalId>,
    /// Who is told what happens.
    pub(crate) debug: debug::Listeners,
}

impl Globals {
    /// Announces everything that can be had: linux-drm-syncobj where there is a device for it. `dmabuf`
    /// is announced already.
    ///
    /// `clock_id` is the clock of presentation times.
    pub fn new(
        display: &DisplayHandle,
        seat_name: &str,
        clock_id: u32,
        syncobj: Option<SyncobjDevice>,
        dmabuf: DmabufState,
    ) -> (Self, Seat<Compositor>) {
        let mut seat_state = SeatState::new();
        let seat = seat_state.new_wl_seat(display, seat_name);
        let syncobj_global = syncobj.is_some().then(|| drm_syncobj::create_global(display));
        capture::create_globals(display);
        fifo::create_global(display);
        commit_timing::create_global(display);
        hints::create_globals(display);
        // These globals need no state of ours: their objects live in the surfaces and outputs.
        OutputManagerState::new_with_xdg_output::<Compositor>(display);
        fractional_scale::create_global(display);
        RelativePointerManagerState::new::<Compositor>(display);
        output_power::create_global(display);
        #[cfg(feature = "guest")]
        let clock_id = broken::object::clock(clock_id);
        PresentationState::new::<Compositor>(display, clock_id);
        ViewporterState::new::<Compositor>(display);
        single_pixel_buffer::create_global(display);
        XdgDecorationState::new::<Compositor>(display);
        let globals = Self {
            surfaces: HashMap::new(),
            subsurfaces: HashMap::new(),
            compositor: compositor::create_globals(display),
            data_device: DataDeviceState::new::<Compositor>(display),
            dmabuf,
            seat: seat_state,
            sessions: capture::Sessions::default(),
            held_outputs: HashMap::new(),
            power_controls: Vec::new(),
            output_management: OutputManagement::new(display),
            shm: ShmState::new::<Compositor>(display, []),
            xdg_shell: XdgShellState::new::<Compositor>(display),
            syncobj,
            syncobj_global,
            debug: debug::Listeners::default(),
        };
        (globals, seat)
    }

    /// linux-drm-syncobj is offered no longer. Who has bound it is told by what it asks for.
    pub fn withdraw_syncobj(&mut self, display: &DisplayHandle) {
        if let Some(global) = self.syncobj_global.take() {
            display.disable_global::<Compositor>(global);
        }
    }

    /// Every surface of every client.
    pub fn surfaces(&self) -> Vec<WlSurface> {
        self.surfaces.values().filter_map(|surface| surface.upgrade().ok()).collect()
    }
}

/// How many fences the queued commits of one client may wait for, all surfaces together (I8). Each is an event-loop source
/// and a file descriptor of ours.
pub const MAX_WAITS: usize = 1024;

/// What we keep for each client.
#[derive(Debug, Default)]
pub struct ClientState {
    compositor: CompositorClientState,
    /// Shared with every timeline that it has imported, for as long as a point needs it (I8).
    timelines: Arc<()>,
    /// Shared with every file descriptor that is held for its dma-bufs (I8).
    dmabuf_fds: Arc<()>,
    /// Shared with every fence that its commits wait for (I8).
    waits: Arc<()>,
    /// The process at the other end of the socket.
    pid: i32,
    /// It may look at what others do: it came through the socket for that, and is our user's. Nobody is by default.
    trusted: bool,
}

impl ClientState {
    /// The state of `client`; `None` for a client that this compositor did not accept.
    pub fn of(client: &Client) -> Option<&Self> {
        client.get_data::<Self>()
    }

    /// State for a client that is about to be accepted.
    pub fn new(pid: i32) -> Arc<Self> {
        Arc::new(Self { pid, ..Self::default() })
    }

    /// As [`new`](Self::new), for a client that may look at what others do.
    pub fn trusted(pid: i32) -> Arc<Self> {
        Arc::new(Self { pid, trusted: true, ..Self::default() })
    }

    /// The process that a client is, or was when it connected; 0 if the kernel did not say.
    pub fn pid(client: Option<&Client>) -> i32 {
        client.and_then(Self::of).map_or(0, |state| state.pid)
    }

    /// Whether there are timelines of it: imported and not destroyed, or needed by what it has committed.
    pub fn has_timelines(&self) -> bool {
        Arc::strong_count(&self.timelines) > 1
    }

    /// One more timeline; `None` if that would be one too many.
    fn count_timeline(&self) -> Option<Arc<()>> {
        one_more(&self.timelines, drm_syncobj::MAX_TIMELINES)
    }

    /// One more fence to wait for; `None` if that would be one too many.
    fn count_wait(&self) -> Option<Arc<()>> {
        one_more(&self.waits, MAX_WAITS)
    }
}

/// A share in what is counted by its shares, to be kept for as long as the thing that it counts; `None` if there are as many
/// as may be. One is the client's own, which counts nothing.
fn one_more(count: &Arc<()>, most: usize) -> Option<Arc<()>> {
    (Arc::strong_count(count) <= most).then(|| Arc::clone(count))
}

impl ClientData for ClientState {
    fn initialized(&self, _client_id: ClientId) {}

    fn disconnected(&self, _client_id: ClientId, reason: DisconnectReason) {
        #[cfg(feature = "guest")]
        broken::commit::gone(self.has_timelines());
        if let DisconnectReason::ProtocolError(error) = reason {
            tracing::warn!(
                "disconnected a client: {}@{}, error {}: {}",
                error.object_interface,
                error.object_id,
                error.code,
                error.message
            );
        }
    }
}

impl DmabufHandler for Compositor {
    fn dmabuf_state(&mut self) -> &mut DmabufState {
        &mut self.globals.dmabuf
    }

    fn import_dmabuf(&mut self, dmabuf: &Dmabuf) -> Result<(), ImportError> {
        self.can_import(dmabuf).map_err(|error| ImportError(Box::new(error)))
    }

    fn held_fds<'a>(&self, client: &'a Client) -> Option<&'a Arc<()>> {
        ClientState::of(client).map(|client| &client.dmabuf_fds)
    }
}

crate::delegate_linux_dmabuf!(Compositor);
