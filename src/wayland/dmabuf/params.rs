//! Owns the params objects and the wl_buffers made of them. Must not know the rules of a buffer: it turns requests into
//! [`Params`], and what came of them into an answer.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Dev, SeekFrom, seek};
use smithay::backend::allocator::dmabuf::{Dmabuf, DmabufFlags};
use smithay::backend::allocator::{Format, Modifier};
use tracing::{debug, warn};
use wayland_protocols::wp::linux_dmabuf::zv1::server::zwp_linux_buffer_params_v1::{
    self, Flags, ZwpLinuxBufferParamsV1,
};
use wayland_server::backend::ClientId;
use wayland_server::protocol::wl_buffer::{self, WlBuffer};
use wayland_server::{Client, DataInit, Dispatch, DisplayHandle, New, Resource, WEnum};

use super::{DmabufHandler, DmabufState, count};
use crate::buffer::ClientDmabuf;
use crate::buffer::dmabuf::{self, Checked, Params, Plane, Refusal, Unusable, Violation};
use crate::fence::implicit;
use crate::halves::whole;
#[cfg(feature = "guest")]
use crate::wayland::broken::{self, BrokenRule};

/// The memory of a plane, counted among what its client may have.
#[derive(Debug)]
struct Memory {
    fd: OwnedFd,
    count: Arc<()>,
}

/// User data of the params objects.
// Requests come one at a time, but user data must be Sync.
#[derive(Debug, Default)]
pub struct ParamsData {
    params: Mutex<Params<Memory>>,
    sampling_device: Mutex<Option<Dev>>,
}

impl ParamsData {
    fn lock(&self) -> MutexGuard<'_, Params<Memory>> {
        self.params.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sampling_device(&self) -> MutexGuard<'_, Option<Dev>> {
        self.sampling_device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no wl_buffer, by reaction.
#[derive(Debug)]
enum Failure {
    /// The client is disconnected.
    Violation(Violation),
    /// The import failed; the client hears of it as its request wants it.
    Import(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Violation(violation) => Self::Violation(violation),
            Refusal::Unsupported(reason) => Self::Import(reason.to_string()),
        }
    }
}

impl<D> Dispatch<ZwpLinuxBufferParamsV1, ParamsData, D> for DmabufState
where
    D: DmabufHandler + Dispatch<ZwpLinuxBufferParamsV1, ParamsData> + Dispatch<WlBuffer, Arc<ClientDmabuf>>,
{
    fn request(
        state: &mut D,
        client: &Client,
        params: &ZwpLinuxBufferParamsV1,
        request: zwp_linux_buffer_params_v1::Request,
        data: &ParamsData,
        display: &DisplayHandle,
        data_init: &mut DataInit<'_, D>,
    ) {
        use zwp_linux_buffer_params_v1::Request;

        let version = params.version();
        match request {
            Request::Add { fd, plane_idx, offset, stride, modifier_hi, modifier_lo } => {
                let modifier = Modifier::from(whole(modifier_hi, modifier_lo));
                let plane = take_in(state, client, fd, offset, stride, modifier);
                if let Err(violation) = data.lock().add(version, plane_idx, plane) {
                    violated(params, &violation);
                }
            }
            Request::Create { width, height, format, flags } => {
                let flags = bits(flags);
                let request = dmabuf::Request { version, width, height, fourcc: format, flags };
                let made = make(state, client, data, &request);
                answer_create::<D>(client, params, display, made);
            }
            Request::CreateImmed { buffer_id, width, height, format, flags } => {
                let flags = bits(flags);
                let request = dmabuf::Request { version, width, height, fourcc: format, flags };
                let made = make(state, client, data, &request);
                answer_create_immed(params, data_init, buffer_id, made);
            }
            Request::SetSamplingDevice { device } => match <[u8; size_of::<Dev>()]>::try_from(device) {
                #[cfg(feature = "guest")]
                Ok(_) if broken::is(BrokenRule::UnknownDevice) => {
                    disconnect(params, &Violation::InvalidDevTSize(size_of::<Dev>()));
                }
                Ok(bytes) => *data.sampling_device() = Some(Dev::from_ne_bytes(bytes)),
                Err(device) => violated(params, &Violation::InvalidDevTSize(device.len())),
            },
            #[cfg(feature = "guest")]
            Request::Destroy if broken::is(BrokenRule::Cancel) && data.lock().take().is_ok() => {
                disconnect(params, &Violation::Incomplete { given: Vec::new(), wanted: 1 });
            }
            _ => {}
        }
    }

    fn destroyed(_state: &mut D, _client: ClientId, _params: &ZwpLinuxBufferParamsV1, data: &ParamsData) {
        // Whoever still has the object has the data, and the planes are not to wait for that.
        drop(data.lock().take());
    }
}

/// Looks at a new plane's file descriptor, and closes it if it is of no use.
fn take_in<D: DmabufHandler>(
    state: &D,
    client: &Client,
    fd: OwnedFd,
    offset_bytes: u32,
    stride_bytes: u32,
    modifier: Modifier,
) -> Plane<Memory> {
    let memory = match state.check_fd(fd.as_fd()) {
        false => Err(Unusable::NotADmaBuf),
        true => count(state, client, &fd).map(|count| Memory { fd, count }),
    };
    // A dma-buf's size is where its end is: Documentation/driver-api/dma-buf.rst.
    let size_bytes = memory.as_ref().ok().and_then(|memory| seek(&memory.fd, SeekFrom::End(0)).ok());
    Plane { memory, size_bytes, offset_bytes, stride_bytes, modifier }
}

fn bits(flags: WEnum<Flags>) -> u32 {
    match flags {
        WEnum::Value(flags) => flags.bits(),
        WEnum::Unknown(bits) => bits,
    }
}

/// Makes the dma-buf of a create or create_immed request: uses the params up, checks, asks the renderer.
fn make<D: DmabufHandler>(
    state: &mut D,
    client: &Client,
    data: &ParamsData,
    request: &dmabuf::Request,
) -> Result<Arc<ClientDmabuf>, Failure> {
    let planes = data.lock().take().map_err(Failure::Violation)?;
    let checked = dmabuf::check(planes, request, &state.dmabuf_state().advertised)?;
    let made = build(state, client, checked, request)?;
    match *data.sampling_device() {
        Some(device) if !state.dmabuf_state().samples_on(device) => {
            return Err(Failure::Import("nothing is sampled on the device that was asked for".to_owned()));
        }
        _ => {}
    }
    match state.import_dmabuf(&made.dmabuf) {
        Ok(()) => Ok(Arc::new(made)),
        Err(error) => Err(Failure::Import(format!("{error}: {}", error.0))),
    }
}

fn build<D: DmabufHandler>(
    state: &D,
    client: &Client,
    checked: Checked<Memory>,
    request: &dmabuf::Request,
) -> Result<ClientDmabuf, Failure> {
    let flags = if checked.y_inverted { DmabufFlags::Y_INVERT } else { DmabufFlags::empty() };
    let Format { code, modifier } = checked.format;
    let mut builder = Dmabuf::builder((request.width, request.height), code, modifier, flags);
    let mut counts = Vec::with_capacity(2 * checked.planes.len());
    let complete = (0..).zip(checked.planes).all(|(index, plane)| {
        let Memory { fd, count } = plane.memory;
        counts.push(count);
        builder.add_plane(fd, index, plane.offset_bytes, plane.stride_bytes)
    });
    let built = builder.build().filter(|_| complete);
    let dmabuf = built.ok_or_else(|| Failure::Import("the planes do not make a buffer".to_owned()))?;
    let planes =
        implicit::Planes::new(dmabuf.handles()).map_err(|error| Failure::Import(error.to_string()))?;
    for fd in planes.fds() {
        counts.push(count(state, client, fd).map_err(|unusable| Failure::Import(unusable.to_string()))?);
    }
    Ok(ClientDmabuf { dmabuf, planes, counts })
}

/// Exactly one event, or the error.
fn answer_create<D>(
    client: &Client,
    params: &ZwpLinuxBufferParamsV1,
    display: &DisplayHandle,
    made: Result<Arc<ClientDmabuf>, Failure>,
) where
    D: DmabufHandler + Dispatch<WlBuffer, Arc<ClientDmabuf>>,
{
    match made {
        Ok(made) => {
            // A client that is gone gets no answer.
            if let Ok(buffer) = client.create_resource::<WlBuffer, Arc<ClientDmabuf>, D>(display, 1, made) {
                params.created(&buffer);
                #[cfg(feature = "guest")]
                broken::object::answered(params);
            }
        }
        Err(Failure::Violation(violation)) => violated(params, &violation),
        Err(Failure::Import(reason)) => {
            debug!("{} failed: {reason}", params.id());
            params.failed();
        }
    }
}

/// No event on success. The protocol would have us send `failed` with a dead wl_buffer, or raise an error; the latter,
/// because a client that did not ask to be told would go on with a window that stays empty.
fn answer_create_immed<D>(
    params: &ZwpLinuxBufferParamsV1,
    data_init: &mut DataInit<'_, D>,
    buffer: New<WlBuffer>,
    made: Result<Arc<ClientDmabuf>, Failure>,
) where
    D: Dispatch<WlBuffer, Arc<ClientDmabuf>> + 'static,
{
    match made {
        Ok(made) => {
            data_init.init(buffer, made);
            #[cfg(feature = "guest")]
            broken::object::answered(params);
        }
        Err(Failure::Violation(violation)) => disconnect(params, &violation),
        Err(Failure::Import(reason)) => disconnect(params, &Violation::InvalidWlBuffer(reason)),
    }
}

fn violated(params: &ZwpLinuxBufferParamsV1, violation: &Violation) {
    #[cfg(feature = "guest")]
    if broken::object::overlooks(violation) {
        return;
    }
    disconnect(params, violation);
}

fn disconnect(params: &ZwpLinuxBufferParamsV1, violation: &Violation) {
    use zwp_linux_buffer_params_v1::Error;

    let code = match violation {
        Violation::AlreadyUsed => Error::AlreadyUsed,
        Violation::PlaneIdx(_) => Error::PlaneIdx,
        Violation::PlaneSet(_) => Error::PlaneSet,
        Violation::Incomplete { .. } => Error::Incomplete,
        Violation::InvalidFormat(_) => Error::InvalidFormat,
        Violation::InvalidDimensions { .. } => Error::InvalidDimensions,
        Violation::OutOfBounds { .. } => Error::OutOfBounds,
        Violation::InvalidWlBuffer(_) => Error::InvalidWlBuffer,
        Violation::InvalidDevTSize(_) => Error::InvalidDevTSize,
    };
    #[cfg(feature = "guest")]
    let code = broken::object::misnamed(code);
    warn!("disconnecting the client of {}: {violation}", params.id());
    params.post_error(code, violation.to_string());
}

impl<D> Dispatch<WlBuffer, Arc<ClientDmabuf>, D> for DmabufState
where
    D: DmabufHandler + Dispatch<WlBuffer, Arc<ClientDmabuf>>,
{
    fn request(
        _state: &mut D,
        _client: &Client,
        _buffer: &WlBuffer,
        _request: wl_buffer::Request,
        _dmabuf: &Arc<ClientDmabuf>,
        _display: &DisplayHandle,
        _data_init: &mut DataInit<'_, D>,
    ) {
        // The one request is destroy.
    }

    fn destroyed(state: &mut D, _client: ClientId, buffer: &WlBuffer, _dmabuf: &Arc<ClientDmabuf>) {
        state.buffer_destroyed(buffer);
    }
}
