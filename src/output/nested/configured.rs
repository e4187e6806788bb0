//! What the parent wants of a window: its size in the parent's own units, how many pixels one of them has, and whether it
//! fills the screen.
//!
//! Owns the arithmetic between those units and pixels, and the size to go back to. Pure.

use smithay::utils::{Logical, Physical, Size};

use crate::output::display::Scale;

/// xdg_toplevel.state.maximized
const MAXIMISED: u32 = 1;
/// xdg_toplevel.state.fullscreen
const FULLSCREEN: u32 = 2;

/// The longest side of a window, in pixels: what every renderer can draw.
const LONGEST: i32 = 8192;

/// What the parent wants of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Configured {
    size: Size<i32, Logical>,
    /// The size that it had last when it filled nothing.
    floating: Size<i32, Logical>,
    scale: Scale,
    fullscreen: bool,
    /// It has said so once.
    pub(super) once: bool,
    next: Option<Next>,
}

/// What takes effect with the `xdg_surface.configure` that is to come.
#[derive(Clone, Copy, Debug)]
struct Next {
    /// 0 leaves a side to us.
    size: Size<i32, Logical>,
    fullscreen: bool,
    maximised: bool,
}

impl Configured {
    /// A window that is to be of this size, unless the parent says otherwise.
    pub(super) fn new(size: Size<i32, Logical>) -> Self {
        Self { size, floating: size, scale: Scale::ONE, fullscreen: false, once: false, next: None }
    }

    /// The size in pixels, rounded as wp_fractional_scale_v1 says: "halfway away from zero".
    pub(super) fn pixels(&self) -> Size<i32, Physical> {
        let pixels = self.unbounded();
        (pixels.w.clamp(1, LONGEST), pixels.h.clamp(1, LONGEST)).into()
    }

    fn unbounded(&self) -> Size<i32, Physical> {
        self.size.to_f64().to_physical(self.scale.get()).to_i32_round()
    }

    /// How large a picture of so many pixels is shown: as large as the window if it was made for that.
    pub(super) fn shown_size(&self, picture: Size<i32, Physical>) -> Size<i32, Logical> {
        if picture == self.unbounded() {
            return self.size;
        }
        let size: Size<i32, _> = picture.to_f64().to_logical(self.scale.get()).to_i32_round();
        (size.w.max(1), size.h.max(1)).into()
    }

    /// How many pixels a unit of the parent's has.
    pub(super) fn scale(&self) -> Scale {
        self.scale
    }

    /// `xdg_toplevel.configure`: takes effect with the `xdg_surface.configure` that follows.
    pub(super) fn suggest(&mut self, width: i32, height: i32, states: &[u8]) {
        let is = |state: u32| states.as_chunks().0.iter().any(|word| u32::from_ne_bytes(*word) == state);
        let size = (width.max(0), height.max(0)).into();
        self.next = Some(Next { size, fullscreen: is(FULLSCREEN), maximised: is(MAXIMISED) });
    }

    /// Whether it fills the screen.
    pub(super) fn is_fullscreen(&self) -> bool {
        self.fullscreen
    }

    /// `xdg_surface.configure`. Whether the window has another size now.
    pub(super) fn take_effect(&mut self) -> bool {
        self.once = true;
        let Some(Next { size: next, fullscreen, maximised }) = self.next.take() else { return false };
        let or = |next: i32, ours: i32| if next > 0 { next } else { ours };
        let ours = if fullscreen || maximised { self.size } else { self.floating };
        let size = Size::from((or(next.w, ours.w), or(next.h, ours.h)));
        self.fullscreen = fullscreen;
        if !fullscreen && !maximised {
            self.floating = size;
        }
        std::mem::replace(&mut self.size, size) != size
    }

    /// The parent prefers this scale. Whether it is another; one that cannot be is not followed.
    pub(super) fn rescale(&mut self, scale: Option<Scale>) -> bool {
        let scale = scale.unwrap_or(self.scale);
        std::mem::replace(&mut self.scale, scale) != scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(width: i32, height: i32, scale_120ths: u32) -> Configured {
        let mut configured = Configured::new((width, height).into());
        configured.rescale(Scale::of_120ths(scale_120ths));
        configured
    }

    #[test]
    fn a_window_has_its_size_times_the_scale_in_pixels_rounded_away_from_zero() {
        assert_eq!(configured(101, 50, 180).pixels(), (152, 75).into());
        assert_eq!(configured(101, 50, 120).pixels(), (101, 50).into());
        assert_eq!(configured(101, 50, 60).pixels(), (51, 25).into());
    }

    #[test]
    fn a_picture_that_was_made_for_the_window_is_shown_in_its_size_and_no_other_is_stretched() {
        for scale in [60, 90, 120, 150, 180, 200, 240, 360] {
            for side in 1..300 {
                let window = configured(side, 7, scale);
                assert_eq!(window.shown_size(window.pixels()), (side, 7).into(), "at {scale} 120ths");
            }
        }
        // The parent has resized since.
        assert_eq!(configured(200, 200, 180).shown_size((150, 75).into()), (100, 50).into());
    }

    #[test]
    fn a_window_that_nobody_can_draw_is_as_large_as_can_be_drawn() {
        let window = configured(10_000, 10, 240);
        assert_eq!(window.pixels(), (LONGEST, 20).into());
        assert_eq!(window.shown_size(window.pixels()), (LONGEST / 2, 10).into());
        let window = configured(5_000, 10, 240);
        assert_eq!(window.shown_size(window.pixels()), (LONGEST / 2, 10).into());
    }

    #[test]
    fn a_side_that_the_parent_leaves_open_stays() {
        let mut window = configured(640, 480, 120);
        window.suggest(0, 300, &[]);
        assert_eq!((window.pixels(), window.once), ((640, 480).into(), false), "not yet");
        assert!(window.take_effect());
        assert_eq!((window.pixels(), window.once), ((640, 300).into(), true));
        window.suggest(640, 300, &[]);
        assert!(!window.take_effect());
    }

    #[test]
    fn a_window_that_no_longer_fills_the_screen_has_the_size_that_it_had_before() {
        let activated_too = |state: u32| [4_u32.to_ne_bytes(), state.to_ne_bytes()].concat();
        for state in [FULLSCREEN, MAXIMISED] {
            let mut window = configured(640, 480, 120);
            window.suggest(1920, 1080, &activated_too(state));
            assert!(window.take_effect());
            assert_eq!(window.is_fullscreen(), state == FULLSCREEN);
            window.suggest(0, 0, &activated_too(state));
            assert!(!window.take_effect());
            window.suggest(0, 0, &[]);
            assert!(window.take_effect());
            assert_eq!((window.pixels(), window.is_fullscreen()), ((640, 480).into(), false));
        }
    }

    #[test]
    fn a_scale_that_cannot_be_is_not_followed() {
        let mut window = configured(100, 100, 180);
        assert!(!window.rescale(Scale::of_120ths(0)));
        assert!(!window.rescale(Scale::of_120ths(u32::MAX)));
        assert_eq!(window.pixels(), (150, 150).into());
        assert!(window.rescale(Scale::of_120ths(240)));
    }
}
