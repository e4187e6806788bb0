//! wlr-output-management-unstable-v1: what clients such as wlr-randr and kanshi see of the outputs.
//!
//! Owns the objects of managers, heads and modes, and the serial that says which state a client has seen. What clients
//! ask for is in [`configuration`]; whether it is done, the compositor's.

mod configuration;

use smithay::{
    output::Mode,
    reexports::wayland_server::{
        Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, backend::ClientId,
    },
    utils::{Logical, Point, Transform},
};
use wayland_protocols_wlr::output_management::v1::server::{
    zwlr_output_configuration_v1::ZwlrOutputConfigurationV1,
    zwlr_output_head_v1::{self, AdaptiveSyncState, ZwlrOutputHeadV1},
    zwlr_output_manager_v1::{self, ZwlrOutputManagerV1},
    zwlr_output_mode_v1::{self, ZwlrOutputModeV1},
};

use crate::compositor::Compositor;
use configuration::Configuration;

/// A display, as clients that configure outputs see it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadInfo {
    /// Names it as long as it is connected.
    pub id: u64,
    /// Its connector.
    pub name: String,
    /// Who made it; empty where unknown, as are the next two.
    pub make: String,
    /// What the maker calls it.
    pub model: String,
    /// Which one of its model it is.
    pub serial: String,
    /// Width and height in millimetres; zero where unknown.
    pub size_mm: (u32, u32),
    /// What it can show.
    pub modes: Vec<Mode>,
    /// The one that it shows best.
    pub preferred: Option<Mode>,
    /// How it is lit, if it is.
    pub state: Option<HeadState>,
}

/// How a display is lit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadState {
    /// With what mode.
    pub mode: Mode,
    /// Where its top left corner is.
    pub position: Point<i32, Logical>,
    /// How it is turned.
    pub transform: Transform,
    /// How many pixels a logical one has.
    pub scale: f64,
    /// Whether it is to wait for frames, always or at times.
    pub adaptive_sync: bool,
}

/// What a client wants of a display.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// Dark.
    Off,
    /// Lit, with these changes.
    On(Change),
}

/// What is to be different; the rest stays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Change {
    /// Its mode: of its list, or one that it may be able to show all the same.
    pub mode: Option<Mode>,
    /// Its place.
    pub position: Option<Point<i32, Logical>>,
    /// How it is turned.
    pub transform: Option<Transform>,
    /// How many pixels a logical one has.
    pub scale: Option<f64>,
    /// Variable refresh.
    pub adaptive_sync: Option<bool>,
}

/// The global's state.
#[derive(Debug, Default)]
pub struct OutputManagement {
    managers: Vec<Manager>,
    heads: Vec<HeadInfo>,
    /// Of the state in `heads`.
    serial: u32,
}

/// One client's view.
#[derive(Debug)]
struct Manager {
    object: ZwlrOutputManagerV1,
    heads: Vec<Head>,
}

#[derive(Debug)]
struct Head {
    id: u64,
    object: ZwlrOutputHeadV1,
    modes: Vec<(Mode, ZwlrOutputModeV1)>,
}

/// What a mode object stands for: a head's mode.
#[derive(Debug)]
pub struct ModeData {
    head: u64,
    mode: Mode,
}

/// What a head object stands for: a display's number.
#[derive(Debug)]
pub struct HeadData(u64);

impl OutputManagement {
    /// Announces the global.
    pub fn new(display: &DisplayHandle) -> Self {
        display.create_global::<Compositor, ZwlrOutputManagerV1, ()>(4, ());
        Self::default()
    }

    /// The displays are these now. Clients are told what is different; configurations that they have begun are void.
    pub fn update(&mut self, display: &DisplayHandle, heads: Vec<HeadInfo>) {
        if self.heads == heads {
            return;
        }
        let before = std::mem::replace(&mut self.heads, heads);
        self.serial = self.serial.wrapping_add(1);
        for manager in &mut self.managers {
            manager.update(display, &before, &self.heads);
            manager.object.done(self.serial);
        }
    }
}

impl Manager {
    fn update(&mut self, display: &DisplayHandle, before: &[HeadInfo], now: &[HeadInfo]) {
        self.heads.retain(|head| {
            let stays = now.iter().any(|info| info.id == head.id);
            if !stays {
                head.modes.iter().for_each(|(_, mode)| mode.finished());
                head.object.finished();
            }
            stays
        });
        for info in now {
            let known = before.iter().find(|known| known.id == info.id);
            match (self.heads.iter_mut().find(|head| head.id == info.id), known) {
                (Some(head), Some(known)) if known != info => head.update(display, known, info),
                (Some(_), _) => {}
                (None, _) => self.heads.extend(Head::announce(display, &self.object, info)),
            }
        }
    }
}

impl Head {
    /// Tells a client of a head; `None` if the client is gone.
    fn announce(display: &DisplayHandle, manager: &ZwlrOutputManagerV1, info: &HeadInfo) -> Option<Self> {
        let (client, version) = (manager.client()?, manager.version());
        let object = client.create_resource::<_, _, Compositor>(display, version, HeadData(info.id)).ok()?;
        manager.head(&object);
        object.name(info.name.clone());
        let description: Vec<_> =
            [&info.make, &info.model, &info.serial].into_iter().filter(|text| !text.is_empty()).collect();
        let description = match description.is_empty() {
            true => info.name.clone(),
            false => {
                let words: Vec<_> = description.into_iter().map(String::as_str).collect();
                format!("{} ({})", words.join(" "), info.name)
            }
        };
        object.description(description);
        let millimetres = |value: u32| i32::try_from(value).unwrap_or(0);
        if info.size_mm != (0, 0) {
            object.physical_size(millimetres(info.size_mm.0), millimetres(info.size_mm.1));
        }
        if version >= zwlr_output_head_v1::EVT_MAKE_SINCE {
            let known = |text: &String| (!text.is_empty()).then(|| text.clone());
            known(&info.make).into_iter().for_each(|make| object.make(make));
            known(&info.model).into_iter().for_each(|model| object.model(model));
            known(&info.serial).into_iter().for_each(|serial| object.serial_number(serial));
        }
        let mut head = Self { id: info.id, object, modes: Vec::new() };
        head.announce_modes(display, info);
        head.tell(None, info.state);
        Some(head)
    }

    fn announce_modes(&mut self, display: &DisplayHandle, info: &HeadInfo) {
        let Some(client) = self.object.client() else { return };
        // A display without a list of modes may be lit with one that it is asked for.
        let custom = info.state.map(|state| state.mode).filter(|mode| !info.modes.contains(mode));
        for mode in info.modes.iter().copied().chain(custom) {
            let data = ModeData { head: info.id, mode };
            let made = client.create_resource::<ZwlrOutputModeV1, _, Compositor>(
                display,
                self.object.version(),
                data,
            );
            let Ok(object) = made else { return };
            self.object.mode(&object);
            object.size(mode.size.w, mode.size.h);
            object.refresh(mode.refresh);
            if info.preferred == Some(mode) {
                object.preferred();
            }
            self.modes.push((mode, object));
        }
    }

    /// What of `info` is not as it was.
    fn update(&mut self, display: &DisplayHandle, before: &HeadInfo, info: &HeadInfo) {
        let mut told = before.state;
        let lists_current =
            info.state.is_none_or(|state| self.modes.iter().any(|(mode, _)| *mode == state.mode));
        if before.modes != info.modes || before.preferred != info.preferred || !lists_current {
            for (_, mode) in self.modes.drain(..) {
                mode.finished();
            }
            self.announce_modes(display, info);
            // Also the current one is another object.
            told = told.map(|state| HeadState { mode: Mode { size: (0, 0).into(), refresh: 0 }, ..state });
        }
        self.tell(told, info.state);
    }

    fn tell(&self, told: Option<HeadState>, state: Option<HeadState>) {
        let is_new = told.is_none();
        if is_new || told.is_some() != state.is_some() {
            self.object.enabled(state.is_some().into());
        }
        let Some(state) = state else { return };
        if told.map(|told| told.mode) != Some(state.mode)
            && let Some((_, mode)) = self.modes.iter().find(|(mode, _)| *mode == state.mode)
        {
            self.object.current_mode(mode);
        }
        if told.map(|told| told.position) != Some(state.position) {
            self.object.position(state.position.x, state.position.y);
        }
        if told.map(|told| told.transform) != Some(state.transform) {
            self.object.transform(state.transform.into());
        }
        if told.map(|told| told.scale) != Some(state.scale) {
            self.object.scale(state.scale);
        }
        if told.map(|told| told.adaptive_sync) != Some(state.adaptive_sync)
            && self.object.version() >= zwlr_output_head_v1::EVT_ADAPTIVE_SYNC_SINCE
        {
            self.object.adaptive_sync(match state.adaptive_sync {
                true => AdaptiveSyncState::Enabled,
                false => AdaptiveSyncState::Disabled,
            });
        }
    }
}

impl GlobalDispatch<ZwlrOutputManagerV1, ()> for Compositor {
    fn bind(
        state: &mut Self,
        display: &DisplayHandle,
        _client: &Client,
        resource: New<ZwlrOutputManagerV1>,
        _data: &(),
        init: &mut DataInit<'_, Self>,
    ) {
        let object = init.init(resource, ());
        let management = &mut state.globals.output_management;
        let mut manager = Manager { object, heads: Vec::new() };
        manager.update(display, &[], &management.heads);
        manager.object.done(management.serial);
        management.managers.push(manager);
    }
}

impl Dispatch<ZwlrOutputManagerV1, ()> for Compositor {
    fn request(
        state: &mut Self,
        _client: &Client,
        manager: &ZwlrOutputManagerV1,
        request: zwlr_output_manager_v1::Request,
        _data: &(),
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            zwlr_output_manager_v1::Request::CreateConfiguration { id, serial } => {
                let _configuration: ZwlrOutputConfigurationV1 = init.init(id, Configuration::new(serial));
            }
            zwlr_output_manager_v1::Request::Stop => {
                state.globals.output_management.managers.retain(|other| other.object != *manager);
                manager.finished();
            }
            _ => {}
        }
    }

    fn destroyed(state: &mut Self, _client: ClientId, manager: &ZwlrOutputManagerV1, _data: &()) {
        state.globals.output_management.managers.retain(|other| other.object != *manager);
    }
}

impl Dispatch<ZwlrOutputHeadV1, HeadData> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        _head: &ZwlrOutputHeadV1,
        _request: zwlr_output_head_v1::Request,
        _data: &HeadData,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        // `release`, which needs nothing but the end of the object.
    }

    fn destroyed(state: &mut Self, _client: ClientId, head: &ZwlrOutputHeadV1, _data: &HeadData) {
        for manager in &mut state.globals.output_management.managers {
            manager.heads.retain(|other| other.object != *head);
        }
    }
}

impl Dispatch<ZwlrOutputModeV1, ModeData> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        _mode: &ZwlrOutputModeV1,
        _request: zwlr_output_mode_v1::Request,
        _data: &ModeData,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        // `release`, as of heads.
    }

    fn destroyed(state: &mut Self, _client: ClientId, mode: &ZwlrOutputModeV1, _data: &ModeData) {
        for head in state.globals.output_management.managers.iter_mut().flat_map(|manager| &mut manager.heads)
        {
            head.modes.retain(|(_, other)| other != mode);
        }
    }
}
