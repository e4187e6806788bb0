//! The pointer's image: a client's surface, or an icon of the theme, composited like everything else.

use std::{collections::HashMap, time::Duration};

use smithay::{
    backend::renderer::{element::Id, gles::GlesTexture, utils::DamageBag},
    input::pointer::{CursorIcon, CursorImageStatus, CursorImageSurfaceData},
    reexports::wayland_server::protocol::wl_surface::WlSurface,
    utils::{Buffer, Logical, Physical, Point, Rectangle, Scale, Size},
    wayland::compositor::with_states,
};

use super::Compositor;
use crate::{
    render::{Renderer, element::Element},
    shell::{cursor::CursorImages, tree},
    trace,
};

/// An icon of the theme as a texture.
#[derive(Debug)]
struct Icon {
    id: Id,
    texture: GlesTexture,
    size: Size<i32, Buffer>,
    hotspot: Point<i32, Physical>,
}

/// The pointer's image.
#[derive(Debug)]
pub(super) struct Pointer {
    images: CursorImages,
    status: CursorImageStatus,
    /// Where it was when an output was last told.
    position: Point<f64, Logical>,
    /// It is on no window of ours, so it has no image.
    pub(super) is_away: bool,
    icons: HashMap<(CursorIcon, u32), Option<Icon>>,
    damage: DamageBag<i32, Buffer>,
}

impl Pointer {
    pub(super) fn new(images: CursorImages) -> Self {
        Self {
            images,
            status: CursorImageStatus::default_named(),
            position: Point::default(),
            is_away: false,
            icons: HashMap::new(),
            damage: DamageBag::default(),
        }
    }

    /// The client's cursor surface with the place of its origin, if a client has set one.
    pub(super) fn surface(&self, position: Point<f64, Logical>) -> Option<(WlSurface, Point<i32, Logical>)> {
        let CursorImageStatus::Surface(surface) = &self.status else { return None };
        let hotspot = with_states(surface, |states| {
            let data = states.data_map.get::<CursorImageSurfaceData>()?;
            data.lock().ok().map(|attributes| attributes.hotspot)
        });
        Some((surface.clone(), position.to_i32_round() - hotspot.unwrap_or_default()))
    }

    /// The theme's image at `position` on an output of this scale.
    pub(super) fn element(
        &mut self,
        renderer: &mut Renderer,
        scale: Scale<f64>,
        position: Point<f64, Logical>,
    ) -> Option<Element> {
        let CursorImageStatus::Named(icon) = self.status else { return None };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "scales are small and positive"
        )]
        let whole = scale.x.ceil().max(1.0) as u32;
        let images = &self.images;
        let loaded = self.icons.entry((icon, whole)).or_insert_with(|| {
            // An animated cursor shows its first picture: a pointer that nobody moves wakes nobody.
            let image = images.image(icon, whole.into(), Duration::ZERO).image;
            let signed = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
            let size = (signed(image.width), signed(image.height)).into();
            let texture = renderer
                .import_image(&image.pixels, size)
                .inspect_err(|error| tracing::warn!("the pointer has no image: {error}"))
                .ok()?;
            Some(Icon {
                id: Id::new(),
                texture,
                size,
                hotspot: (signed(image.hotspot.0), signed(image.hotspot.1)).into(),
            })
        });
        let icon = loaded.as_ref()?;
        let at = position.to_physical(scale).to_i32_round() - icon.hotspot;
        Some(Element::of_image(icon.id.clone(), icon.texture.clone(), self.damage.snapshot(), icon.size, at))
    }

    /// Where the image may be on any output, if there is one.
    fn reach(&self) -> Option<Rectangle<i32, Logical>> {
        if self.is_away {
            return None;
        }
        if let CursorImageStatus::Named(icon) = self.status {
            let image = self.images.image(icon, 1.0, Duration::ZERO).image;
            // At a fractional scale the icon of the next whole one is shown pixel by pixel: twice as large, at most.
            let signed = |value: u32| i32::try_from(value).unwrap_or(i32::MAX).saturating_mul(2);
            let hotspot = Point::from((signed(image.hotspot.0), signed(image.hotspot.1)));
            let size = Size::from((signed(image.width), signed(image.height)));
            return Some(Rectangle::new(self.position.to_i32_round() - hotspot, size));
        }
        let (surface, at) = self.surface(self.position)?;
        let mut reach: Option<Rectangle<i32, Logical>> = None;
        tree::for_each(&surface, at, |_, states, at| {
            let size = tree::content_of(states, |content| content.size()).unwrap_or_default();
            let here = Rectangle::new(at, size);
            reach = Some(reach.map_or(here, |reach| reach.merge(here)));
        });
        reach
    }

    /// The GPU context is lost: icons are uploaded anew.
    pub(super) fn forget_textures(&mut self) {
        self.icons.clear();
    }

    /// A surface is gone; it may have been the image.
    pub(super) fn surface_gone(&mut self, surface: &WlSurface) {
        if matches!(&self.status, CursorImageStatus::Surface(image) if image == surface) {
            self.status = CursorImageStatus::default_named();
        }
    }
}

impl Compositor {
    /// The client under the pointer wants another image.
    pub(crate) fn set_cursor(&mut self, image: CursorImageStatus) {
        self.pointer_changes(|pointer| pointer.status = image);
    }

    /// A parent compositor says whether it is its pointer, which is somewhere else.
    pub(super) fn pointer_is_away(&mut self, away: bool) {
        if self.pointer.is_away != away {
            self.pointer_changes(|pointer| pointer.is_away = away);
        }
    }

    /// The pointer has moved: so has its image on the outputs that it was on or is on now.
    pub(crate) fn pointer_moved(&mut self, position: Point<f64, Logical>) {
        self.pointer_changes(|pointer| pointer.position = position);
    }

    /// The image is another, or elsewhere: the outputs that it was on or is on now are drawn. It is no part of their scenes.
    fn pointer_changes(&mut self, change: impl FnOnce(&mut Pointer)) {
        let before = self.pointer.reach();
        change(&mut self.pointer);
        let reaches = [before, self.pointer.reach()];
        for id in self.screens.ids() {
            let Some(screen) = self.screens.get_mut(id) else { continue };
            let area = screen.area();
            if reaches.iter().flatten().any(|reach| reach.overlaps(area)) {
                let action = screen.machine.damaged(trace::now());
                self.act(id, action);
            }
        }
    }
}
