//! Where pictures go and input comes from: a session on KMS, a window of another compositor, or nothing at all.
//!
//! Owns the event-loop sources of the session, the KMS device and the input devices. A closed set: each `match` is all
//! there is to a backend.

use std::{
    cell::RefCell,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    rc::Rc,
};

use calloop::{Interest, Mode as Trigger, PostAction, generic::Generic};
use smithay::{
    backend::session::{Event as SessionEvent, Session as _, libseat::LibSeatSessionNotifier},
    output::Mode,
};

use super::{Compositor, kms::Kms, nested};
use crate::{
    errors::chain,
    fence::timeline::SyncobjDevice,
    input::libinput::{self, Devices},
    output::{
        Head,
        display::Info,
        kms::{
            head::Head as KmsHead,
            modes::ModeRequest,
            proposal,
            session::{self, SessionError},
        },
        nested::{
            Head as NestedHead,
            parent::{self, Parent},
        },
        proposal::Proposal,
    },
    render::{self, Renderer},
    trace,
};

/// Which backend to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A window where a parent compositor can be reached, else KMS.
    #[default]
    Auto,
    /// A session on a virtual terminal, with atomic KMS.
    Kms,
    /// Virtual outputs that nobody sees.
    Headless,
    /// A window of another Wayland compositor.
    Nested,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No seat, no device, no permission.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// No parent compositor.
    #[error(transparent)]
    Parent(#[from] parent::Error),
    /// A window was asked for, and nobody to show it was named.
    #[error("there is no parent compositor: WAYLAND_DISPLAY is not set")]
    NoParent,
    /// No input.
    #[error(transparent)]
    Input(#[from] libinput::Error),
    /// No display was lit.
    #[error("no display could be lit on {device}: {reason}")]
    Dark {
        /// The device.
        device: String,
        /// What each display said.
        reason: String,
    },
    /// The pictures cannot be written back.
    #[error("could not write pictures back to {file}: {reason}")]
    Writeback {
        /// Where they were to go.
        file: String,
        /// What is in the way.
        reason: String,
    },
    /// The event loop refused a source.
    #[error("could not add the session to the event loop: {0}")]
    Source(String),
}

/// The size and rate of a headless output that was not asked for otherwise.
const HEADLESS_DEFAULT: (u16, u16, u32) = (1280, 720, 60_000);

/// The longest side of a headless output: what every renderer can draw.
const HEADLESS_MAX: i32 = 8192;

/// The backend in use.
#[derive(Debug)]
pub(super) enum Backend {
    Kms(Box<Kms>),
    /// Its displays.
    Headless(Vec<Info>),
    Nested(Rc<RefCell<Parent>>),
}

/// What has to be in the event loop for the backend to work.
pub(super) struct Sources(Option<LibSeatSessionNotifier>);

impl Backend {
    /// Opens what is needed to show something.
    pub(super) fn open(
        kind: Kind,
        device: Option<&Path>,
        render_device: Option<&Path>,
        parent: Option<&Path>,
        outputs: u8,
        mode: ModeRequest,
    ) -> Result<(Self, Sources), Error> {
        if kind == Kind::Headless {
            return Ok((Self::Headless(headless_displays(outputs, mode)), Sources(None)));
        }
        match (kind, parent) {
            (Kind::Nested, None) => return Err(Error::NoParent),
            (Kind::Nested, Some(parent)) => {
                return Ok((Self::Nested(nested::open(parent, outputs, mode)?), Sources(None)));
            }
            (Kind::Auto, Some(parent)) => match nested::open(parent, outputs, mode) {
                Ok(parent) => return Ok((Self::Nested(parent), Sources(None))),
                Err(error) => tracing::warn!("no window, trying a screen: {error}"),
            },
            _ => {}
        }
        let (mut session, notifier) = session::open_seat()?;
        let candidates = session::candidates(device.map(Path::to_owned), &session.seat())?;
        let device = session::open_device(&mut session, &candidates)?;
        let kms = Kms::new(session, device, render_device);
        Ok((Self::Kms(Box::new(kms)), Sources(Some(notifier))))
    }

    /// The renderer that draws for this backend.
    pub(super) fn renderer(&mut self) -> Result<Renderer, render::Error> {
        match self {
            Self::Kms(kms) => kms.renderer(),
            Self::Headless(_) => Renderer::anywhere(),
            Self::Nested(parent) => nested::renderer(parent),
        }
    }

    /// Whether everything has to be composed: what clients have drawn is not what a plane would read, and no pointer is copied.
    pub(super) fn composes_all(&self) -> bool {
        matches!(self, Self::Kms(kms) if kms.copies())
    }

    /// The device on which timelines are made: also those that are shared with a parent compositor.
    pub(super) fn synchronise_on(&self, device: &SyncobjDevice) {
        if let Self::Nested(parent) = self {
            parent.borrow_mut().synchronise_on(device);
        }
    }

    /// A duplicate of the device's fd, for its syncobjs.
    pub(super) fn device_fd(&self) -> Option<OwnedFd> {
        match self {
            Self::Kms(kms) => kms.device.fd().as_fd().try_clone_to_owned().ok(),
            Self::Headless(_) | Self::Nested(_) => None,
        }
    }

    pub(super) fn seat_name(&self) -> String {
        match self {
            Self::Kms(kms) => kms.session.seat(),
            Self::Headless(_) | Self::Nested(_) => "seat0".into(),
        }
    }

    /// Switches to another virtual terminal.
    pub(super) fn switch_vt(&mut self, vt: i32) {
        if let Self::Kms(kms) = self
            && let Err(error) = kms.session.change_vt(vt)
        {
            tracing::warn!("could not switch to virtual terminal {vt}: {error}");
        }
    }

    /// The mode of displays for which nobody names one, when `mode` was asked for at the start. A virtual display
    /// prefers that one already.
    pub(super) fn default_mode(&self, mode: ModeRequest) -> ModeRequest {
        match self {
            Self::Kms(_) => mode,
            Self::Headless(_) | Self::Nested(_) => ModeRequest::Preferred,
        }
    }

    /// The displays that are connected now.
    pub(super) fn displays(&self) -> Result<Vec<Info>, Error> {
        match self {
            Self::Headless(displays) => Ok(displays.clone()),
            Self::Nested(parent) => Ok(nested::displays(&parent.borrow())),
            Self::Kms(kms) => kms.displays(),
        }
    }

    /// What would light some displays, each with a mode, when those named in `on` are lit; nothing changes. In the order
    /// of the wishes.
    ///
    /// # Errors
    /// A sentence that says why one of them cannot be lit.
    pub(super) fn propose(
        &self,
        renderer: &Renderer,
        on: &[&str],
        wishes: &[(&str, ModeRequest)],
    ) -> Result<Vec<Proposal>, String> {
        match self {
            Self::Headless(displays) => {
                let propose = |&(name, mode): &(&str, ModeRequest)| {
                    let info = displays.iter().find(|info| info.name == name);
                    let mode = headless_mode(mode).or_else(|| info?.preferred);
                    let mode = mode.ok_or_else(|| format!("{name} has gone"))?;
                    if mode.size.w.max(mode.size.h) > HEADLESS_MAX {
                        return Err(format!("{name} can have {HEADLESS_MAX} pixels a side"));
                    }
                    Ok(Proposal::Headless { name: name.to_owned(), mode })
                };
                wishes.iter().map(propose).collect()
            }
            Self::Nested(parent) => nested::propose(&parent.borrow(), wishes),
            Self::Kms(kms) => kms.propose(renderer, on, wishes),
        }
    }

    /// Whether all of these can be lit at once, with the heads in `off` turned off.
    pub(super) fn test(&self, proposals: &mut Vec<Proposal>, off: &[&Head]) -> Result<(), String> {
        let Self::Kms(kms) = self else { return Ok(()) };
        let mut together: Vec<_> = proposals
            .drain(..)
            .filter_map(|proposal| match proposal {
                Proposal::Kms(proposal) => Some(*proposal),
                Proposal::Headless { .. } | Proposal::Nested { .. } => None,
            })
            .collect();
        let off: Vec<_> = off
            .iter()
            .filter_map(|head| match head {
                Head::Kms(head) => Some(head.pipe()),
                Head::Headless(_) | Head::Nested(_) => None,
            })
            .collect();
        let tested = proposal::test(&kms.device, &mut together, &off);
        proposals.extend(together.into_iter().map(|proposal| Proposal::Kms(Box::new(proposal))));
        tested.map_err(|error| chain(&error))
    }

    /// The head that was proposed; `None` for a proposal of another back end.
    pub(super) fn head(&self, proposal: Proposal) -> Option<Head> {
        match (self, proposal) {
            (Self::Kms(kms), Proposal::Kms(proposal)) => {
                Some(Head::Kms(Box::new(KmsHead::of(&kms.device, *proposal))))
            }
            (Self::Headless(_), Proposal::Headless { name, mode }) => {
                Some(Head::Headless(Proposal::headless(&name, mode, trace::now())))
            }
            (Self::Nested(parent), Proposal::Nested { name, window, mode }) => {
                Some(Head::Nested(NestedHead::new(name, mode, Rc::clone(parent), window)))
            }
            _ => None,
        }
    }

    /// Whether the session is ours at the moment.
    pub(super) fn is_active(&self) -> bool {
        match self {
            Self::Kms(kms) => kms.session.is_active(),
            Self::Headless(_) | Self::Nested(_) => true,
        }
    }

    /// Whether there is a display device to lose.
    pub(super) fn has_device(&self) -> bool {
        matches!(self, Self::Kms(_))
    }

    /// The number of the display device, as udev speaks of it.
    pub(super) fn device_number(&self) -> Option<rustix::fs::Dev> {
        match self {
            Self::Kms(kms) => Some(rustix::fs::fstat(kms.device.fd()).ok()?.st_rdev),
            Self::Headless(_) | Self::Nested(_) => None,
        }
    }

    /// Whether the display device has been taken away.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Kms(kms) => kms.device.is_gone(),
            Self::Headless(_) => false,
            Self::Nested(parent) => parent.borrow().is_lost(),
        }
    }

    /// The display device, for people.
    pub(super) fn device_name(&self) -> String {
        match self {
            Self::Kms(kms) => kms.device.node().display().to_string(),
            Self::Headless(_) => String::new(),
            Self::Nested(_) => "of the parent compositor".into(),
        }
    }

    /// Nothing was lit, for these reasons.
    pub(super) fn dark(&self, mut reasons: Vec<String>) -> Error {
        let device = match self {
            Self::Kms(kms) => kms.device.node().display().to_string(),
            Self::Headless(_) => "the headless backend".into(),
            Self::Nested(_) => "the nested backend".into(),
        };
        reasons.push("connect a display, or name another device with --device".into());
        Error::Dark { device, reason: reasons.join("; ") }
    }
}

/// The mode that was asked for, where any is possible.
pub(super) fn headless_mode(mode: ModeRequest) -> Option<Mode> {
    let (width, height, refresh_mhz) = match mode {
        ModeRequest::Preferred => return None,
        ModeRequest::Size { width, height, refresh_mhz } => (width, height, refresh_mhz),
        ModeRequest::Custom { width, height, refresh_mhz } => (width, height, Some(refresh_mhz)),
    };
    let refresh = i32::try_from(refresh_mhz.unwrap_or(HEADLESS_DEFAULT.2)).unwrap_or(i32::MAX);
    Some(Mode { size: (i32::from(width), i32::from(height)).into(), refresh })
}

/// The displays of the headless backend: `HEADLESS-1` and so on.
fn headless_displays(count: u8, mode: ModeRequest) -> Vec<Info> {
    let (width, height, mhz) = HEADLESS_DEFAULT;
    let default = ModeRequest::Size { width, height, refresh_mhz: Some(mhz) };
    let mode = headless_mode(mode).or_else(|| headless_mode(default));
    let display = |number| Some(Info::headless(format!("HEADLESS-{number}"), mode?));
    (1..=count).filter_map(display).collect()
}

impl Sources {
    /// Adds them to the event loop of `state`.
    pub(super) fn insert(self, state: &mut Compositor) -> Result<(), Error> {
        let Self(Some(notifier)) = self else { return nested::watch(state) };
        let source_error = |error: calloop::Error| Error::Source(error.to_string());
        let Backend::Kms(kms) = &mut state.backend else { return Ok(()) };
        kms.input = Some(Devices::open(&kms.session, &state.handle)?);
        let fd =
            kms.device.fd().as_fd().try_clone_to_owned().map_err(|error| Error::Source(error.to_string()))?;
        state
            .handle
            .insert_source(notifier, |event, &mut (), state| match event {
                SessionEvent::PauseSession => state.pause(),
                SessionEvent::ActivateSession => {
                    state.resume();
                    // Displays may have come and gone meanwhile.
                    state.displays_changed();
                }
            })
            .map_err(|error| source_error(error.error))?;
        state
            .handle
            .insert_source(Generic::new(fd, Interest::READ, Trigger::Level), |_, _, state| {
                Ok(state.read_flips())
            })
            .map_err(|error| source_error(error.error))?;
        Ok(())
    }
}

impl Compositor {
    /// The session is another's: nothing is drawn, nothing committed, no input read.
    fn pause(&mut self) {
        tracing::info!("paused");
        if let Backend::Kms(kms) = &mut self.backend
            && let Some(input) = &kms.input
        {
            input.suspend();
        }
        crate::input::release_keys(self);
        self.pause_screens();
    }

    fn pause_screens(&mut self) {
        for id in self.screens.ids() {
            let action = self.screens.get_mut(id).and_then(|screen| {
                screen.head.pause();
                screen.machine.pause()
            });
            self.act(id, action);
        }
        // Nobody sees anything now.
        self.repace();
    }

    /// The session is ours: every output shows a full frame again.
    pub(super) fn resume(&mut self) {
        if let Backend::Kms(kms) = &mut self.backend
            && let Some(input) = &mut kms.input
        {
            input.resume();
        }
        for id in self.screens.ids() {
            if let Some(screen) = self.screens.get_mut(id).filter(|screen| !screen.powered) {
                // Another session may have lit it, and it could not be turned off while that had the device.
                screen.head.resume();
                self.switch_off(id);
                continue;
            }
            let action = self.screens.get_mut(id).and_then(|screen| {
                screen.head.resume();
                screen.canvas.forget();
                screen.machine.resume(trace::now())
            });
            self.act(id, action);
            // A frame that was in flight when the session was paused may never flip.
            self.watch(id);
        }
    }

    /// Hands the device's flip events to their screens. A device that cannot be read is gone: its screens are lost, and
    /// it is not read again.
    pub(super) fn read_flips(&mut self) -> PostAction {
        let Backend::Kms(kms) = &self.backend else { return PostAction::Remove };
        let flips = match kms.device.flips() {
            Ok(flips) => flips,
            Err(error) => {
                tracing::warn!("the display device cannot be read: {error}");
                self.display_device_gone();
                return PostAction::Remove;
            }
        };
        for flip in flips {
            for id in self.screens.ids() {
                let flipped = self.screens.get_mut(id).and_then(|screen| screen.head.flipped(&flip));
                if let Some(flipped) = flipped {
                    self.flipped(id, flipped);
                }
            }
        }
        PostAction::Continue
    }
}
