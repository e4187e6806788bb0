//! Ending a client's connection with a word: the errors that are not any protocol's.
//!
//! Owns the choice of the code. Must not know why a client has to go; the caller says that.

use std::{ffi::CString, fmt::Display};

use smithay::reexports::wayland_server::{Client, DisplayHandle};

/// The protocol id of the `wl_display` of every connection.
const WL_DISPLAY: u32 = 1;

/// `wl_display.error.no_memory`; the server side has no enum for its own object.
const NO_MEMORY: u32 = 2;

/// `wl_display.error.implementation`.
const IMPLEMENTATION: u32 = 3;

/// Disconnects a client that exhausts what it may hold (I8).
pub(crate) fn exhausted(display: &DisplayHandle, client: &Client, bound: &impl Display) {
    post(display, client, NO_MEMORY, bound);
}

/// Disconnects a client that would wait for ever for something that this compositor cannot do any more.
pub(crate) fn failed(display: &DisplayHandle, client: &Client, reason: &impl Display) {
    post(display, client, IMPLEMENTATION, reason);
}

/// Not with `Client::kill`: that hangs up without a word.
fn post(display: &DisplayHandle, client: &Client, code: u32, reason: &impl Display) {
    let handle = display.backend_handle();
    let mut connection = None;
    let found = handle.with_all_objects_for(client.id(), |object| {
        if object.protocol_id() == WL_DISPLAY {
            connection = Some(object);
        }
    });
    if let (Ok(()), Some(connection)) = (found, connection) {
        let message = CString::new(reason.to_string()).unwrap_or_default();
        handle.post_error(connection, code, message);
    }
}
