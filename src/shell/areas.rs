//! The outputs as windows see them: areas of one space, which come, go and move.
//!
//! Owns where windows and the pointer go when they do. Must not know what an output is.

use smithay::utils::{Logical, Point, Rectangle};

use super::{Shell, Window};

/// The area of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// Which output: the same number means the same one, wherever it is.
    pub output: u64,
    /// Where it is.
    pub rect: Rectangle<i32, Logical>,
}

impl Shell {
    /// Sets where windows go. A window stays where it is on its output; if that has gone, or it would be out of sight, it
    /// moves to the nearest one, and waits where there is none.
    pub fn set_areas(&mut self, areas: Vec<Area>) {
        let before = std::mem::replace(&mut self.areas, areas);
        for index in 0..self.windows.len() {
            let Some(window) = self.windows.get(index) else { continue };
            let (frame, filling, mapped) = (window.frame(), window.is_filling(), window.mapped);
            // A window that fills its output is found by its corner: it may not have a size yet.
            let sought = if filling { Rectangle::new(frame.loc, (1, 1).into()) } else { frame };
            let follows = follow(&before, &self.areas, sought);
            if !mapped && !filling {
                continue;
            }
            let at = follows.unwrap_or(frame.loc);
            if filling {
                let area = self.area_at(at.to_f64());
                self.change(index, |window| area.into_iter().for_each(|area| window.refill(area)));
            } else {
                let at = match follows {
                    Some(at) => at,
                    None if self.is_in_sight(frame) => frame.loc,
                    None => self.place(index, frame),
                };
                self.change(index, |window| window.location = at);
            }
        }
    }

    fn change(&mut self, index: usize, f: impl FnOnce(&mut Window)) {
        if let Some(window) = self.windows.get_mut(index) {
            f(window);
        }
    }

    fn is_in_sight(&self, frame: Rectangle<i32, Logical>) -> bool {
        self.areas.iter().any(|area| area.rect.overlaps(frame))
    }

    /// The area in which `point` lies, or the one nearest to it.
    pub fn area_at(&self, point: Point<f64, Logical>) -> Option<Rectangle<i32, Logical>> {
        let distance = |area: &Rectangle<i32, Logical>| {
            let off = point - nearest_in(*area, point);
            off.x * off.x + off.y * off.y
        };
        let mut areas = self.areas.iter().map(|area| area.rect);
        let at = areas.find(|area| area.to_f64().contains(point));
        let areas = self.areas.iter().map(|area| area.rect);
        at.or_else(|| areas.min_by(|a, b| distance(a).total_cmp(&distance(b))))
    }

    /// `point`, moved into the nearest area.
    pub fn clamp(&self, point: Point<f64, Logical>) -> Point<f64, Logical> {
        match self.area_at(point) {
            Some(area) if !area.to_f64().contains(point) => nearest_in(area, point),
            _ => point,
        }
    }
}

/// Where a window goes with the output that shows most of it; `None` if none did, if it has gone, or if the window would
/// be out of its sight.
fn follow(before: &[Area], after: &[Area], frame: Rectangle<i32, Logical>) -> Option<Point<i32, Logical>> {
    let shown = |area: &&Area| {
        let shown = area.rect.intersection(frame).unwrap_or_default();
        i64::from(shown.size.w) * i64::from(shown.size.h)
    };
    let from = before.iter().filter(|area| area.rect.overlaps(frame)).max_by_key(shown)?;
    let to = after.iter().find(|area| area.output == from.output)?;
    let at = frame.loc - from.rect.loc + to.rect.loc;
    to.rect.overlaps(Rectangle::new(at, frame.size)).then_some(at)
}

/// The pixel of `area` that is nearest to a point outside.
fn nearest_in(area: Rectangle<i32, Logical>, point: Point<f64, Logical>) -> Point<f64, Logical> {
    let (first, size) = (area.loc.to_f64(), area.size.to_f64());
    // Not `clamp`, which panics for an empty area.
    let axis = |at: f64, first: f64, length: f64| at.min(first + length - 1.0).max(first);
    Point::from((axis(point.x, first.x, size.w), axis(point.y, first.y, size.h)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(output: u64, at: (i32, i32), size: (i32, i32)) -> Area {
        Area { output, rect: Rectangle::new(at.into(), size.into()) }
    }

    /// Two outputs side by side, the second one half as high.
    fn shell() -> Shell {
        let mut shell = Shell::default();
        shell.set_areas(vec![area(1, (0, 0), (100, 100)), area(2, (100, 0), (100, 50))]);
        shell
    }

    fn clamped(x: f64, y: f64) -> (f64, f64) {
        shell().clamp((x, y).into()).into()
    }

    #[test]
    fn a_pointer_that_leaves_the_outputs_stays_on_the_one_that_it_leaves() {
        assert_eq!(clamped(250.0, 20.0), (199.0, 20.0));
        assert_eq!(clamped(150.0, -5.0), (150.0, 0.0));
        assert_eq!(clamped(150.0, 52.0), (150.0, 49.0));
        assert_eq!(clamped(-1.0, 120.0), (0.0, 99.0));
    }

    #[test]
    fn a_slow_pointer_crosses_from_one_output_to_the_next() {
        assert_eq!(clamped(99.5, 20.0), (99.5, 20.0));
        assert_eq!(clamped(100.0, 20.0), (100.0, 20.0));
    }

    #[test]
    fn a_pointer_without_outputs_and_one_on_an_empty_output_are_somewhere() {
        let mut shell = Shell::default();
        assert_eq!(shell.clamp((5.0, 5.0).into()), (5.0, 5.0).into());
        shell.set_areas(vec![Area::default()]);
        assert_eq!(shell.clamp((5.0, 5.0).into()), (0.0, 0.0).into());
    }

    fn rect(x: i32, y: i32, w: i32, h: i32) -> Rectangle<i32, Logical> {
        Rectangle::new((x, y).into(), (w, h).into())
    }

    #[test]
    fn a_window_keeps_its_place_on_an_output_that_moves() {
        let before = [area(1, (0, 0), (100, 100)), area(2, (100, 0), (100, 50))];
        let after = [area(2, (0, 0), (100, 50)), area(1, (100, 0), (100, 100))];
        assert_eq!(follow(&before, &after, rect(10, 5, 20, 20)), Some((110, 5).into()));
        assert_eq!(follow(&before, &after, rect(150, 5, 20, 20)), Some((50, 5).into()));
        assert_eq!(follow(&before, &before, rect(90, 5, 30, 20)), Some((90, 5).into()), "most of it is on 2");
    }

    #[test]
    fn a_window_whose_output_has_gone_or_shrunk_has_no_place() {
        let before = [area(1, (0, 0), (100, 100)), area(2, (100, 0), (100, 50))];
        assert_eq!(follow(&before, &before[..1], rect(150, 5, 20, 20)), None);
        assert_eq!(follow(&before, &[], rect(150, 5, 20, 20)), None);
        let small = [area(1, (0, 0), (50, 50)), before[1]];
        assert_eq!(follow(&before, &small, rect(60, 60, 20, 20)), None);
    }

    #[test]
    fn a_window_beside_all_outputs_belongs_to_none() {
        let areas = [area(1, (0, 0), (100, 100))];
        assert_eq!(follow(&areas, &areas, rect(300, 5, 20, 20)), None);
    }
}
