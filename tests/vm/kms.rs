//! What only a kernel with KMS can show; runs in the rig (`./run.sh test vm`).

// All of this is tests, their helpers too.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

#[path = "../dmabuf/server.rs"]
mod dmabuf_server;
#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../compositor/setup.rs"]
mod setup;

mod bounds;
mod client;
mod dmabuf;
mod faults;
mod fences;
mod harness;
mod implicit;
mod liveness;
mod scanout;
mod session;
mod sync_app;
mod sync_trees;
mod syncobj_errors;
mod syncobj_points;
