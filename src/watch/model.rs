//! What is known of a compositor: how things are, by its last snapshot, and what has happened of late.
//!
//! Owns putting together what the protocol tells in pieces. Pure: events come in, and no clock is looked at but the
//! compositor's. All times are nanoseconds on CLOCK_MONOTONIC.

use serde::Serialize;
use wayland_client::WEnum;

use super::words::as_word;
use crate::{
    halves::whole,
    protocol::{
        EVENTS,
        client::fencepost_debug_v1::{Buffer, Cause, CommitState, Event, OutputState, Policy},
    },
    trace::{event::Entry, file::Header, story::Story},
};

/// How long what has happened is remembered, in nanoseconds.
pub const REMEMBERED: u64 = 10_000_000_000;

/// Who is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compositor {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Who waits for acquire fences.
    pub acquire: String,
}

/// An output; see `fencepost_debug_v1.output`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Output {
    /// Its number in the trace.
    pub output: u32,
    /// "HDMI-A-1"
    pub name: String,
    /// Where it is in the life of a frame.
    #[serde(serialize_with = "as_word")]
    pub state: WEnum<OutputState>,
    /// The length of a refresh.
    pub refresh_ns: u32,
    /// What frames have taken of late.
    pub frame_time_ns: u32,
    /// What is added to that.
    pub margin_ns: u32,
    /// The latest time for a fence to signal for the next refresh; 0 if it is off.
    pub deadline: u64,
    /// Frames committed so far.
    pub frames: u32,
    /// Refreshes missed so far.
    pub misses: u32,
}

/// Something that a commit waits for; see `fencepost_debug_v1.wait`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// What.
    #[serde(serialize_with = "as_word")]
    pub cause: WEnum<Cause>,
    /// Of a point.
    pub timeline: u32,
    /// The point, or the time.
    pub value: u64,
    /// Of a fence.
    pub name: String,
}

/// A commit that is shown, or waits; see `fencepost_debug_v1.commit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// Its number in the trace; 0 if it has no buffer.
    pub commit: u64,
    /// How far it has come.
    #[serde(serialize_with = "as_word")]
    pub state: WEnum<CommitState>,
    /// When it was made; 0 if that is not known.
    pub since: u64,
    /// What it waits for.
    pub waits: Vec<Wait>,
}

/// A surface; see `fencepost_debug_v1.surface`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Surface {
    /// Its number in the trace.
    pub surface: u32,
    /// Its client's process.
    pub pid: u32,
    /// That process's name.
    pub client: String,
    /// Of its toplevel.
    pub app_id: String,
    /// Of its toplevel.
    pub title: String,
    /// Its role.
    pub role: String,
    /// Of its buffer, in pixels.
    pub width: u32,
    /// Of its buffer, in pixels.
    pub height: u32,
    /// What stands behind its buffer.
    #[serde(serialize_with = "as_word")]
    pub buffer: WEnum<Buffer>,
    /// The output that paces it, or 0.
    pub output: u32,
    /// Who waits for its pending fences.
    #[serde(serialize_with = "as_word")]
    pub policy: WEnum<Policy>,
    /// Why.
    pub reason: String,
    /// Commits that have not been applied.
    pub queued: u32,
    /// Commits whose buffer is not released.
    pub unreleased: u32,
    /// The content, then what is queued, oldest first, as far as it was told.
    pub commits: Vec<Commit>,
}

impl Surface {
    /// The oldest commit that waits for something, and the first thing that it waits for.
    pub fn waiting(&self) -> Option<(&Commit, &Wait)> {
        self.commits.iter().find_map(|commit| Some((commit, commit.waits.first()?)))
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        [&self.app_id, &self.title, &self.client]
            .into_iter()
            .find(|name| !name.is_empty())
            .map_or("?", String::as_str)
    }
}

/// How things are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// When.
    pub time: u64,
    /// The outputs that are lit.
    pub outputs: Vec<Output>,
    /// The surfaces of all clients.
    pub surfaces: Vec<Surface>,
    /// Surfaces that there was no room for.
    pub surfaces_left_out: u32,
    /// Commits that there was no room for.
    pub commits_left_out: u32,
}

/// Everything that is known.
#[derive(Clone, Debug)]
pub struct Model {
    /// Who is watched.
    pub compositor: Compositor,
    /// The last snapshot that is whole.
    pub now: Snapshot,
    /// The one that is being told.
    next: Snapshot,
    /// How many snapshots were told.
    pub snapshots: u64,
    /// What has happened of late.
    pub story: Story,
    /// How many events are missing.
    pub lost: u64,
    /// How many answers to the request for events have ended.
    pub answers: u64,
    /// How many events the answer that is being given has had so far.
    heard: usize,
    /// The last answer was full: there is more behind it, and the story ends before the snapshot.
    pub behind: bool,
    /// Where the trace was written, or why not, when that was asked for last.
    pub dump: Option<Result<String, String>>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            compositor: Compositor::default(),
            now: Snapshot::default(),
            next: Snapshot::default(),
            snapshots: 0,
            story: Story::new(Header::new("", false, "")),
            lost: 0,
            answers: 0,
            heard: 0,
            behind: false,
            dump: None,
        }
    }
}

impl Model {
    /// The time up to which it is known what has happened.
    pub fn known_until(&self) -> u64 {
        if self.behind { self.story.last } else { self.now.time }
    }

    /// Takes in what was told.
    pub fn hear(&mut self, event: Event) {
        match event {
            Event::Compositor { pid, version, acquire } => {
                self.compositor = Compositor { pid, version, acquire };
            }
            Event::Lost { count } => self.lost = self.lost.saturating_add(count.into()),
            Event::Entry { json } => {
                self.heard = self.heard.saturating_add(1);
                match serde_json::from_str::<Entry>(&json) {
                    Ok(entry) => self.story.hear(entry),
                    // Of a later version: what is known of the rest is as good without it.
                    Err(error) => tracing::debug!("an event is not known here: {error}"),
                }
            }
            Event::EventsDone => {
                self.answers = self.answers.saturating_add(1);
                self.behind = std::mem::take(&mut self.heard) >= EVENTS;
            }
            Event::Dumped { path } => self.dump = Some(Ok(path)),
            Event::NotDumped { why } => self.dump = Some(Err(why)),
            Event::SnapshotDone { surfaces_left_out, commits_left_out } => {
                let told = std::mem::take(&mut self.next);
                self.now = Snapshot { surfaces_left_out, commits_left_out, ..told };
                self.snapshots = self.snapshots.saturating_add(1);
                self.story.forget_before(self.now.time.saturating_sub(REMEMBERED));
            }
            part => self.next.hear(part),
        }
    }
}

impl Snapshot {
    fn hear(&mut self, event: Event) {
        match event {
            Event::Snapshot { time_hi, time_lo } => {
                *self = Self { time: whole(time_hi, time_lo), ..Self::default() };
            }
            Event::Output {
                output,
                name,
                state,
                refresh_ns,
                frame_time_ns,
                margin_ns,
                deadline_hi,
                deadline_lo,
                frames,
                misses,
            } => {
                let deadline = whole(deadline_hi, deadline_lo);
                self.outputs.push(Output {
                    output,
                    name,
                    state,
                    refresh_ns,
                    frame_time_ns,
                    margin_ns,
                    deadline,
                    frames,
                    misses,
                });
            }
            Event::Surface {
                surface,
                pid,
                client,
                app_id,
                title,
                role,
                width,
                height,
                buffer,
                output,
                policy,
                reason,
                queued,
                unreleased,
            } => self.surfaces.push(Surface {
                surface,
                pid,
                client,
                app_id,
                title,
                role,
                width,
                height,
                buffer,
                output,
                policy,
                reason,
                queued,
                unreleased,
                commits: Vec::new(),
            }),
            Event::Commit { commit_hi, commit_lo, state, since_hi, since_lo } => {
                let (commit, since) = (whole(commit_hi, commit_lo), whole(since_hi, since_lo));
                if let Some(surface) = self.surfaces.last_mut() {
                    surface.commits.push(Commit { commit, state, since, waits: Vec::new() });
                }
            }
            Event::Wait { cause, timeline, value_hi, value_lo, name } => {
                let commit = self.surfaces.last_mut().and_then(|surface| surface.commits.last_mut());
                if let Some(commit) = commit {
                    commit.waits.push(Wait { cause, timeline, value: whole(value_hi, value_lo), name });
                }
            }
            _ => {}
        }
    }
}
