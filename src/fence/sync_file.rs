//! [`SyncFile`]: a kernel fence, held by an fd. It exists, so it will complete.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use tracing::error;

use super::{Fence, Status};
use crate::sys;

/// A sync_file. Cloning shares the fd, and what is known of the fence.
#[derive(Debug, Clone)]
pub struct SyncFile(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    fd: OwnedFd,
    /// How it ended. A fence that is done stays done, so this is asked for once.
    done: OnceLock<Status>,
}

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
        Self(Arc::new(Inner { fd, done: OnceLock::new() }))
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

    /// For people: which fences these are and how far they have come, as "virtio_gpu controlq 12:345 pending"; the name
    /// of a single fence ends with its context and sequence number.
    ///
    /// # Errors
    /// [`SyncFileError::Info`].
    pub fn describe(&self) -> Result<String, SyncFileError> {
        let info = self.info()?;
        let state = |status: i32| match status {
            0 => "pending".to_owned(),
            1 => "signalled".to_owned(),
            errno => format!("ended with error {errno}"),
        };
        let fences = info
            .fences
            .iter()
            .map(|fence| format!("{} {} {}", fence.driver, fence.timeline, state(fence.status)));
        let fences = fences.collect::<Vec<_>>().join(", ");
        Ok(if fences.is_empty() {
            format!("{} {}", info.name, state(info.status))
        } else {
            format!("{}: {fences}", info.name)
        })
    }

    /// When the last of its fences signalled (CLOCK_MONOTONIC, ns); `None` while one is pending.
    ///
    /// # Errors
    /// [`SyncFileError::Info`].
    pub fn signalled_at_ns(&self) -> Result<Option<u64>, SyncFileError> {
        if !self.polls_signalled() {
            return Ok(None);
        }
        let info = self.info()?;
        let last = info.fences.iter().map(|fence| fence.timestamp_ns).max();
        Ok(if info.status == 0 { None } else { last })
    }

    /// The error of a fence inside, if one ended with one. A point's fence comes in a chain, which does not tell it itself.
    pub fn error(&self) -> Option<i32> {
        let info =
            self.info().inspect_err(|error| error!(%error, "a sync_file does not tell its errors")).ok()?;
        info.fences.iter().map(|fence| fence.status).find(|status| *status < 0)
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
        let mut fds = [PollFd::new(&self.0.fd, PollFlags::IN)];
        Ok(retry_on_intr(|| poll(&mut fds, None)).map(drop)?)
    }

    /// An fd of its own for the same fence, to be given away.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn dup(&self) -> io::Result<OwnedFd> {
        self.0.fd.try_clone()
    }

    /// Whether it has signalled, with or without an error. FILE_INFO says more, but names the fence, and that crashes the
    /// kernel for a CRTC's out-fence that signals meanwhile: `fence_to_crtc` trusts the fence's ops, which go with the
    /// signal (seen on Linux 7.2). So a fence is asked for more only once it has signalled.
    fn polls_signalled(&self) -> bool {
        let mut fds = [PollFd::new(&self.0.fd, PollFlags::IN)];
        let ready = retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())));
        ready.is_ok_and(|ready| ready > 0)
    }

    /// Takes note that the fence has signalled: the kernel has done what it made wait for it.
    pub(super) fn passed(&self) {
        self.0.done.get_or_init(|| Status::Signalled);
    }

    /// To tell later whether another is this very one, without keeping its fd open.
    pub(super) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    /// Whether it is the one that `other` was made of.
    pub(super) fn is(&self, other: &Weak<Inner>) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.0), other.as_ptr())
    }
}

impl AsFd for SyncFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl Fence for SyncFile {
    fn status(&self) -> Status {
        if let Some(done) = self.0.done.get() {
            return *done;
        }
        if !self.polls_signalled() {
            return Status::Pending;
        }
        match sys::sync_file::status(self.as_fd()) {
            Ok(0) => Status::Pending,
            Ok(errno) if errno < 0 => *self.0.done.get_or_init(|| Status::Failed(errno)),
            Ok(_) => *self.0.done.get_or_init(|| Status::Signalled),
            Err(error) => {
                error!(%error, "a sync_file does not tell its status; it counts as pending");
                Status::Pending
            }
        }
    }

    fn is_known_done(&self) -> bool {
        self.0.done.get().is_some()
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
    fn what_was_seen_done_is_not_asked_again() {
        // The kernel would answer ENOTTY, which reads as pending.
        let fence = SyncFile::from_kernel(pipe());
        assert!(!fence.is_known_done());
        fence.clone().passed();
        assert!(fence.is_known_done());
        assert_eq!(fence.status(), Status::Signalled);
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
