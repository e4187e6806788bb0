//! One output: its head, its frame machine, its canvas, and what the frame in flight will present.

use std::{collections::HashMap, io, time::Duration};

use calloop::RegistrationToken;
use smithay::{
    output::Output,
    reexports::wayland_server::{Resource, Weak, backend::ObjectId, protocol::wl_surface::WlSurface},
    utils::{Logical, Rectangle},
    wayland::presentation::PresentationFeedbackCallback,
};

use super::writeback::Pictures;
use crate::{
    fence::sync_file::SyncFile,
    output::{
        Head, Target,
        frame::{FrameMachine, Outcome},
        kms::swapchain::BufferError,
    },
    render::{self, Canvas, Drawn, Renderer, element::Element},
    trace,
};

/// Why a frame was not drawn. The output keeps its picture and tries again.
#[derive(Debug, thiserror::Error)]
enum DrawError {
    #[error("no buffer to draw into: {0}")]
    Slot(BufferError),
    #[error("the buffer could not be accessed: {0}")]
    Target(io::Error),
    #[error(transparent)]
    Render(#[from] render::Error),
}

/// One output.
#[derive(Debug)]
pub struct Screen {
    /// As clients see it.
    pub output: Output,
    /// When it latches.
    pub machine: FrameMachine,
    /// Where its frames go.
    pub head: Head,
    /// What it has shown, for damage.
    pub canvas: Canvas,
    /// The frame machine's timer.
    pub timer: Option<RegistrationToken>,
    /// Whether a watchdog is set on the commit in flight, or was on an earlier one and has yet to look.
    pub watched: bool,
    /// Who is told when the frame in flight is on the screen.
    pub in_flight: Vec<PresentationFeedbackCallback>,
    /// Whose content the frame in flight shows for the first time.
    pub presenting: Vec<Weak<WlSurface>>,
    /// Where the pictures that KMS has scanned out are written, if anywhere.
    pub pictures: Option<Pictures>,
    /// The surfaces that were told that they are on this output.
    entered: HashMap<ObjectId, Weak<WlSurface>>,
}

impl Screen {
    /// An output that is dark until its machine is resumed.
    pub fn new(output: Output, machine: FrameMachine, head: Head, canvas: Canvas) -> Self {
        Self {
            output,
            machine,
            head,
            canvas,
            timer: None,
            watched: false,
            in_flight: Vec::new(),
            presenting: Vec::new(),
            pictures: None,
            entered: HashMap::new(),
        }
    }

    /// Its place in the global coordinate space.
    pub fn area(&self) -> Rectangle<i32, Logical> {
        let mode = self.output.current_mode().map(|mode| mode.size).unwrap_or_default();
        let size = self.output.current_transform().transform_size(mode);
        let logical = size.to_f64().to_logical(self.output.current_scale().fractional_scale()).to_i32_round();
        Rectangle::new(self.output.current_location(), logical)
    }

    /// Whether the surface was on this output in its last frame.
    pub fn shows(&self, surface: &WlSurface) -> bool {
        self.entered.contains_key(&surface.id())
    }

    /// Tells surfaces that they came to this output or left it.
    pub fn set_shown(&mut self, shown: &[WlSurface]) {
        let now: HashMap<_, _> = shown.iter().map(|surface| (surface.id(), surface.downgrade())).collect();
        for surface in shown.iter().filter(|surface| !self.entered.contains_key(&surface.id())) {
            self.output.enter(surface);
        }
        for (_, gone) in self.entered.iter().filter(|(id, _)| !now.contains_key(id)) {
            if let Ok(surface) = gone.upgrade() {
                self.output.leave(&surface);
            }
        }
        self.entered = now;
    }

    /// Draws the elements and commits the frame.
    ///
    /// `reads_until` is called with the fence that ends the frame's reading of its elements, before anything else can
    /// happen to their buffers; not at all where the reading is over already. Also returns when to call
    /// [`Head::vblank`], for outputs whose flips no kernel announces.
    pub fn draw(
        &mut self,
        renderer: &mut Renderer,
        elements: &[Element],
        reads_until: impl Fn(&SyncFile),
    ) -> (Outcome, Option<Duration>) {
        let noted = |drawn: Option<Drawn>| {
            if let Some(fence) = drawn.as_ref().and_then(|drawn| drawn.fence.as_ref()) {
                reads_until(fence.as_consumer());
            }
            drawn
        };
        let drawn = self.head.next_slot().map_err(DrawError::Slot).and_then(|mut slot| {
            let age = slot.age();
            let drawn = match slot.target().map_err(DrawError::Target)? {
                Target::Dmabuf(dmabuf) => {
                    noted(renderer.draw(&mut self.canvas, &mut dmabuf.clone(), age, elements)?)
                }
                Target::Own => noted(renderer.draw_own(&mut self.canvas, age, elements)?),
                Target::Pixels(mut pixels) => {
                    let drawn = noted(renderer.draw_own(&mut self.canvas, 1, elements)?);
                    if drawn.is_some() {
                        renderer.read(&mut self.canvas, |y, row| pixels.write_row(y, row))?;
                    }
                    drawn
                }
            };
            Ok(drawn.map(|drawn| (slot, drawn)))
        });
        let (slot, drawn) = match drawn {
            Ok(Some(drawn)) => drawn,
            Ok(None) => return (Outcome::NothingToDraw, None),
            Err(error) => {
                tracing::warn!("{} keeps its picture: {error}", self.head.name());
                return (Outcome::Retry, None);
            }
        };
        match self.head.commit(slot, drawn.fence, Some(&drawn.damage), trace::now()) {
            Ok(committed) => (Outcome::Submitted, committed.vblank_at),
            Err(error) => {
                tracing::debug!("{} was not committed: {error}", self.head.name());
                (error.outcome(), None)
            }
        }
    }

    /// A surface is gone.
    pub fn forget(&mut self, surface: &WlSurface) {
        self.entered.remove(&surface.id());
        self.output.leave(surface);
    }
}
