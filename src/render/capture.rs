//! Pictures for clients: a pass of its own, into a client's dma-buf or to be read back.
//!
//! Must not know who asked, nor wait: what is read back is there when the capture's fence has signalled.

use smithay::{
    backend::{
        allocator::{Fourcc, dmabuf::Dmabuf},
        egl::fence::EGLFence,
        renderer::{
            Bind, ExportMem, Offscreen,
            gles::{GlesMapping, GlesTexture},
        },
    },
    utils::{Buffer, Rectangle},
};

use super::{Canvas, Drawn, Error, Renderer, damage::Tracker, draw, element::Element, finish, render_fence};
use crate::fence::roles::RenderFence;

/// A picture on its way from the GPU to the CPU.
#[derive(Debug)]
pub struct Capture {
    /// Signals when the pixels are there; `None` if they are. It ends the reading of the elements too.
    pub fence: Option<RenderFence>,
    mapping: GlesMapping,
    /// Which of the renderer's GPU contexts it is of.
    context: u64,
}

impl Renderer {
    /// Draws all of an output's picture into a client's buffer; the fence ends both the reading of the elements and the
    /// writing.
    ///
    /// # Errors
    /// [`Error::Draw`], [`Error::Fence`].
    pub fn capture_into(
        &mut self,
        canvas: &Canvas,
        target: &mut Dmabuf,
        elements: &[&Element],
    ) -> Result<Option<RenderFence>, Error> {
        let mut once = canvas.once();
        let gl = self.gl()?;
        let mut framebuffer = gl.gles.bind(target)?;
        let drawn = draw(gl, &mut once, &mut framebuffer, 0, elements)?;
        Ok(drawn.and_then(|Drawn { fence, .. }| fence))
    }

    /// Draws an output's picture and starts to copy a part of it to where the CPU can read it.
    ///
    /// # Errors
    /// [`Error::Draw`], [`Error::Fence`].
    pub fn capture(
        &mut self,
        canvas: &mut Canvas,
        region: Rectangle<i32, Buffer>,
        elements: &[&Element],
    ) -> Result<Capture, Error> {
        let gl = self.gl()?;
        let mut texture = match canvas.captured.take() {
            Some(texture) => texture,
            None => {
                let size = (canvas.size.w, canvas.size.h).into();
                Offscreen::<GlesTexture>::create_buffer(&mut gl.gles, Fourcc::Abgr8888, size)?
            }
        };
        let mut once = canvas.once();
        let mut framebuffer = gl.gles.bind(&mut texture)?;
        draw(gl, &mut once, &mut framebuffer, 0, elements)?;
        let gles = &mut gl.gles;
        let copied = gles.copy_framebuffer(&framebuffer, region, Fourcc::Xrgb8888);
        drop(framebuffer);
        canvas.captured = Some(texture);
        let copied = copied.map_err(Error::from).and_then(|mapping| {
            let fence = EGLFence::create(gles.egl_context().display());
            Ok((mapping, fence.map_err(|error| Error::Fence(error.to_string()))?))
        });
        match copied {
            Ok((mapping, fence)) => {
                let fence = render_fence(gles, &fence.into());
                Ok(Capture { fence, mapping, context: self.context_number() })
            }
            Err(error) => {
                // The pass is under way, and nobody gets a fence for what it reads.
                finish(gles);
                Err(error)
            }
        }
    }

    /// The pixels of a capture whose fence has signalled: XRGB8888, tightly packed, top row first.
    ///
    /// # Errors
    /// [`Error::Draw`]; [`Error::Lost`] if the context that the pixels were in is lost.
    pub fn captured<'a>(&mut self, capture: &'a Capture) -> Result<&'a [u8], Error> {
        if capture.context != self.context_number() {
            return Err(Error::Lost);
        }
        Ok(self.gles()?.map_texture(&capture.mapping)?)
    }
}

impl Canvas {
    /// The same output without a history: everything is drawn.
    fn once(&self) -> Self {
        Self { tracker: Tracker::default(), own: None, captured: None, ..*self }
    }
}
