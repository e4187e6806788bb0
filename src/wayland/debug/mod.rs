//! fencepost-debug-v1: how things are, and what happens, for people who look.
//!
//! Owns the objects, who may have one, and how far each client has been told of the trace. Does nothing that nobody asks
//! for: what is told is in the trace, and in the surfaces and outputs, in any case.

mod snapshot;

use std::time::Duration;

use smithay::{
    reexports::wayland_server::{
        Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, backend::ClientId,
    },
    wayland::compositor::give_role,
};

use super::ClientState;
use crate::{
    compositor::Compositor,
    protocol::{
        self, EVENTS,
        server::fencepost_debug_v1::{Error, FencepostDebugV1, OutputState, Request},
    },
    trace::{dump, tracer},
};

/// The role of the surface above all others.
const OVERLAY_ROLE: &str = "fencepost_overlay";

/// An output, as the protocol tells of it.
#[derive(Clone, Debug)]
pub struct OutputFacts {
    /// Its number in the trace.
    pub number: u32,
    /// "HDMI-A-1"
    pub name: String,
    /// Where it is in the life of a frame.
    pub state: OutputState,
    /// The length of a refresh.
    pub refresh: Duration,
    /// What frames have taken of late.
    pub frame_time: Duration,
    /// What is added to that.
    pub margin: Duration,
    /// The latest time for a fence to signal for the next refresh; `None` if it is off.
    pub deadline: Option<Duration>,
    /// Frames committed so far.
    pub frames: u64,
    /// Refreshes missed so far.
    pub misses: u64,
}

/// Where a surface can be seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stage {
    /// The number of the output that paces it, or 0.
    pub output: u32,
    /// Its content is in a frame for the first time, which has not flipped.
    pub latched: bool,
}

/// Who has the global.
#[derive(Debug, Default)]
pub struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    object: FencepostDebugV1,
    /// How many events of the trace it was told of, or has missed.
    told: u64,
    /// It has asked for more.
    asks: bool,
}

impl Listeners {
    /// Tells those who have asked what has happened since.
    pub fn tell(&mut self) {
        self.0.iter_mut().filter(|listener| listener.asks).for_each(Listener::tell);
    }
}

impl Listener {
    fn tell(&mut self) {
        let Some(since) = tracer::since(self.told, EVENTS) else { return };
        if since.told == self.told {
            return;
        }
        (self.told, self.asks) = (since.told, false);
        if since.lost > 0 {
            self.object.lost(saturated(since.lost));
        }
        for entry in &since.entries {
            match serde_json::to_string(entry) {
                Ok(line) => self.object.entry(line),
                Err(error) => tracing::error!("an event is not told: {error}"),
            }
        }
        self.object.events_done();
    }
}

/// Announces the global, for those who may see it.
pub fn create_global(display: &DisplayHandle) {
    display.create_global::<Compositor, FencepostDebugV1, ()>(protocol::VERSION, ());
}

fn saturated(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl GlobalDispatch<FencepostDebugV1, ()> for Compositor {
    fn bind(
        state: &mut Self,
        _display: &DisplayHandle,
        _client: &Client,
        resource: New<FencepostDebugV1>,
        _data: &(),
        init: &mut DataInit<'_, Self>,
    ) {
        let object = init.init(resource, ());
        let acquire = state.acquire_policy().name();
        object.compositor(std::process::id(), env!("CARGO_PKG_VERSION").to_owned(), acquire);
        state.globals.debug.0.push(Listener { object, told: 0, asks: false });
    }

    /// wayland-server refuses a bind of what cannot be seen, too.
    fn can_view(client: Client, _data: &()) -> bool {
        ClientState::of(&client).is_some_and(|state| state.trusted)
    }
}

impl Dispatch<FencepostDebugV1, ()> for Compositor {
    fn request(
        state: &mut Self,
        _client: &Client,
        object: &FencepostDebugV1,
        request: Request,
        _data: &(),
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        match request {
            Request::Snapshot => snapshot::send(state, object),
            Request::Events => {
                let listeners = &mut state.globals.debug.0;
                let Some(listener) = listeners.iter_mut().find(|listener| listener.object == *object) else {
                    return;
                };
                if std::mem::replace(&mut listener.asks, true) {
                    object.post_error(Error::AlreadyAsked, "the answer to the last request has not ended");
                }
            }
            Request::Dump => match dump::dump("asked for by a client of fencepost-debug-v1") {
                Ok(Some(path)) => object.dumped(path.display().to_string()),
                Ok(None) => object.not_dumped("there are no events to be written".to_owned()),
                Err(error) => object.not_dumped(error.to_string()),
            },
            Request::Overlay { surface } => {
                // smithay has no handle for a role that is only this.
                match give_role(&surface, OVERLAY_ROLE) {
                    Ok(()) => state.show_overlay(&surface),
                    Err(_) => object.post_error(Error::Role, "the surface has another role"),
                }
            }
            Request::Destroy => {}
        }
    }

    fn destroyed(state: &mut Self, _client: ClientId, object: &FencepostDebugV1, _data: &()) {
        state.globals.debug.0.retain(|listener| listener.object != *object);
    }
}
