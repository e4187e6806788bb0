//! Which refresh will show what is latched next: what content with a target time goes by.
//!
//! Owns the arithmetic. Pure: [`super::frame`] says what it knows of an output, and `now` is passed in.

use std::time::Duration;

use super::schedule;

/// How long a flip is a base to foresee refreshes from. Display and CPU clocks differ by up to 100 parts in a million;
/// after this time the grid may be off by a tenth of a millisecond.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// What is foreseen of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Content that is applied now is shown at this time or later.
    pub presents_at: Duration,
    /// The refreshes to come are at `last + n * length`, where that can be told.
    grid: Option<(Duration, Duration)>,
}

impl Forecast {
    /// The forecast for an output whose last flip was at `last`.
    ///
    /// `in_flight` is when the commit in flight was made: its flip has to come before another frame's can. Without a
    /// recent flip nothing is foreseen, and content may be shown at once.
    pub fn new(now: Duration, last: Option<Duration>, length: Duration, in_flight: Option<Duration>) -> Self {
        let length = length.max(schedule::SHORTEST_REFRESH);
        let Some(last) = last.filter(|last| now.saturating_sub(*last) <= TRUSTED_FOR) else {
            return Self { presents_at: now, grid: None };
        };
        let next = schedule::next_refresh(in_flight.unwrap_or(now), Some(last), length);
        let presents_at = match in_flight {
            // A flip that is late makes this too early, never too late: the content then waits for the latch.
            Some(_) => next.saturating_add(length),
            None => next,
        };
        Self { presents_at: presents_at.max(now), grid: Some((last, length)) }
    }

    /// When to look again, so that content that is latched then is shown at the first refresh that is not before
    /// `target`: right after the refresh before that one. Where nothing is foreseen, at `target` itself.
    pub fn wake_for(&self, target: Duration) -> Duration {
        let Some((last, length)) = self.grid else { return target };
        let Some(ahead) = target.checked_sub(last).filter(|ahead| !ahead.is_zero()) else {
            return Duration::ZERO;
        };
        let into = ahead.as_nanos().checked_rem(length.as_nanos()).unwrap_or(0);
        // Shorter than `length`, which is far below 2^64 ns.
        let into = u64::try_from(into).map_or(Duration::ZERO, Duration::from_nanos);
        target.saturating_sub(if into.is_zero() { length } else { into })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn idle(now: u64) -> Forecast {
        Forecast::new(MS(now), Some(MS(1000)), MS(10), None)
    }

    #[test]
    fn an_idle_output_shows_what_is_latched_now_at_its_next_refresh() {
        assert_eq!(idle(1000).presents_at, MS(1010));
        assert_eq!(idle(1023).presents_at, MS(1030));
    }

    #[test]
    fn behind_a_commit_in_flight_there_is_one_refresh_more() {
        let busy = |now, since| Forecast::new(MS(now), Some(MS(1000)), MS(10), Some(MS(since))).presents_at;
        assert_eq!(busy(1001, 1001), MS(1020));
        assert_eq!(busy(1009, 1001), MS(1020));
        // Late: the flip may come at any moment.
        assert_eq!(busy(1025, 1001), MS(1025));
    }

    #[test]
    fn without_a_recent_flip_nothing_is_foreseen() {
        for last in [None, Some(MS(1000))] {
            let forecast = Forecast::new(MS(2001), last, MS(10), None);
            assert_eq!(forecast.presents_at, MS(2001));
            assert_eq!(forecast.wake_for(MS(3000)), MS(3000));
        }
    }

    #[test]
    fn content_is_woken_for_right_after_the_refresh_before_the_one_that_shows_it() {
        assert_eq!(idle(1003).wake_for(MS(1035)), MS(1030));
        assert_eq!(idle(1003).wake_for(MS(1031)), MS(1030));
        // A refresh that is exactly at the target meets it.
        assert_eq!(idle(1003).wake_for(MS(1030)), MS(1020));
        assert_eq!(idle(1003).wake_for(MS(1010)), MS(1000));
        assert_eq!(idle(1003).wake_for(MS(1000)), MS(0));
        assert!(idle(1003).wake_for(Duration::MAX) > Duration::from_secs(u64::MAX - 1));
    }

    #[test]
    fn a_wake_up_is_never_too_early_to_be_of_use() {
        for target in 1001..1100 {
            let wake = idle(1000).wake_for(MS(target));
            let at_wake = Forecast::new(wake, Some(MS(1000)), MS(10), None);
            assert!(at_wake.presents_at >= MS(target), "{target}: {at_wake:?}");
            assert!(at_wake.presents_at < MS(target + 10), "{target}: {at_wake:?}");
        }
    }
}
