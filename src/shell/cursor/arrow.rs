//! Owns the built-in arrow: an outline, and how it becomes pixels. Must not know about themes.

use super::Image;

/// The corners of the arrow in a square of 24, from the tip on.
const CORNERS: [(f32, f32); 7] =
    [(2.0, 2.0), (2.0, 19.0), (6.2, 15.2), (9.0, 21.6), (12.0, 20.2), (9.2, 14.0), (14.6, 14.0)];
const SQUARE: f32 = 24.0;
/// White around the black, so that it can be seen on anything.
const BORDER: f32 = 1.3;
/// Samples per pixel and direction.
const SAMPLES: u32 = 4;

/// Draws the arrow `size` pixels wide and high.
pub(super) fn draw(size: u32) -> Image {
    let unit = SQUARE / size as f32;
    let mut pixels = Vec::with_capacity(4 * size as usize * size as usize);
    for y in 0..size {
        for x in 0..size {
            let (mut white, mut covered) = (0, 0);
            for sample in 0..SAMPLES * SAMPLES {
                let middle =
                    |pixel: u32, sample: u32| (pixel as f32 + (sample as f32 + 0.5) / SAMPLES as f32) * unit;
                let point = (middle(x, sample % SAMPLES), middle(y, sample / SAMPLES));
                let black = is_inside(point);
                let near = edges().any(|(from, to)| distance(point, from, to) <= BORDER);
                white += u32::from(near && !black);
                covered += u32::from(near || black);
            }
            let level = |samples: u32| (samples * 255 / (SAMPLES * SAMPLES)) as u8;
            pixels.extend([level(white), level(white), level(white), level(covered)]);
        }
    }
    let tip = |tip: f32| (tip / unit) as u32;
    let [(tip_x, tip_y), ..] = CORNERS;
    Image { pixels, width: size, height: size, hotspot: (tip(tip_x), tip(tip_y)) }
}

fn edges() -> impl Iterator<Item = ((f32, f32), (f32, f32))> {
    CORNERS.into_iter().zip(CORNERS.into_iter().cycle().skip(1))
}

/// Whether a ray to the right crosses the outline an odd number of times.
fn is_inside((x, y): (f32, f32)) -> bool {
    let crosses = |((from_x, from_y), (to_x, to_y)): &((f32, f32), (f32, f32))| {
        (*from_y > y) != (*to_y > y) && x < from_x + (y - from_y) / (to_y - from_y) * (to_x - from_x)
    };
    edges().filter(crosses).count() % 2 == 1
}

/// From a point to the line between two others.
fn distance((x, y): (f32, f32), (from_x, from_y): (f32, f32), (to_x, to_y): (f32, f32)) -> f32 {
    let (along_x, along_y) = (to_x - from_x, to_y - from_y);
    let part = ((x - from_x) * along_x + (y - from_y) * along_y) / (along_x * along_x + along_y * along_y);
    let part = part.clamp(0.0, 1.0);
    (x - from_x - part * along_x).hypot(y - from_y - part * along_y)
}
