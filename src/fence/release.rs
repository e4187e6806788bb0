//! The end of the chain: a buffer's release, resolved once, from the fences of everyone who used it.
//!
//! A release is never early: it waits for every fence, in the kernel where it can and in the event loop
//! where it cannot. And it is never lost: whatever fails leads to a wait for the same fences, and that to a
//! plain signal. Only if that fails too (the device is gone) is there nothing left but to disconnect the
//! client, which would wait for ever.

use tracing::warn;

use super::Fence;
use super::implicit::{ImplicitError, Planes};
use super::sync_file::{SyncFile, SyncFileError};
use super::timeline::{Point, TimelineError};

/// Where a release goes. Not cloneable: each is resolved once.
#[derive(Debug)]
#[must_use = "a release that is not resolved leaves the client waiting for ever"]
pub enum Target {
    /// Explicit sync: the commit's release point.
    Point(Point),
    /// Implicit sync with a dma-buf: a READ fence in it, then `wl_buffer.release`.
    DmaBuf(Planes),
    /// No one but the client's `wl_buffer.release` to tell (shared memory).
    Nothing,
}

/// What became of a release.
#[derive(Debug)]
#[must_use = "a wait that nobody waits for leaves the client waiting for ever"]
pub enum Outcome<F = SyncFile, T = Target> {
    /// All users are done, and the point is signalled. An implicit client may be sent `wl_buffer.release`.
    Released,
    /// The kernel signals the point when this fence does. Nothing is left for us to do.
    ByFence(F),
    /// When all of `fences` are done, call [`resolve`] again with `target` and none. So it is for implicit
    /// clients, whose `wl_buffer.release` must not come before, and after a failure.
    Wait {
        /// What is still to be released.
        target: T,
        /// What it waits for.
        fences: Vec<F>,
    },
    /// The point cannot be signalled. Disconnect the client.
    Lost(ReleaseError),
}

/// Why a release took another way.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// While merging the users' fences.
    #[error("Could not merge the fences of a buffer's users")]
    Merge(#[source] SyncFileError),
    /// While signalling or importing.
    #[error("Could not signal a release point")]
    Point(#[source] TimelineError),
    /// While adding the READ fence.
    #[error("Could not release a dma-buf by fence")]
    DmaBuf(#[source] ImplicitError),
}

/// Resolves a release: `target` is free when all of `fences` are done. A fence that has failed is done.
pub fn resolve<F: Fence, T: Sink<F>>(target: T, fences: Vec<F>) -> Outcome<F, T> {
    decide(target, fences).unwrap_or_else(release_now)
}

/// As [`resolve`], for all that became due together, each with something of the caller's to know it by.
///
/// What is free is released by one call, after the rest. If that fails, each is released alone: whatever cannot be is lost by
/// itself.
pub fn resolve_all<F: Fence, T: Sink<F>, X>(
    due: impl IntoIterator<Item = (T, Vec<F>, X)>,
    mut told: impl FnMut(X, Outcome<F, T>),
) {
    let mut free = Vec::new();
    for (target, fences, known_by) in due {
        match decide(target, fences) {
            Ok(outcome) => told(known_by, outcome),
            Err(target) => free.push((target, known_by)),
        }
    }
    let released = free.len() > 1
        && T::signal_all(free.iter().map(|(target, _)| target))
            .inspect_err(|error| warn!(%error, "releases are signalled one by one"))
            .is_ok();
    for (target, known_by) in free {
        told(known_by, if released { Outcome::Released } else { release_now(target) });
    }
}

/// The kernel's part of a release, so that the decision can be tested without one.
pub trait Sink<F>: Sized {
    /// Whether [`import`](Self::import) is all there is to do. Else somebody has to be told when the fence is done.
    fn goes_by_fence(&self) -> bool;

    /// One fence for `first` and all of `rest`.
    ///
    /// # Errors
    /// [`ReleaseError`], as from the other two: nothing has been released.
    fn merge(&self, first: &F, rest: &[F]) -> Result<F, ReleaseError>;

    /// Has the kernel release by `fence`, which may be done already.
    ///
    /// # Errors
    /// [`ReleaseError`].
    fn import(&self, fence: &F) -> Result<(), ReleaseError>;

    /// Releases now.
    ///
    /// # Errors
    /// [`ReleaseError`].
    fn signal(&self) -> Result<(), ReleaseError>;

    /// Releases all of `targets` now, in one go if it can be.
    ///
    /// # Errors
    /// [`ReleaseError`]; some may have been released, and may be released again.
    fn signal_all<'a>(targets: impl Iterator<Item = &'a Self>) -> Result<(), ReleaseError>
    where
        Self: 'a;
}

fn release_now<F, T: Sink<F>>(target: T) -> Outcome<F, T> {
    match target.signal() {
        Ok(()) => Outcome::Released,
        Err(error) => Outcome::Lost(error),
    }
}

/// The outcome, or the target if it is free. The fences of a target that goes by fence are not asked whether they are done: a
/// done one releases it as well, and that saves a call where it is not.
fn decide<F: Fence, T: Sink<F>>(target: T, mut fences: Vec<F>) -> Result<Outcome<F, T>, T> {
    match target.goes_by_fence() {
        true => fences.retain(|fence| !fence.is_known_done()),
        false => fences.retain(|fence| !fence.status().is_done()),
    }
    let Some((first, rest)) = fences.split_first() else { return Err(target) };
    let imported = target.merge(first, rest).and_then(|merged| target.import(&merged).map(|()| merged));
    Ok(match imported {
        Ok(merged) if target.goes_by_fence() => Outcome::ByFence(merged),
        Ok(merged) => Outcome::Wait { target, fences: vec![merged] },
        Err(error) => {
            warn!(%error, "a release cannot go by fence; it waits in the event loop");
            Outcome::Wait { target, fences }
        }
    })
}

impl Sink<SyncFile> for Target {
    fn goes_by_fence(&self) -> bool {
        matches!(self, Self::Point(_))
    }

    fn merge(&self, first: &SyncFile, rest: &[SyncFile]) -> Result<SyncFile, ReleaseError> {
        rest.iter().try_fold(first.clone(), |merged, fence| merged.merge(fence)).map_err(ReleaseError::Merge)
    }

    fn import(&self, fence: &SyncFile) -> Result<(), ReleaseError> {
        match self {
            Self::Point(point) => point.import_sync_file(fence).map_err(ReleaseError::Point),
            Self::DmaBuf(planes) => planes.add_reader(fence).map_err(ReleaseError::DmaBuf),
            Self::Nothing => Ok(()),
        }
    }

    fn signal(&self) -> Result<(), ReleaseError> {
        match self {
            Self::Point(point) => point.signal().map_err(ReleaseError::Point),
            // The caller sends wl_buffer.release; the READ fence, if there was one, has signalled.
            Self::DmaBuf(_) | Self::Nothing => Ok(()),
        }
    }

    fn signal_all<'a>(targets: impl Iterator<Item = &'a Self>) -> Result<(), ReleaseError> {
        let points = targets.filter_map(|target| match target {
            Self::Point(point) => Some(point),
            Self::DmaBuf(_) | Self::Nothing => None,
        });
        Point::signal_all(points).map_err(ReleaseError::Point)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::super::Status;
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Fake(Status);

    impl Fence for Fake {
        fn status(&self) -> Status {
            self.0
        }
    }

    /// Answers as told, and writes down what was asked.
    #[derive(Debug, Clone, Default)]
    struct Kernel {
        fails: Vec<&'static str>,
        implicit: bool,
        log: Rc<RefCell<Vec<String>>>,
    }

    impl Kernel {
        fn failing(calls: &[&'static str]) -> Self {
            Self { fails: calls.to_vec(), ..Self::default() }
        }

        fn called(&self, call: &'static str) -> Result<(), ReleaseError> {
            self.log.borrow_mut().push(call.to_owned());
            if self.fails.contains(&call) {
                return Err(ReleaseError::Point(TimelineError::Unmaterialised));
            }
            Ok(())
        }
    }

    impl Sink<Fake> for Kernel {
        fn goes_by_fence(&self) -> bool {
            !self.implicit
        }

        fn merge(&self, first: &Fake, _: &[Fake]) -> Result<Fake, ReleaseError> {
            self.called("merge")?;
            Ok(first.clone())
        }

        fn import(&self, _: &Fake) -> Result<(), ReleaseError> {
            self.called("import")
        }

        fn signal(&self) -> Result<(), ReleaseError> {
            self.called("signal")
        }

        fn signal_all<'a>(mut targets: impl Iterator<Item = &'a Self>) -> Result<(), ReleaseError> {
            targets.next().map_or(Ok(()), |target| target.called("signal all"))
        }
    }

    const PENDING: Fake = Fake(Status::Pending);
    const DONE: Fake = Fake(Status::Signalled);
    const FAILED: Fake = Fake(Status::Failed(-5));

    #[test]
    fn a_buffer_nobody_used_is_released_at_once() {
        let kernel = Kernel::default();
        assert!(matches!(resolve(kernel.clone(), vec![]), Outcome::Released));
        assert_eq!(*kernel.log.borrow(), ["signal"]);
    }

    #[test]
    fn done_and_failed_users_need_no_fence() {
        let kernel = Kernel::default();
        assert!(matches!(resolve(kernel.clone(), vec![DONE, FAILED]), Outcome::Released));
        assert_eq!(*kernel.log.borrow(), ["signal"]);
    }

    #[test]
    fn one_pending_user_makes_it_a_release_by_fence() {
        let kernel = Kernel::default();
        let outcome = resolve(kernel.clone(), vec![DONE, PENDING, FAILED]);
        assert!(matches!(outcome, Outcome::ByFence(PENDING)), "{outcome:?}");
        assert_eq!(*kernel.log.borrow(), ["merge", "import"]);
    }

    #[test]
    fn an_implicit_client_is_told_only_after_the_fence() {
        let kernel = Kernel { implicit: true, ..Kernel::default() };
        let outcome = resolve(kernel.clone(), vec![PENDING]);
        let Outcome::Wait { target, fences } = outcome else { panic!("{outcome:?}") };
        assert_eq!(fences, [PENDING]);
        assert!(matches!(resolve(target, vec![]), Outcome::Released));
    }

    #[test]
    fn a_failed_merge_or_import_waits_for_every_pending_fence_and_signals_nothing() {
        for call in ["merge", "import"] {
            let kernel = Kernel::failing(&[call]);
            let outcome = resolve(kernel.clone(), vec![PENDING, DONE, PENDING]);
            let Outcome::Wait { target, fences } = outcome else { panic!("{call}: {outcome:?}") };
            assert_eq!(fences, [PENDING, PENDING]);
            assert!(!kernel.log.borrow().contains(&"signal".to_owned()), "{call}: early release");
            assert!(matches!(resolve(target, vec![]), Outcome::Released));
        }
    }

    #[test]
    fn an_unmaterialised_fence_is_not_done() {
        let outcome = resolve(Kernel::default(), vec![Fake(Status::Unmaterialised)]);
        assert!(matches!(outcome, Outcome::ByFence(_)), "{outcome:?}");
    }

    #[test]
    fn a_point_that_cannot_be_signalled_is_reported_as_lost() {
        let outcome = resolve(Kernel::failing(&["signal"]), vec![DONE]);
        assert!(matches!(outcome, Outcome::Lost(_)), "{outcome:?}");
    }

    /// The outcomes, by place.
    fn resolve_together(due: Vec<(Kernel, Vec<Fake>)>) -> Vec<Outcome<Fake, Kernel>> {
        let mut outcomes = Vec::new();
        let due = due.into_iter().enumerate().map(|(place, (target, fences))| (target, fences, place));
        resolve_all(due, |place, outcome| outcomes.push((place, outcome)));
        outcomes.sort_by_key(|(place, _)| *place);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    #[test]
    fn what_is_free_together_is_released_by_one_call_and_the_rest_is_as_if_alone() {
        let kernel = Kernel::default();
        let due = [vec![], vec![PENDING], vec![DONE]].map(|fences| (kernel.clone(), fences));
        let outcomes = resolve_together(due.into());
        assert!(
            matches!(outcomes[..], [Outcome::Released, Outcome::ByFence(_), Outcome::Released]),
            "{outcomes:?}"
        );
        assert_eq!(*kernel.log.borrow(), ["merge", "import", "signal all"]);
    }

    #[test]
    fn where_releasing_together_fails_each_is_released_alone_and_only_what_fails_then_is_lost() {
        let (well, ill) = (Kernel::failing(&["signal all"]), Kernel::failing(&["signal"]));
        let outcomes = resolve_together(vec![(well.clone(), vec![]), (ill, vec![DONE]), (well, vec![])]);
        assert!(
            matches!(outcomes[..], [Outcome::Released, Outcome::Lost(_), Outcome::Released]),
            "{outcomes:?}"
        );
    }
}
