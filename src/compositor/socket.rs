//! The Wayland socket, and the file descriptors that its clients cost.
//!
//! Owns what happens when there are none left: new clients wait, those that there are notice nothing.

use std::{cell::Cell, ffi::OsStr, os::unix::net::UnixStream, rc::Rc, time::Duration};

use calloop::{
    Interest, LoopHandle, Mode, PostAction,
    generic::{Generic, NoIoDrop},
    timer::{TimeoutAction, Timer},
};
use rustix::{
    net::sockopt::socket_peercred,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use smithay::reexports::wayland_server::ListeningSocket;

use super::{Compositor, Error, start::loop_error};
use crate::wayland::ClientState;

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

/// Accepts clients from now on.
pub(super) fn listen(handle: &LoopHandle<'static, Compositor>, socket: ListeningSocket) -> Result<(), Error> {
    let token = Rc::new(Cell::new(None));
    let callback = {
        let token = Rc::clone(&token);
        move |_, socket: &mut NoIoDrop<ListeningSocket>, state: &mut Compositor| loop {
            match socket.accept() {
                Ok(Some(stream)) => state.accept(stream),
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
        let pid = socket_peercred(&stream).map_or(0, |peer| peer.pid.as_raw_nonzero().get());
        match self.display.insert_client(stream, ClientState::new(pid)) {
            Ok(_) => self.record.connected(pid),
            Err(error) => tracing::warn!("a client could not be accepted: {error}"),
        }
    }
}

/// The name of a socket that was opened by [`open`].
pub(super) fn name(socket: &ListeningSocket) -> &OsStr {
    socket.socket_name().unwrap_or_default()
}
