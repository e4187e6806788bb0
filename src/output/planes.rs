//! Which plane shows what: the assignment, from the top down.
//!
//! Owns the rule. Pure: it sees rectangles, and asks its caller whether the hardware takes a proposal.
//!
//! 1. Only what can be seen counts: nothing below the first item that is opaque and covers the display.
//! 2. From the top down, an item goes to the highest overlay plane that is free, if a plane can take it, if nothing above
//!    it has to be composed (the composed picture is below every overlay), and if the hardware takes it. Overlay planes of
//!    unknown order take only items that do not overlap each other.
//! 3. If the one item left is opaque and covers the display, the primary plane shows it as it is, and nothing is
//!    composed.
//! 4. Everything else is composed, onto the primary plane.
//!
//! Each proposal is tested, at most [`MAX_TESTS`] in a frame; after that the rest is composed. An item that two planes
//! refuse is offered to no third. The caller keeps the answer while the scene keeps its shape, so that a steady scene
//! costs no test.

use smithay::utils::{Physical, Rectangle, Size};

/// How many proposals are tested in one frame. Each is an ioctl that waits for no hardware, of a few ten microseconds.
pub const MAX_TESTS: usize = 8;

/// Planes of one display differ little: what two of them refuse, the others do too.
const PLANES_PER_ITEM: usize = 2;

/// What the rule has to know of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it is, in the pixels of the display's mode.
    pub dst: Rectangle<i32, Physical>,
    /// It hides all that is below it.
    pub opaque: bool,
    /// A plane could show it, as far as is known without a test.
    pub fits: Fits,
}

/// Where an item could go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    /// On any plane.
    Anywhere,
    /// On the primary plane, and only with nothing else on the output's planes: its fence has not signalled, and no other
    /// surface may wait for it.
    Alone,
    /// On none: the renderer has to draw it.
    Nowhere,
}

/// Where an item is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the composed picture, if it can be seen at all.
    Composed,
    /// On the primary plane, by itself.
    Primary,
    /// On an overlay plane, counted from the topmost.
    Overlay(usize),
}

/// The overlay planes of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlays {
    /// How many there are above the primary plane.
    pub count: usize,
    /// Whether they are known to lie on each other in the order of their numbers.
    pub ordered: bool,
}

/// Assigns `items`, which are in order from the top, on a display of this size. `test` says whether the hardware takes a
/// proposal.
pub fn assign(
    items: &[Seen],
    size: Size<i32, Physical>,
    overlays: Overlays,
    mut test: impl FnMut(&[Place]) -> bool,
) -> Vec<Place> {
    let display = Rectangle::from_size(size);
    let covers = |item: &Seen| item.opaque && item.dst.contains_rect(display);
    let visible = items.iter().position(covers).map_or(items.len(), |last| last + 1);
    let mut places = vec![Place::Composed; items.len()];
    let mut tests = 0;
    let mut accepts = |places: &[Place], limit| {
        let within = tests < limit;
        tests += usize::from(within);
        within && test(places)
    };

    let (mut composed, mut next_plane) = (Vec::new(), 0);
    for (index, item) in items.iter().enumerate().take(visible) {
        let hidden_by = |above: &Rectangle<i32, Physical>| above.overlaps(item.dst);
        let crosses =
            |(other, place): (&Seen, &Place)| *place != Place::Composed && other.dst.overlaps(item.dst);
        let possible = item.fits == Fits::Anywhere
            && !covers(item)
            && !composed.iter().any(hidden_by)
            && (overlays.ordered || !items.iter().zip(&places).take(index).any(crosses));
        let free = (next_plane..overlays.count).take(if possible { PLANES_PER_ITEM } else { 0 });
        let found = free.into_iter().find(|&plane| {
            set(&mut places, index, Place::Overlay(plane));
            // The last one is the primary plane's, which is worth most.
            accepts(&places, MAX_TESTS - 1)
        });
        match found {
            Some(plane) => next_plane = plane + 1,
            None => {
                set(&mut places, index, Place::Composed);
                composed.push(item.dst);
            }
        }
    }

    let mut left = (0..visible).filter(|index| places.get(*index) == Some(&Place::Composed));
    if let (Some(index), None) = (left.next(), left.next())
        && items.get(index).is_some_and(|item| covers(item) && may_be_alone(item, next_plane))
    {
        set(&mut places, index, Place::Primary);
        if !accepts(&places, MAX_TESTS) {
            set(&mut places, index, Place::Composed);
        }
    }
    places
}

/// Whether the item may be on the primary plane, with so many overlay planes in use.
fn may_be_alone(item: &Seen, overlays_in_use: usize) -> bool {
    match item.fits {
        Fits::Anywhere => true,
        Fits::Alone => overlays_in_use == 0,
        Fits::Nowhere => false,
    }
}

fn set(places: &mut [Place], index: usize, place: Place) {
    if let Some(slot) = places.get_mut(index) {
        *slot = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISPLAY: (i32, i32) = (1000, 500);
    const FOUR: Overlays = Overlays { count: 4, ordered: true };

    fn item(x: i32, width: i32, opaque: bool, fits: Fits) -> Seen {
        Seen { dst: Rectangle::new((x, 0).into(), (width, 500).into()), opaque, fits }
    }

    fn full(fits: Fits) -> Seen {
        item(0, 1000, true, fits)
    }

    fn window(x: i32, fits: Fits) -> Seen {
        item(x, 100, true, fits)
    }

    fn assigned(items: &[Seen], overlays: Overlays) -> Vec<Place> {
        assign(items, DISPLAY.into(), overlays, |_| true)
    }

    use Fits::{Alone, Anywhere, Nowhere};
    use Place::{Composed, Overlay, Primary};

    #[test]
    fn what_covers_the_display_is_scanned_out_by_the_primary_plane() {
        assert_eq!(assigned(&[full(Anywhere)], FOUR), [Primary]);
        assert_eq!(assigned(&[full(Anywhere), window(0, Nowhere)], FOUR), [Primary, Composed]);
    }

    #[test]
    fn what_leaves_something_to_be_seen_below_is_not() {
        assert_eq!(
            assigned(&[item(0, 999, true, Anywhere)], Overlays { count: 0, ordered: true }),
            [Composed]
        );
        assert_eq!(
            assigned(&[item(0, 1000, false, Anywhere)], Overlays { count: 0, ordered: true }),
            [Composed]
        );
    }

    #[test]
    fn windows_go_to_overlays_from_the_top_and_the_rest_is_composed() {
        let items = [window(0, Anywhere), window(50, Anywhere), window(500, Nowhere)];
        assert_eq!(assigned(&items, FOUR), [Overlay(0), Overlay(1), Composed]);
        assert_eq!(assigned(&items, Overlays { count: 1, ordered: true }), [Overlay(0), Composed, Composed]);
    }

    #[test]
    fn nothing_goes_above_what_is_composed_on_top_of_it() {
        let items = [window(50, Nowhere), window(0, Anywhere), window(500, Anywhere)];
        assert_eq!(assigned(&items, FOUR), [Composed, Composed, Overlay(0)]);
    }

    #[test]
    fn planes_of_unknown_order_do_not_overlap() {
        let unordered = Overlays { count: 4, ordered: false };
        let items = [window(0, Anywhere), window(50, Anywhere), window(500, Anywhere)];
        assert_eq!(assigned(&items, unordered), [Overlay(0), Composed, Overlay(1)]);
    }

    #[test]
    fn a_video_below_an_overlay_is_still_scanned_out() {
        assert_eq!(assigned(&[window(0, Anywhere), full(Anywhere)], FOUR), [Overlay(0), Primary]);
        assert_eq!(assigned(&[window(0, Nowhere), full(Anywhere)], FOUR), [Composed, Composed]);
    }

    #[test]
    fn a_fence_that_has_not_signalled_holds_no_other_plane() {
        assert_eq!(assigned(&[full(Alone)], FOUR), [Primary]);
        assert_eq!(assigned(&[window(0, Anywhere), full(Alone)], FOUR), [Overlay(0), Composed]);
        assert_eq!(assigned(&[window(0, Alone)], FOUR), [Composed]);
    }

    #[test]
    fn what_the_hardware_refuses_is_tried_on_the_next_plane_and_then_composed() {
        let only_second = |places: &[Place]| !places.contains(&Overlay(0));
        let two = [window(0, Anywhere), window(500, Anywhere)];
        let places = assign(&two, DISPLAY.into(), Overlays { count: 2, ordered: true }, only_second);
        assert_eq!(places, [Overlay(1), Composed]);
        assert_eq!(assign(&[full(Anywhere)], DISPLAY.into(), FOUR, |_| false), [Composed]);
    }

    #[test]
    fn a_frame_costs_a_bounded_number_of_tests() {
        let items: Vec<_> = (0..100).map(|index| window(index * 200, Anywhere)).collect();
        let mut tests = 0;
        let places = assign(&items, DISPLAY.into(), Overlays { count: 50, ordered: true }, |_| {
            tests += 1;
            false
        });
        assert_eq!(tests, MAX_TESTS - 1, "one is kept for the primary plane");
        assert!(places.iter().all(|place| *place == Composed));
    }
}
