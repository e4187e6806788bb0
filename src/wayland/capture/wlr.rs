//! wlr-screencopy-unstable-v1, for the tools that know no other: one frame object a picture.

use std::sync::Mutex;

use smithay::{
    output::Output,
    reexports::wayland_server::{
        Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, Weak,
        protocol::{wl_buffer::WlBuffer, wl_output::WlOutput, wl_shm},
    },
    utils::{Buffer, Logical, Rectangle, Size},
};
use wayland_protocols_wlr::screencopy::v1::server::{
    zwlr_screencopy_frame_v1::{self as frame, ZwlrScreencopyFrameV1},
    zwlr_screencopy_manager_v1::{self as manager, ZwlrScreencopyManagerV1},
};

use super::{Job, Reply, Taken, Target, Unfit, When, size_of, split};
use crate::compositor::Compositor;

const VERSION: u32 = 3;

pub(super) fn create_global(display: &DisplayHandle) {
    display.create_global::<Compositor, ZwlrScreencopyManagerV1, ()>(VERSION, ());
}

/// What stands behind a `zwlr_screencopy_frame_v1`; nothing if its output is gone or its region empty.
#[derive(Debug)]
pub(crate) struct Frame(Option<Wanted>);

#[derive(Debug)]
struct Wanted {
    output: Output,
    region: Rectangle<i32, Buffer>,
    cursor: bool,
    copied: Mutex<bool>,
}

/// Who waits for a frame.
#[derive(Debug)]
pub(super) struct FrameReply {
    frame: Weak<ZwlrScreencopyFrameV1>,
    with_damage: bool,
}

impl FrameReply {
    pub(super) fn ready(self, region: Rectangle<i32, Buffer>, taken: Taken) {
        let Ok(frame) = self.frame.upgrade() else { return };
        frame.flags(frame::Flags::empty());
        if self.with_damage {
            frame.damage(0, 0, region.size.w.unsigned_abs(), region.size.h.unsigned_abs());
        }
        let (high, low, nanoseconds) = split(taken.at);
        frame.ready(high, low, nanoseconds);
    }

    pub(super) fn failed(self) {
        if let Ok(frame) = self.frame.upgrade() {
            frame.failed();
        }
    }
}

/// The pixels of an output's mode that show a part of it, given in its logical coordinates.
fn pixels(output: &Output, part: Rectangle<i32, Logical>) -> Option<Rectangle<i32, Buffer>> {
    let mode = size_of(output)?;
    let transform = output.current_transform();
    let turned: Size<i32, Buffer> = transform.transform_size(mode);
    let part = part.to_f64().to_physical(output.current_scale().fractional_scale()).to_i32_round::<i32>();
    let part =
        Rectangle::<i32, Buffer>::new((part.loc.x, part.loc.y).into(), (part.size.w, part.size.h).into());
    let part = part.intersection(Rectangle::from_size(turned))?;
    (!part.is_empty()).then(|| transform.transform_rect_in(part, &turned))
}

fn wanted(output: &WlOutput, cursor: i32, part: Option<Rectangle<i32, Logical>>) -> Option<Wanted> {
    let output = Output::from_resource(output)?;
    let region = match part {
        Some(part) => pixels(&output, part)?,
        None => Rectangle::from_size(size_of(&output)?),
    };
    Some(Wanted { output, region, cursor: cursor != 0, copied: Mutex::new(false) })
}

/// Says what buffer a frame takes. Linear shared memory always; a dma-buf where it can be drawn into, which is only
/// possible for all of the output.
fn announce(state: &Compositor, object: &ZwlrScreencopyFrameV1, wanted: &Wanted) {
    let size = wanted.region.size;
    let (width, height) = (size.w.unsigned_abs(), size.h.unsigned_abs());
    object.buffer(wl_shm::Format::Xrgb8888, width, height, width.saturating_mul(4));
    if object.version() < frame::EVT_BUFFER_DONE_SINCE {
        return;
    }
    let whole = size_of(&wanted.output) == Some(size);
    let drawable = state.drawable_formats();
    let format = drawable.iter().find(|format| format.code == smithay::backend::allocator::Fourcc::Xrgb8888);
    if let Some(format) = format.filter(|_| whole && state.capture_device().is_some()) {
        object.linux_dmabuf(format.code as u32, width, height);
    }
    object.buffer_done();
}

impl GlobalDispatch<ZwlrScreencopyManagerV1, ()> for Compositor {
    fn bind(
        _state: &mut Self,
        _display: &DisplayHandle,
        _client: &Client,
        resource: New<ZwlrScreencopyManagerV1>,
        _data: &(),
        init: &mut DataInit<'_, Self>,
    ) {
        init.init(resource, ());
    }
}

impl Dispatch<ZwlrScreencopyManagerV1, ()> for Compositor {
    fn request(
        state: &mut Self,
        _client: &Client,
        _object: &ZwlrScreencopyManagerV1,
        request: manager::Request,
        _data: &(),
        _display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let (frame, wanted) = match request {
            manager::Request::CaptureOutput { frame, overlay_cursor, output } => {
                (frame, wanted(&output, overlay_cursor, None))
            }
            manager::Request::CaptureOutputRegion { frame, overlay_cursor, output, x, y, width, height } => {
                // Clamped: smithay scales with plain arithmetic.
                let far = |value: i32| value.clamp(-(1 << 18), 1 << 18);
                let part =
                    Rectangle::new((far(x), far(y)).into(), (far(width).max(0), far(height).max(0)).into());
                (frame, wanted(&output, overlay_cursor, Some(part)))
            }
            _ => return,
        };
        let object = init.init(frame, Frame(wanted));
        match object.data::<Frame>().and_then(|frame| frame.0.as_ref()) {
            Some(wanted) => announce(state, &object, wanted),
            None => object.failed(),
        }
    }
}

impl Dispatch<ZwlrScreencopyFrameV1, Frame> for Compositor {
    fn request(
        state: &mut Self,
        _client: &Client,
        object: &ZwlrScreencopyFrameV1,
        request: frame::Request,
        data: &Frame,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, Self>,
    ) {
        let (buffer, with_damage) = match request {
            frame::Request::Copy { buffer } => (buffer, false),
            frame::Request::CopyWithDamage { buffer } => (buffer, true),
            _ => return,
        };
        // A frame that has failed waits only to be destroyed.
        if let Some(wanted) = &data.0 {
            copy(state, object, wanted, buffer, with_damage);
        }
    }
}

fn copy(
    state: &mut Compositor,
    object: &ZwlrScreencopyFrameV1,
    wanted: &Wanted,
    buffer: WlBuffer,
    with_damage: bool,
) {
    if wanted.copied.lock().is_ok_and(|mut copied| std::mem::replace(&mut *copied, true)) {
        object.post_error(frame::Error::AlreadyUsed, "a frame is copied once");
        return;
    }
    let target = match Target::of(buffer, wanted.region.size, &state.drawable_formats()) {
        Ok(target) => target,
        Err(unfit @ Unfit) => return object.post_error(frame::Error::InvalidBuffer, unfit.to_string()),
    };
    // A client that wants to wait for damage has just made its frame object; what is damage to it counts from now.
    let when = match with_damage {
        true => state.frames_shown(&wanted.output).map_or(When::Now, When::After),
        false => When::Now,
    };
    state.capture(Job {
        output: wanted.output.clone(),
        region: wanted.region,
        cursor: wanted.cursor,
        when,
        target,
        reply: Some(Reply::Wlr(FrameReply { frame: object.downgrade(), with_damage })),
    });
}
