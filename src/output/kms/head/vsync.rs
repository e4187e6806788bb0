//! A display that need not refresh at a fixed rate: it can wait for its frames, or show them in the middle of a refresh.
//!
//! Owns what of it is wanted, what is set, and what the kernel has said no to. When it is wanted, [`crate::output::vsync`] says.

use std::os::fd::AsFd;

use drm::control::AtomicCommitFlags;

use super::super::commit::{self, Accepted};
use super::super::props::{ConnectorProp, CrtcProp, PlaneProp};
use super::super::request::Request;
use super::super::stack::{Shows, Which};
use super::{Head, Lit, Prepared};
use crate::output::CommitError;

/// What is known of it. A modeset sets the fixed rate, and has everything asked for again.
#[derive(Debug, Default)]
pub(super) struct Vsync {
    /// The display is to wait for its frames.
    variable: bool,
    /// As the last commit left it.
    is_variable: bool,
    /// The kernel does not let it wait.
    never_variable: bool,
    /// The kernel does not flip without waiting for a vblank.
    never_torn: bool,
}

impl Vsync {
    /// What a request has to set; `None` if that is set.
    pub(super) fn change(&self) -> Option<bool> {
        (self.variable != self.is_variable).then_some(self.variable)
    }

    /// A modeset is due.
    pub(super) fn start_anew(&mut self) {
        *self = Self { never_variable: self.never_variable, ..Self::default() };
    }

    /// A commit was refused: if that may be for a change of this, it is not tried again.
    pub(super) fn give_up(&mut self) {
        self.never_variable |= self.change().is_some();
        self.variable = self.is_variable;
    }

    /// A commit has set this.
    pub(super) fn changed(&mut self, is_variable: bool) {
        self.is_variable = is_variable;
    }
}

impl Head {
    /// Whether the display can wait for frames.
    pub fn can_vary(&self) -> bool {
        let is_capable = self.pipe.connector.props.initial(ConnectorProp::VrrCapable) == Some(1);
        is_capable && self.pipe.crtc.props.has(CrtcProp::VrrEnabled) && !self.vsync.never_variable
    }

    /// Whether the display waits for its frames, with the last commit.
    pub fn is_variable(&self) -> bool {
        self.vsync.is_variable
    }

    /// Whether frames can be shown without waiting for a vblank.
    pub fn can_tear(&self) -> bool {
        self.device.caps().async_flip && !self.vsync.never_torn
    }

    /// Whether the display is to wait for its frames, from the next flip on. Returns whether it will: not if it cannot, or the kernel
    /// would not take it.
    pub fn set_variable(&mut self, wanted: bool) -> bool {
        self.vsync.variable = wanted && self.can_vary();
        if self.vsync.change() == Some(true) && self.lit == Lit::On {
            let mut request = Request::new();
            request.set(&self.pipe.crtc.props, CrtcProp::VrrEnabled, 1);
            if let Err(error) = request.send(self.device.fd(), AtomicCommitFlags::TEST_ONLY) {
                tracing::warn!("{} keeps its fixed rate: {error}", self.name());
                (self.vsync.variable, self.vsync.never_variable) = (false, true);
            }
        }
        self.vsync.variable
    }

    /// The buffer that a frame shows without waiting for a vblank; `None` if it has to wait.
    ///
    /// Since Linux 6.8, an async flip may change a primary plane's framebuffer, its fence and its damage, and nothing else: to ask
    /// for an out-fence is `EINVAL` (`drm_atomic_set_property`).
    pub(super) fn torn<'next>(&self, prepared: &'next Prepared) -> Option<&'next Shows> {
        let is_flip = prepared.modeset.is_none() && prepared.capture.is_none() && prepared.variable.is_none();
        let before = self.on_screen.as_ref().filter(|_| is_flip && prepared.may_tear)?;
        let shows = prepared.next.stack.flip_of(&before.stack)?;
        let waits = prepared.next.in_fences.is_empty() || self.takes_in_fences();
        (waits && self.can_tear()).then_some(shows)
    }

    /// Sends a frame that does not wait for a vblank; `None` if it has to, also because the kernel says so.
    pub(super) fn tear(&mut self, prepared: &Prepared) -> Result<Option<Accepted>, CommitError> {
        let Some(shows) = self.torn(prepared) else { return Ok(None) };
        let plane = &self.pipe.primary.props;
        let mut request = Request::new();
        request.set(plane, PlaneProp::FbId, u32::from(shows.framebuffer()).into());
        for (_, fence) in prepared.next.in_fences.iter().filter(|(which, _)| *which == Which::Primary) {
            request.in_fence(plane, fence.as_fd());
        }
        match commit::tear(&self.device, request) {
            Err(CommitError::Refused(error)) => {
                tracing::info!("{} does not tear {:?}: {error}", self.name(), shows.format());
                self.vsync.never_torn = true;
                Ok(None)
            }
            sent => sent.map(Some),
        }
    }
}
