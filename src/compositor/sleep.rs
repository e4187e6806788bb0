//! The machine has slept: every output shows a full frame again, with everything set anew.
//!
//! Owns how that is noticed, without a service to ask and without waking up for it: the kernel cancels timers of the
//! wall clock when that clock is set, and it sets it after every sleep; and only a sleep makes CLOCK_BOOTTIME run ahead
//! of CLOCK_MONOTONIC. Timers, flips and presentation times are on CLOCK_MONOTONIC, which stands still meanwhile, so that
//! no frame is late for having slept.

use std::{io, os::fd::OwnedFd, time::Duration};

use calloop::{Interest, Mode, PostAction, generic::Generic};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

use super::Compositor;
use crate::trace;

/// What the two clocks may drift apart between two looks, for having been read one after the other.
const TOLERANCE: Duration = Duration::from_millis(100);

/// How long the machine has slept since it was started.
fn slept() -> Duration {
    let boottime = clock_gettime(ClockId::Boottime);
    let boottime =
        Duration::new(boottime.tv_sec.try_into().unwrap_or(0), boottime.tv_nsec.try_into().unwrap_or(0));
    boottime.saturating_sub(trace::now())
}

/// Whether a sleep lies between two looks, and keeps the newer one.
fn has_slept(known: &mut Duration, slept: Duration) -> bool {
    let before = std::mem::replace(known, slept);
    slept.saturating_sub(before) > TOLERANCE
}

/// A timer that never ends, and is cancelled when the wall clock is set.
fn cancelled_when_set() -> io::Result<OwnedFd> {
    let fd = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    arm(&fd)?;
    Ok(fd)
}

fn arm(fd: &OwnedFd) -> io::Result<()> {
    const CENTURY_S: i64 = 100 * 365 * 24 * 3600;
    let at = clock_gettime(ClockId::Realtime).tv_sec.saturating_add(CENTURY_S);
    let never =
        Itimerspec { it_interval: Timespec::default(), it_value: Timespec { tv_sec: at, tv_nsec: 0 } };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(fd, flags, &never)?;
    Ok(())
}

impl Compositor {
    /// Has every sleep of the machine noticed when it is over.
    pub(super) fn watch_for_sleep(&self) {
        let inserted = cancelled_when_set().and_then(|fd| {
            let mut known = slept();
            let source = Generic::new(fd, Interest::READ, Mode::Level);
            let on_set = move |_, fd: &mut calloop::generic::NoIoDrop<OwnedFd>, state: &mut Self| {
                // Says ECANCELED, which is why we are here, and is readable until it has been asked.
                let _cancelled = rustix::io::read(&**fd, &mut [0; 8]);
                arm(fd)?;
                if has_slept(&mut known, slept()) {
                    state.woke();
                }
                Ok(PostAction::Continue)
            };
            self.handle.insert_source(source, on_set).map_err(io::Error::other)
        });
        if let Err(error) = inserted {
            tracing::warn!("a sleep of the machine is not noticed: {error}");
        }
    }

    fn woke(&mut self) {
        tracing::info!("the machine has slept; every output is drawn anew");
        self.look_for_lost_devices();
        if !self.backend.is_active() {
            return;
        }
        for id in self.screens.ids() {
            let action = self.screens.get_mut(id).filter(|screen| screen.powered).and_then(|screen| {
                screen.head.resume();
                screen.canvas.forget();
                screen.damaged(trace::now())
            });
            self.act(id, action);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_has_run_ahead_since_the_last_look_tells_of_a_sleep() {
        let ms = Duration::from_millis;
        let mut known = ms(5000);
        assert!(!has_slept(&mut known, ms(5001)), "the clock was only set");
        assert!(has_slept(&mut known, ms(9000)));
        assert!(!has_slept(&mut known, ms(9000)), "once for each sleep");
    }

    #[test]
    fn a_timer_that_ends_in_a_century_can_be_had() {
        assert!(cancelled_when_set().is_ok());
    }
}
