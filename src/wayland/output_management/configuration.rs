//! What a client of wlr-output-management asks for: a whole configuration, built up object by object.
//!
//! Owns the rules of building one. What it would do is the compositor's to say.

use std::sync::{Mutex, MutexGuard, PoisonError};

use smithay::{
    output::Mode,
    reexports::wayland_server::{Client, DataInit, Dispatch, DisplayHandle, Resource, Weak},
    utils::{Point, Transform},
};
use wayland_protocols_wlr::output_management::v1::server::{
    zwlr_output_configuration_head_v1::{self, ZwlrOutputConfigurationHeadV1},
    zwlr_output_configuration_v1::{self, ZwlrOutputConfigurationV1},
    zwlr_output_head_v1::{AdaptiveSyncState, ZwlrOutputHeadV1},
    zwlr_output_mode_v1::ZwlrOutputModeV1,
};

use super::{Change, HeadData, ModeData, Wanted};
use crate::compositor::Compositor;

/// A configuration under construction.
#[derive(Debug)]
pub struct Configuration {
    /// Of the state that the client has seen.
    serial: u32,
    built: Mutex<Built>,
}

#[derive(Debug, Default)]
struct Built {
    heads: Vec<(u64, Wanted)>,
    /// It has been applied or tested.
    used: bool,
}

/// The part of a configuration that is about one head.
#[derive(Debug)]
pub struct ConfigurationHead {
    configuration: Weak<ZwlrOutputConfigurationV1>,
    head: u64,
}

impl Configuration {
    pub(super) fn new(serial: u32) -> Self {
        Self { serial, built: Mutex::default() }
    }

    fn built(&self) -> MutexGuard<'_, Built> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what becomes of a head; posts the error that stands in the way.
    fn add(
        &self,
        object: &ZwlrOutputConfigurationV1,
        head: &ZwlrOutputHeadV1,
        wanted: Wanted,
    ) -> Option<u64> {
        use zwlr_output_configuration_v1::Error;
        let &HeadData(id) = head.data::<HeadData>()?;
        let mut built = self.built();
        if built.used {
            object.post_error(Error::AlreadyUsed, "the configuration has been applied or tested");
            return None;
        }
        if built.heads.iter().any(|(configured, _)| *configured == id) {
            object.post_error(Error::AlreadyConfiguredHead, "the head is configured already");
            return None;
        }
        built.heads.push((id, wanted));
        Some(id)
    }

    /// Has the configuration applied or tested, once.
    fn finish(&self, state: &mut Compositor, object: &ZwlrOutputConfigurationV1, test: bool) {
        use zwlr_output_configuration_v1::Error;
        let heads = {
            let mut built = self.built();
            if std::mem::replace(&mut built.used, true) {
                return object.post_error(Error::AlreadyUsed, "the configuration has been applied or tested");
            }
            built.heads.clone()
        };
        let management = &state.globals.output_management;
        if self.serial != management.serial {
            return object.cancelled();
        }
        let missing = management.heads.iter().find(|info| !heads.iter().any(|(id, _)| *id == info.id));
        if let Some(missing) = missing {
            let message = format!("nothing is said about {}", missing.name);
            return object.post_error(Error::UnconfiguredHead, message);
        }
        match state.configure_outputs(&heads, test) {
            Ok(()) => object.succeeded(),
            Err(error) => {
                tracing::info!("a configuration of the outputs is not taken: {error}");
                object.failed();
            }
        }
    }
}

impl Dispatch<ZwlrOutputConfigurationV1, Configuration> for Compositor {
    fn request(
        state: &mut Self,
        _client: &Client,
        object: &ZwlrOutputConfigurationV1,
        request: zwlr_output_configuration_v1::Request,
        data: &Configuration,
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        use zwlr_output_configuration_v1::Request;
        match request {
            Request::EnableHead { id, head } => {
                let added = data.add(object, &head, Wanted::On(Change::default()));
                let configured = added.or_else(|| head.data().map(|HeadData(id)| *id)).unwrap_or_default();
                let data = ConfigurationHead { configuration: object.downgrade(), head: configured };
                init.init(id, data);
            }
            Request::DisableHead { head } => {
                data.add(object, &head, Wanted::Off);
            }
            Request::Apply => data.finish(state, object, false),
            Request::Test => data.finish(state, object, true),
            _ => {}
        }
    }
}

impl ConfigurationHead {
    /// Sets a property that is not set yet; posts the error otherwise.
    fn set<T>(
        &self,
        object: &ZwlrOutputConfigurationHeadV1,
        property: impl FnOnce(&mut Change) -> &mut Option<T>,
        value: T,
    ) {
        // With its configuration a head configuration goes too, or is of no more use.
        let Ok(configuration) = self.configuration.upgrade() else { return };
        let Some(data) = configuration.data::<Configuration>() else { return };
        let mut built = data.built();
        let found = built.heads.iter_mut().find(|(id, _)| *id == self.head);
        let Some((_, Wanted::On(change))) = found else { return };
        let property = property(change);
        if property.is_some() {
            let error = zwlr_output_configuration_head_v1::Error::AlreadySet;
            return object.post_error(error, "the property is set already");
        }
        *property = Some(value);
    }

    fn set_mode(&self, object: &ZwlrOutputConfigurationHeadV1, mode: &ZwlrOutputModeV1) {
        match mode.data::<ModeData>() {
            Some(data) if data.head == self.head => self.set(object, |change| &mut change.mode, data.mode),
            _ => {
                let error = zwlr_output_configuration_head_v1::Error::InvalidMode;
                object.post_error(error, "the mode is another head's");
            }
        }
    }
}

impl Dispatch<ZwlrOutputConfigurationHeadV1, ConfigurationHead> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        object: &ZwlrOutputConfigurationHeadV1,
        request: zwlr_output_configuration_head_v1::Request,
        data: &ConfigurationHead,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        use zwlr_output_configuration_head_v1::{Error, Request};
        match request {
            Request::SetMode { mode } => data.set_mode(object, &mode),
            Request::SetCustomMode { width, height, refresh } => {
                if width <= 0 || height <= 0 || refresh < 0 {
                    let message = format!("{width}x{height} at {refresh} mHz is no mode");
                    return object.post_error(Error::InvalidCustomMode, message);
                }
                let mode = Mode { size: (width, height).into(), refresh };
                data.set(object, |change| &mut change.mode, mode);
            }
            Request::SetPosition { x, y } => {
                data.set(object, |change| &mut change.position, Point::from((x, y)));
            }
            Request::SetTransform { transform } => match transform.into_result() {
                Ok(transform) => {
                    let transform = Transform::from(transform);
                    data.set(object, |change| &mut change.transform, transform);
                }
                Err(_) => object.post_error(Error::InvalidTransform, "there is no such transform"),
            },
            Request::SetScale { scale } if scale > 0.0 => {
                data.set(object, |change| &mut change.scale, scale);
            }
            Request::SetScale { scale } => {
                object.post_error(Error::InvalidScale, format!("{scale} is no scale"));
            }
            Request::SetAdaptiveSync { state } => match state.into_result() {
                Ok(state) => data.set(
                    object,
                    |change| &mut change.adaptive_sync,
                    matches!(state, AdaptiveSyncState::Enabled),
                ),
                Err(_) => object.post_error(Error::InvalidAdaptiveSyncState, "there is no such state"),
            },
            _ => {}
        }
    }
}
