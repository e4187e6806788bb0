//! From a due release to a signalled one: the last step of the chain.
//!
//! Owns the releases that wait in the event loop, and the `wl_buffer.release` events. How a release is carried out,
//! and what happens when that fails, is [`crate::fence::release`]'s decision.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use calloop::LoopHandle;
use smithay::reexports::wayland_server::{
    Client, Resource,
    backend::ObjectId,
    protocol::{wl_buffer::WlBuffer, wl_callback::WlCallback},
};

use super::{Lease, Ledger, UseFence, lease::Due};
use crate::{
    fence::{
        Fence,
        release::{Outcome, Target, resolve, resolve_all},
        wait::{self, WaitToken},
    },
    trace::{self, CommitNumber, Event, Released},
};

/// What is to be released when the last use of one commit's buffer is over.
#[derive(Debug)]
pub struct Release {
    /// The release point, or the dma-buf.
    pub target: Target,
    /// The buffer, which an implicit client gets back by `wl_buffer.release`. Explicit clients are not sent it: with
    /// linux-drm-syncobj its delivery is undefined.
    pub buffer: WlBuffer,
    /// Told of this release, and no other commit's, however it is synchronised (`wl_surface.get_release`).
    pub callbacks: Vec<WlCallback>,
    /// Whose, in the trace.
    pub commit: CommitNumber,
    /// Shared with the surface, which so knows how many of its commits are not released.
    pub held: Rc<()>,
}

/// The buffer may be used again: "the callback_data passed in the wl_callback.done event is unused and is always zero".
fn call_back(callbacks: Vec<WlCallback>) {
    callbacks.into_iter().for_each(|callback| callback.done(0));
}

fn is_implicit(target: &Target) -> bool {
    !matches!(target, Target::Point(_))
}

#[derive(Debug)]
struct Waiting {
    release: Release,
    /// Whether `wl_buffer.release` is due, too.
    implicit: bool,
    fences: Vec<UseFence>,
    /// `None` if the event loop took no wait; the fences are then looked at on every turn.
    token: Option<WaitToken>,
}

/// All releases that are due or waiting.
#[derive(Debug, Default)]
pub struct Releases {
    ledger: Ledger,
    /// Empty between two turns, and kept for its memory.
    due: Vec<Due<UseFence, Release>>,
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
    /// How many commits of implicit sync still use each buffer: `wl_buffer.release` says that all of them are done, while
    /// a release point belongs to one commit.
    used: HashMap<ObjectId, u32>,
}

/// The point of a client can no longer be signalled: the client would wait for ever, so it has to go.
#[derive(Debug)]
pub struct Lost {
    /// Whose point it is, if it is still connected.
    pub client: Option<Client>,
    /// What happened.
    pub error: crate::fence::release::ReleaseError,
}

impl Releases {
    /// Takes on a commit's obligation to release its buffer.
    pub fn lease(&mut self, release: Release) -> Lease {
        if is_implicit(&release.target) {
            let commits = self.used.entry(release.buffer.id()).or_default();
            *commits = commits.saturating_add(1);
        }
        Lease::new(release, &self.ledger)
    }

    /// One commit of implicit sync no longer uses the buffer; the client is told when none does.
    fn tell(&mut self, buffer: &WlBuffer) {
        let Some(commits) = self.used.get_mut(&buffer.id()) else { return };
        *commits = commits.saturating_sub(1);
        if *commits == 0 {
            self.used.remove(&buffer.id());
            buffer.release();
        }
    }

    /// Settles what has become due, once per turn of the event loop.
    ///
    /// `done` is called from the event loop with the key of a wait that is over; it is to call [`finish`](Self::finish).
    /// `told` hears how each release was carried out.
    pub fn settle<D: 'static>(
        &mut self,
        handle: &LoopHandle<'static, D>,
        done: fn(&mut D, u64),
        mut told: impl FnMut(&WlBuffer, CommitNumber, Released),
    ) -> Vec<Lost> {
        let mut lost = Vec::new();
        for key in self.unwatched() {
            lost.extend(self.finish(key));
        }
        let mut due = std::mem::take(&mut self.due);
        self.ledger.take_into(&mut due);
        let _span = (!due.is_empty()).then(|| tracing::trace_span!("release", due = due.len()).entered());
        let each = due.drain(..).map(|due| {
            let Release { target, buffer, callbacks, commit, held } = due.target;
            let implicit = is_implicit(&target);
            (target, due.fences, (buffer, callbacks, commit, implicit, held))
        });
        resolve_all(each, |(buffer, callbacks, commit, implicit, held), outcome| match outcome {
            Outcome::Released => {
                told(&buffer, commit, Released::Now);
                if implicit {
                    self.tell(&buffer);
                }
                call_back(callbacks);
            }
            Outcome::ByFence(fence) => {
                if !callbacks.is_empty() {
                    // The kernel signals the point; nobody but us tells the callbacks.
                    let buffer = buffer.clone();
                    let release = Release { target: Target::Nothing, buffer, callbacks, commit, held };
                    self.wait(handle, done, (release, implicit), vec![fence.clone()]);
                }
                told(&buffer, commit, Released::ByFence(fence));
            }
            Outcome::Wait { target, fences } => {
                told(&buffer, commit, Released::Later);
                let release = Release { target, buffer, callbacks, commit, held };
                self.wait(handle, done, (release, implicit), fences);
            }
            Outcome::Lost(error) => {
                trace::note(Event::Lost { commit });
                lost.push(Lost { client: buffer.client(), error });
            }
        });
        self.due = due;
        lost
    }

    /// Has [`finish`](Self::finish) called when the fences are done.
    fn wait<D: 'static>(
        &mut self,
        handle: &LoopHandle<'static, D>,
        done: fn(&mut D, u64),
        (release, implicit): (Release, bool),
        fences: Vec<UseFence>,
    ) {
        self.last += 1;
        let key = self.last;
        let token = wait::wait_all(handle, &fences, move |state: &mut D| done(state, key));
        let token = token.inspect_err(|error| tracing::error!("a release is polled: {error}")).ok();
        self.waiting.insert(key, Waiting { release, implicit, fences, token });
    }

    /// Waits that the event loop did not take and that are over.
    fn unwatched(&self) -> Vec<u64> {
        let over = |waiting: &Waiting| waiting.fences.iter().all(|fence| fence.status().is_done());
        self.waiting
            .iter()
            .filter(|(_, waiting)| waiting.token.is_none() && over(waiting))
            .map(|(key, _)| *key)
            .collect()
    }

    /// The fences of a waiting release are done.
    pub fn finish(&mut self, key: u64) -> Option<Lost> {
        let Waiting { release, implicit, token, .. } = self.waiting.remove(&key)?;
        drop(token);
        let Release { target, buffer, callbacks, commit, held: _ } = release;
        // The point of an explicit commit was signalled by the kernel: it is only the callbacks that have waited.
        let by_fence = !implicit && matches!(target, Target::Nothing);
        match resolve::<UseFence, _>(target, Vec::new()) {
            Outcome::Lost(error) => {
                trace::note(Event::Lost { commit });
                Some(Lost { client: buffer.client(), error })
            }
            Outcome::Released | Outcome::ByFence(_) | Outcome::Wait { .. } => {
                if !by_fence {
                    trace::note(Event::Released { commit });
                }
                if implicit {
                    self.tell(&buffer);
                }
                call_back(callbacks);
                None
            }
        }
    }

    /// Releases everything that waits, and everything due, without an event loop: the compositor ends.
    ///
    /// Kernel fences signal in bounded time, so this blocks for a frame or so, never for a client.
    pub fn drain(&mut self) {
        for due in self.ledger.take() {
            self.last += 1;
            let implicit = is_implicit(&due.target.target);
            let waiting = Waiting { release: due.target, implicit, fences: due.fences, token: None };
            self.waiting.insert(self.last, waiting);
        }
        while let Some((key, waiting)) = self.waiting.first_key_value() {
            for fence in &waiting.fences {
                if let Err(error) = fence.wait() {
                    tracing::error!("the wait for a buffer's last use failed: {error}");
                }
            }
            let key = *key;
            if let Some(lost) = self.finish(key) {
                tracing::warn!("a release point could not be signalled: {}", lost.error);
            }
        }
    }

    /// How many releases wait in the event loop.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
