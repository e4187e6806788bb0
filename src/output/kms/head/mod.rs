//! A head: one lit display, from the buffer that is drawn to the one on the screen.
//!
//! Owns the CRTC, connector and primary plane of a [`Pipe`], its mode, its buffers, and what is in flight. A commit is a
//! transaction: *prepare* what may fail, *build* the request, *submit* it, then *apply* the new state or *roll
//! back*, chosen in [`Head::commit`] alone. Timing is decided elsewhere ([`crate::output::frame`]).

mod arrange;
mod plan;
mod vsync;

use std::os::fd::AsFd;
use std::rc::Rc;

use drm::control::crtc;
use smithay::utils::{Physical, Size};

use super::blob::Blob;
use super::commit::{self, Accepted, Fences};
use super::cursor::Cursor;
use super::device::{Device, Pipe};
use super::events::Flip;
use super::light;
pub use super::light::{Drawing, LightError};
use super::modes::{ModeRequest, Timing};
use super::proposal::Proposal;
use super::props::{CrtcProp, PlaneProp};
use super::request::Request;
use super::scanout::Plans;
use super::stack::{Planes, Stack, Which};
use super::swapchain::{BufferError, Slot, Swapchain};
use super::takeover::TurnOff;
use super::writeback::{Capture, Writeback, WritebackError};
use crate::buffer::lease::Consumer;
use crate::fence::roles::ScanoutFence;
use crate::output::layer::Frame;
use crate::output::{CommitError, Committed, Flipped};
use arrange::Next;
use vsync::Vsync;

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

/// A commit, on its way to the screen or on it.
#[derive(Debug)]
struct Shown {
    number: u64,
    stack: Stack,
    torn: bool,
}

/// One display that is lit, or about to be with the first commit.
#[derive(Debug)]
pub struct Head {
    device: Rc<Device>,
    pipe: Pipe,
    planes: Planes,
    cursor: Option<Cursor>,
    timing: Timing,
    mode: Blob,
    swapchain: Swapchain,
    lit: Lit,
    pending: Option<Shown>,
    on_screen: Option<Shown>,
    /// Commits whose flips were given up on; their buffers are kept until another flip shows that they are off the screen.
    abandoned: Vec<Shown>,
    /// The newest composed picture, which may not be on the screen.
    drawn: Option<Rc<Slot>>,
    plans: Plans,
    vsync: Vsync,
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
        Ok(Self::of(device, Proposal::new(device, pipe, mode, drawing)?))
    }

    /// A head as it was proposed.
    pub fn of(device: &Rc<Device>, proposal: Proposal) -> Self {
        let Proposal { pipe, timing, mode, swapchain, cursor } = proposal;
        device.claim(&pipe);
        let planes = Planes::of(device, &pipe);
        tracing::debug!(?planes, cursor = cursor.is_some(), "the planes of {}", pipe.connector.name);
        Self {
            device: Rc::clone(device),
            pipe,
            planes,
            cursor,
            timing,
            mode,
            swapchain,
            lit: Lit::NeedsModeset,
            pending: None,
            on_screen: None,
            abandoned: Vec::new(),
            drawn: None,
            plans: Plans::default(),
            vsync: Vsync::default(),
            commits: 0,
            writeback: None,
        }
    }

    /// Takes another mode, with the next commit. What is in flight or on the screen stays until then.
    pub fn adopt(&mut self, proposal: Proposal) {
        (self.timing, self.mode, self.swapchain) = (proposal.timing, proposal.mode, proposal.swapchain);
        self.pipe.connector = proposal.pipe.connector;
        self.drawn = None;
        self.pause();
        if self.writeback.take().is_some()
            && let Err(error) = self.enable_writeback()
        {
            tracing::warn!(%error, head = self.name(), "pictures are no longer written back");
        }
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

    /// The size of the pointer's image, if a plane can show it.
    pub fn cursor_size(&self) -> Option<Size<i32, Physical>> {
        self.cursor.as_ref().and_then(Cursor::size)
    }

    /// A buffer to draw a new pointer's image into; `None` without a plane for it.
    ///
    /// # Errors
    /// [`BufferError`].
    pub fn next_cursor_slot(&mut self) -> Result<Option<Slot>, BufferError> {
        self.cursor.as_mut().map(Cursor::next_slot).transpose()
    }

    /// Whether the pointer's image that was committed last is still there to be shown.
    pub fn has_cursor_image(&self) -> bool {
        self.cursor.as_ref().is_some_and(|cursor| cursor.shown().is_some())
    }

    /// Shows a frame at the next vblank after its fences have signalled; `None` if the screen shows just this already, and
    /// nothing was committed.
    ///
    /// What the frame displaces is released by this commit's out-fence, where there is one: it is on the clients'
    /// leases when this returns. Otherwise the leases are kept until the flip.
    ///
    /// The kernel takes its own references to fences. Nothing on the screen has changed when this fails, the slots have
    /// gone back, and every slot is of age 0.
    ///
    /// # Errors
    /// [`CommitError`], sorted by what to do.
    pub fn commit(&mut self, frame: Frame) -> Result<Option<Committed>, CommitError> {
        let plain = !frame.shows_clients() && frame.cursor.is_none();
        match self.submit(frame) {
            Ok(None) => Ok(None),
            Ok(Some((prepared, accepted))) => Ok(Some(self.apply(prepared, accepted))),
            Err(error) => {
                self.roll_back(&error, plain);
                Err(error)
            }
        }
    }

    fn submit(&mut self, frame: Frame) -> Result<Option<(Prepared, Accepted)>, CommitError> {
        let Some(prepared) = self.prepare(frame)? else { return Ok(None) };
        if let Some(accepted) = self.tear(&prepared)? {
            return Ok(Some((prepared, accepted)));
        }
        let wanted = self.fences(&prepared);
        let in_fences = prepared.next.in_fences.iter().map(|(_, fence)| fence);
        let build = |fences| self.build(&prepared, fences);
        let accepted = commit::submit(&self.device, prepared.modeset.is_some(), wanted, in_fences, build)?;
        Ok(Some((prepared, accepted)))
    }

    /// Takes a flip of this head's CRTC: what was pending is on the screen, and what it replaced is free. `None` if
    /// nothing was pending, or the flip is another CRTC's.
    pub fn flipped(&mut self, flip: &Flip) -> Option<Flipped> {
        if flip.crtc != self.crtc() {
            return None;
        }
        let shown = self.pending.take()?;
        let (number, torn) = (shown.number, shown.torn);
        self.on_screen = Some(shown);
        self.abandoned.clear();
        self.device.framebuffers().forget_gone();
        Some(Flipped { number, at: flip.at, sequence: flip.sequence, torn })
    }

    /// The session is paused: the device's state is no longer ours to know. What is in flight may still flip.
    pub fn pause(&mut self) {
        if self.lit == Lit::On {
            self.start_anew();
        }
    }

    /// The session is back, or the output is to go on again: the next commit sets everything.
    pub fn resume(&mut self) {
        self.start_anew();
        self.vsync = Vsync::default();
    }

    /// No longer waits for the flip of the commit in flight, which has not come for too long. Its buffer stays out of
    /// use until another commit has flipped.
    pub fn abandon(&mut self) {
        if let Some(shown) = self.pending.take() {
            self.abandoned.push(shown);
            self.start_anew();
        }
    }

    /// Turns the display off. Blocks until it is, and until a commit in flight is done: afterwards none of our buffers
    /// is read any more, which is what whoever turns an output off wants to know.
    ///
    /// # Errors
    /// [`CommitError`]. Nothing was turned off: the device is not ours at the moment, or gone.
    pub fn disable(&mut self) -> Result<(), CommitError> {
        let was = std::mem::replace(&mut self.lit, Lit::Off);
        if let Some(mut writeback) = self.writeback.take() {
            // A picture that is cut off stays in vkms, and would take the place of the first of the next session.
            writeback.finish();
        }
        if was != Lit::Off && self.commits > 0 {
            let ours = TurnOff::pipe(&self.pipe);
            let off = self.device.leftovers(&self.pipe).map(|others| ours.and(others));
            if let Err(error) = off.and_then(|off| self.device.turn_off(&off)) {
                self.lit = was;
                return Err(CommitError::from_kernel(error));
            }
        }
        (self.pending, self.on_screen, self.drawn) = (None, None, None);
        self.abandoned.clear();
        Ok(())
    }

    /// From now on every commit's picture is also written to memory, as the hardware saw it: see [`super::writeback`].
    ///
    /// # Errors
    /// [`WritebackError`].
    pub fn enable_writeback(&mut self) -> Result<(), WritebackError> {
        let size = (u32::from(self.timing.width), u32::from(self.timing.height));
        self.writeback = Some(Writeback::new(&self.device, self.crtc(), size)?);
        self.start_anew();
        Ok(())
    }

    /// What writes the pictures back, if enabled.
    pub fn writeback(&mut self) -> Option<&mut Writeback> {
        self.writeback.as_mut()
    }

    /// The device's state is not known, or to be another: the next commit sets everything, and every answer of the
    /// kernel's is asked for again.
    fn start_anew(&mut self) {
        self.lit = Lit::NeedsModeset;
        self.vsync.start_anew();
        self.plans.forget();
        if let Some(cursor) = &mut self.cursor {
            cursor.forgive();
        }
    }

    fn takes_in_fences(&self) -> bool {
        !self.device.quirks().no_in_fence && self.pipe.primary.props.has(PlaneProp::InFenceFd)
    }

    fn fences(&self, prepared: &Prepared) -> Fences {
        let out = !self.device.quirks().no_out_fence && self.pipe.crtc.props.has(CrtcProp::OutFencePtr);
        Fences { in_fence: !prepared.next.in_fences.is_empty() && self.takes_in_fences(), out_fence: out }
    }

    /// Everything that can fail before there is a request, and the one place that says no to a second commit in flight.
    /// `None` if the screen shows the frame already.
    fn prepare(&mut self, frame: Frame) -> Result<Option<Prepared>, CommitError> {
        let modeset = match self.lit {
            Lit::Off => return Err(CommitError::Off),
            Lit::On => false,
            Lit::NeedsModeset => true,
        };
        if self.pending.is_some() {
            return Err(CommitError::Busy);
        }
        let may_tear = frame.may_tear;
        let next = self.arrange(frame)?;
        let variable = self.vsync.change().filter(|_| !modeset);
        let before = self.on_screen.as_ref().filter(|_| !modeset).map(|shown| &shown.stack);
        if variable.is_none() && before.is_some_and(|before| next.stack.is_same_as(before)) {
            return Ok(None);
        }
        // The picture that the damage counts from is not on the screen after a modeset, or behind a client's buffer.
        let continues = before.and_then(|before| before.get(Which::Primary)).zip(self.drawn.as_ref());
        let continues = continues.is_some_and(|(shows, drawn)| shows.is_slot(drawn));
        let damage = Some(&next.damage).filter(|rects| continues && !rects.is_empty());
        let clips = match damage.filter(|_| self.pipe.primary.props.has(PlaneProp::FbDamageClips)) {
            Some(rects) => Some(Blob::clips(self.device.fd(), rects).map_err(CommitError::Exhausted)?),
            None => None,
        };
        let modeset = if modeset {
            let strays = self.device.strays(&self.pipe).map_err(CommitError::from_kernel)?;
            self.device.turn_off(&strays).map_err(CommitError::from_kernel)?;
            Some(self.device.leftovers(&self.pipe).map_err(CommitError::from_kernel)?)
        } else {
            None
        };
        let capture = self.writeback.as_mut().and_then(Writeback::next_target);
        Ok(Some(Prepared { next, modeset, clips, capture, variable, may_tear }))
    }

    fn build<'fence>(&self, prepared: &'fence Prepared, fences: Fences) -> Request<'fence> {
        let mut request = Request::new();
        let mut before = self.on_screen.as_ref().map(|shown| &shown.stack);
        if let Some(leftovers) = &prepared.modeset {
            leftovers.add_to(&mut request);
            light::add_modeset(&mut request, &self.pipe, &self.mode);
            before = None;
        }
        prepared.next.stack.add_to(&mut request, &self.planes, self.crtc(), before);
        if let Some(clips) = &prepared.clips {
            request.set(&self.pipe.primary.props, PlaneProp::FbDamageClips, clips.id());
        }
        if let Some(variable) = prepared.variable {
            request.set(&self.pipe.crtc.props, CrtcProp::VrrEnabled, variable.into());
        }
        for (which, fence) in prepared.next.in_fences.iter().filter(|_| fences.in_fence) {
            if let Some(plane) = self.planes.get(*which) {
                request.in_fence(&plane.props, fence.as_fd());
            }
        }
        if fences.out_fence {
            request.out_fence(&self.pipe.crtc.props, CrtcProp::OutFencePtr);
        }
        if let Some(writeback) = &self.writeback {
            writeback.add_to(&mut request, self.crtc(), prepared.capture.as_ref());
        }
        request
    }

    fn apply(&mut self, prepared: Prepared, accepted: Accepted) -> Committed {
        let Prepared { next, capture, variable, .. } = prepared;
        self.commits += 1;
        let (number, tears) = (self.commits, accepted.tears);
        if let Some(variable) = variable {
            self.vsync.changed(variable);
        }
        if let Some(slot) = next.drawn {
            self.swapchain.committed(&slot);
            self.drawn = Some(slot);
        }
        if let (Some(cursor), Some(image)) = (&mut self.cursor, next.cursor) {
            cursor.committed(image);
        }
        self.lit = Lit::On;
        self.pending = Some(Shown { number, stack: next.stack, torn: tears });
        let mut out = accepted.out.into_iter();
        let out_fence = if accepted.fences.out_fence { out.next().flatten() } else { None };
        let out_fence = out_fence.map(ScanoutFence::from_kernel);
        if let Some(fence) = &out_fence {
            self.release_displaced(fence);
        }
        if let (Some(writeback), Some(capture)) = (&mut self.writeback, capture) {
            writeback.started(number, capture, out.next().flatten());
        }
        Committed { number, out_fence, vblank_at: None, tears }
    }

    /// The rule of this project's name: the fence of commit N+1 releases the buffers of commit N. The framebuffers stay
    /// until the flip, as removing one that is scanned out would turn its plane off.
    fn release_displaced(&mut self, fence: &ScanoutFence) {
        let crtc = Consumer::Crtc(self.crtc().into());
        for lease in self.on_screen.iter_mut().flat_map(|shown| shown.stack.take_leases()) {
            lease.used_until(crtc, fence.as_consumer().clone());
        }
    }

    fn roll_back(&mut self, error: &CommitError, plain: bool) {
        self.swapchain.forget_ages();
        if let Some(cursor) = &mut self.cursor {
            cursor.forget_ages();
        }
        if let CommitError::Refused(_) = error {
            self.vsync.give_up();
        }
        match error {
            // The planes are to blame, and the caller tries without.
            CommitError::Refused(_) if !plain => {}
            // Somebody else's state may be in the way of ours: set all of it next time.
            CommitError::NotMaster | CommitError::Refused(_) | CommitError::Gone(_) => self.pause(),
            CommitError::Busy
            | CommitError::Exhausted(_)
            | CommitError::RenderFence(_)
            | CommitError::Off => {}
        }
    }
}

/// What a request is made of, fences apart.
struct Prepared {
    next: Next,
    /// What to turn off along with a modeset; `None` for a flip.
    modeset: Option<TurnOff>,
    clips: Option<Blob>,
    capture: Option<Capture>,
    /// Whether the display is to wait for its frames, if that changes.
    variable: Option<bool>,
    /// See [`Frame::may_tear`].
    may_tear: bool,
}

impl Drop for Head {
    fn drop(&mut self) {
        if let Err(error) = self.disable() {
            tracing::debug!(%error, head = self.name(), "could not turn an output off while dropping it");
        }
        self.device.unclaim(&self.pipe);
    }
}
