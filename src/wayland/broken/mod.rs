//! Rules that a test has us break, to see that it would notice. Only in builds for the guest's tests.
//!
//! Owns all of it: which rules there are, which one is broken, and how: [`commit`] what a commit meets, [`object`] what
//! requests are answered. One rule for each invariant of ARCHITECTURE.md that the chain is tested for, and one for each that
//! `fencepost probe` tests, or for a few that are kept in one place.

pub mod commit;
pub mod object;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{OnceLock, PoisonError, RwLock},
};

use clap::ValueEnum;

/// A rule to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BrokenRule {
    /// I1: commits apply without waiting for their acquire fences.
    Acquire,
    /// I2: buffers are released when they are committed.
    Release,
    /// I2: the same, but what was given back is used as if it were not, by planes, too.
    ReleaseUsed,
    /// I3: releases are forgotten.
    Forget,
    /// I4: a commit that is ready overtakes those that are not.
    Order,
    /// I5: all of the compositor waits for an acquire fence, for a while.
    Hold,
    /// I5: while any acquire fence pends, everything takes longer.
    Slow,
    /// I8: what is unusual brings the compositor to a halt, for a while.
    Stumble,
    /// I8: a client that goes with timelines brings the compositor to a halt, for a while.
    Gone,
    /// S1: a surface may have two syncobj, fifo or commit timer objects.
    SurfaceExists,
    /// S1: a client may have one syncobj object, ever.
    OneSurface,
    /// S1: a surface whose syncobj, fifo or commit timer object is destroyed counts as one that has it.
    Stays,
    /// S2: any file descriptor is a timeline.
    InvalidTimeline,
    /// S2: no file descriptor is a timeline.
    NoTimeline,
    /// S3: what is asked for destroyed surfaces is ignored.
    NoSurface,
    /// S3: destroying a syncobj object is an error.
    SyncDestroyed,
    /// S4: buffers without explicit sync are synchronised without.
    UnsupportedBuffer,
    /// S4: dma-bufs cannot have points.
    UnsupportedDmabuf,
    /// S5: points and release callbacks without a buffer are ignored.
    NoBuffer,
    /// S5: a commit with neither buffer nor points is an error.
    NoPoints,
    /// S6: a buffer without an acquire point is synchronised implicitly.
    NoAcquirePoint,
    /// S7: a buffer with an acquire point only is synchronised implicitly.
    NoReleasePoint,
    /// S8: points in the wrong order are ignored.
    ConflictingPoints,
    /// S8: any two points conflict.
    AnyPoints,
    /// P1: a client that destroys a global's object is sent away.
    MakerDestroyed,
    /// P2: the points of a destroyed timeline count as signalled.
    TimelineDestroyed,
    /// P4: of points that are set twice the first ones count.
    FirstWins,
    /// P6: a buffer that is committed again is released once.
    PerBuffer,
    /// P7: a commit that waits is released after its acquire fences, whatever becomes of its surface.
    KeepWaiting,
    /// P7: a client is sent away that destroys a surface whose commit waits.
    WaitingDestroyed,
    /// P9: points have 32 bits.
    ShortPoints,
    /// P9: a release point 0 stands for the timeline's other points.
    ZeroPoint,
    /// P12: a point that has a fence counts as signalled.
    Materialised,
    /// P12: the point before is waited for.
    PointBefore,
    /// D1: what is asked of used params is ignored.
    AlreadyUsed,
    /// D2: planes that cannot be are ignored.
    PlaneIdx,
    /// D3: planes that are set already are ignored.
    PlaneSet,
    /// D4: incomplete buffers are not answered.
    Incomplete,
    /// D5: wrong formats and modifiers are not answered.
    InvalidFormat,
    /// D6: wrong sizes are not answered.
    InvalidDimensions,
    /// D7: planes outside their dma-bufs are not answered.
    OutOfBounds,
    /// D8: what cannot be imported is told by another error.
    InvalidWlBuffer,
    /// D9: devices of any size are ignored.
    InvalidDevTSize,
    /// D9: naming a device that is not sampled on is an error.
    UnknownDevice,
    /// linux-dmabuf: no tranche is for sampling.
    Sampling,
    /// linux-dmabuf: buffers that are made are answered `failed`, too.
    AnswersTwice,
    /// linux-dmabuf: params that are destroyed unused are an error.
    Cancel,
    /// linux-dmabuf: a modifier is sent twice at bind, and in every version.
    BoundFormats,
    /// linux-dmabuf: every feedback is sent twice.
    SentTwice,
    /// linux-dmabuf: the main device is one that no tranche has.
    MainDevice,
    /// linux-dmabuf: tranches have their first pair twice.
    Duplicates,
    /// linux-dmabuf: destroying a feedback object is an error.
    FeedbackDestroyed,
    /// presentation-time: the clock is one that there is not.
    Clock,
    /// presentation-time: of several feedbacks of one commit the first is forgotten.
    Feedback,
    /// presentation-time: times are those of a second ago.
    PresentedEarly,
    /// presentation-time: everything is zero_copy.
    ZeroCopy,
    /// presentation-time: the feedback of destroyed surfaces is forgotten.
    Unanswered,
    /// single-pixel-buffer-v1: such buffers are never ready.
    SinglePixel,
    /// fifo-v1: barriers are ignored.
    Fifo,
    /// fifo-v1: who waits for a barrier waits for ever.
    NoBarrier,
    /// fifo-v1: synchronised subsurfaces wait for barriers.
    SubsurfaceBarrier,
    /// commit-timing-v1: times are ignored.
    CommitTiming,
    /// commit-timing-v1: times that have passed are never reached.
    Past,
    /// commit-timing-v1: a time is not reached before something is drawn.
    Asleep,
    /// commit-timing-v1: a time holds for all commits that follow.
    TimestampStays,
    /// commit-timing-v1: a second has any number of nanoseconds.
    InvalidTimestamp,
    /// commit-timing-v1: a commit may be given several times.
    TimestampExists,
}

static BROKEN: RwLock<Option<BrokenRule>> = RwLock::new(None);
static FILE: OnceLock<PathBuf> = OnceLock::new();

/// Breaks a rule from now on, and no other; or none.
pub fn set(rule: Option<BrokenRule>) {
    let before = std::mem::replace(&mut *BROKEN.write().unwrap_or_else(PoisonError::into_inner), rule);
    if before != rule {
        tracing::debug!("broken from now on: {rule:?}");
        commit::forget();
    }
}

/// From now on the rule is broken that `file` names, as `--break-rule` does, now and whenever a client connects; none if it
/// names none. A test can break one rule after the other without starting a compositor for each.
pub fn follow(file: &Path) {
    FILE.get_or_init(|| file.to_owned());
    connected();
}

/// A client connects.
pub fn connected() {
    if let Some(file) = FILE.get() {
        let name = fs::read_to_string(file).unwrap_or_default();
        set(BrokenRule::from_str(name.trim(), false).ok());
    }
}

/// Whether a rule is broken.
pub fn is(rule: BrokenRule) -> bool {
    broken() == Some(rule)
}

fn broken() -> Option<BrokenRule> {
    *BROKEN.read().unwrap_or_else(PoisonError::into_inner)
}
