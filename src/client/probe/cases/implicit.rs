//! Implicit synchronisation of dma-bufs: the fences that lie in them, both ways.

use std::os::fd::AsFd;

use crate::client::late::Pledge;
use crate::client::probe::Probe;
use crate::client::probe::app::{App, Window, releases};
use crate::client::probe::case::{Case, case};
use crate::client::probe::machine::pledge;
use crate::client::probe::sync_app::Stage;
use crate::client::probe::verdict::{Outcome, Stop};
use crate::client::source::Image;
use crate::fence::sync_file::SyncFile;
use crate::fence::{Fence, Status};
use crate::sys::dma_buf::{self, Access};

const DMABUF: &str = "linux-dmabuf-v1: zwp_linux_dmabuf_v1, \"implicit synchronization is used\"";
const RELEASE: &str = "wayland: wl_buffer.release; linux-dmabuf-v1: zwp_linux_dmabuf_v1";
const SYNCOBJ: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_surface_v1";

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("implicit.acquire.first", "the first dma-buf of a window is not shown before its writers are done", DMABUF, first),
    case("implicit.acquire.next", "no later dma-buf is shown before its writers are done", DMABUF, next),
    case("implicit.acquire.after-explicit", "a surface whose syncobj object is destroyed is implicitly synchronised again", SYNCOBJ, after_explicit).thrice(),
    case("implicit.acquire.while-explicit", "an explicit commit is shown when its point has signalled, or when writers are done, too", SYNCOBJ, while_explicit),
    case("implicit.release.replaced", "a dma-buf is released once when another has replaced it, and its fences complete", RELEASE, replaced),
    case("implicit.release.not-before-acquire", "a dma-buf that will be shown is not released before its writers are done", RELEASE, not_before_acquire).thrice(),
    case("implicit.release.waiting-destroyed", "the end of a surface whose dma-buf is still written to hurts nobody", RELEASE, waiting_destroyed),
];

const BEING_WRITTEN: &str = "its dma-buf was still written to";

const ROUNDS: u32 = 3;

/// A window, on a compositor that shows windows.
fn window(probe: &mut Probe) -> Result<(App, Window), Stop> {
    let mut app = probe.app()?;
    app.factory()?;
    probe.clock()?;
    let window = app.window()?;
    Ok((app, window))
}

fn shows(app: &mut App, window: &Window, image: &dyn Image) -> Result<(), Stop> {
    let buffer = app.buffer(image)?;
    let commit = app.show(&window.surface, &buffer);
    app.until_shown(&commit, "when nobody writes to its dma-buf")
}

/// Commits a dma-buf that is written to: it has to wait until that is over.
fn waits(probe: &mut Probe, app: &mut App, window: &Window) -> Result<(), Stop> {
    let (image, pledge) = probe.machine.written_image()?;
    let buffer = app.buffer(image.as_ref())?;
    let commit = app.show(&window.surface, &buffer);
    app.client.roundtrip()?;
    probe.settle(&mut app.client)?;
    commit.expect_waiting(BEING_WRITTEN)?;
    pledge.keep()?;
    app.until_shown(&commit, "after the writers of its dma-buf")
}

fn first(probe: &mut Probe) -> Outcome {
    for _ in 0..ROUNDS {
        let (mut app, window) = window(probe)?;
        waits(probe, &mut app, &window)?;
    }
    Ok(format!("waited, then shown, {ROUNDS} times"))
}

fn next(probe: &mut Probe) -> Outcome {
    let (mut app, window) = window(probe)?;
    shows(&mut app, &window, probe.machine.image()?.as_ref())?;
    for _ in 0..ROUNDS {
        waits(probe, &mut app, &window)?;
    }
    Ok(format!("waited, then shown, {ROUNDS} times"))
}

fn after_explicit(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    stage.show_ready(1)?;
    stage.sync.destroy();
    waits(probe, &mut stage.app.app, &stage.window)?;
    stage.app.until_signalled((&stage.release, 1), "when another commit is shown")?;
    Ok("waited, then shown".into())
}

fn while_explicit(probe: &mut Probe) -> Outcome {
    let mut stage = Stage::new(probe)?;
    let (image, pledge) = probe.machine.written_image()?;
    stage.buffer = stage.app.app.buffer(image.as_ref())?;
    stage.acquire.signal(1)?;
    let commit = stage.show_at(1);
    stage.app.app.client.roundtrip()?;
    probe.settle(&mut stage.app.app.client)?;
    let ignored = commit.is_shown();
    pledge.keep()?;
    stage.app.app.until_shown(&commit, "when both its point and its writers are done")?;
    Ok(match ignored {
        true => "implicit fences are ignored".into(),
        false => "implicit fences are waited for, too".into(),
    })
}

fn replaced(probe: &mut Probe) -> Outcome {
    const FRAMES: usize = 6;
    let (mut app, window) = window(probe)?;
    let images = [probe.machine.image()?, probe.machine.image()?];
    let buffers = [app.buffer(images[0].as_ref())?, app.buffer(images[1].as_ref())?];
    for frame in 0..FRAMES {
        let (turn, other) = (frame % 2, (frame + 1) % 2);
        let (Some(buffer), Some(before), Some(image)) =
            (buffers.get(turn), buffers.get(other), images.get(other))
        else {
            break;
        };
        let commit = app.show(&window.surface, buffer);
        app.until_shown(&commit, "when nobody writes to its dma-buf")?;
        if frame > 0 {
            let due = frame.div_ceil(2);
            app.client.until("the dma-buf before is released", || releases(before) >= due)?;
            fences_complete(&mut app, image.as_ref())?;
            if releases(before) > due {
                return Err(Stop::Fail(format!("{due} commits of a buffer, {} releases", releases(before))));
            }
        }
    }
    Ok(format!("{} buffers released once each", FRAMES - 1))
}

/// What the compositor leaves in a dma-buf that it has released must be over soon.
fn fences_complete(app: &mut App, image: &dyn Image) -> Result<(), Stop> {
    for plane in &image.layout().planes {
        let fence = dma_buf::export_sync_file(plane.fd.as_fd(), Access::ReadWrite)?;
        let fence = SyncFile::from_kernel(fence);
        app.client
            .until("the fences in a released dma-buf complete", || fence.status() != Status::Pending)?;
    }
    Ok(())
}

fn not_before_acquire(probe: &mut Probe) -> Outcome {
    let (mut app, window) = window(probe)?;
    shows(&mut app, &window, probe.machine.image()?.as_ref())?;
    let (image, pledge): (Box<dyn Image>, Pledge) = probe.machine.written_image()?;
    let buffer = app.buffer(image.as_ref())?;
    let commit = app.show(&window.surface, &buffer);
    app.client.roundtrip()?;
    probe.settle(&mut app.client)?;
    let early = releases(&buffer) > 0;
    pledge.keep()?;
    app.until_shown(&commit, "after the writers of its dma-buf")?;
    match early {
        true => {
            Err(Stop::fail("wl_buffer.release came while the dma-buf was written to, and it was shown later"))
        }
        false => Ok("no release before the writers were done".into()),
    }
}

fn waiting_destroyed(probe: &mut Probe) -> Outcome {
    let (mut app, window) = window(probe)?;
    let image = probe.machine.image()?;
    let pledge = pledge(image.as_ref())?;
    let buffer = app.buffer(image.as_ref())?;
    app.show(&window.surface, &buffer);
    app.client.roundtrip()?;
    window.destroy();
    app.client.roundtrip()?;
    probe.settle(&mut app.client)?;
    pledge.keep()?;
    app.client.expect_no_error()
}
