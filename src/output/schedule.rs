//! When to latch and where the refresh grid lies.
//!
//! Owns the rule, and what it has learnt of one output ([`Pace`]). Pure: it knows no output and no clock; the frame machine
//! ([`super::frame`]) asks, and the headless output takes its virtual vblanks from the same grid.
//!
//! The rule: *latch as late as is safe*. A frame that makes the next refresh is begun [`Pace::lead`] before it: what a frame has
//! taken of late, and a margin. So it shows what was committed until then, and a client's frame waits for its refresh half
//! a refresh on average, not one and a half. Safe is what has been seen to be: the margin begins at a millisecond, doubles
//! with each miss and shrinks slowly, and more slowly the more often that was wrong. Where nothing can be foreseen the
//! rule is the simple one, *latch at once*: on an output that does not flip on a grid, after a pause, or where a frame takes a
//! whole refresh. On an idle output both show the same.

use std::time::Duration;

/// The shortest refresh that is believed (1000 Hz). A device that claims less is wrong, and a grid of zero-length
/// refreshes would make the event loop spin.
pub const SHORTEST_REFRESH: Duration = Duration::from_millis(1);

/// Flips in a row that have to lie on the grid before it is counted on: a quarter of a second at 60 Hz.
const STEADY: u32 = 16;

/// How far from the grid a flip may lie: this part of a refresh. Timestamps of hardware are good to microseconds; an
/// emulated vblank comes when the machine gets to it.
const TOLERANCE: u32 = 8;

/// How long a flip is a base to foresee refreshes from: display and CPU clocks differ by up to 100 parts in a million, a tenth
/// of a millisecond after this time.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// The margin to begin with, and the least: a timer that is late by as much is usual under load.
const LEAST_MARGIN: Duration = Duration::from_millis(1);

/// Frames in time before the margin shrinks: two seconds at 60 Hz. Doubled with each miss, up to [`MOST_PATIENCE`].
const PATIENCE: u32 = 120;

/// Two minutes at 60 Hz: so a machine that cannot do better loses a frame in thousands to finding out.
const MOST_PATIENCE: u32 = 64 * PATIENCE;

/// The share of the time that frames take that is forgotten with each frame: half of it in 44 frames.
const FORGOTTEN: u32 = 64;

/// Every so many frames the GPU is asked when it was done, which costs system calls; in between the time until the commit
/// counts.
const ASKED: u32 = 16;

/// What is known of the frames of one output, and when to begin the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// What frames have taken of late, from when they should have been begun: an upper bound that wears off.
    cost: Duration,
    margin: Duration,
    /// Flips in a row that lay on the grid.
    steady: u32,
    /// Frames in a row that were in time.
    hits: u32,
    /// The hits that it takes for the margin to shrink.
    patience: u32,
    frames: u32,
    misses: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            cost: Duration::ZERO,
            margin: LEAST_MARGIN,
            steady: 0,
            hits: 0,
            patience: PATIENCE,
            frames: 0,
            misses: 0,
        }
    }
}

/// When to latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latch {
    /// The time.
    pub at: Duration,
    /// The refresh that it waits for the last moment of; `None` for a latch that waits for nothing.
    pub aim: Option<Duration>,
}

impl Pace {
    /// How long before a refresh its frame is begun.
    pub fn lead(&self) -> Duration {
        self.cost.saturating_add(self.margin)
    }

    /// When a frame that is wanted at `now` should be latched; never before `now`. `last` is the last flip.
    pub fn latch(&self, now: Duration, last: Option<Duration>, refresh: Duration) -> Latch {
        let at_once = Latch { at: now, aim: None };
        let is_recent = |last: &Duration| now.saturating_sub(*last) <= TRUSTED_FOR;
        let Some(last) = last.filter(is_recent).filter(|_| self.steady >= STEADY) else { return at_once };
        let next = next_refresh(now, Some(last), refresh);
        match next.saturating_sub(self.lead()) {
            // Perhaps too late, as where a frame takes a whole refresh; then no later than with the refresh after that.
            at if at <= now => at_once,
            at => Latch { at, aim: Some(next) },
        }
    }

    /// The same on a display that waits for its frames: it refreshes when one comes, but not sooner than a refresh after the
    /// one before.
    pub fn latch_variable(&self, now: Duration, last: Option<Duration>, refresh: Duration) -> Latch {
        let next = last.map(|last| last.saturating_add(refresh));
        match next.map(|next| (next, next.saturating_sub(self.lead()))) {
            Some((next, at)) if at > now => Latch { at, aim: Some(next) },
            _ => Latch { at: now, aim: None },
        }
    }

    /// A frame that should have been begun at `planned` was ready at `ready`, as far as is known.
    pub fn took(&mut self, planned: Duration, ready: Duration) {
        let kept = self.cost.saturating_sub(self.cost / FORGOTTEN);
        self.cost = ready.saturating_sub(planned).max(kept);
    }

    /// Whether the next flip is to be asked when its frame was ready.
    pub fn asks(&self) -> bool {
        self.frames.is_multiple_of(ASKED)
    }

    /// A frame that was latched for the refresh `aim`, if for any, has flipped at `at`; the flip before was at `last`. Returns
    /// whether it was missed.
    pub fn flipped(
        &mut self,
        aim: Option<Duration>,
        last: Option<Duration>,
        at: Duration,
        refresh: Duration,
    ) -> bool {
        self.frames = self.frames.wrapping_add(1);
        let on_grid =
            last.is_some_and(|last| off_grid(at.saturating_sub(last), refresh) <= refresh / TOLERANCE);
        self.steady = if on_grid { self.steady.saturating_add(1) } else { 0 };
        let Some(aim) = aim else { return false };
        if at > aim.saturating_add(refresh / 2) {
            self.misses = self.misses.saturating_add(1);
            self.margin = self.margin.saturating_mul(2).min(refresh);
            self.patience = self.patience.saturating_mul(2).min(MOST_PATIENCE);
            self.hits = 0;
            return true;
        }
        self.hits = self.hits.saturating_add(1);
        if self.hits >= self.patience {
            self.hits = 0;
            self.patience = (self.patience / 2).max(PATIENCE);
            self.margin = (self.margin - self.margin / 8).max(LEAST_MARGIN);
        }
        false
    }

    /// What frames have taken of late.
    pub fn frame_time(&self) -> Duration {
        self.cost
    }

    /// What is added to that, to be safe.
    pub fn margin(&self) -> Duration {
        self.margin
    }

    /// How many refreshes were missed that a frame was begun for at the last moment.
    pub fn misses(&self) -> u64 {
        self.misses
    }
}

/// How far a time after a flip is from the nearest refresh.
pub(super) fn off_grid(since: Duration, refresh: Duration) -> Duration {
    let into = since.as_nanos().checked_rem(refresh.as_nanos()).unwrap_or(0);
    let into = Duration::from_nanos(u64::try_from(into).unwrap_or(0));
    into.min(refresh.saturating_sub(into))
}

/// The first refresh strictly after `now`, on the grid `last + n * refresh`.
///
/// Without a refresh to start from, or with one that lies in the future, the grid starts at `now`.
pub fn next_refresh(now: Duration, last: Option<Duration>, refresh: Duration) -> Duration {
    let refresh = refresh.max(SHORTEST_REFRESH);
    let since = last.and_then(|last| now.checked_sub(last)).unwrap_or(Duration::ZERO);
    let into = since.as_nanos() % refresh.as_nanos();
    // `into` is below `refresh`, which is far below 2^64 ns.
    let into = Duration::from_nanos(u64::try_from(into).unwrap_or(0));
    now.saturating_add(refresh.saturating_sub(into))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const REFRESH: Duration = Duration::from_millis(16);

    #[test]
    fn the_next_refresh_lies_on_the_grid_and_after_now() {
        assert_eq!(next_refresh(MS(100), Some(MS(100)), MS(16)), MS(116));
        assert_eq!(next_refresh(MS(115), Some(MS(100)), MS(16)), MS(116));
        assert_eq!(next_refresh(MS(116), Some(MS(100)), MS(16)), MS(132));
        assert_eq!(next_refresh(MS(1000), Some(MS(100)), MS(16)), MS(1012));
    }

    #[test]
    fn without_a_past_refresh_the_grid_starts_now() {
        assert_eq!(next_refresh(MS(7), None, MS(16)), MS(23));
        assert_eq!(next_refresh(MS(7), Some(MS(9)), MS(16)), MS(23));
    }

    #[test]
    fn a_refresh_of_zero_length_does_not_stop_time() {
        assert_eq!(next_refresh(MS(7), Some(MS(7)), Duration::ZERO), MS(7) + SHORTEST_REFRESH);
    }

    /// A display, a timer that is late by what `late` says, and frames that take what `takes` says.
    struct Machine {
        pace: Pace,
        /// The refresh of the last flip, counted.
        shown: u64,
        flips: u64,
        /// Sum of the times from when the content was taken to its flip.
        age: Duration,
    }

    impl Machine {
        fn new() -> Self {
            Self { pace: Pace::default(), shown: 100, flips: 0, age: Duration::ZERO }
        }

        /// A client that always has something new.
        fn run(&mut self, frames: u64, late: impl Fn(u64) -> Duration, takes: impl Fn(u64) -> Duration) {
            for frame in 0..frames {
                let last = REFRESH * u32::try_from(self.shown).unwrap();
                let latch = self.pace.latch(last, Some(last), REFRESH);
                let begun = latch.at + late(frame);
                let ready = begun + takes(frame);
                let at = next_refresh(ready, Some(last), REFRESH);
                self.pace.took(latch.at, ready);
                self.pace.flipped(latch.aim, Some(last), at, REFRESH);
                self.shown += u64::try_from((at - last).as_millis() / REFRESH.as_millis()).unwrap();
                self.flips += 1;
                self.age += at - begun;
            }
        }

        fn refreshes(&self) -> u64 {
            self.shown - 100
        }
    }

    #[test]
    fn on_a_good_machine_frames_are_begun_late_and_none_is_missed() {
        let mut machine = Machine::new();
        machine.run(10_000, |_| Duration::from_micros(50), |_| MS(2));
        assert_eq!((machine.refreshes(), machine.pace.misses()), (10_000, 0));
        let age = machine.age / 10_000;
        assert!(age < MS(4), "{age:?} old on average");
    }

    #[test]
    fn without_a_steady_grid_it_is_latched_at_once() {
        let mut pace = Pace::default();
        let latch = |pace: &Pace| pace.latch(MS(1000), Some(MS(1000)), REFRESH);
        assert_eq!(latch(&pace), Latch { at: MS(1000), aim: None });
        let mut last = MS(0);
        for _ in 0..STEADY {
            pace.flipped(None, Some(last), last + REFRESH * 3, REFRESH);
            last += REFRESH * 3;
        }
        assert_eq!(latch(&pace).aim, Some(MS(1016)));
        assert_eq!(latch(&pace).at, MS(1015));
        assert_eq!(pace.latch(MS(2001), Some(MS(1000)), REFRESH).aim, None, "too long ago");
        assert_eq!(pace.latch(MS(1015), Some(MS(1000)), REFRESH).at, MS(1015), "the last moment has come");
        pace.flipped(None, Some(last), last + MS(11), REFRESH);
        assert_eq!(latch(&pace).aim, None, "off the grid");
    }

    #[test]
    fn a_display_that_waits_is_latched_for_at_once_but_not_sooner_than_it_can_refresh() {
        let pace = Pace::default();
        let latch = |now| pace.latch_variable(MS(now), Some(MS(1000)), REFRESH);
        let for_the_next = Latch { at: MS(1015), aim: Some(MS(1016)) };
        assert_eq!([latch(1000), latch(1014)], [for_the_next; 2]);
        assert_eq!(latch(1015), Latch { at: MS(1015), aim: None });
        assert_eq!(latch(1020), Latch { at: MS(1020), aim: None }, "between the refreshes of a fixed rate");
        assert_eq!(pace.latch_variable(MS(5), None, REFRESH), Latch { at: MS(5), aim: None });
    }

    #[test]
    fn frames_that_take_a_refresh_are_begun_at_once() {
        let mut machine = Machine::new();
        machine.run(1000, |_| Duration::ZERO, |_| MS(15));
        assert_eq!((machine.refreshes(), machine.pace.misses()), (1000, 0));
        assert_eq!(machine.pace.latch(MS(1600), Some(MS(1600)), REFRESH).aim, None);
    }

    #[test]
    fn a_frame_that_takes_longer_than_ever_costs_one_miss() {
        let mut machine = Machine::new();
        machine.run(500, |_| Duration::ZERO, |_| MS(2));
        machine.run(20, |_| Duration::ZERO, |_| MS(8));
        assert_eq!(machine.pace.misses(), 1);
    }

    #[test]
    fn a_miss_doubles_the_margin_and_it_shrinks_slowly() {
        let mut pace = Pace::default();
        assert!(pace.flipped(Some(MS(16)), Some(MS(0)), MS(32), REFRESH));
        assert_eq!(pace.margin, MS(2));
        let hits = (1..).find(|_| {
            pace.flipped(Some(MS(16)), Some(MS(0)), MS(16), REFRESH);
            pace.margin < MS(2)
        });
        assert_eq!(hits, Some(2 * PATIENCE));
        assert_eq!(pace.margin, Duration::from_micros(1750));
    }

    /// Timers of an emulated machine: late by anything up to 12 ms, one in five.
    #[test]
    fn where_timers_are_late_at_random_hardly_more_is_missed_than_by_latching_at_once() {
        let mut machine = Machine::new();
        let late = |frame: u64| {
            let mixed = frame.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            if mixed.is_multiple_of(5) { Duration::from_micros(mixed % 12_000) } else { Duration::ZERO }
        };
        machine.run(20_000, late, |_| MS(2));
        // By latching at once none would be missed: 12 ms and 2 ms are less than a refresh.
        let missed = machine.refreshes() - 20_000;
        assert!(missed <= 20_000 / 500, "{missed} of 20000, {:?}", machine.pace);
    }
}
