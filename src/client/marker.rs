//! The picture: a frame counter that can be read back from pixels, and the poison that must never be seen.
//!
//! Every frame is a marker, black and white cells in its top left corner, on a body whose colour also follows
//! from the counter. Who reads a frame back can tell which frame it is, whether it is all of one frame
//! ([`Frame::check`]), and whether a buffer was read that did not have its content yet ([`POISON`]).
//!
//! Pure: pixels are `0x00RRGGBB`, and drawing is a list of rectangles for whoever can fill them.

/// What buffers hold whenever the compositor must not read them. Used for nothing else.
pub const POISON: u32 = 0x00ff_00ff;

/// Pixels on each side of a cell.
pub const CELL: u32 = 16;

/// Cells in each row of the marker.
const COLUMNS: u32 = 8;

/// Rows: a start pattern, four bytes of counter from the highest, a checksum.
const ROWS: usize = 6;

/// The size of the marker, and of the smallest picture.
pub const MARKER_SIZE: (u32, u32) = (COLUMNS * CELL, ROWS as u32 * CELL);

const START: u8 = 0b1011_0010;
const WHITE: u32 = 0x00f0_f0f0;
const BLACK: u32 = 0x0010_1010;

/// A rectangle of one colour, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Distance from the left.
    pub x: u32,
    /// Distance from the top.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// Its colour.
    pub colour: u32,
}

/// The picture of frame `counter`, to be drawn in this order.
pub fn picture(counter: u32, width: u32, height: u32) -> impl Iterator<Item = Rect> {
    let body = Rect { x: 0, y: 0, width, height, colour: body_colour(counter) };
    let cells = rows(counter).into_iter().zip(0..).flat_map(|(bits, row)| {
        (0..COLUMNS).map(move |column| Rect {
            x: column * CELL,
            y: row * CELL,
            width: CELL,
            height: CELL,
            colour: if bits & (0x80 >> column) == 0 { BLACK } else { WHITE },
        })
    });
    std::iter::once(body).chain(cells)
}

/// The colour around the marker of frame `counter`: dark, different for neighbours, far from the poison.
pub fn body_colour(counter: u32) -> u32 {
    let mixed = counter.wrapping_mul(0x9e37_79b1);
    0x0020_4020 + (mixed & 0x1f) + ((mixed >> 8 & 0x3f) << 8) + ((mixed >> 16 & 0x1f) << 16)
}

fn rows(counter: u32) -> [u8; ROWS] {
    let [a, b, c, d] = counter.to_be_bytes();
    [START, a, b, c, d, checksum(counter)]
}

/// Changes with every change of a single byte.
fn checksum(counter: u32) -> u8 {
    counter.to_be_bytes().iter().fold(0x5a, |sum: u8, byte| sum.rotate_left(3).wrapping_add(*byte))
}

/// Pixels to be read back.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Row by row, the top one first.
    pub pixels: &'a [u32],
    /// Pixels in a row that are shown.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Pixels from one row's start to the next one's.
    pub stride: u32,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A buffer was read while the client owned it, or before its content was there.
    #[error("{pixels} poisoned pixels, the first at {x},{y}")]
    Poisoned {
        /// How many.
        pixels: usize,
        /// The first one's distance from the left.
        x: u32,
        /// The first one's distance from the top.
        y: u32,
    },
    /// No marker there, or one of two frames.
    #[error("no readable marker")]
    NoMarker,
    /// The marker says one frame, and a pixel of the body belongs to another.
    #[error("frame {counter} has a pixel of another frame at {x},{y}")]
    Mixed {
        /// The marker's frame.
        counter: u32,
        /// The pixel's distance from the left.
        x: u32,
        /// The pixel's distance from the top.
        y: u32,
    },
}

impl Frame<'_> {
    /// The pixel there, without its unused byte; `None` outside.
    pub fn pixel(&self, x: u32, y: u32) -> Option<u32> {
        if x >= self.width || y >= self.height {
            return None;
        }
        let index = y as usize * self.stride as usize + x as usize;
        self.pixels.get(index).map(|pixel| pixel & 0x00ff_ffff)
    }

    /// The counter of the marker whose top left corner is at `(x, y)`; `None` if none can be read there.
    pub fn counter_at(&self, x: u32, y: u32) -> Option<u32> {
        let mut read = [0_u8; ROWS];
        for (bits, row) in read.iter_mut().zip(0..) {
            for column in 0..COLUMNS {
                let white = self.cell(x.checked_add(column * CELL)?, y.checked_add(row * CELL)?)?;
                *bits = *bits << 1 | u8::from(white);
            }
        }
        let [_, a, b, c, d, _] = read;
        let counter = u32::from_be_bytes([a, b, c, d]);
        (read == rows(counter)).then_some(counter)
    }

    /// Where there are markers, and what they count: for a picture of a whole screen.
    pub fn find_markers(&self) -> Vec<(u32, u32, u32)> {
        let mut found = Vec::new();
        for y in 0..self.height {
            for x in 0..self.width {
                // A marker's first cell is white; nothing is decoded where it does not start.
                let starts = self.pixel(x, y) == Some(WHITE)
                    && (x == 0 || self.pixel(x - 1, y) != Some(WHITE))
                    && (y == 0 || self.pixel(x, y - 1) != Some(WHITE));
                if let Some(counter) = starts.then(|| self.counter_at(x, y)).flatten() {
                    found.push((x, y, counter));
                }
            }
        }
        found
    }

    /// How many pixels are poisoned, and the first of them.
    pub fn poison(&self) -> (usize, Option<(u32, u32)>) {
        let positions = (0..self.height).flat_map(|y| (0..self.width).map(move |x| (x, y)));
        let mut poisoned = positions.filter(|&(x, y)| self.pixel(x, y) == Some(POISON));
        match poisoned.next() {
            Some(first) => (1 + poisoned.count(), Some(first)),
            None => (0, None),
        }
    }

    /// The counter, if this is one whole frame from corner to corner.
    ///
    /// # Errors
    /// The first [`Flaw`], poison before all others.
    pub fn check(&self) -> Result<u32, Flaw> {
        if let (pixels, Some((x, y))) = self.poison() {
            return Err(Flaw::Poisoned { pixels, x, y });
        }
        let counter = self.counter_at(0, 0).ok_or(Flaw::NoMarker)?;
        let body = body_colour(counter);
        for y in 0..self.height {
            for x in 0..self.width {
                let in_marker = x < MARKER_SIZE.0 && y < MARKER_SIZE.1;
                if !in_marker && self.pixel(x, y) != Some(body) {
                    return Err(Flaw::Mixed { counter, x, y });
                }
            }
        }
        Ok(counter)
    }

    /// Whether the cell there is white; `None` if it is neither white nor black all over.
    fn cell(&self, x: u32, y: u32) -> Option<bool> {
        let probes = [1, CELL / 2, CELL - 2];
        let mut colours = probes.iter().flat_map(|dy| probes.iter().map(move |dx| (x + dx, y + dy)));
        let is = |colour, (x, y)| self.pixel(x, y) == Some(colour);
        if colours.clone().all(|at| is(WHITE, at)) {
            return Some(true);
        }
        colours.all(|at| is(BLACK, at)).then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: u32 = 200;
    const HEIGHT: u32 = 150;
    const STRIDE: u32 = 208;

    fn draw(pixels: &mut [u32], counter: u32, (left, top): (u32, u32)) {
        for rect in picture(counter, WIDTH - left, HEIGHT - top) {
            for y in rect.y..rect.y + rect.height {
                for x in rect.x..rect.x + rect.width {
                    // The unused byte is anything.
                    pixels[((top + y) * STRIDE + left + x) as usize] = rect.colour | 0x7700_0000;
                }
            }
        }
    }

    fn drawn(counter: u32) -> Vec<u32> {
        let mut pixels = vec![0; (STRIDE * HEIGHT) as usize];
        draw(&mut pixels, counter, (0, 0));
        pixels
    }

    fn frame(pixels: &[u32]) -> Frame<'_> {
        Frame { pixels, width: WIDTH, height: HEIGHT, stride: STRIDE }
    }

    #[test]
    fn every_counter_is_read_back() {
        for counter in [0, 1, 2, 255, 256, 0x8000_0000, 0xdead_beef, u32::MAX] {
            assert_eq!(frame(&drawn(counter)).check(), Ok(counter));
        }
    }

    #[test]
    fn a_checksum_changes_with_every_change_of_a_byte() {
        for shift in [0, 8, 16, 24] {
            for byte in 1..=255_u32 {
                assert_ne!(checksum(0x1234_5678 ^ byte << shift), checksum(0x1234_5678));
            }
        }
    }

    #[test]
    fn markers_are_found_wherever_they_are() {
        let mut pixels = vec![0; (STRIDE * HEIGHT) as usize];
        draw(&mut pixels, 77, (41, 33));
        assert_eq!(frame(&pixels).find_markers(), [(41, 33, 77)]);
        assert_eq!(frame(&pixels).counter_at(38, 33), None);
        assert!(frame(&vec![0; (STRIDE * HEIGHT) as usize]).find_markers().is_empty());
    }

    #[test]
    fn one_poisoned_pixel_is_found() {
        let mut pixels = drawn(5);
        pixels[(100 * STRIDE + 60) as usize] = POISON | 0xff00_0000;
        assert_eq!(frame(&pixels).check(), Err(Flaw::Poisoned { pixels: 1, x: 60, y: 100 }));
    }

    #[test]
    fn a_frame_of_two_frames_is_found() {
        let mut pixels = drawn(5);
        let later = drawn(6);
        let cut = (140 * STRIDE) as usize;
        pixels[cut..].copy_from_slice(&later[cut..]);
        assert_eq!(frame(&pixels).check(), Err(Flaw::Mixed { counter: 5, x: 0, y: 140 }));
    }

    #[test]
    fn a_marker_of_two_frames_is_not_read() {
        let (mut pixels, other) = (drawn(0x0102_0304), drawn(0x0506_0708));
        let cut = (3 * CELL * STRIDE) as usize;
        pixels[cut..].copy_from_slice(&other[cut..]);
        assert_eq!(frame(&pixels).counter_at(0, 0), None);
        // Torn in the middle of a row of cells.
        let mut pixels = drawn(0x0102_0304);
        let cut = ((4 * CELL + CELL / 2) * STRIDE) as usize;
        pixels[cut..].copy_from_slice(&other[cut..]);
        assert_eq!(frame(&pixels).counter_at(0, 0), None);
    }

    #[test]
    fn no_colour_of_a_frame_comes_near_the_poison() {
        for counter in 0..10_000 {
            let [_, red, green, _] = body_colour(counter).to_be_bytes();
            assert!(red < 0x80 && green >= 0x40, "frame {counter}");
            assert_ne!(body_colour(counter), body_colour(counter + 1), "frame {counter}");
        }
    }

    #[test]
    fn pixels_outside_are_none() {
        let pixels = drawn(1);
        assert_eq!(frame(&pixels).pixel(WIDTH, 0), None);
        assert_eq!(frame(&pixels[..10]).check(), Err(Flaw::NoMarker));
        assert_eq!(frame(&pixels).counter_at(u32::MAX - 3, 0), None);
    }
}
