//! A mode that a display does not list: its timing by VESA's Coordinated Video Timings 1.2, reduced blanking version 2.
//!
//! Owns the formula. Pure: whether a display shows it is found out by trying.

use drm_ffi::drm_mode_modeinfo;

/// The blank pixels of a line, and where in them the pulse is.
const BLANK: u16 = 80;
const FRONT: u16 = 8;
const SYNC: u16 = 32;

/// The blank lines that there have to be below the picture, of the pulse, and between that and the next picture.
const FRONT_LINES: u16 = 1;
const SYNC_LINES: u16 = 8;
const BACK_LINES: u16 = 6;

/// How long all of them take at least, in microseconds.
const BLANK_US: u64 = 460;

/// `DRM_MODE_FLAG_PHSYNC | DRM_MODE_FLAG_NVSYNC` of `include/uapi/drm/drm_mode.h`.
const FLAGS: u32 = 1 | 1 << 3;

/// The mode of this size and rate, its clock in whole kHz. `None` if there can be none.
///
/// The clock is rounded, where the standard cuts it off: so the mode for the rate that a made one has is that one again.
pub(super) fn reduced(width: u16, height: u16, refresh_mhz: u32) -> Option<drm_mode_modeinfo> {
    let (lines, mhz) = (u64::from(height), u64::from(refresh_mhz));
    // As many lines as fill the time: a refresh has 10^9 / mhz microseconds.
    let lit_us_mhz = 1_000_000_000_u64.checked_sub(BLANK_US * mhz).filter(|us| *us > 0)?;
    let blank = u16::try_from(BLANK_US * lines * mhz / lit_us_mhz + 1).ok()?;
    let blank = blank.max(FRONT_LINES + SYNC_LINES + BACK_LINES);
    let (htotal, vtotal) = (width.checked_add(BLANK)?, height.checked_add(blank)?);
    let clock = (u64::from(htotal) * u64::from(vtotal) * mhz + 500_000) / 1_000_000;
    Some(drm_mode_modeinfo {
        clock: u32::try_from(clock).ok().filter(|khz| *khz > 0)?,
        hdisplay: width,
        hsync_start: width + FRONT,
        hsync_end: width + FRONT + SYNC,
        htotal,
        vdisplay: height,
        vsync_start: vtotal - BACK_LINES - SYNC_LINES,
        vsync_end: vtotal - BACK_LINES,
        vtotal,
        vrefresh: refresh_mhz.div_ceil(1000),
        flags: FLAGS,
        ..drm_mode_modeinfo::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `cvt12 --reduced-v2` and libdisplay-info have them.
    #[test]
    fn modes_are_those_of_the_standard() {
        let line = |width, height, mhz| {
            let mode = reduced(width, height, mhz).expect("a mode");
            let horizontal = [mode.hdisplay, mode.hsync_start, mode.hsync_end, mode.htotal];
            (mode.clock, horizontal, [mode.vdisplay, mode.vsync_start, mode.vsync_end, mode.vtotal])
        };
        let expected = (133_320, [1920, 1928, 1960, 2000], [1080, 1097, 1105, 1111]);
        assert_eq!(line(1920, 1080, 60_000), expected);
        let expected = (522_614, [3840, 3848, 3880, 3920], [2160, 2208, 2216, 2222]);
        assert_eq!(line(3840, 2160, 60_000), expected);
        let expected = (7_128, [640, 648, 680, 720], [480, 481, 489, 495]);
        assert_eq!(line(640, 480, 20_000), expected, "the blank lines have a minimum");
    }

    #[test]
    fn what_cannot_be_a_mode_is_none() {
        assert!(reduced(u16::MAX, 480, 60_000).is_none(), "no room for the blank pixels");
        assert!(reduced(640, u16::MAX, 60_000).is_none(), "no room for the blank lines");
        assert!(reduced(640, 480, 0).is_none(), "no clock");
        assert!(reduced(640, 480, u32::MAX).is_none(), "no time left for the picture");
    }
}
