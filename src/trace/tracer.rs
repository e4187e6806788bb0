//! Who notes the events: a ring of the newest, always on, and a stream of all, if one is wanted.
//!
//! Owns one tracer per thread (the compositor has one thread; tests have several compositors), its numbers, and the fences
//! whose signal time is wanted and not known yet. Noting an event reads the clock and copies [`Entry`]: no allocation, no
//! system call. Only with `--trace` are fences watched, which costs two system calls or so for each; `--record` watches
//! those of releases.

use std::{cell::RefCell, mem, time::Duration};

use super::{
    event::{CommitNumber, Entry, Event, FrameNumber, Role, Text},
    now,
    stream::Stream,
};
use crate::fence::{Fence, Status, roles::AcquireFence, sync_file::SyncFile};

/// How many entries the ring has: 768 KiB, and with one surface at 60 Hz the last ten seconds.
pub const RING: usize = 8192;

/// How many fences are watched at most.
const MAX_WATCHED: usize = 256;

/// How many outputs and clients a dump names at most.
const MAX_NAMED: usize = 256;

thread_local! {
    static TRACER: RefCell<Tracer> = const { RefCell::new(Tracer::new()) };
}

/// Which fences are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Times {
    /// None.
    #[default]
    Unwanted,
    /// Those of releases.
    Releases,
    /// All.
    All,
}

/// What is kept of a fence until it has signalled.
#[derive(Debug)]
enum Fences {
    File(SyncFile),
    Acquire(AcquireFence),
}

#[derive(Debug)]
struct Watched {
    role: Role,
    of: u64,
    /// Whose process, for the record.
    pid: i32,
    since: Duration,
    fence: Fences,
    /// When it was seen pending last.
    pending_at: Duration,
}

/// A release by fence has signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseTime {
    /// The client's process.
    pub pid: i32,
    /// From when the release was due until the kernel signalled it.
    pub took: Duration,
}

#[derive(Debug)]
struct Tracer {
    /// Grows to [`RING`] once, with the first event.
    ring: Vec<Entry>,
    /// How many have been noted.
    noted: u64,
    stream: Option<Stream>,
    /// Who waits for acquire fences, for the header of a dump.
    acquire: Text<12>,
    times: Times,
    watched: Vec<Watched>,
    /// Outputs and clients, which a dump has to name though the ring has gone round.
    named: Vec<Entry>,
    commits: CommitNumber,
    frames: FrameNumber,
    surfaces: u32,
    outputs: u32,
}

/// What a dump contains.
#[derive(Debug)]
pub struct Snapshot {
    /// Names first, then the ring, oldest first.
    pub entries: Vec<Entry>,
    /// How many older entries there were.
    pub lost: u64,
    /// Who waits for acquire fences.
    pub acquire: Text<12>,
    /// Whether all fences are watched.
    pub fence_times: bool,
}

/// What somebody who listens is told next.
#[derive(Debug)]
pub struct Since {
    /// The events, oldest first.
    pub entries: Vec<Entry>,
    /// How many before them are forgotten.
    pub lost: u64,
    /// How many have been told of or lost so far.
    pub told: u64,
}

impl Tracer {
    const fn new() -> Self {
        Self {
            ring: Vec::new(),
            noted: 0,
            stream: None,
            acquire: Text::EMPTY,
            times: Times::Unwanted,
            watched: Vec::new(),
            named: Vec::new(),
            commits: 0,
            frames: 0,
            surfaces: 0,
            outputs: 0,
        }
    }

    fn note(&mut self, event: Event) {
        let t = u64::try_from(now().as_nanos()).unwrap_or(u64::MAX);
        let entry = Entry { t, event };
        if matches!(event, Event::Client { .. } | Event::Output { .. }) && self.named.len() < MAX_NAMED {
            self.named.push(entry);
        }
        if self.ring.capacity() == 0 {
            self.ring.reserve_exact(RING);
        }
        match self.ring.get_mut(usize::try_from(self.noted).unwrap_or(0) % RING) {
            Some(oldest) => *oldest = entry,
            None => self.ring.push(entry),
        }
        self.noted += 1;
        if let Some(stream) = &mut self.stream {
            stream.send(entry);
        }
    }

    fn watch(&mut self, watched: Watched) {
        let wanted = if watched.role == Role::Release { Times::Releases } else { Times::All };
        if self.times < wanted {
            return;
        }
        if self.watched.len() >= MAX_WATCHED {
            self.note(Event::Unwatched { fence: watched.role, of: watched.of });
            return;
        }
        self.watched.push(watched);
    }

    /// Takes the kernel's time of the watched fences that have signalled.
    fn look(&mut self, told: &mut dyn FnMut(ReleaseTime)) {
        let mut watched = mem::take(&mut self.watched);
        let seen_at = now();
        watched.retain_mut(|watched| {
            let Some(event) = watched.look() else {
                watched.pending_at = seen_at;
                return true;
            };
            self.note(event);
            if let (Event::Signal { at, .. }, Role::Release) = (event, watched.role) {
                let took = Duration::from_nanos(at).saturating_sub(watched.since);
                told(ReleaseTime { pid: watched.pid, took });
            }
            false
        });
        self.watched = watched;
    }
}

impl Watched {
    fn new(role: Role, of: u64, fence: Fences) -> Self {
        Self { role, of, pid: 0, since: Duration::ZERO, fence, pending_at: Duration::ZERO }
    }

    /// What there is to say, once the fence has signalled. FILE_INFO is asked for then only:
    /// [`SyncFile::signalled_at_ns`] says why.
    ///
    /// A point that a process signals (`DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL`) gets the kernel's one stub fence, which has the
    /// time of that. So a time before the fence was seen pending says nothing, and it did not signal before it was.
    fn look(&mut self) -> Option<Event> {
        let unwatched = Event::Unwatched { fence: self.role, of: self.of };
        if let Fences::Acquire(fence) = &self.fence {
            match (fence, fence.status()) {
                (AcquireFence::SyncFile(fence), _) => self.fence = Fences::File(fence.clone()),
                (_, Status::Unmaterialised) => return None,
                (fence, _) => match fence.hand_over() {
                    Ok(Some(fence)) => self.fence = Fences::File(fence),
                    Ok(None) | Err(_) => return Some(unwatched),
                },
            }
        }
        let Fences::File(fence) = &self.fence else { return None };
        if !fence.status().is_done() {
            return None;
        }
        let Ok(info) = fence.info() else { return Some(unwatched) };
        let Some(last) = info.fences.iter().max_by_key(|fence| fence.timestamp_ns) else {
            return Some(unwatched);
        };
        let (context, seqno) = identity(&info.name).filter(|_| info.fences.len() == 1).unwrap_or_default();
        Some(Event::Signal {
            fence: self.role,
            of: self.of,
            at: last.timestamp_ns.max(u64::try_from(self.pending_at.as_nanos()).unwrap_or(u64::MAX)),
            driver: Text::new(if last.driver == DETACHED { "" } else { &last.driver }),
            context,
            seqno,
        })
    }
}

/// What the kernel calls the driver of a fence that has signalled and let go of its driver (Linux 6.17).
const DETACHED: &str = "detached-driver";

/// The context and sequence number in the name of a sync_file with one fence, "driver-timeline12-345" (`sync_file_get_name`);
/// `None` if the name was cut off, which its length says.
fn identity(name: &str) -> Option<(u64, u64)> {
    const LONGEST: usize = 31;
    if name.len() >= LONGEST {
        return None;
    }
    let (rest, seqno) = name.rsplit_once('-')?;
    let start = rest.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |last| last + 1);
    Some((rest.get(start..)?.parse().ok()?, seqno.parse().ok()?))
}

/// Does something with this thread's tracer; nothing, where the thread ends or the tracer is at work.
fn with<T>(f: impl FnOnce(&mut Tracer) -> T) -> Option<T> {
    TRACER.try_with(|tracer| tracer.try_borrow_mut().ok().map(|mut tracer| f(&mut tracer))).ok().flatten()
}

/// Notes an event.
pub fn note(event: Event) {
    with(|tracer| tracer.note(event));
}

/// Starts anew: who waits for acquire fences, which fences are watched, and where all events go, if anywhere.
pub fn start(acquire: &str, times: Times, stream: Option<Stream>) {
    with(|tracer| *tracer = Tracer { acquire: Text::new(acquire), times, stream, ..Tracer::new() });
}

/// Ends the trace, in order, and waits until what was streamed is written.
///
/// # Errors
/// Those of writing it.
pub fn end() -> std::io::Result<()> {
    let stream = with(|tracer| {
        tracer.look(&mut |_| {});
        for Watched { role, of, .. } in mem::take(&mut tracer.watched) {
            tracer.note(Event::Pending { fence: role, of });
        }
        tracer.note(Event::End);
        tracer.stream.take()
    });
    stream.flatten().map_or(Ok(()), Stream::close)
}

/// Has what was streamed so far written: the process may not live on.
pub(super) fn crash() {
    if let Some(stream) = with(|tracer| tracer.stream.take()).flatten()
        && let Err(error) = stream.close()
    {
        tracing::warn!("the trace could not be written: {error}");
    }
}

/// The newest events; `None` where this thread's tracer is at work, or has noted nothing.
pub fn snapshot() -> Option<Snapshot> {
    let snapshot = with(|tracer| {
        let (newer, older) = match tracer.ring.len() {
            RING => tracer.ring.split_at(usize::try_from(tracer.noted).unwrap_or(0) % RING),
            _ => (tracer.ring.as_slice(), Default::default()),
        };
        let lost = tracer.noted.saturating_sub(RING as u64);
        // What is still in the ring names itself.
        let first = older.first().or(newer.first()).map_or(0, |entry| entry.t);
        let named = tracer.named.iter().filter(|entry| lost > 0 && entry.t < first);
        let entries = named.chain(older).chain(newer).copied().collect();
        let Tracer { acquire, times, .. } = *tracer;
        Snapshot { entries, lost, acquire, fence_times: times == Times::All }
    });
    snapshot.filter(|snapshot| !snapshot.entries.is_empty())
}

/// Up to `limit` of the events after the first `told`, for somebody who listens; `None` where this thread's tracer is at work.
pub fn since(told: u64, limit: usize) -> Option<Since> {
    with(|tracer| {
        let first = told.max(tracer.noted.saturating_sub(RING as u64));
        let next = tracer.noted.min(first.saturating_add(limit as u64));
        let place = |number: u64| usize::try_from(number).unwrap_or(0) % RING;
        let entries = (first..next).filter_map(|number| tracer.ring.get(place(number)).copied()).collect();
        Since { entries, lost: first.saturating_sub(told), told: next }
    })
}

/// The next commit's number.
pub(super) fn next_commit() -> CommitNumber {
    with(|tracer| {
        tracer.commits += 1;
        tracer.commits
    })
    .unwrap_or_default()
}

/// A number for a new surface.
pub fn next_surface() -> u32 {
    with(|tracer| {
        tracer.surfaces = tracer.surfaces.saturating_add(1);
        tracer.surfaces
    })
    .unwrap_or_default()
}

/// An output is there; its number.
pub fn output(name: &str, refresh: Duration) -> u32 {
    with(|tracer| {
        tracer.outputs = tracer.outputs.saturating_add(1);
        let (output, refresh) = (tracer.outputs, u64::try_from(refresh.as_nanos()).unwrap_or(0));
        tracer.note(Event::Output { output, name: Text::new(name), refresh });
        output
    })
    .unwrap_or_default()
}

/// An output, or a capture of it, begins a frame; its number.
pub fn latch(output: u32) -> FrameNumber {
    with(|tracer| {
        tracer.frames += 1;
        let frame = tracer.frames;
        tracer.note(Event::Latch { output, frame });
        frame
    })
    .unwrap_or_default()
}

/// The GPU was given the pass of a frame, which ends with `fence`, or is over already.
pub fn rendered(frame: FrameNumber, fence: Option<&SyncFile>) {
    with(|tracer| {
        tracer.note(Event::Render { frame, fence: fence.is_some() });
        if let Some(fence) = fence {
            tracer.watch(Watched::new(Role::Render, frame, Fences::File(fence.clone())));
        }
    });
}

/// Watches the acquire fences of a commit.
pub(super) fn watch_acquire(commit: CommitNumber, fences: &[AcquireFence]) {
    with(|tracer| {
        for fence in fences.iter().filter(|_| tracer.times == Times::All).cloned().collect::<Vec<_>>() {
            tracer.watch(Watched::new(Role::Acquire, commit, Fences::Acquire(fence)));
        }
    });
}

/// Watches the fence of a release that is due now.
pub(super) fn watch_release(commit: CommitNumber, pid: i32, fence: SyncFile) {
    with(|tracer| {
        let watched = Watched::new(Role::Release, commit, Fences::File(fence));
        tracer.watch(Watched { pid, since: now(), ..watched });
    });
}

/// Takes the kernel's time of the watched fences that have signalled; `told` hears of the releases.
pub(super) fn look(mut told: impl FnMut(ReleaseTime)) {
    with(|tracer| {
        if !tracer.watched.is_empty() {
            tracer.look(&mut told);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_in_order_and_says_how_many_it_lost() {
        start("auto", Times::Unwanted, None);
        assert!(snapshot().is_none());
        let output = output("HDMI-A-1", Duration::from_millis(16));
        for id in 0..RING as u64 + 9 {
            note(Event::Apply { surface: 1, id });
        }
        let Snapshot { entries, lost, .. } = snapshot().expect("a snapshot");
        assert_eq!(lost, 10);
        assert!(matches!(entries[0].event, Event::Output { output: of, .. } if of == output));
        let ids: Vec<_> = entries[1..]
            .iter()
            .map(|entry| match entry.event {
                Event::Apply { id, .. } => id,
                _ => panic!("{entry:?}"),
            })
            .collect();
        assert_eq!(ids, (9..RING as u64 + 9).collect::<Vec<_>>());
        assert!(entries.windows(2).all(|pair| pair[0].t <= pair[1].t));
    }

    #[test]
    fn a_snapshot_of_a_ring_that_is_not_full_names_an_output_once() {
        start("auto", Times::Unwanted, None);
        output("HDMI-A-1", Duration::ZERO);
        note(Event::End);
        assert_eq!(snapshot().expect("a snapshot").entries.len(), 2);
    }

    #[test]
    fn a_fences_identity_is_in_its_name_unless_that_was_cut_off() {
        assert_eq!(identity("virtio_gpu-controlq12-345"), Some((12, 345)));
        assert_eq!(identity("sw_sync-sw_sync-7-3"), Some((7, 3)));
        assert_eq!(identity("detached-driver-signaled-timeli"), None);
        assert_eq!(identity("a name"), None);
    }

    #[test]
    fn a_fence_that_is_not_to_be_watched_is_not_kept() {
        start("auto", Times::Releases, None);
        let fence = SyncFile::from_kernel(std::io::pipe().expect("pipe").0.into());
        rendered(1, Some(&fence));
        assert_eq!(with(|tracer| tracer.watched.len()), Some(0));
        watch_release(1, 2, fence);
        assert_eq!(with(|tracer| tracer.watched.len()), Some(1));
    }

    #[test]
    fn of_the_fences_that_are_too_many_the_trace_says_that_they_are_not_watched() {
        start("auto", Times::Releases, None);
        let fence = SyncFile::from_kernel(std::io::pipe().expect("pipe").0.into());
        for commit in 0..=MAX_WATCHED as u64 {
            watch_release(commit, 2, fence.clone());
        }
        let entries = snapshot().expect("a snapshot").entries;
        let of = MAX_WATCHED as u64;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].event, Event::Unwatched { fence: Role::Release, of });
    }

    /// Prints what noting an event costs; the bound is loose, since the machine that builds this is anything.
    #[test]
    fn noting_an_event_takes_less_than_two_microseconds() {
        start("auto", Times::Unwanted, None);
        note(Event::End);
        const TIMES: u32 = 5_000;
        // The best: whoever else runs on the machine makes others dear.
        let batches = (0..20).map(|_| {
            let began = std::time::Instant::now();
            for id in 0..u64::from(TIMES) {
                note(Event::Open { surface: 1, id });
            }
            began.elapsed() / TIMES
        });
        let each = batches.min().expect("some batches");
        println!("{each:?}");
        assert!(each < Duration::from_micros(2), "{each:?}");
    }
}
