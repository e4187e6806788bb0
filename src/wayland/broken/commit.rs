//! What a commit meets when a rule is broken: its points, its fences, its release and its constraints.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use smithay::{
    backend::allocator::dmabuf::Dmabuf,
    reexports::wayland_server::{
        Resource,
        backend::ObjectId,
        protocol::{wl_callback::WlCallback, wl_surface::WlSurface},
    },
    wayland::compositor::is_sync_subsurface,
};

use super::{BrokenRule, broken};
use crate::{
    buffer::{ClientBuffer, Lease, Ledger, release::Release},
    compositor::Compositor,
    fence::{Fence, release::Target, roles::AcquireFence, timeline::Point, timeline::Timeline},
    surface::{Attached, Constraints, PointOrder, Sync, Violation, validate as keep},
    wayland::{
        commit::{SurfaceSync, with_sync},
        drm_syncobj::Points,
    },
};

/// How long a broken compositor stands still for a fence: longer than a busy machine does by itself.
const HELD: Duration = Duration::from_secs(2);

/// How much longer everything takes while a fence pends: so many refreshes that nobody has to measure for long.
const SLOWED: Duration = Duration::from_millis(150);

/// How long a compositor that stumbles stands still: longer than the probe that tests this waits.
const HALTED: Duration = Duration::from_secs(3);

/// Times that are not reached.
const NEVER: Duration = Duration::from_secs(1 << 32);

thread_local! {
    static WAITING: RefCell<Vec<(Option<Lease>, Vec<AcquireFence>)>> = const { RefCell::new(Vec::new()) };
    static LAST: RefCell<HashMap<ObjectId, Dmabuf>> = RefCell::default();
}

/// Stands still where a rule is broken that says so.
pub fn stumble(is_unusual: bool) {
    if is_unusual && broken() == Some(BrokenRule::Stumble) {
        thread::sleep(HALTED);
    }
}

/// As [`stumble`], when a client has gone.
pub fn gone(has_timelines: bool) {
    if has_timelines && broken() == Some(BrokenRule::Gone) {
        thread::sleep(HALTED);
    }
}

/// Another rule is broken from now on.
pub(super) fn forget() {
    WAITING.take();
    LAST.take();
}

fn all_done(fences: &[AcquireFence]) -> bool {
    fences.iter().all(|fence| fence.status().is_done())
}

/// Forgets those that are done, and says whether any is left.
fn any_waits() -> bool {
    WAITING.with_borrow_mut(|waiting| {
        waiting.retain(|(_, fences)| !all_done(fences));
        !waiting.is_empty()
    })
}

/// What a commit brings.
pub fn content(
    state: &Compositor,
    surface: &WlSurface,
    buffer: &ClientBuffer,
    lease: Option<Lease>,
    fences: Vec<AcquireFence>,
) -> (Option<Lease>, Vec<AcquireFence>) {
    match broken() {
        Some(BrokenRule::Acquire) => return (lease, Vec::new()),
        Some(BrokenRule::Release) => return (None, fences),
        Some(BrokenRule::ReleaseUsed) => return (lease.as_ref().and_then(stand_in), fences),
        Some(BrokenRule::Forget) => {
            std::mem::forget(lease);
            return (None, fences);
        }
        Some(BrokenRule::PerBuffer) if is_shown_again(surface, buffer) => {
            std::mem::forget(lease);
            return (None, fences);
        }
        Some(BrokenRule::Order) if all_done(&fences) => with_sync(surface, SurfaceSync::overtake),
        Some(BrokenRule::Hold) => {
            let start = Instant::now();
            while !all_done(&fences) && start.elapsed() < HELD {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Some(BrokenRule::KeepWaiting) if !all_done(&fences) => {
            any_waits();
            WAITING.with_borrow_mut(|waiting| waiting.push((lease.clone(), fences.clone())));
        }
        Some(BrokenRule::Slow) => {
            if any_waits() {
                thread::sleep(SLOWED);
            }
            WAITING.with_borrow_mut(|waiting| waiting.push((None, fences.clone())));
        }
        Some(BrokenRule::SinglePixel) if matches!(buffer, ClientBuffer::Pixel(_)) => {
            return (lease, never(state).into_iter().collect());
        }
        Some(BrokenRule::Materialised) => {
            let early = fences.into_iter().map(|fence| materialised(state, &fence).unwrap_or(fence));
            return (lease, early.collect());
        }
        Some(BrokenRule::PointBefore) => return (lease, fences.into_iter().map(before).collect()),
        _ => {}
    }
    (lease, fences)
}

/// A share that nobody waits for, in a buffer that is given back.
fn stand_in(lease: &Lease) -> Option<Lease> {
    let Release { buffer, commit, held, .. } = lease.target()?;
    let release = Release {
        target: Target::Nothing,
        buffer: buffer.clone(),
        callbacks: Vec::new(),
        commit: *commit,
        held: Rc::clone(held),
    };
    Some(Lease::new(release, &Ledger::default()))
}

fn is_shown_again(surface: &WlSurface, buffer: &ClientBuffer) -> bool {
    let ClientBuffer::Dmabuf(client) = buffer else { return false };
    let last = LAST.with_borrow_mut(|last| last.insert(surface.id(), client.dmabuf.clone()));
    last.as_ref() == Some(&client.dmabuf)
}

fn never(state: &Compositor) -> Option<AcquireFence> {
    let timeline = Timeline::create(state.globals.syncobj.as_ref()?).ok()?;
    Some(AcquireFence::Point(timeline.point(1)))
}

/// One that signals when the other has a fence.
fn materialised(state: &Compositor, fence: &AcquireFence) -> Option<AcquireFence> {
    let AcquireFence::Point(point) = fence else { return None };
    let stand_in = Timeline::create(state.globals.syncobj.as_ref()?).ok()?.point(1);
    let (point, early) = (point.clone(), stand_in.clone());
    thread::spawn(move || {
        let start = Instant::now();
        while !point.is_materialised() && start.elapsed() < HALTED {
            thread::sleep(Duration::from_millis(2));
        }
        early.signal()
    });
    Some(AcquireFence::Point(stand_in))
}

fn before(fence: AcquireFence) -> AcquireFence {
    match fence {
        AcquireFence::Point(point) if point.value() > 1 => {
            AcquireFence::Point(point.timeline().point(point.value() - 1))
        }
        other => other,
    }
}

/// What a commit demands besides its fences.
pub fn constraints(surface: &WlSurface, attached: Attached, asked: Constraints) -> Constraints {
    match broken() {
        Some(BrokenRule::Order) if attached == Attached::Nothing => {
            with_sync(surface, SurfaceSync::overtake);
            asked
        }
        Some(BrokenRule::Fifo) => Constraints { set_barrier: false, wait_barrier: false, ..asked },
        Some(BrokenRule::NoBarrier) if asked.wait_barrier => Constraints { not_before: Some(NEVER), ..asked },
        Some(BrokenRule::SubsurfaceBarrier) if asked.wait_barrier && is_sync_subsurface(surface) => {
            Constraints { not_before: Some(NEVER), ..asked }
        }
        Some(BrokenRule::CommitTiming) => Constraints { not_before: None, ..asked },
        Some(BrokenRule::Past) if asked.not_before.is_some_and(|time| time < crate::trace::now()) => {
            Constraints { not_before: Some(NEVER), ..asked }
        }
        Some(BrokenRule::TimestampStays) => {
            with_sync(surface, |sync| sync.pacing.pending.not_before = asked.not_before);
            asked
        }
        _ => asked,
    }
}

/// The callbacks that a commit brings.
pub fn callbacks(attached: Attached, callbacks: Vec<WlCallback>) -> Vec<WlCallback> {
    match (broken(), attached) {
        (Some(BrokenRule::NoBuffer), Attached::Nothing | Attached::Null) => Vec::new(),
        _ => callbacks,
    }
}

/// The points that count of those that were set twice.
pub fn set_again(points: &mut Points, before: Points) {
    if broken() == Some(BrokenRule::FirstWins) {
        points.acquire = before.acquire.or(points.acquire.take());
        points.release = before.release.or(points.release.take());
    }
}

/// [`validate`](crate::surface::validate), or what is broken instead of it.
pub fn validate(
    is_explicit: bool,
    attached: Attached,
    acquire: Option<Point>,
    release: Option<Point>,
) -> Result<Sync<Point>, Violation> {
    let mut points = Points { acquire, release };
    stumble(points.release.as_ref().is_some_and(is_unusual));
    mangle(&mut points);
    if let Some(violation) =
        broken().filter(|_| is_explicit).and_then(|rule| invented(rule, attached, &points))
    {
        return Err(violation);
    }
    // What is overlooked makes it a commit of a surface without explicit sync.
    keep(is_explicit && !overlooks(attached, &points), attached, points.acquire, points.release)
}

/// At the end of the range, or the last of many.
fn is_unusual(point: &Point) -> bool {
    const MANY: u64 = 40;
    point.value() == u64::MAX || point.value() == MANY
}

fn mangle(points: &mut Points) {
    let short = |point: Point| point.timeline().point(point.value() & u64::from(u32::MAX));
    match broken() {
        Some(BrokenRule::ShortPoints) => {
            points.acquire = points.acquire.take().map(short);
            points.release = points.release.take().map(short);
        }
        Some(BrokenRule::ZeroPoint) => {
            let all = |point: Point| match point.value() {
                0 => point.timeline().point(u64::MAX),
                _ => point,
            };
            points.release = points.release.take().map(all);
        }
        _ => {}
    }
}

/// Violations that are none.
fn invented(rule: BrokenRule, attached: Attached, points: &Points) -> Option<Violation> {
    let (has_acquire, has_release) = (points.acquire.is_some(), points.release.is_some());
    match (rule, attached) {
        (BrokenRule::UnsupportedDmabuf, Attached::Explicit) => Some(Violation::UnsupportedBuffer),
        (BrokenRule::NoPoints, Attached::Nothing) if !has_acquire && !has_release => {
            Some(Violation::NoBuffer)
        }
        (BrokenRule::AnyPoints, Attached::Explicit) if has_acquire && has_release => {
            Some(Violation::ConflictingPoints)
        }
        _ => None,
    }
}

/// Whether a violation is overlooked.
fn overlooks(attached: Attached, points: &Points) -> bool {
    use Attached::*;

    let (acquire, release) = (&points.acquire, &points.release);
    let is_reversed = || {
        acquire
            .as_ref()
            .zip(release.as_ref())
            .is_some_and(|(acquire, release)| acquire.conflicts_with(release))
    };
    match broken() {
        Some(BrokenRule::UnsupportedBuffer) => attached == ImplicitOnly,
        Some(BrokenRule::NoBuffer) => matches!(attached, Nothing | Null),
        Some(BrokenRule::NoAcquirePoint) => attached == Explicit && acquire.is_none(),
        Some(BrokenRule::NoReleasePoint) => attached == Explicit && acquire.is_some() && release.is_none(),
        Some(BrokenRule::ConflictingPoints) => attached == Explicit && is_reversed(),
        _ => false,
    }
}
