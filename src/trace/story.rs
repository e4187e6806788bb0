//! The story of each commit, frame and surface, put together from the events of a trace.
//!
//! Owns the joins: which fence belongs to what, when a content was shown and its buffer free. Judges nothing; the
//! [audit](super::audit) and the [summary](super::summary) do. All times are nanoseconds on CLOCK_MONOTONIC.

use std::collections::BTreeMap;

use super::{
    event::{CommitNumber, Entry, Event, FrameNumber, How, Reader, Role, SyncKind},
    file::{Header, Trace},
};

/// What is known of a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// The trace does not say.
    #[default]
    Unknown,
    /// Then, by the kernel's timestamp where it has one.
    At(u64),
    /// Not before the end of the trace.
    Never,
}

impl When {
    /// The time, if it is known.
    pub fn at(self) -> Option<u64> {
        match self {
            Self::At(at) => Some(at),
            Self::Unknown | Self::Never => None,
        }
    }

    /// When both were, as far as is known: not before that.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::At(one), Self::At(other)) => Self::At(one.max(other)),
            (known, Self::Unknown) | (Self::Unknown, known) => known,
        }
    }
}

/// One commit with a buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// When the compositor heard of it.
    pub at: u64,
    /// The client's process.
    pub pid: i32,
    /// Its surface.
    pub surface: u32,
    /// Its id there.
    pub id: u64,
    /// The `wl_buffer`.
    pub buffer: u32,
    /// How it is synchronised.
    pub sync: SyncKind,
    /// How many acquire fences it has.
    pub fences: u8,
    /// When they had all signalled: not before that, if not all are known.
    pub acquired: When,
    /// It was replaced before it could be applied, in order.
    pub discarded: bool,
    /// Whoever reads it waits for its fences.
    pub handed_over: bool,
    /// When it was open.
    pub opened: Option<u64>,
    /// When it became the content of its surface.
    pub applied: Option<u64>,
    /// When the CPU had copied it.
    pub copied: Option<u64>,
    /// The frames that read it, and who did.
    pub reads: Vec<(FrameNumber, Reader)>,
    /// The output that was to show it first.
    pub shown: Option<u32>,
    /// The first frame with it that reached a screen, and when that did.
    pub presented: Option<(FrameNumber, u64)>,
    /// How its release was settled, and when.
    pub settled: Option<(How, u64)>,
    /// When its buffer was free.
    pub released: When,
    /// Its release point could not be signalled.
    pub lost: bool,
}

/// One latch of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The output.
    pub output: u32,
    /// When it was begun.
    pub at: u64,
    /// When the GPU was given its pass.
    pub rendered: Option<u64>,
    /// When the GPU was done.
    pub drawn: When,
    /// When it was committed to KMS.
    pub committed: Option<u64>,
    /// When it was on the screen, by the kernel's timestamp, and when we noticed.
    pub flipped: Option<(u64, u64)>,
    /// What it reads.
    pub reads: Vec<(CommitNumber, Reader)>,
}

impl Frame {
    /// When it was on the screen. `None` also where that would be before its commit, as some virtual hardware says.
    pub fn on_screen(&self) -> Option<u64> {
        self.flipped.map(|(at, _)| at).filter(|at| self.committed.is_none_or(|committed| *at > committed))
    }
}

/// One output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// "HDMI-A-1"
    pub name: String,
    /// The length of a refresh.
    pub refresh: u64,
    /// Its frames that were committed, in order.
    pub frames: Vec<FrameNumber>,
    /// When it was switched off.
    pub dark: Vec<u64>,
    /// Refreshes that it missed.
    pub missed: Vec<u64>,
    showing: Vec<CommitNumber>,
}

/// One surface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surface {
    /// Its client's process.
    pub pid: i32,
    /// Its commits with a buffer, by their ids.
    pub commits: BTreeMap<u64, CommitNumber>,
    /// When which commits were opened, in the order of the trace.
    pub opened: Vec<(u64, u64)>,
    /// When which commits were applied, in the order of the trace.
    pub applied: Vec<(u64, u64)>,
    /// When its fences were dealt with differently: handed over or not, and why.
    pub policies: Vec<(u64, bool, String)>,
    /// When it was destroyed.
    pub destroyed: Option<u64>,
    open_up_to: u64,
}

/// Everything that a trace tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The trace's header.
    pub header: Header,
    /// Clients' names by their processes.
    pub clients: BTreeMap<i32, String>,
    /// Outputs.
    pub outputs: BTreeMap<u32, Output>,
    /// Surfaces.
    pub surfaces: BTreeMap<u32, Surface>,
    /// Commits with a buffer.
    pub commits: BTreeMap<CommitNumber, Commit>,
    /// Frames.
    pub frames: BTreeMap<FrameNumber, Frame>,
    /// No event is missing in between. Older ones may be.
    pub complete: bool,
    /// The run ended in order.
    pub ended: bool,
    /// The time of the last event.
    pub last: u64,
}

impl Story {
    /// Puts a trace together.
    pub fn of(trace: &Trace) -> Self {
        let mut story = Self::new(trace.header.clone());
        story.complete = trace.gaps == 0;
        for entry in &trace.entries {
            story.hear(*entry);
        }
        story
    }

    /// Nothing so far.
    pub fn new(header: Header) -> Self {
        Self {
            header,
            clients: BTreeMap::new(),
            outputs: BTreeMap::new(),
            surfaces: BTreeMap::new(),
            commits: BTreeMap::new(),
            frames: BTreeMap::new(),
            complete: true,
            ended: false,
            last: 0,
        }
    }

    /// Forgets what began before `t`, and the surfaces that were gone by then: for those who listen for long.
    pub fn forget_before(&mut self, t: u64) {
        self.commits.retain(|_, commit| commit.at >= t);
        self.frames.retain(|_, frame| frame.at >= t);
        self.surfaces.retain(|_, surface| surface.destroyed.is_none_or(|at| at >= t));
        for surface in self.surfaces.values_mut() {
            surface.commits.retain(|_, number| self.commits.contains_key(number));
            surface.opened.retain(|(at, _)| *at >= t);
            surface.applied.retain(|(at, _)| *at >= t);
            surface.policies.retain(|(at, ..)| *at >= t);
        }
        for output in self.outputs.values_mut() {
            output.frames.retain(|number| self.frames.contains_key(number));
            output.dark.retain(|at| *at >= t);
            output.missed.retain(|at| *at >= t);
        }
    }

    /// The commit of a surface with this id, if it brought a buffer.
    pub fn commit(&self, surface: u32, id: u64) -> Option<CommitNumber> {
        self.surfaces.get(&surface)?.commits.get(&id).copied()
    }

    /// Takes in the next event.
    pub fn hear(&mut self, Entry { t, event }: Entry) {
        self.last = self.last.max(t);
        match event {
            Event::Client { pid, name } => {
                self.clients.insert(pid, name.to_string());
            }
            Event::Output { output, name, refresh } => {
                let named = Output { name: name.to_string(), refresh, ..Output::default() };
                self.outputs.insert(output, named);
            }
            Event::Commit { commit, pid, surface, id, buffer, sync, fences, .. } => {
                let of = self.surfaces.entry(surface).or_default();
                of.pid = pid;
                of.commits.insert(id, commit);
                let new = Commit { at: t, pid, surface, id, buffer, sync, fences, ..Commit::default() };
                self.commits.insert(commit, new);
            }
            Event::Signal { fence, of, at, .. } => self.signalled(fence, of, When::At(at)),
            Event::Pending { fence, of } => self.signalled(fence, of, When::Never),
            Event::Unwatched { fence, of } => self.signalled(fence, of, When::Unknown),
            Event::Latch { .. } | Event::Read { .. } | Event::Render { .. } => self.hear_of_frame(t, event),
            Event::Kms { .. } | Event::Flip { .. } | Event::Missed { .. } | Event::Dark { .. } => {
                self.hear_of_output(t, event);
            }
            Event::Show { output, commit } => {
                if let Some(of) = self.commits.get_mut(&commit) {
                    of.shown = of.shown.or(Some(output));
                }
                self.outputs.entry(output).or_default().showing.push(commit);
            }
            Event::End => self.ended = true,
            _ => self.hear_of_commit(t, event),
        }
    }

    fn hear_of_commit(&mut self, t: u64, event: Event) {
        match event {
            Event::Policy { surface, hand_over, reason } => {
                let of = self.surfaces.entry(surface).or_default();
                of.policies.push((t, hand_over, reason.to_string()));
            }
            Event::Open { surface, id } => self.opened(t, surface, id),
            Event::Apply { surface, id } => {
                let of = self.surfaces.entry(surface).or_default();
                of.applied.push((t, id));
                let number = of.commits.range(..=id).next_back().map(|(_, number)| *number);
                if let Some(of) = number.and_then(|number| self.commits.get_mut(&number)) {
                    of.applied = of.applied.or(Some(t));
                }
            }
            Event::Destroy { surface } => {
                self.surfaces.entry(surface).or_default().destroyed = Some(t);
            }
            Event::HandOver { surface, id } => {
                self.with(self.commit(surface, id), |of| of.handed_over = true);
            }
            Event::Discard { commit } => self.with(Some(commit), |of| of.discarded = true),
            Event::Copy { commit } => self.with(Some(commit), |of| of.copied = of.copied.or(Some(t))),
            Event::Release { commit, how } => self.with(Some(commit), |of| {
                of.settled = Some((how, t));
                if how == How::Now {
                    of.released = When::At(t);
                }
            }),
            Event::Released { commit } => self.with(Some(commit), |of| {
                of.settled = of.settled.or(Some((How::Later, t)));
                of.released = When::At(t);
            }),
            Event::Lost { commit } => self.with(Some(commit), |of| of.lost = true),
            _ => {}
        }
    }

    fn with(&mut self, commit: Option<CommitNumber>, tell: impl FnOnce(&mut Commit)) {
        if let Some(of) = commit.and_then(|commit| self.commits.get_mut(&commit)) {
            tell(of);
        }
    }

    fn opened(&mut self, t: u64, surface: u32, id: u64) {
        let of = self.surfaces.entry(surface).or_default();
        of.opened.push((t, id));
        let newly = of.commits.range(of.open_up_to.saturating_add(1)..);
        let newly: Vec<_> = newly.take_while(|(of, _)| **of <= id).map(|(_, number)| *number).collect();
        of.open_up_to = of.open_up_to.max(id);
        for number in newly {
            self.with(Some(number), |of| of.opened = of.opened.or(Some(t)));
        }
    }

    fn signalled(&mut self, fence: Role, of: u64, when: When) {
        match fence {
            Role::Acquire => self.with(Some(of), |of| of.acquired = of.acquired.and(when)),
            Role::Release => self.with(Some(of), |of| of.released = when),
            Role::Render => {
                let frame = self.frames.entry(of).or_default();
                // A frame may be drawn in several passes, by one GPU in their order.
                frame.drawn = frame.drawn.and(when);
            }
        }
    }

    fn hear_of_frame(&mut self, t: u64, event: Event) {
        match event {
            Event::Latch { output, frame } => {
                self.frames.insert(frame, Frame { output, at: t, ..Frame::default() });
            }
            Event::Read { frame, commit, by } => {
                self.with(Some(commit), |of| of.reads.push((frame, by)));
                self.frames.entry(frame).or_default().reads.push((commit, by));
            }
            Event::Render { frame, fence } => {
                let of = self.frames.entry(frame).or_default();
                of.rendered = Some(t);
                if !fence {
                    of.drawn = When::At(t);
                }
            }
            _ => {}
        }
    }

    fn hear_of_output(&mut self, t: u64, event: Event) {
        match event {
            Event::Kms { output, frame, .. } => {
                self.frames.entry(frame).or_default().committed = Some(t);
                self.outputs.entry(output).or_default().frames.push(frame);
            }
            Event::Flip { output, frame, at, .. } => {
                self.frames.entry(frame).or_default().flipped = Some((at, t));
                let showing = std::mem::take(&mut self.outputs.entry(output).or_default().showing);
                for commit in showing {
                    self.with(Some(commit), |of| of.presented = of.presented.or(Some((frame, at))));
                }
            }
            Event::Missed { output } => self.outputs.entry(output).or_default().missed.push(t),
            Event::Dark { output } => {
                let of = self.outputs.entry(output).or_default();
                of.dark.push(t);
                of.showing.clear();
            }
            _ => {}
        }
    }
}
