//! A display as people and configuration know it, and how it is to be lit.
//!
//! Owns the description, the settings and their units. Pure data: sees no device and no Wayland object.

use smithay::output::Mode;
use smithay::utils::{Logical, Physical, Point, Size, Transform};

use super::kms::device::Connector;
use super::kms::modes::{self, ModeRequest, Timing};
use super::kms::props::ConnectorProp;
use super::vsync::Vrr;

/// DRM_MODE_LINK_STATUS_BAD
const LINK_BAD: u64 = 1;

/// A display that is connected, lit or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Its connector: "HDMI-A-1".
    pub name: String,
    /// Who made it, as the three letters of its EDID; empty where unknown, as are the next two.
    pub make: String,
    /// What the maker calls it.
    pub model: String,
    /// Which one of its model it is.
    pub serial: String,
    /// Width and height in millimetres; zero where unknown.
    pub size_mm: (u32, u32),
    /// What it can show, best first.
    pub modes: Vec<Mode>,
    /// The one that it shows best.
    pub preferred: Option<Mode>,
    /// What it is scaled by unless the settings say otherwise: a window by what its parent says.
    pub scale: Scale,
    /// It can wait for frames, instead of refreshing at a fixed rate.
    pub varies: bool,
    /// Its link has failed since the last modeset, and only another one has it trained anew.
    pub link_failed: bool,
}

impl Info {
    /// What a connector says of its display.
    pub fn of_connector(connector: &Connector) -> Self {
        let mut all: Vec<Mode> = Vec::new();
        for (_, timing) in &connector.modes {
            let mode = mode(timing);
            if !all.contains(&mode) {
                all.push(mode);
            }
        }
        let preferred = modes::choose(&connector.modes, ModeRequest::Preferred).ok();
        let identity = connector.identity.clone();
        Self {
            name: connector.name.clone(),
            make: identity.make,
            model: identity.model,
            serial: identity.serial,
            size_mm: connector.size_mm,
            modes: all,
            preferred: preferred.map(|(_, timing)| mode(timing)),
            scale: Scale::ONE,
            varies: connector.props.initial(ConnectorProp::VrrCapable) == Some(1),
            link_failed: connector.props.initial(ConnectorProp::LinkStatus) == Some(LINK_BAD),
        }
    }

    /// A display that nobody sees, with this mode.
    pub fn headless(name: String, mode: Mode) -> Self {
        Self { name, modes: vec![mode], preferred: Some(mode), ..Self::default() }
    }

    /// Whether the mode that was found for `wanted`, `current`, is to be had still.
    pub fn keeps(&self, wanted: ModeRequest, current: Mode) -> bool {
        self.modes.contains(&current) || wanted.made().is_some_and(|(_, timing)| mode(&timing) == current)
    }

    /// The request that finds exactly this mode, or has it made; `None` for one that no display can have.
    pub fn request(&self, mode: Mode) -> Option<ModeRequest> {
        let side = |pixels: i32| u16::try_from(pixels).ok().filter(|pixels| *pixels > 0);
        let (width, height) = (side(mode.size.w)?, side(mode.size.h)?);
        let refresh_mhz = u32::try_from(mode.refresh).ok().filter(|mhz| *mhz > 0);
        // Whoever names no rate leaves it to the display.
        let is_asked = |listed: &Mode| {
            listed.size == mode.size && refresh_mhz.is_none_or(|_| listed.refresh == mode.refresh)
        };
        Some(match self.modes.iter().any(is_asked) {
            true => ModeRequest::Size { width, height, refresh_mhz },
            false => {
                ModeRequest::Custom { width, height, refresh_mhz: refresh_mhz.unwrap_or(modes::CUSTOM_MHZ) }
            }
        })
    }

    /// Whether it is the same display, perhaps with other modes: a virtual one follows its window.
    pub fn is_same_display(&self, other: &Self) -> bool {
        let identity = |info: &Self| (info.make.clone(), info.model.clone(), info.serial.clone());
        self.name == other.name && identity(self) == identity(other)
    }
}

/// How many pixels a logical one has, in 120ths as wp_fractional_scale_v1 counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scale(u32);

impl Default for Scale {
    fn default() -> Self {
        Self::ONE
    }
}

impl Scale {
    /// One pixel is one pixel.
    pub const ONE: Self = Self(120);
    /// The smallest scale that is taken.
    pub const MIN: f64 = 0.25;
    /// The largest one.
    pub const MAX: f64 = 16.0;

    /// The nearest 120th; `None` outside of [`Self::MIN`] to [`Self::MAX`].
    pub fn new(scale: f64) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range is checked; NaN is in none"
        )]
        (Self::MIN..=Self::MAX).contains(&scale).then(|| Self((scale * 120.0).round() as u32))
    }

    /// As the wire has it, within the same bounds.
    pub fn of_120ths(wire: u32) -> Option<Self> {
        Self::new(f64::from(wire) / 120.0)
    }

    /// The scale as a number.
    pub fn get(self) -> f64 {
        f64::from(self.0) / 120.0
    }

    /// As `wl_output.scale` has it: clients that know whole scales only draw a little too large, not too small.
    pub fn for_clients(self) -> smithay::output::Scale {
        match (self.0 % 120, i32::try_from(self.0 / 120)) {
            (0, Ok(whole)) => smithay::output::Scale::Integer(whole),
            _ => smithay::output::Scale::Fractional(self.get()),
        }
    }
}

/// How a display is to be lit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether at all.
    pub on: bool,
    /// With what mode.
    pub mode: ModeRequest,
    /// How large a logical pixel is; `None` for [`Info::scale`].
    pub scale: Option<Scale>,
    /// How the display is mounted, as `wl_output.transform` counts.
    pub transform: Transform,
    /// Where its top left corner is; without, it is put to the right of the others.
    pub position: Option<Point<i32, Logical>>,
    /// When it waits for frames, if it can.
    pub vrr: Vrr,
    /// A client that fills it may have its frames shown in the middle of a refresh.
    pub tearing: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            on: true,
            mode: ModeRequest::Preferred,
            scale: None,
            transform: Transform::Normal,
            position: None,
            vrr: Vrr::Off,
            tearing: true,
        }
    }
}

impl Settings {
    /// What this display is scaled by.
    pub fn scale_of(&self, display: &Info) -> Scale {
        self.scale.unwrap_or(display.scale)
    }

    /// Whether a display that is lit with the mode `current` stays as it is, now that this is known of it: the mode is there
    /// still, nothing better was asked for, and the display can show it.
    pub fn are_met_by(&self, display: &Info, current: Mode) -> bool {
        let follows = self.mode == ModeRequest::Preferred && display.preferred != Some(current);
        display.keeps(self.mode, current) && !follows && !display.link_failed
    }

    /// The size of a mode in the global coordinate space.
    pub fn logical_size(&self, mode: Size<i32, Physical>, scale: Scale) -> Size<i32, Logical> {
        self.transform.transform_size(mode).to_f64().to_logical(scale.get()).to_i32_round()
    }
}

/// As clients are told.
fn mode(timing: &Timing) -> Mode {
    Mode {
        size: (i32::from(timing.width), i32::from(timing.height)).into(),
        refresh: i32::try_from(timing.refresh_mhz()).unwrap_or(i32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_whole_120ths_within_bounds() {
        assert_eq!(Scale::new(1.0), Some(Scale::ONE));
        assert_eq!(Scale::new(1.333).map(Scale::get), Some(160.0 / 120.0));
        for nonsense in [0.0, -1.0, 0.2, 17.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Scale::new(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn clients_that_know_whole_scales_only_are_told_the_next_larger_one() {
        let whole = |scale| Scale::new(scale).expect("a scale").for_clients().integer_scale();
        assert_eq!([1.0, 1.25, 2.0, 0.5].map(whole), [1, 2, 2, 1]);
    }

    #[test]
    fn the_logical_size_is_turned_and_scaled() {
        let scale = Scale::new(1.5).expect("a scale");
        let settings = Settings { transform: Transform::_90, ..Settings::default() };
        assert_eq!(settings.logical_size((1920, 1080).into(), scale), (720, 1280).into());
    }

    #[test]
    fn a_display_stays_as_it_is_while_its_mode_is_there_and_its_link_holds() {
        let mode = |width: i32| Mode { size: (width, 1080).into(), refresh: 60_000 };
        let (large, small) = (mode(1920), mode(1280));
        let offers = |modes: &[Mode]| Info {
            modes: modes.to_vec(),
            preferred: modes.first().copied(),
            ..Info::default()
        };
        let asked = ModeRequest::Size { width: 1280, height: 1080, refresh_mhz: None };
        let preferred = Settings::default();
        let named = Settings { mode: asked, ..preferred };
        let both = offers(&[large, small]);
        assert!(preferred.are_met_by(&both, large) && named.are_met_by(&both, small));
        // A better one has come; the one in use has gone.
        assert!(!preferred.are_met_by(&both, small));
        assert!(!named.are_met_by(&offers(&[large]), small));
        for settings in [preferred, named] {
            let failed = Info { link_failed: true, ..both.clone() };
            let current = if settings == named { small } else { large };
            assert!(!settings.are_met_by(&failed, current), "{settings:?}");
        }
    }

    #[test]
    fn a_display_has_its_own_scale_unless_it_is_told_another() {
        let (own, other) = (Scale::new(1.5).expect("a scale"), Scale::new(3.0).expect("a scale"));
        let display = Info { scale: own, ..Info::default() };
        assert_eq!(Settings::default().scale_of(&display), own);
        assert_eq!(Settings { scale: Some(other), ..Settings::default() }.scale_of(&display), other);
    }
}
