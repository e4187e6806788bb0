//! Allocations of the pure chain, per commit in the steady state.

use crate::chain::Chain;
use crate::counting::allocations;

const FRAMES: u64 = 10_000;

fn per_commit(late: bool) -> f64 {
    let mut chain = Chain::new();
    (0..10).for_each(|_| chain.frame(late));
    let (before, _) = chain.counts();
    let counted = allocations(|| (0..FRAMES).for_each(|_| chain.frame(late)));
    let (after, _) = chain.counts();
    counted as f64 / (after - before) as f64
}

pub(crate) fn run() {
    println!("| allocations of surface/, buffer/lease and fence/release | per commit |");
    println!("|---|---:|");
    println!("| ready when committed | {:.2} |", per_commit(false));
    println!("| its fence is late | {:.2} |\n", per_commit(true));
}
