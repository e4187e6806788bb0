//! From the elements of a pass to triangles: where each corner is on the output, and where in its texture.
//!
//! Pure arithmetic. Must not know GL beyond the names of textures; [`crate::sys::gl`] draws.

use smithay::utils::{Physical, Point, Rectangle};

use super::element::Element;
use crate::sys::gl::{Corner, Triangles};

/// The triangles of a pass, from the background up.
#[derive(Default)]
pub(super) struct Quads<'a> {
    pub(super) corners: Vec<Corner>,
    pub(super) triangles: Vec<Triangles<'a>>,
}

impl<'a> Quads<'a> {
    /// Adds parts of an element, which are in the output's pixels.
    pub(super) fn add(&mut self, element: &'a Element, parts: &[Rectangle<i32, Physical>]) {
        if element.is_opaque() {
            return self.add_parts(element, parts, false);
        }
        let blended = Rectangle::subtract_rects_many(parts.iter().copied(), element.opaque_areas());
        if blended.len() == parts.len() && blended == parts {
            return self.add_parts(element, parts, true);
        }
        let opaque = Rectangle::subtract_rects_many(parts.iter().copied(), blended.iter().copied());
        self.add_parts(element, &opaque, false);
        self.add_parts(element, &blended, true);
    }

    fn add_parts(&mut self, element: &'a Element, parts: &[Rectangle<i32, Physical>], blended: bool) {
        let start = self.corners.len();
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let (from, to) = (part.loc, part.loc + part.size);
            let corner = |x: i32, y: i32| corner(element, (x, y).into());
            let [first, second, third, fourth] =
                [corner(from.x, from.y), corner(to.x, from.y), corner(from.x, to.y), corner(to.x, to.y)];
            self.corners.extend([first, second, third, third, second, fourth]);
        }
        let corners = start..self.corners.len();
        if !corners.is_empty() {
            self.triangles.push(element.triangles(blended, corners));
        }
    }
}

fn corner(element: &Element, at: Point<i32, Physical>) -> Corner {
    let [x, y] = element.in_texture(at);
    #[expect(
        clippy::cast_precision_loss,
        reason = "an output has fewer pixels in a row than an f32 can count"
    )]
    [at.x as f32, at.y as f32, x, y]
}
