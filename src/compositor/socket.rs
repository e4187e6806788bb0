//! The Wayland socket, that of those who watch, and the file descriptors that its clients cost.
//!
//! Owns what happens when there are none left: new clients wait, those that there are notice nothing.

use std::{cell::Cell, ffi::OsStr, os::unix::net::UnixStream, rc::Rc, sync::Arc, time::Duration};

use calloop::{
    Interest, LoopHandle, Mode, PostAction,
    generic::{Generic, NoIoDrop},
    timer::{TimeoutAction, Timer},
};
use rustix::{
    net::sockopt::socket_peercred,
    process::{Resource, Rlimit, geteuid, getrlimit, setrlimit},
};
use smithay::reexports::wayland_server::ListeningSocket;

use super::{Compositor, Error, start::loop_error};
use crate::{protocol::SOCKET_SUFFIX, wayland::ClientState};

/// How long no client is accepted after one could not be.
const PAUSE: Duration = Duration::from_secs(1);

/// Opens a socket in XDG_RUNTIME_DIR: `name`, or the first free wayland-N.
pub(super) fn open(name: Option<&str>) -> Result<ListeningSocket, Error> {
    let socket = match name {
        Some(name) => ListeningSocket::bind(name),
        None => ListeningSocket::bind_auto("wayland", 1..33),
    };
    socket.map_err(|error| Error::Socket(error.to_string()))
}

/// Opens the socket of those who watch what the clients of `other` do.
pub(super) fn open_debug(other: &ListeningSocket) -> Result<ListeningSocket, Error> {
    let mut beside = name(other).to_owned();
    beside.push(SOCKET_SUFFIX);
    ListeningSocket::bind(beside).map_err(|error| Error::Socket(error.to_string()))
}

/// Accepts clients from now on.
pub(super) fn listen(
    handle: &LoopHandle<'static, Compositor>,
    socket: ListeningSocket,
    accept: fn(&mut Compositor, UnixStream),
) -> Result<(), Error> {
    let token = Rc::new(Cell::new(None));
    let callback = {
        let token = Rc::clone(&token);
        move |_, socket: &mut NoIoDrop<ListeningSocket>, state: &mut Compositor| loop {
            match socket.accept() {
                Ok(Some(stream)) => accept(state, stream),
                Ok(None) => return Ok(PostAction::Continue),
                Err(error) => {
                    tracing::warn!("no client is accepted for {PAUSE:?}: {error}");
                    let token = Rc::clone(&token);
                    let again = move |_, (): &mut (), state: &mut Compositor| {
                        if let Some(Err(error)) = token.get().map(|token| state.handle.enable(&token)) {
                            tracing::error!("clients are no longer accepted: {error}");
                        }
                        TimeoutAction::Drop
                    };
                    return match state.handle.insert_source(Timer::from_duration(PAUSE), again) {
                        Ok(_) => Ok(PostAction::Disable),
                        Err(_) => Ok(PostAction::Continue),
                    };
                }
            }
        }
    };
    let source = Generic::new(socket, Interest::READ, Mode::Level);
    token.set(Some(handle.insert_source(source, callback).map_err(loop_error)?));
    Ok(())
}

/// Lets this process have as many file descriptors as it may, and returns what its children are to have: many programs
/// take a large limit badly.
pub(super) fn raise_fd_limit() -> Rlimit {
    let inherited = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: inherited.maximum, maximum: inherited.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("clients share {:?} file descriptors: {error}", inherited.current);
    }
    inherited
}

impl Compositor {
    /// Takes a new client's end of a connection.
    pub fn accept(&mut self, stream: UnixStream) {
        #[cfg(feature = "guest")]
        crate::wayland::broken::connected();
        let pid = socket_peercred(&stream).map_or(0, |peer| peer.pid.as_raw_nonzero().get());
        self.insert(stream, pid, ClientState::new(pid));
    }

    /// As [`accept`](Self::accept), for a connection on which our user may look at what others do. Anybody else is let in
    /// as a client like all.
    pub fn accept_watcher(&mut self, stream: UnixStream) {
        match socket_peercred(&stream) {
            Ok(peer) if peer.uid == geteuid() => {
                let pid = peer.pid.as_raw_nonzero().get();
                self.insert(stream, pid, ClientState::trusted(pid));
            }
            Ok(_) | Err(_) => self.accept(stream),
        }
    }

    pub(super) fn insert(&mut self, stream: UnixStream, pid: i32, client: Arc<ClientState>) {
        match self.display.insert_client(stream, client) {
            Ok(_) => self.record.connected(pid),
            Err(error) => tracing::warn!("a client could not be accepted: {error}"),
        }
    }
}

/// The name of a socket that was opened by [`open`].
pub(super) fn name(socket: &ListeningSocket) -> &OsStr {
    socket.socket_name().unwrap_or_default()
}
