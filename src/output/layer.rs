//! What a frame is made of: the composed picture, clients' buffers on planes of their own, and the pointer's image.
//!
//! Owns the words that the compositor and an output share about planes. Knows no KMS: which plane shows what is
//! [`super::planes`]' rule, whether the hardware can is the back end's answer.

use smithay::backend::allocator::dmabuf::Dmabuf;
use smithay::backend::allocator::format::get_opaque;
use smithay::backend::allocator::{Buffer as _, Fourcc};
use smithay::utils::{Buffer, Physical, Point, Rectangle, Transform};

use super::Slot;
use crate::buffer::Lease;
use crate::fence::roles::RenderFence;
use crate::fence::sync_file::SyncFile;

/// A client's buffer, ready to be shown by a plane: perhaps cut, turned and scaled.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The buffer.
    pub buffer: Dmabuf,
    /// The part of it that is shown, in its own pixels.
    pub src: Rectangle<f64, Buffer>,
    /// Where, in the pixels of the display's mode.
    pub dst: Rectangle<i32, Physical>,
    /// How the buffer still has to be turned for that: see [`super::turn`].
    pub turned: Transform,
    /// Nothing shines through: an alpha channel, if there is one, is ignored.
    pub opaque: bool,
    /// The client's fence where it has not signalled: KMS has to wait for it.
    pub acquire: Option<SyncFile>,
    /// The commit's lease. The output keeps it until the commit that displaces the layer, and leaves that commit's
    /// out-fence on it.
    pub lease: Lease,
}

impl Layer {
    /// As what format the buffer is read: its own, or the same without alpha channel where nothing is to shine through.
    pub fn fourcc(&self) -> Fourcc {
        let code = self.buffer.format().code;
        get_opaque(code).filter(|_| self.opaque).unwrap_or(code)
    }
}

/// Something that is to be seen on an output, as far as planes are concerned.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where, in the pixels of the display's mode, however the output is turned.
    pub dst: Rectangle<i32, Physical>,
    /// It hides all that is below it.
    pub opaque: bool,
    /// What a plane would show; `None` for what only the renderer can draw.
    pub layer: Option<Layer>,
}

/// What the client of a surface should know about its buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// A buffer of another format, modifier or device would be scanned out, and this one is not.
    Reallocate,
    /// Another buffer would make no difference.
    Stay,
    /// The surface is not one for a plane, whatever its buffers are.
    NoPlane,
}

/// What a head is to show next.
#[derive(Debug)]
pub struct Frame {
    /// The primary plane.
    pub primary: Primary,
    /// Layers above it, each with the number of its overlay plane, 0 being the topmost.
    pub overlays: Vec<(usize, Layer)>,
    /// The pointer's image, if a plane shows it.
    pub cursor: Option<Cursor>,
    /// Where nothing but the primary plane's buffer is another, it need not wait for a vblank.
    pub may_tear: bool,
}

/// What the primary plane shows.
#[derive(Debug)]
pub enum Primary {
    /// A new picture.
    Drawn {
        /// Where it was drawn.
        slot: Slot,
        /// Signals when it is; `None` if it is already.
        render: Option<RenderFence>,
        /// What differs from the picture drawn before; empty where that is not known.
        damage: Vec<Rectangle<i32, Physical>>,
    },
    /// The picture that was drawn last.
    Same,
    /// A client's buffer that covers the whole display.
    Direct(Box<Layer>),
}

/// The pointer's image on its plane.
#[derive(Debug)]
pub struct Cursor {
    /// A new image, with the fence of its drawing; `None` leaves the image as it is.
    pub image: Option<(Slot, Option<RenderFence>)>,
    /// Where its top left corner is, in the display's pixels.
    pub at: Point<i32, Physical>,
    /// The pixel that points, from the top left.
    pub hotspot: Point<i32, Physical>,
}

impl Frame {
    /// The picture that was drawn last, and nothing else.
    pub fn same() -> Self {
        Self { primary: Primary::Same, overlays: Vec::new(), cursor: None, may_tear: false }
    }

    /// A frame of nothing but a new picture.
    pub fn drawn(slot: Slot, render: Option<RenderFence>, damage: Vec<Rectangle<i32, Physical>>) -> Self {
        Self { primary: Primary::Drawn { slot, render, damage }, ..Self::same() }
    }

    /// The fence of the composed picture, where it is new and not drawn yet.
    pub fn render(&self) -> Option<&RenderFence> {
        match &self.primary {
            Primary::Drawn { render, .. } => render.as_ref(),
            Primary::Same | Primary::Direct(_) => None,
        }
    }

    /// The fences that the planes wait for, and what each of them ends.
    pub fn in_fences(&self) -> impl Iterator<Item = (&'static str, &SyncFile)> {
        let direct = match &self.primary {
            Primary::Direct(layer) => Some(layer.as_ref()),
            Primary::Drawn { .. } | Primary::Same => None,
        };
        let layers = direct.into_iter().chain(self.overlays.iter().map(|(_, layer)| layer));
        let acquire =
            layers.filter_map(|layer| layer.acquire.as_ref()).map(|fence| ("a client's drawing", fence));
        let image = self.cursor.as_ref().and_then(|cursor| cursor.image.as_ref());
        let image = image.and_then(|(_, fence)| fence.as_ref());
        let ours = self.render().into_iter().chain(image).map(|fence| ("our drawing", fence.as_consumer()));
        ours.chain(acquire)
    }

    /// Whether a client's buffer is on a plane.
    pub fn shows_clients(&self) -> bool {
        !self.overlays.is_empty() || matches!(self.primary, Primary::Direct(_))
    }
}
