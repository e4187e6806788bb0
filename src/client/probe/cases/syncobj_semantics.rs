//! What the points of linux-drm-syncobj-v1 mean: when a commit is shown, and when its buffer is released.

use crate::client::probe::Probe;
use crate::client::probe::app::{Fate, Watched};
use crate::client::probe::case::{Case, case};
use crate::client::probe::connection::inbox;
use crate::client::probe::sync_app::{SharedTimeline, Stage, set_acquire, set_release};
use crate::client::probe::verdict::{Outcome, Stop};

const MANAGER_DESTROY: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_manager_v1.destroy";
const TIMELINE_DESTROY: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_timeline_v1.destroy";
const DESTROY: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_surface_v1.destroy";
const ACQUIRE: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_surface_v1.set_acquire_point";
const RELEASE: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_surface_v1.set_release_point";
const ORDER: &str = "wayland: wl_surface.commit; linux-drm-syncobj-v1: set_acquire_point";
const SUBSURFACE: &str = "wayland: wl_subsurface; linux-drm-syncobj-v1: set_acquire_point";

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("syncobj.p1.manager-destroyed", "destroying the manager affects no other object", MANAGER_DESTROY, p1_manager_destroyed),
    case("syncobj.p2.pending", "destroying a timeline does not unset pending points", TIMELINE_DESTROY, p2_pending).thrice(),
    case("syncobj.p2.committed", "destroying a timeline does not unset committed points", TIMELINE_DESTROY, p2_committed).thrice(),
    case("syncobj.p3.committed", "committed points hold when the syncobj object is destroyed", DESTROY, p3_committed).thrice(),
    case("syncobj.p4.last-wins", "of points that are set twice before a commit the last ones count", ACQUIRE, p4_last_wins).thrice(),
    case("syncobj.p4.subsurface", "the points of a synchronised subsurface hold for its cached commit", SUBSURFACE, p4_subsurface).thrice(),
    case("syncobj.p4.cached-twice", "a cached commit that another replaced is released", SUBSURFACE, p4_cached_twice),
    case("syncobj.p5.first", "the first commit of a window is not shown before its acquire point has signalled", ACQUIRE, p5_first),
    case("syncobj.p5.next", "no later commit is shown before its acquire point has signalled", ACQUIRE, p5_next),
    case("syncobj.p5.frame", "no frame callback comes for a commit that still waits", ACQUIRE, p5_frame),
    case("syncobj.p6.replaced", "the buffer of a commit is released when another has replaced it", RELEASE, p6_replaced),
    case("syncobj.p6.per-commit", "each commit of one buffer has its own release", RELEASE, p6_per_commit),
    case("syncobj.p6.not-before-acquire", "a commit that will be shown is not released before its acquire point", RELEASE, p6_not_before_acquire),
    case("syncobj.p6.no-overtaking", "releasing one commit signals no later release point", RELEASE, p6_no_overtaking).thrice(),
    case("syncobj.p7.superseded", "commits that are replaced before they are shown are released, too", RELEASE, p7_superseded),
    case("syncobj.p7.unmapped", "attach(NULL) releases what was shown", RELEASE, p7_unmapped),
    case("syncobj.p7.surface-destroyed", "the end of a surface releases what was shown", RELEASE, p7_surface_destroyed),
    case("syncobj.p7.waiting-destroyed", "the end of a surface releases a commit that still waits", RELEASE, p7_waiting_destroyed).thrice(),
    case("syncobj.p7.buffer-destroyed", "a release point signals also when the wl_buffer is destroyed", RELEASE, p7_buffer_destroyed),
    case("syncobj.p7.disconnected", "the end of a connection releases what was shown", RELEASE, p7_disconnected),
    case("syncobj.p9.64-bits", "points have 64 bits", ACQUIRE, p9_64_bits),
    case("syncobj.p9.zero", "a release point 0 leaves the timeline as it was", RELEASE, p9_zero),
    case("syncobj.p12.late-fence", "a point may get its fence after the commit, and is waited for until that signals", ACQUIRE, p12_late_fence).thrice(),
    case("syncobj.p12.overtaken", "an acquire point has signalled when a later one has", ACQUIRE, p12_overtaken).thrice(),
    case("syncobj.p13.order", "a commit that is ready waits for the one before", ORDER, p13_order),
    case("syncobj.p13.order-without-buffer", "a commit without a buffer waits for the one before", ORDER, p13_order_without_buffer).thrice(),
    case("syncobj.p13.order-implicit", "an implicit commit waits for the explicit one before", ORDER, p13_order_implicit).thrice(),
];

/// Often enough to meet a frame at any time.
const ROUNDS: u64 = 3;

const NOT_SIGNALLED: &str = "its acquire point had not signalled";

fn waited_and_shown() -> Outcome {
    Ok("waited, then shown and released".into())
}

fn p1_manager_destroyed(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    stage.app.manager.destroy();
    stage.show_ready(2)?;
    stage.app.until_signalled((&stage.release, 1), "after the manager is destroyed")?;
    Ok("shown and released".into())
}

/// Waits, is signalled, is shown, and is released with the window.
fn waits_and_ends(probe: &mut Probe, stage: &mut Stage, commit: &Watched) -> Outcome {
    stage.stays_away(probe, commit, NOT_SIGNALLED)?;
    stage.acquire.signal(1)?;
    stage.app.app.until_shown(commit, "after its acquire point has signalled")?;
    stage.window.destroy();
    stage.app.until_signalled((&stage.release, 1), "when the surface is gone")?;
    waited_and_shown()
}

fn p2_pending(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    set_acquire(&stage.sync, (&stage.acquire, 1));
    set_release(&stage.sync, (&stage.release, 1));
    stage.acquire.object.destroy();
    stage.release.object.destroy();
    let commit = stage.app.app.show(&stage.window.surface, &stage.buffer);
    waits_and_ends(probe, &mut stage, &commit)
}

fn p2_committed(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    let commit = stage.show_at(1);
    stage.acquire.object.destroy();
    stage.release.object.destroy();
    waits_and_ends(probe, &mut stage, &commit)
}

fn p3_committed(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    let commit = stage.show_at(1);
    stage.sync.destroy();
    waits_and_ends(probe, &mut stage, &commit)
}

fn p4_last_wins(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    let dropped = stage.app.timeline(probe)?;
    set_acquire(&stage.sync, (&dropped, 1));
    set_release(&stage.sync, (&dropped, 2));
    let commit = stage.show_at(1);
    stage.app.app.client.roundtrip()?;
    dropped.signal(1)?;
    stage.stays_away(probe, &commit, "only a replaced acquire point had signalled")?;
    stage.acquire.signal(1)?;
    stage.app.app.until_shown(&commit, "after its acquire point has signalled")?;
    stage.window.destroy();
    stage.app.until_signalled((&stage.release, 1), "when the surface is gone")?;
    match dropped.has_signalled(2) {
        true => Err(Stop::fail("a release point that was replaced has signalled")),
        false => waited_and_shown(),
    }
}

fn p4_subsurface(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    let (child, role) = stage.app.app.subsurface(&stage.window.surface)?;
    let sync = stage.app.sync_surface(&child);
    let commit = stage.app.show(&child, &sync, &stage.buffer, ((&stage.acquire, 2), (&stage.release, 2)));
    stage.app.app.client.roundtrip()?;
    stage.window.surface.commit();
    stage.stays_away(probe, &commit, NOT_SIGNALLED)?;
    stage.acquire.signal(2)?;
    stage.app.app.until_shown(&commit, "after its acquire point has signalled")?;
    // A role that is destroyed after its surface may be an error.
    role.destroy();
    child.destroy();
    stage.app.until_signalled((&stage.release, 2), "when the subsurface is gone")?;
    waited_and_shown()
}

fn p4_cached_twice(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    let (child, _role) = stage.app.app.subsurface(&stage.window.surface)?;
    let sync = stage.app.sync_surface(&child);
    let (buffer, replaced) = (stage.other_buffer(probe)?, stage.app.timeline(probe)?);
    stage.acquire.signal(3)?;
    stage.app.show(&child, &sync, &buffer, ((&stage.acquire, 2), (&replaced, 1)));
    let commit = stage.app.show(&child, &sync, &stage.buffer, ((&stage.acquire, 3), (&stage.release, 3)));
    stage.window.surface.commit();
    stage.app.app.until_shown(&commit, "with its parent")?;
    stage.app.until_signalled((&replaced, 1), "when another cached commit has replaced its own")?;
    Ok("released".into())
}

fn p5_first(probe: &mut Probe) -> Outcome {
    for _ in 0..ROUNDS {
        let mut stage = Stage::new(probe)?;
        let commit = stage.show_at(1);
        waits_and_ends(probe, &mut stage, &commit)?;
    }
    Ok(format!("waited, then shown, {ROUNDS} times"))
}

fn p5_next(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    for value in 2..2 + ROUNDS {
        let commit = stage.show_at(value);
        stage.stays_away(probe, &commit, NOT_SIGNALLED)?;
        stage.acquire.signal(value)?;
        stage.app.app.until_shown(&commit, "after its acquire point has signalled")?;
    }
    Ok(format!("waited, then shown, {ROUNDS} times"))
}

fn p5_frame(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    let commit = stage.show_at(2);
    stage.stays_away(probe, &commit, NOT_SIGNALLED)?;
    if inbox(&commit.frame, |events| !events.is_empty()) {
        return Err(Stop::fail("the frame callback came although the acquire point had not signalled"));
    }
    stage.acquire.signal(2)?;
    let came = || inbox(&commit.frame, |events| events.len() == 1);
    stage.app.app.client.until("the frame callback comes after the acquire point", came)?;
    Ok("came after the acquire point".into())
}

fn p6_replaced(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    for value in 1..=8 {
        stage.show_ready(value)?;
        if value > 1 {
            stage.app.until_signalled((&stage.release, value - 1), "when another commit is shown")?;
        }
    }
    Ok("7 commits released".into())
}

fn p6_per_commit(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    for value in 1..=4 {
        stage.acquire.signal(value)?;
        let commit = stage.show_at(value);
        stage.app.app.until_shown(&commit, "when its acquire point has signalled before")?;
        if value > 1 {
            stage.app.until_signalled((&stage.release, value - 1), "when the buffer is committed again")?;
        }
    }
    stage.window.destroy();
    stage.app.until_signalled((&stage.release, 4), "when the surface is gone")?;
    Ok("4 commits of one buffer, 4 releases".into())
}

fn p6_not_before_acquire(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    for value in 2..2 + ROUNDS {
        let commit = stage.show_at(value);
        stage.stays_away(probe, &commit, NOT_SIGNALLED)?;
        let early = stage.release.has_signalled(value);
        stage.acquire.signal(value)?;
        stage.app.app.until_shown(&commit, "after its acquire point has signalled")?;
        if early {
            return Err(Stop::fail(
                "the release point signalled before the acquire point of a commit that was shown later",
            ));
        }
    }
    Ok("no release before the acquire point".into())
}

fn p6_no_overtaking(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    // One timeline for every release: the compositor may signal the points that are due, and no more.
    stage.show_ready(1)?;
    stage.show_ready(2)?;
    let waiting = stage.show_at(10);
    stage.app.until_signalled((&stage.release, 1), "when another commit is shown")?;
    stage.stays_away(probe, &waiting, NOT_SIGNALLED)?;
    match stage.release.has_signalled(10) {
        true => Err(Stop::fail(
            "release point 10 has signalled although its commit waits; only 1 and 2 can be due",
        )),
        false => Ok("only what is due has signalled".into()),
    }
}

fn p7_superseded(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.acquire.signal(50)?;
    let releases = (0..10).map(|_| stage.app.timeline(probe)).collect::<Result<Vec<SharedTimeline>, _>>()?;
    let mut commits: Vec<Watched> = Vec::new();
    for release in &releases {
        stage.buffer = stage.other_buffer(probe)?;
        commits.push(stage.show((&stage.acquire, 1), (release, 1)));
    }
    if let Some(last) = commits.last() {
        stage.app.app.until_shown(last, "when it is the last of many")?;
    }
    let replaced = releases.len().saturating_sub(1);
    for release in releases.iter().take(replaced) {
        stage.app.until_signalled((release, 1), "when other commits have replaced its own")?;
    }
    let shown = commits.iter().filter(|commit| commit.is_shown()).count();
    Ok(format!(
        "of {} commits in a row {shown} were shown, and {replaced} replaced ones released",
        commits.len()
    ))
}

fn p7_unmapped(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    stage.window.surface.attach(None, 0, 0);
    stage.window.surface.commit();
    stage.app.until_signalled((&stage.release, 1), "after attach(NULL)")?;
    Ok("released".into())
}

fn p7_surface_destroyed(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    stage.window.destroy();
    stage.app.until_signalled((&stage.release, 1), "when the surface is gone")?;
    Ok("released".into())
}

fn p7_waiting_destroyed(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    let commit = stage.show((&stage.acquire, 2), (&stage.release, 2));
    stage.stays_away(probe, &commit, NOT_SIGNALLED)?;
    stage.window.destroy();
    stage.app.until_signalled(
        (&stage.release, 2),
        "when the surface is gone, whatever became of the acquire point",
    )?;
    Ok("released without its acquire point".into())
}

fn p7_buffer_destroyed(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    let other = stage.other_buffer(probe)?;
    let waiting = stage.show_at(1);
    stage.buffer.destroy();
    stage.stays_away(probe, &waiting, NOT_SIGNALLED)?;
    stage.acquire.signal(1)?;
    // What is shown of a destroyed wl_buffer is not defined; that it is given back is.
    stage.app.app.client.roundtrip()?;
    stage.buffer = other;
    stage.show_ready(2)?;
    stage.app.until_signalled((&stage.release, 1), "when another commit is shown")?;
    Ok("released".into())
}

fn p7_disconnected(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    let release = stage.release;
    drop((stage.app, stage.window, stage.sync, stage.buffer, stage.acquire));
    let patience = probe.place.patience;
    // Another client waits: this one has gone.
    let mut watcher = probe.app()?;
    match watcher.client.wait(patience, || release.has_signalled(1))? {
        true => Ok("released".into()),
        false => {
            Err(Stop::Fail(format!("the release point has not signalled {patience:?} after its client went")))
        }
    }
}

fn p9_64_bits(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    let values = [1 << 32, (1 << 32) + 1, (5 << 32) + 4, 1 << 63, u64::MAX];
    for value in values {
        let (acquire, release) = (stage.app.timeline(probe)?, stage.app.timeline(probe)?);
        let commit = stage.show((&acquire, value), (&release, value));
        acquire.signal(value - 1)?;
        stage.stays_away(probe, &commit, &format!("only the point before {value:#x} had signalled"))?;
        acquire.signal(value)?;
        stage.app.app.until_shown(&commit, &format!("after acquire point {value:#x} has signalled"))?;
        let again = (stage.app.timeline(probe)?, stage.app.timeline(probe)?);
        again.0.signal(1)?;
        stage.turn();
        let next = stage.show((&again.0, 1), (&again.1, 1));
        stage.app.app.until_shown(&next, "when its acquire point has signalled before")?;
        stage.app.until_signalled((&release, value), "when another commit is shown")?;
    }
    Ok(format!("points {values:x?} waited for and signalled"))
}

fn p9_zero(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(3)?;
    stage.acquire.signal(4)?;
    let zero = stage.show((&stage.acquire, 4), (&stage.release, 0));
    stage.app.app.until_shown(&zero, "when its acquire point has signalled before")?;
    stage.app.until_signalled((&stage.release, 3), "when another commit is shown")?;
    stage.show_ready(5)?;
    stage.show_ready(6)?;
    stage.app.until_signalled((&stage.release, 5), "on a timeline whose point 0 was released")?;
    match (stage.release.has_signalled(3), stage.release.has_signalled(1000)) {
        (true, false) => Ok("later points of the timeline go on as before".into()),
        (three, _) => {
            Err(Stop::Fail(format!("point 3 signalled: {three}; point 1000, which nobody set, signalled")))
        }
    }
}

fn p12_late_fence(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    let (fence, pledge) = probe.machine.fence()?;
    let commit = stage.show_at(1);
    stage.stays_away(probe, &commit, "its acquire point had no fence")?;
    stage.acquire.point(1).import_sync_file(&fence)?;
    stage.stays_away(probe, &commit, "the fence of its acquire point had not signalled")?;
    pledge.keep()?;
    stage.app.app.until_shown(&commit, "after the fence of its acquire point has signalled")?;
    Ok("waited for the fence and for its signal".into())
}

fn p12_overtaken(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    let commit = stage.show_at(3);
    stage.stays_away(probe, &commit, NOT_SIGNALLED)?;
    stage.acquire.signal(2)?;
    stage.stays_away(probe, &commit, "only an earlier point had signalled")?;
    stage.acquire.signal(7)?;
    stage.app.app.until_shown(&commit, "after a later point has signalled")?;
    Ok("shown after a later point".into())
}

fn p13_order(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    let ready = stage.app.timeline(probe)?;
    let release = stage.app.timeline(probe)?;
    ready.signal(1)?;
    for value in 1..=ROUNDS {
        let first = stage.show_at(value);
        let second = stage.show((&ready, 1), (&release, value));
        stage.stays_away(probe, &second, "the commit before still waited")?;
        first.expect_waiting(NOT_SIGNALLED)?;
        stage.acquire.signal(value)?;
        stage.app.app.until_shown(&second, "after the commit before")?;
        stage.app.app.client.roundtrip()?;
        if first.fate() == Fate::Waiting && first.feedback.is_some() {
            return Err(Stop::fail("the second commit is shown, and of the first nothing was heard"));
        }
    }
    Ok(format!("in order, {ROUNDS} times"))
}

fn p13_order_without_buffer(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    let first = stage.show_at(2);
    let second = stage.app.app.watch(&stage.window.surface);
    stage.window.surface.commit();
    stage.stays_away(probe, &first, NOT_SIGNALLED)?;
    if inbox(&second.frame, |events| !events.is_empty()) {
        return Err(Stop::fail(
            "a frame callback came for the second commit although the first still waited",
        ));
    }
    stage.acquire.signal(2)?;
    let came = || inbox(&second.frame, |events| !events.is_empty());
    stage.app.app.client.until("the second commit's frame callback", came)?;
    Ok("in order".into())
}

fn p13_order_implicit(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    let first = stage.show_at(2);
    stage.sync.destroy();
    let shm = stage.app.app.shm_buffer()?;
    let second = stage.app.app.show(&stage.window.surface, &shm);
    stage.stays_away(probe, &second, "the commit before still waited")?;
    first.expect_waiting(NOT_SIGNALLED)?;
    stage.acquire.signal(2)?;
    stage.app.app.until_shown(&second, "after the commit before")?;
    stage.app.until_signalled((&stage.release, 2), "when another commit is shown")?;
    Ok("in order, and released".into())
}
