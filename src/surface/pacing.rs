//! When content may be shown, apart from fences: the constraints of fifo-v1 and commit-timing-v1.
//!
//! Owns what a commit may ask for. Must not know outputs, Wayland objects or a clock. [`super::queue`] keeps the
//! constraints with the commits; when a target time is reached is the outputs' forecast (`output::forecast`).

use std::time::Duration;

use crate::halves::whole;

/// How often a surface that nobody sees gets on: its fifo barriers are cleared and its frame callbacks sent ten times a
/// second.
///
/// Slower than any refresh, so that nothing gets faster by being hidden, and a client that draws for nobody costs little.
/// Fast enough that a client which blocks on its frames still answers its user, and `xdg_wm_base.ping`, at once.
pub const HIDDEN_INTERVAL: Duration = Duration::from_millis(100);

/// What a commit demands besides its fences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// `wp_fifo_v1.set_barrier`: once applied, the surface has a barrier until an output has latched it.
    pub set_barrier: bool,
    /// `wp_fifo_v1.wait_barrier`: not to be applied while the surface has one.
    pub wait_barrier: bool,
    /// `wp_commit_timer_v1.set_timestamp`: not to be shown before this time of the presentation clock.
    pub not_before: Option<Duration>,
}

impl Constraints {
    /// Whether it demands nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The time that a client's `tv_sec_hi`, `tv_sec_lo` and `tv_nsec` mean; `None` where they mean none.
pub fn timestamp(sec_hi: u32, sec_lo: u32, nsec: u32) -> Option<Duration> {
    const NANOS_PER_SEC: u32 = 1_000_000_000;
    (nsec < NANOS_PER_SEC).then(|| Duration::new(whole(sec_hi, sec_lo), nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_has_64_bits_of_seconds_and_less_than_a_second_of_nanoseconds() {
        assert_eq!(timestamp(0, 7, 999_999_999), Some(Duration::new(7, 999_999_999)));
        assert_eq!(timestamp(1, 2, 0), Some(Duration::from_secs((1 << 32) + 2)));
        assert_eq!(timestamp(u32::MAX, u32::MAX, 0), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(timestamp(0, 0, 1_000_000_000), None);
    }
}
