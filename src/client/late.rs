//! Late fences: when the content of a frame comes, and the fence that the client owes until then.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use crate::fence::timeline::{Point, TimelineError};
use crate::sys::dma_buf::{self, Access};
use crate::sys::{sw_sync, vgem};

/// How late the fences of the frames are (`--fence-ms`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lateness {
    /// This much after the commit.
    After(Duration),
    /// The last frame's fence never signals; those before it are on time.
    Never,
}

impl FromStr for Lateness {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            ms => match ms.parse::<u32>() {
                Ok(ms) => Ok(Self::After(Duration::from_millis(ms.into()))),
                Err(_) => Err(format!("`{ms}` is neither a number of milliseconds nor `never`")),
            },
        }
    }
}

/// When a frame's fence signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// As soon as its content is there, which is before the commit.
    None,
    /// This long after the commit.
    After(Duration),
    /// Not at all.
    Never,
}

/// Frames that are on time before the one that never comes, where `--frames` does not say.
const FRAMES_BEFORE_NEVER: u64 = 10;

/// The delay of every frame.
#[derive(Debug, Clone)]
pub struct Plan {
    lateness: Option<Lateness>,
    random: bool,
    state: u64,
    last_frame: u64,
}

impl Plan {
    /// `frames` is the number of frames, 0 for no end. With `random` each fence is late by anything up to
    /// `lateness`, the same for the same `seed`.
    pub fn new(lateness: Option<Lateness>, random: bool, seed: u64, frames: u64) -> Self {
        let last_frame = if frames == 0 { FRAMES_BEFORE_NEVER + 1 } else { frames };
        Self { lateness, random, state: seed, last_frame }
    }

    /// The delay of frame `frame`; they count from 1.
    pub fn delay(&mut self, frame: u64) -> Delay {
        match self.lateness {
            None => Delay::None,
            Some(Lateness::Never) if frame >= self.last_frame => Delay::Never,
            Some(Lateness::Never) => Delay::None,
            Some(Lateness::After(most)) if self.random => {
                let range = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
                Delay::After(Duration::from_nanos(self.next_random() % range))
            }
            Some(Lateness::After(delay)) => Delay::After(delay),
        }
    }

    /// SplitMix64: small, and good enough to be late by.
    fn next_random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// Why a fence could not be made or signalled.
#[derive(Debug, thiserror::Error)]
pub enum LateError {
    /// On a timeline.
    #[error(transparent)]
    Timeline(#[from] TimelineError),
    /// With sw_sync.
    #[error(
        "Could not make a late implicit fence with {}: it needs CONFIG_SW_SYNC, debugfs and root",
        sw_sync::PATH
    )]
    SwSync(#[source] std::io::Error),
    /// Linux 6.0.
    #[error("Could not put a fence in a dma-buf")]
    Import(#[source] std::io::Error),
    /// With vgem. `ETIMEDOUT`: it was later than the 10 s that vgem allows.
    #[error("Could not signal a vgem fence")]
    Vgem(#[source] std::io::Error),
}

/// A fence that the client has promised and will signal.
#[derive(Debug)]
#[must_use = "a fence that is dropped fails or never signals"]
pub enum Pledge {
    /// An acquire point, unmaterialised until it is signalled.
    Point(Point),
    /// A fence of its own sw_sync timeline, so that fences can be signalled in any order.
    SwSync(OwnedFd),
    /// A fence of the vgem card, by its number.
    Vgem(Rc<OwnedFd>, u32),
}

impl Pledge {
    /// Makes everyone who uses the dma-buf implicitly wait for a new fence.
    ///
    /// # Errors
    /// [`LateError::SwSync`], [`LateError::Import`].
    pub fn in_dma_buf(dma_buf: BorrowedFd<'_>) -> Result<Self, LateError> {
        let timeline = sw_sync::open_timeline().map_err(LateError::SwSync)?;
        let fence = sw_sync::create_fence(timeline.as_fd(), 1).map_err(LateError::SwSync)?;
        dma_buf::import_sync_file(dma_buf, Access::Write, fence.as_fd()).map_err(LateError::Import)?;
        Ok(Self::SwSync(timeline))
    }

    /// The same with vgem's own fences, for a buffer of `card`.
    ///
    /// # Errors
    /// [`LateError::Vgem`].
    pub fn in_vgem_buffer(card: Rc<OwnedFd>, gem_handle: u32) -> Result<Self, LateError> {
        let fence = vgem::attach_fence(card.as_fd(), gem_handle, Access::Write).map_err(LateError::Vgem)?;
        Ok(Self::Vgem(card, fence))
    }

    /// Signals it: the content is there.
    ///
    /// # Errors
    /// [`LateError`].
    pub fn keep(self) -> Result<(), LateError> {
        match self {
            Self::Point(point) => Ok(point.signal()?),
            Self::SwSync(timeline) => sw_sync::increment(timeline.as_fd(), 1).map_err(LateError::SwSync),
            Self::Vgem(card, fence) => vgem::signal_fence(card.as_fd(), fence).map_err(LateError::Vgem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS_40: Lateness = Lateness::After(Duration::from_millis(40));

    #[test]
    fn the_option_is_milliseconds_or_never() {
        assert_eq!("40".parse(), Ok(MS_40));
        assert_eq!("never".parse(), Ok(Lateness::Never));
        for wrong in ["", "-1", "1.5", "Never", "40ms"] {
            assert!(wrong.parse::<Lateness>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn frames_are_on_time_unless_asked_otherwise() {
        assert_eq!(Plan::new(None, false, 1, 0).delay(1), Delay::None);
        assert_eq!(Plan::new(Some(MS_40), false, 1, 0).delay(1), Delay::After(Duration::from_millis(40)));
    }

    #[test]
    fn never_is_the_last_frame_only() {
        let mut plan = Plan::new(Some(Lateness::Never), false, 1, 3);
        assert_eq!([1, 2, 3].map(|frame| plan.delay(frame)), [Delay::None, Delay::None, Delay::Never]);
        let mut endless = Plan::new(Some(Lateness::Never), false, 1, 0);
        let first_never = (1..100).find(|frame| endless.delay(*frame) == Delay::Never);
        assert_eq!(first_never, Some(FRAMES_BEFORE_NEVER + 1));
    }

    #[test]
    fn random_delays_stay_below_the_limit_differ_and_come_again_with_the_seed() {
        let delays = |seed| {
            let mut plan = Plan::new(Some(MS_40), true, seed, 0);
            (1..500).map(|frame| plan.delay(frame)).collect::<Vec<_>>()
        };
        let first = delays(1);
        assert_eq!(first, delays(1));
        assert_ne!(first, delays(2));
        let millis = |delay: &Delay| match delay {
            Delay::After(delay) => delay.as_millis(),
            other => panic!("{other:?}"),
        };
        assert!(first.iter().map(millis).all(|delay| delay <= 40));
        assert!(first.iter().any(|delay| millis(delay) < 4) && first.iter().any(|delay| millis(delay) > 36));
    }
}
