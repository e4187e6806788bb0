//! Outputs: where frames go, and when.
//!
//! One [`frame::FrameMachine`] per output decides when to latch; a [`Head`] takes the frame. The caller owns the drawing:
//!
//! ```text
//! Action::Latch ─► head.next_slot() ─► draw into slot.target() ─► head.commit(slot, RenderFence, damage, now)
//!        ▲                                                                 │ Committed { out_fence, vblank_at }
//!        └────────── machine.flipped() ◄── Flipped ◄── flip event, or head.vblank() at vblank_at
//! ```
//!
//! Knows neither Wayland nor the renderer. A closed set of back ends behind one enum; each `match` is all there is to it.

pub mod frame;
pub mod headless;
pub mod kms;
pub mod schedule;

use std::io;
use std::time::Duration;

use smithay::backend::allocator::dmabuf::Dmabuf;
use smithay::utils::{Physical, Rectangle, Size};

use crate::fence::roles::{RenderFence, ScanoutFence};
use frame::Outcome;
use kms::swapchain::{BufferError, Pixels};

/// An output that is lit.
#[derive(Debug)]
pub enum Head {
    /// A display of a KMS device.
    Kms(Box<kms::head::Head>),
    /// No display: a size and a refresh.
    Headless(headless::Head),
}

/// A place for the next frame.
#[derive(Debug)]
#[must_use = "a slot that is dropped goes back unused"]
pub enum Slot {
    /// A buffer that will be scanned out.
    Kms(kms::swapchain::Slot),
    /// The renderer's own; nobody but it will see the frame.
    Headless,
}

/// How to fill a slot.
#[derive(Debug)]
pub enum Target<'slot> {
    /// Draw into this, and pass the fence of the drawing to [`Head::commit`].
    Dmabuf(&'slot Dmabuf),
    /// Copy the finished frame into this, and end the access before the commit.
    Pixels(Pixels<'slot>),
    /// Draw wherever you like.
    Own,
}

/// What a commit gave.
#[derive(Debug)]
pub struct Committed {
    /// The commit's number on this head, from 1.
    pub number: u64,
    /// Signals with the flip of this commit, and so releases what the commit *before* showed. `None` where the device
    /// gives none: then the flip is the release.
    pub out_fence: Option<ScanoutFence>,
    /// When to call [`Head::vblank`], on outputs whose flips no kernel announces.
    pub vblank_at: Option<Duration>,
}

/// A commit reached the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flipped {
    /// The commit's number on this head.
    pub number: u64,
    /// When: the kernel's timestamp, CLOCK_MONOTONIC.
    pub at: Duration,
    /// The vblank counter. It wraps.
    pub sequence: u32,
}

/// Why a commit was not made, by what to do about it. Nothing on the screen has changed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An earlier commit on this CRTC has not flipped: ours, or one that the driver added to somebody's modeset.
    #[error("Could not commit: the CRTC is busy with an earlier commit")]
    Busy,
    /// The VT was switched away, or somebody else took the device.
    #[error("Could not commit: this process is not the device's master at the moment")]
    NotMaster,
    /// The device or the display is gone.
    #[error("Could not commit: the device or its connector is gone")]
    Gone(#[source] io::Error),
    /// The kernel refuses this configuration, with or without fences.
    #[error("Could not commit: the kernel refuses the configuration")]
    Refused(#[source] io::Error),
    /// Out of memory, file descriptors or whatever the driver needs.
    #[error("Could not commit: the kernel is short of resources")]
    Exhausted(#[source] io::Error),
    /// The device takes no in-fence, and the GPU did not finish in time.
    #[error("Could not wait for the render fence before a commit without in-fence")]
    RenderFence(#[source] io::Error),
    /// The output is off.
    #[error("Could not commit: the output is switched off")]
    Off,
}

impl CommitError {
    /// What it means for the frame.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotMaster | Self::Gone(_) | Self::Off => Outcome::Lost,
            Self::Busy | Self::Refused(_) | Self::Exhausted(_) | Self::RenderFence(_) => Outcome::Retry,
        }
    }
}

impl Slot {
    /// Where to draw.
    ///
    /// # Errors
    /// Those of DMA_BUF_IOCTL_SYNC, for [`Target::Pixels`].
    pub fn target(&mut self) -> io::Result<Target<'_>> {
        match self {
            Self::Kms(slot) => match slot.is_mapped() {
                true => slot.pixels().map(Target::Pixels),
                false => Ok(Target::Dmabuf(slot.dmabuf())),
            },
            Self::Headless => Ok(Target::Own),
        }
    }

    /// How many frames old the content is: 1 is the frame committed last, 0 undefined.
    pub fn age(&self) -> usize {
        match self {
            Self::Kms(slot) => slot.age(),
            Self::Headless => 1,
        }
    }
}

impl Head {
    /// The output's name, for people and for `wl_output.name`.
    pub fn name(&self) -> &str {
        match self {
            Self::Kms(head) => head.name(),
            Self::Headless(head) => head.name(),
        }
    }

    /// The size and refresh rate, as `wl_output.mode` has them.
    pub fn mode(&self) -> smithay::output::Mode {
        let (size, refresh) = match self {
            Self::Kms(head) => {
                let timing = head.timing();
                (Size::from((i32::from(timing.width), i32::from(timing.height))), timing.refresh_mhz())
            }
            Self::Headless(head) => (head.size(), head.refresh_mhz()),
        };
        smithay::output::Mode { size, refresh: i32::try_from(refresh).unwrap_or(i32::MAX) }
    }

    /// The length of a refresh, for the frame machine and `wp_presentation`.
    pub fn refresh(&self) -> Duration {
        match self {
            Self::Kms(head) => head.timing().refresh(),
            Self::Headless(head) => head.refresh(),
        }
    }

    /// Width and height of the display in millimetres; zero where unknown.
    pub fn size_mm(&self) -> (u32, u32) {
        match self {
            Self::Kms(head) => head.pipe().connector.size_mm,
            Self::Headless(_) => (0, 0),
        }
    }

    /// A place to draw the next frame.
    ///
    /// # Errors
    /// [`BufferError`].
    pub fn next_slot(&mut self) -> Result<Slot, BufferError> {
        match self {
            Self::Kms(head) => head.next_slot().map(Slot::Kms),
            Self::Headless(_) => Ok(Slot::Headless),
        }
    }

    /// Shows a slot at the first vblank after `render` has signalled; without `render` its pixels are final. `damage`
    /// is what differs from the frame before, all of it where that is not known. At most one commit is in flight.
    ///
    /// # Errors
    /// [`CommitError`]; the slot has gone back, and every slot is of age 0.
    pub fn commit(
        &mut self,
        slot: Slot,
        render: Option<RenderFence>,
        damage: Option<&[Rectangle<i32, Physical>]>,
        now: Duration,
    ) -> Result<Committed, CommitError> {
        match (self, slot) {
            (Self::Kms(head), Slot::Kms(slot)) => head.commit(slot, render.as_ref(), damage),
            (Self::Headless(head), Slot::Headless) => head.commit(render, now),
            (Self::Kms(_), Slot::Headless) | (Self::Headless(_), Slot::Kms(_)) => {
                tracing::error!("a slot was committed to another output's head");
                Err(CommitError::Off)
            }
        }
    }

    /// Takes a flip event of a KMS device: see [`kms::head::Head::flipped`].
    pub fn flipped(&mut self, flip: &kms::events::Flip) -> Option<Flipped> {
        match self {
            Self::Kms(head) => head.flipped(flip),
            Self::Headless(_) => None,
        }
    }

    /// The time of [`Committed::vblank_at`] has come: see [`headless::Head::vblank`].
    pub fn vblank(&mut self, now: Duration) -> headless::Vblank {
        match self {
            Self::Kms(_) => headless::Vblank::Idle,
            Self::Headless(head) => head.vblank(now),
        }
    }

    /// The session is paused. Pause the frame machine too.
    pub fn pause(&mut self) {
        match self {
            Self::Kms(head) => head.pause(),
            Self::Headless(_) => {}
        }
    }

    /// The session is back, or the output goes on again. Resume the frame machine too.
    pub fn resume(&mut self) {
        match self {
            Self::Kms(head) => head.resume(),
            Self::Headless(head) => head.resume(),
        }
    }

    /// Turns the output off; afterwards none of its buffers is read. Pause the frame machine too.
    ///
    /// # Errors
    /// [`CommitError`]; the head counts as off all the same.
    pub fn disable(&mut self) -> Result<(), CommitError> {
        match self {
            Self::Kms(head) => head.disable(),
            Self::Headless(head) => {
                head.disable();
                Ok(())
            }
        }
    }

    /// Gives up waiting for a flip that does not come; the companion of [`frame::FrameMachine::abandon`].
    pub fn abandon(&mut self) {
        match self {
            Self::Kms(head) => head.abandon(),
            Self::Headless(head) => head.abandon(),
        }
    }
}
