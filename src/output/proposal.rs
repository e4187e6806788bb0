//! What a display would be lit with: tested, and not yet done.
//!
//! Owns the step from a proposal to a [`Head`], for every back end.

use std::time::Duration;

use smithay::output::Mode;

use super::{Head, headless, kms};

/// How a display would be lit.
#[derive(Debug)]
pub enum Proposal {
    /// A display of a KMS device.
    Kms(Box<kms::proposal::Proposal>),
    /// No display: any mode will do.
    Headless {
        /// Its name.
        name: String,
        /// Its mode.
        mode: Mode,
    },
    /// A window, of the size that its parent gave it.
    Nested {
        /// Its name.
        name: String,
        /// The window's number.
        window: usize,
        /// Its size and rate.
        mode: Mode,
    },
}

impl Proposal {
    /// The display's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Kms(proposal) => &proposal.pipe().connector.name,
            Self::Headless { name, .. } | Self::Nested { name, .. } => name,
        }
    }

    /// A headless display with its mode; vblanks start at `now`.
    pub fn headless(name: &str, mode: Mode, now: Duration) -> headless::Head {
        headless::Head::new(name, mode.size, u32::try_from(mode.refresh).unwrap_or(0), now)
    }
}

impl Head {
    /// Takes another mode with the next commit, on the CRTC that it has.
    ///
    /// # Errors
    /// Gives a proposal back that is not for this head: another display's, or with another CRTC.
    pub fn adopt(&mut self, proposal: Proposal, now: Duration) -> Result<(), Proposal> {
        match (self, proposal) {
            (Self::Kms(head), Proposal::Kms(proposal))
                if head.name() == proposal.pipe().connector.name
                    && head.crtc() == proposal.pipe().crtc.handle =>
            {
                head.adopt(*proposal);
                Ok(())
            }
            (Self::Headless(head), Proposal::Headless { name, mode }) if head.name() == name => {
                head.set_mode(mode.size, u32::try_from(mode.refresh).unwrap_or(0), now);
                Ok(())
            }
            (Self::Nested(head), Proposal::Nested { name, mode, .. }) if head.name() == name => {
                head.set_mode(mode);
                Ok(())
            }
            (_, proposal) => Err(proposal),
        }
    }
}
