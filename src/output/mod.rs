//! Outputs: where frames go, and when.
//!
//! One [`frame::FrameMachine`] per output decides when to latch; a [`Head`] takes the frame. The caller owns the drawing:
//!
//! ```text
//! Action::Latch ─► head.plan(items) ─► head.next_slot() ─► draw the rest into slot.target() ─► head.commit(Frame)
//!        ▲                                                                 │ Committed { out_fence, vblank_at }
//!        └────────── machine.flipped() ◄── Flipped ◄── flip event, or head.vblank() at vblank_at
//! ```
//!
//! A [`layer::Frame`] is what the planes are to show: the composed picture, clients' buffers, the pointer.
//!
//! Knows neither Wayland nor the renderer. A closed set of back ends behind one enum; each `match` is all there is to it.

pub mod display;
pub mod forecast;
pub mod frame;
pub mod headless;
pub mod kms;
pub mod layer;
pub mod layout;
pub mod nested;
pub mod planes;
pub mod proposal;
mod ring;
pub mod schedule;
pub mod turn;
pub mod vsync;

use std::io;
use std::time::Duration;

use rustix::fs::Dev;
use smithay::backend::allocator::dmabuf::Dmabuf;
use smithay::backend::allocator::format::FormatSet;
use smithay::utils::{Physical, Size};

use crate::fence::roles::ScanoutFence;
use frame::Outcome;
use kms::swapchain::{BufferError, Pixels};
use layer::{Advice, Frame, Item, Primary};
use planes::Place;

/// An output that is lit.
#[derive(Debug)]
pub enum Head {
    /// A display of a KMS device.
    Kms(Box<kms::head::Head>),
    /// No display: a size and a refresh.
    Headless(headless::Head),
    /// A window of a parent compositor.
    Nested(nested::Head),
}

/// A place for the next frame.
#[derive(Debug)]
#[must_use = "a slot that is dropped goes back unused"]
pub enum Slot {
    /// A buffer that will be scanned out.
    Kms(kms::swapchain::Slot),
    /// The renderer's own; nobody but it will see the frame.
    Headless,
    /// A buffer that a parent compositor reads.
    Nested(nested::buffers::Slot),
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
    /// It waits for no vblank, and may be seen to replace what was there: see [`Frame::may_tear`].
    pub tears: bool,
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
    /// It waited for no vblank; `at` is of the one before.
    pub torn: bool,
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
            Self::Nested(slot) => Ok(match slot.fill() {
                nested::buffers::Fill::Draw(dmabuf) => Target::Dmabuf(dmabuf),
                nested::buffers::Fill::Copy(pixels) => Target::Pixels(pixels),
            }),
        }
    }

    /// How many frames old the content is: 1 is the frame committed last, 0 undefined.
    pub fn age(&self) -> usize {
        match self {
            Self::Kms(slot) => slot.age(),
            Self::Headless => 1,
            Self::Nested(slot) => slot.age(),
        }
    }
}

impl Head {
    /// The output's name, for people and for `wl_output.name`.
    pub fn name(&self) -> &str {
        match self {
            Self::Kms(head) => head.name(),
            Self::Headless(head) => head.name(),
            Self::Nested(head) => head.name(),
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
            Self::Nested(head) => return head.mode(),
        };
        smithay::output::Mode { size, refresh: i32::try_from(refresh).unwrap_or(i32::MAX) }
    }

    /// The length of a refresh, for the frame machine and `wp_presentation`.
    pub fn refresh(&self) -> Duration {
        match self {
            Self::Kms(head) => head.timing().refresh(),
            Self::Headless(head) => head.refresh(),
            Self::Nested(head) => {
                let mhz = u64::try_from(head.mode().refresh).unwrap_or(0);
                let ns = 1_000_000_000_000_u64.checked_div(mhz).unwrap_or(0);
                Duration::from_nanos(ns).max(schedule::SHORTEST_REFRESH)
            }
        }
    }

    /// Width and height of the display in millimetres; zero where unknown.
    pub fn size_mm(&self) -> (u32, u32) {
        match self {
            Self::Kms(head) => head.pipe().connector.size_mm,
            Self::Headless(_) | Self::Nested(_) => (0, 0),
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
            Self::Nested(head) => head.next_slot().map(Slot::Nested),
        }
    }

    /// Which planes show `items`, which are in order from the top: see [`kms::head::Head::plan`].
    pub fn plan(&mut self, items: &[Item], cursor: bool) -> Vec<Place> {
        match self {
            Self::Kms(head) => head.plan(items, cursor),
            Self::Headless(_) => vec![Place::Composed; items.len()],
            Self::Nested(head) => head.plan(items),
        }
    }

    /// A frame of this plan was refused: see [`kms::head::Head::refuse`].
    pub fn refuse(&mut self, items: &[Item], cursor: bool) {
        match self {
            Self::Kms(head) => head.refuse(items, cursor),
            Self::Headless(_) => {}
            Self::Nested(head) => head.refuse(items),
        }
    }

    /// What the client of the topmost item should know: see [`kms::head::Head::advice`].
    pub fn advice(&self, item: &Item) -> Advice {
        match self {
            Self::Kms(head) => head.advice(item),
            Self::Headless(_) | Self::Nested(_) => Advice::NoPlane,
        }
    }

    /// The device that scans out and what its primary plane takes; `None` where nothing is scanned out.
    pub fn scanout(&self) -> Option<(Dev, FormatSet)> {
        match self {
            Self::Kms(head) => head.scanout(),
            Self::Headless(_) | Self::Nested(_) => None,
        }
    }

    /// Whether the display can wait for frames, instead of refreshing at a fixed rate.
    pub fn can_vary(&self) -> bool {
        match self {
            Self::Kms(head) => head.can_vary(),
            Self::Headless(_) | Self::Nested(_) => false,
        }
    }

    /// Whether the display is to wait for its frames, from the next commit on. Returns whether it will: see
    /// [`kms::head::Head::set_variable`].
    pub fn set_variable(&mut self, wanted: bool) -> bool {
        match self {
            Self::Kms(head) => head.set_variable(wanted),
            Self::Headless(_) | Self::Nested(_) => false,
        }
    }

    /// Whether frames can be shown without waiting for a vblank: see [`Frame::may_tear`].
    pub fn can_tear(&self) -> bool {
        match self {
            Self::Kms(head) => head.can_tear(),
            Self::Headless(_) | Self::Nested(_) => false,
        }
    }

    /// The size of the pointer's image, if a plane can show it.
    pub fn cursor_size(&self) -> Option<Size<i32, Physical>> {
        match self {
            Self::Kms(head) => head.cursor_size(),
            Self::Headless(_) => None,
            Self::Nested(head) => head.cursor_size(),
        }
    }

    /// A place to draw a new pointer's image; `None` without a plane for it.
    ///
    /// # Errors
    /// [`BufferError`].
    pub fn next_cursor_slot(&mut self) -> Result<Option<Slot>, BufferError> {
        match self {
            Self::Kms(head) => Ok(head.next_cursor_slot()?.map(Slot::Kms)),
            Self::Headless(_) => Ok(None),
            Self::Nested(head) => Ok(head.next_cursor_slot()?.map(Slot::Nested)),
        }
    }

    /// Whether the pointer's image that was committed last is still there to be shown.
    pub fn has_cursor_image(&self) -> bool {
        match self {
            Self::Kms(head) => head.has_cursor_image(),
            Self::Headless(_) => false,
            Self::Nested(head) => head.has_cursor_image(),
        }
    }

    /// Shows a frame at the first vblank after its fences have signalled; `None` if that is on the screen already, and
    /// nothing was committed. At most one commit is in flight.
    ///
    /// # Errors
    /// [`CommitError`]; the slots have gone back, and every slot is of age 0.
    pub fn commit(&mut self, frame: Frame, now: Duration) -> Result<Option<Committed>, CommitError> {
        let _span = tracing::trace_span!("scan-out").entered();
        let mut frame = frame;
        if let Self::Nested(head) = self {
            head.point(frame.cursor.take())?;
        }
        match (self, frame.primary) {
            (Self::Kms(head), primary) => head.commit(Frame { primary, ..frame }),
            (Self::Headless(head), Primary::Drawn { slot: Slot::Headless, render, .. }) => {
                head.commit(render, now).map(Some)
            }
            (Self::Nested(head), Primary::Drawn { slot: Slot::Nested(slot), render, damage }) => {
                head.commit(&slot, render.as_ref(), &damage).map(Some)
            }
            (Self::Nested(head), Primary::Same) => head.commit_same(),
            (Self::Nested(head), Primary::Direct(layer)) => head.commit_direct(*layer),
            (Self::Headless(_), Primary::Same) => Ok(None),
            (Self::Headless(_) | Self::Nested(_), Primary::Drawn { .. } | Primary::Direct(_)) => {
                tracing::error!("another back end's frame was committed to an output without planes");
                Err(CommitError::Off)
            }
        }
    }

    /// Takes a flip event of a KMS device: see [`kms::head::Head::flipped`].
    pub fn flipped(&mut self, flip: &kms::events::Flip) -> Option<Flipped> {
        match self {
            Self::Kms(head) => head.flipped(flip),
            Self::Headless(_) | Self::Nested(_) => None,
        }
    }

    /// The parent says something of a commit: see [`nested::Head::heard`].
    pub fn heard(&mut self, number: u64, word: nested::Word, now: Duration) -> Option<Flipped> {
        match self {
            Self::Nested(head) => head.heard(number, word, now),
            Self::Kms(_) | Self::Headless(_) => None,
        }
    }

    /// Whether it flips on a grid that a latch can be planned by: not a window, nor a display that is stepped.
    pub fn has_steady_vblanks(&self) -> bool {
        match self {
            Self::Kms(_) => true,
            Self::Headless(head) => !head.is_stepped(),
            Self::Nested(_) => false,
        }
    }

    /// The time of [`Committed::vblank_at`] has come: see [`headless::Head::vblank`].
    pub fn vblank(&mut self, now: Duration) -> headless::Vblank {
        match self {
            Self::Kms(_) | Self::Nested(_) => headless::Vblank::Idle,
            Self::Headless(head) => head.vblank(now),
        }
    }

    /// The session is paused. Pause the frame machine too.
    pub fn pause(&mut self) {
        match self {
            Self::Kms(head) => head.pause(),
            Self::Headless(_) | Self::Nested(_) => {}
        }
    }

    /// The session is back, or the output goes on again. Resume the frame machine too.
    pub fn resume(&mut self) {
        match self {
            Self::Kms(head) => head.resume(),
            Self::Headless(head) => head.resume(),
            Self::Nested(head) => head.resume(),
        }
    }

    /// Turns the output off; afterwards none of its buffers is read. Pause the frame machine too.
    ///
    /// # Errors
    /// [`CommitError`]: it was not turned off.
    pub fn disable(&mut self) -> Result<(), CommitError> {
        match self {
            Self::Kms(head) => head.disable(),
            Self::Headless(head) => {
                head.disable();
                Ok(())
            }
            Self::Nested(head) => {
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
            Self::Nested(head) => head.abandon(),
        }
    }
}
