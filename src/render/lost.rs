//! The loss of the GPU context: a reset of the GPU takes all that GL has made, and a new context has to begin anew.
//!
//! Owns the making of the GL renderer, how a loss is noticed, and how often and how long a new renderer is tried. Knows
//! no surface and no output: whoever holds textures drops them when it hears [`Renewal::Renewed`].
//!
//! What a reset does to fences is the kernel's business, and it keeps its contract: the jobs of the lost context end, with
//! an error, and their fences signal. So nothing here ends a lease, and nothing is released early.

use std::{path::Path, time::Duration};

use smithay::backend::{
    allocator::gbm::GbmDevice,
    drm::DrmDeviceFd,
    egl::{EGLContext, EGLDisplay, native::EGLSurfacelessDisplay},
    renderer::gles::GlesRenderer,
};

use super::{Error, Renderer, setup};
use crate::sys::{
    egl::{self, Reset, Robust},
    gl::Brush,
};

/// What EGL is opened on, each time anew.
#[derive(Debug)]
pub(super) enum Platform {
    /// A device; its GBM device is shared with the outputs.
    Device(GbmDevice<DrmDeviceFd>, String),
    /// No device: software.
    Surfaceless,
}

/// Everything that one GPU context has made. Field order is drop order: the renderer before its context, and the display,
/// whose end also frees what smithay leaves behind, last.
#[derive(Debug)]
pub(super) struct Gl {
    pub(super) gles: GlesRenderer,
    pub(super) brush: Brush,
    robust: Option<Robust>,
    /// Why the context is lost, if it is.
    lost: Option<String>,
    _display: EGLDisplay,
}

impl Gl {
    pub(super) fn open(platform: &Platform) -> Result<Self, Error> {
        let (display, on) = match platform {
            Platform::Device(gbm, on) => (egl::display(gbm.clone()), on.as_str()),
            Platform::Surfaceless => (egl::display(EGLSurfacelessDisplay), "no device (surfaceless)"),
        };
        let display = display.map_err(|error| setup(on, error))?;
        let (mut gles, robust) = match egl::robust_gles(&display) {
            Ok((gles, robust)) => (gles, Some(robust)),
            Err(error) => {
                tracing::debug!("{on}: after a GPU reset this context cannot say that it is lost: {error}");
                let context = EGLContext::new(&display).map_err(|error| setup(on, error))?;
                (egl::gles(context).map_err(|error| setup(on, error))?, None)
            }
        };
        let brush = Brush::new(&mut gles).map_err(|error| setup(on, error))?;
        Ok(Self { gles, brush, robust, lost: None, _display: display })
    }

    /// Whether the context is lost, as far as anybody says. Once it is, it stays so: GL may say it only once.
    pub(super) fn is_lost(&mut self) -> bool {
        if self.lost.is_none() {
            let status = match &self.robust {
                Some(robust) => robust.reset_status(&mut self.gles),
                None => self.gles.with_context(|_| Reset::None),
            };
            self.lost = match status {
                Ok(Reset::None) => None,
                Ok(Reset::Guilty) => Some("our drawing hung the GPU".into()),
                Ok(Reset::Innocent) => Some("another program hung the GPU".into()),
                Ok(Reset::Unknown) => Some("the GPU was reset".into()),
                // In the one thread that uses it nothing else keeps a context from being made current.
                Err(error) => Some(error.to_string()),
            };
        }
        self.lost.is_some()
    }
}

/// How long a context that was lost is tried to be made anew. A reset takes a GPU a few seconds at most.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Before the second try; doubled after each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Between any two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// When a lost context is tried to be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Retry {
    since: Duration,
    not_before: Duration,
    pause: Duration,
}

impl Retry {
    fn new(now: Duration) -> Self {
        Self { since: now, not_before: now, pause: FIRST_PAUSE }
    }

    fn is_due(&self, now: Duration) -> bool {
        now >= self.not_before
    }

    /// A try has failed; false if it was the last.
    fn failed(&mut self, now: Duration) -> bool {
        self.not_before = now.saturating_add(self.pause);
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
        now.saturating_sub(self.since) < PATIENCE
    }
}

/// What a renderer has lost, and how it comes back.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    retry: Option<Retry>,
    /// How many contexts have been lost.
    losses: u64,
    /// How many of the next tries are to fail, and whether the next look is to find the context lost: for tests.
    staged: Option<u32>,
}

/// Whether the renderer can draw.
#[derive(Debug)]
pub enum Renewal {
    /// As before.
    Sound,
    /// It has lost its context and got a new one just now. Every texture of before is void.
    Renewed,
    /// It has lost its context, and there is no new one yet: ask again before the next frame.
    Waiting,
    /// There was none for [`PATIENCE`].
    Hopeless(Error),
}

impl Renderer {
    /// Looks whether the context is lost, and makes a new one if so. To be called before each frame; while all is well it
    /// costs one call into GL.
    ///
    /// `forget` is called when the loss is noticed, before the context goes: textures that are dropped in it, and their
    /// images of client buffers, are freed with it.
    pub fn renew(&mut self, now: Duration, forget: impl FnOnce()) -> Renewal {
        if let Some(gl) = &mut self.gl {
            if self.recovery.staged.is_some() {
                gl.lost = Some("a test says so".into());
            }
            if !gl.is_lost() {
                return Renewal::Sound;
            }
            let why = gl.lost.as_deref().unwrap_or_default();
            tracing::warn!("the GPU context is lost ({why}); making a new one");
            forget();
            self.recovery.losses += 1;
            self.gl = None;
        }
        let retry = self.recovery.retry.get_or_insert_with(|| Retry::new(now));
        if !retry.is_due(now) {
            return Renewal::Waiting;
        }
        let opened = match &mut self.recovery.staged {
            Some(failures) if *failures > 0 => {
                *failures -= 1;
                Err(Error::Lost)
            }
            _ => Gl::open(&self.platform),
        };
        match opened {
            Ok(gl) => {
                self.gl = Some(gl);
                (self.recovery.retry, self.recovery.staged) = (None, None);
                tracing::info!("the GPU context is made anew");
                Renewal::Renewed
            }
            Err(error) if retry.failed(now) => {
                tracing::debug!("there is no new GPU context yet: {error}");
                Renewal::Waiting
            }
            Err(error) => Renewal::Hopeless(error),
        }
    }

    /// From now on the context is lost, as after a reset, and the next `failures` tries to make a new one fail: for tests,
    /// as no reset can be had for the asking.
    pub fn lose(&mut self, failures: u32) {
        self.recovery.staged = Some(failures);
    }

    /// What GL draws with.
    ///
    /// # Errors
    /// [`Error::Lost`]
    pub(super) fn gles(&mut self) -> Result<&mut GlesRenderer, Error> {
        self.gl().map(|gl| &mut gl.gles)
    }

    /// All that the GPU context has.
    ///
    /// # Errors
    /// [`Error::Lost`]
    pub(super) fn gl(&mut self) -> Result<&mut Gl, Error> {
        self.gl.as_mut().ok_or(Error::Lost)
    }

    /// Whether there is no context at the moment.
    pub fn is_lost(&self) -> bool {
        self.gl.is_none()
    }

    /// Tells the contexts apart that this renderer has had.
    pub(super) fn context_number(&self) -> u64 {
        self.recovery.losses
    }

    /// What the renderer draws on, for people.
    pub(super) fn device_platform(gbm: GbmDevice<DrmDeviceFd>, node: &Path) -> Platform {
        Platform::Device(gbm, node.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn tries_come_less_and_less_often_and_end() {
        let mut retry = Retry::new(MS(1000));
        assert!(retry.is_due(MS(1000)), "the first try is made at once");
        assert!(retry.failed(MS(1000)));
        assert!(!retry.is_due(MS(1049)) && retry.is_due(MS(1050)));
        let (mut now, mut tries) = (MS(1050), 1);
        while retry.failed(now) {
            tries += 1;
            assert!(retry.not_before > now && retry.not_before - now <= LONGEST_PAUSE);
            now = retry.not_before;
        }
        assert!(now - MS(1000) >= PATIENCE && now - MS(1000) < PATIENCE + LONGEST_PAUSE, "{now:?}");
        assert!((10..30).contains(&tries), "{tries}");
    }
}
