//! The fences of the chain, by role, so that none can be passed where another belongs.
//!
//! | type | who signals it | who waits for it |
//! |---|---|---|
//! | [`AcquireFence`] | the client's work on its buffer | we, before sampling or scanning it out |
//! | [`RenderFence`] | the GPU, when our pass is done | KMS as `IN_FENCE_FD`; the releases of what the pass sampled |
//! | [`ScanoutFence`] | KMS as `OUT_FENCE_PTR`, at the flip | the releases of what that flip has replaced |

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::sync_file::SyncFile;
use super::timeline::{Point, TimelineError};
use super::{Fence, Status};

/// What has to be done before a commit's buffer may be read.
#[derive(Debug, Clone)]
#[must_use = "a buffer must not be read before its acquire fence has signalled"]
pub enum AcquireFence {
    /// Explicit sync: a point, materialised or not.
    Point(Point),
    /// Implicit sync: the writers at the time of the commit.
    SyncFile(SyncFile),
    /// Implicit sync on kernels before 6.0: the dma-buf itself, polled for its writers.
    DmaBufPoll(Arc<OwnedFd>),
}

impl AcquireFence {
    /// The live fence, for KMS or the GPU to wait for instead of us; `None` if there is no kernel fence yet,
    /// or no way to get at it.
    ///
    /// # Errors
    /// [`TimelineError::Kernel`].
    pub fn hand_over(&self) -> Result<Option<SyncFile>, TimelineError> {
        match self {
            Self::Point(point) => match point.export_sync_file() {
                Ok(sync_file) => Ok(Some(sync_file)),
                Err(TimelineError::Unmaterialised) => Ok(None),
                Err(error) => Err(error),
            },
            Self::SyncFile(sync_file) => Ok(Some(sync_file.clone())),
            Self::DmaBufPoll(_) => Ok(None),
        }
    }
}

impl Fence for AcquireFence {
    fn status(&self) -> Status {
        match self {
            Self::Point(point) => point.status(),
            Self::SyncFile(sync_file) => sync_file.status(),
            Self::DmaBufPoll(fd) => {
                let mut fds = [PollFd::new(fd, PollFlags::IN)];
                match poll(&mut fds, Some(&Timespec::default())) {
                    Ok(_) if fds[0].revents().contains(PollFlags::IN) => Status::Signalled,
                    _ => Status::Pending,
                }
            }
        }
    }
}

/// The end of a render pass.
#[derive(Debug, Clone)]
#[must_use = "KMS and the releases of the sampled buffers have to wait for this"]
pub struct RenderFence(SyncFile);

impl RenderFence {
    /// Takes what the renderer exported, without a look: `EGL_ANDROID_native_fence_sync` says what it is.
    pub fn from_egl(fd: OwnedFd) -> Self {
        Self(SyncFile::from_kernel(fd))
    }

    /// KMS has flipped to the frame that it held until this fence had signalled.
    pub fn flipped(&self) {
        self.0.passed();
    }

    /// For the releases: the sampled buffers are in use until this has signalled.
    pub fn as_consumer(&self) -> &SyncFile {
        &self.0
    }
}

/// For `IN_FENCE_FD`.
impl AsFd for RenderFence {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Fence for RenderFence {
    fn status(&self) -> Status {
        self.0.status()
    }
}

/// The flip of a KMS commit on one CRTC: the framebuffers of the commit *before* are off the screen.
#[derive(Debug, Clone)]
#[must_use = "the buffers that this flip replaces are released by it"]
pub struct ScanoutFence(SyncFile);

impl ScanoutFence {
    /// Takes what the kernel put in an `OUT_FENCE_PTR`.
    pub fn from_kernel(fd: OwnedFd) -> Self {
        Self(SyncFile::from_kernel(fd))
    }

    /// For the releases: the replaced buffers are in use until this has signalled.
    pub fn as_consumer(&self) -> &SyncFile {
        &self.0
    }
}

impl Fence for ScanoutFence {
    fn status(&self) -> Status {
        self.0.status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polled_buffer_is_signalled_exactly_when_its_fd_is_readable() {
        use std::io::Write;

        let (reader, mut writer) = std::io::pipe().expect("pipe");
        let fence = AcquireFence::DmaBufPoll(Arc::new(reader.into()));
        assert_eq!(fence.status(), Status::Pending);
        assert!(fence.hand_over().expect("nothing to hand over").is_none());
        writer.write_all(b"x").expect("write");
        assert_eq!(fence.status(), Status::Signalled);
    }
}
