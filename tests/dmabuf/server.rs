//! A server that offers linux-dmabuf and little else, and a client of it.
//!
//! Where a buffer has to be accepted, memfds stand in for dma-bufs, which need a kernel that has some: the handler then
//! takes any file descriptor.
#![allow(dead_code, reason = "the guest's tests use a part of it")]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};

use fencepost::buffer::ClientDmabuf;
use fencepost::delegate_linux_dmabuf;
use fencepost::wayland::dmabuf::{DmabufHandler, DmabufState, Feedback, ImportError, dmabuf_of};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use smithay::backend::allocator::dmabuf::Dmabuf;
use smithay::backend::allocator::{Format, Fourcc, Modifier};
use smithay::delegate_compositor;
use smithay::wayland::buffer::BufferHandler;
use smithay::wayland::compositor::{CompositorClientState, CompositorHandler, CompositorState};
use wayland_client::protocol::wl_buffer::WlBuffer as ClientBuffer;
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_surface::WlSurface as ClientSurface;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::{
    self, Flags, ZwpLinuxBufferParamsV1,
};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_feedback_v1::ZwpLinuxDmabufFeedbackV1;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1;
use wayland_server::backend::ClientData;
use wayland_server::protocol::wl_buffer::WlBuffer;
use wayland_server::protocol::wl_surface::WlSurface;
use wayland_server::{Client as ServerClient, Display};

use crate::fixture::{Client, Fixture, Log, Server, events};

pub(crate) const MAIN_DEVICE: u64 = 0xe280;
pub(crate) const SCANOUT_DEVICE: u64 = 0xe200;
pub(crate) const LINEAR: u64 = 0;
pub(crate) const INVALID: u64 = 0x00ff_ffff_ffff_ffff;

/// In the order advertised.
pub(crate) fn formats() -> Vec<Format> {
    let pair = |code, modifier| Format { code, modifier };
    vec![
        pair(Fourcc::Xrgb8888, Modifier::Linear),
        pair(Fourcc::Xrgb8888, Modifier::Invalid),
        pair(Fourcc::Argb8888, Modifier::I915_y_tiled),
        pair(Fourcc::Nv12, Modifier::Linear),
        pair(Fourcc::Nv12, Modifier::I915_y_tiled),
    ]
}

pub(crate) fn feedback() -> Feedback {
    Feedback::new(MAIN_DEVICE, formats()).unwrap()
}

pub(crate) struct State {
    compositor: CompositorState,
    pub(crate) dmabuf: DmabufState,
    pub(crate) surfaces: Vec<WlSurface>,
    /// Memfds pass for dma-bufs.
    takes_any_fd: bool,
    /// The renderer refuses everything.
    pub(crate) refuses: bool,
    /// What the renderer was asked about.
    pub(crate) imports: Vec<Dmabuf>,
    pub(crate) buffers_destroyed: usize,
    /// What destroyed buffers leave to those that still need it, if anybody does.
    pub(crate) needed: Option<Vec<Arc<ClientDmabuf>>>,
    /// Of the client that has connected last.
    pub(crate) held_fds: Weak<()>,
}

impl DmabufHandler for State {
    fn dmabuf_state(&mut self) -> &mut DmabufState {
        &mut self.dmabuf
    }

    fn import_dmabuf(&mut self, dmabuf: &Dmabuf) -> Result<(), ImportError> {
        self.imports.push(dmabuf.clone());
        match self.refuses {
            true => Err(ImportError("the renderer is out of sorts".into())),
            false => Ok(()),
        }
    }

    fn check_fd(&self, fd: BorrowedFd<'_>) -> bool {
        self.takes_any_fd || fencepost::sys::dma_buf::is_dma_buf(fd).unwrap_or(false)
    }

    fn held_fds<'a>(&self, client: &'a ServerClient) -> Option<&'a Arc<()>> {
        client.get_data::<PerClient>().map(|client| &client.held_fds)
    }
}

impl BufferHandler for State {
    fn buffer_destroyed(&mut self, buffer: &WlBuffer) {
        let dmabuf = dmabuf_of(buffer).expect("the dma-buf can still be asked for");
        self.needed.iter_mut().for_each(|needed| needed.push(dmabuf.clone()));
        self.buffers_destroyed += 1;
    }
}

impl CompositorHandler for State {
    fn compositor_state(&mut self) -> &mut CompositorState {
        &mut self.compositor
    }

    fn client_compositor_state<'a>(&self, client: &'a ServerClient) -> &'a CompositorClientState {
        &client.get_data::<PerClient>().unwrap().compositor
    }

    fn commit(&mut self, _surface: &WlSurface) {}

    fn new_surface(&mut self, surface: &WlSurface) {
        self.surfaces.push(surface.clone());
    }
}

delegate_compositor!(State);
delegate_linux_dmabuf!(State);

#[derive(Default)]
struct PerClient {
    compositor: CompositorClientState,
    held_fds: Arc<()>,
}

impl ClientData for PerClient {}

pub(crate) struct TestServer {
    display: Display<State>,
    pub(crate) state: State,
}

impl TestServer {
    pub(crate) fn new() -> Self {
        let display = Display::<State>::new().unwrap();
        let handle = display.handle();
        let state = State {
            compositor: CompositorState::new::<State>(&handle),
            dmabuf: DmabufState::new::<State>(&handle, feedback()),
            surfaces: Vec::new(),
            takes_any_fd: true,
            refuses: false,
            imports: Vec::new(),
            buffers_destroyed: 0,
            needed: None,
            held_fds: Weak::new(),
        };
        Self { display, state }
    }
}

impl Server for TestServer {
    fn connect(&mut self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let client = PerClient::default();
        self.state.held_fds = Arc::downgrade(&client.held_fds);
        self.display.handle().insert_client(theirs, Arc::new(client)).unwrap();
        ours
    }

    fn turn(&mut self) {
        self.display.dispatch_clients(&mut self.state).unwrap();
        self.display.flush_clients().unwrap();
    }
}

/// One client that has bound the factory in version 5.
pub(crate) struct Setup {
    pub(crate) fixture: Fixture<TestServer>,
    pub(crate) client: Client,
    pub(crate) factory: ZwpLinuxDmabufV1,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self::with_version(5)
    }

    pub(crate) fn with_version(version: u32) -> Self {
        let fixture = Fixture::new(TestServer::new());
        let client = fixture.client();
        let factory = client.bind(version);
        Self { fixture, client, factory }
    }

    /// With a renderer that refuses every buffer.
    pub(crate) fn refusing() -> Self {
        let setup = Self::new();
        setup.fixture.server_mut().state.refuses = true;
        setup
    }

    /// With the kernel's word on what is a dma-buf.
    pub(crate) fn strict() -> Self {
        let setup = Self::new();
        setup.fixture.server_mut().state.takes_any_fd = false;
        setup
    }

    pub(crate) fn params(&self) -> ZwpLinuxBufferParamsV1 {
        self.factory.create_params(&self.client.handle(), Log::default())
    }

    /// Params with one linear plane of 4096 bytes, which an XRGB8888 buffer of 64 x 16 fills.
    pub(crate) fn rgb_params(&self) -> ZwpLinuxBufferParamsV1 {
        let params = self.params();
        add(&params, &memory(4096), 0, 0, 256, LINEAR);
        params
    }

    pub(crate) fn create_immed(&self, params: &ZwpLinuxBufferParamsV1) -> ClientBuffer {
        let (fourcc, none) = (Fourcc::Xrgb8888 as u32, Flags::empty());
        params.create_immed(64, 16, fourcc, none, &self.client.handle(), Log::default())
    }

    pub(crate) fn surface(&self) -> ClientSurface {
        let compositor: WlCompositor = self.client.bind(1);
        compositor.create_surface(&self.client.handle(), Log::default())
    }

    pub(crate) fn default_feedback(&self) -> ZwpLinuxDmabufFeedbackV1 {
        self.factory.get_default_feedback(&self.client.handle(), Log::default())
    }

    pub(crate) fn surface_feedback(&self, surface: &ClientSurface) -> ZwpLinuxDmabufFeedbackV1 {
        self.factory.get_surface_feedback(surface, &self.client.handle(), Log::default())
    }

    pub(crate) fn planes_of_imports(&self) -> Vec<Vec<(u32, u32)>> {
        let server = self.fixture.server();
        let planes = |dmabuf: &Dmabuf| dmabuf.offsets().zip(dmabuf.strides()).collect();
        server.state.imports.iter().map(planes).collect()
    }

    pub(crate) fn imports(&self) -> usize {
        self.fixture.server().state.imports.len()
    }
}

pub(crate) fn memory(size_bytes: u64) -> OwnedFd {
    let fd = memfd_create(c"not-a-dma-buf", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, size_bytes).unwrap();
    fd
}

pub(crate) fn add(
    params: &ZwpLinuxBufferParamsV1,
    fd: &OwnedFd,
    index: u32,
    offset: u32,
    stride: u32,
    modifier: u64,
) {
    params.add(fd.as_fd(), index, offset, stride, (modifier >> 32) as u32, modifier as u32);
}

pub(crate) fn create_rgb(params: &ZwpLinuxBufferParamsV1) {
    params.create(64, 16, Fourcc::Xrgb8888 as u32, Flags::empty());
}

/// The one event that answers create: the buffer, or that there is none.
pub(crate) fn answer(params: &ZwpLinuxBufferParamsV1) -> Option<ClientBuffer> {
    match events(params).as_slice() {
        [zwp_linux_buffer_params_v1::Event::Created { buffer }] => Some(buffer.clone()),
        [zwp_linux_buffer_params_v1::Event::Failed] => None,
        other => panic!("not one answer: {other:?}"),
    }
}
