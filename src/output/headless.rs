//! An output without a display: a size, a refresh, and a vblank that comes from a timer of the caller's.
//!
//! Behaves as KMS does where it matters: one commit in flight, which flips at the first vblank after its render fence has
//! signalled. Or the vblank comes by command, whenever that is. Owns no buffer: the renderer draws where it likes. Sees no
//! clock; `now` is passed in.

use std::time::Duration;

use smithay::utils::{Physical, Size};

use super::{CommitError, Committed, Flipped, schedule};
use crate::fence::Fence;
use crate::fence::roles::RenderFence;

/// One virtual display.
#[derive(Debug)]
pub struct Head {
    name: String,
    size: Size<i32, Physical>,
    refresh_mhz: u32,
    /// Where the vblank grid begins.
    origin: Duration,
    on: bool,
    /// How many vblanks there were, if they come by command.
    steps: Option<u32>,
    pending: Option<(u64, Option<RenderFence>)>,
    commits: u64,
}

/// What a virtual vblank brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Vblank {
    /// The commit in flight is "on the screen".
    Flipped(Flipped),
    /// Its fence has not signalled; ask again at the next vblank, which is at this time.
    Late(Duration),
    /// Nothing is in flight.
    Idle,
}

impl Head {
    /// A display of this size whose vblanks lie on a grid that starts at `origin`. A rate of 0 counts as 60 Hz.
    pub fn new(
        name: impl Into<String>,
        size: Size<i32, Physical>,
        refresh_mhz: u32,
        origin: Duration,
    ) -> Self {
        let refresh_mhz = believable(refresh_mhz);
        Self {
            name: name.into(),
            size,
            refresh_mhz,
            origin,
            on: true,
            steps: None,
            pending: None,
            commits: 0,
        }
    }

    /// Takes another mode, whose vblanks start at `origin`. What is in flight flips as it would have.
    pub fn set_mode(&mut self, size: Size<i32, Physical>, refresh_mhz: u32, origin: Duration) {
        (self.size, self.refresh_mhz, self.origin) = (size, believable(refresh_mhz), origin);
    }

    /// The same display, whose vblanks are [`step`](Self::step)s.
    #[must_use]
    pub fn stepped(self) -> Self {
        Self { steps: Some(0), ..self }
    }

    /// Whether its vblanks come by command.
    pub fn is_stepped(&self) -> bool {
        self.steps.is_some()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size in pixels.
    pub fn size(&self) -> Size<i32, Physical> {
        self.size
    }

    /// Its refresh rate.
    pub fn refresh_mhz(&self) -> u32 {
        self.refresh_mhz
    }

    /// The length of a refresh.
    pub fn refresh(&self) -> Duration {
        let ns = 1_000_000_000_000_u64.checked_div(u64::from(self.refresh_mhz));
        Duration::from_nanos(ns.unwrap_or(0)).max(schedule::SHORTEST_REFRESH)
    }

    /// Puts a frame in flight, to flip at [`Committed::vblank_at`] at the earliest, or with the next step.
    ///
    /// # Errors
    /// [`CommitError::Off`], [`CommitError::Busy`].
    pub fn commit(&mut self, render: Option<RenderFence>, now: Duration) -> Result<Committed, CommitError> {
        if !self.on {
            return Err(CommitError::Off);
        }
        if self.pending.is_some() {
            return Err(CommitError::Busy);
        }
        self.commits += 1;
        self.pending = Some((self.commits, render));
        let vblank_at = (!self.is_stepped()).then(|| self.next_vblank(now));
        Ok(Committed { number: self.commits, out_fence: None, vblank_at, tears: false })
    }

    /// A vblank by command: flips what is in flight, now, when its drawing has ended; that is waited for, so that it depends
    /// on nothing else what a step shows. Does nothing on a display whose vblanks come by themselves.
    ///
    /// # Errors
    /// Those of the wait; the frame is still in flight.
    pub fn step(&mut self, now: impl Fn() -> Duration) -> std::io::Result<Option<Flipped>> {
        let Some(steps) = &mut self.steps else { return Ok(None) };
        if let Some((_, Some(fence))) = &self.pending {
            fence.as_consumer().wait()?;
        }
        *steps = steps.wrapping_add(1);
        let sequence = *steps;
        Ok(self.pending.take().map(|(number, _)| Flipped { number, at: now(), sequence, torn: false }))
    }

    /// A vblank: flips what is in flight, if its fence has signalled.
    pub fn vblank(&mut self, now: Duration) -> Vblank {
        match self.pending.take() {
            None => Vblank::Idle,
            Some((number, Some(fence))) if !is_done_by(&fence, self.last_vblank(now)) => {
                self.pending = Some((number, Some(fence)));
                Vblank::Late(self.next_vblank(now))
            }
            Some((number, _)) => {
                let at = self.last_vblank(now);
                Vblank::Flipped(Flipped { number, at, sequence: self.count_until(at), torn: false })
            }
        }
    }

    /// Goes on after [`Head::disable`].
    pub fn resume(&mut self) {
        self.on = true;
    }

    /// Drops what is in flight and takes no more.
    pub fn disable(&mut self) {
        self.on = false;
        self.pending = None;
    }

    /// Drops what is in flight.
    pub fn abandon(&mut self) {
        self.pending = None;
    }

    fn last_vblank(&self, now: Duration) -> Duration {
        self.next_vblank(now).saturating_sub(self.refresh()).max(self.origin)
    }

    fn next_vblank(&self, now: Duration) -> Duration {
        schedule::next_refresh(now, Some(self.origin), self.refresh())
    }

    /// The vblank counter; it wraps like the kernel's.
    fn count_until(&self, at: Duration) -> u32 {
        let count = at.saturating_sub(self.origin).as_nanos().checked_div(self.refresh().as_nanos());
        let wrapped = count.unwrap_or(0) & u128::from(u32::MAX);
        u32::try_from(wrapped).unwrap_or(0)
    }
}

fn believable(refresh_mhz: u32) -> u32 {
    if refresh_mhz == 0 { 60_000 } else { refresh_mhz }
}

/// Whether the fence had signalled at this time: the caller's timer may be late, and a frame that was ready after the vblank
/// has missed it all the same.
fn is_done_by(fence: &RenderFence, at: Duration) -> bool {
    let signalled_at = fence.as_consumer().signalled_at_ns().ok().flatten().map(Duration::from_nanos);
    fence.status().is_done() && signalled_at.is_none_or(|signalled_at| signalled_at <= at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// 100 Hz, vblanks at 1000 ms, 1010 ms and so on.
    fn head() -> Head {
        Head::new("HEADLESS-1", (640, 480).into(), 100_000, MS(1000))
    }

    #[test]
    fn a_commit_flips_at_the_next_vblank_of_the_grid() {
        let mut head = head();
        let committed = head.commit(None, MS(1013)).expect("a commit");
        assert_eq!((committed.number, committed.vblank_at), (1, Some(MS(1020))));
        // The timer is a little late; the vblank was not.
        let flipped = Flipped { number: 1, at: MS(1020), sequence: 2, torn: false };
        assert_eq!(head.vblank(MS(1021)), Vblank::Flipped(flipped));
        assert_eq!(head.vblank(MS(1030)), Vblank::Idle);
    }

    #[test]
    fn a_second_commit_in_flight_is_refused() {
        let mut head = head();
        head.commit(None, MS(1001)).expect("the first");
        assert!(matches!(head.commit(None, MS(1002)), Err(CommitError::Busy)));
    }

    #[test]
    fn a_stepped_display_flips_when_it_is_told_to_and_at_no_other_time() {
        let mut head = head().stepped();
        let committed = head.commit(None, MS(1013)).expect("a commit");
        assert_eq!(committed.vblank_at, None);
        let flipped = head.step(|| MS(5000)).expect("a step");
        assert_eq!(flipped, Some(Flipped { number: 1, at: MS(5000), sequence: 1, torn: false }));
        assert_eq!(head.step(|| MS(5001)).expect("a step"), None, "nothing is in flight");
        head.commit(None, MS(5002)).expect("another commit");
        let flipped = head.step(|| MS(5003)).expect("a step").expect("a flip");
        assert_eq!((flipped.number, flipped.sequence), (2, 3));
    }

    #[test]
    fn a_disabled_output_drops_its_frame_and_takes_none() {
        let mut head = head();
        head.commit(None, MS(1001)).expect("a commit");
        head.disable();
        assert_eq!(head.vblank(MS(1010)), Vblank::Idle);
        assert!(matches!(head.commit(None, MS(1012)), Err(CommitError::Off)));
        head.resume();
        assert!(head.commit(None, MS(1012)).is_ok());
    }
}
