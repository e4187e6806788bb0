//! What hides what: which surfaces of a frame can be seen.
//!
//! Owns the region that is covered so far, from the top of the scene down. Must not know surfaces.

use smithay::utils::{Physical, Rectangle};

/// How many rectangles are remembered. One that is not hides nothing: a surface then counts as seen that is not, which
/// costs work and breaks nothing.
const MAX_RECTANGLES: usize = 64;

/// The opaque region of what is on top.
#[derive(Debug, Default)]
pub(super) struct Cover {
    opaque: Vec<Rectangle<i32, Physical>>,
}

impl Cover {
    /// Whether any pixel of `area` can be seen on a screen of this size.
    pub(super) fn shows(&self, area: Rectangle<i32, Physical>, screen: Rectangle<i32, Physical>) -> bool {
        let on_screen = area.intersection(screen).filter(|area| !area.is_empty());
        on_screen.is_some_and(|area| !area.subtract_rects(self.opaque.iter().copied()).is_empty())
    }

    /// Puts opaque rectangles below what is there.
    pub(super) fn add(&mut self, opaque: impl Iterator<Item = Rectangle<i32, Physical>>) {
        let room = MAX_RECTANGLES.saturating_sub(self.opaque.len());
        self.opaque.extend(opaque.take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: i32, y: i32, w: i32, h: i32) -> Rectangle<i32, Physical> {
        Rectangle::new((x, y).into(), (w, h).into())
    }

    #[test]
    fn a_surface_is_hidden_when_all_of_it_that_is_on_the_screen_is_covered() {
        let (screen, mut cover) = (rect(0, 0, 100, 100), Cover::default());
        assert!(cover.shows(rect(50, 0, 100, 10), screen));
        cover.add([rect(50, 0, 30, 10)].into_iter());
        assert!(cover.shows(rect(50, 0, 100, 10), screen));
        // Together they cover it up to the screen's edge.
        cover.add([rect(80, 0, 20, 10)].into_iter());
        assert!(!cover.shows(rect(50, 0, 100, 10), screen));
        assert!(cover.shows(rect(50, 0, 100, 11), screen));
    }

    #[test]
    fn a_surface_beside_the_screen_cannot_be_seen() {
        assert!(!Cover::default().shows(rect(100, 0, 10, 10), rect(0, 0, 100, 100)));
        assert!(!Cover::default().shows(rect(0, 0, 0, 10), rect(0, 0, 100, 100)));
    }

    #[test]
    fn rectangles_beyond_the_bound_hide_nothing() {
        let mut cover = Cover::default();
        cover.add((0..100).map(|x| rect(x, 0, 1, 1)));
        assert_eq!(cover.opaque.len(), MAX_RECTANGLES);
        assert!(cover.shows(rect(99, 0, 1, 1), rect(0, 0, 100, 100)));
    }
}
