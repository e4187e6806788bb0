//! What has to be drawn: from the elements of a frame and those of the frame before.
//!
//! Owns that comparison, the history of an output's damage, and which element is drawn where. Pure arithmetic: must not know
//! GL. The work grows with what has changed: of an element that is the same object as in the last frame, only its number is
//! looked at, and where it is.

use std::collections::{HashMap, VecDeque};

use smithay::{
    backend::renderer::element::Id,
    utils::{Physical, Rectangle},
};

use super::element::{Element, Signature};

type Rect = Rectangle<i32, Physical>;

/// How many frames back a buffer may be.
const HISTORY: usize = 8;
/// How many rectangles are kept apart; beyond that their bounding box is drawn.
const MAX_RECTS: usize = 32;
/// How many pieces the visible rest may have for opaque elements to be cut out of it. Beyond that some pixels are drawn twice.
const MAX_PIECES: usize = 64;

/// The frames that were drawn.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// The elements of the newest; `None` if it is not on the screen.
    newest: Option<Vec<Signature>>,
    /// What changed with each frame, the newest first.
    damage: VecDeque<Vec<Rect>>,
}

/// What is to be drawn in one frame.
#[derive(Debug, PartialEq)]
pub(super) struct Pass {
    /// What differs from the frame before. No two of them overlap.
    pub(super) changed: Vec<Rect>,
    /// Where nothing opaque is in front of the background.
    pub(super) background: Vec<Rect>,
    /// Which elements are drawn, top to bottom, and what of them.
    pub(super) draws: Vec<(usize, Vec<Rect>)>,
}

impl Tracker {
    /// Whether these elements would make the frame that was drawn last.
    pub(super) fn shows(&self, elements: &[&Element]) -> bool {
        let newest = self.newest.as_ref().filter(|newest| newest.len() == elements.len());
        newest.is_some_and(|newest| newest.iter().zip(elements).all(|(old, new)| old.is_of(new)))
    }

    /// What it takes to draw these elements within `bounds` into a buffer that was last drawn `age` frames ago (0: never).
    /// `None` if nothing has changed.
    pub(super) fn pass(&self, elements: &[&Element], age: usize, bounds: Rect) -> Option<Pass> {
        let changed = self.changed(elements, bounds);
        if changed.is_empty() {
            return None;
        }
        let missed = age.checked_sub(1).filter(|missed| *missed <= self.damage.len());
        let damage = match missed {
            None => vec![bounds],
            Some(0) => changed.clone(),
            Some(missed) => {
                disjoint(changed.iter().chain(self.damage.iter().take(missed).flatten()).copied(), bounds)
            }
        };
        let (mut rest, mut draws) = (damage, Vec::new());
        for (index, element) in elements.iter().enumerate() {
            let shown: Vec<_> = overlaps(&rest, element.area()).collect();
            if shown.is_empty() {
                continue;
            }
            draws.push((index, shown));
            if rest.len() <= MAX_PIECES {
                rest = Rectangle::subtract_rects_many_in_place(rest, element.opaque_areas());
            }
            if rest.is_empty() {
                break;
            }
        }
        Some(Pass { changed, background: rest, draws })
    }

    /// A frame of these elements was drawn, or needed no drawing.
    pub(super) fn drawn(&mut self, elements: &[&Element], changed: Option<Vec<Rect>>) {
        let newest = self.newest.get_or_insert_default();
        newest.truncate(elements.len());
        for (old, new) in newest.iter_mut().zip(elements) {
            if !old.is_made_from(new) {
                *old = new.signature();
            }
        }
        newest.extend(elements.iter().skip(newest.len()).map(|element| element.signature()));
        if let Some(changed) = changed {
            self.damage.push_front(changed);
            self.damage.truncate(HISTORY);
        }
    }

    /// Nothing is known of what is on the screen and in the buffers.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn changed(&self, elements: &[&Element], bounds: Rect) -> Vec<Rect> {
        let Some(newest) = &self.newest else { return vec![bounds] };
        let mut damage = Vec::new();
        let in_place = newest.len() == elements.len()
            && newest.iter().zip(elements).all(|(old, new)| old.is_made_from(new) || old.id() == new.id());
        if in_place {
            let pairs = newest.iter().zip(elements).filter(|(old, new)| !old.is_made_from(new));
            pairs.for_each(|(old, new)| new.changes_since(old, &mut damage));
            return disjoint(damage.into_iter(), bounds);
        }
        let mut before: HashMap<&Id, (usize, &Signature)> =
            newest.iter().enumerate().map(|(index, old)| (old.id(), (index, old))).collect();
        let mut above = None;
        for element in elements {
            match before.remove(element.id()) {
                // Another order: rare, and worth no thought.
                Some((index, _)) if above.is_some_and(|above| index < above) => return vec![bounds],
                Some((index, old)) => {
                    above = Some(index);
                    element.changes_since(old, &mut damage);
                }
                None => damage.push(element.area()),
            }
        }
        damage.extend(before.into_values().map(|(_, gone)| gone.area()));
        disjoint(damage.into_iter(), bounds)
    }
}

fn overlaps(rects: &[Rect], area: Rect) -> impl Iterator<Item = Rect> {
    rects.iter().filter_map(move |rect| rect.intersection(area)).filter(|rect| !rect.is_empty())
}

/// The same area within `bounds` as rectangles that do not overlap, or one around all of them.
fn disjoint(rects: impl Iterator<Item = Rect>, bounds: Rect) -> Vec<Rect> {
    let mut flat: Vec<Rect> = Vec::new();
    let mut around: Option<Rect> = None;
    for rect in rects.filter_map(|rect| rect.intersection(bounds)).filter(|rect| !rect.is_empty()) {
        around = Some(around.map_or(rect, |around| around.merge(rect)));
        if flat.len() <= MAX_RECTS {
            flat.extend(rect.subtract_rects(flat.clone()));
        }
    }
    if flat.len() <= MAX_RECTS { flat } else { around.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: i32, y: i32, w: i32, h: i32) -> Rect {
        Rectangle::new((x, y).into(), (w, h).into())
    }

    #[test]
    fn damage_that_overlaps_is_drawn_once() {
        let flat = disjoint([rect(0, 0, 10, 10), rect(5, 5, 10, 10)].into_iter(), rect(0, 0, 12, 100));
        let area: i32 = flat.iter().map(|rect| rect.size.w * rect.size.h).sum();
        assert_eq!(area, 100 + 7 * 10 - 25);
        for (index, one) in flat.iter().enumerate() {
            assert!(flat.iter().skip(index + 1).all(|other| !one.overlaps(*other)), "{flat:?}");
        }
    }

    #[test]
    fn much_damage_becomes_one_rectangle() {
        let bounds = rect(0, 0, 1000, 1000);
        let flat = disjoint((0..200).map(|x| rect(x * 2, x, 1, 1)), bounds);
        assert_eq!(flat, [rect(0, 0, 399, 200)]);
    }
}
