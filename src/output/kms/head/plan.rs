//! Which planes could show a scene: what is known of it without asking, and the kernel's answer where it is not.

use std::rc::Rc;

use drm::control::AtomicCommitFlags;
use rustix::fs::Dev;
use smithay::backend::allocator::format::FormatSet;
use smithay::backend::drm::{DrmNode, NodeType};
use smithay::utils::{Buffer, Physical, Point, Rectangle, Size, Transform};

use super::super::cursor::Cursor;
use super::super::framebuffer::Framebuffer;
use super::super::request::Request;
use super::super::scanout::{self, Shape};
use super::super::stack::{Shows, Stack, Which};
use super::{Head, Lit};
use crate::output::layer::{Advice, Item, Layer};
use crate::output::planes::{self, Fits, Place, Seen};
use crate::output::turn;

impl Head {
    /// Which planes show `items`, which are in order from the top, with or without the pointer on its plane. Asks the
    /// kernel where it has not answered yet; see [`planes::assign`].
    pub fn plan(&mut self, items: &[Item], cursor: bool) -> Vec<Place> {
        let composed = vec![Place::Composed; items.len()];
        // A frame that sets everything is composed: that is what the kernel was asked for when the display was lit.
        let Some(drawn) = self.drawn.clone().filter(|_| self.lit == Lit::On) else { return composed };
        let framebuffers: Vec<_> = items.iter().map(|item| self.framebuffer_for(item)).collect();
        if framebuffers.iter().all(Option::is_none) {
            return composed;
        }
        let importable: Vec<_> = framebuffers.iter().map(Option::is_some).collect();
        let shape = Shape::of(items, &importable, cursor);
        if let Some(places) = self.plans.get(&shape) {
            return places.to_vec();
        }
        let seen: Vec<_> =
            items.iter().zip(&importable).map(|(item, &importable)| self.seen(item, importable)).collect();
        let places = planes::assign(&seen, self.size(), self.planes.overlays(), |places| {
            let mut stack = Stack::default();
            stack.set(Which::Primary, Shows::slot(Rc::clone(&drawn), Point::default()));
            for ((item, framebuffer), place) in items.iter().zip(&framebuffers).zip(places) {
                let which = match place {
                    Place::Composed => continue,
                    Place::Primary => Which::Primary,
                    Place::Overlay(index) => Which::Overlay(*index),
                };
                match (&item.layer, framebuffer) {
                    (Some(layer), Some(framebuffer)) if self.is_readable(layer, which) => {
                        let plane = self.planes.get(which);
                        let shows =
                            plane.and_then(|plane| Shows::layer(layer, Rc::clone(framebuffer), plane));
                        let Some(shows) = shows else { return false };
                        stack.set(which, shows);
                    }
                    _ => return false,
                }
            }
            if let Some(image) = self.cursor.as_ref().filter(|_| cursor).and_then(Cursor::shown) {
                stack.set(Which::Cursor, Shows::slot(Rc::clone(image), Point::default()));
            }
            self.test(&stack)
        });
        tracing::debug!(?places, "{} has a new scene", self.name());
        self.plans.remember(shape, places.clone());
        places
    }

    /// The kernel has refused a frame of this plan, which it took in a test: it is composed from now on, pointer and all.
    pub fn refuse(&mut self, items: &[Item], cursor: bool) {
        let importable: Vec<_> = items.iter().map(|item| self.framebuffer_for(item).is_some()).collect();
        self.plans.remember(Shape::of(items, &importable, cursor), vec![Place::Composed; items.len()]);
        if let Some(plane) = self.cursor.as_mut().filter(|_| cursor) {
            plane.refuse();
        }
    }

    /// What the client of the topmost item should know. Another buffer helps where the item fills the display and only its
    /// format, modifier or exporter is in the way.
    pub fn advice(&self, item: &Item) -> Advice {
        let way = item.layer.as_ref().map(|layer| (layer.src.size, layer.turned, layer.dst.size));
        let is_readable = || self.framebuffer_for(item).is_some();
        advice(self.is_filled_by(item), way, self.pipe.primary.rotations, is_readable)
    }

    /// The device that scans out, by the node that clients allocate on, and what its primary plane takes.
    pub fn scanout(&self) -> Option<(Dev, FormatSet)> {
        let node = DrmNode::from_file(self.device.fd()).ok()?;
        let node = node.node_with_type(NodeType::Render).and_then(Result::ok).unwrap_or(node);
        Some((node.dev_id(), self.pipe.primary.formats.clone()))
    }

    fn is_filled_by(&self, item: &Item) -> bool {
        item.opaque && item.dst == Rectangle::from_size(self.size())
    }

    fn size(&self) -> Size<i32, Physical> {
        (i32::from(self.timing.width), i32::from(self.timing.height)).into()
    }

    /// The framebuffer of an item that a plane might show. Without overlay planes only one that fills the display might.
    fn framebuffer_for(&self, item: &Item) -> Option<Rc<Framebuffer>> {
        let layer = item.layer.as_ref()?;
        let fills = self.is_filled_by(item);
        let overlay = self.planes.get(Which::Overlay(0)).map(|_| Which::Overlay(0));
        let readable = |which| self.is_readable(layer, which) && self.turns(layer, which);
        let useful = fills && readable(Which::Primary) || overlay.is_some_and(readable);
        if useful { scanout::framebuffer(&self.device, layer) } else { None }
    }

    fn is_readable(&self, layer: &Layer, which: Which) -> bool {
        let has_modifiers = self.device.caps().modifiers;
        self.planes.get(which).is_some_and(|plane| scanout::is_readable(layer, &plane.formats, has_modifiers))
    }

    /// Whether the plane can turn a buffer as it has to be.
    fn turns(&self, layer: &Layer, which: Which) -> bool {
        self.planes.get(which).is_some_and(|plane| turn::rotation(layer.turned, plane.rotations).is_some())
    }

    /// What the rule has to know of an item.
    fn seen(&self, item: &Item, importable: bool) -> Seen {
        let fits = match &item.layer {
            Some(layer) if importable => match &layer.acquire {
                None => Fits::Anywhere,
                // A device that takes no in-fence would have us wait for the client.
                Some(_) if self.takes_in_fences() => Fits::Alone,
                Some(_) => Fits::Nowhere,
            },
            _ => Fits::Nowhere,
        };
        Seen { dst: item.dst, opaque: item.opaque, fits }
    }

    /// Whether the kernel would take these planes, with the display as it is.
    fn test(&self, stack: &Stack) -> bool {
        let mut request = Request::new();
        let before = self.on_screen.as_ref().map(|shown| &shown.stack);
        stack.add_to(&mut request, &self.planes, self.crtc(), before);
        match request.send(self.device.fd(), AtomicCommitFlags::TEST_ONLY) {
            Ok(_no_fences) => true,
            Err(error) => {
                tracing::debug!(%error, ?stack, "the kernel would not take these planes");
                false
            }
        }
    }
}

/// How much of a buffer is shown, how it is turned for that, and how large that is on the display.
type Way = (Size<f64, Buffer>, Transform, Size<i32, Physical>);

/// What is to be said of an item that fills the display, or does not, and of its buffer. `rotations` are those of the plane;
/// whether that could read the buffer, `is_readable` says.
fn advice(fills: bool, buffer: Option<Way>, rotations: u64, is_readable: impl FnOnce() -> bool) -> Advice {
    match buffer {
        _ if !fills => Advice::NoPlane,
        // Copied, so that there is no buffer any more: the next one will tell.
        None => Advice::Stay,
        Some((src, turned, dst)) if !turn::is_to_scale(src, turned, dst) => Advice::NoPlane,
        Some((_, turned, _)) if turn::rotation(turned, rotations).is_none() => Advice::NoPlane,
        Some(_) if is_readable() => Advice::Stay,
        Some(_) => Advice::Reallocate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT: u64 = turn::ROTATE_0;
    const BY_QUARTERS: u64 = 0xf;

    #[test]
    fn another_buffer_is_advised_where_it_is_all_that_a_plane_lacks() {
        let (wide, high) = (Size::from((640.0, 480.0)), Size::from((480.0, 640.0)));
        let display = Size::from((640, 480));
        let said = |src, turned, rotations, readable| {
            advice(true, Some((src, turned, display)), rotations, || readable)
        };
        assert_eq!(said(wide, Transform::Normal, NOT, true), Advice::Stay);
        assert_eq!(said(wide, Transform::Normal, NOT, false), Advice::Reallocate);
        for turned in [Transform::_90, Transform::_270] {
            // No other format or modifier would have this plane turn it.
            assert_eq!(said(high, turned, NOT, false), Advice::NoPlane, "{turned:?}");
            assert_eq!(said(high, turned, BY_QUARTERS, false), Advice::Reallocate, "{turned:?}");
            assert_eq!(said(high, turned, BY_QUARTERS, true), Advice::Stay, "{turned:?}");
            assert_eq!(said(wide, turned, BY_QUARTERS, false), Advice::NoPlane, "{turned:?}: scaled");
        }
        assert_eq!(said(wide, Transform::Flipped, BY_QUARTERS, false), Advice::NoPlane);
    }

    #[test]
    fn nothing_is_advised_for_what_does_not_fill_the_display_or_was_copied() {
        let small = (Size::from((64.0, 64.0)), Transform::Normal, Size::from((64, 64)));
        assert_eq!(advice(false, Some(small), NOT, || false), Advice::NoPlane);
        assert_eq!(advice(true, None, NOT, || false), Advice::Stay);
    }
}
