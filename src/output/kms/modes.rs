//! Modes: which one to light an output with, and how long its refresh is exactly.
//!
//! Owns the choice. Pure: it sees the timings of a connector's modes, no device.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use drm::control::{Mode, ModeFlags, ModeTypeFlags};

use super::cvt;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModeRequest {
    /// The display's preferred mode, else the largest and fastest.
    #[default]
    Preferred,
    /// A mode of this size.
    Size {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
        /// The refresh rate, in mHz; without it the preferred or the fastest of that size.
        refresh_mhz: Option<u32>,
    },
    /// A mode that is made, whatever the display lists.
    Custom {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
        /// The refresh rate, in mHz.
        refresh_mhz: u32,
    },
}

/// The refresh rate of a custom mode for which none was asked, in mHz.
pub const CUSTOM_MHZ: u32 = 60_000;

impl ModeRequest {
    /// The mode that is made for a custom one; `None` for others, and where there can be none.
    pub fn made(self) -> Option<(Mode, Timing)> {
        let Self::Custom { width, height, refresh_mhz } = self else { return None };
        let mode = Mode::from(cvt::reduced(width, height, refresh_mhz)?);
        Some((mode, Timing::of(&mode)))
    }
}

/// How far a mode's refresh rate may be from the one asked for: 60 finds 59.94.
const REFRESH_TOLERANCE_MHZ: u32 = 500;

/// A request that is not `WIDTHxHEIGHT` or `WIDTHxHEIGHT@HZ`, with `custom:` before it or not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Could not read \"{0}\" as a mode: write WIDTHxHEIGHT or WIDTHxHEIGHT@HZ, for example 1920x1080@59.94, with \"custom:\" before it if the display does not list it"
)]
pub struct BadModeRequest(String);

/// No mode of the connector is what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Could not find the mode {wanted}; there is {available}")]
pub struct NoSuchMode {
    wanted: ModeRequest,
    /// A list for people, or "no mode at all".
    available: String,
}

/// The numbers of a mode that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Visible pixels in a line.
    pub width: u16,
    /// Visible lines.
    pub height: u16,
    /// Pixels per millisecond.
    clock_khz: u32,
    /// Pixels of a refresh, with the blank ones, in half-lines where the mode is interlaced.
    pixels: u64,
    /// The display prefers it.
    preferred: bool,
}

impl Timing {
    /// Reads a mode of the kernel.
    pub fn of(mode: &Mode) -> Self {
        let (width, height) = mode.size();
        let (_, _, htotal) = mode.hsync();
        let (_, _, vtotal) = mode.vsync();
        // As drm_mode_vrefresh() counts: an interlaced mode refreshes with each field, of half the lines.
        let mut pixels = u64::from(htotal) * u64::from(vtotal) * u64::from(mode.vscan().max(1));
        if mode.flags().contains(ModeFlags::DBLSCAN) {
            pixels *= 2;
        }
        if mode.flags().contains(ModeFlags::INTERLACE) {
            pixels /= 2;
        }
        let preferred = mode.mode_type().contains(ModeTypeFlags::PREFERRED);
        Self { width, height, clock_khz: mode.clock(), pixels, preferred }
    }

    /// The length of a refresh, exact to the nanosecond; 1/60 s where the driver does not say.
    pub fn refresh(&self) -> Duration {
        match (self.pixels * 1_000_000).checked_div(u64::from(self.clock_khz)) {
            Some(ns) if ns > 0 => Duration::from_nanos(ns),
            _ => Duration::from_nanos(16_666_667),
        }
    }

    /// The refresh rate in mHz, as `wl_output.mode` wants it.
    pub fn refresh_mhz(&self) -> u32 {
        let ns = u64::try_from(self.refresh().as_nanos()).unwrap_or(u64::MAX).max(1);
        u32::try_from((1_000_000_000_000 + ns / 2) / ns).unwrap_or(u32::MAX)
    }
}

/// The mode to use, of what a connector has.
///
/// # Errors
/// [`NoSuchMode`], which names what there is.
pub fn choose<M>(modes: &[(M, Timing)], wanted: ModeRequest) -> Result<&(M, Timing), NoSuchMode> {
    let fits = |timing: &Timing| match wanted {
        ModeRequest::Preferred => true,
        ModeRequest::Size { width, height, refresh_mhz } => {
            let near =
                refresh_mhz.is_none_or(|mhz| timing.refresh_mhz().abs_diff(mhz) <= REFRESH_TOLERANCE_MHZ);
            (timing.width, timing.height) == (width, height) && near
        }
        // Made, not chosen: it is here only if it cannot be made.
        ModeRequest::Custom { .. } => false,
    };
    let rank = |timing: &Timing| match wanted {
        ModeRequest::Size { refresh_mhz: Some(mhz), .. } => {
            (false, 0, u32::MAX - timing.refresh_mhz().abs_diff(mhz))
        }
        _ => (timing.preferred, u32::from(timing.width) * u32::from(timing.height), timing.refresh_mhz()),
    };
    // Of equals the first, for which `max_by_key` needs the order reversed: the kernel sorts modes by merit.
    let best = modes.iter().rev().filter(|(_, timing)| fits(timing)).max_by_key(|(_, timing)| rank(timing));
    best.ok_or_else(|| {
        let available = modes.iter().map(|(_, timing)| timing.to_string()).collect::<Vec<_>>().join(", ");
        let available = if available.is_empty() { "no mode at all".to_owned() } else { available };
        NoSuchMode { wanted, available }
    })
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mhz = self.refresh_mhz();
        write!(f, "{}x{}@{}.{:03}", self.width, self.height, mhz / 1000, mhz % 1000)
    }
}

impl fmt::Display for ModeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preferred => f.write_str("that the display prefers"),
            Self::Size { width, height, refresh_mhz: None } => write!(f, "{width}x{height}"),
            Self::Size { width, height, refresh_mhz: Some(mhz) } => {
                write!(f, "{width}x{height}@{}.{:03}", mhz / 1000, mhz % 1000)
            }
            Self::Custom { width, height, refresh_mhz: mhz } => {
                write!(f, "custom:{width}x{height}@{}.{:03}", mhz / 1000, mhz % 1000)
            }
        }
    }
}

impl FromStr for ModeRequest {
    type Err = BadModeRequest;

    fn from_str(text: &str) -> Result<Self, BadModeRequest> {
        let (is_custom, listed) = match text.strip_prefix("custom:") {
            Some(custom) => (true, custom),
            None => (false, text),
        };
        let parse = || {
            let (size, refresh) = match listed.split_once('@') {
                Some((size, refresh)) => (size, Some(refresh)),
                None => (listed, None),
            };
            let (width, height) = size.split_once('x')?;
            let refresh_mhz = match refresh {
                Some(hz) => Some(hz.parse::<f64>().ok().filter(|hz| (1.0..1000.0).contains(hz))?),
                None => None,
            };
            let width = width.parse().ok().filter(|&width| width > 0)?;
            let height = height.parse().ok().filter(|&height| height > 0)?;
            // In range: below 10^6.
            let refresh_mhz = refresh_mhz.map(|hz| (hz * 1000.0).round() as u32);
            Some(match is_custom {
                true => Self::Custom { width, height, refresh_mhz: refresh_mhz.unwrap_or(CUSTOM_MHZ) },
                false => Self::Size { width, height, refresh_mhz },
            })
        };
        parse().ok_or_else(|| BadModeRequest(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(width: u16, height: u16, clock_khz: u32, htotal: u64, vtotal: u64, preferred: bool) -> Timing {
        Timing { width, height, clock_khz, pixels: htotal * vtotal, preferred }
    }

    fn display() -> Vec<(usize, Timing)> {
        let timings = [
            timing(1920, 1080, 148_500, 2200, 1125, true),
            timing(1920, 1080, 148_352, 2200, 1125, false),
            timing(1920, 1080, 297_000, 2200, 1125, false),
            timing(3840, 2160, 297_000, 4400, 2250, false),
            timing(640, 480, 25_175, 800, 525, false),
            timing(640, 480, 25_175, 800, 525, false),
        ];
        timings.into_iter().enumerate().collect()
    }

    fn chosen(request: &str) -> Result<usize, NoSuchMode> {
        choose(&display(), request.parse().expect("a good request")).map(|&(index, _)| index)
    }

    #[test]
    fn refresh_is_exact_from_the_pixel_clock() {
        let modes = display();
        assert_eq!(modes[0].1.refresh(), Duration::from_nanos(16_666_666));
        assert_eq!(modes[0].1.refresh_mhz(), 60_000);
        assert_eq!(modes[1].1.refresh_mhz(), 59_940);
        assert_eq!(modes[4].1.refresh_mhz(), 59_940);
    }

    #[test]
    fn a_driver_without_a_clock_counts_as_60_hz() {
        assert_eq!(timing(1024, 768, 0, 0, 0, true).refresh_mhz(), 60_000);
    }

    #[test]
    fn the_preferred_mode_wins_over_the_largest() {
        let preferred =
            |modes: &[(usize, Timing)]| choose(modes, ModeRequest::Preferred).map(|&(index, _)| index);
        assert_eq!(preferred(&display()), Ok(0));
        assert_eq!(preferred(&display()[1..]), Ok(3), "without a preferred mode the largest");
    }

    #[test]
    fn a_size_without_a_rate_gives_the_preferred_or_the_fastest() {
        assert_eq!(chosen("1920x1080"), Ok(0));
        assert_eq!(chosen("640x480"), Ok(4));
    }

    #[test]
    fn a_rate_gives_the_nearest_mode() {
        assert_eq!(chosen("1920x1080@60"), Ok(0));
        assert_eq!(chosen("1920x1080@59.94"), Ok(1));
        assert_eq!(chosen("1920x1080@59.9"), Ok(1));
        assert_eq!(chosen("1920x1080@120"), Ok(2));
        assert_eq!(chosen("640x480@60"), Ok(4));
    }

    #[test]
    fn an_absent_mode_is_refused_with_a_list_of_what_there_is() {
        let error = chosen("1920x1080@75").expect_err("no such rate").to_string();
        assert!(error.starts_with("Could not find the mode 1920x1080@75.000; there is"), "{error}");
        assert!(error.contains("1920x1080@59.940, 1920x1080@120.000"), "{error}");
        let none: &[((), Timing)] = &[];
        let error = choose(none, ModeRequest::Preferred).expect_err("no modes").to_string();
        assert_eq!(error, "Could not find the mode that the display prefers; there is no mode at all");
    }

    #[test]
    fn a_custom_mode_is_made_and_not_looked_for() {
        let request: ModeRequest = "custom:640x480@20".parse().expect("a good request");
        assert_eq!(request, ModeRequest::Custom { width: 640, height: 480, refresh_mhz: 20_000 });
        assert_eq!(request.to_string(), "custom:640x480@20.000");
        let (_, timing) = request.made().expect("a mode");
        assert_eq!((timing.width, timing.height, timing.refresh_mhz()), (640, 480, 20_000));
        assert_eq!(
            "custom:640x480".parse(),
            Ok(ModeRequest::Custom { width: 640, height: 480, refresh_mhz: 60_000 })
        );
        let listed: ModeRequest = "640x480@60".parse().expect("a good request");
        assert!(listed.made().is_none());
        let error = chosen("custom:65535x480").expect_err("too wide").to_string();
        assert!(error.starts_with("Could not find the mode custom:65535x480@60.000"), "{error}");
    }

    #[test]
    fn what_is_not_a_mode_is_refused() {
        for text in [
            "custom:",
            "custom:640x480@0",
            "",
            "1920",
            "1920x",
            "x1080",
            "0x0",
            "1920x1080@",
            "1920x1080@0",
            "1920x1080@nan",
            "-1x5",
            "99999x1",
        ] {
            assert!(text.parse::<ModeRequest>().is_err(), "{text}");
        }
    }
}
