//! What the planes of one display show, and how a request says so.
//!
//! Owns the choice of planes for a display, and the difference between two frames: a plane that shows the same as before
//! is not mentioned in a request, so that moving the pointer touches nothing but its plane.

use std::collections::BTreeMap;
use std::rc::Rc;

use drm::buffer::DrmFourcc as Fourcc;
use drm::control::{PlaneType, crtc, framebuffer};
use smithay::backend::allocator::{Buffer as _, Format};
use smithay::utils::{Buffer, Physical, Point, Rectangle, Size};

use super::device::{Device, Pipe, Plane};
use super::framebuffer::Framebuffer;
use super::props::PlaneProp;
use super::request::Request;
use super::swapchain::Slot;
use crate::buffer::Lease;
use crate::output::layer::Layer;
use crate::output::planes::Overlays;
use crate::output::turn::{self, ROTATE_0};

/// One of a display's planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    /// The lowest.
    Primary,
    /// Counted from the topmost.
    Overlay(usize),
    /// Above all.
    Cursor,
}

/// The planes of one display.
#[derive(Clone, Debug)]
pub(super) struct Planes {
    primary: Plane,
    /// From the topmost down.
    overlays: Vec<Plane>,
    overlays_ordered: bool,
    cursor: Option<Plane>,
}

impl Planes {
    /// The planes that the device has for this pipe.
    ///
    /// A plane that several CRTCs could show is lent to one of them for good, in turn, so that no display has to ask
    /// another.
    pub(super) fn of(device: &Device, pipe: &Pipe) -> Self {
        let ours = device.planes().iter().enumerate().filter(|(index, plane)| {
            let turn = plane.crtcs.get(index.checked_rem(plane.crtcs.len()).unwrap_or(0));
            turn == Some(&pipe.crtc.handle)
        });
        Self::above(&pipe.primary, ours.map(|(_, plane)| plane))
    }

    /// Those of `planes` that lie above this one: where they lie was read when the device was opened, and is restored where it
    /// can be another since. Overlay planes that lie below the primary plane, or above the pointer's, are left alone.
    fn above<'a>(primary: &Plane, planes: impl Iterator<Item = &'a Plane>) -> Self {
        let zpos = |plane: &Plane| plane.props.initial(PlaneProp::Zpos);
        let covers = |upper: &Plane, lower: &Plane| {
            zpos(upper).zip(zpos(lower)).is_none_or(|(upper, lower)| upper > lower)
        };
        let (cursors, mut overlays): (Vec<_>, Vec<_>) = planes
            .filter(|plane| plane.kind != PlaneType::Primary && covers(plane, primary))
            .cloned()
            .partition(|plane| plane.kind == PlaneType::Cursor);
        let cursor = cursors.into_iter().next();
        overlays.retain(|plane| cursor.as_ref().is_none_or(|cursor| covers(cursor, plane)));
        overlays.sort_by_key(|plane| std::cmp::Reverse(zpos(plane)));
        let mut ranks: Vec<_> = overlays.iter().filter_map(zpos).collect();
        ranks.dedup();
        let overlays_ordered = ranks.len() == overlays.len();
        Self { primary: primary.clone(), overlays, overlays_ordered, cursor }
    }

    pub(super) fn get(&self, which: Which) -> Option<&Plane> {
        match which {
            Which::Primary => Some(&self.primary),
            Which::Overlay(index) => self.overlays.get(index),
            Which::Cursor => self.cursor.as_ref(),
        }
    }

    pub(super) fn overlays(&self) -> Overlays {
        Overlays { count: self.overlays.len(), ordered: self.overlays_ordered }
    }

    fn all(&self) -> impl Iterator<Item = (Which, &Plane)> {
        let overlays = self.overlays.iter().enumerate().map(|(index, plane)| (Which::Overlay(index), plane));
        let cursor = self.cursor.iter().map(|plane| (Which::Cursor, plane));
        std::iter::once((Which::Primary, &self.primary)).chain(overlays).chain(cursor)
    }
}

/// Where a plane's pixels are, and who has to hear when they are no longer read.
#[derive(Clone, Debug)]
enum Source {
    /// A buffer of ours.
    Slot(Rc<Slot>),
    /// A client's. The lease goes before the framebuffer where an out-fence has taken its place.
    Client(Rc<Framebuffer>, Option<Lease>),
}

/// What one plane shows.
#[derive(Clone, Debug)]
pub(super) struct Shows {
    source: Source,
    src: Rectangle<f64, Buffer>,
    dst: Rectangle<i32, Physical>,
    /// The value of the plane's property.
    rotation: u64,
    hotspot: Option<Point<i32, Physical>>,
}

impl Shows {
    /// The whole of a slot, pixel by pixel, with its top left corner at `at`.
    pub(super) fn slot(slot: Rc<Slot>, at: Point<i32, Physical>) -> Self {
        let size = slot.dmabuf().size();
        Self {
            src: Rectangle::from_size(size.to_f64()),
            dst: Rectangle::new(at, Size::from((size.w, size.h))),
            source: Source::Slot(slot),
            rotation: ROTATE_0,
            hotspot: None,
        }
    }

    /// A client's buffer; `None` if this plane cannot turn it.
    pub(super) fn layer(layer: &Layer, framebuffer: Rc<Framebuffer>, plane: &Plane) -> Option<Self> {
        Some(Self {
            source: Source::Client(framebuffer, Some(layer.lease.clone())),
            src: layer.src,
            dst: layer.dst,
            rotation: turn::rotation(layer.turned, plane.rotations)?,
            hotspot: None,
        })
    }

    /// The same, as a pointer's image that points with this pixel.
    pub(super) fn with_hotspot(self, hotspot: Point<i32, Physical>) -> Self {
        Self { hotspot: Some(hotspot), ..self }
    }

    pub(super) fn framebuffer(&self) -> framebuffer::Handle {
        match &self.source {
            Source::Slot(slot) => slot.framebuffer().handle(),
            Source::Client(framebuffer, _) => framebuffer.handle(),
        }
    }

    pub(super) fn format(&self) -> Format {
        match &self.source {
            Source::Slot(slot) => slot.framebuffer().format(),
            Source::Client(framebuffer, _) => framebuffer.format(),
        }
    }

    /// Whether it is the same commit of the same buffer in the same place: the plane need not be touched.
    fn is_same_as(&self, other: &Self) -> bool {
        let same_source = match (&self.source, &other.source) {
            (Source::Slot(ours), Source::Slot(theirs)) => Rc::ptr_eq(ours, theirs),
            (Source::Client(ours, Some(lease)), Source::Client(theirs, Some(other_lease))) => {
                Rc::ptr_eq(ours, theirs) && lease.is_same_as(other_lease)
            }
            _ => false,
        };
        same_source && self.is_placed_as(other)
    }

    /// Whether it is another buffer of a client's of the same kind, shown in the same way: what a display may be able to change
    /// in the middle of a refresh.
    fn is_flip_of(&self, before: &Self) -> bool {
        let (Source::Client(ours, _), Source::Client(theirs, _)) = (&self.source, &before.source) else {
            return false;
        };
        ours.format() == theirs.format() && self.is_placed_as(before)
    }

    /// Whether the same part is shown in the same place, turned the same way.
    fn is_placed_as(&self, other: &Self) -> bool {
        let how = |shows: &Self| (shows.src, shows.dst, shows.rotation, shows.hotspot);
        how(self) == how(other)
    }

    /// Whether it shows this buffer of ours.
    pub(super) fn is_slot(&self, slot: &Rc<Slot>) -> bool {
        matches!(&self.source, Source::Slot(shown) if Rc::ptr_eq(shown, slot))
    }

    /// Takes the lease out, if there is one: something else stands for it from here on.
    pub(super) fn take_lease(&mut self) -> Option<Lease> {
        match &mut self.source {
            Source::Slot(_) => None,
            Source::Client(_, lease) => lease.take(),
        }
    }

    /// Adds all of it to a request.
    pub(super) fn add_to(&self, request: &mut Request<'_>, plane: &Plane, crtc: crtc::Handle) {
        // Fixed point, 16.16; what a client gives is within the buffer, so neither negative nor large.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within 0..2^32 by the above"
        )]
        let fixed = |value: f64| (value.max(0.0) * 65536.0).round() as u64;
        let signed = |value: i32| i64::from(value).cast_unsigned();
        let props = &plane.props;
        for (prop, value) in [
            (PlaneProp::CrtcId, u32::from(crtc).into()),
            (PlaneProp::FbId, u32::from(self.framebuffer()).into()),
            (PlaneProp::SrcX, fixed(self.src.loc.x)),
            (PlaneProp::SrcY, fixed(self.src.loc.y)),
            (PlaneProp::SrcW, fixed(self.src.size.w)),
            (PlaneProp::SrcH, fixed(self.src.size.h)),
            (PlaneProp::CrtcX, signed(self.dst.loc.x)),
            (PlaneProp::CrtcY, signed(self.dst.loc.y)),
            (PlaneProp::CrtcW, signed(self.dst.size.w)),
            (PlaneProp::CrtcH, signed(self.dst.size.h)),
        ] {
            request.set(props, prop, value);
        }
        // Another session may have left the planes in another order than the one that they were chosen by.
        request.restore(props, PlaneProp::Zpos);
        request.set_if_present(props, PlaneProp::Rotation, self.rotation);
        request.set_if_present(props, PlaneProp::Alpha, OPAQUE);
        request.set_if_present(props, PlaneProp::PixelBlendMode, PREMULTIPLIED);
        if is_yuv(self.format().code) {
            request.set_if_present(props, PlaneProp::ColorEncoding, BT601);
            request.set_if_present(props, PlaneProp::ColorRange, LIMITED_RANGE);
        }
        if let Some(hotspot) = self.hotspot {
            request.set_if_present(props, PlaneProp::HotspotX, signed(hotspot.x));
            request.set_if_present(props, PlaneProp::HotspotY, signed(hotspot.y));
        }
    }
}

// Values of enumerations whose numbers are the kernel's: drm_mode.h, drm_blend.h, drm_color_mgmt.h.
const OPAQUE: u64 = 0xffff;
const PREMULTIPLIED: u64 = 0;
/// What a renderer assumes of a YUV buffer that says nothing, and so what a plane has to.
const BT601: u64 = 0;
const LIMITED_RANGE: u64 = 0;

fn is_yuv(fourcc: Fourcc) -> bool {
    use Fourcc as F;
    matches!(
        fourcc,
        F::Nv12
            | F::Nv16
            | F::Nv21
            | F::Nv24
            | F::Nv42
            | F::Nv61
            | F::P010
            | F::P012
            | F::P016
            | F::Uyvy
            | F::Vyuy
            | F::Yuv420
            | F::Yuv422
            | F::Yuv444
            | F::Yuyv
            | F::Yvu420
            | F::Yvu422
            | F::Yvu444
            | F::Yvyu
    )
}

/// What each plane of a display shows. A plane that is not named is off.
#[derive(Clone, Debug, Default)]
pub(super) struct Stack(BTreeMap<Which, Shows>);

impl Stack {
    pub(super) fn set(&mut self, which: Which, shows: Shows) {
        self.0.insert(which, shows);
    }

    pub(super) fn get(&self, which: Which) -> Option<&Shows> {
        self.0.get(&which)
    }

    /// Whether every plane shows the same as in `other`.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|(which, shows)| other.has(*which, shows))
    }

    /// If nothing but the buffer on the primary plane is another than in `before`, of the same kind: that one.
    pub(super) fn flip_of(&self, before: &Self) -> Option<&Shows> {
        let others_stay = || {
            let others = self.0.iter().filter(|(which, _)| **which != Which::Primary);
            others.into_iter().all(|(which, shows)| before.has(*which, shows))
        };
        let (shows, shown) = (self.get(Which::Primary)?, before.get(Which::Primary)?);
        (shows.is_flip_of(shown) && self.0.len() == before.0.len() && others_stay()).then_some(shows)
    }

    /// Whether the plane shows just this.
    fn has(&self, which: Which, shows: &Shows) -> bool {
        self.get(which).is_some_and(|other| shows.is_same_as(other))
    }

    /// Adds to a request what differs from `before`, the stack on the screen; everything, where that is not known.
    pub(super) fn add_to(
        &self,
        request: &mut Request<'_>,
        planes: &Planes,
        crtc: crtc::Handle,
        before: Option<&Self>,
    ) {
        for (which, plane) in planes.all() {
            match (self.get(which), before) {
                (Some(shows), before) => {
                    if !before.is_some_and(|before| before.has(which, shows)) {
                        shows.add_to(request, plane, crtc);
                    }
                }
                // Of an unknown state, others turn off what is theirs: see `takeover`.
                (None, None) => {}
                (None, Some(before)) => {
                    if before.get(which).is_some() {
                        request.set(&plane.props, PlaneProp::FbId, 0);
                        request.set(&plane.props, PlaneProp::CrtcId, 0);
                    }
                }
            }
        }
    }

    /// The leases of the clients' buffers, which the stack gives up.
    pub(super) fn take_leases(&mut self) -> impl Iterator<Item = Lease> {
        self.0.values_mut().filter_map(Shows::take_lease)
    }
}

#[cfg(test)]
mod tests {
    use drm::control::from_u32;
    use smithay::backend::allocator::format::FormatSet;

    use super::super::props::Props;
    use super::*;

    /// A plane with this number, that lies so high.
    fn plane(number: u32, kind: PlaneType, zpos: Option<u64>) -> Plane {
        let zpos: Vec<_> = zpos.map(|zpos| (PlaneProp::Zpos, zpos, true)).into_iter().collect();
        Plane {
            handle: from_u32(number).expect("not 0"),
            kind,
            props: Props::of(number, &zpos),
            crtcs: Vec::new(),
            formats: FormatSet::default(),
            rotations: ROTATE_0,
        }
    }

    /// The overlay planes that are used, from the topmost, whether they are in order, and whether the pointer has a plane.
    fn chosen(primary: Option<u64>, cursor: Option<u64>, overlays: &[Option<u64>]) -> (Vec<u32>, bool, bool) {
        let overlays = overlays.iter().zip(3..);
        let mut planes: Vec<_> =
            overlays.map(|(zpos, number)| plane(number, PlaneType::Overlay, *zpos)).collect();
        planes.push(plane(2, PlaneType::Cursor, cursor));
        let planes = Planes::above(&plane(1, PlaneType::Primary, primary), planes.iter());
        let numbers = planes.overlays.iter().map(|plane| plane.handle.into()).collect();
        (numbers, planes.overlays_ordered, planes.cursor.is_some())
    }

    #[test]
    fn planes_are_used_in_their_order_between_the_primary_plane_and_the_pointers() {
        let at = Some;
        assert_eq!(chosen(at(0), at(9), &[at(1), at(3), at(2)]), (vec![4, 5, 3], true, true));
        // As another session may have left them.
        assert_eq!(chosen(at(2), at(5), &[at(1), at(3), at(6)]), (vec![4], true, true));
        assert_eq!(chosen(at(2), at(1), &[at(3), at(2)]), (vec![3], true, false));
        assert_eq!(chosen(at(0), at(9), &[at(1), at(1)]), (vec![3, 4], false, true));
        // Nothing is said of any.
        assert_eq!(chosen(None, None, &[None, None]), (vec![3, 4], false, true));
    }
}
