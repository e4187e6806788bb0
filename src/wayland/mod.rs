//! The Wayland front end: one file per global; each translates a request and calls.
//!
//! Owns the protocol objects' state. Decides nothing: points and fences are judged by `surface/` and `fence/`,
//! windows by `shell/`. Knows [`Compositor`] because smithay's handlers are implemented on the loop's state; knows
//! neither `render/` nor `output/`.

pub mod commit;
mod compositor;
mod data_device;
pub(crate) mod disconnect;
pub mod dmabuf;
pub mod drm_syncobj;
mod output;
mod seat;
mod shm;
mod withheld;
mod xdg_requests;
mod xdg_shell;

use std::{collections::HashMap, sync::Arc};

use smithay::{
    backend::allocator::dmabuf::Dmabuf,
    input::{Seat, SeatState},
    reexports::wayland_server::{
        Client, DisplayHandle, Weak,
        backend::{ClientData, ClientId, DisconnectReason, ObjectId},
        protocol::{wl_subsurface::WlSubsurface, wl_surface::WlSurface},
    },
    wayland::{
        compositor::{CompositorClientState, CompositorState},
        output::OutputManagerState,
        presentation::PresentationState,
        selection::data_device::DataDeviceState,
        shell::xdg::{XdgShellState, decoration::XdgDecorationState},
        shm::ShmState,
        viewporter::ViewporterState,
    },
};

use crate::{compositor::Compositor, fence::timeline::SyncobjDevice};
use dmabuf::{DmabufHandler, DmabufState, ImportError};

/// The state of every global, and the seat.
#[derive(Debug)]
pub struct Globals {
    compositor: CompositorState,
    surfaces: HashMap<ObjectId, Weak<WlSurface>>,
    /// The destroyed `wl_subsurface` of surfaces that have no other now.
    subsurfaces: HashMap<ObjectId, WlSubsurface>,
    data_device: DataDeviceState,
    dmabuf: DmabufState,
    seat: SeatState<Compositor>,
    shm: ShmState,
    xdg_shell: XdgShellState,
    /// The rule that a test has us break.
    #[cfg(feature = "guest")]
    pub broken: Option<BrokenRule>,
    /// The device on which clients' timelines are imported; `None` where no device can, and then
    /// linux-drm-syncobj is not offered.
    pub syncobj: Option<SyncobjDevice>,
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
        if syncobj.is_some() {
            drm_syncobj::create_global(display);
        }
        // These globals need no state of ours: their objects live in the surfaces and outputs.
        OutputManagerState::new_with_xdg_output::<Compositor>(display);
        PresentationState::new::<Compositor>(display, clock_id);
        ViewporterState::new::<Compositor>(display);
        XdgDecorationState::new::<Compositor>(display);
        let globals = Self {
            surfaces: HashMap::new(),
            subsurfaces: HashMap::new(),
            compositor: CompositorState::new_v6::<Compositor>(display),
            data_device: DataDeviceState::new::<Compositor>(display),
            dmabuf,
            seat: seat_state,
            shm: ShmState::new::<Compositor>(display, []),
            xdg_shell: XdgShellState::new::<Compositor>(display),
            syncobj,
            #[cfg(feature = "guest")]
            broken: None,
        };
        (globals, seat)
    }

    /// Every surface of every client.
    pub fn surfaces(&self) -> Vec<WlSurface> {
        self.surfaces.values().filter_map(|surface| surface.upgrade().ok()).collect()
    }
}

/// Rules that a test can have broken, to see that it would notice.
#[cfg(feature = "guest")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BrokenRule {
    /// I1: commits apply without waiting for their acquire fences.
    Acquire,
    /// I2: buffers are released when they are committed.
    Release,
}

/// How many fences the queued commits of one client may wait for, all surfaces together (I8). Each is an event-loop source
/// and a file descriptor of ours.
pub const MAX_WAITS: usize = 1024;

/// What we keep for each client.
#[derive(Debug, Default)]
pub struct ClientState {
    compositor: CompositorClientState,
    /// Shared with every timeline that it has imported: what it may have is bounded (I8).
    timelines: Arc<()>,
    /// Shared with every fence that its commits wait for (I8).
    waits: Arc<()>,
    /// The process at the other end of the socket.
    pid: i32,
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

    /// The process that a client is, or was when it connected; 0 if the kernel did not say.
    pub fn pid(client: Option<&Client>) -> i32 {
        client.and_then(Self::of).map_or(0, |state| state.pid)
    }

    /// One more fence to wait for; `None` if that would be one too many.
    fn count_wait(&self) -> Option<Arc<()>> {
        (Arc::strong_count(&self.waits) <= MAX_WAITS).then(|| self.waits.clone())
    }
}

impl ClientData for ClientState {
    fn initialized(&self, _client_id: ClientId) {}

    fn disconnected(&self, _client_id: ClientId, reason: DisconnectReason) {
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
}

crate::delegate_linux_dmabuf!(Compositor);
