//! Where outputs are in the global coordinate space, and which one a surface is mainly on.
//!
//! Owns the two rules. Pure: sees rectangles and times, no output.

use std::cmp::Reverse;
use std::time::Duration;

use smithay::utils::{Logical, Point, Rectangle, Size};

/// No output begins farther out: with sizes below 2^20, sums of such numbers do not overflow.
pub const FARTHEST: i32 = 1 << 24;

/// What an output wants of the layout.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Its size.
    pub size: Size<i32, Logical>,
    /// Where it is to be, if anybody said so.
    pub at: Option<Point<i32, Logical>>,
}

/// The places of outputs: those with a position have it, the others follow to the right of all, in their order.
pub fn arrange(outputs: &[Wish]) -> Vec<Point<i32, Logical>> {
    let right = |wish: &Wish| wish.at.map(|at| at.x.saturating_add(wish.size.w));
    let mut next = outputs.iter().filter_map(right).max().unwrap_or(0);
    let place = |wish: &Wish| {
        wish.at.unwrap_or_else(|| {
            let here = Point::from((next, 0));
            next = next.saturating_add(wish.size.w);
            here
        })
    };
    outputs.iter().map(place).collect()
}

/// An output that is on, as far as it matters to a surface.
#[derive(Clone, Copy, Debug)]
pub struct Stage<I> {
    /// Its name.
    pub id: I,
    /// Its place.
    pub area: Rectangle<i32, Logical>,
    /// The length of its refresh.
    pub refresh: Duration,
}

/// The one output whose refreshes pace a surface and whose flips are reported to it: the one that shows most of it. Of
/// equals the fastest, then the oldest. `None` for a surface that is on none.
pub fn main<I: Copy + Ord>(stages: &[Stage<I>], surface: Rectangle<i32, Logical>) -> Option<I> {
    let visible = |stage: &Stage<I>| {
        let shown = stage.area.intersection(surface)?;
        let pixels = i64::from(shown.size.w) * i64::from(shown.size.h);
        (pixels > 0).then_some((pixels, Reverse(stage.refresh), Reverse(stage.id), stage.id))
    };
    stages.iter().filter_map(visible).max().map(|(.., id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: i32, y: i32, w: i32, h: i32) -> Rectangle<i32, Logical> {
        Rectangle::new((x, y).into(), (w, h).into())
    }

    /// Two outputs side by side; the second one is twice as fast.
    fn stages() -> [Stage<u32>; 2] {
        let ms = Duration::from_millis;
        [
            Stage { id: 1, area: rect(0, 0, 100, 100), refresh: ms(16) },
            Stage { id: 2, area: rect(100, 0, 100, 100), refresh: ms(8) },
        ]
    }

    #[test]
    fn outputs_without_a_place_follow_to_the_right_of_those_that_have_one() {
        let wish = |at: Option<(i32, i32)>| Wish { size: (100, 50).into(), at: at.map(Point::from) };
        let places = arrange(&[None, Some((300, 20)), None, Some((-7, 0))].map(wish));
        assert_eq!(places, [(400, 0), (300, 20), (500, 0), (-7, 0)].map(Point::from));
        assert_eq!(arrange(&[None, None].map(wish)), [(0, 0), (100, 0)].map(Point::from));
    }

    #[test]
    fn a_surface_belongs_to_the_output_that_shows_most_of_it() {
        assert_eq!(main(&stages(), rect(10, 10, 20, 20)), Some(1));
        assert_eq!(main(&stages(), rect(70, 10, 50, 50)), Some(1));
        assert_eq!(main(&stages(), rect(80, 10, 50, 50)), Some(2));
    }

    #[test]
    fn of_outputs_that_show_as_much_the_fastest_counts_then_the_oldest() {
        assert_eq!(main(&stages(), rect(75, 0, 50, 50)), Some(2));
        let mut equal = stages();
        equal[1].refresh = equal[0].refresh;
        assert_eq!(main(&equal, rect(75, 0, 50, 50)), Some(1));
    }

    #[test]
    fn a_surface_that_nothing_shows_belongs_to_no_output() {
        assert_eq!(main(&stages(), rect(200, 0, 50, 50)), None);
        assert_eq!(main(&stages(), rect(10, 10, 0, 0)), None);
        assert_eq!(main::<u32>(&[], rect(0, 0, 50, 50)), None);
    }
}
