//! ext-image-copy-capture: a session says the form, and its first frame is copied at once.

use wayland_client::WEnum;
use wayland_client::protocol::wl_output::WlOutput;
use wayland_client::protocol::wl_shm::{Format, WlShm};
use wayland_protocols::ext::image_capture_source::v1::client::ext_output_image_capture_source_manager_v1::ExtOutputImageCaptureSourceManagerV1;
use wayland_protocols::ext::image_copy_capture::v1::client::ext_image_copy_capture_frame_v1;
use wayland_protocols::ext::image_copy_capture::v1::client::ext_image_copy_capture_manager_v1::{
    ExtImageCopyCaptureManagerV1, Options,
};
use wayland_protocols::ext::image_copy_capture::v1::client::ext_image_copy_capture_session_v1::{
    Event, ExtImageCopyCaptureSessionV1,
};

use super::{Film, Form, refused};
use crate::client::probe::connection::{Client, Inbox, inbox};
use crate::client::probe::verdict::Stop;

/// Those with four bytes a pixel, of eight bits each.
const FORMATS: [Format; 4] = [Format::Xrgb8888, Format::Argb8888, Format::Xbgr8888, Format::Abgr8888];

/// Takes a picture.
pub(super) fn take(
    client: &mut Client,
    (sources, manager): (&ExtOutputImageCaptureSourceManagerV1, &ExtImageCopyCaptureManagerV1),
    output: &WlOutput,
    shm: &WlShm,
) -> Result<Film, Stop> {
    let handle = client.handle();
    let source = sources.create_source(output, &handle, Inbox::default());
    let session = manager.create_session(&source, Options::empty(), &handle, Inbox::default());
    let said = |wanted: fn(&Event) -> bool| inbox(&session, |events| events.iter().any(wanted));
    let answered = || said(|event| matches!(event, Event::Done | Event::Stopped));
    client.until("the form of a screen capture", answered)?;
    let form = form(&session).ok_or_else(refused)?;
    let film = Film::new(client, shm, form)?;
    let frame = session.create_frame(&handle, Inbox::default());
    frame.attach_buffer(&film.buffer);
    frame.damage_buffer(0, 0, form.width as i32, form.height as i32);
    frame.capture();
    let outcome = || {
        inbox(&frame, |events| {
            events.iter().find_map(|event| match event {
                ext_image_copy_capture_frame_v1::Event::Ready => Some(true),
                ext_image_copy_capture_frame_v1::Event::Failed { .. } => Some(false),
                _ => None,
            })
        })
    };
    client.until("a screen capture", || outcome().is_some())?;
    let is_ready = outcome() == Some(true);
    frame.destroy();
    session.destroy();
    source.destroy();
    if is_ready { Ok(film) } else { Err(refused()) }
}

fn form(session: &ExtImageCopyCaptureSessionV1) -> Option<Form> {
    inbox(session, |events| {
        let (width, height) = events.iter().rev().find_map(|event| match event {
            Event::BufferSize { width, height } => Some((*width, *height)),
            _ => None,
        })?;
        let is_offered = |wanted: &Format| {
            let offers = |event: &Event| matches!(event, Event::ShmFormat { format: WEnum::Value(format) } if format == wanted);
            events.iter().any(offers)
        };
        let format = FORMATS.into_iter().find(is_offered)?;
        Some(Form { format, width, height, stride: width.checked_mul(4)? })
    })
}
