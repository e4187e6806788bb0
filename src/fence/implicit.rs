//! Implicit sync: the fences in a dma-buf's reservation object, read and added to.
//!
//! The planes of a buffer are often the same dma-buf; each is asked once.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};

use super::Fence;
use super::roles::AcquireFence;
use super::scarce::{self, Use};
use super::sync_file::{SyncFile, SyncFileError};
use crate::sys::dma_buf::{self, Access};

/// What can go wrong with implicit fences.
#[derive(Debug, thiserror::Error)]
pub enum ImplicitError {
    /// A plane's fd is not what it should be.
    #[error("Could not look at the file descriptor of a plane")]
    Look(#[source] io::Error),
    /// Out of memory or file descriptors.
    #[error("Could not export the implicit fences of a dma-buf")]
    Export(#[source] io::Error),
    /// Out of memory, or the kernel is older than 6.0.
    #[error("Could not add an implicit fence to a dma-buf")]
    Import(#[source] io::Error),
    /// Out of memory or file descriptors.
    #[error("Could not merge the implicit fences of a buffer's planes")]
    Merge(#[source] SyncFileError),
    /// Few file descriptors are left.
    #[error("The last file descriptors are kept for frames and buffers")]
    Scarce,
    /// Out of file descriptors.
    #[error("Could not duplicate the file descriptor of a dma-buf")]
    Duplicate(#[source] io::Error),
}

/// The distinct dma-bufs behind a buffer's planes, held by fds of our own.
#[derive(Debug, Clone)]
pub struct Planes(Vec<Arc<OwnedFd>>);

impl Planes {
    /// Looks at the planes' fds and duplicates those that differ. That they are dma-bufs is checked where they come in.
    ///
    /// # Errors
    /// [`ImplicitError::Look`], [`ImplicitError::Duplicate`].
    pub fn new<'fd>(planes: impl IntoIterator<Item = BorrowedFd<'fd>>) -> Result<Self, ImplicitError> {
        let mut seen = BTreeSet::new();
        let mut distinct = Vec::new();
        for plane in planes {
            if seen.insert(dma_buf::identity(plane).map_err(ImplicitError::Look)?) {
                let fd = plane.try_clone_to_owned().map_err(ImplicitError::Duplicate)?;
                distinct.push(Arc::new(fd));
            }
        }
        Ok(Self(distinct))
    }

    /// Our file descriptors.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|plane| plane.as_fd())
    }

    /// What a reader has to wait for at this moment: one fence; on kernels before 6.0, which cannot tell,
    /// one wait for each dma-buf, that later writers extend.
    ///
    /// # Errors
    /// [`ImplicitError::Export`], [`ImplicitError::Merge`], [`ImplicitError::Scarce`].
    pub fn writers(&self) -> Result<Vec<AcquireFence>, ImplicitError> {
        if self.is_written() {
            return Ok(Vec::new());
        }
        let mut fences = Vec::new();
        for plane in &self.0 {
            match dma_buf::export_sync_file(plane.as_fd(), Access::Read) {
                Ok(fd) if scarce::is_kept(&fd, Use::Wait) => return Err(ImplicitError::Scarce),
                Ok(fd) => fences.push(SyncFile::from_kernel(fd)),
                Err(error) if error.raw_os_error() == Some(Errno::NOTTY.raw_os_error()) => {
                    return Ok(self.polled());
                }
                Err(error) => return Err(ImplicitError::Export(error)),
            }
        }
        let merged = SyncFile::merge_all(&fences).map_err(ImplicitError::Merge)?;
        Ok(merged.into_iter().map(AcquireFence::SyncFile).collect())
    }

    /// Whether every writer is done: one poll(2), which is all that a frame costs that is ready. `POLLIN` of a dma-buf waits for
    /// what a reader has to wait for (`dma_buf_poll`), and a fence that has signalled with an error counts as one that has
    /// not.
    fn is_written(&self) -> bool {
        let mut fds: Vec<_> = self.0.iter().map(|plane| PollFd::new(plane.as_ref(), PollFlags::IN)).collect();
        let ready = retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())));
        ready.is_ok_and(|ready| ready == fds.len()) && fds.iter().all(|fd| fd.revents() == PollFlags::IN)
    }

    /// The dma-bufs themselves, to be polled for their writers: for when no snapshot can be had.
    pub fn polled(&self) -> Vec<AcquireFence> {
        self.0.iter().cloned().map(AcquireFence::DmaBufPoll).collect()
    }

    /// Makes later writers wait for `reader`.
    ///
    /// # Errors
    /// [`ImplicitError::Import`]; some of the planes may have got it, which delays their writers only.
    pub fn add_reader(&self, reader: &SyncFile) -> Result<(), ImplicitError> {
        for plane in &self.0 {
            dma_buf::import_sync_file(plane.as_fd(), Access::Read, reader.as_fd())
                .map_err(ImplicitError::Import)?;
        }
        Ok(())
    }

    /// Makes everyone later wait for `writer`.
    ///
    /// # Errors
    /// [`ImplicitError::Import`]; some of the planes may have got it, and the others not.
    pub fn add_writer(&self, writer: &SyncFile) -> Result<(), ImplicitError> {
        for plane in &self.0 {
            dma_buf::import_sync_file(plane.as_fd(), Access::Write, writer.as_fd())
                .map_err(ImplicitError::Import)?;
        }
        Ok(())
    }

    /// Whether every reader and writer that there is at this moment is done.
    ///
    /// # Errors
    /// [`ImplicitError::Export`].
    pub fn is_idle(&self) -> Result<bool, ImplicitError> {
        Ok(self.users()?.iter().all(|users| users.status().is_done()))
    }

    /// What ends every use that there is at this moment, reading or writing: a fence for each dma-buf.
    ///
    /// # Errors
    /// [`ImplicitError::Export`].
    pub fn users(&self) -> Result<Vec<SyncFile>, ImplicitError> {
        let users = |plane: &Arc<OwnedFd>| dma_buf::export_sync_file(plane.as_fd(), Access::ReadWrite);
        let users = self.0.iter().map(|plane| Ok(SyncFile::from_kernel(users(plane)?)));
        users.collect::<io::Result<_>>().map_err(ImplicitError::Export)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_planes_have_no_writers() {
        let planes = Planes::new([]).expect("no planes");
        assert!(planes.writers().expect("no fences").is_empty());
    }
}
