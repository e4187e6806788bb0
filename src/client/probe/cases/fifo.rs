//! fifo-v1: a content update stays for a refresh cycle.

use wayland_protocols::wp::fifo::v1::client::wp_fifo_manager_v1::{Error as ManagerError, WpFifoManagerV1};
use wayland_protocols::wp::fifo::v1::client::wp_fifo_v1::{Error, WpFifoV1};

use crate::client::probe::Probe;
use crate::client::probe::app::{App, Fate};
use crate::client::probe::case::{Case, case};
use crate::client::probe::connection::Inbox;
use crate::client::probe::sync_app::Stage;
use crate::client::probe::verdict::{Outcome, Stop};

const GET: &str = "fifo-v1: wp_fifo_manager_v1.get_fifo";
const DESTROY: &str = "fifo-v1: wp_fifo_v1.destroy";
const SET: &str = "fifo-v1: wp_fifo_v1.set_barrier";
const WAIT: &str = "fifo-v1: wp_fifo_v1.wait_barrier";

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("fifo.second", "a second fifo object for a surface is already_exists, on the manager", GET, second),
    case("fifo.again", "a surface may have a new fifo object when the old one is destroyed", DESTROY, again),
    case("fifo.set-destroyed", "set_barrier for a destroyed surface is surface_destroyed", SET, set_destroyed),
    case("fifo.wait-destroyed", "wait_barrier for a destroyed surface is surface_destroyed", WAIT, wait_destroyed),
    case("fifo.each-shown", "commits with barriers are each shown, one after the other", WAIT, each_shown),
    case("fifo.no-barrier", "without a barrier there is nothing to wait for", WAIT, no_barrier),
    case("fifo.subsurface", "a synchronised subsurface does not wait for barriers", WAIT, subsurface),
    case("fifo.acquire", "a commit waits for its acquire point when the barrier is gone", WAIT, acquire).thrice(),
];

fn manager(probe: &Probe) -> Result<(App, WpFifoManagerV1), Stop> {
    let app = probe.app()?;
    let manager = app.client.bind(1..=1)?;
    Ok((app, manager))
}

fn second(probe: &mut Probe) -> Outcome {
    let (mut app, manager) = manager(probe)?;
    let (surface, handle) = (app.surface(), app.client.handle());
    manager.get_fifo(&surface, &handle, Inbox::default());
    manager.get_fifo(&surface, &handle, Inbox::default());
    app.client.expect_error(&manager, ManagerError::AlreadyExists)
}

fn again(probe: &mut Probe) -> Outcome {
    let (mut app, manager) = manager(probe)?;
    let (surface, handle) = (app.surface(), app.client.handle());
    manager.get_fifo(&surface, &handle, Inbox::default()).destroy();
    manager.get_fifo(&surface, &handle, Inbox::default());
    app.client.expect_no_error()
}

fn for_a_destroyed_surface(probe: &Probe, request: fn(&WpFifoV1)) -> Outcome {
    let (mut app, manager) = manager(probe)?;
    let (surface, handle) = (app.surface(), app.client.handle());
    let fifo = manager.get_fifo(&surface, &handle, Inbox::default());
    surface.destroy();
    app.client.roundtrip()?;
    request(&fifo);
    app.client.expect_error(&fifo, Error::SurfaceDestroyed)
}

fn set_destroyed(probe: &mut Probe) -> Outcome {
    for_a_destroyed_surface(probe, WpFifoV1::set_barrier)
}

fn wait_destroyed(probe: &mut Probe) -> Outcome {
    for_a_destroyed_surface(probe, WpFifoV1::wait_barrier)
}

fn each_shown(probe: &mut Probe) -> Outcome {
    const FRAMES: usize = 12;
    let (mut app, manager) = manager(probe)?;
    probe.clock()?;
    let window = app.window()?;
    let fifo = manager.get_fifo(&window.surface, &app.client.handle(), Inbox::default());
    let buffers = [app.shm_buffer()?, app.shm_buffer()?];
    // "If the surface is not being updated by the compositor (off-screen, occluded) the compositor may ignore the constraint":
    // as a window may be that is about to appear.
    let first = app.show(&window.surface, &app.shm_buffer()?);
    app.until_shown(&first, "without a barrier")?;
    let mut commits = Vec::new();
    for buffer in buffers.iter().cycle().take(FRAMES) {
        fifo.set_barrier();
        fifo.wait_barrier();
        commits.push(app.show(&window.surface, buffer));
    }
    app.client
        .until("every commit is answered", || commits.iter().all(|commit| commit.fate() != Fate::Waiting))?;
    let mut last = 0;
    for (commit, number) in commits.iter().zip(1..) {
        match commit.fate() {
            Fate::Shown(at) if at > last || commit.feedback.is_none() => last = at,
            Fate::Shown(at) => {
                return Err(Stop::Fail(format!("commit {number} at {at} ns, the one before at {last} ns")));
            }
            _ => return Err(Stop::Fail(format!("commit {number} of {FRAMES} was discarded"))),
        }
    }
    Ok(format!("{FRAMES} commits, each in a refresh cycle of its own"))
}

fn no_barrier(probe: &mut Probe) -> Outcome {
    let (mut app, manager) = manager(probe)?;
    probe.clock()?;
    let window = app.window()?;
    let fifo = manager.get_fifo(&window.surface, &app.client.handle(), Inbox::default());
    fifo.wait_barrier();
    let commit = app.show(&window.surface, &app.shm_buffer()?);
    app.expect_shown(&commit)
}

fn subsurface(probe: &mut Probe) -> Outcome {
    let (mut app, manager) = manager(probe)?;
    probe.clock()?;
    let window = app.window()?;
    let (child, _role) = app.subsurface(&window.surface)?;
    let fifo = manager.get_fifo(&child, &app.client.handle(), Inbox::default());
    let child_buffer = app.shm_buffer()?;
    for _ in 0..3 {
        fifo.set_barrier();
        fifo.wait_barrier();
        app.show(&child, &child_buffer);
    }
    fifo.wait_barrier();
    let commit = app.show(&child, &child_buffer);
    app.show(&window.surface, &app.shm_buffer()?);
    // The subsurface's commit, not the window's: the subsurface covers it, and what cannot be seen need not be presented.
    app.expect_shown(&commit)
}

fn acquire(probe: &mut Probe) -> Outcome {
    manager(probe)?;
    let mut stage = Stage::new(probe)?;
    let manager: WpFifoManagerV1 = stage.app.app.client.bind(1..=1)?;
    let fifo = manager.get_fifo(&stage.window.surface, &stage.app.app.client.handle(), Inbox::default());
    fifo.set_barrier();
    stage.show_ready(1)?;
    fifo.wait_barrier();
    let commit = stage.show_at(2);
    stage.stays_away(probe, &commit, "its acquire point had not signalled")?;
    stage.acquire.signal(2)?;
    stage.app.app.until_shown(&commit, "after its acquire point has signalled")?;
    Ok("waited for both".into())
}
