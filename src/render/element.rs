//! What is drawn: a textured rectangle, from a surface or from the cursor's theme.
//!
//! Owns the arithmetic from buffer to screen. Must not know where a texture comes from.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use smithay::{
    backend::renderer::{
        element::Id,
        gles::GlesTexture,
        utils::{CommitCounter, DamageSnapshot},
    },
    utils::{Buffer, Logical, Physical, Point, Rectangle, Scale, Size, Transform},
};

use super::live::Live;
use crate::{
    buffer::content::{Content, inverse},
    sys::gl::{self, Triangles},
};

/// A textured rectangle on one output.
#[derive(Clone, Debug)]
pub struct Element {
    id: Id,
    /// No two elements that were made have the same: it is never changed afterwards.
    number: u64,
    texture: GlesTexture,
    /// The driver converts it while it is read.
    external: bool,
    damage: DamageSnapshot<i32, Buffer>,
    buffer_size: Size<i32, Buffer>,
    buffer_scale: i32,
    /// As [`Content::transform`].
    transform: Transform,
    /// The part of the buffer that is shown, in logical coordinates before the viewport's scaling.
    src: Rectangle<f64, Logical>,
    /// Where it is shown.
    geometry: Rectangle<i32, Physical>,
    /// Relative to `geometry`.
    opaque: Vec<Rectangle<i32, Physical>>,
    /// The fence that the GPU waits for before it reads the texture.
    pub(super) live: Option<Live>,
}

impl Element {
    /// The element of a surface whose origin is at `at` on the output; `None` if it shows nothing.
    pub fn of_content(content: &Content, at: Point<i32, Logical>, scale: Scale<f64>) -> Option<Self> {
        let (picture, view, imported) = (content.picture.as_ref()?, content.view?, content.texture.as_ref()?);
        let geometry = place(at, view.dst, scale);
        let opaque =
            opaque_areas(content, at, scale).map(|rect| Rectangle::new(rect.loc - geometry.loc, rect.size));
        Some(Self {
            id: content.id.clone(),
            number: number(),
            texture: imported.texture.clone(),
            external: imported.external,
            damage: content.damage(),
            buffer_size: picture.size,
            buffer_scale: content.scale,
            transform: content.transform,
            src: view.src,
            geometry,
            opaque: opaque.collect(),
            live: picture.live.clone().map(Live::new),
        })
    }

    /// Where it is on the output.
    pub fn area(&self) -> Rectangle<i32, Physical> {
        self.geometry
    }

    /// The element of an image of our own, shown pixel by pixel with its top left corner at `at`.
    pub fn of_image(
        id: Id,
        texture: GlesTexture,
        damage: DamageSnapshot<i32, Buffer>,
        size: Size<i32, Buffer>,
        at: Point<i32, Physical>,
    ) -> Self {
        let logical: Size<i32, Logical> = (size.w, size.h).into();
        Self {
            id,
            number: number(),
            texture,
            external: false,
            damage,
            buffer_size: size,
            buffer_scale: 1,
            transform: Transform::Normal,
            src: Rectangle::from_size(logical.to_f64()),
            geometry: Rectangle::new(at, (size.w, size.h).into()),
            opaque: Vec::new(),
            live: None,
        }
    }
}

/// What an element looks like, and which one it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    looks: Looks,
    number: u64,
}

/// All that decides what an element looks like: where it is the same, so are the pixels.
#[derive(Clone, Debug, PartialEq)]
struct Looks {
    id: Id,
    commit: CommitCounter,
    src: Rectangle<f64, Logical>,
    geometry: Rectangle<i32, Physical>,
    transform: Transform,
    opaque: Vec<Rectangle<i32, Physical>>,
}

impl Signature {
    pub(super) fn id(&self) -> &Id {
        &self.looks.id
    }

    pub(super) fn area(&self) -> Rectangle<i32, Physical> {
        self.looks.geometry
    }

    /// Whether it was made from this very element.
    pub(super) fn is_made_from(&self, element: &Element) -> bool {
        self.number == element.number
    }

    /// Whether the element looks like this.
    pub(super) fn is_of(&self, element: &Element) -> bool {
        self.is_made_from(element) || self.looks == element.looks()
    }
}

impl Element {
    fn looks(&self) -> Looks {
        Looks {
            id: self.id.clone(),
            commit: self.damage.current_commit(),
            src: self.src,
            geometry: self.geometry,
            transform: self.transform,
            opaque: self.opaque.clone(),
        }
    }

    /// What it looks like.
    pub(super) fn signature(&self) -> Signature {
        Signature { looks: self.looks(), number: self.number }
    }

    /// Adds what is another on the output since it, or another element of its surface, looked like this.
    pub(super) fn changes_since(&self, old: &Signature, damage: &mut Vec<Rectangle<i32, Physical>>) {
        let old = &old.looks;
        if (old.geometry, old.src, old.transform) != (self.geometry, self.src, self.transform)
            || old.opaque != self.opaque
        {
            damage.extend([old.geometry, self.geometry]);
            return;
        }
        damage.extend(self.damage_since(old.commit).into_iter().map(|mut rect| {
            rect.loc += self.geometry.loc;
            rect
        }));
    }

    /// The same somewhere else.
    pub fn moved(&self, by: Point<i32, Physical>) -> Self {
        let mut moved = self.clone();
        moved.geometry.loc += by;
        moved.number = number();
        moved
    }
}

fn number() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(0);
    MADE.fetch_add(1, Ordering::Relaxed)
}

/// Where a surface whose origin is at `at` hides what is below it, on the output.
pub fn opaque_areas(
    content: &Content,
    at: Point<i32, Logical>,
    scale: Scale<f64>,
) -> impl Iterator<Item = Rectangle<i32, Physical>> {
    let area = place(at, content.size().unwrap_or_default(), scale);
    let rects = content.hides().iter().map(move |rect| place(at + rect.loc, rect.size, scale));
    rects.filter_map(move |rect| rect.intersection(area))
}

/// A logical rectangle on the output's pixels. Both corners are rounded, so that neighbours neither overlap nor gap.
pub fn place(
    at: Point<i32, Logical>,
    size: Size<i32, Logical>,
    scale: Scale<f64>,
) -> Rectangle<i32, Physical> {
    let start = at.to_f64().to_physical(scale).to_i32_round();
    let end = (at + size.to_point()).to_f64().to_physical(scale).to_i32_round();
    Rectangle::from_extremities(start, end)
}

impl Element {
    pub(super) fn id(&self) -> &Id {
        &self.id
    }

    /// Where it hides what is below it.
    pub(super) fn opaque_areas(&self) -> impl Iterator<Item = Rectangle<i32, Physical>> {
        self.opaque.iter().map(|rect| Rectangle::new(rect.loc + self.geometry.loc, rect.size))
    }

    /// Whether nothing shines through anywhere.
    pub(super) fn is_opaque(&self) -> bool {
        gl::is_opaque(&self.texture)
    }

    /// Where in the texture a point of the output is, which has to be one of [`area`](Self::area): from 0 to 1 either way.
    #[expect(clippy::cast_possible_truncation, reason = "an f32 is what GL counts with")]
    pub(super) fn in_texture(&self, at: Point<i32, Physical>) -> [f32; 2] {
        let (at, shown) = ((at - self.geometry.loc).to_f64(), self.geometry.size.to_f64());
        let stretch = |at: f64, shown: f64, all: f64| if shown > 0.0 { at / shown * all } else { 0.0 };
        let (x, y) = (stretch(at.x, shown.w, self.src.size.w), stretch(at.y, shown.h, self.src.size.h));
        let scale = f64::from(self.buffer_scale);
        let full = self.buffer_size.to_f64().to_logical(scale, self.transform);
        let point = Rectangle::new(self.src.loc + Point::from((x, y)), Size::default());
        let (point, size) = (point.to_buffer(scale, self.transform, &full).loc, self.buffer_size.to_f64());
        let (x, y) = (point.x / size.w, point.y / size.h);
        [x as f32, if self.texture.is_y_inverted() { 1.0 - y } else { y } as f32]
    }

    /// Triangles that show it.
    pub(super) fn triangles(&self, blended: bool, corners: Range<usize>) -> Triangles<'_> {
        let (texture, external, opaque) = (&self.texture, self.external, self.is_opaque());
        Triangles { texture, external, opaque, blended, corners }
    }

    /// How far a texel reaches beyond its own place, in pixels, if pictures are stretched by this much: a filter mixes
    /// neighbours.
    #[expect(clippy::cast_possible_truncation, reason = "it saturates, and is cut to the element then")]
    fn reach(&self, stretch: f64) -> i32 {
        let ratio = stretch / f64::from(self.buffer_scale);
        if (ratio - 1.0).abs() < f64::EPSILON { 0 } else { (ratio / 2.0).max(1.0).ceil() as i32 }
    }

    /// What was damaged since that commit of its surface, relative to `geometry`.
    fn damage_since(&self, commit: CommitCounter) -> Vec<Rectangle<i32, Physical>> {
        let whole = || vec![Rectangle::from_size(self.geometry.size)];
        let Some(damage) = self.damage.damage_since(Some(commit)) else { return whole() };
        if self.src.size.is_empty() {
            return whole();
        }
        let size = self.geometry.size.to_f64();
        let stretch = Scale::from((size.w / self.src.size.w, size.h / self.src.size.h));
        let bounds = Rectangle::from_size(self.geometry.size);
        let margin = Point::from((self.reach(stretch.x), self.reach(stretch.y)));
        let (upright, full) = (inverse(self.transform), self.buffer_size.to_f64());
        let shown = damage.iter().filter_map(|rect| {
            let upright = upright.transform_rect_in(rect.to_f64(), &full);
            let logical = upright.to_logical(f64::from(self.buffer_scale), Transform::Normal, &full);
            let mut shown = logical.intersection(self.src)?;
            shown.loc -= self.src.loc;
            let shown = shown.to_physical(stretch).to_i32_up::<i32>();
            Rectangle::new(shown.loc - margin, shown.size + margin.to_size().upscale(2)).intersection(bounds)
        });
        shown.collect()
    }
}
