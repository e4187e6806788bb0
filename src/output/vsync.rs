//! Whether a display keeps to its vblanks: variable refresh, and tearing.
//!
//! Owns what users may say about it, and the rules. Pure: what covers an output is its caller's to know, and
//! whether the hardware can is the back end's answer ([`super::Head::set_variable`], [`super::Head::can_tear`]).

use super::frame::Cadence;

/// When a display that can waits for its frames, instead of refreshing at a fixed rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vrr {
    /// Never.
    #[default]
    Off,
    /// Always.
    On,
    /// While one surface covers the output, and is no still picture. Of several, the rate of one would be seen in the others, and in
    /// the pointer's.
    Auto,
}

impl Vrr {
    /// Whether the display is to wait for its frames, if it is covered by one surface that is no still picture, or is not.
    pub fn applies(self, is_covered: bool) -> bool {
        match self {
            Self::Off => false,
            Self::On => true,
            Self::Auto => is_covered,
        }
    }
}

/// When the next frame can be shown on a display that varies, or whose frames tear.
pub fn cadence(varies: bool, tears: bool) -> Cadence {
    match (tears, varies) {
        (true, _) => Cadence::AtOnce,
        (false, true) => Cadence::Variable,
        (false, false) => Cadence::Fixed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_waits_as_its_user_says() {
        let applies = |vrr: Vrr| [false, true].map(|is_covered| vrr.applies(is_covered));
        assert_eq!(
            [Vrr::Off, Vrr::Auto, Vrr::On].map(applies),
            [[false, false], [false, true], [true, true]]
        );
    }

    #[test]
    fn a_frame_that_may_tear_waits_for_nothing() {
        assert_eq!([cadence(false, true), cadence(true, true)], [Cadence::AtOnce; 2]);
        assert_eq!([cadence(false, false), cadence(true, false)], [Cadence::Fixed, Cadence::Variable]);
    }
}
