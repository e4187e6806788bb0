//! A head: one lit display, from the buffer that is drawn to the one on the screen.
//!
//! Owns the CRTC, connector and primary plane of a [`Pipe`], its mode, its buffers, and what is in flight. A commit is a
//! transaction: *prepare* what may fail, *build* the request, *submit* it, then *apply* the new state or *roll
//! back*, chosen in [`Head::commit`] alone. Timing is decided elsewhere ([`crate::output::frame`]).

use std::os::fd::AsFd;
use std::rc::Rc;

use drm::control::crtc;
use smithay::utils::{Physical, Rectangle};

use super::blob::Blob;
use super::commit::{self, Accepted, Fences};
use super::device::{Device, Pipe};
use super::events::Flip;
use super::light;
pub use super::light::{Drawing, LightError};
use super::modes::{self, ModeRequest, Timing};
use super::props::{CrtcProp, PlaneProp};
use super::request::Request;
use super::swapchain::{BufferError, Slot, Swapchain};
use super::takeover::TurnOff;
use super::writeback::{Capture, Writeback, WritebackError};
use crate::fence::roles::{RenderFence, ScanoutFence};
use crate::output::{CommitError, Committed, Flipped};

/// Whether the hardware's state is what we believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lit {
    /// Unknown, or known to be wrong: the next commit sets everything.
    NeedsModeset,
    /// As the last commit left it.
    On,
    /// Switched off.
    Off,
}

/// A commit's buffer, on its way to the screen or on it.
#[derive(Debug)]
struct Shown {
    number: u64,
    _slot: Slot,
}

/// One display that is lit, or about to be with the first commit.
#[derive(Debug)]
pub struct Head {
    device: Rc<Device>,
    pipe: Pipe,
    timing: Timing,
    mode: Blob,
    swapchain: Swapchain,
    lit: Lit,
    pending: Option<Shown>,
    on_screen: Option<Shown>,
    /// A commit whose flip was given up on; its buffer is kept until another flip shows that it is off the screen.
    abandoned: Option<Shown>,
    commits: u64,
    writeback: Option<Writeback>,
}

impl Head {
    /// Prepares to light a display: chooses a mode and a kind of buffer that the kernel accepts for it. Nothing
    /// changes on the screen before the first commit.
    ///
    /// # Errors
    /// [`LightError`].
    pub fn new(
        device: &Rc<Device>,
        pipe: Pipe,
        mode: ModeRequest,
        drawing: Drawing<'_>,
    ) -> Result<Self, LightError> {
        let &(mode, timing) = modes::choose(&pipe.connector.modes, mode)?;
        let mode = Blob::mode(device.fd(), &mode).map_err(LightError::Blob)?;
        let swapchain = light::swapchain(device, &pipe, &mode, timing, drawing)?;
        device.claim(&pipe);
        Ok(Self {
            device: Rc::clone(device),
            pipe,
            timing,
            mode,
            swapchain,
            lit: Lit::NeedsModeset,
            pending: None,
            on_screen: None,
            abandoned: None,
            commits: 0,
            writeback: None,
        })
    }

    /// The display's name, for people: "HDMI-A-1".
    pub fn name(&self) -> &str {
        &self.pipe.connector.name
    }

    /// What it is made of.
    pub fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    /// The CRTC, by which its flips are known.
    pub fn crtc(&self) -> crtc::Handle {
        self.pipe.crtc.handle
    }

    /// The mode's size and refresh.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// A buffer to draw the next frame into. Dropping it gives it back.
    ///
    /// # Errors
    /// [`BufferError`].
    pub fn next_slot(&mut self) -> Result<Slot, BufferError> {
        self.swapchain.acquire()
    }

    /// Shows a slot at the next vblank after `render` has signalled; without `render` its pixels are final. `damage`
    /// is what differs from the frame before, all of it where that is not known.
    ///
    /// The kernel takes its own reference to the fence. Nothing on the screen has changed when this fails, the slot has
    /// gone back, and every slot is of age 0.
    ///
    /// # Errors
    /// [`CommitError`], sorted by what to do.
    pub fn commit(
        &mut self,
        slot: Slot,
        render: Option<&RenderFence>,
        damage: Option<&[Rectangle<i32, Physical>]>,
    ) -> Result<Committed, CommitError> {
        let accepted = self.prepare(damage).and_then(|prepared| {
            let wanted = self.fences(render);
            let build = |fences| self.build(&slot, &prepared, render, fences);
            let accepted = commit::submit(&self.device, prepared.modeset.is_some(), wanted, render, build)?;
            Ok((accepted, prepared.capture))
        });
        match accepted {
            Ok((accepted, capture)) => Ok(self.apply(slot, accepted, capture)),
            Err(error) => {
                self.roll_back(&error);
                Err(error)
            }
        }
    }

    /// Takes a flip of this head's CRTC: what was pending is on the screen, and what it replaced is free. `None` if
    /// nothing was pending, or the flip is another CRTC's.
    pub fn flipped(&mut self, flip: &Flip) -> Option<Flipped> {
        if flip.crtc != self.crtc() {
            return None;
        }
        let shown = self.pending.take()?;
        let number = shown.number;
        self.on_screen = Some(shown);
        self.abandoned = None;
        Some(Flipped { number, at: flip.at, sequence: flip.sequence })
    }

    /// The session is paused: the device's state is no longer ours to know. What is in flight may still flip.
    pub fn pause(&mut self) {
        if self.lit == Lit::On {
            self.lit = Lit::NeedsModeset;
        }
    }

    /// The session is back, or the output is to go on again: the next commit sets everything.
    pub fn resume(&mut self) {
        self.lit = Lit::NeedsModeset;
    }

    /// No longer waits for the flip of the commit in flight, which has not come for too long. Its buffer stays out of
    /// use until another commit has flipped.
    pub fn abandon(&mut self) {
        if let Some(shown) = self.pending.take() {
            self.abandoned = Some(shown);
            self.lit = Lit::NeedsModeset;
        }
    }

    /// Turns the display off. Blocks until it is, and until a commit in flight is done: afterwards none of our buffers
    /// is read any more, which is what whoever turns an output off wants to know.
    ///
    /// # Errors
    /// [`CommitError`]. The head counts as off all the same: it is not ours any more, or gone.
    pub fn disable(&mut self) -> Result<(), CommitError> {
        let was = std::mem::replace(&mut self.lit, Lit::Off);
        if let Some(mut writeback) = self.writeback.take() {
            // A picture that is cut off stays in vkms, and would take the place of the first of the next session.
            writeback.finish();
        }
        if was != Lit::Off && self.commits > 0 {
            let ours = TurnOff::pipe(&self.pipe);
            let off = self.device.leftovers(&self.pipe).map(|others| ours.and(others));
            off.and_then(|off| self.device.turn_off(&off)).map_err(CommitError::from_kernel)?;
        }
        (self.pending, self.on_screen, self.abandoned) = (None, None, None);
        Ok(())
    }

    /// From now on every commit's picture is also written to memory, as the hardware saw it: see [`super::writeback`].
    ///
    /// # Errors
    /// [`WritebackError`].
    pub fn enable_writeback(&mut self) -> Result<(), WritebackError> {
        let size = (u32::from(self.timing.width), u32::from(self.timing.height));
        self.writeback = Some(Writeback::new(&self.device, self.crtc(), size)?);
        self.lit = Lit::NeedsModeset;
        Ok(())
    }

    /// What writes the pictures back, if enabled.
    pub fn writeback(&mut self) -> Option<&mut Writeback> {
        self.writeback.as_mut()
    }

    fn fences(&self, render: Option<&RenderFence>) -> Fences {
        let quirks = self.device.quirks();
        Fences {
            in_fence: render.is_some()
                && !quirks.no_in_fence
                && self.pipe.primary.props.has(PlaneProp::InFenceFd),
            out_fence: !quirks.no_out_fence && self.pipe.crtc.props.has(CrtcProp::OutFencePtr),
        }
    }

    /// Everything that can fail before there is a request, and the one place that says no to a second commit in flight.
    fn prepare(&mut self, damage: Option<&[Rectangle<i32, Physical>]>) -> Result<Prepared, CommitError> {
        let modeset = match self.lit {
            Lit::Off => return Err(CommitError::Off),
            Lit::On => false,
            Lit::NeedsModeset => true,
        };
        if self.pending.is_some() {
            return Err(CommitError::Busy);
        }
        let modeset = if modeset {
            let strays = self.device.strays(&self.pipe).map_err(CommitError::from_kernel)?;
            self.device.turn_off(&strays).map_err(CommitError::from_kernel)?;
            Some(self.device.leftovers(&self.pipe).map_err(CommitError::from_kernel)?)
        } else {
            None
        };
        // The whole picture is new after a modeset.
        let damage = damage.filter(|rects| modeset.is_none() && !rects.is_empty());
        let clips = match damage.filter(|_| self.pipe.primary.props.has(PlaneProp::FbDamageClips)) {
            Some(rects) => Some(Blob::clips(self.device.fd(), rects).map_err(CommitError::Exhausted)?),
            None => None,
        };
        let capture = self.writeback.as_mut().and_then(Writeback::next_target);
        Ok(Prepared { modeset, clips, capture })
    }

    fn build<'fence>(
        &self,
        slot: &Slot,
        prepared: &Prepared,
        render: Option<&'fence RenderFence>,
        fences: Fences,
    ) -> Request<'fence> {
        let (crtc, plane) = (&self.pipe.crtc.props, &self.pipe.primary.props);
        let mut request = Request::new();
        if let Some(leftovers) = &prepared.modeset {
            leftovers.add_to(&mut request);
            light::add_modeset(&mut request, &self.pipe, &self.mode, self.timing);
        }
        request.set(plane, PlaneProp::FbId, u32::from(slot.framebuffer().handle()).into());
        if let Some(clips) = &prepared.clips {
            request.set(plane, PlaneProp::FbDamageClips, clips.id());
        }
        if let Some(render) = render.filter(|_| fences.in_fence) {
            request.in_fence(plane, render.as_fd());
        }
        if fences.out_fence {
            request.out_fence(crtc, CrtcProp::OutFencePtr);
        }
        if let Some(writeback) = &self.writeback {
            writeback.add_to(&mut request, self.crtc(), prepared.capture.as_ref());
        }
        request
    }

    fn apply(&mut self, slot: Slot, accepted: Accepted, capture: Option<Capture>) -> Committed {
        self.commits += 1;
        let number = self.commits;
        self.swapchain.committed(&slot);
        self.lit = Lit::On;
        self.pending = Some(Shown { number, _slot: slot });
        let mut out = accepted.out.into_iter();
        let out_fence = if accepted.fences.out_fence { out.next().flatten() } else { None };
        if let (Some(writeback), Some(capture)) = (&mut self.writeback, capture) {
            writeback.started(number, capture, out.next().flatten());
        }
        Committed { number, out_fence: out_fence.map(ScanoutFence::from_kernel), vblank_at: None }
    }

    fn roll_back(&mut self, error: &CommitError) {
        self.swapchain.forget_ages();
        match error {
            // Somebody else's state may be in the way of ours: set all of it next time.
            CommitError::NotMaster | CommitError::Refused(_) | CommitError::Gone(_) => self.pause(),
            CommitError::Busy
            | CommitError::Exhausted(_)
            | CommitError::RenderFence(_)
            | CommitError::Off => {}
        }
    }
}

/// What a commit needs besides its slot and fences.
struct Prepared {
    /// What to turn off along with a modeset; `None` for a flip.
    modeset: Option<TurnOff>,
    clips: Option<Blob>,
    capture: Option<Capture>,
}

impl Drop for Head {
    fn drop(&mut self) {
        if let Err(error) = self.disable() {
            tracing::debug!(%error, head = self.name(), "could not turn an output off while dropping it");
        }
        self.device.unclaim(&self.pipe);
    }
}
