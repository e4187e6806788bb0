//! Writeback: each commit's picture, written to memory by the display hardware itself.
//!
//! A diagnostic: it shows what was really scanned out, composed planes and all, and it costs a copy of the screen per
//! commit. Tests use it as their oracle; nothing else should.
//!
//! A writeback connector is one more display on the CRTC. Attaching it takes a modeset, after which each commit names
//! a framebuffer for that commit alone. The write is done when its out-fence signals, at or after the flip.
//!
//! One picture is written at a time: the next commit waits, in this thread, until the one before is in memory. vkms
//! needs that (seen with Linux 7.2). It sends the flip event and the out-fence at the vblank and reads the planes
//! afterwards, in a worker, which on a slow machine takes several refreshes: a buffer that were reused at the flip
//! would be seen with its next content. And when it cleans up after one picture, a little later than the fence says,
//! it turns off the composing of one that was begun meanwhile (`vkms_wb_cleanup_job`); that one would end with the next
//! commit, with its pixels. Hence the waits between commits.
//!
//! A commit without a picture is counted in [`Writeback::lost`]: an oracle has to know.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use drm::buffer::{Buffer as _, DrmFourcc as Fourcc, DrmModifier as Modifier};
use drm::control::{Device as _, crtc};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smithay::backend::allocator::Allocator;
use smithay::backend::allocator::dmabuf::{AsDmabuf, Dmabuf};
use smithay::backend::allocator::dumb::{DumbAllocator, DumbBuffer};

use super::device::{Connector, Device};
use super::framebuffer::Framebuffer;
use super::props::ConnectorProp;
use super::request::Request;
use super::swapchain::map;
use crate::fence::sync_file::SyncFile;
use crate::fence::{Fence, Status};
use crate::sys::dma_buf::{self, Access};
use crate::sys::mapping::Mapping;

/// One being written, the others finished and not read yet.
const BUFFERS: usize = 4;

/// How long a picture may take: composing is slow on an emulated processor.
const LONGEST: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// How often, and for how long in all, to look whether the driver has let go of a picture.
const SETTLE_STEP: Duration = Duration::from_millis(1);
const SETTLE_STEPS: u32 = 2000;
/// How long to wait without looking. Longer than a worker of the kernel waits for an emulated processor.
const SETTLE_BLIND: Duration = Duration::from_millis(50);

/// Why pictures cannot be written back.
#[derive(Debug, thiserror::Error)]
pub enum WritebackError {
    /// The tables could not be read.
    #[error("Could not look for writeback connectors")]
    Look(#[source] io::Error),
    /// The device has none for this CRTC (load vkms with enable_writeback=1).
    #[error("Could not find a writeback connector that takes XRGB8888 for this output (driver {driver})")]
    None {
        /// The kernel driver.
        driver: String,
    },
    /// Out of memory.
    #[error("Could not get a buffer to write back to")]
    Buffer(#[source] io::Error),
}

/// The pictures of one head.
#[derive(Debug)]
pub struct Writeback {
    connector: Connector,
    size: (u32, u32),
    /// The device's table of framebuffers in debugfs.
    references: PathBuf,
    targets: Vec<Rc<Target>>,
    running: Option<(Capture, SyncFile)>,
    finished: VecDeque<Capture>,
    /// A picture never came. The driver would take it for the next one's, so there is no next.
    broken: bool,
    lost: u64,
}

/// Field order is drop order.
struct Target {
    framebuffer: Framebuffer,
    mapping: Mapping,
    dmabuf: Dmabuf,
    pitch: u32,
    _memory: DumbBuffer,
}

/// A commit's picture. While it is held, its buffer is not written again.
#[derive(Clone, Debug)]
pub struct Capture {
    number: u64,
    size: (u32, u32),
    target: Rc<Target>,
}

impl Writeback {
    /// Looks for a connector and allocates the buffers.
    pub(super) fn new(device: &Device, crtc: crtc::Handle, size: (u32, u32)) -> Result<Self, WritebackError> {
        let connectors = device.writeback_connectors(crtc).map_err(WritebackError::Look)?;
        let connector = connectors.into_iter().find(|connector| writes_xrgb8888(device, connector));
        let connector =
            connector.ok_or_else(|| WritebackError::None { driver: device.driver().to_owned() })?;
        let targets = (0..BUFFERS).map(|_| Target::new(device, size).map(Rc::new)).collect::<io::Result<_>>();
        let minor = rustix::fs::fstat(device.fd()).map(|stat| rustix::fs::minor(stat.st_rdev)).unwrap_or(0);
        Ok(Self {
            connector,
            size,
            references: PathBuf::from(format!("/sys/kernel/debug/dri/{minor}/framebuffer")),
            targets: targets.map_err(WritebackError::Buffer)?,
            running: None,
            finished: VecDeque::new(),
            broken: false,
            lost: 0,
        })
    }

    /// The oldest picture that is finished.
    pub fn take(&mut self) -> Option<Capture> {
        self.collect();
        self.finished.pop_front()
    }

    /// Waits for the picture that is being written, if there is one. False if it does not come.
    pub fn wait(&mut self) -> bool {
        if let Some((capture, fence)) = &self.running {
            let fd = fence.as_fd();
            let mut fds = [PollFd::new(&fd, PollFlags::IN)];
            let ready = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&LONGEST)));
            if ready != Ok(1) {
                tracing::error!(
                    number = capture.number,
                    ?ready,
                    "a picture was not written back; giving up on them"
                );
                self.broken = true;
                return false;
            }
        }
        self.collect();
        true
    }

    /// How many commits have no picture, because all buffers were in use or the device failed.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// A buffer for the next commit, once the picture of the last is finished and the driver has let go of it.
    pub(super) fn next_target(&mut self) -> Option<Capture> {
        let finished = !self.broken && self.finish();
        let free = self.targets.iter().find(|target| finished && Rc::strong_count(target) == 1);
        let capture = free.map(|target| Capture { number: 0, size: self.size, target: Rc::clone(target) });
        if capture.is_none() {
            self.lost += 1;
        }
        capture
    }

    /// Waits until the picture of the last commit is finished and the driver has let go of it. False if that takes
    /// too long.
    pub(super) fn finish(&mut self) -> bool {
        self.wait() && self.settle()
    }

    /// Waits until the driver holds none of our framebuffers, by their reference counts in debugfs; where those cannot
    /// be read, a while.
    fn settle(&self) -> bool {
        for _ in 0..SETTLE_STEPS {
            let Ok(table) = std::fs::read_to_string(&self.references) else {
                std::thread::sleep(SETTLE_BLIND);
                return true;
            };
            let idle =
                |target: &Rc<Target>| references(&table, target.framebuffer.handle().into()) == Some(1);
            if self.targets.iter().all(idle) {
                return true;
            }
            std::thread::sleep(SETTLE_STEP);
        }
        tracing::error!("the driver does not let go of a picture that it has finished");
        false
    }

    /// Moves the picture that was being written to the finished ones, if it is.
    fn collect(&mut self) {
        let status = self.running.as_ref().map(|(_, fence)| fence.status());
        match status {
            Some(Status::Signalled) => self.finished.extend(self.running.take().map(|(capture, _)| capture)),
            Some(Status::Failed(errno)) => {
                tracing::warn!(errno, "the device failed to write a picture back");
                self.running = None;
                self.lost += 1;
            }
            Some(Status::Pending | Status::Unmaterialised) | None => {}
        }
    }

    /// Adds the connector to a request, and the picture if there is to be one.
    pub(super) fn add_to(&self, request: &mut Request<'_>, crtc: crtc::Handle, capture: Option<&Capture>) {
        let props = &self.connector.props;
        // The same value as before, but for the modeset that attaches the connector.
        request.set(props, ConnectorProp::CrtcId, u32::from(crtc).into());
        if let Some(capture) = capture {
            let framebuffer = u32::from(capture.target.framebuffer.handle());
            request.set(props, ConnectorProp::WritebackFbId, framebuffer.into());
            request.out_fence(props, ConnectorProp::WritebackOutFencePtr);
        }
    }

    /// A commit that carried `capture` was accepted.
    pub(super) fn started(&mut self, number: u64, capture: Capture, fence: Option<OwnedFd>) {
        match fence {
            Some(fence) => {
                self.running = Some((Capture { number, ..capture }, SyncFile::from_kernel(fence)));
            }
            None => {
                tracing::warn!(number, "the device gave no fence for a picture it writes back");
                self.lost += 1;
            }
        }
    }
}

impl Capture {
    /// The number of the commit whose picture this is.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Copies the picture, XRGB8888, row after row without gaps.
    ///
    /// # Errors
    /// Those of DMA_BUF_IOCTL_SYNC.
    pub fn read(&self, into: &mut Vec<u8>) -> io::Result<()> {
        let (width, height) = self.size;
        let size = |pixels: u32| usize::try_from(pixels).map_err(io::Error::other);
        let (row, height, pitch) = (size(width)? * 4, size(height)?, size(self.target.pitch)?);
        into.resize(row * height, 0);
        let fd = self.target.dmabuf.handles().next().ok_or(rustix::io::Errno::INVAL)?;
        dma_buf::begin_cpu_access(fd.as_fd(), Access::Read)?;
        let copied = into
            .chunks_exact_mut(row.max(1))
            .enumerate()
            .try_for_each(|(y, into)| self.target.mapping.read(y * pitch, into));
        dma_buf::end_cpu_access(fd.as_fd(), Access::Read)?;
        copied
    }
}

impl Target {
    fn new(device: &Device, (width, height): (u32, u32)) -> io::Result<Self> {
        let buffer = DumbAllocator::new(device.fd().clone()).create_buffer(
            width,
            height,
            Fourcc::Xrgb8888,
            &[Modifier::Linear],
        )?;
        let framebuffer = Framebuffer::of_dumb(device.fd(), buffer.handle(), Fourcc::Xrgb8888)?;
        let dmabuf = buffer.export()?;
        let pitch = buffer.handle().pitch();
        let mapping = map(&dmabuf, pitch, height, Access::Read)?;
        Ok(Self { framebuffer, mapping, dmabuf, pitch, _memory: buffer })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("framebuffer", &self.framebuffer.handle()).finish_non_exhaustive()
    }
}

fn writes_xrgb8888(device: &Device, connector: &Connector) -> bool {
    let blob = connector.props.initial(ConnectorProp::WritebackPixelFormats);
    let formats = blob.and_then(|blob| device.fd().get_property_blob(blob).ok()).unwrap_or_default();
    let wanted = (Fourcc::Xrgb8888 as u32).to_ne_bytes();
    formats.chunks_exact(4).any(|fourcc| fourcc == wanted)
}

/// The reference count of a framebuffer in the table that debugfs shows.
fn references(table: &str, framebuffer: u32) -> Option<u32> {
    let start = format!("framebuffer[{framebuffer}]:");
    let mut lines = table.lines().skip_while(|line| *line != start).skip(1);
    // The buffer objects further down, which have counts of their own, are indented deeper.
    let count = lines.find_map(|line| line.strip_prefix("\trefcount="))?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_a_framebuffer_is_found_and_not_that_of_its_object_or_neighbour() {
        let entry = |id, count| {
            format!(
                "framebuffer[{id}]:\n\tallocated by = x\n\trefcount={count}\n\tlayers:\n\t\tobj[0]:\n\t\t\trefcount=9\n"
            )
        };
        let table = [entry(9, 1), entry(99, 3)].concat();
        assert_eq!(references(&table, 9), Some(1));
        assert_eq!(references(&table, 99), Some(3));
        assert_eq!(references(&table, 999), None);
        assert_eq!(references("", 9), None);
    }
}
