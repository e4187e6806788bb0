//! The words for what the protocol says in numbers.
//!
//! Owns the words, for people and for JSON alike.

use serde::Serializer;
use wayland_client::WEnum;

use crate::protocol::client::fencepost_debug_v1::{Buffer, Cause, CommitState, OutputState, Policy};

/// What there is a word for.
pub trait Word {
    /// The word.
    fn word(&self) -> &'static str;
}

impl<W: Word> Word for WEnum<W> {
    fn word(&self) -> &'static str {
        match self {
            Self::Value(value) => value.word(),
            Self::Unknown(_) => "unknown",
        }
    }
}

impl Word for OutputState {
    fn word(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Idle => "idle",
            Self::Scheduled => "scheduled",
            Self::Latching => "latching",
            Self::InFlight => "in-flight",
        }
    }
}

impl Word for Buffer {
    fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Shm => "shm",
            Self::Dmabuf => "dmabuf",
            Self::Pixel => "pixel",
        }
    }
}

impl Word for Policy {
    fn word(&self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Wait => "wait",
            Self::HandOver => "hand-over",
        }
    }
}

impl Word for CommitState {
    fn word(&self) -> &'static str {
        match self {
            Self::Unmaterialised => "unmaterialised",
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Ready => "ready",
            Self::Applied => "applied",
            Self::Latched => "latched",
            Self::Shown => "shown",
        }
    }
}

impl Word for Cause {
    fn word(&self) -> &'static str {
        match self {
            Self::Point => "point",
            Self::Fence => "fence",
            Self::DmaBuf => "dma-buf",
            Self::Barrier => "barrier",
            Self::Time => "time",
            Self::Order => "order",
            Self::Tree => "tree",
            Self::HandedOver => "handed-over",
        }
    }
}

/// For serde: the word, as a string.
pub(super) fn as_word<S: Serializer>(what: &impl Word, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(what.word())
}
