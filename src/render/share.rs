//! Whether what is drawn on this device can be read on another.
//!
//! Found by doing: a dma-buf promises memory that others can read, and not that the GPU's writes ever get there. Those of a
//! virtual GPU stay on its host, and no flag says so.

use smithay::{
    backend::{
        allocator::{
            Allocator, Fourcc, Modifier,
            dmabuf::{AsDmabuf, Dmabuf},
            gbm::{GbmAllocator, GbmBufferFlags, GbmDevice},
        },
        drm::DrmDeviceFd,
        renderer::{Bind, Color32F, Frame as _, Renderer as _},
    },
    utils::{Rectangle, Transform},
};

use super::{Renderer, finish, lost::Platform};
use crate::sys::{
    dma_buf::{self, Access},
    mapping::Mapping,
};

/// Of the buffer that is drawn for a try, in pixels.
const SIDE: u16 = 64;
/// What is drawn: as parts of 255, blue, green and red, and as far as another rounding may take it.
const DRAWN: [u8; 3] = [51, 102, 204];
const TOLERANCE: u8 = 2;

impl Renderer {
    /// The allocator of the device that draws, if there is one.
    pub fn gbm(&self) -> Option<&GbmDevice<DrmDeviceFd>> {
        match &self.platform {
            Platform::Device(gbm, _) => Some(gbm),
            Platform::Surfaceless => None,
        }
    }

    /// Whether what is drawn into a linear buffer of this device is what other devices read in it. Waits for the GPU.
    ///
    /// # Errors
    /// A clause that says why not.
    pub fn shares_memory(&mut self) -> Result<(), String> {
        let gbm = self.gbm().ok_or("there is no device to share memory with")?.clone();
        let side = u32::from(SIDE);
        let mut allocator = GbmAllocator::new(gbm, GbmBufferFlags::LINEAR | GbmBufferFlags::RENDERING);
        let buffer = allocator.create_buffer(side, side, Fourcc::Xrgb8888, &[Modifier::Linear]);
        let buffer = buffer.map_err(|error| format!("it has no linear buffers to draw in ({error})"))?;
        let mut dmabuf =
            buffer.export().map_err(|error| format!("its linear buffers cannot be exported ({error})"))?;
        self.fill(&mut dmabuf).map_err(|error| format!("it does not draw in linear buffers ({error})"))?;
        let read = read(&dmabuf)
            .map_err(|error| format!("its linear buffers cannot be read by others ({error})"))?;
        let is_drawn =
            |pixel: &[u8]| pixel.iter().zip(DRAWN).all(|(&read, drawn)| read.abs_diff(drawn) <= TOLERANCE);
        match read.chunks_exact(4).all(is_drawn) {
            true => Ok(()),
            false => Err("what it draws does not reach the memory that others read".into()),
        }
    }

    fn fill(&mut self, target: &mut Dmabuf) -> Result<(), super::Error> {
        let gles = self.gles()?;
        let mut framebuffer = gles.bind(target)?;
        let size = (i32::from(SIDE), i32::from(SIDE)).into();
        let [blue, green, red] = DRAWN.map(|part| f32::from(part) / 255.0);
        let mut frame = gles.render(&mut framebuffer, size, Transform::Normal)?;
        frame.clear(Color32F::new(red, green, blue, 1.0), &[Rectangle::from_size(size)])?;
        let _waited_for_below = frame.finish()?;
        drop(framebuffer);
        finish(gles);
        Ok(())
    }
}

/// The first row of pixels.
fn read(dmabuf: &Dmabuf) -> std::io::Result<Vec<u8>> {
    let fd = dmabuf.handles().next().ok_or(rustix::io::Errno::INVAL)?;
    let mut row = vec![0; usize::from(SIDE) * 4];
    let mapping = Mapping::new(fd, row.len(), Access::Read)?;
    dma_buf::begin_cpu_access(fd, Access::Read)?;
    let read = mapping.read(0, &mut row);
    dma_buf::end_cpu_access(fd, Access::Read)?;
    read.map(|()| row)
}
