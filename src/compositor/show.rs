//! From a scene to a commit: what goes to planes, what is drawn, and what happens when the kernel says no.
//!
//! Joins the renderer and an output. Which plane shows what is decided in [`crate::output::planes`]; here is only the
//! order: ask, draw the rest, commit, and if a frame with planes is refused, draw everything and commit that, in the same
//! latch.

use std::{io, time::Duration};

use smithay::{
    reexports::wayland_server::protocol::wl_surface::WlSurface,
    utils::{Physical, Rectangle, Size},
};

use super::{
    Screen,
    scene::{Picture, Scene},
    traced,
    watchdog::Awaited,
};
use crate::{
    buffer::{Lease, lease::Consumer},
    fence::roles::RenderFence,
    output::{
        CommitError, Committed, Target,
        frame::{Cadence, Outcome},
        kms::swapchain::BufferError,
        layer::{Advice, Cursor, Frame, Item, Primary},
        planes::Place,
        turn::Mount,
    },
    render::{self, Canvas, Drawn, Renderer},
    trace::{self, OutputRecord},
};

/// How many surfaces are offered to planes, from the top: more than there are planes, and few enough to be looked at with every
/// frame.
const MAX_OFFERED: usize = 32;

/// Why a frame was not shown. The output keeps its picture.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no buffer to draw into: {0}")]
    Slot(#[from] BufferError),
    #[error("the buffer could not be accessed: {0}")]
    Target(#[from] io::Error),
    #[error(transparent)]
    Render(#[from] render::Error),
    #[error("{0}")]
    Commit(#[from] CommitError),
}

/// What became of a scene.
pub(super) struct Shown {
    pub(super) outcome: Outcome,
    /// When to call [`crate::output::Head::vblank`], for outputs whose flips no kernel announces.
    pub(super) vblank_at: Option<Duration>,
    /// The surfaces whose own buffers the display reads.
    pub(super) scanned_out: Vec<WlSurface>,
    /// What the client of the topmost surface should know about its buffers.
    pub(super) advice: Advice,
    /// What it took.
    pub(super) work: OutputRecord,
    /// The fences that the driver was given with it.
    pub(super) awaited: Awaited,
    /// When the next frame can be shown, if that is the kernel's to say.
    pub(super) cadence: Option<Cadence>,
}

/// How a frame was tried.
pub(super) struct Attempt {
    /// The pointer, if it is composed, the topmost surfaces, and one item for all others.
    items: Vec<Item>,
    /// The pointer has an image.
    pointed: bool,
    /// The pointer's image is on its plane.
    cursor: bool,
    /// A plane besides that of the composed picture is in use.
    planes: bool,
    /// Where the topmost parts of the scene are; the others are composed.
    places: Vec<Place>,
    /// A client's buffer covers the output, and may replace the one before in the middle of a refresh.
    pub(super) may_tear: bool,
}

impl Screen {
    /// Shows a scene.
    pub(super) fn show(&mut self, renderer: &mut Renderer, scene: &mut Scene) -> Shown {
        let (mut work, mut awaited, imported) =
            (OutputRecord::default(), Awaited::default(), renderer.imports());
        let mut attempt = self.plan(scene);
        self.keep_to_vblanks(scene, &mut attempt);
        let mut committed = self.try_show(renderer, scene, &attempt, &mut work, &mut awaited);
        if let Err(Error::Commit(CommitError::Refused(error))) = &committed
            && attempt.planes
        {
            tracing::info!("{}: the kernel refuses planes that it took in a test: {error}", self.head.name());
            self.head.refuse(&attempt.items, attempt.cursor);
            self.canvas.forget();
            attempt = Attempt::without_planes(scene, self.head.mode().size, self.mount());
            committed = self.try_show(renderer, scene, &attempt, &mut work, &mut awaited);
        }
        let (outcome, vblank_at) = match committed {
            Ok(Some(committed)) => {
                work.commits = 1;
                work.torn = committed.tears.into();
                work.scanned_out = attempt.on_planes().count() as u64;
                (Outcome::Submitted, committed.vblank_at)
            }
            Ok(None) => (Outcome::NothingToDraw, None),
            Err(Error::Commit(error)) => {
                tracing::debug!("{} was not committed: {error}", self.head.name());
                (error.outcome(), None)
            }
            Err(error) => {
                tracing::warn!("{} keeps its picture: {error}", self.head.name());
                (Outcome::Retry, None)
            }
        };
        if matches!(outcome, Outcome::Retry | Outcome::Lost) {
            self.canvas.forget();
            self.pointer_canvas = None;
        }
        work.imports = renderer.imports() - imported;
        let advice = attempt.topmost(scene).filter(|_| !self.no_planes);
        let advice = advice.map_or(Advice::NoPlane, |item| self.head.advice(item));
        let scanned_out = attempt.scanned_out(scene);
        let cadence = self.cadence(attempt.may_tear);
        Shown { outcome, vblank_at, scanned_out, advice, work, awaited, cadence }
    }

    /// Decides what planes show.
    fn plan(&mut self, scene: &Scene) -> Attempt {
        let mut attempt = Attempt::without_planes(scene, self.head.mode().size, self.mount());
        if self.no_planes {
            return attempt;
        }
        attempt.cursor = self.pointer_fits(scene).is_some();
        if attempt.cursor {
            attempt.items = items(scene, self.head.mode().size);
        }
        let above = usize::from(attempt.has_pointer());
        let places = self.head.plan(&attempt.items, attempt.cursor);
        attempt.places = places.into_iter().skip(above).take(scene.parts.len().min(MAX_OFFERED)).collect();
        attempt.planes = attempt.cursor || attempt.on_planes().next().is_some();
        attempt
    }

    /// Draws what has to be drawn, and commits; `None` if the screen shows just that already.
    fn try_show(
        &mut self,
        renderer: &mut Renderer,
        scene: &mut Scene,
        attempt: &Attempt,
        work: &mut OutputRecord,
        awaited: &mut Awaited,
    ) -> Result<Option<Committed>, Error> {
        self.frame = trace::latch(self.number);
        let mut frame = Frame { may_tear: attempt.may_tear, ..Frame::same() };
        let mut covered = false;
        for (index, place) in attempt.on_planes() {
            let Some(layer) = scene.parts.get(index).and_then(|part| part.item.layer.clone()) else {
                continue;
            };
            traced::scanned_out(&self.head, self.frame, &layer);
            match place {
                Place::Overlay(plane) => frame.overlays.push((plane, layer)),
                Place::Primary => {
                    (frame.primary, covered) = (Primary::Direct(Box::new(layer)), true);
                }
                Place::Composed => {}
            }
        }
        if attempt.cursor {
            frame.cursor = self.pointer_image(renderer, scene, work)?;
        }
        scene.copy_unseen(renderer);
        if !covered {
            let composed = |index: usize| attempt.is_composed(index);
            let picture =
                scene.compose(renderer, (self.canvas.scale(), self.frame), !attempt.cursor, composed);
            frame.primary = self.draw(renderer, &picture, work)?;
        }
        for (what, fence) in frame.in_fences() {
            awaited.add(what, fence);
        }
        let now = trace::now();
        let rendering = frame.render().cloned();
        let in_fences = frame.in_fences().count();
        let committed = self.head.commit(frame, now)?;
        if committed.is_some() {
            (self.rendering, self.committed_at) = (rendering, now);
        }
        self.trace_committed(in_fences, committed.as_ref());
        Ok(committed)
    }

    /// Draws the composed picture, if it differs from the last.
    fn draw(
        &mut self,
        renderer: &mut Renderer,
        picture: &Picture<'_>,
        work: &mut OutputRecord,
    ) -> Result<Primary, Error> {
        let elements = &picture.elements;
        let leases = |read: &[usize]| picture.leases(read);
        if self.canvas.shows(elements) {
            return Ok(Primary::Same);
        }
        let mut slot = self.head.next_slot()?;
        let age = slot.age();
        // The fence is on the leases before anything else can happen to their buffers.
        let drawn = match slot.target()? {
            Target::Dmabuf(dmabuf) => {
                noted(renderer.draw(&mut self.canvas, &mut dmabuf.clone(), age, elements)?, leases)
            }
            Target::Own => noted(renderer.draw_own(&mut self.canvas, age, elements)?, leases),
            Target::Pixels(mut pixels) => {
                let drawn = noted(renderer.draw_own(&mut self.canvas, 1, elements)?, leases);
                if drawn.is_some() {
                    renderer.read(&mut self.canvas, |y, row| pixels.write_row(y, row))?;
                }
                drawn
            }
        };
        let Some(Drawn { fence: render, damage, read: _ }) = drawn else { return Ok(Primary::Same) };
        work.passes += 1;
        trace::rendered(self.frame, render.as_ref().map(RenderFence::as_consumer));
        Ok(Primary::Drawn { slot, render, damage })
    }

    /// Where the pointer's image would be on its plane, in the mode's pixels; `None` if there is no image, no plane, or no room
    /// on it.
    fn pointer_fits(&self, scene: &Scene) -> Option<Rectangle<i32, Physical>> {
        let (extent, size) = (scene.pointer.image.extent()?, self.head.cursor_size()?);
        let extent = self.mount().in_mode(extent);
        (extent.size.w <= size.w && extent.size.h <= size.h).then_some(extent)
    }

    /// The pointer on its plane. Its image is drawn when it changes; moving it costs no drawing.
    fn pointer_image(
        &mut self,
        renderer: &mut Renderer,
        scene: &Scene,
        work: &mut OutputRecord,
    ) -> Result<Option<Cursor>, Error> {
        let Some(shown) = self.pointer_fits(scene) else { return Ok(None) };
        let (output, size) = (self.mount(), self.head.cursor_size().unwrap_or_default());
        let transform = self.output.current_transform();
        self.pointer_canvas.take_if(|canvas| !canvas.is_for(size, 1.0, transform));
        let canvas = self.pointer_canvas.get_or_insert_with(|| Canvas::transparent(size, transform));
        if !self.head.has_cursor_image() {
            canvas.forget();
        }
        // Turned, too, it is at the top left of its plane.
        let drawn = Mount::new(size, transform).upright(Rectangle::from_size(shown.size));
        let by = drawn.loc - output.upright(shown).loc;
        let elements: Vec<_> = scene.pointer.image.elements.iter().map(|element| element.moved(by)).collect();
        let (at, hotspot) = (shown.loc, output.hotspot(shown, scene.pointer.at));
        let elements: Vec<_> = elements.iter().collect();
        if canvas.shows(&elements) {
            return Ok(Some(Cursor { image: None, at, hotspot }));
        }
        let Some(mut slot) = self.head.next_cursor_slot()? else { return Ok(None) };
        let age = slot.age();
        let Target::Dmabuf(dmabuf) = slot.target()? else { return Ok(None) };
        let drawn = renderer.draw(canvas, &mut dmabuf.clone(), age, &elements)?;
        let image = noted(drawn, |_| scene.pointer.image.leases.clone()).map(|drawn| (slot, drawn.fence));
        work.passes += u64::from(image.is_some());
        Ok(Some(Cursor { image, at, hotspot }))
    }
}

impl Attempt {
    /// Everything is composed, the pointer as an item like others, above all.
    fn without_planes(scene: &Scene, size: Size<i32, Physical>, mount: Mount) -> Self {
        let pointer = scene.pointer.image.extent().map(|dst| mount.in_mode(dst));
        let pointer = pointer.map(|dst| Item { dst, opaque: false, layer: None });
        let pointed = pointer.is_some();
        let items = pointer.into_iter().chain(items(scene, size)).collect();
        Self { items, pointed, cursor: false, planes: false, places: Vec::new(), may_tear: false }
    }

    /// Whether a client's buffer covers the output.
    pub(super) fn covers(&self) -> bool {
        self.places.contains(&Place::Primary)
    }

    /// Whether the pointer is one of the items.
    fn has_pointer(&self) -> bool {
        self.pointed && !self.cursor
    }

    fn is_composed(&self, index: usize) -> bool {
        self.places.get(index).is_none_or(|place| *place == Place::Composed)
    }

    /// The parts that have a plane to themselves.
    fn on_planes(&self) -> impl Iterator<Item = (usize, Place)> {
        self.places.iter().copied().enumerate().filter(|(_, place)| *place != Place::Composed)
    }

    /// The topmost surface, if not even the pointer is composed above it.
    fn topmost(&self, scene: &Scene) -> Option<&Item> {
        self.items.first().filter(|_| !self.has_pointer() && !scene.parts.is_empty())
    }

    fn scanned_out(&self, scene: &Scene) -> Vec<WlSurface> {
        self.on_planes().filter_map(|(index, _)| scene.surface(index).cloned()).collect()
    }
}

/// The topmost surfaces, and one item for what is below them, if anything is.
fn items(scene: &Scene, size: Size<i32, Physical>) -> Vec<Item> {
    let mut items: Vec<_> = scene.parts.iter().take(MAX_OFFERED).map(|part| part.item.clone()).collect();
    if scene.parts.len() > MAX_OFFERED {
        items.push(Item { dst: Rectangle::from_size(size), opaque: false, layer: None });
    }
    items
}

/// Leaves the fence of a drawing on the leases of what it reads.
fn noted(drawn: Option<Drawn>, leases: impl FnOnce(&[usize]) -> Vec<Lease>) -> Option<Drawn> {
    if let Some(Drawn { fence, read, .. }) = &drawn {
        // Also without a fence: the trace is told what was read.
        let leases = leases(read);
        if let Some(fence) = fence {
            for lease in &leases {
                lease.used_until(Consumer::Renderer, fence.as_consumer().clone());
            }
        }
    }
    drawn
}
