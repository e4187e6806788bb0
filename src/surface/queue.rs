//! The commits of one surface that have not been applied yet: a bounded first-in-first-out queue.
//!
//! Owns the order (I4) and the bound (I8). A commit *opens* when every fence it waits for has signalled, its time has
//! come, no fifo barrier that it waits for is left, and every commit before it is open; an open commit may be *applied*
//! at once, or later with the rest of its subsurface tree. Must not know fds, Wayland objects or a clock, nor how a
//! fence is waited for: whoever waits calls [`Queue::poll`], and the queue asks the fences themselves.

use std::{collections::VecDeque, time::Duration};

use super::Constraints;
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

/// What became of a new commit.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Pushed<C> {
    /// The new commit.
    pub id: CommitId,
    /// The newest commit that opened just now, if any did.
    pub opened: Option<CommitId>,
    /// What an earlier commit brought and nobody will ever see: both will be applied at once.
    pub superseded: Option<C>,
}

/// A commit in the queue, as it can be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Queued<'a, F, C> {
    /// The fences that it still waits for, as far as anybody has asked them.
    pub waits: &'a [F],
    /// It waits for a fifo barrier.
    pub held_by_barrier: bool,
    /// It waits for this time.
    pub not_before: Option<Duration>,
    /// A commit before it is not open.
    pub behind: bool,
    /// It can be applied.
    pub open: bool,
    /// What it brings.
    pub content: Option<&'a C>,
}

#[derive(Debug)]
struct Entry<F, C> {
    id: CommitId,
    waits: Vec<F>,
    constraints: Constraints,
    /// No later commit can be applied at once with this one any more. False for what a synchronised subsurface has
    /// committed since its parent did.
    sealed: bool,
    open: bool,
    /// `None` for a commit that brings no buffer: it takes its turn, and supersedes nothing.
    content: Option<C>,
}

impl<F, C> Entry<F, C> {
    /// Whether nothing but the order keeps it from opening. `barrier` says whether the surface has a barrier, or will
    /// have before this commit is applied.
    fn is_ready(&self, barrier: bool) -> bool {
        self.waits.is_empty()
            && self.constraints.not_before.is_none()
            && !(barrier && self.constraints.wait_barrier)
    }

    /// Whether it leaves a barrier behind before the next commit can be applied.
    fn will_set_barrier(&self) -> bool {
        self.sealed && self.constraints.set_barrier
    }
}

/// The queue of one surface; `F` is a fence to wait for, `C` what the commit brings.
#[derive(Debug)]
pub struct Queue<F, C> {
    last: CommitId,
    /// The newest commit that has been applied.
    applied: CommitId,
    entries: VecDeque<Entry<F, C>>,
    /// The `fifo_barrier` condition of the surface.
    barrier: bool,
}

impl<F, C> Default for Queue<F, C> {
    fn default() -> Self {
        Self { last: CommitId(0), applied: CommitId(0), entries: VecDeque::new(), barrier: false }
    }
}

impl<F: Fence, C> Queue<F, C> {
    /// What a queued commit takes here, without its fences.
    pub const BYTES_PER_COMMIT: usize = size_of::<Entry<F, C>>();

    /// The id that the next [`push`](Self::push) gives.
    pub fn next_id(&self) -> CommitId {
        CommitId(self.last.0.saturating_add(1))
    }

    /// Takes note of a commit that waits for nothing and brings nothing, and returns its id; `None` if one before it has
    /// not been applied, and it has to be pushed.
    ///
    /// It takes no place, but counts as not applied: where its subsurfaces hold it up, what follows is pushed, and so
    /// bounded.
    pub fn pass(&mut self) -> Option<CommitId> {
        if self.applied < self.last {
            return None;
        }
        self.last = self.next_id();
        Some(self.last)
    }

    /// Appends a commit that waits for `waits` only.
    ///
    /// Returns its id and whether it is open already, in which case nothing has to be waited for.
    pub fn push(&mut self, waits: Vec<F>, content: Option<C>) -> Result<(CommitId, bool), Overflow> {
        let pushed = self.push_with(waits, content, Constraints::default(), false)?;
        Ok((pushed.id, pushed.opened == Some(pushed.id)))
    }

    /// Appends a commit that waits for `waits` and for its `constraints`.
    ///
    /// `synchronised` says that the surface is a synchronised subsurface now: the commit is applied with its parent's next
    /// one, at once with all that follow until then. Such a commit supersedes the content of those before it, and lets
    /// their fences go. It waits for no barrier: fifo-v1 has that constraint ignored.
    pub fn push_with(
        &mut self,
        waits: Vec<F>,
        content: Option<C>,
        constraints: Constraints,
        synchronised: bool,
    ) -> Result<Pushed<C>, Overflow> {
        if self.entries.len() >= MAX_QUEUED_COMMITS {
            return Err(Overflow);
        }
        let id = self.next_id();
        self.last = id;
        let mut superseded = None;
        if content.is_some() {
            for entry in self.entries.iter_mut().rev().take_while(|entry| !entry.sealed) {
                if let Some(before) = entry.content.take() {
                    entry.waits.clear();
                    superseded = Some(before);
                }
            }
        }
        let wait_barrier = constraints.wait_barrier && !synchronised;
        let constraints = Constraints { wait_barrier, ..constraints };
        self.entries.push_back(Entry { id, waits, constraints, sealed: false, open: false, content });
        let opened = self.open_ready();
        if !synchronised {
            self.seal();
        }
        Ok(Pushed { id, opened, superseded })
    }

    /// The commits so far will be applied before any later one: the parent of a synchronised subsurface has committed.
    /// Returns the first of those that are applied with it.
    pub fn seal(&mut self) -> Option<CommitId> {
        // What is applied at once has one barrier, behind the last commit: none of them waits for it.
        let mut set_barrier = false;
        let mut first = None;
        for entry in self.entries.iter_mut().rev().take_while(|entry| !entry.sealed) {
            entry.sealed = true;
            first = Some(entry.id);
            set_barrier |= std::mem::take(&mut entry.constraints.set_barrier);
        }
        if let Some(last) = self.entries.back_mut() {
            last.constraints.set_barrier |= set_barrier;
        }
        first
    }

    /// Asks the fences of the commits at the head and opens those that are ready, in order.
    ///
    /// Fences that have signalled are dropped, and with them what the caller keeps to wait for them. Returns
    /// the newest open commit, if one opened now. `failed` is told of each fence that ended with an error; the
    /// kernel counts such a fence as signalled, and so does the queue: the client's frame is broken, not late.
    pub fn poll(&mut self, mut failed: impl FnMut(CommitId, i32)) -> Option<CommitId> {
        let mut barrier = self.barrier;
        for entry in &mut self.entries {
            if !entry.open {
                entry.waits.retain(|fence| match fence.status() {
                    Status::Unmaterialised | Status::Pending => true,
                    Status::Signalled => false,
                    Status::Failed(errno) => {
                        failed(entry.id, errno);
                        false
                    }
                });
                if !entry.is_ready(barrier) {
                    break;
                }
            }
            barrier |= entry.will_set_barrier();
        }
        self.open_ready()
    }

    /// Opens, in order, what is known to be ready without asking a fence; returns the newest, if there is any.
    pub fn open_ready(&mut self) -> Option<CommitId> {
        let mut barrier = self.barrier;
        let mut newest = None;
        for entry in &mut self.entries {
            if !entry.open {
                if !entry.is_ready(barrier) {
                    break;
                }
                entry.open = true;
                newest = Some(entry.id);
            }
            barrier |= entry.will_set_barrier();
        }
        newest
    }

    /// Content that is applied now will be shown at `presents_at` or later: commits wait no more for times up to then.
    pub fn reached(&mut self, presents_at: Duration) {
        for entry in &mut self.entries {
            entry.constraints.not_before.take_if(|target| *target <= presents_at);
        }
    }

    /// The time that the first commit that is not open waits for, if it waits for nothing else.
    pub fn target(&self) -> Option<Duration> {
        let mut barrier = self.barrier;
        for entry in &self.entries {
            if !entry.open {
                let held = !entry.waits.is_empty() || barrier && entry.constraints.wait_barrier;
                return entry.constraints.not_before.filter(|_| !held);
            }
            barrier |= entry.will_set_barrier();
        }
        None
    }

    /// Whether the surface has a barrier: a commit that sets one was applied, and no output has latched it yet.
    pub fn has_barrier(&self) -> bool {
        self.barrier
    }

    /// An output has latched the surface, or none will for a while.
    pub fn clear_barrier(&mut self) {
        self.barrier = false;
    }

    /// Removes every commit up to `id`, which the caller has applied.
    pub fn apply(&mut self, id: CommitId) -> Applied<C> {
        self.applied = self.applied.max(id);
        let mut content = None;
        let mut superseded = Vec::new();
        while self.entries.front().is_some_and(|entry| entry.id <= id) {
            let Some(entry) = self.entries.pop_front() else { break };
            self.barrier |= entry.constraints.set_barrier;
            if let Some(newer) = entry.content {
                superseded.extend(content.replace(newer));
            }
        }
        Applied { content, superseded }
    }

    /// The fences of commits that are not open yet, with their commit.
    pub fn waiting(&self) -> impl Iterator<Item = (CommitId, &F)> {
        self.entries.iter().flat_map(|entry| entry.waits.iter().map(|fence| (entry.id, fence)))
    }

    /// As [`waiting`](Self::waiting), to wait for them in another way.
    pub fn waiting_mut(&mut self) -> impl Iterator<Item = &mut F> {
        self.entries.iter_mut().flat_map(|entry| entry.waits.iter_mut())
    }

    /// What a commit that has not been applied brings.
    pub fn content_mut(&mut self, id: CommitId) -> Option<&mut C> {
        self.entries.iter_mut().find(|entry| entry.id == id)?.content.as_mut()
    }

    /// The content of commit `id` takes its fences along, by `give`: whoever reads it waits for them, and the commit does no
    /// more. [`poll`](Self::poll) then opens it in its turn.
    ///
    /// Nothing happens, and false is returned, unless the commit brings content and all of its fences have materialised (I6).
    pub fn hand_over(&mut self, id: CommitId, give: impl FnOnce(&mut C)) -> bool {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { return false };
        let Some(content) = &mut entry.content else { return false };
        if entry.waits.iter().any(|fence| fence.status() == Status::Unmaterialised) {
            return false;
        }
        give(content);
        entry.waits.clear();
        true
    }

    /// The commits that have not been applied, oldest first, for people who look.
    pub fn queued(&self) -> impl Iterator<Item = Queued<'_, F, C>> {
        let mut barrier = self.barrier;
        let mut behind = false;
        self.entries.iter().map(move |entry| {
            let held_by_barrier = !entry.open && barrier && entry.constraints.wait_barrier;
            barrier |= entry.will_set_barrier();
            let queued = Queued {
                waits: &entry.waits,
                held_by_barrier,
                not_before: entry.constraints.not_before.filter(|_| !entry.open),
                behind,
                open: entry.open,
                content: entry.content.as_ref(),
            };
            behind |= !entry.open;
            queued
        })
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
        self.applied = self.last;
        std::mem::take(&mut self.entries).into_iter().filter_map(|entry| entry.content)
    }
}

#[cfg(test)]
mod tests;
