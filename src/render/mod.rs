//! Composition: elements in, pixels and one [`RenderFence`] out.
//!
//! Owns the GL context, the textures' upload and the damage of each output. Must not know Wayland protocols, outputs
//! or KMS: it draws into the buffer that it is given.

pub mod capture;
mod damage;
pub mod element;
pub mod live;
pub mod lost;
mod quads;
mod share;
pub mod texture;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use drm::Device as _;
use smithay::{
    backend::{
        allocator::{
            Fourcc,
            dmabuf::{Dmabuf, WeakDmabuf},
            format::FormatSet,
            gbm::GbmDevice,
        },
        drm::DrmDeviceFd,
        egl::{EGLDevice, fence::EGLFence},
        renderer::{
            Bind, Color32F, ExportMem, Frame as _, ImportDma, Offscreen, Renderer as _,
            gles::{GlesError, GlesRenderer, GlesTarget, GlesTexture},
            sync::SyncPoint,
        },
    },
    utils::{DeviceFd, Physical, Rectangle, Scale, Size, Transform},
};

use crate::{fence::roles::RenderFence, sys};
use damage::{Pass, Tracker};
use element::Element;
use lost::{Gl, Platform, Recovery};
use quads::Quads;

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
    /// A client's fence could not be handed over to the GPU: the frame was not begun.
    #[error("could not have the GPU wait for a client's fence: {0}")]
    Live(String),
    /// The fence of a drawn frame could not be made: the frame must not be shown.
    #[error("could not get the fence of a drawn frame: {0}")]
    Fence(String),
    /// There is no GPU context at the moment: see [`Renderer::renew`].
    #[error("the GPU context is lost")]
    Lost,
}

fn setup(on: &str, reason: impl std::fmt::Display) -> Error {
    Error::Setup { on: on.to_owned(), reason: reason.to_string() }
}

/// A frame that was drawn.
#[derive(Debug)]
pub struct Drawn {
    /// Signals when the GPU is done; `None` if it is already.
    pub fence: Option<RenderFence>,
    /// What differs from the frame before, in pixels of the buffer: a turned output is drawn turned.
    pub damage: Vec<Rectangle<i32, Physical>>,
    /// The elements that it reads, by their numbers in the list.
    pub read: Vec<usize>,
}

/// The history of what one output has shown, for damage.
#[derive(Debug)]
pub struct Canvas {
    tracker: Tracker,
    size: Size<i32, Physical>,
    scale: f64,
    transform: Transform,
    /// Behind all elements.
    background: [f32; 4],
    /// Where frames are drawn that are not drawn into a scan-out buffer.
    own: Option<GlesTexture>,
    /// Where pictures are drawn that clients read back.
    captured: Option<GlesTexture>,
}

impl Canvas {
    /// For an output of `size` pixels.
    pub fn new(size: Size<i32, Physical>, scale: f64, transform: Transform) -> Self {
        Self {
            tracker: Tracker::default(),
            size,
            scale,
            transform,
            background: BACKGROUND,
            own: None,
            captured: None,
        }
    }

    /// For the pointer's image on a plane of its own, with nothing behind it.
    pub fn transparent(size: Size<i32, Physical>, transform: Transform) -> Self {
        Self { background: [0.0; 4], ..Self::new(size, 1.0, transform) }
    }

    /// Whether a frame of these elements would be the one that was drawn last. Costs no GL.
    pub fn shows(&self, elements: &[&Element]) -> bool {
        self.tracker.shows(elements)
    }

    /// A drawn frame did not reach the screen: the next one is drawn in full.
    pub fn forget(&mut self) {
        self.tracker.forget();
    }

    /// Whether it is made for such an output.
    pub fn is_for(&self, size: Size<i32, Physical>, scale: f64, transform: Transform) -> bool {
        (self.size, self.scale, self.transform) == (size, scale, transform)
    }

    /// The GPU context is lost, and with it whatever was drawn in it.
    pub fn lose(&mut self) {
        (self.own, self.captured) = (None, None);
        self.forget();
    }

    /// Rectangles of the output as rectangles of the buffer that it is drawn into.
    fn in_buffer(&self, mut rects: Vec<Rectangle<i32, Physical>>) -> Vec<Rectangle<i32, Physical>> {
        let to_buffer = self.transform.invert();
        let size = to_buffer.transform_size(self.size);
        rects.iter_mut().for_each(|rect| *rect = to_buffer.transform_rect_in(*rect, &size));
        rects
    }

    /// The scale at which elements are drawn.
    pub fn scale(&self) -> Scale<f64> {
        self.scale.into()
    }
}

/// What draws.
#[derive(Debug)]
pub struct Gpu {
    /// As GL names it.
    pub name: String,
    /// A processor draws, not a GPU.
    pub software: bool,
    /// Whether fences come out of EGL as sync_files and go in again; else why not.
    pub fence: Result<(), String>,
}

/// The renderer.
#[derive(Debug)]
pub struct Renderer {
    /// `None` from the loss of the GPU context until there is a new one.
    gl: Option<Gl>,
    platform: Platform,
    recovery: Recovery,
    texture_formats: FormatSet,
    render_formats: FormatSet,
    /// The dma-bufs that the GPU cannot import and the CPU copies.
    uploaded: HashSet<WeakDmabuf>,
    imports: u64,
    node: Option<PathBuf>,
    /// The driver of that device.
    driver: Option<String>,
}

impl Renderer {
    /// Renders on the GPU behind a GBM device, or in software with that device's buffers.
    ///
    /// The outputs' buffers have to come from the same GBM device: GEM handles are per file and not counted, so a second
    /// device on the file could close the handles of the first.
    pub fn on_device(gbm: GbmDevice<DrmDeviceFd>, node: &Path) -> Result<Self, Error> {
        let driver = gbm.get_driver().map(|driver| driver.name().to_string_lossy().into_owned());
        let renderer = Self::on_platform(Self::device_platform(gbm, node), Some(node.to_owned()))?;
        Ok(Self { driver: driver.ok(), ..renderer })
    }

    /// Renders on the device with this node, whatever shows the pictures.
    pub fn on_node(node: &Path) -> Result<Self, Error> {
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
            match Self::on_node(&node) {
                Ok(renderer) => return Ok(renderer),
                Err(error) => tracing::info!("{error}"),
            }
        }
        Self::surfaceless()
    }

    /// Renders without any device, in software.
    fn surfaceless() -> Result<Self, Error> {
        Self::on_platform(Platform::Surfaceless, None)
    }

    fn on_platform(platform: Platform, node: Option<PathBuf>) -> Result<Self, Error> {
        let gl = Gl::open(&platform)?;
        let texture_formats = gl.gles.dmabuf_formats();
        let render_formats = gl.gles.egl_context().dmabuf_render_formats().clone();
        let (gl, uploaded, imports, recovery) = (Some(gl), HashSet::new(), 0, Recovery::default());
        Ok(Self {
            gl,
            platform,
            recovery,
            texture_formats,
            render_formats,
            uploaded,
            imports,
            node,
            driver: None,
        })
    }

    /// The node that clients should allocate on, if there is one.
    pub fn node(&self) -> Option<&Path> {
        self.node.as_deref()
    }

    /// The number of that device; `None` without one, or if it is gone.
    pub fn device(&self) -> Option<u64> {
        rustix::fs::stat(self.node.as_ref()?).ok().map(|stat| stat.st_rdev)
    }

    /// What draws, for people.
    pub fn gpu(&mut self) -> Gpu {
        let Ok(gles) = self.gles() else {
            return Gpu {
                name: Error::Lost.to_string(),
                software: false,
                fence: Err(Error::Lost.to_string()),
            };
        };
        let name = sys::egl::renderer_name(gles).unwrap_or_else(|error| error.to_string());
        let display = gles.egl_context().display();
        let fence = EGLFence::create(display)
            .and_then(|fence| fence.export())
            .and_then(|fd| EGLFence::import(display, fd))
            .map(|_| ())
            .map_err(|error| error.to_string());
        let software = EGLDevice::device_for_display(display).is_ok_and(|device| device.is_software());
        Gpu { name, software, fence }
    }

    /// The formats and modifiers that can be textures.
    pub fn texture_formats(&self) -> FormatSet {
        self.texture_formats.clone()
    }

    /// The formats and modifiers that can be drawn into.
    pub fn render_formats(&self) -> FormatSet {
        self.render_formats.clone()
    }

    /// Draws into a dma-buf that was last drawn `age` frames ago (0: never).
    ///
    /// `None` if nothing has changed since the last frame of this canvas.
    pub fn draw(
        &mut self,
        canvas: &mut Canvas,
        target: &mut Dmabuf,
        age: usize,
        elements: &[&Element],
    ) -> Result<Option<Drawn>, Error> {
        let gl = self.gl()?;
        let mut framebuffer = gl.gles.bind(target)?;
        draw(gl, canvas, &mut framebuffer, age, elements)
    }

    /// Draws into a texture of the canvas, for outputs without a buffer that can be drawn into.
    pub fn draw_own(
        &mut self,
        canvas: &mut Canvas,
        age: usize,
        elements: &[&Element],
    ) -> Result<Option<Drawn>, Error> {
        let gl = self.gl()?;
        let (mut target, age) = match canvas.own.take() {
            Some(target) => (target, age),
            None => {
                let size = (canvas.size.w, canvas.size.h).into();
                (Offscreen::<GlesTexture>::create_buffer(&mut gl.gles, Fourcc::Abgr8888, size)?, 0)
            }
        };
        let drawn = match gl.gles.bind(&mut target) {
            Ok(mut framebuffer) => draw(gl, canvas, &mut framebuffer, age, elements),
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
        let gles = self.gles()?;
        let framebuffer = gles.bind(target)?;
        let region = Rectangle::from_size((canvas.size.w, canvas.size.h).into());
        let mapping = gles.copy_framebuffer(&framebuffer, region, Fourcc::Xrgb8888)?;
        let pixels = gles.map_texture(&mapping)?;
        let stride = usize::try_from(canvas.size.w).unwrap_or(0).saturating_mul(4).max(1);
        pixels
            .chunks_exact(stride)
            .enumerate()
            .try_for_each(|(y, pixels)| row(y, pixels))
            .map_err(Error::Copy)
    }
}

fn draw(
    gl: &mut Gl,
    canvas: &mut Canvas,
    framebuffer: &mut GlesTarget<'_>,
    age: usize,
    elements: &[&Element],
) -> Result<Option<Drawn>, Error> {
    let _span = tracing::trace_span!("render", elements = elements.len()).entered();
    let bounds = Rectangle::from_size(canvas.transform.invert().transform_size(canvas.size));
    let Some(pass) = canvas.tracker.pass(elements, age, bounds) else {
        canvas.tracker.drawn(elements, None);
        return Ok(None);
    };
    // Before the first command: a pass that fails half way is waited for, and with it the clients' fences.
    let read: Vec<_> = pass.draws.iter().map(|(index, _)| *index).collect();
    for live in read.iter().filter_map(|index| elements.get(*index)?.live.as_ref()) {
        live.import(gl.gles.egl_context().display())?;
    }
    let sync = match execute(gl, canvas, framebuffer, elements, &pass) {
        Ok(sync) => sync,
        Err(error) => {
            // Part of the frame may be under way, and nobody gets a fence for what it reads.
            finish(&mut gl.gles);
            canvas.tracker.forget();
            return Err(error.into());
        }
    };
    canvas.tracker.drawn(elements, Some(pass.changed.clone()));
    let damage = canvas.in_buffer(pass.changed);
    Ok(Some(Drawn { fence: render_fence(&mut gl.gles, &sync), damage, read }))
}

/// Gives GL the commands of a pass, from the background up.
fn execute(
    Gl { gles, brush, .. }: &mut Gl,
    canvas: &Canvas,
    framebuffer: &mut GlesTarget<'_>,
    elements: &[&Element],
    pass: &Pass,
) -> Result<SyncPoint, GlesError> {
    // A transform says how the output is turned; what is drawn is turned back.
    let mut frame = gles.render(framebuffer, canvas.size, canvas.transform.invert())?;
    let mut quads = Quads::default();
    for (index, parts) in pass.draws.iter().rev() {
        let Some(element) = elements.get(*index) else { continue };
        if let Some(live) = &element.live {
            live.wait(frame.egl_context().display())?;
        }
        quads.add(element, parts);
    }
    frame.clear(Color32F::from(canvas.background), &pass.background)?;
    brush.draw(&mut frame, &quads.corners, &quads.triangles)?;
    frame.finish()
}

/// The frame's fence as a sync_file. Without native fences the frame is waited for here: it must not be shown before, and
/// what it reads must not be given back.
fn render_fence(gles: &mut GlesRenderer, sync: &SyncPoint) -> Option<RenderFence> {
    let fence = sync.export().map(RenderFence::from_egl);
    if fence.is_none() && sync.wait().is_err() {
        finish(gles);
    }
    fence
}

/// Waits until the GPU has done all it was given. If even that fails, the context is lost, and with it the work.
fn finish(gles: &mut GlesRenderer) {
    if let Err(error) = sys::egl::finish(gles) {
        tracing::warn!("could not wait for the GPU: {error}");
    }
}

#[cfg(test)]
mod tests;
