//! linux-dmabuf-v1: how buffers are made, and every way to do it wrong.
//!
//! "Any argument errors may be indicated by fatal protocol errors": where the protocol leaves the choice, `failed` is as good as
//! any of the four errors that it names, and only a buffer made of nonsense is wrong.

use std::os::fd::{AsFd, OwnedFd};

use wayland_client::Proxy;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::{
    Error, Event, Flags, ZwpLinuxBufferParamsV1,
};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1;

use crate::client::probe::Probe;
use crate::client::probe::app::{App, FORMAT, memory};
use crate::client::probe::case::{Case, case};
use crate::client::probe::connection::{Inbox, inbox, told};
use crate::client::probe::verdict::{Outcome, Stop};
use crate::client::source::{Image, Plane};
use crate::client::wire::add_planes;
use crate::halves::halves;

const PARAMS: &str = "linux-dmabuf-v1: zwp_linux_buffer_params_v1";
const ADD: &str = "linux-dmabuf-v1: zwp_linux_buffer_params_v1.add";
const CREATE: &str = "linux-dmabuf-v1: zwp_linux_buffer_params_v1.create";
const CREATE_IMMED: &str = "linux-dmabuf-v1: zwp_linux_buffer_params_v1.create_immed";
const SAMPLING: &str = "linux-dmabuf-v1: zwp_linux_buffer_params_v1.set_sampling_device";
const FACTORY: &str = "linux-dmabuf-v1: zwp_linux_dmabuf_v1.destroy";

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("dmabuf.create", "create is answered by exactly one event", CREATE, create_answers_once),
    case("dmabuf.create-immed", "create_immed is not answered if it succeeds", CREATE_IMMED, create_immed_is_silent),
    case("dmabuf.cancel", "params may be destroyed without a buffer", PARAMS, cancel),
    case("dmabuf.params-destroyed", "a buffer outlives its params and its factory, and is shown", FACTORY, outlives_its_makers),
    case("dmabuf.d1.add-after-create", "add after create is already_used", CREATE, d1_add_after_create),
    case("dmabuf.d1.create-after-create", "create after create is already_used", CREATE, d1_create_after_create),
    case("dmabuf.d1.immed-after-create", "create_immed after create is already_used", CREATE_IMMED, d1_immed_after_create),
    case("dmabuf.d1.create-after-immed", "create after create_immed is already_used", CREATE_IMMED, d1_create_after_immed),
    case("dmabuf.d2.five", "a plane index of 4 is plane_idx: no format has more than 4 planes", ADD, d2_five),
    case("dmabuf.d2.largest", "the largest plane index there is is plane_idx", ADD, d2_largest),
    case("dmabuf.d3.twice", "a plane that is set twice is plane_set", ADD, d3_twice),
    case("dmabuf.d4.none", "no planes are an argument error (incomplete), or make no buffer", CREATE, d4_none),
    case("dmabuf.d4.gap", "planes that do not start at 0 are an argument error (incomplete), or make no buffer", CREATE, d4_gap),
    case("dmabuf.d4.too-many", "more planes than the format has are an argument error (incomplete), or make no buffer", CREATE, d4_too_many),
    case("dmabuf.d5.format", "since version 4, a format that was not advertised is invalid_format", ADD, d5_format),
    case("dmabuf.d5.modifier", "since version 4, a modifier that was not advertised is invalid_format", ADD, d5_modifier),
    case("dmabuf.d5.differing", "since version 5, planes of two modifiers are invalid_format", ADD, d5_differing),
    case("dmabuf.d6.zero", "a width of 0 is an argument error (invalid_dimensions), or makes no buffer", CREATE, d6_zero),
    case("dmabuf.d6.negative", "a negative height is an argument error (invalid_dimensions), or makes no buffer", CREATE, d6_negative),
    case("dmabuf.d7.offset", "a plane that starts outside its dma-buf is an argument error (out_of_bounds), or makes no buffer", CREATE, d7_offset),
    case("dmabuf.d7.stride", "rows that end outside their dma-buf are an argument error (out_of_bounds), or make no buffer", CREATE, d7_stride),
    case("dmabuf.d8.memfd", "a memfd is no dma-buf: failed, or invalid_wl_buffer", CREATE_IMMED, d8_memfd),
    case("dmabuf.d8.pipe", "a pipe is no dma-buf: failed, or invalid_wl_buffer", CREATE_IMMED, d8_pipe),
    case("dmabuf.d9.small", "a device of 3 bytes is invalid_dev_t_size", SAMPLING, d9_small),
    case("dmabuf.d9.large", "a device of 16 bytes is invalid_dev_t_size", SAMPLING, d9_large),
    case("dmabuf.d9.unknown", "a device that was not advertised is no protocol error", SAMPLING, d9_unknown),
];

/// Which of them is which argument's is not said.
const ARGUMENT_ERRORS: &[Error] =
    &[Error::Incomplete, Error::InvalidFormat, Error::InvalidDimensions, Error::OutOfBounds];

/// A client with an image, and empty params for it.
struct Desk {
    app: App,
    image: Box<dyn Image>,
    params: ZwpLinuxBufferParamsV1,
}

impl Desk {
    /// With the latest version up to 5.
    fn new(probe: &mut Probe) -> Result<Self, Stop> {
        let mut app = probe.app()?;
        let factory = app.factory()?;
        Self::with(app, &factory, probe.machine.image()?)
    }

    /// With a version that is at least `version`.
    fn since(probe: &mut Probe, version: u32) -> Result<Self, Stop> {
        let app = probe.app()?;
        let factory = app.client.bind(version..=version.max(5))?;
        Self::with(app, &factory, probe.machine.image()?)
    }

    fn with(app: App, factory: &ZwpLinuxDmabufV1, image: Box<dyn Image>) -> Result<Self, Stop> {
        let params = factory.create_params(&app.client.handle(), Inbox::default());
        Ok(Self { app, image, params })
    }

    /// With the planes of the image.
    fn filled(probe: &mut Probe) -> Result<Self, Stop> {
        let desk = Self::new(probe)?;
        desk.add_planes();
        Ok(desk)
    }

    fn add_planes(&self) {
        add_planes(&self.params, self.image.layout());
    }

    fn plane(&self) -> Result<&Plane, Stop> {
        self.image.layout().planes.first().ok_or(Stop::CannotTest("the image has no planes".into()))
    }

    fn add(&self, fd: impl AsFd, index: u32, offset: u32, stride: u32, modifier: u64) {
        let (high, low) = halves(modifier);
        self.params.add(fd.as_fd(), index, offset, stride, high, low);
    }

    /// Adds the first plane of the image at an index.
    fn add_at(&self, index: u32) -> Result<(), Stop> {
        let plane = self.plane()?;
        self.add(&plane.fd, index, plane.offset, plane.stride, self.image.layout().modifier);
        Ok(())
    }

    fn create(&self) {
        self.app.create(&self.params, self.image.layout());
    }

    fn create_immed(&self) {
        self.app.create_immed(&self.params, self.image.layout());
    }

    fn size(&self) -> (i32, i32) {
        let (width, height) = self.image.layout().size;
        (width as i32, height as i32)
    }

    fn expect_error(mut self, error: Error) -> Outcome {
        let answer = self.app.client.expect_error(&self.params, error);
        answer.map_err(|stop| match (stop, self.answers()) {
            (Stop::Fail(seen), answers) if answers != (0, 0) => {
                Stop::Fail(format!("{seen}; created and failed came {answers:?} times"))
            }
            (stop, _) => stop,
        })
    }

    /// The answer to a create: how many created and failed events there are.
    fn answers(&self) -> (usize, usize) {
        let count = |is: fn(&Event) -> bool| {
            inbox(&self.params, |events| events.iter().filter(|event| is(event)).count())
        };
        (count(|event| matches!(event, Event::Created { .. })), count(|event| matches!(event, Event::Failed)))
    }

    /// After a create that must not give a buffer: `failed`, or one of the errors.
    fn expect_refusal(mut self, errors: &[Error]) -> Outcome {
        let (interface, id) = (ZwpLinuxBufferParamsV1::interface().name, self.params.id().protocol_id());
        let (app, params) = (&mut self.app, &self.params);
        let error = match app.client.end()? {
            Some(error) => Some(error),
            // An importer may take its time.
            None => {
                app.client.wait(app.client.patience(), || inbox(params, |events| !events.is_empty()))?;
                None
            }
        };
        let wanted = || errors.iter().map(|error| *error as u32).collect::<Vec<_>>();
        match (error, self.answers()) {
            (Some(error), _)
                if (error.object_interface.as_str(), error.object_id) == (interface, id)
                    && wanted().contains(&error.code) =>
            {
                Ok(told(&error))
            }
            (Some(error), _) => Err(Stop::Fail(format!(
                "{}; one of {:?} on {interface}@{id}, or failed, is wanted",
                told(&error),
                wanted()
            ))),
            (None, (0, 1)) => Ok("failed".into()),
            (None, (0, 0)) => Err(Stop::fail("neither an error nor failed")),
            (None, answers) => Err(Stop::Fail(format!("created and failed came {answers:?} times"))),
        }
    }
}

fn create_answers_once(probe: &mut Probe) -> Outcome {
    let mut desk = Desk::filled(probe)?;
    desk.create();
    let params = &desk.params;
    desk.app.client.until("created or failed", || inbox(params, |events| !events.is_empty()))?;
    desk.app.client.roundtrip()?;
    match desk.answers() {
        (1, 0) => Ok("created".into()),
        (0, 1) => Err(Stop::fail("failed, for a buffer that the compositor took before")),
        answers => Err(Stop::Fail(format!("created and failed came {answers:?} times"))),
    }
}

fn create_immed_is_silent(probe: &mut Probe) -> Outcome {
    let mut desk = Desk::filled(probe)?;
    desk.create_immed();
    desk.app.client.roundtrip()?;
    desk.app.client.roundtrip()?;
    match desk.answers() {
        (0, 0) => Ok("no event".into()),
        (0, 1) => Err(Stop::fail("failed, for a buffer that the compositor took before")),
        answers => Err(Stop::Fail(format!("created and failed came {answers:?} times"))),
    }
}

fn cancel(probe: &mut Probe) -> Outcome {
    let mut desk = Desk::new(probe)?;
    desk.params.destroy();
    desk.params = desk.app.params(desk.image.layout())?;
    desk.params.destroy();
    desk.app.client.expect_no_error()
}

fn outlives_its_makers(probe: &mut Probe) -> Outcome {
    probe.clock()?;
    let mut desk = Desk::filled(probe)?;
    let buffer = desk.app.create_immed(&desk.params, desk.image.layout());
    desk.params.destroy();
    desk.app.factory()?.destroy();
    // Ours are closed; those that were sent must do.
    drop(desk.image);
    let window = desk.app.window()?;
    let commit = desk.app.show(&window.surface, &buffer);
    desk.app.expect_shown(&commit)
}

fn d1_add_after_create(probe: &mut Probe) -> Outcome {
    let desk = Desk::filled(probe)?;
    desk.create();
    desk.add_at(1)?;
    desk.expect_error(Error::AlreadyUsed)
}

fn d1_create_after_create(probe: &mut Probe) -> Outcome {
    let desk = Desk::filled(probe)?;
    desk.create();
    desk.create();
    desk.expect_error(Error::AlreadyUsed)
}

fn d1_immed_after_create(probe: &mut Probe) -> Outcome {
    let desk = Desk::filled(probe)?;
    desk.create();
    desk.create_immed();
    desk.expect_error(Error::AlreadyUsed)
}

fn d1_create_after_immed(probe: &mut Probe) -> Outcome {
    let desk = Desk::filled(probe)?;
    desk.create_immed();
    desk.create();
    desk.expect_error(Error::AlreadyUsed)
}

fn d2_five(probe: &mut Probe) -> Outcome {
    let desk = Desk::new(probe)?;
    desk.add_at(4)?;
    desk.expect_error(Error::PlaneIdx)
}

fn d2_largest(probe: &mut Probe) -> Outcome {
    let desk = Desk::new(probe)?;
    desk.add_at(u32::MAX)?;
    desk.expect_error(Error::PlaneIdx)
}

fn d3_twice(probe: &mut Probe) -> Outcome {
    let desk = Desk::filled(probe)?;
    desk.add_at(0)?;
    desk.expect_error(Error::PlaneSet)
}

fn d4_none(probe: &mut Probe) -> Outcome {
    let desk = Desk::new(probe)?;
    desk.create();
    desk.expect_refusal(ARGUMENT_ERRORS)
}

fn d4_gap(probe: &mut Probe) -> Outcome {
    let desk = Desk::new(probe)?;
    desk.add_at(1)?;
    desk.create();
    desk.expect_refusal(ARGUMENT_ERRORS)
}

fn d4_too_many(probe: &mut Probe) -> Outcome {
    let desk = Desk::new(probe)?;
    for index in 0..4 {
        desk.add_at(index)?;
    }
    desk.create();
    // Planes of a driver's own (compression) may be more than the format has, so the import decides.
    desk.expect_refusal(ARGUMENT_ERRORS)
}

fn d5_format(probe: &mut Probe) -> Outcome {
    let desk = Desk::since(probe, 4)?;
    desk.add_planes();
    let (width, height) = desk.size();
    desk.params.create(width, height, u32::from_le_bytes(*b"!?!?"), Flags::empty());
    desk.expect_error(Error::InvalidFormat)
}

/// Of a vendor that there is not.
const NO_MODIFIER: u64 = 0x7f00_0000_0000_0bad;

fn d5_modifier(probe: &mut Probe) -> Outcome {
    let desk = Desk::since(probe, 4)?;
    for (plane, index) in desk.image.layout().planes.iter().zip(0..) {
        desk.add(&plane.fd, index, plane.offset, plane.stride, NO_MODIFIER);
    }
    desk.create();
    desk.expect_error(Error::InvalidFormat)
}

fn d5_differing(probe: &mut Probe) -> Outcome {
    let desk = Desk::since(probe, 5)?;
    desk.add_at(0)?;
    let plane = desk.plane()?;
    desk.add(&plane.fd, 1, plane.offset, plane.stride, NO_MODIFIER);
    desk.create();
    desk.expect_error(Error::InvalidFormat)
}

fn d6_zero(probe: &mut Probe) -> Outcome {
    let desk = Desk::filled(probe)?;
    desk.params.create(0, desk.size().1, FORMAT, Flags::empty());
    desk.expect_refusal(ARGUMENT_ERRORS)
}

fn d6_negative(probe: &mut Probe) -> Outcome {
    let desk = Desk::filled(probe)?;
    desk.params.create(desk.size().0, i32::MIN, FORMAT, Flags::empty());
    desk.expect_refusal(ARGUMENT_ERRORS)
}

fn d7_offset(probe: &mut Probe) -> Outcome {
    let desk = Desk::new(probe)?;
    let plane = desk.plane()?;
    desk.add(&plane.fd, 0, u32::MAX - 4095, plane.stride, desk.image.layout().modifier);
    desk.create();
    desk.expect_refusal(ARGUMENT_ERRORS)
}

fn d7_stride(probe: &mut Probe) -> Outcome {
    let desk = Desk::new(probe)?;
    let plane = desk.plane()?;
    desk.add(&plane.fd, 0, plane.offset, u32::MAX - 4095, desk.image.layout().modifier);
    desk.create();
    desk.expect_refusal(ARGUMENT_ERRORS)
}

fn no_dma_buf(probe: &mut Probe, fd: OwnedFd) -> Outcome {
    let desk = Desk::new(probe)?;
    let plane = desk.plane()?;
    desk.add(&fd, 0, plane.offset, plane.stride, desk.image.layout().modifier);
    desk.create_immed();
    desk.expect_refusal(&[Error::InvalidWlBuffer, Error::OutOfBounds])
}

fn d8_memfd(probe: &mut Probe) -> Outcome {
    no_dma_buf(probe, memory(1 << 20)?)
}

fn d8_pipe(probe: &mut Probe) -> Outcome {
    let (reader, _writer) = std::io::pipe()?;
    no_dma_buf(probe, reader.into())
}

fn with_sampling_device(probe: &mut Probe, bytes: usize) -> Result<Desk, Stop> {
    let app = probe.app()?;
    let factory: ZwpLinuxDmabufV1 = app.client.bind(6..=6)?;
    let desk = Desk::with(app, &factory, probe.machine.image()?)?;
    desk.add_planes();
    desk.params.set_sampling_device(vec![0xff; bytes]);
    Ok(desk)
}

fn d9_small(probe: &mut Probe) -> Outcome {
    with_sampling_device(probe, 3)?.expect_error(Error::InvalidDevTSize)
}

fn d9_large(probe: &mut Probe) -> Outcome {
    with_sampling_device(probe, 16)?.expect_error(Error::InvalidDevTSize)
}

fn d9_unknown(probe: &mut Probe) -> Outcome {
    let mut desk = with_sampling_device(probe, size_of::<rustix::fs::Dev>())?;
    desk.create();
    let params = &desk.params;
    desk.app.client.until("created or failed", || inbox(params, |events| !events.is_empty()))?;
    Ok(format!("created and failed came {:?} times", desk.answers()))
}
