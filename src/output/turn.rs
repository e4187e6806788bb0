//! How a client's buffer has to be turned to be shown on a display that may itself be.
//!
//! Owns the arithmetic of transforms, and what each is as a value of KMS' rotation property. A transform here is what
//! smithay does with rectangles: flipped around a vertical axis or not, then turned clockwise. Protocols and KMS turn
//! counter-clockwise. smithay's `invert` leads from one direction to the other, and is no inverse for flips by a quarter.

use smithay::utils::{Buffer, Physical, Point, Rectangle, Size, Transform};

use crate::buffer::content::inverse;

/// DRM_MODE_ROTATE_0; each further quarter is the next bit.
pub const ROTATE_0: u64 = 1;
const REFLECT_X: u64 = 1 << 4;
const REFLECT_Y: u64 = 1 << 5;

/// An output's rectangles, from the upright space that windows live in to the pixels of its mode.
#[derive(Clone, Copy, Debug)]
pub struct Mount {
    transform: Transform,
    mode: Size<i32, Physical>,
    upright: Size<i32, Physical>,
}

impl Mount {
    /// Of an output with a mode of this size, and with this `wl_output.transform`.
    pub fn new(mode: Size<i32, Physical>, transform: Transform) -> Self {
        Self { transform: transform.invert(), mode, upright: transform.transform_size(mode) }
    }

    /// A rectangle in the pixels of the mode.
    pub fn in_mode(&self, rect: Rectangle<i32, Physical>) -> Rectangle<i32, Physical> {
        // Rectangles of clients are as large as i32 is, and smithay turns them with plain arithmetic.
        self.transform.transform_rect_in(rect.to_f64(), &self.upright.to_f64()).to_i32_round()
    }

    /// The rectangle that is this one in the pixels of the mode.
    pub fn upright(&self, rect: Rectangle<i32, Physical>) -> Rectangle<i32, Physical> {
        inverse(self.transform).transform_rect_in(rect.to_f64(), &self.mode.to_f64()).to_i32_round()
    }

    /// Which pixel of a pointer's image points, from the image's top left corner: `image` is where that is in the mode, `at` the
    /// upright pixel that is pointed at.
    pub fn hotspot(&self, image: Rectangle<i32, Physical>, at: Point<i32, Physical>) -> Point<i32, Physical> {
        self.in_mode(Rectangle::new(at, (1, 1).into())).loc - image.loc
    }

    /// What brings rectangles of a buffer into the mode, if `into_buffer` brings upright ones into the buffer.
    pub fn of_buffer(&self, into_buffer: Transform) -> Transform {
        let ((flipped, quarters), (buffer_flipped, buffer_quarters)) =
            (parts(self.transform), parts(into_buffer));
        // What was turned before a flip is turned the other way after it.
        let buffer_quarters = if flipped == buffer_flipped { 4 - buffer_quarters } else { buffer_quarters };
        whole(flipped != buffer_flipped, quarters + buffer_quarters)
    }
}

/// The value of a plane's rotation property with which a buffer is turned like this, if the plane has those bits.
pub fn rotation(transform: Transform, supported: u64) -> Option<u64> {
    let (flipped, quarters) = parts(transform);
    let rotated = |quarters: u32| ROTATE_0 << (quarters % 4);
    // KMS reflects first and rotates counter-clockwise then. To reflect both ways is to turn by half.
    let counter = 4 - quarters;
    let ways = if flipped {
        [rotated(counter) | REFLECT_X, rotated(counter + 2) | REFLECT_Y]
    } else {
        [rotated(counter), rotated(counter + 2) | REFLECT_X | REFLECT_Y]
    };
    ways.into_iter().find(|way| way & !supported == 0)
}

/// Whether so much of a buffer, turned like this, fills just so much of a mode: it need not be scaled.
pub fn is_to_scale(src: Size<f64, Buffer>, transform: Transform, dst: Size<i32, Physical>) -> bool {
    let size = transform.transform_size(dst).to_f64();
    (src.w, src.h) == (size.w, size.h)
}

/// Flipped or not, and then turned clockwise by so many quarters.
fn parts(transform: Transform) -> (bool, u32) {
    match transform {
        Transform::Normal => (false, 0),
        Transform::_90 => (false, 1),
        Transform::_180 => (false, 2),
        Transform::_270 => (false, 3),
        Transform::Flipped => (true, 0),
        Transform::Flipped90 => (true, 1),
        Transform::Flipped180 => (true, 2),
        Transform::Flipped270 => (true, 3),
    }
}

fn whole(flipped: bool, quarters: u32) -> Transform {
    match (flipped, quarters % 4) {
        (false, 0) => Transform::Normal,
        (false, 1) => Transform::_90,
        (false, 2) => Transform::_180,
        (false, _) => Transform::_270,
        (true, 0) => Transform::Flipped,
        (true, 1) => Transform::Flipped90,
        (true, 2) => Transform::Flipped180,
        (true, _) => Transform::Flipped270,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Transform; 8] = [
        Transform::Normal,
        Transform::_90,
        Transform::_180,
        Transform::_270,
        Transform::Flipped,
        Transform::Flipped90,
        Transform::Flipped180,
        Transform::Flipped270,
    ];

    const EVERYTHING: u64 = 0x3f;

    /// A picture, row by row.
    #[derive(Clone, Debug, PartialEq)]
    struct Picture(Vec<Vec<u32>>);

    impl Picture {
        /// Every pixel is another.
        fn new(width: u32, height: u32) -> Self {
            Self((0..height).map(|y| (0..width).map(|x| 100 * y + x).collect()).collect())
        }

        fn mirrored(mut self) -> Self {
            self.0.iter_mut().for_each(|row| row.reverse());
            self
        }

        fn upside_down(mut self) -> Self {
            self.0.reverse();
            self
        }

        fn turned_counter_clockwise(mut self, quarters: u32) -> Self {
            for _ in 0..quarters {
                // The rightmost column is the first row.
                let columns = (0..self.0[0].len()).rev();
                self.0 = columns.map(|x| self.0.iter().map(|row| row[x]).collect()).collect();
            }
            self
        }

        /// As wl_output.transform and wl_surface.set_buffer_transform have it.
        fn transformed(self, transform: Transform) -> Self {
            let (flipped, quarters) = parts(transform);
            let flipped = if flipped { self.mirrored() } else { self };
            flipped.turned_counter_clockwise(quarters)
        }

        /// As drm_blend.c has it.
        fn rotated(self, rotation: u64) -> Self {
            let mirrored = if rotation & REFLECT_X != 0 { self.mirrored() } else { self };
            let reflected = if rotation & REFLECT_Y != 0 { mirrored.upside_down() } else { mirrored };
            assert_eq!((rotation & 0xf).count_ones(), 1);
            reflected.turned_counter_clockwise((rotation & 0xf).trailing_zeros())
        }

        fn part(&self, rect: Rectangle<i32, Physical>) -> Self {
            let count = |count: i32| usize::try_from(count).unwrap();
            let rows = self.0.iter().skip(count(rect.loc.y)).take(count(rect.size.h));
            let part = |row: &Vec<u32>| {
                let pixels = row.iter().skip(count(rect.loc.x)).take(count(rect.size.w));
                pixels.copied().collect()
            };
            Self(rows.map(part).collect())
        }

        fn size(&self) -> Size<i32, Physical> {
            (i32::try_from(self.0[0].len()).unwrap(), i32::try_from(self.0.len()).unwrap()).into()
        }
    }

    #[test]
    fn every_buffer_is_shown_as_it_is_meant_on_every_output() {
        let upright = Picture::new(5, 3);
        for (buffer, output) in ALL.into_iter().flat_map(|buffer| ALL.map(|output| (buffer, output))) {
            let mode = upright.clone().transformed(output);
            let left = Mount::new(mode.size(), output).of_buffer(buffer.invert());
            for supported in [EVERYTHING, EVERYTHING & !REFLECT_X, EVERYTHING & !REFLECT_Y] {
                let value = rotation(left, supported).expect("a value");
                assert_eq!(value & !supported, 0);
                let shown = upright.clone().transformed(buffer).rotated(value);
                assert_eq!(shown, mode, "{buffer:?} on {output:?}");
            }
            assert_eq!(left == Transform::Normal, buffer == output, "{buffer:?} on {output:?}");
        }
    }

    #[test]
    fn rectangles_are_where_the_pixels_are() {
        let upright = Picture::new(5, 3);
        let rect = Rectangle::new((1, 0).into(), (3, 2).into());
        for output in ALL {
            let mode = upright.clone().transformed(output);
            let shown = mode.part(Mount::new(mode.size(), output).in_mode(rect));
            assert_eq!(shown, upright.part(rect).transformed(output), "{output:?}");
            let mount = Mount::new(mode.size(), output);
            assert_eq!(mount.upright(mount.in_mode(rect)), rect, "{output:?}");
        }
    }

    #[test]
    fn the_pixel_that_points_is_the_same_however_the_output_is_mounted() {
        let upright = Picture::new(7, 5);
        let image = Rectangle::new((2, 1).into(), (4, 3).into());
        for output in ALL {
            let mode = upright.clone().transformed(output);
            let mount = Mount::new(mode.size(), output);
            let shown = mount.in_mode(image);
            // All of the image, and a pixel beside it.
            for at in (1..4).flat_map(|y| (2..6).map(move |x| (x, y).into())).chain([(0, 4).into()]) {
                let pixel = shown.loc + mount.hotspot(shown, at);
                let pointed_at = upright.part(Rectangle::new(at, (1, 1).into()));
                assert_eq!(mode.part(Rectangle::new(pixel, (1, 1).into())), pointed_at, "{output:?} {at:?}");
            }
        }
    }

    #[test]
    fn what_is_turned_by_a_quarter_is_to_scale_with_its_sides_swapped() {
        for transform in ALL {
            let sides_swap = parts(transform).1 % 2 == 1;
            let is_to_scale = |src: (f64, f64)| is_to_scale(src.into(), transform, (640, 480).into());
            assert_eq!(is_to_scale((640.0, 480.0)), !sides_swap, "{transform:?}");
            assert_eq!(is_to_scale((480.0, 640.0)), sides_swap, "{transform:?}");
            assert!(!is_to_scale((320.0, 240.0)) && !is_to_scale((639.5, 480.0)), "{transform:?}");
        }
    }

    #[test]
    fn a_plane_that_does_not_turn_shows_what_is_turned_already() {
        assert_eq!(rotation(Transform::Normal, ROTATE_0), Some(ROTATE_0));
        for transform in ALL.into_iter().skip(1) {
            assert_eq!(rotation(transform, ROTATE_0), None, "{transform:?}");
        }
        // By halves only, as many do.
        let halves = ROTATE_0 | ROTATE_0 << 2;
        assert_eq!(rotation(Transform::_180, halves), Some(ROTATE_0 << 2));
        assert_eq!(rotation(Transform::_90, halves), None);
        assert_eq!(rotation(Transform::_180, ROTATE_0 | REFLECT_X | REFLECT_Y), Some(0x31));
    }
}
