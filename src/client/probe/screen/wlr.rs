//! wlr-screencopy: a frame object for each picture.

use wayland_client::WEnum;
use wayland_client::protocol::wl_output::WlOutput;
use wayland_client::protocol::wl_shm::WlShm;
use wayland_protocols_wlr::screencopy::v1::client::zwlr_screencopy_frame_v1::{Event, ZwlrScreencopyFrameV1};
use wayland_protocols_wlr::screencopy::v1::client::zwlr_screencopy_manager_v1::ZwlrScreencopyManagerV1;

use super::{Film, Form, refused};
use crate::client::probe::connection::{Client, Inbox, inbox};
use crate::client::probe::verdict::Stop;

/// Takes a picture.
pub(super) fn take(
    client: &mut Client,
    manager: &ZwlrScreencopyManagerV1,
    output: &WlOutput,
    shm: &WlShm,
) -> Result<Film, Stop> {
    let frame = manager.capture_output(0, output, &client.handle(), Inbox::default());
    client.until("the form of a screen capture", || form(&frame).is_some() || failed(&frame))?;
    let form = form(&frame).ok_or_else(refused)?;
    let film = Film::new(client, shm, form)?;
    frame.copy(&film.buffer);
    let is_ready = || inbox(&frame, |events| events.iter().any(|event| matches!(event, Event::Ready { .. })));
    client.until("a screen capture", || is_ready() || failed(&frame))?;
    let has_failed = failed(&frame);
    frame.destroy();
    if has_failed { Err(refused()) } else { Ok(film) }
}

fn form(frame: &ZwlrScreencopyFrameV1) -> Option<Form> {
    let form = |event: &Event| match event {
        Event::Buffer { format: WEnum::Value(format), width, height, stride } => {
            Some(Form { format: *format, width: *width, height: *height, stride: *stride })
        }
        _ => None,
    };
    inbox(frame, |events| events.iter().find_map(form))
}

fn failed(frame: &ZwlrScreencopyFrameV1) -> bool {
    inbox(frame, |events| events.iter().any(|event| matches!(event, Event::Failed)))
}
