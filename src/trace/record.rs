//! The record of a run: per client, how its buffers were synchronised.
//!
//! Owns the counters and the fences whose signal time is not known yet. Costs a few additions per commit.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::now;
use crate::fence::{Fence, sync_file::SyncFile};

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

/// How a commit's buffer is synchronised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncKind {
    /// linux-drm-syncobj points.
    Explicit,
    /// The dma-buf's own fences.
    Implicit,
    /// Shared memory: none.
    Shm,
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
    /// From the commit that displaced a buffer to its release.
    pub release_latency: Times,
    /// Releases signalled by the kernel with the GPU's fence, without a wake-up of ours.
    pub released_by_fence: u64,
    /// Releases carried out at once, because every use was over.
    pub released_at_once: u64,
    /// Releases that waited in the event loop for the last use.
    pub released_by_wait: u64,
}

/// The record of a run.
#[derive(Debug, Default)]
pub struct Record {
    /// By process.
    clients: BTreeMap<i32, ClientRecord>,
    /// Releases by fence whose fence has not been seen signalled.
    watched: Vec<(i32, Duration, SyncFile)>,
}

/// How many processes are recorded.
const MAX_CLIENTS: usize = 1024;

/// How many fences are watched at most; they are only for the record.
const MAX_WATCHED: usize = 64;

impl Record {
    /// A client has connected. Beyond [`MAX_CLIENTS`] processes no more are recorded.
    pub fn connected(&mut self, pid: i32) {
        if self.clients.len() < MAX_CLIENTS {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let record = self.clients.entry(pid).or_default();
            (record.pid, record.name) = (pid, name.trim().to_owned());
        }
    }

    /// A buffer was committed.
    pub fn committed(&mut self, pid: i32, kind: SyncKind) {
        if let Some(record) = self.clients.get_mut(&pid) {
            *record.commits.entry(kind).or_default() += 1;
        }
    }

    /// A commit that was made at `committed_at` is open.
    pub fn opened(&mut self, pid: i32, committed_at: Duration) {
        let wait = now().saturating_sub(committed_at);
        if let Some(record) = self.clients.get_mut(&pid) {
            record.acquire_wait.add(wait);
        }
    }

    /// A surface's content was presented.
    pub fn presented(&mut self, pid: i32) {
        if let Some(record) = self.clients.get_mut(&pid) {
            record.presented += 1;
        }
    }

    /// A release was settled.
    pub fn released(&mut self, pid: i32, how: Released) {
        self.look_at_watched();
        let Some(record) = self.clients.get_mut(&pid) else { return };
        match how {
            Released::Now => {
                record.released_at_once += 1;
                record.release_latency.add(Duration::ZERO);
            }
            Released::Later => record.released_by_wait += 1,
            Released::ByFence(fence) => {
                record.released_by_fence += 1;
                if self.watched.len() < MAX_WATCHED {
                    self.watched.push((pid, now(), fence));
                }
            }
        }
    }

    /// Takes the kernel's time of the watched fences that have signalled.
    fn look_at_watched(&mut self) {
        let clients = &mut self.clients;
        self.watched.retain(|(pid, due_at, fence)| {
            if !fence.status().is_done() {
                return true;
            }
            if let (Ok(Some(at_ns)), Some(record)) = (fence.signalled_at_ns(), clients.get_mut(pid)) {
                record.release_latency.add(Duration::from_nanos(at_ns).saturating_sub(*due_at));
            }
            false
        });
    }

    /// Everything, as JSON.
    ///
    /// # Errors
    /// None that the data could cause; serde_json's type says otherwise.
    pub fn to_json(&mut self) -> serde_json::Result<String> {
        self.look_at_watched();
        serde_json::to_string_pretty(&self.clients.values().collect::<Vec<_>>())
    }
}
