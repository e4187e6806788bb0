//! From a client's buffer to a texture.
//!
//! Owns the choice between a GPU import and an upload by the CPU, and the reaction to an import that fails: the surface
//! keeps its old texture (I7). Must not know surfaces beyond their content.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smithay::{
    backend::{
        allocator::{Buffer as _, Fourcc, Modifier, dmabuf::Dmabuf},
        renderer::{
            ImportDma,
            gles::{GlesError, GlesRenderer, GlesTexture},
        },
    },
    utils::{Buffer, Rectangle, Size},
};

use super::{Renderer, lost::Gl};
use crate::{
    buffer::{
        ClientBuffer,
        content::{Content, Imported, Origin},
    },
    fence::Fence,
    sys::{
        dma_buf::{self, Access},
        gl,
        mapping::Mapping,
        wl_shm,
    },
    trace::{self, Event},
};

/// A buffer could not become a texture.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Neither the GPU nor the CPU can read it.
    #[error("EGL cannot import the buffer ({egl}) and the CPU cannot read it ({cpu})")]
    Dmabuf {
        /// What EGL said.
        egl: GlesError,
        /// Why the CPU cannot.
        cpu: Unreadable,
    },
    /// The CPU can no longer read a buffer that it could read before.
    #[error("could not read a dma-buf: {0}")]
    Read(#[from] Unreadable),
    /// A `wl_shm` buffer could not be read.
    #[error("could not upload a wl_shm buffer: {0}")]
    Shm(GlesError),
    /// A dma-buf could be read, but not uploaded.
    #[error("could not upload a dma-buf: {0}")]
    Upload(GlesError),
    /// Its acquire fence was handed over to the GPU, which turns out not to import the buffer; the CPU waits for nobody.
    #[error("EGL cannot import the buffer ({0}) and its fence has not signalled")]
    Pending(GlesError),
    /// There is no GPU context at the moment.
    #[error("the GPU context is lost")]
    Lost,
}

/// Why the CPU cannot read a dma-buf.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not one linear plane of a format that textures are uploaded in.
    #[error("format {0:?}, modifier {1:?} is not read by the CPU")]
    Layout(Fourcc, Modifier),
    /// Somebody has begun to write to it since its commit was applied; reading would wait for that.
    #[error("it is being written to")]
    Busy,
    /// The exporter does not let it be mapped, or not for reading.
    #[error("its memory cannot be mapped: {0}")]
    Map(#[from] std::io::Error),
}

impl Renderer {
    /// Whether the buffer can be drawn at all; asked once, when the client creates it.
    pub fn can_import(&mut self, dmabuf: &Dmabuf) -> Result<(), ImportError> {
        let Ok(gles) = self.gles() else { return self.could_import(dmabuf) };
        let Err(egl) = gles.import_dmabuf(dmabuf, None) else { return Ok(()) };
        self.leave_to_cpu(dmabuf, egl)
    }

    /// While there is no context nothing can be tried, and a client must not suffer for that: what has the right format
    /// is taken. If it turns out to be no good, it is not shown.
    fn could_import(&self, dmabuf: &Dmabuf) -> Result<(), ImportError> {
        let known = self.texture_formats.contains(&dmabuf.format()) || Linear::of(dmabuf).is_ok();
        known.then_some(()).ok_or(ImportError::Lost)
    }

    /// From now on the CPU copies the buffer, if it can.
    fn leave_to_cpu(&mut self, dmabuf: &Dmabuf, egl: GlesError) -> Result<(), ImportError> {
        match Linear::of(dmabuf) {
            Ok(_) => {
                self.uploaded.retain(|known| !known.is_gone());
                self.uploaded.insert(dmabuf.weak());
                Ok(())
            }
            Err(cpu) => Err(ImportError::Dmabuf { egl, cpu }),
        }
    }

    /// Whether the CPU reads this buffer, because the GPU cannot import it.
    pub fn is_uploaded(&self, dmabuf: &Dmabuf) -> bool {
        self.uploaded.contains(&dmabuf.weak())
    }

    /// How many pictures have been made textures.
    pub fn imports(&self) -> u64 {
        self.imports
    }

    /// Brings the texture of a surface up to date; does nothing if it is.
    ///
    /// A buffer that the CPU has copied is given back at once: its lease ends here. After an error the surface keeps its
    /// old texture if that is a copy; the buffer behind any other belongs to its client again, and must not be shown. While
    /// the GPU context is lost the texture stays to be made.
    pub fn import(&mut self, content: &mut Content) -> Result<(), ImportError> {
        if self.is_lost() || !std::mem::take(&mut content.stale) {
            return Ok(());
        }
        self.imports += 1;
        match self.import_picture(content) {
            Ok(imported) => {
                content.texture = imported;
                Ok(())
            }
            Err(error) => {
                content.failed = true;
                // The next frame tries again.
                content.stale = matches!(error, ImportError::Pending(_));
                content.texture.take_if(|texture| texture.from == Origin::Import);
                Err(error)
            }
        }
    }

    fn import_picture(&mut self, content: &mut Content) -> Result<Option<Imported>, ImportError> {
        let damage = content.damage();
        let Some(picture) = &mut content.picture else { return Ok(None) };
        let before = |from| content.texture.as_ref().filter(|texture| texture.from == from);
        let into = before(Origin::Copy).map(|copy| &copy.texture);
        let (texture, from) = match &picture.buffer {
            // No fence is handed over with what is known to be the CPU's to read.
            ClientBuffer::Dmabuf(client) if self.uploaded.contains(&client.dmabuf.weak()) => {
                (self.upload(&client.dmabuf, into)?, Origin::Copy)
            }
            ClientBuffer::Dmabuf(client) => {
                let dmabuf = &client.dmabuf;
                match self.lent_gles()?.import_dmabuf(dmabuf, None) {
                    Ok(texture) => (texture, Origin::Import),
                    // It was taken by another context, or before anything could be tried.
                    Err(_) if self.has_just_been_lost() => return Err(ImportError::Lost),
                    Err(egl) if picture.live.as_ref().is_some_and(|live| !live.status().is_done()) => {
                        return Err(ImportError::Pending(egl));
                    }
                    Err(egl) => {
                        self.leave_to_cpu(dmabuf, egl)?;
                        (self.upload(dmabuf, into)?, Origin::Copy)
                    }
                }
            }
            ClientBuffer::Shm(buffer) => {
                let before = before(Origin::Shm);
                let changed = damage.damage_since(before.map(|before| before.seen));
                let whole = [Rectangle::from_size(picture.size)];
                let (changed, into) =
                    (changed.as_deref().unwrap_or(&whole), before.map(|before| &before.texture));
                let texture = wl_shm::upload(self.lent_gles()?, buffer, into, changed);
                (texture.map_err(ImportError::Shm)?, Origin::Shm)
            }
            ClientBuffer::Pixel(pixel) => {
                let pixel = *pixel;
                (self.import_image(&pixel, picture.size)?, Origin::Copy)
            }
        };
        let external = from == Origin::Import && self.is_external(&picture.buffer);
        if from != Origin::Import {
            trace::note(Event::Copy { commit: picture.commit });
            picture.lease = None;
        }
        Ok(Some(Imported { texture, external, seen: damage.current_commit(), from }))
    }

    /// Whether a buffer that GL imports is read through GL_OES_EGL_image_external: smithay makes it so where the format
    /// cannot be drawn into.
    fn is_external(&self, buffer: &ClientBuffer) -> bool {
        match buffer {
            ClientBuffer::Dmabuf(client) => !self.render_formats.contains(&client.dmabuf.format()),
            ClientBuffer::Shm(_) | ClientBuffer::Pixel(_) => false,
        }
    }

    fn upload(&mut self, dmabuf: &Dmabuf, into: Option<&GlesTexture>) -> Result<GlesTexture, ImportError> {
        let pixels = Linear::of(dmabuf)?.read()?;
        let opaque = dmabuf.format().code == Fourcc::Xrgb8888;
        let texture = gl::upload(self.lent_gles()?, &pixels, dmabuf.size(), opaque, into);
        texture.map_err(ImportError::Upload)
    }

    /// An image of our own as a texture: premultiplied ARGB8888, tightly packed.
    pub fn import_image(
        &mut self,
        pixels: &[u8],
        size: Size<i32, Buffer>,
    ) -> Result<GlesTexture, ImportError> {
        gl::upload(self.lent_gles()?, pixels, size, false, None).map_err(ImportError::Upload)
    }

    fn has_just_been_lost(&mut self) -> bool {
        self.gl.as_mut().is_none_or(Gl::is_lost)
    }

    fn lent_gles(&mut self) -> Result<&mut GlesRenderer, ImportError> {
        self.gles().map_err(|_| ImportError::Lost)
    }
}

/// A dma-buf that the CPU can read: one linear plane of 32-bit pixels.
struct Linear<'a> {
    dmabuf: &'a Dmabuf,
    mapping: Mapping,
    offset: usize,
    stride: usize,
    row_bytes: usize,
    rows: usize,
}

impl<'a> Linear<'a> {
    fn of(dmabuf: &'a Dmabuf) -> Result<Self, Unreadable> {
        let format = dmabuf.format();
        let layout = || Unreadable::Layout(format.code, format.modifier);
        if !matches!(format.code, Fourcc::Argb8888 | Fourcc::Xrgb8888) || format.modifier != Modifier::Linear
        {
            return Err(layout());
        }
        let plane = dmabuf.handles().zip(dmabuf.offsets()).zip(dmabuf.strides()).next().ok_or_else(layout)?;
        let ((fd, offset), stride) = plane;
        let [offset, stride, width, rows] =
            [i64::from(offset), i64::from(stride), dmabuf.width().into(), dmabuf.height().into()]
                .map(|value| usize::try_from(value).ok());
        let geometry = (|| {
            let (offset, stride, rows, row_bytes) = (offset?, stride?, rows?, width?.checked_mul(4)?);
            let end =
                stride.checked_mul(rows.checked_sub(1)?)?.checked_add(row_bytes)?.checked_add(offset)?;
            Some((offset, stride, rows, row_bytes, end))
        })();
        let (offset, stride, rows, row_bytes, end) = geometry.ok_or_else(layout)?;
        let mapping = Mapping::new(fd, end, Access::Read)?;
        Ok(Self { dmabuf, mapping, offset, stride, row_bytes, rows })
    }

    /// The pixels as tightly packed rows. The exporter makes what devices wrote visible to the CPU between the two
    /// `DMA_BUF_IOCTL_SYNC` calls; the writers' fences were waited for before the commit applied.
    fn read(&self) -> Result<Vec<u8>, Unreadable> {
        let Some(fd) = self.dmabuf.handles().next() else {
            return Err(Unreadable::Map(rustix::io::Errno::BADF.into()));
        };
        // `DMA_BUF_IOCTL_SYNC` would wait for writers that have come since.
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        if poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready == 0) {
            return Err(Unreadable::Busy);
        }
        let mut pixels = vec![0; self.row_bytes.saturating_mul(self.rows)];
        dma_buf::begin_cpu_access(fd, Access::Read)?;
        let copied = pixels
            .chunks_exact_mut(self.row_bytes)
            .enumerate()
            .try_for_each(|(row, into)| self.mapping.read(self.offset + row * self.stride, into));
        dma_buf::end_cpu_access(fd, Access::Read)?;
        copied?;
        Ok(pixels)
    }
}
