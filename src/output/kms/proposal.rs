//! A proposal: a display with a mode and buffers that the kernel would take, before anything changes.
//!
//! Owns the test of several of them together, so that a new configuration is taken as a whole or not at all. What follows
//! from a refusal is the caller's.

use std::rc::Rc;

use drm::control::AtomicCommitFlags as Flags;
use drm::control::crtc;

use super::blob::Blob;
use super::cursor::Cursor;
use super::device::{Device, Pipe};
use super::light::{self, Drawing, LightError};
use super::modes::{self, ModeRequest, Timing};
use super::props::ConnectorProp;
use super::request::Request;
use super::stack::Shows;
use super::swapchain::Swapchain;
use super::takeover::TurnOff;
use crate::output::CommitError;

/// How a display would be lit.
#[derive(Debug)]
pub struct Proposal {
    pub(super) pipe: Pipe,
    pub(super) timing: Timing,
    pub(super) mode: Blob,
    pub(super) swapchain: Swapchain,
    /// The plane for the pointer's image, with buffers that fit it.
    pub(super) cursor: Option<Cursor>,
}

impl Proposal {
    /// Chooses a mode and a kind of buffer that the kernel accepts for this display alone.
    ///
    /// # Errors
    /// [`LightError`].
    pub fn new(
        device: &Rc<Device>,
        pipe: Pipe,
        mode: ModeRequest,
        drawing: Drawing<'_>,
    ) -> Result<Self, LightError> {
        let (mode, timing) = match mode.made() {
            Some(made) => made,
            None => *modes::choose(&pipe.connector.modes, mode)?,
        };
        let mode = Blob::mode(device.fd(), &mode).map_err(LightError::Blob)?;
        let swapchain = light::swapchain(device, &pipe, &mode, timing, drawing)?;
        let cursor = Cursor::find(device, &pipe, drawing);
        Ok(Self { pipe, timing, mode, swapchain, cursor })
    }

    /// What would be lit.
    pub fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    /// With what mode.
    pub fn timing(&self) -> Timing {
        self.timing
    }
}

/// Whether the kernel would take all of these at once, with the pipes in `off` turned off. The heads that are not
/// mentioned stay as they are.
///
/// # Errors
/// [`CommitError`]; [`CommitError::Exhausted`] also where there is no buffer to test with.
pub fn test(device: &Device, proposals: &mut [Proposal], off: &[&Pipe]) -> Result<(), CommitError> {
    let mut slots = Vec::new();
    let mut request = Request::new();
    let reused = |crtc: crtc::Handle, proposals: &[Proposal]| {
        proposals.iter().any(|proposal| proposal.pipe.crtc.handle == crtc)
    };
    for pipe in off {
        // What goes on with another display is set below; an object may be set once only.
        match reused(pipe.crtc.handle, proposals) {
            true => request.set(&pipe.connector.props, ConnectorProp::CrtcId, 0),
            false => TurnOff::pipe(pipe).add_to(&mut request),
        }
    }
    for proposal in proposals.iter_mut() {
        let slot = proposal.swapchain.acquire().map_err(|error| {
            CommitError::Exhausted(std::io::Error::new(std::io::ErrorKind::OutOfMemory, error))
        })?;
        light::add_modeset(&mut request, &proposal.pipe, &proposal.mode);
        let shows = Shows::slot(Rc::new(slot), (0, 0).into());
        shows.add_to(&mut request, &proposal.pipe.primary, proposal.pipe.crtc.handle);
        slots.push(shows);
    }
    let tested = request.send(device.fd(), Flags::TEST_ONLY | Flags::ALLOW_MODESET);
    tested.map(|_no_fences| ()).map_err(CommitError::from_kernel)
}
