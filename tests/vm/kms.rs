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
#[path = "../fixture/fake_parent.rs"]
mod fake_parent;
#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../compositor/paced.rs"]
mod paced;
#[path = "../compositor/setup.rs"]
mod setup;
#[path = "../compositor/watcher.rs"]
mod watcher;

mod bounds;
mod caps;
mod capture;
mod chain;
mod client;
mod crowd;
mod debug;
mod dmabuf;
mod endings;
mod faults;
mod fences;
mod gpu_loss;
mod harness;
mod held;
mod idle;
mod implicit;
mod invariants;
mod isolation;
mod latching;
mod late;
mod ledger;
mod liveness;
mod nested;
mod pacing;
mod planes;
mod policy;
mod probe;
mod probe_broken;
mod readers;
mod scanout;
mod scarce;
mod session;
mod soak;
mod sync_app;
mod sync_trees;
mod syncobj_errors;
mod syncobj_points;
mod trace;
mod trouble;
