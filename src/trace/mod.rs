//! What happened: every hand-over of the chain as an event, and counts and times per client.
//!
//! Owns the [events](event) and their [ring](tracer), what becomes of them (a [file], a [dump]), what can be read from them
//! (the [story] of each commit, the [audit] of the invariants, the [summary]), and the record of a run, written as JSON when
//! it ends. May be used by every layer; decides nothing.

pub mod audit;
pub mod command;
pub mod dump;
pub mod event;
pub mod file;
pub mod perfetto;
mod record;
pub mod story;
pub mod stream;
pub mod summary;
pub mod tracer;

use std::time::Duration;

pub use event::{CommitNumber, Event, FrameNumber, Reader, SyncKind, Text};
pub use record::{Acquires, ClientRecord, Committed, OutputRecord, Record, Released};
pub use tracer::{Times, latch, next_surface, note, output, rendered};

/// The time on CLOCK_MONOTONIC: that of KMS flips, of presentation times and of fences.
pub fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

/// [`now`] as input events have it: in milliseconds, which wrap.
#[expect(clippy::cast_possible_truncation, reason = "the wire's milliseconds wrap")]
pub fn now_ms() -> u32 {
    now().as_millis() as u32
}
