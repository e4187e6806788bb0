//! Framebuffers: a buffer in the form that a plane takes, removed when dropped.
//!
//! The kernel's framebuffer keeps the memory alive, so the buffer it was made from may go first. Removing a
//! framebuffer that is on the screen turns its plane, and with a primary plane the CRTC, off: keep it until the flip that
//! replaces it.

use std::io;

use drm::buffer::{Buffer, DrmFourcc as Fourcc, DrmModifier as Modifier, Handle, PlanarBuffer};
use drm::control::{Device, FbCmd2Flags, dumbbuffer, framebuffer};
use smithay::backend::allocator::Format;
use smithay::backend::allocator::dmabuf::Dmabuf;
use smithay::backend::allocator::gbm::{GbmBuffer, GbmBufferFlags, GbmDevice};
use smithay::backend::drm::DrmDeviceFd;

/// A framebuffer of this device.
#[derive(Debug)]
pub struct Framebuffer {
    device: DrmDeviceFd,
    handle: framebuffer::Handle,
    format: Format,
}

/// What ADDFB2 is told.
struct Layout {
    size: (u32, u32),
    fourcc: Fourcc,
    modifier: Option<Modifier>,
    handles: [Option<Handle>; 4],
    pitches: [u32; 4],
    offsets: [u32; 4],
}

impl Framebuffer {
    /// From a buffer that GBM allocated on this device.
    ///
    /// `has_modifiers`: the device takes modifiers (`DRM_CAP_ADDFB2_MODIFIERS`). Without, the layout goes without saying,
    /// and has to be the driver's own or linear.
    ///
    /// # Errors
    /// Those of ADDFB2: `EINVAL` for what no plane can show.
    pub fn of_gbm(device: &DrmDeviceFd, buffer: &GbmBuffer, has_modifiers: bool) -> io::Result<Self> {
        Self::of_gbm_as(device, buffer, PlanarBuffer::format(buffer), has_modifiers)
    }

    fn of_gbm_as(
        device: &DrmDeviceFd,
        buffer: &GbmBuffer,
        fourcc: Fourcc,
        has_modifiers: bool,
    ) -> io::Result<Self> {
        let modifier = PlanarBuffer::modifier(buffer).filter(|modifier| *modifier != Modifier::Invalid);
        Self::add(
            device,
            &Layout {
                size: PlanarBuffer::size(buffer),
                fourcc,
                modifier: modifier.filter(|_| has_modifiers),
                handles: PlanarBuffer::handles(buffer),
                pitches: PlanarBuffer::pitches(buffer),
                offsets: PlanarBuffer::offsets(buffer),
            },
        )
    }

    /// From a dma-buf of whatever origin, to be read as `fourcc`: its own format, or the same without the alpha channel.
    ///
    /// Imported through GBM, which counts the users of a GEM handle: the kernel does not, and gives one dma-buf the same
    /// handle however often it is imported. The handle goes when this returns; the framebuffer keeps the memory.
    ///
    /// # Errors
    /// Those of the import and of ADDFB2.
    pub fn of_dmabuf(
        device: &DrmDeviceFd,
        gbm: &GbmDevice<DrmDeviceFd>,
        dmabuf: &Dmabuf,
        fourcc: Fourcc,
        has_modifiers: bool,
    ) -> io::Result<Self> {
        let buffer = dmabuf.import_to(gbm, GbmBufferFlags::SCANOUT)?;
        Self::of_gbm_as(device, &buffer, fourcc, has_modifiers)
    }

    /// From a dumb buffer of this device: linear, one plane, of the given format.
    ///
    /// # Errors
    /// Those of ADDFB2.
    pub fn of_dumb(
        device: &DrmDeviceFd,
        buffer: &dumbbuffer::DumbBuffer,
        fourcc: Fourcc,
    ) -> io::Result<Self> {
        Self::add(
            device,
            &Layout {
                size: buffer.size(),
                fourcc,
                modifier: None,
                handles: [Some(buffer.handle()), None, None, None],
                pitches: [buffer.pitch(), 0, 0, 0],
                offsets: [0; 4],
            },
        )
    }

    fn add(device: &DrmDeviceFd, layout: &Layout) -> io::Result<Self> {
        // The drm crate insists on the flag exactly where there is a modifier.
        let flags = match layout.modifier {
            Some(_) => FbCmd2Flags::MODIFIERS,
            None => FbCmd2Flags::empty(),
        };
        let handle = device.add_planar_framebuffer(layout, flags)?;
        let format = Format { code: layout.fourcc, modifier: layout.modifier.unwrap_or(Modifier::Invalid) };
        Ok(Self { device: device.clone(), handle, format })
    }

    /// Its handle, for `FB_ID`.
    pub fn handle(&self) -> framebuffer::Handle {
        self.handle
    }

    /// Its format, as the kernel was told.
    pub fn format(&self) -> Format {
        self.format
    }
}

impl Drop for Framebuffer {
    fn drop(&mut self) {
        if let Err(error) = self.device.destroy_framebuffer(self.handle) {
            tracing::debug!(%error, handle = ?self.handle, "could not remove a framebuffer");
        }
    }
}

impl PlanarBuffer for Layout {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn format(&self) -> Fourcc {
        self.fourcc
    }

    fn modifier(&self) -> Option<Modifier> {
        self.modifier
    }

    fn pitches(&self) -> [u32; 4] {
        self.pitches
    }

    fn handles(&self) -> [Option<Handle>; 4] {
        self.handles
    }

    fn offsets(&self) -> [u32; 4] {
        self.offsets
    }
}
