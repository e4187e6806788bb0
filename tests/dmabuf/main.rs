//! linux-dmabuf-v1 as a client sees it. Rules D1 to D9 are those of the protocol's errors.

// Always so here. It tells clippy that the helpers are tests too, and may panic.
#![cfg(test)]

#[path = "../fixture/mod.rs"]
mod fixture;

mod buffers;
mod errors;
mod feedback;
mod server;
