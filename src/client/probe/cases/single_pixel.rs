//! single-pixel-buffer: buffers without memory, also where points want to synchronise them.

use wayland_client::Proxy;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_surface_v1::Error;
use wayland_protocols::wp::single_pixel_buffer::v1::client::wp_single_pixel_buffer_manager_v1::WpSinglePixelBufferManagerV1;

use crate::client::probe::Probe;
use crate::client::probe::app::{App, Fate, Watched, Window};
use crate::client::probe::case::{Case, case};
use crate::client::probe::connection::{Inbox, inbox, told};
use crate::client::probe::sync_app::Bench;
use crate::client::probe::verdict::{Outcome, Stop};

const MANAGER: &str = "single-pixel-buffer-v1: wp_single_pixel_buffer_manager_v1";
const FEEDBACK: &str = "presentation-time: wp_presentation.feedback";
const SYNCOBJ: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_surface_v1";

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("single-pixel.shown", "a single-pixel buffer is shown, also after its manager is gone", MANAGER, shown),
    case("single-pixel.feedback", "a commit of a single-pixel buffer is presented or discarded, as every other", FEEDBACK, presented),
    case("single-pixel.explicit", "a single-pixel buffer with points is unsupported_buffer, or is released by its point", SYNCOBJ, explicit),
];

/// Shows a window of one colour.
fn show(probe: &mut Probe) -> Result<(App, Window, Watched), Stop> {
    let mut app = probe.app()?;
    let manager: WpSinglePixelBufferManagerV1 = app.client.bind(1..=1)?;
    probe.clock()?;
    let window = app.window()?;
    let handle = app.client.handle();
    let buffer = manager.create_u32_rgba_buffer(u32::MAX, 0, 0, u32::MAX, &handle, Inbox::default());
    manager.destroy();
    let commit = app.show(&window.surface, &buffer);
    Ok((app, window, commit))
}

fn shown(probe: &mut Probe) -> Outcome {
    let (mut app, _window, commit) = show(probe)?;
    // That its feedback is answered is a rule of its own.
    let called = || inbox(&commit.frame, |events| !events.is_empty());
    app.client.until("the commit is shown, or its frame callback comes", || commit.is_shown() || called())?;
    Ok(if commit.is_shown() { "shown" } else { "frame callback" }.into())
}

fn presented(probe: &mut Probe) -> Outcome {
    let (mut app, _window, commit) = show(probe)?;
    if commit.feedback.is_none() {
        return Err(Stop::NotOffered("wp_presentation".into()));
    }
    app.client.until("the feedback is answered", || commit.fate() != Fate::Waiting)?;
    Ok(format!("{:?}", commit.fate()))
}

fn explicit(probe: &mut Probe) -> Outcome {
    let manager: WpSinglePixelBufferManagerV1 = probe.app()?.client.bind(1..=1)?;
    drop(manager);
    let mut bench = Bench::new(probe)?;
    let manager: WpSinglePixelBufferManagerV1 = bench.app.app.client.bind(1..=1)?;
    let handle = bench.app.app.client.handle();
    let buffer = manager.create_u32_rgba_buffer(0, u32::MAX, 0, u32::MAX, &handle, Inbox::default());
    bench.surface.attach(Some(&buffer), 0, 0);
    bench.set_points(1, 2);
    let id = bench.sync.id().protocol_id();
    bench.surface.commit();
    match bench.app.app.client.end()? {
        Some(error) if error.object_id == id && error.code == Error::UnsupportedBuffer as u32 => {
            return Ok(told(&error));
        }
        Some(error) => return Err(Stop::Fail(format!("{}; unsupported_buffer is wanted", told(&error)))),
        None => {}
    }
    bench.one.signal(1)?;
    bench.surface.destroy();
    bench.app.until_signalled((&bench.one, 2), "when the surface is gone")?;
    Ok("accepted and released".into())
}
