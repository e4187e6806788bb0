//! Clients' buffers as framebuffers, and the memory of what the kernel said of a scene.
//!
//! Owns two caches. [`Framebuffers`]: one import for each buffer of a client, dropped when the buffer is gone. [`Plans`]:
//! which planes a scene of a given shape ended up on, so that the kernel is asked once and not in every frame. A scene
//! whose shape changes (a window that comes, goes or moves, another format, size or modifier) is a new question.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use drm::buffer::{DrmFourcc as Fourcc, DrmModifier as Modifier};
use smithay::backend::allocator::dmabuf::{Dmabuf, WeakDmabuf};
use smithay::backend::allocator::format::FormatSet;
use smithay::backend::allocator::{Buffer as _, Format};
use smithay::utils::{Buffer, Physical, Rectangle, Size, Transform};

use super::device::Device;
use super::framebuffer::Framebuffer;
use crate::output::layer::{Item, Layer};
use crate::output::planes::Place;

/// The framebuffers of clients' buffers; `None` for one that the device does not take.
#[derive(Debug, Default)]
pub(super) struct Framebuffers(HashMap<(WeakDmabuf, Fourcc), Option<Rc<Framebuffer>>>);

impl Framebuffers {
    /// The framebuffer of a buffer, read as `fourcc`. A refusal is remembered for the buffer's life.
    fn get(&mut self, device: &Device, buffer: &Dmabuf, fourcc: Fourcc) -> Option<Rc<Framebuffer>> {
        let key = (buffer.weak(), fourcc);
        if let Some(known) = self.0.get(&key) {
            return known.clone();
        }
        let made = make(device, buffer, fourcc);
        self.0.insert(key, made.clone());
        made
    }

    /// Drops the framebuffers whose buffers are gone. One that is on the screen is kept by whoever shows it.
    pub(super) fn forget_gone(&mut self) {
        self.0.retain(|(buffer, _), _| !buffer.is_gone());
    }
}

fn make(device: &Device, buffer: &Dmabuf, fourcc: Fourcc) -> Option<Rc<Framebuffer>> {
    let made = device
        .gbm()
        .and_then(|gbm| Framebuffer::of_dmabuf(device.fd(), gbm, buffer, fourcc, device.caps().modifiers));
    let format = buffer.format();
    made.inspect_err(|error| tracing::debug!(%error, ?format, "no framebuffer of a client's buffer"))
        .ok()
        .map(Rc::new)
}

/// Whether a plane with these formats can show a layer's buffer.
pub(super) fn is_readable(layer: &Layer, formats: &FormatSet, has_modifiers: bool) -> bool {
    let (code, modifier) = (layer.fourcc(), layer.buffer.format().modifier);
    match modifier {
        // The driver's own layout, or one that goes without saying: the kernel knows.
        Modifier::Invalid => formats.iter().any(|format| format.code == code),
        _ if has_modifiers => formats.contains(&Format { code, modifier }),
        _ => modifier == Modifier::Linear && formats.iter().any(|format| format.code == code),
    }
}

/// The framebuffer of a layer's buffer; `None` if the device makes none.
pub(super) fn framebuffer(device: &Device, layer: &Layer) -> Option<Rc<Framebuffer>> {
    device.framebuffers().get(device, &layer.buffer, layer.fourcc())
}

/// Everything about a scene that the kernel's answer can depend on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    items: Vec<ItemShape>,
    cursor: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct ItemShape {
    dst: Rectangle<i32, Physical>,
    opaque: bool,
    layer: Option<LayerShape>,
}

#[derive(Clone, Debug, PartialEq)]
struct LayerShape {
    src: Rectangle<f64, Buffer>,
    turned: Transform,
    format: Format,
    size: Size<i32, Buffer>,
    live: bool,
    importable: bool,
}

impl Shape {
    /// The shape of a scene. `importable` says of each item whether there is a framebuffer of it.
    pub(super) fn of(items: &[Item], importable: &[bool], cursor: bool) -> Self {
        let items = items.iter().zip(importable).map(|(item, &importable)| ItemShape {
            dst: item.dst,
            opaque: item.opaque,
            layer: item.layer.as_ref().map(|layer| LayerShape {
                src: layer.src,
                turned: layer.turned,
                format: layer.buffer.format(),
                size: layer.buffer.size(),
                live: layer.acquire.is_some(),
                importable,
            }),
        });
        Self { items: items.collect(), cursor }
    }
}

/// How many shapes are remembered: those between which a scene goes back and forth.
const REMEMBERED: usize = 8;

/// What became of the scenes seen last.
#[derive(Debug, Default)]
pub(super) struct Plans(VecDeque<(Shape, Vec<Place>)>);

impl Plans {
    pub(super) fn get(&self, shape: &Shape) -> Option<&[Place]> {
        self.0.iter().find(|(known, _)| known == shape).map(|(_, places)| places.as_slice())
    }

    pub(super) fn remember(&mut self, shape: Shape, places: Vec<Place>) {
        self.0.retain(|(known, _)| *known != shape);
        self.0.push_back((shape, places));
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }

    /// The device is in another state: all questions are new.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}
