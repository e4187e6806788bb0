//! wl_surface.get_release, since version 7: the release of one commit, with explicit sync or without.

use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_surface::{self, WlSurface};

use crate::client::probe::Probe;
use crate::client::probe::app::App;
use crate::client::probe::case::{Case, case};
use crate::client::probe::connection::{Inbox, inbox};
use crate::client::probe::sync_app::Stage;
use crate::client::probe::verdict::{Outcome, Stop};

const SPEC: &str = "wayland: wl_surface.get_release";

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("get-release.no-buffer", "a release callback without a buffer is no_buffer", SPEC, no_buffer),
    case("get-release.null", "a release callback with a null buffer is no_buffer", SPEC, null),
    case("get-release.per-commit", "each commit of one buffer has its own release, with callback data 0", SPEC, per_commit),
    case("get-release.explicit", "release callbacks come with explicit sync, too", SPEC, explicit),
];

fn app(probe: &Probe) -> Result<App, Stop> {
    let app = probe.app()?;
    match app.client.offered::<WlCompositor>() {
        Some(7..) => Ok(app),
        _ => Err(Stop::NotOffered("wl_compositor, version 7".into())),
    }
}

fn release(app: &App, surface: &WlSurface) -> WlCallback {
    surface.get_release(&app.client.handle(), Inbox::default())
}

fn no_buffer(probe: &mut Probe) -> Outcome {
    let mut app = app(probe)?;
    let surface = app.surface();
    release(&app, &surface);
    surface.commit();
    app.client.expect_error(&surface, wl_surface::Error::NoBuffer)
}

fn null(probe: &mut Probe) -> Outcome {
    let mut app = app(probe)?;
    let surface = app.surface();
    release(&app, &surface);
    surface.attach(None, 0, 0);
    surface.commit();
    app.client.expect_error(&surface, wl_surface::Error::NoBuffer)
}

/// What a callback has said.
fn data(callback: &WlCallback) -> Vec<u32> {
    let data = |event: &wl_callback::Event| match event {
        wl_callback::Event::Done { callback_data } => Some(*callback_data),
        _ => None,
    };
    inbox(callback, |events| events.iter().filter_map(data).collect())
}

fn per_commit(probe: &mut Probe) -> Outcome {
    const COMMITS: usize = 4;
    let mut app = app(probe)?;
    probe.clock()?;
    let window = app.window()?;
    let buffer = app.buffer(probe.machine.image()?.as_ref())?;
    let mut releases = Vec::new();
    for _ in 0..COMMITS {
        releases.push(release(&app, &window.surface));
        let commit = app.show(&window.surface, &buffer);
        app.until_shown(&commit, "soon")?;
    }
    window.destroy();
    app.client
        .until("every commit is released", || releases.iter().all(|release| !data(release).is_empty()))?;
    match releases.iter().all(|release| data(release) == [0]) {
        true => Ok(format!("{COMMITS} commits, {COMMITS} releases")),
        false => {
            Err(Stop::Fail(format!("callback data {:?}", releases.iter().map(data).collect::<Vec<_>>())))
        }
    }
}

fn explicit(probe: &mut Probe) -> Outcome {
    app(probe)?;
    let mut stage = Stage::new(probe)?;
    let callback = release(&stage.app.app, &stage.window.surface);
    stage.show_ready(1)?;
    stage.show_ready(2)?;
    stage.app.app.client.until("the release callback", || data(&callback) == [0])?;
    stage.app.until_signalled((&stage.release, 1), "when another commit is shown")?;
    Ok("both".into())
}
