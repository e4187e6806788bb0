//! Random runs: whatever clients, fences, the GPU, outputs and a refusing kernel may do, in any order, from a seed.
//!
//! Every step is checked. A run that fails prints its seed and its last steps; `./run.sh test sim SEED` runs it again.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use fencepost::output::frame::Outcome;

use crate::action::{Acquire, Action, Coverage, Fault};
use crate::checker::Broken;
use crate::model::{Model, SURFACES_PER_CLIENT};

/// Steps of one run. Only those that were possible count.
pub(crate) const STEPS: usize = 10_000;

/// Runs with seeds that are always the same; one more has the time for its seed.
const RUNS: u64 = 24;

/// Steps shown of a run that failed.
const SHOWN: usize = 40;

const CLIENTS: usize = 3;
const OUTPUTS: usize = 3;

/// splitmix64, by Sebastiano Vigna: small, and every seed is as good as the next.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn acquire(&mut self) -> Acquire {
        match self.below(4) {
            0 => Acquire::Done,
            1 => Acquire::Unmaterialised,
            _ => Acquire::Pending,
        }
    }

    fn client_action(&mut self) -> Action {
        let surface = self.below(CLIENTS * SURFACES_PER_CLIENT);
        match self.below(200) {
            0 => Action::CommitWrongly { surface },
            1..3 => Action::Burst { surface },
            3 => Action::Disconnect { client: self.below(CLIENTS) },
            4..10 => Action::Destroy { surface },
            10..14 => Action::Detach { surface },
            14..40 => Action::AskFrame { surface },
            40..60 => Action::Connect { client: self.below(CLIENTS) },
            60..80 => {
                let outputs = self.below(1 << OUTPUTS) as u32;
                Action::Create { surface, copied: self.one_in(4), outputs }
            }
            80..110 => {
                let acquires = [self.acquire(), self.acquire()];
                let twice = self.one_in(4);
                Action::CommitTree { parent: surface, child: surface ^ 1, acquires, twice }
            }
            _ => Action::Commit { surface, acquire: self.acquire(), implicit: self.one_in(4) },
        }
    }

    fn output_action(&mut self) -> Action {
        let output = self.below(OUTPUTS);
        match self.below(100) {
            0..2 => Action::Unplug { output },
            2..12 => Action::Plug { output },
            12..15 => Action::Pause { output },
            15..25 => Action::Resume { output },
            25..30 => Action::Direct { output, direct: self.one_in(2) },
            30..33 => {
                let outcome = if self.one_in(4) { Outcome::Lost } else { Outcome::Retry };
                Action::RefuseCommit { output, outcome }
            }
            33..66 => Action::Timer { output },
            _ => Action::Vblank { output },
        }
    }

    fn action(&mut self) -> Action {
        match self.below(100) {
            0..30 => self.client_action(),
            30..65 => self.output_action(),
            65..78 => Action::Gpu,
            78..83 => Action::Materialise { fence: self.below(1 << 16) },
            83..96 => Action::Signal { fence: self.below(1 << 16) },
            96 => Action::Fail { fence: self.below(1 << 16) },
            97 if self.one_in(2) => Action::RefuseMerge,
            97 => Action::RefuseSignals,
            98 => Action::RefuseImport,
            _ => Action::Wait { ms: self.below(200) as u64 },
        }
    }
}

/// What a failed run leaves.
pub(crate) struct Failure {
    pub(crate) broken: Broken,
    step: usize,
    log: VecDeque<Action>,
}

impl Failure {
    fn print(&self, seed: u64) {
        eprintln!(
            "seed {seed}, step {}: {:?} is broken: {}",
            self.step, self.broken.invariant, self.broken.what
        );
        eprintln!("the last steps:");
        self.log.iter().for_each(|action| eprintln!("  {action:?}"));
        eprintln!("again: ./run.sh test sim {seed}");
    }
}

/// One run from a seed.
pub(crate) fn run(seed: u64, steps: usize, fault: Option<Fault>) -> Result<Coverage, Failure> {
    let mut random = Random(seed);
    let mut model = Model::new(CLIENTS, OUTPUTS, fault);
    model.steady = !seed.is_multiple_of(2);
    let mut log = VecDeque::new();
    let mut step = 0;
    while step < steps {
        let action = random.action();
        if log.len() == SHOWN {
            log.pop_front();
        }
        log.push_back(action);
        match model.act(action) {
            Ok(true) => step += 1,
            Ok(false) => drop(log.pop_back()),
            Err(broken) => return Err(Failure { broken, step, log }),
        }
    }
    match model.quiesce() {
        Ok(()) => Ok(model.coverage),
        Err(broken) => Err(Failure { broken, step, log }),
    }
}

fn seeds() -> Vec<u64> {
    if let Ok(seed) = std::env::var("FENCEPOST_SIM_SEED") {
        return vec![seed.parse().expect("FENCEPOST_SIM_SEED is a number")];
    }
    let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    (0..RUNS).chain([time.as_nanos() as u64]).collect()
}

#[test]
fn no_order_of_random_steps_breaks_an_invariant() {
    let seeds = seeds();
    println!("seeds: {seeds:?}");
    let mut total = Coverage::default();
    for seed in &seeds {
        match run(*seed, STEPS, None) {
            Ok(coverage) => total.add(&coverage),
            Err(failure) => {
                failure.print(*seed);
                panic!("the run with seed {seed} failed");
            }
        }
    }
    println!("{} steps; {total:?}", STEPS * seeds.len());
    if seeds.len() == 1 {
        return;
    }
    assert!(STEPS * seeds.len() >= 100_000);
    // A run that never gets into a corner proves nothing about it.
    for (what, often, at_least) in total.each() {
        assert!(often >= at_least, "{what}: only {often}, and {at_least} are expected");
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let runs = [0, 1].map(|_| run(7, 500, None).map_err(|failure| failure.print(7)).expect("a run"));
    assert_eq!(runs[0], runs[1]);
}
