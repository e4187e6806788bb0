//! Where pictures go and input comes from: a session on KMS, or nothing at all.
//!
//! Owns the session, the KMS device and the input devices, and their event-loop sources. A closed set: each `match` is all
//! there is to a backend.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    rc::Rc,
};

use calloop::{Interest, Mode, PostAction, generic::Generic};
use smithay::{
    backend::session::{
        Event as SessionEvent, Session as _,
        libseat::{LibSeatSession, LibSeatSessionNotifier},
    },
    output::{Output, PhysicalProperties, Scale, Subpixel},
    utils::{DevPath, Point, Transform},
};

use super::{Compositor, Screen, start};
use crate::{
    input::libinput::{self, Devices},
    output::{
        Head,
        frame::FrameMachine,
        headless,
        kms::{
            device::Device,
            head::{Drawing, Head as KmsHead, LightError},
            modes::ModeRequest,
            session::{self, SessionError},
        },
    },
    render::{self, Canvas, Renderer},
    trace,
};

/// Which backend to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// KMS: there is no nested backend yet.
    #[default]
    Auto,
    /// A session on a virtual terminal, with atomic KMS.
    Kms,
    /// One virtual output that nobody sees.
    Headless,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No seat, no device, no permission.
    #[error(transparent)]
    Session(#[from] SessionError),
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

/// The session and its devices.
#[derive(Debug)]
pub(super) struct Kms {
    session: LibSeatSession,
    device: Rc<Device>,
    input: Option<Devices>,
}

/// The backend in use.
#[derive(Debug)]
pub(super) enum Backend {
    Kms(Box<Kms>),
    Headless,
}

/// What has to be in the event loop for the backend to work.
pub(super) struct Sources(Option<LibSeatSessionNotifier>);

impl Backend {
    /// Opens what is needed to show something.
    pub(super) fn open(kind: Kind, device: Option<&Path>) -> Result<(Self, Sources), Error> {
        if kind == Kind::Headless {
            return Ok((Self::Headless, Sources(None)));
        }
        let (mut session, notifier) = session::open_seat()?;
        let candidates = session::candidates(device.map(Path::to_owned), &session.seat())?;
        let device = session::open_device(&mut session, &candidates)?;
        Ok((Self::Kms(Box::new(Kms { session, device, input: None })), Sources(Some(notifier))))
    }

    /// The renderer that draws for this backend.
    pub(super) fn renderer(&self) -> Result<Renderer, render::Error> {
        match self {
            Self::Kms(kms) => {
                let gbm = kms.device.gbm().map_err(|error| render::Error::Setup {
                    on: kms.node().display().to_string(),
                    reason: error.to_string(),
                })?;
                Renderer::on_device(gbm.clone(), &kms.node())
            }
            Self::Headless => Renderer::anywhere(),
        }
    }

    /// A duplicate of the device's fd, for its syncobjs.
    pub(super) fn device_fd(&self) -> Option<OwnedFd> {
        match self {
            Self::Kms(kms) => kms.device.fd().as_fd().try_clone_to_owned().ok(),
            Self::Headless => None,
        }
    }

    pub(super) fn seat_name(&self) -> String {
        match self {
            Self::Kms(kms) => kms.session.seat(),
            Self::Headless => "seat0".into(),
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

    /// One head for each display that is connected.
    fn heads(&self, renderer: &Renderer, mode: ModeRequest) -> Result<Vec<Head>, Error> {
        match self {
            Self::Headless => {
                let (width, height, refresh_mhz) = match mode {
                    ModeRequest::Preferred => HEADLESS_DEFAULT,
                    ModeRequest::Size { width, height, refresh_mhz } => {
                        (width, height, refresh_mhz.unwrap_or(60_000))
                    }
                };
                let size = (i32::from(width), i32::from(height)).into();
                Ok(vec![Head::Headless(headless::Head::new("HEADLESS-1", size, refresh_mhz, trace::now()))])
            }
            Self::Kms(kms) => kms.heads(renderer, mode),
        }
    }
}

impl Kms {
    fn node(&self) -> PathBuf {
        self.device.fd().dev_path().unwrap_or_default()
    }

    fn heads(&self, renderer: &Renderer, mode: ModeRequest) -> Result<Vec<Head>, Error> {
        let dark = |reason: String| Error::Dark { device: self.node().display().to_string(), reason };
        let pipes = self.device.pipes().map_err(|error| dark(error.to_string()))?;
        let formats = renderer.render_formats();
        let mut reasons = Vec::new();
        let mut heads = Vec::new();
        for pipe in pipes {
            match KmsHead::new(&self.device, pipe, mode, Drawing::Render(&formats)) {
                Ok(head) => heads.push(Head::Kms(Box::new(head))),
                Err(error) => reasons.push(chain(&error)),
            }
        }
        if heads.is_empty() {
            reasons.push("connect a display, or name another device with --device".into());
            return Err(dark(reasons.join("; ")));
        }
        reasons.iter().for_each(|reason| tracing::warn!("a display stays dark: {reason}"));
        Ok(heads)
    }
}

fn chain(error: &LightError) -> String {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", cause.unwrap_or_default())
}

impl Sources {
    /// Adds them to the event loop of `state`.
    pub(super) fn insert(self, state: &mut Compositor) -> Result<(), Error> {
        let Self(Some(notifier)) = self else { return Ok(()) };
        let source_error = |error: calloop::Error| Error::Source(error.to_string());
        let Backend::Kms(kms) = &mut state.backend else { return Ok(()) };
        kms.input = Some(Devices::open(&kms.session, &state.handle)?);
        let fd =
            kms.device.fd().as_fd().try_clone_to_owned().map_err(|error| Error::Source(error.to_string()))?;
        state
            .handle
            .insert_source(notifier, |event, &mut (), state| match event {
                SessionEvent::PauseSession => state.pause(),
                SessionEvent::ActivateSession => state.resume(),
            })
            .map_err(|error| source_error(error.error))?;
        state
            .handle
            .insert_source(
                Generic::new(fd, Interest::READ, Mode::Level),
                |_, _, state| Ok(state.read_flips()),
            )
            .map_err(|error| source_error(error.error))?;
        Ok(())
    }
}

impl Compositor {
    /// Lights every display, side by side from left to right.
    pub(super) fn light_screens(&mut self, mode: ModeRequest) -> Result<(), start::Error> {
        let heads = self.backend.heads(&self.renderer, mode)?;
        let mut x = 0;
        for head in heads {
            let (width_mm, height_mm) = head.size_mm();
            let millimetres = |value: u32| i32::try_from(value).unwrap_or(0);
            let output = Output::new(
                head.name().to_owned(),
                PhysicalProperties {
                    size: (millimetres(width_mm), millimetres(height_mm)).into(),
                    subpixel: Subpixel::Unknown,
                    make: "fencepost".into(),
                    model: head.name().to_owned(),
                },
            );
            let mode = head.mode();
            output.change_current_state(
                Some(mode),
                Some(Transform::Normal),
                Some(Scale::Integer(1)),
                Some(Point::from((x, 0))),
            );
            output.set_preferred(mode);
            // The global lives as long as the display does; outputs do not go yet.
            output.create_global::<Self>(&self.display);
            tracing::info!("{}: {}x{} at {} mHz", head.name(), mode.size.w, mode.size.h, mode.refresh);
            let machine = FrameMachine::new(head.refresh());
            let canvas = Canvas::new(mode.size, 1.0, Transform::Normal);
            x += mode.size.w;
            self.screens.push(Screen::new(output, machine, head, canvas));
        }
        self.shell.set_areas(self.screens.iter().map(Screen::area).collect());
        self.resume();
        Ok(())
    }

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
        for index in 0..self.screens.len() {
            let action = self.screens.get_mut(index).and_then(|screen| {
                screen.head.pause();
                screen.machine.pause()
            });
            self.act(index, action);
        }
    }

    /// The session is ours: every output shows a full frame again.
    fn resume(&mut self) {
        if let Backend::Kms(kms) = &mut self.backend
            && let Some(input) = &mut kms.input
        {
            input.resume();
        }
        for index in 0..self.screens.len() {
            let action = self.screens.get_mut(index).and_then(|screen| {
                screen.head.resume();
                screen.canvas.forget();
                screen.machine.resume(trace::now())
            });
            self.act(index, action);
            // A frame that was in flight when the session was paused may never flip.
            self.watch(index);
        }
    }

    /// Hands the device's flip events to their screens. A device that cannot be read is gone: its screens are lost, and
    /// it is not read again.
    fn read_flips(&mut self) -> PostAction {
        let Backend::Kms(kms) = &self.backend else { return PostAction::Remove };
        let flips = match kms.device.flips() {
            Ok(flips) => flips,
            Err(error) => {
                tracing::warn!("the displays are lost, their device cannot be read: {error}");
                self.pause_screens();
                return PostAction::Remove;
            }
        };
        for flip in flips {
            for index in 0..self.screens.len() {
                let flipped = self.screens.get_mut(index).and_then(|screen| screen.head.flipped(&flip));
                if let Some(flipped) = flipped {
                    self.flipped(index, flipped);
                }
            }
        }
        PostAction::Continue
    }
}
