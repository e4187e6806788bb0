//! The judge: what must hold, whatever the compositor decides.
//!
//! Owns a truth of its own: which commits there are and in what order, when their fences signalled, who reads their
//! buffers from when until when, what each output has been asked for. It hears of reads from the kernel and of commits
//! from the clients, and asks the compositor only what it shows and which timers it has armed.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use fencepost::fence::{Fence, Status};
use fencepost::surface::queue::MAX_QUEUED_COMMITS;

use crate::kernel::{ReleasePoint, SimFence};

/// Numbers everything that clients commit in a run, buffers and their absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CommitNo(pub(crate) u64);

/// The invariants of ARCHITECTURE.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invariant {
    /// Nothing is read before its acquire fence has signalled.
    I1,
    /// No release before the last read has ended.
    I2,
    /// Every release comes, once.
    I3,
    /// In order, and trees as one.
    I4,
    /// A late fence holds nobody else.
    I5,
    /// Only materialised fences are given away.
    I6,
    /// Everything is bounded.
    I8,
    /// Nothing wanted, nothing done; and what is wanted is under way.
    I9,
}

/// An invariant does not hold.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
}

pub(crate) type Checked<T = ()> = Result<T, Broken>;

fn must(holds: bool, invariant: Invariant, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Broken { invariant, what: what() }) }
}

/// Who reads a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Gpu,
    Cpu,
    Crtc(usize),
}

#[derive(Debug)]
struct Commit {
    surface: usize,
    acquire: SimFence,
    release: Rc<ReleasePoint>,
    /// Reads that have begun and not ended.
    reads: Vec<Reader>,
    /// It was the content of its surface.
    applied: bool,
    released: bool,
}

/// What becomes visible together: the commits of one tree, or one commit.
#[derive(Debug)]
struct Update {
    /// The surface, what it is to show, and the fence of that.
    members: Vec<(usize, Shows)>,
}

/// What a commit does to what a surface shows.
#[derive(Clone, Debug)]
pub(crate) enum Shows {
    /// Nothing new.
    Same,
    /// Nothing any more.
    Nothing(CommitNo),
    /// This commit's buffer, once its fence has signalled.
    Buffer(CommitNo, SimFence),
}

impl Shows {
    pub(crate) fn number(&self) -> Option<CommitNo> {
        match self {
            Self::Same => None,
            Self::Nothing(no) | Self::Buffer(no, _) => Some(*no),
        }
    }
}

/// What an output was asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    on: bool,
    damage: bool,
    callbacks: bool,
    in_flight: bool,
}

/// What the compositor says of an output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputReport {
    pub(crate) timer: bool,
    pub(crate) latching: bool,
}

/// The truth.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    last: u64,
    buffers: u64,
    /// Those that have not been released, or are still read.
    commits: BTreeMap<CommitNo, Commit>,
    /// Not yet due to be visible, oldest first.
    updates: Vec<Update>,
    /// What each surface is to show by now.
    due: BTreeMap<usize, CommitNo>,
    outputs: Vec<Wanted>,
    /// Every release that was seen.
    pub(crate) released: u64,
}

impl Checker {
    pub(crate) fn new(outputs: usize) -> Self {
        Self { outputs: vec![Wanted::default(); outputs], ..Self::default() }
    }

    /// A client has committed a buffer.
    pub(crate) fn committed(
        &mut self,
        surface: usize,
        acquire: &SimFence,
        release: &Rc<ReleasePoint>,
    ) -> CommitNo {
        let no = self.number();
        self.buffers += 1;
        let (acquire, release) = (acquire.clone(), Rc::clone(release));
        let commit = Commit { surface, acquire, release, reads: Vec::new(), applied: false, released: false };
        self.commits.insert(no, commit);
        no
    }

    /// The next number; for a commit that takes the buffer away.
    pub(crate) fn number(&mut self) -> CommitNo {
        self.last += 1;
        CommitNo(self.last)
    }

    /// What the clients' commits are to show together.
    pub(crate) fn update(&mut self, members: Vec<(usize, Shows)>) {
        self.updates.push(Update { members });
    }

    /// A surface is gone, with all it was to show.
    pub(crate) fn surface_gone(&mut self, surface: usize) {
        self.due.remove(&surface);
        for update in &mut self.updates {
            update.members.retain(|(of, _)| *of != surface);
        }
        self.updates.retain(|update| !update.members.is_empty());
    }

    /// I1, I2, I6: somebody starts to read a buffer, or will when `waits` have signalled.
    pub(crate) fn read_begins(&mut self, no: CommitNo, reader: Reader, waits: &[SimFence]) -> Checked {
        for wait in waits {
            must(wait.status() != Status::Unmaterialised, Invariant::I6, || {
                format!("{reader:?} was given a point without a fence to wait for")
            })?;
        }
        let Some(commit) = self.commits.get_mut(&no) else {
            return must(false, Invariant::I2, || format!("{reader:?} reads {no:?} after its release"));
        };
        must(!commit.released, Invariant::I2, || format!("{reader:?} reads {no:?} after its release"))?;
        let waited_for = commit.acquire.is_done() || waits.iter().any(|wait| wait.is(&commit.acquire));
        must(waited_for, Invariant::I1, || format!("{reader:?} reads {no:?} before its acquire fence"))?;
        commit.reads.push(reader);
        Ok(())
    }

    pub(crate) fn read_ends(&mut self, no: CommitNo, reader: Reader) {
        if let Some(commit) = self.commits.get_mut(&no)
            && let Some(at) = commit.reads.iter().position(|read| *read == reader)
        {
            commit.reads.swap_remove(at);
        }
    }

    /// I1: what a flip shows is there.
    pub(crate) fn flips(&self, planes: &[CommitNo], pass: Option<&SimFence>) -> Checked {
        must(pass.is_none_or(SimFence::is_done), Invariant::I1, || {
            "a frame was shown before its pass had ended".to_owned()
        })?;
        for no in planes {
            let done = self.commits.get(no).is_some_and(|commit| commit.acquire.is_done());
            must(done, Invariant::I1, || format!("{no:?} is scanned out before its acquire fence"))?;
        }
        Ok(())
    }

    /// I2 and half of I3: looks at every release point. To be called whenever any fence may have signalled.
    pub(crate) fn releases(&mut self) -> Checked {
        let mut over = Vec::new();
        for (no, commit) in &mut self.commits {
            must(commit.release.materialised() <= 1, Invariant::I3, || {
                format!("the release of {no:?} was signalled twice")
            })?;
            if !commit.released && commit.release.is_signalled() {
                must(commit.reads.is_empty(), Invariant::I2, || {
                    format!("{no:?} was released while it was read by {:?}", commit.reads)
                })?;
                commit.released = true;
                self.released += 1;
            }
            // One turn more in the books, to see it released twice.
            if commit.released && commit.reads.is_empty() && Rc::strong_count(&commit.release) == 1 {
                over.push(*no);
            }
        }
        for no in over {
            self.commits.remove(&no);
        }
        Ok(())
    }

    /// I4: the compositor makes a commit's buffer the content of its surface.
    pub(crate) fn applied(&mut self, no: CommitNo) -> Checked {
        let Some(surface) = self.commits.get_mut(&no).map(|commit| {
            commit.applied = true;
            commit.surface
        }) else {
            return Ok(());
        };
        let newer_shown = self.due.get(&surface).is_some_and(|due| *due > no);
        must(!newer_shown, Invariant::I4, || format!("{no:?} of surface {surface} goes back"))?;
        let overtaken = self.commits.iter().find(|(earlier, commit)| {
            **earlier < no && commit.surface == surface && !commit.applied && !commit.acquire.is_done()
        });
        must(overtaken.is_none(), Invariant::I4, || {
            format!("{no:?} of surface {surface} overtook {:?}, which waits", overtaken.map(|(no, _)| no))
        })
    }

    /// I4, I5: the event loop has nothing to do; what can be shown is shown, by all who can.
    pub(crate) fn settled(&mut self, shown: impl Fn(usize) -> Option<CommitNo>) -> Checked {
        let mut blocked = BTreeSet::new();
        let (due, commits) = (&mut self.due, &self.commits);
        // What is shown already was handed over with its fence, and holds nobody behind it.
        let is_ready = |shows: &Shows| match shows {
            Shows::Same | Shows::Nothing(_) => true,
            Shows::Buffer(no, acquire) => {
                acquire.is_done() || commits.get(no).is_none_or(|commit| commit.applied)
            }
        };
        self.updates.retain(|update| {
            let ready = update.members.iter().all(|(of, shows)| is_ready(shows) && !blocked.contains(of));
            for (surface, shows) in &update.members {
                match shows.number() {
                    _ if !ready => drop(blocked.insert(*surface)),
                    Some(no) => drop(due.insert(*surface, no)),
                    None => {}
                }
            }
            !ready
        });
        for (surface, due) in &self.due {
            let shown = shown(*surface);
            must(shown >= Some(*due), Invariant::I5, || {
                format!("surface {surface} shows {shown:?}, and could show {due:?}")
            })?;
        }
        for update in self.updates.iter().filter(|update| update.members.len() > 1) {
            for (surface, shows) in &update.members {
                let Some(no) = shows.number() else { continue };
                must(shown(*surface) < Some(no), Invariant::I4, || {
                    format!("surface {surface} shows {no:?} without the rest of its tree")
                })?;
            }
        }
        Ok(())
    }

    /// I8: what a client makes grow.
    pub(crate) fn bounded(&self, queued: usize, waiting_releases: usize) -> Checked {
        must(queued <= MAX_QUEUED_COMMITS, Invariant::I8, || format!("{queued} commits of a surface"))?;
        must(waiting_releases <= self.commits.len(), Invariant::I8, || {
            format!("{waiting_releases} releases wait, of {} commits", self.commits.len())
        })
    }

    /// I8: a client that committed more than it may is gone.
    pub(crate) fn overflowed(&self, connected: bool) -> Checked {
        must(!connected, Invariant::I8, || "a client goes on after an overflow".to_owned())
    }

    /// An output goes on or off.
    pub(crate) fn output_on(&mut self, output: usize, on: bool) {
        self.outputs[output].damage |= on && !self.outputs[output].on;
        self.outputs[output].on = on;
    }

    /// An output is gone, with what was wanted of it and what was in flight.
    pub(crate) fn output_gone(&mut self, output: usize) {
        self.outputs[output] = Wanted::default();
    }

    /// Something that an output shows has changed.
    pub(crate) fn damaged(&mut self, output: usize) {
        self.outputs[output].damage = true;
    }

    /// A client waits for a frame callback.
    pub(crate) fn asked(&mut self, output: usize) {
        self.outputs[output].callbacks = true;
    }

    /// The output takes what is wanted. I9: nothing is latched that nobody wants.
    pub(crate) fn latched(&mut self, output: usize, callbacks: bool) -> Checked {
        let wanted = &mut self.outputs[output];
        must(wanted.on, Invariant::I9, || format!("output {output} is off and latches"))?;
        must(!wanted.in_flight, Invariant::I8, || format!("output {output} latches behind a flip"))?;
        must(wanted.damage || wanted.callbacks, Invariant::I9, || {
            format!("output {output} latches and nobody wants it")
        })?;
        wanted.damage = false;
        wanted.callbacks &= !callbacks;
        Ok(())
    }

    pub(crate) fn in_flight(&mut self, output: usize, in_flight: bool) {
        self.outputs[output].in_flight = in_flight;
    }

    /// I9: an output has a timer exactly while something is wanted that can be done now.
    pub(crate) fn timers(&self, output: usize, report: OutputReport) -> Checked {
        let wanted = self.outputs[output];
        let work = wanted.on && !wanted.in_flight && !report.latching;
        let expected = work && (wanted.damage || wanted.callbacks);
        must(report.timer == expected, Invariant::I9, || {
            format!("output {output} has a timer: {}, and is wanted: {wanted:?}", report.timer)
        })
    }

    /// The other half of I3: every client is gone, every pass and flip is over.
    pub(crate) fn finished(&mut self) -> Checked {
        self.releases()?;
        let kept = self.commits.iter().find(|(_, commit)| !commit.released);
        must(kept.is_none(), Invariant::I3, || format!("{:?} was never released", kept.map(|(no, _)| no)))?;
        let read = self.commits.iter().find(|(_, commit)| !commit.reads.is_empty());
        must(read.is_none(), Invariant::I9, || format!("{:?} is still read", read.map(|(no, _)| no)))?;
        must(self.released == self.buffers, Invariant::I3, || {
            format!("{} releases for {} commits", self.released, self.buffers)
        })
    }
}
