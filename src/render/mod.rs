//! Composition: elements in, pixels and one [`RenderFence`] out.
//!
//! Owns the GL context, the textures' upload and the damage of each output. Must not know Wayland protocols, outputs
//! or KMS: it draws into the buffer that it is given.

pub mod element;
pub mod texture;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use smithay::{
    backend::{
        allocator::{
            Fourcc,
            dmabuf::{Dmabuf, WeakDmabuf},
            format::FormatSet,
            gbm::GbmDevice,
        },
        drm::DrmDeviceFd,
        egl::{EGLContext, EGLDisplay, native::EGLSurfacelessDisplay},
        renderer::{
            Bind, ExportMem, ImportDma, Offscreen,
            damage::{Error as DamageError, OutputDamageTracker},
            gles::{GlesError, GlesRenderer, GlesTarget, GlesTexture},
            sync::SyncPoint,
        },
    },
    utils::{DeviceFd, Physical, Rectangle, Scale, Size, Transform},
};

use crate::{fence::roles::RenderFence, sys};
use element::Element;

/// The colour behind all windows.
const BACKGROUND: [f32; 4] = [0.13, 0.15, 0.18, 1.0];

/// What can go wrong when drawing, sorted by reaction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No GL: the compositor cannot start.
    #[error(
        "could not set up OpenGL ES through EGL on {on}: {reason}; are Mesa's drivers installed (libegl1, libgles2, \
         libgl1-mesa-dri)?"
    )]
    Setup {
        /// The device or platform.
        on: String,
        /// What EGL or GL said.
        reason: String,
    },
    /// The frame was not drawn: try again with the next one.
    #[error("could not draw a frame: {0}")]
    Draw(#[from] GlesError),
    /// The frame was drawn, but could not be copied to where it is to be shown.
    #[error("could not copy a frame: {0}")]
    Copy(std::io::Error),
    /// The fence of a drawn frame could not be exported or waited for: the frame must not be shown.
    #[error("could not get the fence of a drawn frame: {0}")]
    Fence(String),
}

fn setup(on: &str, reason: impl std::fmt::Display) -> Error {
    Error::Setup { on: on.to_owned(), reason: reason.to_string() }
}

/// A frame that was drawn.
#[derive(Debug)]
pub struct Drawn {
    /// Signals when the GPU is done; `None` if it is already.
    pub fence: Option<RenderFence>,
    /// What differs from the frame before.
    pub damage: Vec<Rectangle<i32, Physical>>,
}

/// The history of what one output has shown, for damage.
#[derive(Debug)]
pub struct Canvas {
    tracker: OutputDamageTracker,
    size: Size<i32, Physical>,
    scale: f64,
    transform: Transform,
    /// Where frames are drawn that are not drawn into a scan-out buffer.
    own: Option<GlesTexture>,
}

impl Canvas {
    /// For an output of `size` pixels.
    pub fn new(size: Size<i32, Physical>, scale: f64, transform: Transform) -> Self {
        Self { tracker: OutputDamageTracker::new(size, scale, transform), size, scale, transform, own: None }
    }

    /// A drawn frame did not reach the screen: the next one is drawn in full.
    pub fn forget(&mut self) {
        self.tracker = OutputDamageTracker::new(self.size, self.scale, self.transform);
    }

    /// The scale at which elements are drawn.
    pub fn scale(&self) -> Scale<f64> {
        self.scale.into()
    }
}

/// The renderer.
#[derive(Debug)]
pub struct Renderer {
    gles: GlesRenderer,
    /// The dma-bufs that the GPU cannot import and the CPU copies.
    uploaded: HashSet<WeakDmabuf>,
    node: Option<PathBuf>,
}

impl Renderer {
    /// Renders on the GPU behind a GBM device, or in software with that device's buffers.
    ///
    /// The outputs' buffers have to come from the same GBM device: GEM handles are per file and not counted, so a second
    /// device on the file could close the handles of the first.
    pub fn on_device(gbm: GbmDevice<DrmDeviceFd>, node: &Path) -> Result<Self, Error> {
        let on = node.display().to_string();
        let display = sys::egl::display(gbm).map_err(|error| setup(&on, error))?;
        Self::on_display(&display, &on, Some(node.to_owned()))
    }

    /// Renders on a render node.
    fn on_render_node(node: &Path) -> Result<Self, Error> {
        let on = node.display().to_string();
        let file =
            std::fs::File::options().read(true).write(true).open(node).map_err(|error| setup(&on, error))?;
        let fd = DrmDeviceFd::new(DeviceFd::from(std::os::fd::OwnedFd::from(file)));
        Self::on_device(GbmDevice::new(fd).map_err(|error| setup(&on, error))?, node)
    }

    /// Renders on the first render node that works, or in software without any device.
    pub fn anywhere() -> Result<Self, Error> {
        let nodes = (128..192).map(|minor| PathBuf::from(format!("/dev/dri/renderD{minor}")));
        for node in nodes.filter(|node| node.exists()) {
            match Self::on_render_node(&node) {
                Ok(renderer) => return Ok(renderer),
                Err(error) => tracing::info!("{error}"),
            }
        }
        Self::surfaceless()
    }

    /// Renders without any device, in software.
    fn surfaceless() -> Result<Self, Error> {
        let on = "no device (surfaceless)";
        let display = sys::egl::display(EGLSurfacelessDisplay).map_err(|error| setup(on, error))?;
        Self::on_display(&display, on, None)
    }

    fn on_display(display: &EGLDisplay, on: &str, node: Option<PathBuf>) -> Result<Self, Error> {
        let context = EGLContext::new(display).map_err(|error| setup(on, error))?;
        let gles = sys::egl::gles(context).map_err(|error| setup(on, error))?;
        Ok(Self { gles, uploaded: HashSet::new(), node })
    }

    /// The node that clients should allocate on, if there is one.
    pub fn node(&self) -> Option<&Path> {
        self.node.as_deref()
    }

    /// The formats and modifiers that can be textures.
    pub fn texture_formats(&self) -> FormatSet {
        self.gles.dmabuf_formats()
    }

    /// The formats and modifiers that can be drawn into.
    pub fn render_formats(&self) -> FormatSet {
        self.gles.egl_context().dmabuf_render_formats().clone()
    }

    /// Draws into a dma-buf that was last drawn `age` frames ago (0: never).
    ///
    /// `None` if nothing has changed since the last frame of this canvas.
    pub fn draw(
        &mut self,
        canvas: &mut Canvas,
        target: &mut Dmabuf,
        age: usize,
        elements: &[Element],
    ) -> Result<Option<Drawn>, Error> {
        let mut framebuffer = self.gles.bind(target)?;
        draw(&mut self.gles, canvas, &mut framebuffer, age, elements)
    }

    /// Draws into a texture of the canvas, for outputs without a buffer that can be drawn into.
    pub fn draw_own(
        &mut self,
        canvas: &mut Canvas,
        age: usize,
        elements: &[Element],
    ) -> Result<Option<Drawn>, Error> {
        let (mut target, age) = match canvas.own.take() {
            Some(target) => (target, age),
            None => {
                let size = (canvas.size.w, canvas.size.h).into();
                (Offscreen::<GlesTexture>::create_buffer(&mut self.gles, Fourcc::Abgr8888, size)?, 0)
            }
        };
        let drawn = match self.gles.bind(&mut target) {
            Ok(mut framebuffer) => draw(&mut self.gles, canvas, &mut framebuffer, age, elements),
            Err(error) => Err(error.into()),
        };
        canvas.own = Some(target);
        drawn
    }

    /// Reads the frame back that [`draw_own`](Self::draw_own) drew: calls `row` with each line of XRGB8888 pixels. Waits
    /// for the GPU.
    pub fn read(
        &mut self,
        canvas: &mut Canvas,
        mut row: impl FnMut(usize, &[u8]) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let Some(target) = &mut canvas.own else { return Ok(()) };
        let framebuffer = self.gles.bind(target)?;
        let region = Rectangle::from_size((canvas.size.w, canvas.size.h).into());
        let mapping = self.gles.copy_framebuffer(&framebuffer, region, Fourcc::Xrgb8888)?;
        let pixels = self.gles.map_texture(&mapping)?;
        let stride = usize::try_from(canvas.size.w).unwrap_or(0).saturating_mul(4).max(1);
        pixels
            .chunks_exact(stride)
            .enumerate()
            .try_for_each(|(y, pixels)| row(y, pixels))
            .map_err(Error::Copy)
    }
}

fn draw(
    gles: &mut GlesRenderer,
    canvas: &mut Canvas,
    framebuffer: &mut GlesTarget<'_>,
    age: usize,
    elements: &[Element],
) -> Result<Option<Drawn>, Error> {
    let result = canvas.tracker.render_output(gles, framebuffer, age, elements, BACKGROUND);
    let (sync, damage) = match result {
        Ok(output) => match output.damage {
            Some(damage) => (output.sync, damage.clone()),
            None => return Ok(None),
        },
        Err(DamageError::Rendering(error)) => return Err(error.into()),
        Err(DamageError::OutputNoMode(error)) => return Err(Error::Fence(error.to_string())),
    };
    Ok(Some(Drawn { fence: render_fence(&sync)?, damage }))
}

/// The frame's fence as a sync_file. Without native fences the frame is waited for here: it must not be shown before.
fn render_fence(sync: &SyncPoint) -> Result<Option<RenderFence>, Error> {
    if let Some(fd) = sync.export() {
        return RenderFence::from_fd(fd).map(Some).map_err(|error| Error::Fence(error.to_string()));
    }
    // A signal may interrupt the wait; the pass is under way, and what it reads must not be given back before its end.
    while sync.wait().is_err() {}
    Ok(None)
}
