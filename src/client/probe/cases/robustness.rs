//! What a client may do without hurting anyone: it may be sent away for it, but the others go on.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{Mode, OFlags};

use crate::client::late::Pledge;
use crate::client::probe::Probe;
use crate::client::probe::app::memory;
use crate::client::probe::case::{Case, case};
use crate::client::probe::connection::{Inbox, told};
use crate::client::probe::machine::pledge;
use crate::client::probe::rates::Rates;
use crate::client::probe::sync_app::{Stage, SyncApp, set_acquire, set_release};
use crate::client::probe::verdict::{Outcome, Stop};

const SYNCOBJ: &str = "linux-drm-syncobj-v1: acquire points may signal at any time, or never";
const DMABUF: &str = "linux-dmabuf-v1: fences may signal late";
const FDS: &str = "linux-drm-syncobj-v1: import_timeline; linux-dmabuf-v1: zwp_linux_buffer_params_v1.add";
const DESTROY: &str = "wayland, linux-drm-syncobj-v1: destroy requests";

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("robust.never-signalled", "a commit that waits for ever does not slow the frames of others", SYNCOBJ, never_signalled),
    case("robust.never-written", "a dma-buf that is written to does not slow the frames of others", DMABUF, never_written),
    case("robust.points", "points at the ends of the range hurt nobody", SYNCOBJ, points),
    case("robust.destroy-order", "objects may be destroyed in every order while a commit waits", DESTROY, destroy_order),
    case("robust.wrong-fds", "file descriptors of every wrong kind hurt nobody, as timelines or as planes", FDS, wrong_fds),
    case("robust.vanishing", "a client may vanish after every step", DESTROY, vanishing),
    // Last: what a compositor cannot recover from would be held against it in other cases, too.
    case("robust.many-waiting", "10000 commits that wait for ever are refused or kept, and others go on", SYNCOBJ, many_waiting),
    case("robust.many-timelines", "2000 timelines of one client are refused or kept, and others go on", SYNCOBJ, many_timelines),
];

/// The others go on: their next frames come in time.
fn others_go_on(probe: &mut Probe, seen: String) -> Outcome {
    let patience = probe.place.patience;
    for _ in 0..3 {
        if !probe.clock()?.tick(patience)? {
            return Err(Stop::Fail(format!("{seen}; another client's frame has not come for {patience:?}")));
        }
    }
    Ok(seen)
}

fn many_waiting(probe: &mut Probe) -> Outcome {
    const COMMITS: u64 = 10_000;
    const BETWEEN_ANSWERS: u64 = 50;
    let mut stage = Stage::new(probe)?;
    let mut seen = format!("{COMMITS} commits kept");
    for value in 1..=COMMITS {
        set_acquire(&stage.sync, (&stage.acquire, value));
        set_release(&stage.sync, (&stage.release, value));
        stage.window.surface.attach(Some(&stage.buffer), 0, 0);
        stage.window.surface.commit();
        if value.is_multiple_of(BETWEEN_ANSWERS)
            && let Some(error) = stage.app.app.client.end()?
        {
            seen = format!("after {value} commits: {}", told(&error));
            break;
        }
    }
    others_go_on(probe, seen.clone())?;
    drop(stage);
    others_go_on(probe, seen)
}

fn many_timelines(probe: &mut Probe) -> Outcome {
    const TIMELINES: usize = 2_000;
    const BETWEEN_ANSWERS: usize = 50;
    let mut app = SyncApp::open(probe)?;
    let fd = probe.machine.timeline()?.export()?;
    for count in 1..=TIMELINES {
        app.import(&fd);
        if count.is_multiple_of(BETWEEN_ANSWERS)
            && let Some(error) = app.app.client.end()?
        {
            return others_go_on(probe, format!("after {count} timelines: {}", told(&error)));
        }
    }
    others_go_on(probe, format!("{TIMELINES} timelines kept"))
}

/// Frames of a client that is ready, with and without another, which waits for a fence until the pledge is kept.
fn others_keep_their_rate<T>(
    probe: &mut Probe,
    late: impl Fn(&mut Probe) -> Result<(T, Option<Pledge>), Stop>,
) -> Outcome {
    const FRAMES: u32 = 30;
    let mut rates = Rates::new();
    while !rates.is_sure() {
        let alone = probe.clock()?.time(FRAMES)?;
        let (waits, pledge) = late(probe)?;
        rates.add(alone, probe.clock()?.time(FRAMES)?);
        pledge.map_or(Ok(()), Pledge::keep)?;
        drop(waits);
    }
    rates.outcome(FRAMES)
}

fn never_signalled(probe: &mut Probe) -> Outcome {
    others_keep_their_rate(probe, |probe| {
        let mut stage = Stage::new(probe)?;
        stage.show_ready(1)?;
        let (fence, pledge) = probe.machine.fence().ok().unzip();
        stage.show_at(2);
        stage.app.app.client.roundtrip()?;
        // A materialised fence is what tempts a compositor to hand it on.
        if let Some(fence) = &fence {
            stage.acquire.point(2).import_sync_file(fence)?;
        }
        Ok((stage, pledge))
    })
}

fn never_written(probe: &mut Probe) -> Outcome {
    others_keep_their_rate(probe, |probe| {
        let mut app = probe.app()?;
        let image = probe.machine.image()?;
        let window = app.window()?;
        let buffer = app.buffer(image.as_ref())?;
        let pledge = pledge(image.as_ref())?;
        app.show(&window.surface, &buffer);
        app.client.roundtrip()?;
        Ok(((app, window, image), Some(pledge)))
    })
}

fn points(probe: &mut Probe) -> Outcome {
    const ENDS: [u64; 5] = [0, 1, 1 << 32, 1 << 63, u64::MAX];
    let mut refused = 0;
    for acquire in ENDS {
        for release in ENDS {
            let mut stage = Stage::new(probe)?;
            stage.show((&stage.acquire, acquire), (&stage.release, release));
            refused += usize::from(stage.app.app.client.end()?.is_some());
            stage.acquire.signal(acquire)?;
            stage.app.app.client.end()?;
        }
    }
    others_go_on(probe, format!("{} pairs of points, {refused} refused", ENDS.len() * ENDS.len()))
}

/// What is destroyed while a commit waits.
#[derive(Debug, Clone, Copy)]
enum Part {
    Manager,
    Sync,
    Timelines,
    Buffer,
    Window,
}

fn destroy(stage: &Stage, part: Part) {
    match part {
        Part::Manager => stage.app.manager.destroy(),
        Part::Sync => stage.sync.destroy(),
        Part::Timelines => {
            stage.acquire.object.destroy();
            stage.release.object.destroy();
        }
        Part::Buffer => stage.buffer.destroy(),
        Part::Window => stage.window.destroy(),
    }
}

/// All orders of the parts.
fn orders(parts: &[Part]) -> Vec<Vec<Part>> {
    let Some((first, rest)) = parts.split_first() else { return vec![Vec::new()] };
    let insert = |order: Vec<Part>| {
        (0..=order.len()).map(move |at| {
            let mut longer = order.clone();
            longer.insert(at, *first);
            longer
        })
    };
    orders(rest).into_iter().flat_map(insert).collect()
}

fn destroy_order(probe: &mut Probe) -> Outcome {
    let all = orders(&[Part::Manager, Part::Sync, Part::Timelines, Part::Buffer, Part::Window]);
    for order in &all {
        let mut stage = Stage::new(probe)?;
        stage.show_at(1);
        for part in order {
            destroy(&stage, *part);
        }
        let in_order = |stop| match stop {
            Stop::Fail(seen) => Stop::Fail(format!("{order:?}: {seen}")),
            other => other,
        };
        stage.app.app.client.roundtrip().map_err(in_order)?;
        stage.app.until_signalled((&stage.release, 1), "when the surface is gone").map_err(in_order)?;
    }
    others_go_on(probe, format!("{} orders, released in each", all.len()))
}

/// What a client may hand over for a timeline or for a plane.
fn fds(probe: &mut Probe) -> Result<Vec<(&'static str, OwnedFd)>, Stop> {
    let open = |path, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    let (socket, _other) = UnixStream::pair()?;
    let mut fds = vec![
        ("pipe", std::io::pipe()?.1.into()),
        ("memfd", memory(1 << 20)?),
        ("socket", socket.into()),
        ("eventfd", eventfd(0, EventfdFlags::CLOEXEC)?),
        ("epoll", epoll::create(epoll::CreateFlags::CLOEXEC)?),
        ("device", open("/dev/null", OFlags::RDWR)?),
        ("file", open("/proc/self/exe", OFlags::RDONLY)?),
        ("directory", open("/", OFlags::RDONLY | OFlags::DIRECTORY)?),
        ("path", open("/", OFlags::PATH)?),
    ];
    if let Ok(timeline) = probe.machine.timeline() {
        fds.push(("syncobj", timeline.export()?));
    }
    let planes = probe.machine.image()?;
    for plane in &planes.layout().planes {
        fds.push(("dma-buf", plane.fd.try_clone()?));
    }
    Ok(fds)
}

fn wrong_fds(probe: &mut Probe) -> Outcome {
    let fds = fds(probe)?;
    let (mut timelines, mut planes) = (0, 0);
    for (kind, fd) in &fds {
        let mut app = SyncApp::open(probe)?;
        app.import(fd);
        timelines += usize::from(app.app.client.end()?.is_some());
        let mut app = probe.app()?;
        let image = probe.machine.image()?;
        let params = app.factory()?.create_params(&app.client.handle(), Inbox::default());
        params.add(fd.as_fd(), 0, 0, 4 * image.layout().size.0, 0, 0);
        app.create(&params, image.layout());
        planes += usize::from(app.client.end()?.is_some());
        others_go_on(probe, (*kind).to_owned())?;
    }
    Ok(format!("{} kinds, {timelines} refused as timelines, {planes} as planes", fds.len()))
}

/// What the client is that vanishes.
#[derive(Debug, Clone, Copy)]
enum Role {
    None,
    Window,
}

fn vanishing(probe: &mut Probe) -> Outcome {
    for role in [Role::None, Role::Window] {
        for step in 0..STEPS {
            vanishes(probe, role, step)?;
            others_go_on(probe, format!("{role:?}, gone after step {step}"))?;
        }
    }
    Ok(format!("{STEPS} steps, with a window and without"))
}

const STEPS: usize = 10;

/// Its connection closes while the compositor works on what was sent, as it does when a client is killed.
fn vanishes(probe: &mut Probe, role: Role, last: usize) -> Result<(), Stop> {
    let mut app = SyncApp::open(probe)?;
    let image = probe.machine.image()?;
    let (acquire, release) = (app.timeline(probe)?, app.timeline(probe)?);
    let window = match role {
        Role::None => None,
        Role::Window => Some(app.app.window()?),
    };
    let surface = window.as_ref().map_or_else(|| app.app.surface(), |window| window.surface.clone());
    let sync = app.sync_surface(&surface);
    let buffer = app.app.buffer(image.as_ref())?;
    let steps: [&dyn Fn(); STEPS] = [
        &|| set_acquire(&sync, (&acquire, 1)),
        &|| set_release(&sync, (&release, 1)),
        &|| surface.attach(Some(&buffer), 0, 0),
        &|| drop(app.app.watch(&surface)),
        &|| surface.commit(),
        &|| buffer.destroy(),
        &|| acquire.object.destroy(),
        &|| sync.destroy(),
        &|| match &window {
            Some(window) => window.destroy(),
            None => surface.destroy(),
        },
        &|| release.object.destroy(),
    ];
    steps.iter().take(last + 1).for_each(|act| act());
    app.app.client.flush();
    Ok(())
}
