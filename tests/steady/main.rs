//! What a commit costs in the steady state, counted: the allocations of the pure chain.

#![cfg(test)]

mod chain;
mod counting;

use chain::Chain;
use counting::allocations;
const FRAMES: u64 = 1_000;

/// The allocations of a frame, once everything has its size.
fn per_frame(late: bool) -> f64 {
    let mut chain = Chain::new();
    (0..10).for_each(|_| chain.frame(late));
    let counted = allocations(|| (0..FRAMES).for_each(|_| chain.frame(late)));
    assert_eq!(chain.counts(), (FRAMES + 10, FRAMES + 9), "all but the buffer shown were released");
    counted as f64 / FRAMES as f64
}

#[test]
fn a_commit_allocates_its_lease_and_its_fences_and_nothing_else() {
    // The lease, and the list of the fences that end its uses.
    assert_eq!(per_frame(false), 2.0);
    // And the list of the fences that it waits for.
    assert_eq!(per_frame(true), 3.0);
}
