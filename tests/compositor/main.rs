//! The whole compositor in the test's process, with clients of it: what needs neither dma-bufs nor syncobjs. Those are in
//! `tests/vm/`, with the same setup.

// Always so here. It tells clippy that the helpers are tests too, and may panic.
#![cfg(test)]

#[path = "../fixture/mod.rs"]
mod fixture;

mod bad_requests;
mod input;
mod popups;
mod setup;
mod shm;
mod subsurfaces;
mod windows;
