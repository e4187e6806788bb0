//! The pointer's image on one output, as a frame shows it.
//!
//! Gathers; it is no part of the scene that is kept between frames.

use smithay::{
    reexports::wayland_server::{Resource, protocol::wl_surface::WlSurface},
    utils::{Logical, Physical, Point, Rectangle, Scale},
    wayland::compositor::SurfaceData,
};

use super::{Screen, pointer::Pointer};
use crate::{
    buffer::Lease,
    render::{Renderer, element::Element},
    shell::tree,
};

/// The pointer on an output.
#[derive(Default)]
pub(super) struct Pointed {
    /// Its image, above all.
    pub(super) image: Composed,
    /// The pixel of the output that it points at.
    pub(super) at: Point<i32, Physical>,
    /// The image's surfaces, if they are a client's.
    pub(super) surfaces: Vec<WlSurface>,
    /// Those of them that this output paces.
    pub(super) paced: Vec<WlSurface>,
    /// The image is one of the theme's, and its hot spot is on the output.
    pub(super) is_ours: bool,
}

/// What the renderer has to draw.
#[derive(Clone, Default)]
pub(super) struct Composed {
    /// Top to bottom.
    pub(super) elements: Vec<Element>,
    /// The leases on the buffers that the elements read.
    pub(super) leases: Vec<Lease>,
}

impl Composed {
    /// Adds a surface, bringing its texture up to date first.
    fn add(
        &mut self,
        renderer: &mut Renderer,
        surface: &WlSurface,
        states: &SurfaceData,
        at: Point<i32, Logical>,
        scale: Scale<f64>,
    ) {
        tree::content_of(states, |content| {
            content.settle_live();
            if let Err(error) = renderer.import(content) {
                // The surface keeps the texture that it had; the buffer stays leased until it is replaced.
                tracing::warn!("{} keeps its old picture: {error}", surface.id());
            }
            if let Some(element) = Element::of_content(content, at, scale) {
                self.elements.push(element);
                self.leases.extend(content.picture.as_ref().and_then(|picture| picture.lease.clone()));
            }
        });
    }

    /// The area that the elements cover; `None` without any.
    pub(super) fn extent(&self) -> Option<Rectangle<i32, Physical>> {
        self.elements.iter().map(Element::area).reduce(Rectangle::merge)
    }
}

impl Pointed {
    /// The image at a position, or nothing without a pointer.
    pub(super) fn on(
        screen: &Screen,
        renderer: &mut Renderer,
        pointer: Option<&mut Pointer>,
        position: Point<f64, Logical>,
        is_paced: impl Fn(Rectangle<i32, Logical>) -> bool,
    ) -> Self {
        let (area, scale) = (screen.area(), screen.canvas.scale());
        let on_output = position - area.loc.to_f64();
        let mut pointed = Self { at: on_output.to_physical(scale).to_i32_round(), ..Self::default() };
        if let Some((surface, at)) = pointer.as_ref().and_then(|pointer| pointer.surface(position)) {
            tree::for_each(&surface, at, |surface, states, at| {
                let size = tree::content_of(states, |content| content.size()).unwrap_or_default();
                let shown = Rectangle::new(at, size);
                if area.overlaps(shown) {
                    pointed.image.add(renderer, surface, states, at - area.loc, scale);
                    pointed.surfaces.push(surface.clone());
                    if is_paced(shown) {
                        pointed.paced.push(surface.clone());
                    }
                }
            });
        } else if let Some(pointer) = pointer {
            let turned = screen.output.current_transform().transform_size(screen.head.mode().size);
            let output = Rectangle::from_size(turned);
            let image = pointer.element(renderer, scale, on_output);
            pointed.image.elements.extend(image.filter(|image| image.area().overlaps(output)));
            // One that is hidden is nobody's.
            pointed.is_ours = !pointed.image.elements.is_empty() && area.to_f64().contains(position);
        }
        pointed
    }
}
