//! What happened: counts and times per client.
//!
//! Owns the record of a run, written as JSON when it ends. May be used by every layer; decides nothing.

mod record;

use std::time::Duration;

pub use record::{ClientRecord, Record, Released, SyncKind};

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
