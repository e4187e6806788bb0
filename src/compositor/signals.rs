//! Signals: what ends the compositor, what a child's end tells, who asks for the newest events, and steps.
//!
//! Through a handler that writes to a socket, not a signalfd: that would need the signals blocked, and children would
//! inherit the block.

use std::os::unix::net::UnixStream;

use calloop::{Interest, LoopHandle, Mode, PostAction, generic::Generic};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use super::{Compositor, Error, start::loop_error};
use crate::trace::dump;

/// SIGINT and SIGTERM end the compositor, SIGCHLD says that a child has ended, SIGUSR1 has the newest events written,
/// SIGUSR2 is a step of the virtual displays that are stepped. Several of the same that come together may be one.
pub(super) fn watch(handle: &LoopHandle<'static, Compositor>) -> Result<(), Error> {
    on(handle, &[SIGINT, SIGTERM], |state| {
        tracing::info!("asked to end by a signal");
        state.stop.stop();
    })?;
    on(handle, &[SIGCHLD], |state| {
        if let Some(status) = state.children.reap() {
            tracing::info!("the client has ended: {status}");
            state.stop.stop();
        }
    })?;
    on(handle, &[SIGUSR1], |_| dump::dump_and_tell("asked for with SIGUSR1"))?;
    on(handle, &[SIGUSR2], Compositor::step)
}

fn on(
    handle: &LoopHandle<'static, Compositor>,
    signals: &[i32],
    act: fn(&mut Compositor),
) -> Result<(), Error> {
    let (reader, writer) = UnixStream::pair().map_err(loop_error)?;
    reader.set_nonblocking(true).map_err(loop_error)?;
    for signal in signals {
        let writer = writer.try_clone().map_err(loop_error)?;
        signal_hook::low_level::pipe::register(*signal, writer).map_err(loop_error)?;
    }
    let source = Generic::new(reader, Interest::READ, Mode::Level);
    let inserted = handle.insert_source(source, move |_, stream, state| {
        drain(stream);
        act(state);
        Ok(PostAction::Continue)
    });
    inserted.map(drop).map_err(loop_error)
}

/// Empties a signal's socket: how many bytes there are says nothing.
fn drain(stream: &UnixStream) {
    let mut stream = stream;
    let mut bytes = [0; 64];
    while std::io::Read::read(&mut stream, &mut bytes).is_ok_and(|read| read > 0) {}
}
