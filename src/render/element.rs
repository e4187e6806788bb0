//! What is drawn: a textured rectangle, from a surface or from the cursor's theme.
//!
//! Owns the arithmetic from buffer to screen. Must not know where a texture comes from.

use smithay::{
    backend::renderer::{
        element::{Element as SmithayElement, Id, Kind, RenderElement},
        gles::{GlesError, GlesFrame, GlesRenderer, GlesTexture},
        utils::{CommitCounter, DamageSet, DamageSnapshot, OpaqueRegions},
    },
    utils::{Buffer, Logical, Physical, Point, Rectangle, Scale, Size, Transform},
};

use crate::buffer::content::Content;

/// A textured rectangle on one output.
#[derive(Debug)]
pub struct Element {
    id: Id,
    texture: GlesTexture,
    damage: DamageSnapshot<i32, Buffer>,
    buffer_size: Size<i32, Buffer>,
    buffer_scale: i32,
    transform: Transform,
    /// The part of the buffer that is shown, in logical coordinates before the viewport's scaling.
    src: Rectangle<f64, Logical>,
    /// Where it is shown.
    geometry: Rectangle<i32, Physical>,
    /// Relative to `geometry`.
    opaque: Vec<Rectangle<i32, Physical>>,
}

impl Element {
    /// The element of a surface whose origin is at `at` on the output; `None` if it shows nothing.
    pub fn of_content(content: &Content, at: Point<i32, Logical>, scale: Scale<f64>) -> Option<Self> {
        let (picture, view, imported) = (content.picture.as_ref()?, content.view?, content.texture.as_ref()?);
        let geometry = place(at, view.dst, scale);
        let opaque =
            content.opaque.iter().map(|rect| place(at + rect.loc, rect.size, scale)).filter_map(|rect| {
                let mut rect = rect.intersection(geometry)?;
                rect.loc -= geometry.loc;
                Some(rect)
            });
        Some(Self {
            id: content.id.clone(),
            texture: imported.texture.clone(),
            damage: content.damage(),
            buffer_size: picture.size,
            buffer_scale: content.scale,
            transform: content.transform,
            src: view.src,
            geometry,
            opaque: opaque.collect(),
        })
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
            texture,
            damage,
            buffer_size: size,
            buffer_scale: 1,
            transform: Transform::Normal,
            src: Rectangle::from_size(logical.to_f64()),
            geometry: Rectangle::new(at, (size.w, size.h).into()),
            opaque: Vec::new(),
        }
    }
}

/// A logical rectangle on the output's pixels. Both corners are rounded, so that neighbours neither overlap nor gap.
fn place(at: Point<i32, Logical>, size: Size<i32, Logical>, scale: Scale<f64>) -> Rectangle<i32, Physical> {
    let start = at.to_f64().to_physical(scale).to_i32_round();
    let end = (at + size.to_point()).to_f64().to_physical(scale).to_i32_round();
    Rectangle::from_extremities(start, end)
}

impl SmithayElement for Element {
    fn id(&self) -> &Id {
        &self.id
    }

    fn current_commit(&self) -> CommitCounter {
        self.damage.current_commit()
    }

    fn src(&self) -> Rectangle<f64, Buffer> {
        let full = self.buffer_size.to_f64().to_logical(f64::from(self.buffer_scale), self.transform);
        self.src.to_buffer(f64::from(self.buffer_scale), self.transform, &full)
    }

    fn transform(&self) -> Transform {
        self.transform
    }

    fn geometry(&self, _scale: Scale<f64>) -> Rectangle<i32, Physical> {
        self.geometry
    }

    fn damage_since(&self, _scale: Scale<f64>, commit: Option<CommitCounter>) -> DamageSet<i32, Physical> {
        let whole = || DamageSet::from_slice(&[Rectangle::from_size(self.geometry.size)]);
        let Some(damage) = self.damage.damage_since(commit) else { return whole() };
        if self.src.size.is_empty() {
            return whole();
        }
        let size = self.geometry.size.to_f64();
        let stretch = Scale::from((size.w / self.src.size.w, size.h / self.src.size.h));
        let bounds = Rectangle::from_size(self.geometry.size);
        damage
            .iter()
            .filter_map(|rect| {
                let logical = rect.to_f64().to_logical(
                    f64::from(self.buffer_scale),
                    self.transform,
                    &self.buffer_size.to_f64(),
                );
                let mut shown = logical.intersection(self.src)?;
                shown.loc -= self.src.loc;
                shown.to_physical(stretch).to_i32_up::<i32>().intersection(bounds)
            })
            .collect()
    }

    fn opaque_regions(&self, _scale: Scale<f64>) -> OpaqueRegions<i32, Physical> {
        self.opaque.iter().copied().collect()
    }

    fn kind(&self) -> Kind {
        Kind::Unspecified
    }
}

impl RenderElement<GlesRenderer> for Element {
    fn draw(
        &self,
        frame: &mut GlesFrame<'_, '_>,
        src: Rectangle<f64, Buffer>,
        dst: Rectangle<i32, Physical>,
        damage: &[Rectangle<i32, Physical>],
        opaque_regions: &[Rectangle<i32, Physical>],
    ) -> Result<(), GlesError> {
        let opaque = opaque_regions;
        frame.render_texture_from_to(&self.texture, src, dst, damage, opaque, self.transform, 1.0, None, &[])
    }
}
