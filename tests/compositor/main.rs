//! The whole compositor in the test's process, with clients of it: what needs neither dma-bufs nor syncobjs. Those are in
//! `tests/vm/`, with the same setup.

// Always so here. It tells clippy that the helpers are tests too, and may panic.
#![cfg(test)]

#[path = "../fixture/fake_parent.rs"]
mod fake_parent;
#[path = "../fixture/mod.rs"]
mod fixture;

mod bad_requests;
mod capture;
mod debug;
mod gpu_loss;
mod hidden;
mod hints;
mod input;
mod kept;
mod nested;
mod nested_input;
mod nested_manners;
mod nested_view;
mod output_management;
mod outputs;
mod paced;
mod pacing;
mod parent;
mod popups;
mod setup;
mod shm;
mod single_pixel;
mod stepped;
mod subsurfaces;
mod turned;
mod watcher;
mod windows;
