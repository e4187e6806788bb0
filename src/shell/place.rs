//! Where a new window goes: the spot where it hides least of the others. Pure.

use smithay::utils::{Logical, Point, Rectangle, Size};

/// The gap that is kept to the edges of the area and between windows where there is room.
const GAP: i32 = 16;

/// How many windows are taken into account, from the topmost down: the work grows with their third power.
const MAX_OTHERS: usize = 32;

/// Finds a place for a window of `size` in `area`.
///
/// The candidates are the area's centre (for the first window), its corners, and the spots beside and below the other
/// windows; the one that overlaps the others least wins, then the one nearest to the top left. `others` are in their order
/// from the bottom up; of many, only the topmost count.
pub fn place(
    size: Size<i32, Logical>,
    area: Rectangle<i32, Logical>,
    others: &[Rectangle<i32, Logical>],
) -> Point<i32, Logical> {
    let room = Size::<i32, Logical>::from(((area.size.w - size.w).max(0), (area.size.h - size.h).max(0)));
    if others.is_empty() || room.is_empty() {
        return area.loc + Point::from((room.w / 2, room.h / 2));
    }
    let others = others.get(others.len().saturating_sub(MAX_OTHERS)..).unwrap_or(others);
    let (left, top) = (area.loc.x, area.loc.y);
    let mut xs = vec![left + GAP.min(room.w), left + (room.w - GAP).max(0)];
    let mut ys = vec![top + GAP.min(room.h), top + (room.h - GAP).max(0)];
    for other in others {
        xs.extend(beside(other.loc.x, other.size.w, size.w));
        ys.extend(beside(other.loc.y, other.size.h, size.h));
    }
    xs.retain(|x| (left..=left + room.w).contains(x));
    ys.retain(|y| (top..=top + room.h).contains(y));
    for lines in [&mut xs, &mut ys] {
        lines.sort_unstable();
        lines.dedup();
    }
    let spots = ys.iter().flat_map(|y| xs.iter().map(|x| Point::from((*x, *y))));
    let best = spots.min_by_key(|spot| {
        let frame = Rectangle::new(*spot, size);
        let hidden: i64 = others
            .iter()
            .filter_map(|other| other.intersection(frame))
            .map(|overlap| i64::from(overlap.size.w) * i64::from(overlap.size.h))
            .sum();
        (hidden, i64::from(spot.x - left) + i64::from(spot.y - top))
    });
    best.unwrap_or(area.loc)
}

/// Along one axis: aligned with another window, behind it, before it. Windows are as large as clients say.
fn beside(other: i32, other_size: i32, size: i32) -> [i32; 3] {
    let behind = other.saturating_add(other_size).saturating_add(GAP);
    let before = other.saturating_sub(size).saturating_sub(GAP);
    [other, behind, before]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area() -> Rectangle<i32, Logical> {
        Rectangle::new((100, 0).into(), (1280, 720).into())
    }

    #[test]
    fn of_many_windows_the_topmost_count() {
        let frame = |x: i32| Rectangle::new((116 + x * 20, 16).into(), (20, 20).into());
        let many: Vec<_> = (0..100).map(|x| frame(x % 50)).collect();
        let topmost = &many[100 - MAX_OTHERS..];
        assert_eq!(place((20, 20).into(), area(), &many), place((20, 20).into(), area(), topmost));
    }

    #[test]
    fn the_first_window_is_centred() {
        assert_eq!(place((400, 300).into(), area(), &[]), (540, 210).into());
    }

    #[test]
    fn windows_that_fit_side_by_side_do_not_overlap_and_stay_in_the_area() {
        let mut placed = vec![];
        for _ in 0..5 {
            let size = Size::from((320, 240));
            let frame = Rectangle::new(place(size, area(), &placed), size);
            assert!(area().contains_rect(frame), "{frame:?}");
            assert!(placed.iter().all(|other| !frame.overlaps(*other)), "{frame:?} {placed:?}");
            placed.push(frame);
        }
    }

    #[test]
    fn windows_of_any_size_have_a_place() {
        let all = Size::from((i32::MAX, i32::MAX));
        let others = [Rectangle::new((i32::MAX, i32::MIN).into(), all), Rectangle::from_size(all)];
        assert_eq!(place(all, area(), &others), (100, 0).into());
        assert!(area().contains_rect(Rectangle::new(place((1, 1).into(), area(), &others), (1, 1).into())));
    }

    #[test]
    fn a_window_larger_than_the_area_starts_at_its_corner() {
        let other = [Rectangle::new((100, 0).into(), (10, 10).into())];
        assert_eq!(place((2000, 1000).into(), area(), &other), (100, 0).into());
    }
}
