//! Whether one thing slows another, by measurements of a machine that may be busy with something else. Pure.

use std::time::Duration;

use super::verdict::{Outcome, Stop};

/// Rounds after which there is nothing more to learn.
const MOST: u32 = 8;

/// Below this nothing is slowed.
const SAME: f64 = 1.2;

/// Up to this it may be the machine.
const LIKE: f64 = 1.5;

/// Above this, twice, it is not.
const FAR: f64 = 5.0;

/// How long the same frames take alone, and beside something. The best of the rounds count: a machine that is busy slows some
/// of them, and makes none faster.
#[derive(Debug)]
pub(super) struct Rates {
    alone: Duration,
    beside: Duration,
    rounds: u32,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self { alone: Duration::MAX, beside: Duration::MAX, rounds: 0 }
    }

    /// Takes note of a round.
    pub(super) fn add(&mut self, alone: Duration, beside: Duration) {
        self.alone = self.alone.min(alone);
        self.beside = self.beside.min(beside);
        self.rounds += 1;
    }

    /// Whether another round would change nothing: once is not enough for either answer.
    pub(super) fn is_sure(&self) -> bool {
        let (same, far) = (self.beside < self.times(SAME), self.beside > self.times(FAR));
        self.rounds >= MOST || (self.rounds > 1 && (same || far))
    }

    /// What the rounds come to.
    pub(super) fn outcome(&self, frames: u32) -> Outcome {
        let Self { alone, beside, rounds } = self;
        let seen =
            format!("{frames} frames in {alone:.0?} alone, in {beside:.0?} beside it, in {rounds} rounds");
        match self.beside < self.times(LIKE) {
            true => Ok(seen),
            false => Err(Stop::Fail(seen)),
        }
    }

    fn times(&self, factor: f64) -> Duration {
        Duration::try_from_secs_f64(self.alone.as_secs_f64() * factor).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measures until it is sure; the last round is repeated.
    fn measured(rounds: &[(u64, u64)]) -> (Outcome, u32) {
        let mut rates = Rates::new();
        let mut rounds = rounds.iter().copied().chain(std::iter::repeat(*rounds.last().expect("a round")));
        while !rates.is_sure() {
            let (alone, beside) = rounds.next().expect("endless");
            rates.add(Duration::from_millis(alone), Duration::from_millis(beside));
        }
        (rates.outcome(30), rates.rounds)
    }

    #[test]
    fn what_is_not_slowed_passes_after_two_rounds() {
        let (outcome, rounds) = measured(&[(500, 510)]);
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(rounds, 2);
    }

    #[test]
    fn what_is_slowed_in_every_round_fails_and_far_slower_fails_soon() {
        let (outcome, rounds) = measured(&[(500, 900)]);
        assert!(matches!(outcome, Err(Stop::Fail(_))), "{outcome:?}");
        assert_eq!(rounds, MOST);
        let (outcome, rounds) = measured(&[(500, 5_000)]);
        assert!(matches!(outcome, Err(Stop::Fail(_))), "{outcome:?}");
        assert_eq!(rounds, 2);
    }

    #[test]
    fn rounds_in_which_the_machine_was_busy_decide_nothing() {
        let (outcome, rounds) = measured(&[(500, 1_200), (900, 1_000), (700, 520)]);
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(rounds, 3);
        let (outcome, _) = measured(&[(500, 5_000), (520, 540)]);
        assert!(outcome.is_ok(), "one slow round was believed: {outcome:?}");
    }

    #[test]
    fn a_machine_that_slows_the_first_half_only_hides_nothing() {
        let (outcome, _) = measured(&[(2_000, 2_000), (500, 1_000)]);
        assert!(matches!(outcome, Err(Stop::Fail(_))), "{outcome:?}");
    }
}
