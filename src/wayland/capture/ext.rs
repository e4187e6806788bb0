//! ext-image-capture-source-v1 (outputs) and ext-image-copy-capture-v1.
//!
//! Owns the sessions with their buffer constraints, and each session's one frame. A pointer's cursor cannot be captured by
//! itself: such a session is stopped as soon as it is asked for.

use std::sync::Mutex;

use smithay::{
    backend::allocator::Format,
    output::{Output, WeakOutput},
    reexports::{
        wayland_protocols::ext::{
            image_capture_source::v1::server::{
                ext_image_capture_source_v1::{self as source, ExtImageCaptureSourceV1},
                ext_output_image_capture_source_manager_v1::{
                    self as source_manager, ExtOutputImageCaptureSourceManagerV1,
                },
            },
            image_copy_capture::v1::server::{
                ext_image_copy_capture_cursor_session_v1::{
                    self as cursor_session, ExtImageCopyCaptureCursorSessionV1,
                },
                ext_image_copy_capture_frame_v1::{self as frame, ExtImageCopyCaptureFrameV1},
                ext_image_copy_capture_manager_v1::{self as manager, ExtImageCopyCaptureManagerV1},
                ext_image_copy_capture_session_v1::{self as session, ExtImageCopyCaptureSessionV1},
            },
        },
        wayland_server::{
            Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, WEnum, Weak,
            backend::ClientId, protocol::wl_buffer::WlBuffer,
        },
    },
    utils::{Buffer, Rectangle, Size},
};

use super::{Failure, Job, Reply, SHM_FORMATS, Taken, Target, Unfit, When, size_of, split};
use crate::compositor::Compositor;

pub(super) fn create_globals(display: &DisplayHandle) {
    display.create_global::<Compositor, ExtOutputImageCaptureSourceManagerV1, ()>(1, ());
    display.create_global::<Compositor, ExtImageCopyCaptureManagerV1, ()>(1, ());
}

/// The sessions that are open.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Vec<Weak<ExtImageCopyCaptureSessionV1>>);

impl Sessions {
    /// Outputs have changed: sessions whose output has another size want other buffers.
    pub(crate) fn outputs_changed(&self, drawable: &[Format], device: Option<u64>) {
        for session in self.0.iter().filter_map(|session| session.upgrade().ok()) {
            let Some(data) = session.data::<Session>() else { continue };
            let Some(output) = data.output.upgrade() else { continue };
            let announced = data.state.lock().ok().and_then(|state| state.announced);
            if announced != size_of(&output) {
                announce(&session, &output, drawable, device);
            }
        }
    }

    /// An output is gone, and its sessions with it.
    pub(crate) fn output_gone(&self, output: &Output) {
        for session in self.0.iter().filter_map(|session| session.upgrade().ok()) {
            if session.data::<Session>().is_some_and(|data| data.output == *output) {
                session.stopped();
            }
        }
    }
}

/// What stands behind an `ext_image_capture_source_v1`.
#[derive(Debug)]
pub(crate) struct Source(WeakOutput);

/// What stands behind an `ext_image_copy_capture_session_v1`.
#[derive(Debug)]
pub(crate) struct Session {
    output: WeakOutput,
    cursor: bool,
    state: Mutex<SessionState>,
}

#[derive(Debug, Default)]
struct SessionState {
    /// The one frame object that may exist.
    frame: Option<Weak<ExtImageCopyCaptureFrameV1>>,
    /// The last frame of the output that was captured.
    seen: Option<u64>,
    /// The size that buffers were last said to need.
    announced: Option<Size<i32, Buffer>>,
}

/// What stands behind an `ext_image_copy_capture_frame_v1`.
#[derive(Debug)]
pub(crate) struct Frame {
    session: Weak<ExtImageCopyCaptureSessionV1>,
    state: Mutex<FrameState>,
}

#[derive(Debug, Default)]
struct FrameState {
    buffer: Option<WlBuffer>,
    captured: bool,
}

/// Who waits for a frame.
#[derive(Debug)]
pub(super) struct FrameReply {
    frame: Weak<ExtImageCopyCaptureFrameV1>,
    session: Weak<ExtImageCopyCaptureSessionV1>,
}

impl FrameReply {
    pub(super) fn ready(self, region: Rectangle<i32, Buffer>, taken: Taken) {
        if let Ok(session) = self.session.upgrade()
            && let Some(data) = session.data::<Session>()
            && let Ok(mut state) = data.state.lock()
        {
            state.seen = Some(taken.frame);
        }
        let Ok(frame) = self.frame.upgrade() else { return };
        frame.transform(taken.transform.into());
        frame.damage(0, 0, region.size.w, region.size.h);
        let (high, low, nanoseconds) = split(taken.at);
        frame.presentation_time(high, low, nanoseconds);
        frame.ready();
    }

    pub(super) fn failed(self, failure: Failure) {
        let Ok(frame) = self.frame.upgrade() else { return };
        frame.failed(match failure {
            Failure::Unfit => frame::FailureReason::BufferConstraints,
            Failure::Unknown => frame::FailureReason::Unknown,
            Failure::Stopped => frame::FailureReason::Stopped,
        });
    }
}

/// Says what buffers a session takes.
fn announce(
    session: &ExtImageCopyCaptureSessionV1,
    output: &Output,
    drawable: &[Format],
    device: Option<u64>,
) {
    let Some(size) = size_of(output) else { return session.stopped() };
    if let Some(data) = session.data::<Session>()
        && let Ok(mut state) = data.state.lock()
    {
        state.announced = Some(size);
    }
    session.buffer_size(size.w.unsigned_abs(), size.h.unsigned_abs());
    for format in SHM_FORMATS {
        session.shm_format(format);
    }
    if let Some(device) = device {
        session.dmabuf_device(device.to_ne_bytes().into());
        let mut codes: Vec<_> = drawable.iter().map(|format| format.code).collect();
        codes.sort_by_key(|code| *code as u32);
        codes.dedup();
        for code in codes {
            let modifiers =
                drawable.iter().filter(|format| format.code == code).map(|format| format.modifier);
            let bytes = modifiers.flat_map(|modifier| u64::from(modifier).to_ne_bytes()).collect();
            session.dmabuf_format(code as u32, bytes);
        }
    }
    session.done();
}

impl GlobalDispatch<ExtOutputImageCaptureSourceManagerV1, ()> for Compositor {
    fn bind(
        _state: &mut Self,
        _display: &DisplayHandle,
        _client: &Client,
        resource: New<ExtOutputImageCaptureSourceManagerV1>,
        _data: &(),
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(resource, ());
    }
}

impl Dispatch<ExtOutputImageCaptureSourceManagerV1, ()> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        _object: &ExtOutputImageCaptureSourceManagerV1,
        request: source_manager::Request,
        _data: &(),
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        if let source_manager::Request::CreateSource { source, output } = request {
            let output = Output::from_resource(&output).map(|output| output.downgrade());
            init.init(source, Source(output.unwrap_or_default()));
        }
    }
}

impl Dispatch<ExtImageCaptureSourceV1, Source> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        _object: &ExtImageCaptureSourceV1,
        _request: source::Request,
        _data: &Source,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        // Its one request is its destructor; sessions made from it go on.
    }
}

impl GlobalDispatch<ExtImageCopyCaptureManagerV1, ()> for Compositor {
    fn bind(
        _state: &mut Self,
        _display: &DisplayHandle,
        _client: &Client,
        resource: New<ExtImageCopyCaptureManagerV1>,
        _data: &(),
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(resource, ());
    }
}

impl Dispatch<ExtImageCopyCaptureManagerV1, ()> for Compositor {
    fn request(
        state: &mut Self,
        _client: &Client,
        object: &ExtImageCopyCaptureManagerV1,
        request: manager::Request,
        _data: &(),
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            manager::Request::CreateSession { session, source, options } => {
                let WEnum::Value(options) = options else {
                    object.post_error(manager::Error::InvalidOption, "unknown options");
                    // The object has to exist for the library to be content; the client is gone all the same.
                    init.init(
                        session,
                        Session { output: WeakOutput::default(), cursor: false, state: Mutex::default() },
                    );
                    return;
                };
                let output = source.data::<Source>().map(|source| source.0.clone()).unwrap_or_default();
                let cursor = options.contains(manager::Options::PaintCursors);
                let session =
                    init.init(session, Session { output: output.clone(), cursor, state: Mutex::default() });
                match output.upgrade() {
                    Some(output) => {
                        announce(&session, &output, &state.drawable_formats(), state.capture_device());
                        let sessions = &mut state.globals.sessions.0;
                        sessions.retain(|session| session.upgrade().is_ok());
                        sessions.push(session.downgrade());
                    }
                    None => session.stopped(),
                }
            }
            manager::Request::CreatePointerCursorSession { session, .. } => {
                init.init(session, CursorSession::default());
            }
            _ => {}
        }
    }
}

/// What stands behind an `ext_image_copy_capture_cursor_session_v1`.
#[derive(Debug, Default)]
pub(crate) struct CursorSession(Mutex<bool>);

impl Dispatch<ExtImageCopyCaptureCursorSessionV1, CursorSession> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        object: &ExtImageCopyCaptureCursorSessionV1,
        request: cursor_session::Request,
        data: &CursorSession,
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        if let cursor_session::Request::GetCaptureSession { session } = request {
            let twice = data.0.lock().is_ok_and(|mut asked| std::mem::replace(&mut *asked, true));
            let session = init.init(
                session,
                Session { output: WeakOutput::default(), cursor: false, state: Mutex::default() },
            );
            if twice {
                object.post_error(cursor_session::Error::DuplicateSession, "the session exists already");
                return;
            }
            session.stopped();
        }
    }
}

impl Dispatch<ExtImageCopyCaptureSessionV1, Session> for Compositor {
    fn request(
        _state: &mut Self,
        _client: &Client,
        object: &ExtImageCopyCaptureSessionV1,
        request: session::Request,
        data: &Session,
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        if let session::Request::CreateFrame { frame } = request {
            let frame = init.init(frame, Frame { session: object.downgrade(), state: Mutex::default() });
            let Ok(mut state) = data.state.lock() else { return };
            let alive = state.frame.as_ref().is_some_and(|before| before.upgrade().is_ok());
            if alive {
                object.post_error(session::Error::DuplicateFrame, "the frame before has not been destroyed");
                return;
            }
            state.frame = Some(frame.downgrade());
        }
    }
}

impl Dispatch<ExtImageCopyCaptureFrameV1, Frame> for Compositor {
    fn request(
        state: &mut Self,
        _client: &Client,
        object: &ExtImageCopyCaptureFrameV1,
        request: frame::Request,
        data: &Frame,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        let Ok(mut pending) = data.state.lock() else { return };
        if pending.captured && !matches!(request, frame::Request::Destroy) {
            object.post_error(frame::Error::AlreadyCaptured, "capture has been sent");
            return;
        }
        match request {
            frame::Request::AttachBuffer { buffer } => pending.buffer = Some(buffer),
            // Every capture fills the whole buffer: damage that is damage changes nothing.
            frame::Request::DamageBuffer { x, y, width, height }
                if x < 0 || y < 0 || width <= 0 || height <= 0 =>
            {
                let message = format!("{width}x{height} at {x},{y} is no damage");
                object.post_error(frame::Error::InvalidBufferDamage, message);
            }
            frame::Request::Capture => match pending.buffer.take() {
                Some(buffer) => {
                    pending.captured = true;
                    drop(pending);
                    capture(state, object, data, buffer);
                }
                None => object.post_error(frame::Error::NoBuffer, "no buffer is attached"),
            },
            _ => {}
        }
    }

    fn destroyed(_state: &mut Self, _client: ClientId, object: &ExtImageCopyCaptureFrameV1, data: &Frame) {
        if let Ok(session) = data.session.upgrade()
            && let Some(session) = session.data::<Session>()
            && let Ok(mut state) = session.state.lock()
            && state.frame.as_ref().is_some_and(|frame| frame.id() == object.id())
        {
            state.frame = None;
        }
    }
}

fn capture(state: &mut Compositor, object: &ExtImageCopyCaptureFrameV1, data: &Frame, buffer: WlBuffer) {
    let reply = FrameReply { frame: object.downgrade(), session: data.session.clone() };
    let session = data.session.upgrade().ok();
    let session = session.as_ref().and_then(|session| session.data::<Session>());
    let output = session.and_then(|session| session.output.upgrade());
    let (Some(session), Some(output)) = (session, output) else { return reply.failed(Failure::Stopped) };
    let Some(size) = size_of(&output) else { return reply.failed(Failure::Stopped) };
    let target = match Target::of(buffer, size, &state.drawable_formats()) {
        Ok(target) => target,
        Err(Unfit) => return reply.failed(Failure::Unfit),
    };
    let seen = session.state.lock().ok().and_then(|state| state.seen);
    state.capture(Job {
        output,
        region: Rectangle::from_size(size),
        cursor: session.cursor,
        when: seen.map_or(When::Now, When::After),
        target,
        reply: Some(Reply::Ext(reply)),
    });
}
