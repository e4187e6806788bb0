//! Owns the linux-dmabuf-v1 global, version 6: its factory object, and how much a client may hold. Must not know
//! how a buffer is imported or shown: the [`DmabufHandler`] says whether the renderer takes it.
//!
//! The rules of a buffer are in [`crate::buffer::dmabuf`]; here is what happens when one is broken. A violation
//! disconnects the client with the protocol's error on its params object. Whatever else keeps a buffer from being made
//! (not a dma-buf, an unsupported flag, the renderer's refusal) is a failed import: `create` is answered `failed`, and
//! `create_immed` raises `invalid_wl_buffer`, because a wl_buffer that shows nothing would hide the failure.
//!
//! The global is offered only where there is a main device to name: without one, do not make a [`DmabufState`].

mod feedback;
mod params;

use std::collections::HashSet;
use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::Dev;
use smithay::backend::allocator::dmabuf::Dmabuf;
use smithay::backend::allocator::{Format, Modifier};
use smithay::backend::drm::{DrmNode, NodeType};
use smithay::wayland::buffer::BufferHandler;
use wayland_protocols::wp::linux_dmabuf::zv1::server::zwp_linux_buffer_params_v1::ZwpLinuxBufferParamsV1;
use wayland_protocols::wp::linux_dmabuf::zv1::server::zwp_linux_dmabuf_feedback_v1::ZwpLinuxDmabufFeedbackV1;
use wayland_protocols::wp::linux_dmabuf::zv1::server::zwp_linux_dmabuf_v1::{self, ZwpLinuxDmabufV1};
use wayland_server::protocol::wl_buffer::WlBuffer;
use wayland_server::protocol::wl_surface::WlSurface;
use wayland_server::{Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource};

pub use self::feedback::{Feedback, FeedbackData, FeedbackError};
pub use self::params::ParamsData;

use self::feedback::Feedbacks;
use crate::buffer::ClientDmabuf;
use crate::buffer::dmabuf::{Advertised, Unusable};
use crate::fence::scarce::{self, Use};
use crate::halves::halves;
#[cfg(feature = "guest")]
use crate::wayland::broken;

/// The version offered. Version 6 adds `set_sampling_device` (D9) and takes `main_device` away.
const VERSION: u32 = 6;

/// File descriptors that we hold for the dma-bufs of a client (I8): one for each plane, and one more for each dma-buf of a
/// wl_buffer. Each counts until it is closed, which a queued commit may put off to long after its wl_buffer. One beyond that
/// is closed at once, and the import of its buffer fails.
pub const MAX_FDS_PER_CLIENT: usize = 2048;

/// What the global needs of the compositor.
pub trait DmabufHandler: BufferHandler + 'static {
    /// The state of the global.
    fn dmabuf_state(&mut self) -> &mut DmabufState;

    /// The renderer's word on a buffer that broke no rule. It is asked once, when the wl_buffer is made.
    fn import_dmabuf(&mut self, dmabuf: &Dmabuf) -> Result<(), ImportError>;

    /// What is shared with every file descriptor that we hold for `client`, to count them; `None` for one that is not ours.
    fn held_fds<'a>(&self, client: &'a Client) -> Option<&'a Arc<()>>;

    /// Whether a file descriptor is a dma-buf: the kernel's word. No answer is a no.
    fn check_fd(&self, fd: BorrowedFd<'_>) -> bool {
        crate::sys::dma_buf::is_dma_buf(fd).unwrap_or(false)
    }
}

/// The renderer cannot use a buffer.
#[derive(Debug, thiserror::Error)]
#[error("Could not import the dma-buf")]
pub struct ImportError(#[source] pub Box<dyn Error + Send + Sync>);

/// Counts a file descriptor that is to be held for a client; not one of the last, nor one too many.
fn count<D: DmabufHandler>(state: &D, client: &Client, fd: impl AsFd) -> Result<Arc<()>, Unusable> {
    if scarce::is_kept(fd, Use::Buffer) {
        return Err(Unusable::TooManyFiles);
    }
    let counted = state.held_fds(client).and_then(|held| super::one_more(held, MAX_FDS_PER_CLIENT));
    counted.ok_or(Unusable::OverBudget)
}

/// The dma-buf of a wl_buffer that was made here; `None` for any other (shm, single pixel).
pub fn dmabuf_of(buffer: &WlBuffer) -> Option<&Arc<ClientDmabuf>> {
    buffer.data()
}

/// The global.
#[derive(Debug)]
pub struct DmabufState {
    advertised: Advertised,
    feedbacks: Feedbacks,
}

impl DmabufState {
    /// Offers the global. What `default` lists is what clients may use.
    pub fn new<D>(display: &DisplayHandle, default: Feedback) -> Self
    where
        D: GlobalDispatch<ZwpLinuxDmabufV1, DmabufGlobalData> + 'static,
    {
        display.create_global::<D, ZwpLinuxDmabufV1, _>(VERSION, DmabufGlobalData);
        Self::unannounced(default)
    }

    /// The state of a global that is not offered: no client can reach it.
    pub fn unannounced(default: Feedback) -> Self {
        let advertised = default.formats().collect();
        Self { advertised, feedbacks: Feedbacks::new(default) }
    }

    /// Replaces what is advertised, for all objects but those of surfaces with a feedback of their own.
    pub fn set_default_feedback(&mut self, default: Feedback) {
        self.advertised.extend(default.formats());
        self.feedbacks.set_default(default);
    }

    /// Whether the renderer samples on `device`, whichever of its nodes that names.
    fn samples_on(&self, device: Dev) -> bool {
        let main = self.feedbacks.default().main_device();
        let render_node = |device| {
            let node = DrmNode::from_dev_id(device).ok()?;
            Some(node.node_with_type(NodeType::Render).and_then(Result::ok).unwrap_or(node))
        };
        device == main || render_node(device).is_some_and(|node| render_node(main) == Some(node))
    }

    /// What surfaces without a feedback of their own are advertised.
    pub fn default_feedback(&self) -> &Feedback {
        self.feedbacks.default()
    }

    /// Gives a surface a feedback of its own, or with `None` the default one again. Objects that were last sent the same
    /// are sent nothing.
    pub fn set_surface_feedback(&mut self, surface: &WlSurface, feedback: Option<Feedback>) {
        self.advertised.extend(feedback.iter().flat_map(Feedback::formats));
        self.feedbacks.set_for_surface(surface, feedback);
    }
}

/// User data of the global.
#[derive(Debug)]
pub struct DmabufGlobalData;

/// User data of the factory objects.
#[derive(Debug)]
pub struct DmabufData;

impl<D> GlobalDispatch<ZwpLinuxDmabufV1, DmabufGlobalData, D> for DmabufState
where
    D: DmabufHandler + Dispatch<ZwpLinuxDmabufV1, DmabufData>,
{
    fn bind(
        state: &mut D,
        _display: &DisplayHandle,
        _client: &Client,
        resource: New<ZwpLinuxDmabufV1>,
        _data: &DmabufGlobalData,
        data_init: &mut DataInit<'_, D>,
    ) {
        let factory = data_init.init(resource, DmabufData);
        announce(&factory, state.dmabuf_state().feedbacks.default());
        #[cfg(feature = "guest")]
        broken::object::announce(&factory);
    }
}

/// Sends the formats to clients that bound a version before feedback. Later ones must not be sent any.
fn announce(factory: &ZwpLinuxDmabufV1, feedback: &Feedback) {
    match factory.version() {
        1 | 2 => {
            // These cannot name a modifier, so a format is of use to them where it needs none.
            let plain = |format: &Format| matches!(format.modifier, Modifier::Invalid | Modifier::Linear);
            let mut sent = HashSet::new();
            for Format { code, .. } in feedback.formats().filter(plain) {
                if sent.insert(code) {
                    factory.format(code as u32);
                }
            }
        }
        3 => {
            for Format { code, modifier } in feedback.formats() {
                let (high, low) = halves(modifier.into());
                factory.modifier(code as u32, high, low);
            }
        }
        _ => {}
    }
}

impl<D> Dispatch<ZwpLinuxDmabufV1, DmabufData, D> for DmabufState
where
    D: DmabufHandler
        + Dispatch<ZwpLinuxDmabufV1, DmabufData>
        + Dispatch<ZwpLinuxBufferParamsV1, ParamsData>
        + Dispatch<ZwpLinuxDmabufFeedbackV1, FeedbackData>,
{
    #[cfg_attr(not(feature = "guest"), expect(unused_variables, reason = "only tests break rules"))]
    fn request(
        state: &mut D,
        client: &Client,
        _factory: &ZwpLinuxDmabufV1,
        request: zwp_linux_dmabuf_v1::Request,
        _data: &DmabufData,
        display: &DisplayHandle,
        data_init: &mut DataInit<'_, D>,
    ) {
        use zwp_linux_dmabuf_v1::Request;

        match request {
            Request::CreateParams { params_id } => {
                data_init.init(params_id, ParamsData::default());
            }
            Request::GetDefaultFeedback { id } => {
                let object = data_init.init(id, FeedbackData);
                state.dmabuf_state().feedbacks.add(&object, None);
            }
            Request::GetSurfaceFeedback { id, surface } => {
                let object = data_init.init(id, FeedbackData);
                state.dmabuf_state().feedbacks.add(&object, Some(&surface));
            }
            #[cfg(feature = "guest")]
            Request::Destroy => broken::object::maker_destroyed(display, client),
            // Destroy: what was made here lives on.
            _ => {}
        }
    }
}

/// Implements the dispatch traits of linux-dmabuf-v1 for a [`DmabufHandler`] by handing them to [`DmabufState`].
#[macro_export]
macro_rules! delegate_linux_dmabuf {
    ($state:ty) => {
        const _: () = {
            use ::wayland_protocols::wp::linux_dmabuf::zv1::server::{
                zwp_linux_buffer_params_v1::ZwpLinuxBufferParamsV1,
                zwp_linux_dmabuf_feedback_v1::ZwpLinuxDmabufFeedbackV1,
                zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1,
            };
            use ::wayland_server::{
                delegate_dispatch, delegate_global_dispatch, protocol::wl_buffer::WlBuffer,
            };
            use $crate::wayland::dmabuf::{
                DmabufData, DmabufGlobalData, DmabufState, FeedbackData, ParamsData,
            };

    delegate_global_dispatch!($state: [ZwpLinuxDmabufV1: DmabufGlobalData] => DmabufState);
    delegate_dispatch!($state: [ZwpLinuxDmabufV1: DmabufData] => DmabufState);
    delegate_dispatch!($state: [ZwpLinuxBufferParamsV1: ParamsData] => DmabufState);
    delegate_dispatch!($state: [ZwpLinuxDmabufFeedbackV1: FeedbackData] => DmabufState);
            delegate_dispatch!(
                $state: [WlBuffer: ::std::sync::Arc<$crate::buffer::ClientDmabuf>] => DmabufState
            );
        };
    };
}
