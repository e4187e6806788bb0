//! Screen capture through both protocols: what is in the picture, when it is ready, and every error.

use std::os::fd::OwnedFd;

use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_output::WlOutput;
use wayland_client::protocol::wl_shm::Format;
use wayland_protocols::ext::image_capture_source::v1::client::ext_image_capture_source_v1::ExtImageCaptureSourceV1;
use wayland_protocols::ext::image_capture_source::v1::client::ext_output_image_capture_source_manager_v1::ExtOutputImageCaptureSourceManagerV1;
use wayland_protocols::ext::image_copy_capture::v1::client::ext_image_copy_capture_frame_v1::{
    self as frame, ExtImageCopyCaptureFrameV1,
};
use wayland_protocols::ext::image_copy_capture::v1::client::ext_image_copy_capture_manager_v1::{
    ExtImageCopyCaptureManagerV1, Options,
};
use wayland_protocols::ext::image_copy_capture::v1::client::ext_image_copy_capture_session_v1::{
    self as session, ExtImageCopyCaptureSessionV1,
};
use wayland_protocols_wlr::screencopy::v1::client::zwlr_screencopy_frame_v1::{
    self as wlr, ZwlrScreencopyFrameV1,
};
use wayland_protocols_wlr::screencopy::v1::client::zwlr_screencopy_manager_v1::ZwlrScreencopyManagerV1;

use crate::fixture::{Log, events};
use crate::setup::{App, BYTES, Desk, Fate, SIZE, STRIDE, Window, desk, desk_with_outputs, memory};

/// The output of a desk.
const SIDE: i32 = 128;
const COLOUR: u32 = 0x0012_3456;

/// A client that takes pictures, with memory for one.
pub(crate) struct Photographer {
    app: App,
    output: WlOutput,
    memory: OwnedFd,
    buffer: WlBuffer,
}

impl Photographer {
    pub(crate) fn new(desk: &Desk) -> Self {
        let mut app = App::new(desk);
        let output = app.client.bind(4);
        let memory = memory(SIDE * SIDE * 4);
        let buffer = picture(&app, &memory, SIDE, SIDE);
        app.client.expect_no_error();
        Self { app, output, memory, buffer }
    }

    pub(crate) fn session(&mut self) -> ExtImageCopyCaptureSessionV1 {
        self.session_with(Options::empty())
    }

    pub(crate) fn session_with(&mut self, options: Options) -> ExtImageCopyCaptureSessionV1 {
        let sources: ExtOutputImageCaptureSourceManagerV1 = self.app.client.bind(1);
        let manager: ExtImageCopyCaptureManagerV1 = self.app.client.bind(1);
        let handle = self.app.client.handle();
        let source: ExtImageCaptureSourceV1 = sources.create_source(&self.output, &handle, Log::default());
        let session = manager.create_session(&source, options, &handle, Log::default());
        source.destroy();
        session
    }

    fn frame(&self, session: &ExtImageCopyCaptureSessionV1) -> ExtImageCopyCaptureFrameV1 {
        session.create_frame(&self.app.client.handle(), Log::default())
    }

    /// Asks for the picture, and waits for the answer.
    pub(crate) fn take(&mut self, session: &ExtImageCopyCaptureSessionV1) -> Vec<frame::Event> {
        let frame = self.frame(session);
        frame.attach_buffer(&self.buffer);
        frame.capture();
        let mut got = Vec::new();
        self.app.client.until(|| {
            got.extend(events(&frame));
            got.iter().any(|event| matches!(event, frame::Event::Ready | frame::Event::Failed { .. }))
        });
        frame.destroy();
        got
    }

    fn wlr(&mut self, part: Option<(i32, i32, i32, i32)>) -> ZwlrScreencopyFrameV1 {
        let manager: ZwlrScreencopyManagerV1 = self.app.client.bind(3);
        let handle = self.app.client.handle();
        match part {
            None => manager.capture_output(0, &self.output, &handle, Log::default()),
            Some((x, y, width, height)) => {
                manager.capture_output_region(0, &self.output, x, y, width, height, &handle, Log::default())
            }
        }
    }

    fn until_ready(&mut self, frame: &ZwlrScreencopyFrameV1) -> bool {
        let mut ready = None;
        self.app.client.until(|| {
            for event in events(frame) {
                match event {
                    wlr::Event::Ready { .. } => ready = Some(true),
                    wlr::Event::Failed => ready = Some(false),
                    _ => {}
                }
            }
            ready.is_some()
        });
        ready == Some(true)
    }

    /// The picture's pixels.
    pub(crate) fn pixels(&self) -> Vec<u32> {
        let mut bytes = vec![0; (SIDE * SIDE * 4) as usize];
        let read = rustix::io::pread(&self.memory, &mut bytes, 0).expect("pread");
        assert_eq!(read, bytes.len());
        bytes.chunks_exact(4).map(|pixel| u32::from_ne_bytes(pixel.try_into().unwrap()) & 0xff_ffff).collect()
    }

    fn count(&self, colour: u32) -> usize {
        self.pixels().into_iter().filter(|pixel| *pixel == colour).count()
    }
}

fn picture(app: &App, memory: &OwnedFd, width: i32, height: i32) -> WlBuffer {
    let pool = app.pool(memory, SIDE * SIDE * 4);
    let buffer = pool.create_buffer(
        0,
        width,
        height,
        width * 4,
        Format::Xrgb8888,
        &app.client.handle(),
        Log::default(),
    );
    pool.destroy();
    buffer
}

/// A buffer of one colour.
fn filled(app: &App, colour: u32) -> WlBuffer {
    let memory = memory(BYTES);
    let pixels: Vec<u8> = colour.to_ne_bytes().repeat((SIZE.0 * SIZE.1) as usize);
    assert_eq!(rustix::io::pwrite(&memory, &pixels, 0).expect("pwrite"), pixels.len());
    let pool = app.pool(&memory, BYTES);
    let (format, handle) = (Format::Xrgb8888, app.client.handle());
    pool.create_buffer(0, SIZE.0, SIZE.1, STRIDE, format, &handle, Log::default())
}

/// A window of one colour that is on the screen.
fn painted(desk: &Desk, colour: u32) -> (App, Window) {
    let mut app = App::new(desk);
    let window = app.window();
    let buffer = filled(&app, colour);
    let shown = app.show(&window.surface, &buffer);
    app.until_shown(&shown);
    (app, window)
}

const PIXELS: usize = (SIZE.0 * SIZE.1) as usize;

#[test]
fn a_session_says_what_buffer_it_takes() {
    let desk = desk();
    let mut photographer = Photographer::new(&desk);
    let session = photographer.session();
    photographer.app.client.expect_no_error();
    let said = events(&session);
    let size = said.iter().find_map(|event| match event {
        session::Event::BufferSize { width, height } => Some((*width, *height)),
        _ => None,
    });
    assert_eq!(size, Some((SIDE as u32, SIDE as u32)));
    assert!(said.iter().any(|event| matches!(event, session::Event::ShmFormat { .. })));
    assert!(matches!(said.last(), Some(session::Event::Done)), "{said:?}");
}

#[test]
fn a_picture_shows_what_the_clients_drew_pixel_by_pixel() {
    let desk = desk();
    let (_app, _window) = painted(&desk, COLOUR);
    let mut photographer = Photographer::new(&desk);
    let session = photographer.session();
    let got = photographer.take(&session);
    assert!(matches!(got.last(), Some(frame::Event::Ready)), "{got:?}");
    let full = frame::Event::Damage { x: 0, y: 0, width: SIDE, height: SIDE };
    assert!(got.iter().any(|event| format!("{event:?}") == format!("{full:?}")), "{got:?}");
    assert!(got.iter().any(|event| matches!(event, frame::Event::PresentationTime { .. })));
    assert_eq!(photographer.count(COLOUR), PIXELS);
}

#[test]
fn the_next_picture_of_a_session_comes_with_the_next_change() {
    let desk = desk();
    let (app, window) = painted(&desk, COLOUR);
    let mut photographer = Photographer::new(&desk);
    let session = photographer.session();
    photographer.take(&session);
    let second = photographer.frame(&session);
    second.attach_buffer(&photographer.buffer);
    second.capture();
    for _ in 0..5 {
        photographer.app.client.expect_no_error();
        assert_eq!(format!("{:?}", events(&second)), "[]", "nothing has changed");
    }
    let mut app = app;
    let other = filled(&app, 0x00ab_cdef);
    let shown = app.show(&window.surface, &other);
    app.until_shown(&shown);
    let mut ready = false;
    photographer.app.client.until(|| {
        ready |= events(&second).iter().any(|event| matches!(event, frame::Event::Ready));
        ready
    });
    assert_eq!((photographer.count(COLOUR), photographer.count(0x00ab_cdef)), (0, PIXELS));
}

#[test]
fn a_picture_takes_nothing_from_the_frame_that_is_to_come() {
    let desk = desk();
    let (mut app, window) = painted(&desk, COLOUR);
    let mut photographer = Photographer::new(&desk);
    let session = photographer.session();
    let other = filled(&app, 0x00ab_cdef);
    let (callback, shown) = (app.frame(&window.surface), app.show(&window.surface, &other));
    photographer.take(&session);
    app.until_shown(&shown);
    assert_eq!(app.fate(&shown), Fate::Shown);
    app.client.until(|| !events(&callback).is_empty());
}

#[test]
fn a_session_stops_with_its_output_and_whoever_waits_is_told() {
    let desk = desk_with_outputs(2);
    let mut photographer = Photographer::new(&desk);
    photographer.output = photographer.app.client.bind_all(4).pop().expect("the second output");
    let session = photographer.session();
    photographer.take(&session);
    let waiting = photographer.frame(&session);
    waiting.attach_buffer(&photographer.buffer);
    waiting.capture();
    photographer.app.client.expect_no_error();
    events(&session);
    desk.server_mut().state().unplug("HEADLESS-2");
    photographer.app.client.expect_no_error();
    assert!(matches!(events(&session)[..], [session::Event::Stopped]));
    assert!(matches!(events(&waiting)[..], [frame::Event::Failed { .. }]));
}

#[test]
fn requests_out_of_order_are_errors_on_the_frame_or_its_session() {
    let desk = desk();
    let fresh = |desk: &Desk| {
        let mut photographer = Photographer::new(desk);
        let session = photographer.session();
        let frame = photographer.frame(&session);
        (photographer, session, frame)
    };
    let (mut photographer, _session, frame) = fresh(&desk);
    frame.capture();
    photographer.app.client.expect_protocol_error(&frame, frame::Error::NoBuffer);

    let (mut photographer, _session, frame) = fresh(&desk);
    frame.damage_buffer(0, 0, 0, 1);
    photographer.app.client.expect_protocol_error(&frame, frame::Error::InvalidBufferDamage);

    let (mut photographer, _session, frame) = fresh(&desk);
    frame.attach_buffer(&photographer.buffer);
    frame.capture();
    frame.capture();
    photographer.app.client.expect_protocol_error(&frame, frame::Error::AlreadyCaptured);

    let (mut photographer, session, _frame) = fresh(&desk);
    let _second = photographer.frame(&session);
    photographer.app.client.expect_protocol_error(&session, session::Error::DuplicateFrame);

    let (mut photographer, session, frame) = fresh(&desk);
    frame.destroy();
    let _second = photographer.frame(&session);
    photographer.app.client.expect_no_error();
}

#[test]
fn a_buffer_of_another_size_fails_and_ends_nobody() {
    let desk = desk();
    let mut photographer = Photographer::new(&desk);
    let session = photographer.session();
    photographer.buffer = picture(&photographer.app, &photographer.memory, SIDE, SIDE - 1);
    let got = photographer.take(&session);
    let unfit = wayland_client::WEnum::Value(frame::FailureReason::BufferConstraints);
    assert!(matches!(got.last(), Some(frame::Event::Failed { reason }) if *reason == unfit), "{got:?}");
    photographer.app.client.expect_no_error();
}

#[test]
fn screencopy_shows_all_of_an_output_and_any_part_of_it() {
    let desk = desk();
    let (_app, _window) = painted(&desk, COLOUR);
    let mut photographer = Photographer::new(&desk);
    let whole = photographer.wlr(None);
    whole.copy(&photographer.buffer);
    assert!(photographer.until_ready(&whole));
    let all = photographer.pixels();
    assert_eq!(all.iter().filter(|pixel| **pixel == COLOUR).count(), PIXELS);

    let (x, y, width, height) = (30, 50, 64, 40);
    let part = photographer.wlr(Some((x, y, width, height)));
    let buffer = picture(&photographer.app, &photographer.memory, width, height);
    part.copy(&buffer);
    assert!(photographer.until_ready(&part));
    let cut: Vec<_> = photographer.pixels().into_iter().take((width * height) as usize).collect();
    let expected =
        (y..y + height).flat_map(|row| (x..x + width).map(move |column| (row * SIDE + column) as usize));
    assert_eq!(cut, expected.map(|at| all[at]).collect::<Vec<_>>());
}

#[test]
fn a_part_beyond_the_output_is_cut_off_and_one_outside_fails() {
    let desk = desk();
    let mut photographer = Photographer::new(&desk);
    let outside = photographer.wlr(Some((SIDE, 0, 10, 10)));
    assert!(!photographer.until_ready(&outside));
    let beyond = photographer.wlr(Some((SIDE - 10, SIDE - 20, i32::MAX, i32::MAX)));
    photographer.app.client.expect_no_error();
    let size = events(&beyond).into_iter().find_map(|event| match event {
        wlr::Event::Buffer { width, height, .. } => Some((width, height)),
        _ => None,
    });
    assert_eq!(size, Some((10, 20)));
}

#[test]
fn screencopy_copies_a_frame_once_and_only_into_a_buffer_that_fits() {
    let desk = desk();
    let mut photographer = Photographer::new(&desk);
    let frame = photographer.wlr(None);
    frame.copy(&photographer.buffer);
    frame.copy(&photographer.buffer);
    photographer.app.client.expect_protocol_error(&frame, wlr::Error::AlreadyUsed);

    let mut photographer = Photographer::new(&desk);
    let frame = photographer.wlr(None);
    frame.copy(&picture(&photographer.app, &photographer.memory, SIDE, 1));
    photographer.app.client.expect_protocol_error(&frame, wlr::Error::InvalidBuffer);
}
