//! What the trace says: one event for every hand-over of the chain, small and `Copy`, so that noting one allocates nothing.
//!
//! Owns the schema, which tests/TRACE.md documents and [`SCHEMA`] numbers. Must not know who notes events or who reads
//! them. All times are nanoseconds on CLOCK_MONOTONIC.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The version of the schema. It grows with every change that an older reader would misread.
pub const SCHEMA: u32 = 1;

/// Names a commit with a buffer, within one run. 0 is none.
pub type CommitNumber = u64;

/// Names a latch of an output, within one run, also one that came to nothing.
pub type FrameNumber = u64;

/// An event, and when it was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was noted. Where the kernel knows better when it happened, the event says so itself.
    pub t: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// How a commit's buffer is synchronised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncKind {
    /// linux-drm-syncobj points.
    Explicit,
    /// The dma-buf's own fences.
    Implicit,
    /// Shared memory: none.
    #[default]
    Shm,
}

/// A point on a client's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointName {
    /// The timeline: the handle of its syncobj with us.
    pub timeline: u32,
    /// The point.
    pub point: u64,
}

/// What a fence is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The client's work on the buffer of a commit; there may be several.
    Acquire,
    /// Our pass for a frame.
    Render,
    /// The release of a commit's buffer.
    Release,
}

/// Who reads a buffer for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    /// The GPU, which draws the composed picture.
    Gpu,
    /// A plane of the CRTC.
    Plane,
    /// The parent of a window. It says itself when it is done, which may be long before another frame is shown.
    Parent,
}

/// How a release is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Every use was over: it has been signalled, or `wl_buffer.release` sent.
    Now,
    /// The kernel signals the point with the last use's fence.
    ByFence,
    /// It waits in the event loop for the last use.
    Later,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A client has connected.
    Client {
        /// Its process.
        pid: i32,
        /// The process's name, as the kernel has it.
        name: Text<16>,
    },
    /// An output is there.
    Output {
        /// Its number from now on.
        output: u32,
        /// "HDMI-A-1"
        name: Text<24>,
        /// The length of a refresh.
        refresh: u64,
    },
    /// `wl_surface.commit` with a buffer.
    Commit {
        /// Its number from now on.
        commit: CommitNumber,
        /// The client's process.
        pid: i32,
        /// The surface.
        surface: u32,
        /// The commit's id on this surface; later ones have greater ids, and commits without a buffer have some too.
        id: u64,
        /// The `wl_buffer`, by its id with this client. Ids are used again.
        buffer: u32,
        /// How it is synchronised.
        sync: SyncKind,
        /// How many fences it has that may be pending.
        fences: u8,
        /// The acquire point.
        acquire: Option<PointName>,
        /// The release point.
        release: Option<PointName>,
    },
    /// A commit was replaced by a newer one of its synchronised subsurface, and waits for nothing any more.
    Discard {
        /// Which.
        commit: CommitNumber,
    },
    /// Whoever reads the content of a commit waits for its fences; we do not.
    HandOver {
        /// The surface.
        surface: u32,
        /// The commit's id on it.
        id: u64,
    },
    /// A surface's pending fences are dealt with differently from now on.
    Policy {
        /// The surface.
        surface: u32,
        /// They are handed over, or else waited for.
        hand_over: bool,
        /// Why: a name of `surface::policy::Reason`.
        reason: Text<12>,
    },
    /// All commits of a surface up to this one are open: nothing keeps them from being applied.
    Open {
        /// The surface.
        surface: u32,
        /// The newest commit's id on it.
        id: u64,
    },
    /// The commits of a surface up to this one are applied; the newest of them is its content.
    Apply {
        /// The surface.
        surface: u32,
        /// The newest commit's id on it.
        id: u64,
    },
    /// A surface is gone.
    Destroy {
        /// Which.
        surface: u32,
    },
    /// An acquire fence ended with an error.
    Failed {
        /// The surface.
        surface: u32,
        /// The commit's id on it.
        id: u64,
        /// A negative errno.
        errno: i32,
    },
    /// The CPU has copied a buffer, and nobody reads it any more for this commit.
    Copy {
        /// Which commit's.
        commit: CommitNumber,
    },
    /// An output, or a screen capture, begins to make a picture of what is there.
    Latch {
        /// The output.
        output: u32,
        /// The frame's number from now on.
        frame: FrameNumber,
    },
    /// A buffer is read for a frame.
    Read {
        /// The frame.
        frame: FrameNumber,
        /// Whose buffer.
        commit: CommitNumber,
        /// By whom.
        by: Reader,
    },
    /// A commit will be on the screen for the first time with the output's next flip.
    Show {
        /// The output.
        output: u32,
        /// Which.
        commit: CommitNumber,
    },
    /// The GPU has been given the pass of a frame.
    Render {
        /// The frame.
        frame: FrameNumber,
        /// It ends with a fence; else it was over when this was noted.
        fence: bool,
    },
    /// A frame was committed to KMS, or to a virtual output.
    Kms {
        /// The output.
        output: u32,
        /// The frame.
        frame: FrameNumber,
        /// How many fences the kernel was given to wait for.
        in_fences: u8,
        /// The kernel gave an out-fence.
        out_fence: bool,
    },
    /// A frame is on the screen.
    Flip {
        /// The output.
        output: u32,
        /// The frame.
        frame: FrameNumber,
        /// When, by the kernel's timestamp.
        at: u64,
        /// The vblank counter. It wraps.
        sequence: u32,
    },
    /// A refresh was missed by a frame that was begun at the last moment.
    Missed {
        /// The output.
        output: u32,
    },
    /// An output is off: it scans nothing out any more.
    Dark {
        /// Which.
        output: u32,
    },
    /// Nobody will start a use of a commit's buffer any more: its release is settled.
    Release {
        /// Which commit's.
        commit: CommitNumber,
        /// How.
        how: How,
    },
    /// A release that had waited in the event loop is carried out.
    Released {
        /// Which commit's.
        commit: CommitNumber,
    },
    /// A release point cannot be signalled, and its client is disconnected.
    Lost {
        /// Which commit's.
        commit: CommitNumber,
    },
    /// A fence has signalled.
    Signal {
        /// What it is for.
        fence: Role,
        /// The commit or the frame.
        of: u64,
        /// When, by the kernel's timestamp. Where that has none of its own, when the fence was seen pending last: a point
        /// that a process signals has the time of the kernel's stub.
        at: u64,
        /// The driver that made it; empty where the kernel no longer says.
        driver: Text<16>,
        /// The driver's timeline that it is on; 0 where the kernel does not say.
        context: u64,
        /// Its place there.
        seqno: u64,
    },
    /// At the end of the trace a fence was still pending.
    Pending {
        /// What it is for.
        fence: Role,
        /// The commit or the frame.
        of: u64,
    },
    /// When a fence signals will not be known: too many are watched, or the kernel does not say.
    Unwatched {
        /// What it is for.
        fence: Role,
        /// The commit or the frame.
        of: u64,
    },
    /// The run has ended in order: all releases have been settled.
    End,
}

/// A short text, without an allocation. What does not fit is cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// No text.
    pub const EMPTY: Self = Self([0; N]);

    /// The first `N` bytes of `text`, cut at a character.
    pub fn new(text: &str) -> Self {
        let mut end = text.len().min(N);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = [0; N];
        for (to, from) in bytes.iter_mut().zip(text.bytes().take(end)) {
            *to = from;
        }
        Self(bytes)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let text = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, const N: usize> Deserialize<'de> for Text<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        if text.len() > N {
            return Err(D::Error::custom(format_args!("a text of more than {N} bytes")));
        }
        Ok(Self::new(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 96, "{} bytes", size_of::<Entry>());
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        assert_eq!(Text::<4>::new("HDMI-A-1").as_str(), "HDMI");
        assert_eq!(Text::<4>::new("abcß").as_str(), "abc");
        assert_eq!(Text::<4>::new("").as_str(), "");
    }

    #[test]
    fn an_entry_is_one_flat_object_and_reads_as_it_was_written() {
        let event = Event::Commit {
            commit: 7,
            pid: 42,
            surface: 1,
            id: 3,
            buffer: 12,
            sync: SyncKind::Explicit,
            fences: 1,
            acquire: Some(PointName { timeline: 2, point: u64::MAX }),
            release: None,
        };
        let entry = Entry { t: 5, event };
        let json = serde_json::to_string(&entry).expect("JSON");
        assert!(json.starts_with(r#"{"t":5,"event":"commit","commit":7,"pid":42,"#), "{json}");
        assert_eq!(serde_json::from_str::<Entry>(&json).expect("an entry"), entry);
    }
}
