//! From a frame to the planes that are to show it: framebuffers, in-fences, and what is new in it.

use std::rc::Rc;

use smithay::utils::{Physical, Point, Rectangle};

use super::super::commit::InFence;
use super::super::scanout;
use super::super::stack::{Shows, Stack, Which};
use super::super::swapchain::Slot;
use super::{Cursor, Head};
use crate::output::layer::{self, Frame, Primary};
use crate::output::{self, CommitError};

/// What is to be on the screen next.
#[derive(Default)]
pub(super) struct Next {
    pub(super) stack: Stack,
    pub(super) in_fences: Vec<(Which, InFence)>,
    /// What differs in `drawn` from the picture drawn before it.
    pub(super) damage: Vec<Rectangle<i32, Physical>>,
    /// The new picture in the stack, if there is one.
    pub(super) drawn: Option<Rc<Slot>>,
    /// The pointer's new image in the stack, if there is one.
    pub(super) cursor: Option<Rc<Slot>>,
}

impl Head {
    /// The planes of a frame. A layer of which no framebuffer can be made is refused, as by the kernel.
    pub(super) fn arrange(&self, frame: Frame) -> Result<Next, CommitError> {
        let refused = || CommitError::Refused(rustix::io::Errno::INVAL.into());
        let mut next = Next::default();
        let layers = match frame.primary {
            Primary::Drawn { slot, render, damage } => {
                let slot = ours(slot)?;
                (next.drawn, next.damage) = (Some(Rc::clone(&slot)), damage);
                next.in_fences.extend(render.map(|fence| (Which::Primary, InFence::Render(fence))));
                next.stack.set(Which::Primary, Shows::slot(slot, Point::default()));
                None
            }
            Primary::Same => {
                let drawn = self.drawn.clone().ok_or_else(refused)?;
                next.stack.set(Which::Primary, Shows::slot(drawn, Point::default()));
                None
            }
            Primary::Direct(layer) => Some((Which::Primary, *layer)),
        };
        let overlays = frame.overlays.into_iter().map(|(index, layer)| (Which::Overlay(index), layer));
        for (which, layer) in layers.into_iter().chain(overlays) {
            let framebuffer = scanout::framebuffer(&self.device, &layer).ok_or_else(refused)?;
            let shows = self.planes.get(which).and_then(|plane| Shows::layer(&layer, framebuffer, plane));
            next.stack.set(which, shows.ok_or_else(refused)?);
            next.in_fences.extend(layer.acquire.map(|fence| (which, InFence::Client(fence))));
        }
        if let Some(layer::Cursor { image, at, hotspot }) = frame.cursor {
            let image = match image {
                Some((slot, fence)) => Some((ours(slot)?, fence)),
                None => None,
            };
            next.cursor = image.as_ref().map(|(slot, _)| Rc::clone(slot));
            let (slot, fence) = match image {
                Some(image) => image,
                None => (self.cursor.as_ref().and_then(Cursor::shown).cloned().ok_or_else(refused)?, None),
            };
            next.in_fences.extend(fence.map(|fence| (Which::Cursor, InFence::Render(fence))));
            next.stack.set(Which::Cursor, Shows::slot(slot, at).with_hotspot(hotspot));
        }
        Ok(next)
    }
}

/// The buffer of a slot, which has to be a display's.
fn ours(slot: output::Slot) -> Result<Rc<Slot>, CommitError> {
    match slot {
        output::Slot::Kms(slot) => Ok(Rc::new(slot)),
        output::Slot::Headless | output::Slot::Nested(_) => {
            tracing::error!("a slot of another back end was committed to a display");
            Err(CommitError::Off)
        }
    }
}
