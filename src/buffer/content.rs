//! The current content of a surface: the picture that its last applied commit left, and how it is to be shown.
//!
//! Owns buffer size, scale, transform, viewport, damage and opaque region of the applied state, and the lease on
//! the buffer. Must not know how the picture is drawn: `texture` is the renderer's to fill and to use.

use std::time::Duration;

use smithay::{
    backend::renderer::{
        element::Id,
        gles::GlesTexture,
        utils::{CommitCounter, DamageBag, DamageSnapshot},
    },
    utils::{Buffer, Logical, Rectangle, Size, Transform},
    wayland::{
        compositor::{Damage, RectangleKind, RegionAttributes, SurfaceAttributes, SurfaceData},
        viewporter::{self, ViewportCachedState},
    },
};

use super::{ClientBuffer, Lease};
use crate::{
    fence::{Fence, sync_file::SyncFile},
    trace::CommitNumber,
};

/// A buffer as a commit brings it.
#[derive(Debug)]
pub struct Picture {
    /// The buffer itself.
    pub buffer: ClientBuffer,
    /// The commit that brought it, in the trace.
    pub commit: CommitNumber,
    /// When that was made.
    pub committed_at: Duration,
    /// Its size in pixels.
    pub size: Size<i32, Buffer>,
    /// Whether its alpha channel counts.
    pub has_alpha: bool,
    /// Our share in the buffer; gone as soon as nothing of ours reads the buffer any more.
    pub lease: Option<Lease>,
    /// The client's acquire fence, handed over: materialised, and perhaps not signalled. Every consumer has to wait for it:
    /// `eglWaitSync` in the renderer, `IN_FENCE_FD` on a plane. `None` if it has signalled, or was waited for.
    pub live: Option<SyncFile>,
}

/// How a surface maps its buffer into its own coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The part of the buffer that is shown, in surface coordinates before the viewport's scaling.
    pub src: Rectangle<f64, Logical>,
    /// The size of the surface.
    pub dst: Size<i32, Logical>,
}

/// The applied state of a surface as far as it can be seen.
#[derive(Debug)]
pub struct Content {
    /// Identifies the surface to the damage tracker.
    pub id: Id,
    /// What is shown, if the surface has a buffer.
    pub picture: Option<Picture>,
    /// `wl_surface.set_buffer_scale`
    pub scale: i32,
    /// What brings rectangles of the surface into the buffer, after `wl_surface.set_buffer_transform`.
    pub transform: Transform,
    /// Present exactly when a buffer is.
    pub view: Option<View>,
    /// The region that hides what is below, in surface coordinates.
    pub opaque: Vec<Rectangle<i32, Logical>>,
    /// The picture has not been on a screen yet.
    pub fresh: bool,
    /// The texture is of an older buffer: a new buffer needs a new one even where its client says that nothing changed.
    pub stale: bool,
    /// The picture could not be made a texture: it hides nothing.
    pub failed: bool,
    /// What the renderer made of the picture.
    pub texture: Option<Imported>,
    damage: DamageBag<i32, Buffer>,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            id: Id::new(),
            picture: None,
            scale: 1,
            transform: Transform::Normal,
            view: None,
            opaque: Vec::new(),
            fresh: false,
            stale: false,
            failed: false,
            texture: None,
            damage: DamageBag::default(),
        }
    }
}

/// A picture as a texture.
#[derive(Debug)]
pub struct Imported {
    /// The texture.
    pub texture: GlesTexture,
    /// The driver converts it while it is read (GL_OES_EGL_image_external).
    pub external: bool,
    /// The damage that it contains.
    pub seen: CommitCounter,
    /// What it is made of.
    pub from: Origin,
}

/// What a texture is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client's dma-buf itself: it shows whatever the buffer contains.
    Import,
    /// A copy of a dma-buf.
    Copy,
    /// A copy of shared memory, kept up to date by its damage.
    Shm,
}

/// How many damage rectangles are kept apart; beyond that their bounding box is as good.
const MAX_DAMAGE: usize = 16;

/// How many rectangles an opaque region may have to be believed. It only saves drawing, and costs time with every
/// rectangle.
const MAX_OPAQUE: usize = 32;

/// What an applied commit has changed of what can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Nothing.
    Nothing,
    /// The picture, at most: it is where it was, as large as it was, and hides what it hid.
    Picture,
    /// Its size or what it hides, too.
    Shape,
}

/// What an applied commit does to the buffer.
#[derive(Debug)]
pub enum Change {
    /// A new buffer, or the same one again.
    Attach(Picture),
    /// `attach(NULL)`: the surface is unmapped.
    Detach,
}

impl Content {
    /// Takes over the applied state of a surface.
    ///
    /// `change` is what the commits that were applied bring; the picture that it displaces is dropped here, and with
    /// it our share in its buffer.
    pub fn apply(&mut self, states: &SurfaceData, change: Option<Change>) -> Changed {
        let changed = change.is_some();
        let mut hid_nothing = false;
        let attached = match change {
            Some(Change::Detach) => {
                *self = Self { id: self.id.clone(), ..Self::default() };
                false
            }
            Some(Change::Attach(picture)) => {
                if self.picture.as_ref().is_some_and(|before| before.size != picture.size) {
                    self.damage.reset();
                }
                self.picture = Some(picture);
                self.fresh = true;
                self.stale = true;
                // What could not be shown hid nothing; now it may.
                hid_nothing = std::mem::take(&mut self.failed);
                true
            }
            None => false,
        };
        let mut cached = states.cached_state.get::<SurfaceAttributes>();
        let attributes = cached.current();
        let damage = std::mem::take(&mut attributes.damage);
        let Some(picture) = &self.picture else {
            return if changed { Changed::Shape } else { Changed::Nothing };
        };

        let mapped_before = (self.scale, self.transform);
        self.scale = attributes.buffer_scale.max(1);
        // Buffers are turned counter-clockwise (wl_output.transform), smithay turns rectangles clockwise.
        self.transform = Transform::from(attributes.buffer_transform).invert();
        let changed = changed || (self.scale, self.transform) != mapped_before;
        let full = picture.size.to_logical(self.scale, self.transform);
        let view = view(states, full);
        if attached {
            let bounds = Rectangle::from_size(picture.size);
            let rects = damage.into_iter().filter_map(|damage| match damage {
                Damage::Buffer(rect) => rect.intersection(bounds),
                // Clamped first: smithay turns rectangles with plain arithmetic.
                Damage::Surface(rect) => {
                    to_unscaled(rect.intersection(Rectangle::from_size(view.dst))?, &view)
                        .to_i32_up()
                        .to_buffer(self.scale, self.transform, &full)
                        .intersection(bounds)
                }
            });
            self.damage.add(few(rects.collect()));
        }
        let opaque = match &attributes.opaque_region {
            _ if !picture.has_alpha => vec![Rectangle::from_size(view.dst)],
            Some(region) if region.rects.len() <= MAX_OPAQUE => flatten(region, view.dst),
            Some(_) | None => Vec::new(),
        };
        let same_shape = self.view.replace(view) == Some(view) && self.opaque == opaque && !hid_nothing;
        self.opaque = opaque;
        match (same_shape, changed) {
            (false, _) => Changed::Shape,
            (true, true) => Changed::Picture,
            (true, false) => Changed::Nothing,
        }
    }

    /// Where it hides what is below it, in surface coordinates.
    pub fn hides(&self) -> &[Rectangle<i32, Logical>] {
        if self.failed { &[] } else { &self.opaque }
    }

    /// The GPU context of the texture is lost. A buffer that is still ours to read is imported anew; one that was given back
    /// is its client's again, so the surface shows nothing until its next commit. Returns whether that is so.
    pub fn forget_texture(&mut self) -> bool {
        self.texture = None;
        let Some(picture) = &self.picture else { return false };
        self.stale = picture.lease.is_some();
        self.failed = !self.stale;
        !self.stale
    }

    /// Lets the live fence of the picture go if it has signalled, so that nobody is given one that says nothing any more.
    pub fn settle_live(&mut self) {
        if let Some(picture) = &mut self.picture {
            picture.live.take_if(|live| live.status().is_done());
        }
    }

    /// Forgets everything: the surface is gone.
    pub fn clear(&mut self) {
        *self = Self { id: self.id.clone(), ..Self::default() };
    }

    /// The size of the surface, if it shows anything.
    pub fn size(&self) -> Option<Size<i32, Logical>> {
        self.view.map(|view| view.dst)
    }

    /// The part of the buffer that is shown, in the buffer's own pixels.
    pub fn source(&self) -> Option<Rectangle<f64, Buffer>> {
        let (picture, view, scale) = (self.picture.as_ref()?, self.view?, f64::from(self.scale));
        let full = picture.size.to_f64().to_logical(scale, self.transform);
        Some(view.src.to_buffer(scale, self.transform, &full))
    }

    /// The damage so far, for the damage tracker and for texture uploads.
    pub fn damage(&self) -> DamageSnapshot<i32, Buffer> {
        self.damage.snapshot()
    }
}

/// What undoes a transform of rectangles. smithay's `invert` is not that for flips by a quarter: it leads from one direction of
/// turning to the other, and each of these flips undoes itself.
pub fn inverse(transform: Transform) -> Transform {
    match transform {
        Transform::_90 => Transform::_270,
        Transform::_270 => Transform::_90,
        same => same,
    }
}

fn view(states: &SurfaceData, full: Size<i32, Logical>) -> View {
    viewporter::ensure_viewport_valid(states, full);
    let mut cached = states.cached_state.get::<ViewportCachedState>();
    let viewport = cached.current();
    View {
        src: viewport.src.unwrap_or_else(|| Rectangle::from_size(full.to_f64())),
        dst: viewport.size().unwrap_or(full),
    }
}

/// Surface coordinates to surface coordinates before the viewport's scaling.
fn to_unscaled(rect: Rectangle<i32, Logical>, view: &View) -> Rectangle<f64, Logical> {
    let (dst, src) = (view.dst.to_f64(), view.src.size);
    if dst.is_empty() {
        return view.src;
    }
    let mut rect = rect.to_f64().upscale((src.w / dst.w, src.h / dst.h));
    rect.loc += view.src.loc;
    rect
}

/// At most [`MAX_DAMAGE`] rectangles that cover `rects`.
fn few(rects: Vec<Rectangle<i32, Buffer>>) -> Vec<Rectangle<i32, Buffer>> {
    if rects.len() <= MAX_DAMAGE {
        return rects;
    }
    rects.into_iter().reduce(Rectangle::merge).into_iter().collect()
}

/// The rectangles of a region within a surface of `size`, without overlaps.
fn flatten(region: &RegionAttributes, size: Size<i32, Logical>) -> Vec<Rectangle<i32, Logical>> {
    let bounds = Rectangle::from_size(size);
    region.rects.iter().fold(Vec::new(), |mut flat, (kind, rect)| {
        let Some(rect) = rect.intersection(bounds) else { return flat };
        match kind {
            RectangleKind::Add => {
                flat.extend(rect.subtract_rects(flat.clone()));
                flat
            }
            RectangleKind::Subtract => Rectangle::subtract_rects_many_in_place(flat, [rect]),
        }
    })
}
