//! Where buffers come from, and how they are drawn: a GPU, or the CPU into dma-bufs of various exporters.
//!
//! Knows neither Wayland nor when to draw.

mod cpu;
mod gpu;
mod heap;
mod udmabuf;
mod vgem;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use drm::node::{DrmNode, NodeType};

use super::formats::Formats;
use super::late::{LateError, Pledge};
use super::swapchain::Size;
use crate::fence::sync_file::SyncFile;

/// `--source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// GBM buffers, drawn with GLES.
    Gpu,
    /// The system dma-heap, drawn by the CPU.
    Heap,
    /// Pages of a memfd, drawn by the CPU.
    Udmabuf,
    /// Dumb buffers of the vgem card, drawn by the CPU.
    Vgem,
}

/// One plane of an image.
#[derive(Debug)]
pub(super) struct Plane {
    /// Its dma-buf.
    pub(super) fd: OwnedFd,
    /// Bytes before the first row.
    pub(super) offset: u32,
    /// Bytes from one row to the next.
    pub(super) stride: u32,
}

/// What linux-dmabuf has to be told of an image. The format is always XRGB8888.
#[derive(Debug)]
pub(super) struct Layout {
    /// Width and height in pixels.
    pub(super) size: Size,
    /// The planes in order.
    pub(super) planes: Vec<Plane>,
    /// How the pixels lie.
    pub(super) modifier: u64,
}

/// A buffer's pixels.
pub(super) trait Image {
    /// For the compositor.
    fn layout(&self) -> &Layout;

    /// Covers it with [`super::marker::POISON`]. The image must be ours.
    fn scribble(&mut self) -> Result<(), SourceError>;

    /// Draws the picture of frame `counter` over the poison. Returns the fence of the drawing; `None` if it is
    /// done.
    fn draw(&mut self, counter: u32) -> Result<Option<SyncFile>, SourceError>;

    /// Puts a writer's fence in the image that signals when the client says so.
    fn pledge(&self) -> Result<Pledge, LateError>;
}

/// An allocator of images.
pub(super) trait Source {
    /// Makes one.
    fn allocate(&mut self, size: Size) -> Result<Box<dyn Image>, SourceError>;
}

/// Why there is no buffer or no picture.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A device file.
    #[error("Could not open {path}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Out of memory, or a size that the exporter does not have.
    #[error("Could not allocate a buffer of {0} bytes")]
    Allocate(u64, #[source] io::Error),
    /// The CPU cannot get at the pixels.
    #[error("Could not map a buffer or draw in it")]
    Access(#[source] io::Error),
    /// No vgem module.
    #[error("Could not find the vgem card: is the module loaded?")]
    NoVgem,
    /// The compositor takes neither linear buffers nor those without a modifier.
    #[error("Could not find a modifier for CPU buffers among those of the compositor")]
    NoLinear,
    /// GBM, EGL or GLES.
    #[error("Could not {what} on the GPU")]
    Gpu {
        /// The operation.
        what: &'static str,
        /// What the stack says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The size is absurd.
    #[error("Could not lay out a buffer of {0}x{1} pixels")]
    Size(u32, u32),
}

/// Opens a source that makes what the compositor takes. `gpu_ms` is the extra work of each frame.
pub(super) fn open(kind: Kind, formats: &Formats, gpu_ms: u32) -> Result<Box<dyn Source>, SourceError> {
    Ok(match kind {
        Kind::Gpu => Box::new(gpu::Gpu::open(&render_node(formats.main_device), formats, gpu_ms)?),
        Kind::Heap => Box::new(cpu::Cpu::new(heap::Heap::open()?, formats)?),
        Kind::Udmabuf => Box::new(cpu::Cpu::new(udmabuf::Udmabuf::open()?, formats)?),
        Kind::Vgem => Box::new(cpu::Cpu::new(vgem::Vgem::open()?, formats)?),
    })
}

/// The render node of the compositor's device; where it does not say, the first there is.
pub(super) fn render_node(main_device: Option<u64>) -> PathBuf {
    let node = main_device.and_then(|device| DrmNode::from_dev_id(device).ok());
    let render = node.and_then(|node| node.node_with_type(NodeType::Render)?.ok());
    render.and_then(|node| node.dev_path()).unwrap_or_else(|| PathBuf::from("/dev/dri/renderD128"))
}

/// Opens a device file for reading and writing.
fn open_device(path: &str) -> Result<OwnedFd, SourceError> {
    let file = std::fs::File::options().read(true).write(true).open(path);
    Ok(file.map_err(|source| SourceError::Open { path: path.into(), source })?.into())
}
