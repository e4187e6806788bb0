//! The record of a run: per client, how its buffers were synchronised; per output, what its frames cost.
//!
//! Owns the counters and the fences whose signal time is not known yet. Costs a few additions per commit.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    SyncKind, Text,
    event::{CommitNumber, Event, How, PointName},
    now,
    tracer::{self, note},
};
use crate::fence::{release::Target, roles::AcquireFence, sync_file::SyncFile, timeline::Point};

/// How a release was carried out.
#[derive(Debug)]
pub enum Released {
    /// Everybody was done: the point was signalled, or `wl_buffer.release` sent.
    Now,
    /// The kernel signals the point with this fence; no wake-up of ours is needed.
    ByFence(SyncFile),
    /// It waits in the event loop.
    Later,
}

/// A commit with a buffer, as it comes in.
#[derive(Debug)]
pub struct Committed<'a> {
    /// The client's process.
    pub pid: i32,
    /// The surface's number.
    pub surface: u32,
    /// The commit's id on it.
    pub id: u64,
    /// The `wl_buffer`'s id.
    pub buffer: u32,
    /// How it is synchronised.
    pub sync: SyncKind,
    /// What is to be released.
    pub target: &'a Target,
    /// What is to be waited for.
    pub fences: &'a [AcquireFence],
}

/// Count, sum and maximum of durations.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// How many there were.
    pub count: u64,
    /// Their sum.
    pub sum_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Times {
    fn add(&mut self, time: Duration) {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(time_us);
        self.max_us = self.max_us.max(time_us);
    }
}

/// Counts of acquire fences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Acquires {
    /// Commits whose pending fences were handed over with their content.
    pub handed_over: u64,
    /// Commits whose pending fences were waited for.
    pub waited_for: u64,
    /// Pending fences that were late for the refresh that they were meant for.
    pub fences_late: u64,
    /// Fences that ended with an error.
    pub fences_failed: u64,
}

/// What is known of one client.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClientRecord {
    /// The process at the other end of the socket.
    pub pid: i32,
    /// Its name, as the kernel knows it.
    pub name: String,
    /// Buffers committed, by kind of synchronisation.
    pub commits: BTreeMap<SyncKind, u64>,
    /// Buffers that reached a screen.
    pub presented: u64,
    /// From commit to open: zero for a fence that had signalled before.
    pub acquire_wait: Times,
    /// Its acquire fences.
    #[serde(flatten)]
    pub acquires: Acquires,
    /// From the commit that displaced a buffer to its release.
    pub release_latency: Times,
    /// Releases signalled by the kernel with the GPU's fence, without a wake-up of ours.
    pub released_by_fence: u64,
    /// Releases carried out at once, because every use was over.
    pub released_at_once: u64,
    /// Releases that waited in the event loop for the last use.
    pub released_by_wait: u64,
}

/// What it took to show an output's frames.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OutputRecord {
    /// The output's name.
    pub output: String,
    /// Frames that were committed.
    pub commits: u64,
    /// Render passes: composed pictures, and images of the pointer.
    pub passes: u64,
    /// Clients' buffers that became textures or were copied.
    pub imports: u64,
    /// Clients' buffers that were committed to planes.
    pub scanned_out: u64,
    /// Frames that waited for no vblank.
    pub torn: u64,
    /// Refreshes that were missed by frames which were begun at the last moment.
    pub missed: u64,
}

/// An entry of the record as it is written.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Client(&'a ClientRecord),
    Output(&'a OutputRecord),
}

/// The record of a run.
#[derive(Debug, Default)]
pub struct Record {
    /// By process.
    clients: BTreeMap<i32, ClientRecord>,
    /// By name.
    outputs: BTreeMap<String, OutputRecord>,
}

/// How many processes are recorded.
const MAX_CLIENTS: usize = 1024;

impl Record {
    /// A client has connected. Beyond [`MAX_CLIENTS`] processes no more are recorded.
    pub fn connected(&mut self, pid: i32) {
        if self.clients.len() < MAX_CLIENTS {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let record = self.clients.entry(pid).or_default();
            (record.pid, record.name) = (pid, name.trim().to_owned());
            note(Event::Client { pid, name: Text::new(&record.name) });
        }
    }

    /// The name of a process, if it is recorded.
    pub fn name(&self, pid: i32) -> &str {
        self.clients.get(&pid).map_or("", |record| &record.name)
    }

    /// A buffer was committed. Returns the commit's number in the trace.
    pub fn committed(&mut self, of: &Committed<'_>) -> CommitNumber {
        let Committed { pid, surface, id, buffer, sync, .. } = *of;
        if let Some(record) = self.clients.get_mut(&pid) {
            *record.commits.entry(sync).or_default() += 1;
        }
        let commit = tracer::next_commit();
        let acquire = of.fences.iter().find_map(|fence| match fence {
            AcquireFence::Point(point) => Some(name(point)),
            AcquireFence::SyncFile(_) | AcquireFence::DmaBufPoll(_) => None,
        });
        let release = match of.target {
            Target::Point(point) => Some(name(point)),
            Target::DmaBuf(_) | Target::Nothing => None,
        };
        let fences = u8::try_from(of.fences.len()).unwrap_or(u8::MAX);
        note(Event::Commit { commit, pid, surface, id, buffer, sync, fences, acquire, release });
        tracer::watch_acquire(commit, of.fences);
        commit
    }

    /// A commit that was made at `committed_at` is open.
    pub fn opened(&mut self, pid: i32, committed_at: Duration) {
        let wait = now().saturating_sub(committed_at);
        if let Some(record) = self.clients.get_mut(&pid) {
            record.acquire_wait.add(wait);
        }
    }

    /// The acquire fences of a process.
    pub fn acquires(&self, pid: i32) -> Acquires {
        self.clients.get(&pid).map(|record| record.acquires).unwrap_or_default()
    }

    /// It was decided who waits for pending acquire fences: whoever reads the content, or we.
    pub fn decided(&mut self, pid: i32, handed_over: bool) {
        if let Some(record) = self.clients.get_mut(&pid) {
            let acquires = &mut record.acquires;
            let count = if handed_over { &mut acquires.handed_over } else { &mut acquires.waited_for };
            *count = count.saturating_add(1);
        }
    }

    /// It is known whether a pending acquire fence was in time.
    pub fn judged(&mut self, pid: i32, late: bool) {
        if let Some(record) = self.clients.get_mut(&pid) {
            record.acquires.fences_late = record.acquires.fences_late.saturating_add(u64::from(late));
        }
    }

    /// An acquire fence ended with an error.
    pub fn fence_failed(&mut self, pid: i32) {
        if let Some(record) = self.clients.get_mut(&pid) {
            record.acquires.fences_failed = record.acquires.fences_failed.saturating_add(1);
        }
    }

    /// A surface's content was presented.
    pub fn presented(&mut self, pid: i32) {
        if let Some(record) = self.clients.get_mut(&pid) {
            record.presented += 1;
        }
    }

    /// A frame is on a screen: fences of earlier ones have signalled, and need not be kept.
    pub fn flipped(&mut self) {
        self.look_at_watched();
    }

    /// The release of a commit was settled.
    pub fn released(&mut self, pid: i32, commit: CommitNumber, how: Released) {
        self.look_at_watched();
        let carried_out = match &how {
            Released::Now => How::Now,
            Released::ByFence(_) => How::ByFence,
            Released::Later => How::Later,
        };
        note(Event::Release { commit, how: carried_out });
        if let Released::ByFence(fence) = &how {
            tracer::watch_release(commit, pid, fence.clone());
        }
        let Some(record) = self.clients.get_mut(&pid) else { return };
        match how {
            Released::Now => {
                record.released_at_once += 1;
                record.release_latency.add(Duration::ZERO);
            }
            Released::Later => record.released_by_wait += 1,
            Released::ByFence(_) => record.released_by_fence += 1,
        }
    }

    /// The work for one more scene of an output, whether or not it came to a commit.
    pub fn shown(&mut self, output: &str, work: &OutputRecord) {
        if !self.outputs.contains_key(output) {
            self.outputs.insert(
                output.to_owned(),
                OutputRecord { output: output.to_owned(), ..OutputRecord::default() },
            );
        }
        let Some(record) = self.outputs.get_mut(output) else { return };
        record.commits += work.commits;
        record.passes += work.passes;
        record.imports += work.imports;
        record.scanned_out += work.scanned_out;
        record.torn += work.torn;
    }

    /// An output, whose number in the trace is `number`, missed a refresh.
    pub fn missed(&mut self, output: &str, number: u32) {
        note(Event::Missed { output: number });
        if let Some(record) = self.outputs.get_mut(output) {
            record.missed += 1;
        }
    }

    /// Takes the kernel's time of the watched fences that have signalled.
    fn look_at_watched(&mut self) {
        let clients = &mut self.clients;
        tracer::look(|release| {
            if let Some(record) = clients.get_mut(&release.pid) {
                record.release_latency.add(release.took);
            }
        });
    }

    /// Everything, as JSON.
    ///
    /// # Errors
    /// None that the data could cause; serde_json's type says otherwise.
    pub fn to_json(&mut self) -> serde_json::Result<String> {
        self.look_at_watched();
        let clients = self.clients.values().map(Entry::Client);
        let entries = clients.chain(self.outputs.values().map(Entry::Output));
        serde_json::to_string_pretty(&entries.collect::<Vec<_>>())
    }
}

fn name(point: &Point) -> PointName {
    PointName { timeline: point.timeline().number(), point: point.value() }
}
