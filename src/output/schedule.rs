//! When to latch and where the refresh grid lies: two pure functions.
//!
//! Owns the rule. Knows no output, no clock and no state: the frame machine ([`super::frame`]) asks, and the headless
//! output takes its virtual vblanks from the same grid.
//!
//! The rule today: *latch as soon as a frame may be started*. On an idle output that is at once; behind a flip it
//! is the moment of that flip. A frame then has a whole refresh to render in, and a commit that comes just after
//! the latch waits a whole refresh for the next one.
//!
//! A later rule may wait until `next_refresh - (render time + margin)`, which trades that refresh of latency
//! against the risk of a miss. It belongs in [`latch_at`], and nothing else has to change: the machine already arms a
//! timer for whatever this function answers.

use std::time::Duration;

/// The shortest refresh that is believed (1000 Hz). A device that claims less is wrong, and a grid of zero-length
/// refreshes would make the event loop spin.
pub const SHORTEST_REFRESH: Duration = Duration::from_millis(1);

/// The time at which a frame that is wanted at `now` should be latched; never before `now`.
///
/// `_last` is the last refresh seen (a flip's timestamp), `_refresh` its length: what a prediction would start from.
pub fn latch_at(now: Duration, _last: Option<Duration>, _refresh: Duration) -> Duration {
    now
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
}
