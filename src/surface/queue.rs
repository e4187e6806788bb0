//! The commits of one surface that have not been applied yet: a bounded first-in-first-out queue.
//!
//! Owns the order (I4) and the bound (I8). A commit *opens* when every fence it waits for has signalled and
//! every commit before it is open; an open commit may be *applied* at once, or later with the rest of its
//! subsurface tree. Must not know fds, Wayland objects or a clock, nor how a fence is waited for: whoever
//! waits calls [`Queue::poll`], and the queue asks the fences themselves.

use std::collections::VecDeque;

use crate::fence::{Fence, Status};

/// Identifies one commit of one surface; later commits have greater ids. 0 is no commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub u64);

/// How many commits of one surface may wait to be applied (I8).
///
/// A client that renders ahead has a handful of buffers; one that commits this often without any of it
/// reaching the screen holds the kernel's memory, not its own. Each waiting commit pins at most one eventfd
/// or sync_file per fence.
pub const MAX_QUEUED_COMMITS: usize = 256;

/// The queue holds [`MAX_QUEUED_COMMITS`] commits; the client is to be disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_QUEUED_COMMITS} commits of one surface wait for their fences; no more are accepted")]
pub struct Overflow;

/// What applying a commit changes.
#[derive(Debug)]
#[must_use]
pub struct Applied<C> {
    /// The newest content up to and including the applied commit, if any was queued.
    pub content: Option<C>,
    /// Contents that newer ones replaced before they were ever current, oldest first.
    pub superseded: Vec<C>,
}

#[derive(Debug)]
struct Entry<F, C> {
    id: CommitId,
    waits: Vec<F>,
    open: bool,
    /// `None` for a commit that brings no buffer: it takes its turn, and supersedes nothing.
    content: Option<C>,
}

/// The queue of one surface; `F` is a fence to wait for, `C` what the commit brings.
#[derive(Debug)]
pub struct Queue<F, C> {
    last: CommitId,
    entries: VecDeque<Entry<F, C>>,
}

impl<F, C> Default for Queue<F, C> {
    fn default() -> Self {
        Self { last: CommitId(0), entries: VecDeque::new() }
    }
}

impl<F: Fence, C> Queue<F, C> {
    /// The id that the next [`push`](Self::push) gives.
    pub fn next_id(&self) -> CommitId {
        CommitId(self.last.0.saturating_add(1))
    }

    /// Appends a commit that waits for `waits`.
    ///
    /// Returns its id and whether it is open already, in which case nothing has to be waited for.
    pub fn push(&mut self, waits: Vec<F>, content: Option<C>) -> Result<(CommitId, bool), Overflow> {
        if self.entries.len() >= MAX_QUEUED_COMMITS {
            return Err(Overflow);
        }
        let id = self.next_id();
        self.last = id;
        let open = self.entries.back().is_none_or(|before| before.open) && waits.is_empty();
        self.entries.push_back(Entry { id, waits, open, content });
        Ok((id, open))
    }

    /// Asks the fences of the commits at the head and opens those that are ready, in order.
    ///
    /// Fences that have signalled are dropped, and with them what the caller keeps to wait for them. Returns
    /// the newest open commit, if one opened now. `failed` is told of each fence that ended with an error; the
    /// kernel counts such a fence as signalled, and so does the queue: the client's frame is broken, not late.
    pub fn poll(&mut self, mut failed: impl FnMut(CommitId, i32)) -> Option<CommitId> {
        let mut newest = None;
        for entry in self.entries.iter_mut().skip_while(|entry| entry.open) {
            entry.waits.retain(|fence| match fence.status() {
                Status::Unmaterialised | Status::Pending => true,
                Status::Signalled => false,
                Status::Failed(errno) => {
                    failed(entry.id, errno);
                    false
                }
            });
            if !entry.waits.is_empty() {
                break;
            }
            entry.open = true;
            newest = Some(entry.id);
        }
        newest
    }

    /// Removes every commit up to `id`, which the caller has applied.
    pub fn apply(&mut self, id: CommitId) -> Applied<C> {
        let mut content = None;
        let mut superseded = Vec::new();
        while self.entries.front().is_some_and(|entry| entry.id <= id) {
            if let Some(newer) = self.entries.pop_front().and_then(|entry| entry.content) {
                superseded.extend(content.replace(newer));
            }
        }
        Applied { content, superseded }
    }

    /// Whether `id` may be applied: every fence it and its predecessors waited for has signalled.
    pub fn is_open(&self, id: CommitId) -> bool {
        self.entries.iter().take_while(|entry| entry.id <= id).all(|entry| entry.open)
    }

    /// The fences of commits that are not open yet, with their commit.
    pub fn waiting(&self) -> impl Iterator<Item = (CommitId, &F)> {
        self.entries.iter().flat_map(|entry| entry.waits.iter().map(|fence| (entry.id, fence)))
    }

    /// The number of commits not applied yet.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether every commit has been applied.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops every commit with what it waits for, and returns the contents, oldest first.
    pub fn clear(&mut self) -> impl Iterator<Item = C> {
        std::mem::take(&mut self.entries).into_iter().filter_map(|entry| entry.content)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    #[derive(Clone, Debug)]
    struct Sim(Rc<Cell<Status>>);

    impl Sim {
        fn pending() -> Self {
            Self(Rc::new(Cell::new(Status::Pending)))
        }

        fn signal(&self) {
            self.0.set(Status::Signalled);
        }
    }

    impl Fence for Sim {
        fn status(&self) -> Status {
            self.0.get()
        }
    }

    fn poll(queue: &mut Queue<Sim, u32>) -> Option<CommitId> {
        queue.poll(|_, _| {})
    }

    #[test]
    fn a_commit_that_waits_for_nothing_is_open_at_once() {
        let mut queue = Queue::<Sim, _>::default();
        assert_eq!(queue.push(vec![], Some(7)), Ok((CommitId(1), true)));
        let applied = queue.apply(CommitId(1));
        assert_eq!((applied.content, applied.superseded), (Some(7), vec![]));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_ready_commit_does_not_overtake_one_that_waits() {
        let mut queue = Queue::default();
        let fence = Sim::pending();
        assert_eq!(queue.push(vec![fence.clone()], Some(1)), Ok((CommitId(1), false)));
        assert_eq!(queue.push(vec![], Some(2)), Ok((CommitId(2), false)));
        assert_eq!(poll(&mut queue), None);
        assert!(!queue.is_open(CommitId(2)));
        fence.signal();
        assert_eq!(poll(&mut queue), Some(CommitId(2)));
        assert!(queue.is_open(CommitId(1)) && queue.is_open(CommitId(2)));
    }

    #[test]
    fn a_commit_opens_only_when_all_of_its_fences_have_signalled() {
        let mut queue = Queue::default();
        let fences = [Sim::pending(), Sim::pending()];
        assert_eq!(queue.push(fences.to_vec(), Some(1)), Ok((CommitId(1), false)));
        fences[1].signal();
        assert_eq!(poll(&mut queue), None);
        fences[0].signal();
        assert_eq!(poll(&mut queue), Some(CommitId(1)));
    }

    #[test]
    fn an_unmaterialised_fence_is_not_ready() {
        let mut queue = Queue::default();
        let fence = Sim(Rc::new(Cell::new(Status::Unmaterialised)));
        assert_eq!(queue.push(vec![fence.clone()], Some(1)), Ok((CommitId(1), false)));
        assert_eq!(poll(&mut queue), None);
        fence.signal();
        assert_eq!(poll(&mut queue), Some(CommitId(1)));
    }

    #[test]
    fn a_fence_that_failed_counts_as_signalled_and_is_told() {
        let mut queue = Queue::default();
        let fence = Sim::pending();
        assert_eq!(queue.push(vec![fence.clone()], Some(1)), Ok((CommitId(1), false)));
        fence.0.set(Status::Failed(-5));
        let mut told = vec![];
        assert_eq!(queue.poll(|id, errno| told.push((id, errno))), Some(CommitId(1)));
        assert_eq!(told, [(CommitId(1), -5)]);
    }

    #[test]
    fn contents_replaced_before_they_were_applied_are_handed_back() {
        let mut queue = Queue::<Sim, _>::default();
        for content in 1..=4 {
            assert!(queue.push(vec![], Some(content)).is_ok());
        }
        let applied = queue.apply(CommitId(3));
        assert_eq!((applied.content, applied.superseded), (Some(3), vec![1, 2]));
        assert_eq!(queue.clear().collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn a_commit_without_a_buffer_takes_its_turn_and_supersedes_nothing() {
        let mut queue = Queue::default();
        let fence = Sim::pending();
        assert!(queue.push(vec![fence.clone()], Some(1)).is_ok());
        assert_eq!(queue.push(vec![], None), Ok((CommitId(2), false)));
        fence.signal();
        assert_eq!(poll(&mut queue), Some(CommitId(2)));
        let applied = queue.apply(CommitId(2));
        assert_eq!((applied.content, applied.superseded), (Some(1), vec![]));
    }

    #[test]
    fn the_queue_is_bounded_and_recovers_when_it_drains() {
        let mut queue = Queue::default();
        let fence = Sim::pending();
        assert!(queue.push(vec![fence.clone()], Some(0)).is_ok());
        for content in 1..MAX_QUEUED_COMMITS as u32 {
            assert!(queue.push(vec![], Some(content)).is_ok());
        }
        assert_eq!(queue.push(vec![], Some(0)), Err(Overflow));
        fence.signal();
        let newest = poll(&mut queue).unwrap();
        assert_eq!(queue.apply(newest).superseded.len(), MAX_QUEUED_COMMITS - 1);
        assert!(queue.push(vec![], Some(0)).is_ok());
    }

    #[test]
    fn fences_that_have_signalled_are_let_go() {
        let mut queue = Queue::default();
        let (first, second) = (Sim::pending(), Sim::pending());
        assert!(queue.push(vec![first.clone(), second.clone()], Some(1)).is_ok());
        first.signal();
        assert_eq!(poll(&mut queue), None);
        assert_eq!(queue.waiting().count(), 1);
        assert_eq!(Rc::strong_count(&first.0), 1);
    }
}
