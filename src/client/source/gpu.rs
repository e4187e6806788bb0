//! Images drawn by the GPU of the compositor: GBM buffers, GLES.
//!
//! `--gpu-ms` is real work in front of the content: passes of a slow shader that leave the poison as it is.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use drm::buffer::{DrmFourcc, DrmModifier};
use smithay::backend::allocator::dmabuf::{AsDmabuf, Dmabuf};
use smithay::backend::allocator::gbm::{GbmAllocator, GbmBufferFlags, GbmDevice};
use smithay::backend::allocator::{Allocator, Buffer};
use smithay::backend::egl::EGLContext;
use smithay::backend::renderer::gles::{GlesFrame, GlesPixelProgram, GlesRenderer};
use smithay::backend::renderer::sync::SyncPoint;
use smithay::backend::renderer::{Bind, Color32F, Frame, Renderer};
use smithay::utils::{DeviceFd, Physical, Rectangle, Transform};

use super::{Image, Layout, Plane, Source, SourceError, open_device};
use crate::client::formats::Formats;
use crate::client::late::{LateError, Pledge};
use crate::client::marker::{self, POISON};
use crate::client::swapchain::Size;
use crate::fence::sync_file::SyncFile;
use crate::sys;

/// The side of the square that one pass of the slow shader covers, in pixels: about a millisecond's work.
const WORK_SIDE: i32 = 64;

/// Passes in the two measurements whose difference tells the time of one.
const FEW: u32 = 2;
const MANY: u32 = 18;

/// The most passes for one frame, whatever the measurement says.
const PASSES_MAX: u32 = 100_000;

/// The device.
pub(super) struct Gpu {
    allocator: GbmAllocator<DeviceFd>,
    modifiers: Vec<DrmModifier>,
    painter: Rc<RefCell<Painter>>,
}

struct Painter {
    renderer: GlesRenderer,
    work: GlesPixelProgram,
    passes: u32,
}

fn gpu<E: std::error::Error + Send + Sync + 'static>(what: &'static str) -> impl FnOnce(E) -> SourceError {
    move |error| SourceError::Gpu { what, source: Box::new(error) }
}

impl Gpu {
    pub(super) fn open(node: &Path, formats: &Formats, gpu_ms: u32) -> Result<Self, SourceError> {
        let fd = DeviceFd::from(open_device(&node.to_string_lossy())?);
        let device = GbmDevice::new(fd).map_err(gpu("open GBM"))?;
        let display = sys::egl::display(device.clone()).map_err(gpu("open EGL"))?;
        let context = EGLContext::new(&display).map_err(gpu("make a context"))?;
        let mut renderer = sys::egl::gles(context).map_err(gpu("start GLES"))?;
        let shader = include_str!("../../../shaders/busy.frag");
        let work = renderer.compile_custom_pixel_shader(shader, &[]).map_err(gpu("compile a shader"))?;
        let painter = Painter { renderer, work, passes: 0 };
        let modifiers = formats.modifiers.iter().copied().map(DrmModifier::from).collect();
        let mut source = Self {
            allocator: GbmAllocator::new(device, GbmBufferFlags::RENDERING),
            modifiers,
            painter: Rc::new(RefCell::new(painter)),
        };
        if gpu_ms > 0 {
            source.measure(gpu_ms)?;
        }
        Ok(source)
    }

    fn allocate_image(&mut self, size: Size) -> Result<GpuImage, SourceError> {
        let (width, height) = size;
        let buffer = self
            .allocator
            .create_buffer(width, height, DrmFourcc::Xrgb8888, &self.modifiers)
            .map_err(gpu("allocate a buffer"))?;
        let dmabuf = buffer.export().map_err(gpu("export a buffer"))?;
        let planes = dmabuf.handles().zip(dmabuf.offsets()).zip(dmabuf.strides());
        let planes = planes.map(|((fd, offset), stride)| {
            let fd = fd.try_clone_to_owned().map_err(gpu("duplicate a buffer's file descriptor"))?;
            Ok(Plane { fd, offset, stride })
        });
        let planes = planes.collect::<Result<_, SourceError>>()?;
        let layout = Layout { size, planes, modifier: dmabuf.format().modifier.into() };
        Ok(GpuImage { painter: Rc::clone(&self.painter), dmabuf, layout })
    }

    /// Finds out how many passes take `gpu_ms`.
    fn measure(&mut self, gpu_ms: u32) -> Result<(), SourceError> {
        let mut image = self.allocate_image(marker::MARKER_SIZE)?;
        // The first frame also pays for compilers and caches.
        image.timed(FEW)?;
        let pass = image.timed(MANY)?.saturating_sub(image.timed(FEW)?) / (MANY - FEW);
        let passes = f64::from(gpu_ms) / (pass.as_secs_f64() * 1000.0).max(1e-3);
        let mut painter = self.painter.borrow_mut();
        painter.passes = (passes.round() as u32).clamp(1, PASSES_MAX);
        tracing::debug!(?pass, passes = painter.passes, "measured the GPU");
        Ok(())
    }
}

impl Source for Gpu {
    fn allocate(&mut self, size: Size) -> Result<Box<dyn Image>, SourceError> {
        Ok(Box::new(self.allocate_image(size)?))
    }
}

struct GpuImage {
    painter: Rc<RefCell<Painter>>,
    dmabuf: Dmabuf,
    layout: Layout,
}

impl GpuImage {
    /// Runs `paint` on the image and submits it.
    fn paint(
        &mut self,
        paint: impl FnOnce(&mut GlesFrame<'_, '_>, &GlesPixelProgram, u32) -> Result<(), SourceError>,
    ) -> Result<SyncPoint, SourceError> {
        let Painter { renderer, work, passes } = &mut *self.painter.borrow_mut();
        let size = self.dmabuf.size();
        let mut target = renderer.bind(&mut self.dmabuf).map_err(gpu("draw to a buffer"))?;
        let mut frame = renderer
            .render(&mut target, (size.w, size.h).into(), Transform::Normal)
            .map_err(gpu("start a frame"))?;
        paint(&mut frame, work, *passes)?;
        frame.finish().map_err(gpu("finish a frame"))
    }

    /// How long some passes of the slow shader take.
    fn timed(&mut self, passes: u32) -> Result<Duration, SourceError> {
        let start = Instant::now();
        let done = self.paint(|frame, program, _| work(frame, program, passes))?;
        done.wait().map_err(gpu("wait for a frame"))?;
        Ok(start.elapsed())
    }
}

impl Image for GpuImage {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn scribble(&mut self) -> Result<(), SourceError> {
        let (width, height) = self.layout.size;
        let all = marker::Rect { x: 0, y: 0, width, height, colour: POISON };
        // What is drawn next comes after this: it is the same context.
        self.paint(|frame, _, _| fill(frame, all)).map(drop)
    }

    fn draw(&mut self, counter: u32) -> Result<Option<SyncFile>, SourceError> {
        let (width, height) = self.layout.size;
        let done = self.paint(|frame, program, passes| {
            work(frame, program, passes)?;
            marker::picture(counter, width, height).try_for_each(|rect| fill(frame, rect))
        })?;
        match done.export() {
            Some(fd) => SyncFile::from_fd(fd).map(Some).map_err(gpu("export a fence")),
            // No native fences: smithay has waited for the frame, or we do.
            None => done.wait().map(|()| None).map_err(gpu("wait for a frame")),
        }
    }

    fn pledge(&self) -> Result<Pledge, LateError> {
        // Beside the GPU's own fence, which cannot be late at will.
        let plane = self.layout.planes.first().ok_or(LateError::Import(ErrorKind::InvalidInput.into()))?;
        Pledge::in_dma_buf(plane.fd.as_fd())
    }
}

fn work(frame: &mut GlesFrame<'_, '_>, program: &GlesPixelProgram, passes: u32) -> Result<(), SourceError> {
    let square = (WORK_SIDE, WORK_SIDE);
    for _ in 0..passes {
        frame
            .render_pixel_shader_to(
                program,
                Rectangle::from_size(square.into()).to_f64(),
                Rectangle::from_size(square.into()),
                square.into(),
                None,
                1.0,
                &[],
            )
            .map_err(gpu("draw a pass"))?;
    }
    Ok(())
}

fn fill(frame: &mut GlesFrame<'_, '_>, rect: marker::Rect) -> Result<(), SourceError> {
    let [_, red, green, blue] = rect.colour.to_be_bytes().map(|channel| f32::from(channel) / 255.0);
    let at = [rect.x, rect.y, rect.width, rect.height].map(|side| i32::try_from(side).unwrap_or(i32::MAX));
    let [x, y, width, height] = at;
    let area: Rectangle<i32, Physical> = Rectangle::new((x, y).into(), (width, height).into());
    frame.clear(Color32F::new(red, green, blue, 1.0), &[area]).map_err(gpu("fill a rectangle"))
}
