//! What is on the screen: a buffer that is read too early or too late shows poison, in a screen capture.

use std::os::fd::AsFd;

use wayland_client::protocol::wl_buffer::WlBuffer;

use crate::client::probe::Probe;
use crate::client::probe::app::{App, Window, releases};
use crate::client::probe::case::{Case, case};
use crate::client::probe::machine::pledge;
use crate::client::probe::screen::Screen;
use crate::client::probe::sync_app::{SharedTimeline, Stage};
use crate::client::probe::verdict::{Outcome, Stop};
use crate::client::source::Image;
use crate::fence::sync_file::SyncFile;
use crate::fence::{Fence, Status};
use crate::sys::dma_buf::{self, Access};

const ACQUIRE: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_surface_v1.set_acquire_point";
const RELEASE: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_surface_v1.set_release_point";
const DMABUF: &str = "linux-dmabuf-v1: zwp_linux_dmabuf_v1, \"implicit synchronization is used\"";
const WL_RELEASE: &str = "wayland: wl_buffer.release; linux-dmabuf-v1: zwp_linux_dmabuf_v1";

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("content.explicit.acquire", "no pixel of a buffer is on the screen before its acquire point has signalled", ACQUIRE, explicit_acquire),
    case("content.explicit.release", "no pixel of a buffer is on the screen that was written after its release point", RELEASE, explicit_release),
    case("content.implicit.acquire", "no pixel of a dma-buf is on the screen before its writers are done", DMABUF, implicit_acquire),
    case("content.implicit.release", "no pixel of a dma-buf is on the screen that was written after its release", WL_RELEASE, implicit_release),
];

/// Pictures in which nothing may be seen that is not ready.
const LOOKS: usize = 5;

/// Frames whose buffers are covered with poison as soon as they are back.
const FRAMES: u32 = 20;

/// A buffer, and what to draw in it with.
struct Canvas {
    image: Box<dyn Image>,
    buffer: WlBuffer,
}

impl Canvas {
    fn new(probe: &mut Probe, app: &mut App) -> Result<Self, Stop> {
        let image = probe.machine.image()?;
        let buffer = app.buffer(image.as_ref())?;
        Ok(Self { image, buffer })
    }

    /// Draws a frame; the point signals when it is drawn.
    fn draw(&mut self, counter: u32, (timeline, value): (&SharedTimeline, u64)) -> Result<(), Stop> {
        match self.image.draw(counter)? {
            Some(fence) => timeline.point(value).import_sync_file(&fence)?,
            None => timeline.signal(value)?,
        }
        Ok(())
    }
}

/// Waits until the frame is in a picture; without that no picture says anything.
fn until_visible(probe: &Probe, screen: &mut Screen, counter: u32) -> Result<(), Stop> {
    let start = std::time::Instant::now();
    while start.elapsed() < probe.place.patience {
        let picture = screen.picture()?;
        picture.expect_no_poison("while a ready frame was shown")?;
        if picture.shows(counter) {
            return Ok(());
        }
    }
    Err(Stop::CannotTest("the window is not to be seen on the first output".into()))
}

fn looks(screen: &mut Screen, when: &str) -> Result<(), Stop> {
    (0..LOOKS).try_for_each(|_| screen.picture()?.expect_no_poison(when))
}

/// The next frame is on the screen: a window that is shown stays visible.
fn next_visible(probe: &Probe, screen: &mut Screen, counter: u32) -> Result<(), Stop> {
    until_visible(probe, screen, counter).map_err(|stop| match stop {
        Stop::CannotTest(_) => Stop::Fail(format!("frame {counter} was presented, and is not on the screen")),
        stop => stop,
    })
}

fn explicit_acquire(probe: &mut Probe) -> Outcome {
    let mut screen = Screen::open(&probe.place)?;
    let mut stage = Stage::new(probe)?;
    let mut canvases = [Canvas::new(probe, &mut stage.app.app)?, Canvas::new(probe, &mut stage.app.app)?];
    for (canvas, counter) in canvases.iter_mut().zip(1..) {
        let value = u64::from(counter);
        canvas.image.scribble()?;
        stage.buffer = canvas.buffer.clone();
        let commit = stage.show_at(value);
        stage.app.app.client.roundtrip()?;
        looks(&mut screen, "before the acquire point had signalled")?;
        canvas.draw(counter, (&stage.acquire, value))?;
        stage.app.app.until_shown(&commit, "after its acquire point has signalled")?;
        match counter {
            1 => until_visible(probe, &mut screen, counter)?,
            _ => next_visible(probe, &mut screen, counter)?,
        }
    }
    Ok(format!("{} pictures before and some after, no poison", 2 * LOOKS))
}

fn explicit_release(probe: &mut Probe) -> Outcome {
    let mut screen = Screen::open(&probe.place)?;
    let mut stage = Stage::new(probe)?;
    let mut shown = Canvas::new(probe, &mut stage.app.app)?;
    let mut next = Canvas::new(probe, &mut stage.app.app)?;
    for counter in 1..=FRAMES {
        let value = u64::from(counter);
        next.draw(counter, (&stage.acquire, value))?;
        stage.buffer = next.buffer.clone();
        let commit = stage.show_at(value);
        if counter > 1 {
            stage.app.until_signalled((&stage.release, value - 1), "when another commit is shown")?;
            // Ours again: whoever reads it now reads poison.
            shown.image.scribble()?;
            screen.picture()?.expect_no_poison("after the release point had signalled")?;
        }
        stage.app.app.until_shown(&commit, "when its acquire point has signalled before")?;
        match counter {
            1 => until_visible(probe, &mut screen, counter)?,
            _ => screen.picture()?.expect_no_poison("after the release point had signalled")?,
        }
        if stage.release.has_signalled(value) {
            released_while_shown(&mut next, &mut screen)?;
        }
        std::mem::swap(&mut shown, &mut next);
    }
    Ok(format!("{FRAMES} buffers covered with poison when they were back, none seen"))
}

/// A compositor may release what it shows when it has a copy. One that has none shows what is drawn next.
fn released_while_shown(canvas: &mut Canvas, screen: &mut Screen) -> Result<(), Stop> {
    canvas.image.scribble()?;
    screen.picture()?.expect_no_poison("after a release while its frame was shown")
}

/// A window that is implicitly synchronised.
fn window(probe: &mut Probe) -> Result<(App, Window), Stop> {
    let mut app = probe.app()?;
    app.factory()?;
    probe.clock()?;
    let window = app.window()?;
    Ok((app, window))
}

fn implicit_acquire(probe: &mut Probe) -> Outcome {
    let mut screen = Screen::open(&probe.place)?;
    let (mut app, window) = window(probe)?;
    for counter in 1..=2 {
        let mut canvas = Canvas::new(probe, &mut app)?;
        canvas.image.scribble()?;
        let pledge = pledge(canvas.image.as_ref())?;
        let commit = app.show(&window.surface, &canvas.buffer);
        app.client.roundtrip()?;
        looks(&mut screen, "before its writers were done")?;
        if let Some(fence) = canvas.image.draw(counter)? {
            let patience = app.client.patience();
            let drawn = app.client.wait(patience, || fence.status() != Status::Pending)?;
            if !drawn {
                pledge.keep()?;
                return Err(Stop::CannotTest(
                    "this GPU waits for the fence that stands for its own work".into(),
                ));
            }
        }
        pledge.keep()?;
        app.until_shown(&commit, "after the writers of its dma-buf")?;
        match counter {
            1 => until_visible(probe, &mut screen, counter)?,
            _ => next_visible(probe, &mut screen, counter)?,
        }
    }
    Ok(format!("{} pictures before and some after, no poison", 2 * LOOKS))
}

fn implicit_release(probe: &mut Probe) -> Outcome {
    let mut screen = Screen::open(&probe.place)?;
    let (mut app, window) = window(probe)?;
    let (mut shown, mut next) = (Canvas::new(probe, &mut app)?, Canvas::new(probe, &mut app)?);
    for counter in 1..=FRAMES {
        // The GPU leaves its fence in the dma-buf; the CPU is done.
        next.image.draw(counter)?;
        let commit = app.show(&window.surface, &next.buffer);
        if counter > 1 {
            let due = (counter / 2) as usize;
            app.client.until("the dma-buf before is released", || releases(&shown.buffer) >= due)?;
            until_idle(&mut app, shown.image.as_ref())?;
            shown.image.scribble()?;
            screen.picture()?.expect_no_poison("after wl_buffer.release")?;
        }
        app.until_shown(&commit, "when nobody writes to its dma-buf")?;
        match counter {
            1 => until_visible(probe, &mut screen, counter)?,
            _ => screen.picture()?.expect_no_poison("after wl_buffer.release")?,
        }
        if releases(&next.buffer) >= counter.div_ceil(2) as usize {
            until_idle(&mut app, next.image.as_ref())?;
            released_while_shown(&mut next, &mut screen)?;
        }
        std::mem::swap(&mut shown, &mut next);
    }
    Ok(format!("{FRAMES} buffers covered with poison when they were back, none seen"))
}

/// A writer waits for the readers that the compositor has left in the dma-buf.
fn until_idle(app: &mut App, image: &dyn Image) -> Result<(), Stop> {
    for plane in &image.layout().planes {
        let fence = SyncFile::from_kernel(dma_buf::export_sync_file(plane.fd.as_fd(), Access::ReadWrite)?);
        app.client
            .until("the fences in a released dma-buf complete", || fence.status() != Status::Pending)?;
    }
    Ok(())
}
