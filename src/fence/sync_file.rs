//! [`SyncFile`]: a kernel fence, held by an fd. It exists, so it will complete.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use tracing::error;

use super::{Fence, Status};
use crate::sys;

/// A sync_file. Cloning shares the fd.
#[derive(Debug, Clone)]
pub struct SyncFile(Arc<OwnedFd>);

/// What can go wrong with a sync_file.
#[derive(Debug, thiserror::Error)]
pub enum SyncFileError {
    /// The fd is something else.
    #[error("Could not read the file descriptor as a sync_file")]
    NotASyncFile(#[source] io::Error),
    /// Out of memory or file descriptors. The fences are as they were.
    #[error("Could not merge sync_files")]
    Merge(#[source] io::Error),
    /// Out of memory.
    #[error("Could not read the fences of a sync_file")]
    Info(#[source] io::Error),
    /// The kernel is older than 6.8.
    #[error("Could not set a deadline on a sync_file")]
    Deadline(#[source] io::Error),
}

impl SyncFile {
    /// Takes an fd of unknown origin.
    ///
    /// # Errors
    /// [`SyncFileError::NotASyncFile`]; the fd is closed.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SyncFileError> {
        sys::sync_file::status(fd.as_fd()).map_err(SyncFileError::NotASyncFile)?;
        Ok(Self::from_kernel(fd))
    }

    /// Takes an fd that the kernel has just returned as a sync_file, so without a look.
    pub fn from_kernel(fd: OwnedFd) -> Self {
        Self(Arc::new(fd))
    }

    /// A sync_file that signals when both have.
    ///
    /// # Errors
    /// [`SyncFileError::Merge`].
    pub fn merge(&self, other: &Self) -> Result<Self, SyncFileError> {
        let merged = sys::sync_file::merge(self.as_fd(), other.as_fd()).map_err(SyncFileError::Merge)?;
        Ok(Self::from_kernel(merged))
    }

    /// A sync_file that signals when all have; `None` if there are none. A single one is not copied.
    ///
    /// # Errors
    /// [`SyncFileError::Merge`].
    pub fn merge_all<'a>(fences: impl IntoIterator<Item = &'a Self>) -> Result<Option<Self>, SyncFileError> {
        let mut fences = fences.into_iter();
        let Some(first) = fences.next() else { return Ok(None) };
        fences.try_fold(first.clone(), |merged, fence| merged.merge(fence)).map(Some)
    }

    /// The fences inside, with their drivers and times.
    ///
    /// # Errors
    /// [`SyncFileError::Info`].
    pub fn info(&self) -> Result<sys::sync_file::Info, SyncFileError> {
        sys::sync_file::info(self.as_fd()).map_err(SyncFileError::Info)
    }

    /// When the last of its fences signalled (CLOCK_MONOTONIC, ns); `None` while one is pending.
    ///
    /// # Errors
    /// [`SyncFileError::Info`].
    pub fn signalled_at_ns(&self) -> Result<Option<u64>, SyncFileError> {
        let info = self.info()?;
        let last = info.fences.iter().map(|fence| fence.timestamp_ns).max();
        Ok(if info.status == 0 { None } else { last })
    }

    /// Tells the fence's driver when we need it (CLOCK_MONOTONIC, ns). A hint that nothing depends on.
    ///
    /// # Errors
    /// [`SyncFileError::Deadline`].
    pub fn set_deadline(&self, deadline_ns: u64) -> Result<(), SyncFileError> {
        sys::sync_file::set_deadline(self.as_fd(), deadline_ns).map_err(SyncFileError::Deadline)
    }

    /// Blocks until it is done. Only for the end of the compositor: kernel fences complete in bounded time, but bounded
    /// is not soon.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn wait(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        Ok(retry_on_intr(|| poll(&mut fds, None)).map(drop)?)
    }

    /// An fd of its own for the same fence, to be given away.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn dup(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

impl AsFd for SyncFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Fence for SyncFile {
    fn status(&self) -> Status {
        match sys::sync_file::status(self.as_fd()) {
            Ok(0) => Status::Pending,
            Ok(errno) if errno < 0 => Status::Failed(errno),
            Ok(_) => Status::Signalled,
            Err(error) => {
                error!(%error, "a sync_file does not tell its status; it counts as pending");
                Status::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> OwnedFd {
        std::io::pipe().expect("pipe").0.into()
    }

    #[test]
    fn an_fd_of_another_kind_is_refused() {
        assert!(matches!(SyncFile::from_fd(pipe()), Err(SyncFileError::NotASyncFile(_))));
    }

    #[test]
    fn what_cannot_be_looked_at_is_pending() {
        assert_eq!(SyncFile::from_kernel(pipe()).status(), Status::Pending);
    }

    #[test]
    fn merging_none_gives_none_and_merging_one_needs_no_kernel() {
        assert!(SyncFile::merge_all([]).expect("merge of none").is_none());
        let one = SyncFile::from_kernel(pipe());
        let merged = SyncFile::merge_all([&one]).expect("merge of one").expect("a fence");
        assert!(Arc::ptr_eq(&one.0, &merged.0));
    }

    #[test]
    fn a_failed_merge_is_an_error() {
        let (a, b) = (SyncFile::from_kernel(pipe()), SyncFile::from_kernel(pipe()));
        assert!(matches!(SyncFile::merge_all([&a, &b]), Err(SyncFileError::Merge(_))));
    }
}
