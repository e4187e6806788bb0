//! The benchmarks: what things cost, counted where it can be, and as ratios where it cannot. `./run.sh bench` runs them.
//!
//! One file per case; each prints a table. Nothing here fails for being slow.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing
)]
#![allow(unused_must_use, reason = "helpers of the tests")]

#[path = "../steady/chain.rs"]
mod chain;
#[path = "../steady/counting.rs"]
mod counting;
#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../compositor/setup.rs"]
mod setup;

mod allocations;
mod scale;

const CASES: [(&str, fn()); 2] = [("allocations", allocations::run), ("scale", scale::run)];

/// The cases that are named, or all. cargo adds options of its own.
fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    for (name, run) in CASES {
        if named.is_empty() || named.iter().any(|case| case == name) {
            run();
        }
    }
}
