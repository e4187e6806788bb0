//! Sending a request, and what to make of the kernel's answer.
//!
//! Owns the flags of a commit, the order in which fences are given up on a device that refuses them, and the
//! classification of errors by what to do about them. Knows no head: it is handed a function that builds the
//! request.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use drm::control::AtomicCommitFlags as Flags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::device::Device;
use super::quirks::Quirks;
use super::request::Request;
use crate::fence::Fence;
use crate::fence::roles::RenderFence;
use crate::fence::sync_file::SyncFile;
use crate::output::CommitError;

impl CommitError {
    /// Sorts an error of DRM_IOCTL_MODE_ATOMIC.
    pub(super) fn from_kernel(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::BUSY) => Self::Busy,
            Some(Errno::ACCESS | Errno::PERM) => Self::NotMaster,
            Some(Errno::NODEV | Errno::NOENT | Errno::IO) => Self::Gone(error),
            // Of `wait`; no commit ends so.
            Some(Errno::TIMEDOUT) => Self::RenderFence(error),
            Some(Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOSPC) => {
                Self::Exhausted(error)
            }
            _ => Self::Refused(error),
        }
    }
}

/// The fences that a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fences {
    /// `IN_FENCE_FD` on the planes.
    pub in_fence: bool,
    /// `OUT_FENCE_PTR` on the CRTC.
    pub out_fence: bool,
}

impl Fences {
    /// What to try, best first: the out-fence is given up before the in-fence, as it costs only a wake-up where the
    /// other costs a wait on the CPU.
    fn attempts(self) -> impl Iterator<Item = Self> {
        let all = [(true, true), (true, false), (false, true), (false, false)];
        let all = all.map(|(in_fence, out_fence)| Self { in_fence, out_fence });
        all.into_iter().filter(move |fences| {
            (self.in_fence || !fences.in_fence) && (self.out_fence || !fences.out_fence)
        })
    }
}

/// A commit that was accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    /// The fences it carried.
    pub(super) fences: Fences,
    /// The out-fences, in the order of the request.
    pub(super) out: Vec<Option<OwnedFd>>,
    /// It waits for no vblank.
    pub(super) tears: bool,
}

/// How long to wait for the GPU where the device takes no in-fence. Longer than any healthy frame.
const CPU_WAIT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What a plane's framebuffer has to wait for.
#[derive(Clone, Debug)]
pub(super) enum InFence {
    /// Our drawing.
    Render(RenderFence),
    /// A client's.
    Client(SyncFile),
}

impl AsFd for InFence {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Render(fence) => fence.as_fd(),
            Self::Client(fence) => fence.as_fd(),
        }
    }
}

impl InFence {
    /// A wait on the CPU, for devices that take no in-fence. Nobody waits for a client: a frame with a fence of a
    /// client's that has not signalled is refused, as it would be by the kernel.
    fn wait(&self) -> io::Result<()> {
        match self {
            Self::Render(fence) => wait(fence),
            Self::Client(fence) if fence.status().is_done() => Ok(()),
            Self::Client(_) => Err(Errno::INVAL.into()),
        }
    }
}

/// Commits what `build` builds, with as many of the `wanted` fences as the device takes. `in_fences` is what the
/// request's planes have to wait for.
///
/// A flip is non-blocking. So is a modeset, after a test: a blocking one would wait in this thread for the render
/// fence, then for the hardware and a vblank, and hold up every other output and client meanwhile. The price: a driver
/// may draw other CRTCs into a modeset without telling, whose next flip then gets [`CommitError::Busy`]; it is retried
/// a refresh later, as any other.
pub(super) fn submit<'fence>(
    device: &Device,
    modeset: bool,
    wanted: Fences,
    in_fences: impl Iterator<Item = &'fence InFence> + Clone,
    build: impl Fn(Fences) -> Request<'fence>,
) -> Result<Accepted, CommitError> {
    let (fences, out) = with_fewer_fences(wanted, |fences| {
        if !fences.in_fence {
            in_fences.clone().try_for_each(InFence::wait)?;
        }
        send(device, modeset, fences, &build)
    })
    .map_err(CommitError::from_kernel)?;
    if fences != wanted {
        remember(device, wanted, fences);
    }
    Ok(Accepted { fences, out, tears: false })
}

/// Commits a request that changes nothing but the buffer of a primary plane, without waiting for a vblank. A device that says no
/// says nothing of fences with that.
pub(super) fn tear(device: &Device, request: Request<'_>) -> Result<Accepted, CommitError> {
    let flags = Flags::NONBLOCK | Flags::PAGE_FLIP_EVENT | Flags::PAGE_FLIP_ASYNC;
    let out = request.send(device.fd(), flags).map_err(CommitError::from_kernel)?;
    Ok(Accepted { fences: Fences { in_fence: true, out_fence: false }, out, tears: true })
}

/// Calls `send` with fewer and fewer fences until it is not refused in the ways in which drivers refuse a property that
/// they have and do not support.
fn with_fewer_fences<T>(
    wanted: Fences,
    mut send: impl FnMut(Fences) -> io::Result<T>,
) -> io::Result<(Fences, T)> {
    // Never the answer: there is always an attempt, without any fence.
    let mut refused = Errno::INVAL.into();
    for fences in wanted.attempts() {
        match send(fences) {
            Ok(sent) => return Ok((fences, sent)),
            Err(error) if is_any(&error, &[Errno::INVAL, Errno::PERM]) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

fn send<'fence>(
    device: &Device,
    modeset: bool,
    fences: Fences,
    build: &impl Fn(Fences) -> Request<'fence>,
) -> io::Result<Vec<Option<OwnedFd>>> {
    let flags = Flags::NONBLOCK | Flags::PAGE_FLIP_EVENT;
    if !modeset {
        return build(fences).send(device.fd(), flags);
    }
    build(fences).send(device.fd(), Flags::TEST_ONLY | Flags::ALLOW_MODESET)?;
    build(fences).send(device.fd(), flags | Flags::ALLOW_MODESET)
}

fn remember(device: &Device, wanted: Fences, taken: Fences) {
    let known = device.quirks();
    device.learn(Quirks {
        no_in_fence: known.no_in_fence || wanted.in_fence && !taken.in_fence,
        no_out_fence: known.no_out_fence || wanted.out_fence && !taken.out_fence,
    });
    tracing::warn!(driver = device.driver(), quirks = ?device.quirks(), "the device refuses fences; going on without");
}

/// A wait on the CPU, for devices that take no in-fence; `ETIMEDOUT` if the fence does not signal in time.
fn wait(render: &RenderFence) -> io::Result<()> {
    let fd = render.as_fd();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&CPU_WAIT)))? {
        0 => Err(Errno::TIMEDOUT.into()),
        _ => Ok(()),
    }
}

fn is_any(error: &io::Error, errors: &[Errno]) -> bool {
    errors.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::frame::Outcome;

    fn attempts(in_fence: bool, out_fence: bool) -> Vec<(bool, bool)> {
        Fences { in_fence, out_fence }.attempts().map(|fences| (fences.in_fence, fences.out_fence)).collect()
    }

    #[test]
    fn fences_are_given_up_one_by_one_and_none_is_added() {
        assert_eq!(attempts(true, true), [(true, true), (true, false), (false, true), (false, false)]);
        assert_eq!(attempts(false, true), [(false, true), (false, false)]);
        assert_eq!(attempts(true, false), [(true, false), (false, false)]);
        assert_eq!(attempts(false, false), [(false, false)]);
    }

    /// A driver that has the properties and refuses some: what was tried, and what was taken.
    fn against(driver: impl Fn(Fences) -> Option<Errno>) -> (usize, Result<(bool, bool), Option<Errno>>) {
        let mut tried = 0;
        let result = with_fewer_fences(Fences { in_fence: true, out_fence: true }, |fences| {
            tried += 1;
            driver(fences).map_or(Ok(()), |errno| Err(errno.into()))
        });
        let result = result.map(|(fences, ())| (fences.in_fence, fences.out_fence));
        (tried, result.map_err(|error| error.raw_os_error().map(Errno::from_raw_os_error)))
    }

    #[test]
    fn a_driver_loses_only_the_fences_it_refuses() {
        let (inval, perm) = (Some(Errno::INVAL), Some(Errno::PERM));
        assert_eq!(against(|_| None), (1, Ok((true, true))));
        assert_eq!(against(|fences| perm.filter(|_| fences.in_fence)), (3, Ok((false, true))));
        assert_eq!(against(|fences| inval.filter(|_| fences.out_fence)), (2, Ok((true, false))));
        assert_eq!(
            against(|fences| inval.filter(|_| fences.in_fence || fences.out_fence)),
            (4, Ok((false, false)))
        );
    }

    #[test]
    fn an_error_that_is_not_about_fences_is_not_tried_around() {
        for errno in [Errno::BUSY, Errno::ACCESS, Errno::NODEV, Errno::NOMEM] {
            assert_eq!(against(|_| Some(errno)), (1, Err(Some(errno))));
        }
        assert_eq!(against(|_| Some(Errno::INVAL)), (4, Err(Some(Errno::INVAL))));
    }

    #[test]
    fn a_render_fence_that_never_signals_is_no_reason_to_commit() {
        let late = CommitError::from_kernel(Errno::TIMEDOUT.into());
        assert!(matches!(late, CommitError::RenderFence(_)) && late.outcome() == Outcome::Retry);
    }

    #[test]
    fn errors_are_sorted_by_what_to_do() {
        let outcome = |errno: Errno| CommitError::from_kernel(errno.into()).outcome();
        assert_eq!(outcome(Errno::BUSY), Outcome::Retry);
        assert_eq!(outcome(Errno::INVAL), Outcome::Retry);
        assert_eq!(outcome(Errno::NOMEM), Outcome::Retry);
        assert_eq!(outcome(Errno::ACCESS), Outcome::Lost);
        assert_eq!(outcome(Errno::NODEV), Outcome::Lost);
        assert_eq!(outcome(Errno::NOENT), Outcome::Lost);
    }
}
