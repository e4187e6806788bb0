//! What is on an output: surfaces and the pointer, as the next frame or a client's picture would show them.
//!
//! Gathers, and turns what has to be composed into elements. Which of it has to be, the output says
//! ([`crate::output::planes`]). Whether it is gathered anew for a frame, [`super::kept`] says.

use std::collections::{BTreeSet, HashMap, HashSet};

use smithay::{
    reexports::wayland_server::{Resource, backend::ObjectId, protocol::wl_surface::WlSurface},
    utils::{Logical, Physical, Point, Rectangle, Scale, Size, Transform},
    wayland::{
        compositor::{SurfaceData, with_states},
        presentation::{PresentationFeedbackCachedState, PresentationFeedbackCallback},
    },
};

use super::{
    Compositor, OutputId, Screen, acquire::Audience, kept::Key, occlusion::Cover, pointed::Pointed, traced,
};
use crate::{
    buffer::{ClientBuffer, Lease, content::Content},
    output::{
        layer::{Item, Layer},
        layout,
    },
    render::{
        Renderer,
        element::{self, Element},
    },
    shell::tree,
    trace::FrameNumber,
};

/// What a scene is gathered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// The next frame of the output, which takes what its surfaces want to be told of it.
    Frame,
    /// A client's picture, which takes nothing.
    Picture {
        /// With the pointer's image.
        cursor: bool,
    },
}

/// One surface of a scene.
pub(super) struct Part {
    surface: WlSurface,
    /// Its origin on the output.
    at: Point<i32, Logical>,
    /// What planes have to know of it.
    pub(super) item: Item,
    /// What the renderer draws; `None` until it is needed, and if there is nothing.
    element: Option<Element>,
}

/// Who wants to know when a surface's content is on the screen.
pub(super) struct Feedback {
    pub(super) surface: WlSurface,
    pub(super) callback: PresentationFeedbackCallback,
}

/// What one frame of one output is made of.
#[derive(Default)]
pub(super) struct Scene {
    /// The surfaces of which something can be seen, top to bottom.
    pub(super) parts: Vec<Part>,
    /// Where in that list a surface is.
    places: HashMap<ObjectId, usize>,
    /// The parts whose content has to be looked at again.
    stale: BTreeSet<usize>,
    /// Surfaces of which nothing can be seen, and whose content is to be copied all the same: what the CPU copies goes back
    /// to its client at once.
    unseen: Once,
    /// The surfaces on the output, top to bottom, but for the pointer's.
    surfaces: Vec<WlSurface>,
    /// Those of them that this output paces: it is the one that shows most of them, and something of their tree can be
    /// seen.
    paced: Vec<WlSurface>,
    /// Those of them that may have something to be told.
    waiting: Once,
    /// Whose content can be seen, but for the pointer's.
    audience: Audience,
    /// It was gathered for this frame.
    pub(super) is_new: bool,
    /// A content could not be shown: what it was taken to hide is to be shown.
    pub(super) failed: bool,
    /// The pointer, which is looked at with every frame.
    pub(super) pointer: Pointed,
    /// Who wants to know when the frame is on the screen.
    pub(super) feedback: Vec<Feedback>,
    /// The surfaces whose content has not been on a screen before.
    pub(super) fresh: Vec<WlSurface>,
}

/// Surfaces, each of them once: their clients may commit any number of times before the next frame.
#[derive(Default)]
struct Once {
    list: Vec<WlSurface>,
    known: HashSet<ObjectId>,
}

impl Once {
    fn add(&mut self, surface: &WlSurface) {
        if self.known.insert(surface.id()) {
            self.list.push(surface.clone());
        }
    }

    fn retain(&mut self, keep: impl Fn(&WlSurface) -> bool) {
        let Self { list, known } = self;
        list.retain(|surface| keep(surface) || !known.remove(&surface.id()));
    }
}

/// A scene while it is gathered.
#[derive(Default)]
struct Gathering {
    scene: Scene,
    /// The surfaces of which something can be seen.
    seen: Vec<WlSurface>,
    /// What hides the surfaces that are still to come.
    cover: Cover,
}

/// What is composed: what the renderer draws, and whose buffers that reads.
pub(super) struct Picture<'a> {
    /// The frame that it is for, in the trace.
    frame: FrameNumber,
    /// Top to bottom: the pointer's, then the surfaces'.
    pub(super) elements: Vec<&'a Element>,
    pointer: &'a [Lease],
    surfaces: Vec<&'a WlSurface>,
}

impl Picture<'_> {
    /// The leases on what these elements read, which are given by their numbers in the list. Those of the pointer are few,
    /// and all of them count.
    pub(super) fn leases(&self, read: &[usize]) -> Vec<Lease> {
        let above = self.elements.len().saturating_sub(self.surfaces.len());
        let surfaces = read.iter().filter_map(|index| self.surfaces.get(index.checked_sub(above)?));
        let leases = surfaces.filter_map(|surface| {
            tree::content(surface, |content| {
                let picture = content.picture.as_ref()?;
                traced::read(self.frame, picture.commit);
                picture.lease.clone()
            })
        });
        let pointer = self.pointer.iter().inspect(|lease| traced::read_lease(self.frame, lease));
        pointer.cloned().chain(leases).collect()
    }
}

impl Gathering {
    fn add(
        &mut self,
        screen: &Screen,
        surface: &WlSurface,
        states: &SurfaceData,
        at: Point<i32, Logical>,
        is_paced: impl Fn(Rectangle<i32, Logical>) -> bool,
    ) {
        let area = screen.area();
        tree::content_of(states, |content| {
            let Some(size) = content.size() else { return };
            let shown = Rectangle::new(at, size);
            if !area.overlaps(shown) {
                return;
            }
            let (at, scale) = (at - area.loc, screen.canvas.scale());
            let bounds = area.size.to_f64().to_physical(scale).to_i32_round();
            if self.cover.shows(element::place(at, size, scale), Rectangle::from_size(bounds)) {
                let item = item(content, at, screen);
                self.seen.push(surface.clone());
                self.cover.add(element::opaque_areas(content, at, scale));
                self.scene.places.insert(surface.id(), self.scene.parts.len());
                self.scene.parts.push(Part { surface: surface.clone(), at, item, element: None });
            } else {
                self.scene.unseen.add(surface);
            }
            self.scene.surfaces.push(surface.clone());
            if is_paced(shown) {
                self.scene.paced.push(surface.clone());
            }
        });
    }

    /// Every surface of a tree of which something can be seen counts as seen: a window whose subsurface fills it draws for
    /// both.
    ///
    /// The overlay, which is only looked at, is no audience: fences are handed over, or not, as without it.
    fn complete(self, overlay: Option<&WlSurface>) -> Scene {
        let Self { mut scene, seen, cover: _ } = self;
        let seen: HashSet<_> = seen.iter().map(|surface| tree::root(surface).id()).collect();
        for root in seen.iter().filter(|root| overlay.is_none_or(|overlay| overlay.id() != **root)) {
            scene.audience.add(root);
        }
        scene.paced.retain(|surface| seen.contains(&tree::root(surface).id()));
        scene.paced.iter().for_each(|surface| scene.waiting.add(surface));
        scene.stale = (0..scene.parts.len()).collect();
        scene.is_new = true;
        scene
    }
}

impl Scene {
    /// Nothing is on the output.
    pub(super) fn empty() -> Self {
        Self { is_new: true, ..Self::default() }
    }

    /// The content of this surface is another, or it wants to be told something. What was made of the content goes at once,
    /// and with it every share in its buffer. Returns whether something of the surface can be seen.
    pub(super) fn look_at(&mut self, surface: &WlSurface, is_shown: bool, is_paced: bool) -> bool {
        if is_paced {
            self.waiting.add(surface);
        }
        let index = self.places.get(&surface.id()).copied();
        if let Some((index, part)) = index.and_then(|index| Some((index, self.parts.get_mut(index)?))) {
            (part.element, part.item.layer) = (None, None);
            self.stale.insert(index);
            return true;
        }
        if is_shown {
            self.unseen.add(surface);
        }
        false
    }

    /// The frame that keeps this is over. The pointer is looked at anew with every frame, and no share in the buffers of its
    /// image may stay behind.
    pub(super) fn keep(&mut self) {
        self.is_new = false;
        self.pointer = Pointed::default();
    }

    /// Brings the parts up to date whose content has to be looked at again. One with a fence that may signal at any time
    /// has to be with every frame.
    fn refresh(&mut self, screen: &Screen) {
        let mut stale = std::mem::take(&mut self.stale);
        stale.retain(|index| {
            let Some(part) = self.parts.get_mut(*index) else { return false };
            tree::content(&part.surface, |content| {
                content.settle_live();
                part.item = item(content, part.at, screen);
                part.element = None;
                content.picture.as_ref().is_some_and(|picture| picture.live.is_some())
            })
        });
        self.stale = stale;
    }

    /// Takes what the surfaces want to be told of this frame.
    fn take_wishes(&mut self) {
        (self.feedback, self.fresh) = (Vec::new(), Vec::new());
        for surface in self.waiting.list.iter().chain(&self.pointer.paced) {
            let callbacks = with_states(surface, |states| {
                if tree::content_of(states, |content| std::mem::take(&mut content.fresh)) {
                    self.fresh.push(surface.clone());
                }
                let mut cached = states.cached_state.get::<PresentationFeedbackCachedState>();
                std::mem::take(&mut cached.current().callbacks)
            });
            let feedback = |callback| Feedback { surface: surface.clone(), callback };
            self.feedback.extend(callbacks.into_iter().map(feedback));
        }
    }

    /// The frame did not reach the screen: what was taken for it is asked for again, or is discarded with the content if
    /// that is replaced first.
    pub(super) fn give_wishes_back(&mut self, feedback: Vec<Feedback>) {
        for surface in self.fresh.drain(..) {
            tree::content(&surface, |content| content.fresh = true);
        }
        // smithay sends `discarded` for those that are left with a surface that goes.
        for Feedback { surface, callback } in feedback {
            with_states(&surface, |states| {
                states
                    .cached_state
                    .get::<PresentationFeedbackCachedState>()
                    .current()
                    .callbacks
                    .push(callback);
            });
        }
    }

    /// The surfaces that this output paces and that may have something to be told.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &WlSurface> {
        self.pointer.paced.iter().chain(&self.waiting.list)
    }

    /// Forgets who has nothing more to be told.
    pub(super) fn told(&mut self, waits: impl Fn(&WlSurface) -> bool) {
        self.waiting.retain(|surface| waits(surface) || has_wishes(surface));
    }

    /// The surfaces on the output.
    pub(super) fn surfaces(&self) -> impl Iterator<Item = &WlSurface> {
        self.pointer.surfaces.iter().chain(&self.surfaces)
    }

    /// The surfaces that this output paces.
    pub(super) fn paced(&self) -> impl Iterator<Item = &WlSurface> {
        self.pointer.paced.iter().chain(&self.paced)
    }

    /// The surfaces of the pointer's image.
    pub(super) fn of_pointer(&self) -> &[WlSurface] {
        &self.pointer.surfaces
    }

    /// Whether a fence of a client's was handed over with what it shows.
    pub(super) fn is_live(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Whose content can be seen.
    pub(super) fn audience(&self) -> Audience {
        if self.pointer.is_ours {
            return Audience::Many;
        }
        let mut audience = self.audience.clone();
        for surface in &self.pointer.surfaces {
            audience.add(&tree::root(surface).id());
        }
        audience
    }

    /// Copies what the CPU copies of the surfaces that nobody sees.
    pub(super) fn copy_unseen(&mut self, renderer: &mut Renderer) {
        for surface in std::mem::take(&mut self.unseen).list {
            tree::content(&surface, |content| {
                if let Err(error) = renderer.import(content) {
                    tracing::warn!("{}, which is hidden, has no picture: {error}", surface.id());
                }
            });
        }
    }

    /// Makes the elements of the parts of which `composed` says so.
    fn make(&mut self, renderer: &mut Renderer, scale: Scale<f64>, composed: impl Fn(usize) -> bool) {
        for (index, part) in self.parts.iter_mut().enumerate() {
            if part.element.is_some() || !composed(index) {
                continue;
            }
            let (element, is_leased) = with_states(&part.surface, |states| {
                tree::content_of(states, |content| {
                    if let Err(error) = renderer.import(content) {
                        // The surface keeps the texture that it had; the buffer stays leased until it is replaced.
                        tracing::warn!("{} keeps its old picture: {error}", part.surface.id());
                        self.failed = true;
                    }
                    let is_leased = content.picture.as_ref().is_some_and(|picture| picture.lease.is_some());
                    (Element::of_content(content, part.at, scale), is_leased)
                })
            });
            part.element = element;
            if !is_leased {
                // It was copied and is its client's again: no plane may show it, and no share in it may stay behind.
                part.item.layer = None;
            }
        }
    }

    /// The pointer, if it is `pointed`, and the parts of which `composed` says so.
    pub(super) fn compose(
        &mut self,
        renderer: &mut Renderer,
        (scale, frame): (Scale<f64>, FrameNumber),
        pointed: bool,
        composed: impl Fn(usize) -> bool,
    ) -> Picture<'_> {
        self.make(renderer, scale, &composed);
        let pointer = pointed.then_some(&self.pointer.image);
        let parts = self.parts.iter().enumerate().filter(|(index, _)| composed(*index));
        let parts = parts.filter_map(|(_, part)| Some((part.element.as_ref()?, &part.surface)));
        let (shown, surfaces): (Vec<_>, Vec<_>) = parts.unzip();
        let mut elements: Vec<_> = pointer.iter().flat_map(|pointer| &pointer.elements).collect();
        elements.extend(shown);
        Picture { frame, elements, pointer: pointer.map_or(&[], |pointer| &pointer.leases), surfaces }
    }

    /// The topmost part that covers a display of this size, and hides all that is below it.
    pub(super) fn covering(&self, size: Size<i32, Physical>) -> Option<usize> {
        let display = Rectangle::from_size(size);
        self.parts.iter().position(|part| part.item.opaque && part.item.dst.contains_rect(display))
    }

    /// The surface of a part.
    pub(super) fn surface(&self, index: usize) -> Option<&WlSurface> {
        self.parts.get(index).map(|part| &part.surface)
    }
}

/// Whether a surface has something to be told that no frame has taken.
fn has_wishes(surface: &WlSurface) -> bool {
    with_states(surface, |states| {
        tree::content_of(states, |content| content.fresh)
            || !states.cached_state.get::<PresentationFeedbackCachedState>().current().callbacks.is_empty()
    })
}

/// What planes have to know of a surface whose origin is at `at` on the output.
fn item(content: &Content, at: Point<i32, Logical>, screen: &Screen) -> Item {
    let size = content.size().unwrap_or_default();
    let mount = screen.mount();
    let dst = mount.in_mode(element::place(at, size, screen.canvas.scale()));
    let opaque = Rectangle::from_size(size).subtract_rects(content.hides().iter().copied()).is_empty();
    Item { dst, opaque, layer: layer(content, dst, mount.of_buffer(content.transform), opaque) }
}

/// The content as a plane would show it; `None` if its pixels are not in a dma-buf of the client's, or upside down.
fn layer(content: &Content, dst: Rectangle<i32, Physical>, turned: Transform, opaque: bool) -> Option<Layer> {
    let picture = content.picture.as_ref()?;
    let ClientBuffer::Dmabuf(client) = &picture.buffer else { return None };
    let buffer = &client.dmabuf;
    if buffer.y_inverted() {
        return None;
    }
    Some(Layer {
        buffer: buffer.clone(),
        src: content.source()?,
        dst,
        turned,
        opaque,
        acquire: picture.live.clone(),
        lease: picture.lease.clone()?,
    })
}

impl Compositor {
    /// What is on an output. That of a frame is what the last frame has left, where that still holds.
    pub(super) fn scene(&mut self, id: OutputId, purpose: For) -> Option<Scene> {
        let Self { screens, shell, renderer, pointer, seat, .. } = self;
        let stages = screens.stages();
        let is_paced = |shown| purpose == For::Frame && layout::main(&stages, shown) == Some(id);
        let screen = screens.get_mut(id)?;
        let kept = match purpose {
            For::Frame => screen.kept.take(Key::of(screen, &stages, shell.arrangement())),
            For::Picture { .. } => None,
        };
        let mut scene = kept.unwrap_or_else(|| {
            let mut gathering = Gathering::default();
            shell
                .for_each_surface(|surface, states, at| gathering.add(screen, surface, states, at, is_paced));
            gathering.complete(shell.overlay().map(|(surface, _)| surface))
        });
        scene.refresh(screen);
        let is_wanted = purpose != For::Picture { cursor: false } && !pointer.is_away;
        let pointer = is_wanted.then_some(pointer);
        let position = seat.get_pointer().map(|pointer| pointer.current_location()).unwrap_or_default();
        scene.pointer = Pointed::on(screen, renderer, pointer, position, is_paced);
        if purpose == For::Frame {
            scene.take_wishes();
        }
        Some(scene)
    }
}
