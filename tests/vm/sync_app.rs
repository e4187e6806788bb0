//! Applications with dma-bufs and timelines, on the compositor of `tests/compositor/setup.rs`.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use fencepost::fence::timeline::{Point, SyncobjDevice, Timeline};
use fencepost::fence::{Fence, Status};
use smithay::backend::allocator::gbm::{GbmAllocator, GbmBufferFlags, GbmDevice};
use smithay::backend::allocator::{
    Allocator, Buffer as _, Fourcc, Modifier,
    dmabuf::{AsDmabuf, Dmabuf},
};
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::Flags;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_manager_v1::WpLinuxDrmSyncobjManagerV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_surface_v1::WpLinuxDrmSyncobjSurfaceV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_timeline_v1::WpLinuxDrmSyncobjTimelineV1;

use crate::fences::{RENDER_NODE, device, heap_buffer};
use crate::fixture::{Fixture, Log, Server};
use crate::setup::{App, SIZE, STRIDE, Watched, Window};

/// The size of the GPU's buffers.
const GPU_SIZE: (i32, i32) = (64, 64);

/// A client that can do explicit and implicit sync.
pub(crate) struct SyncApp {
    pub(crate) app: App,
    pub(crate) manager: WpLinuxDrmSyncobjManagerV1,
    pub(crate) factory: ZwpLinuxDmabufV1,
    device: SyncobjDevice,
}

/// A timeline as both sides of the protocol see it.
pub(crate) struct ClientTimeline {
    pub(crate) kernel: Timeline,
    pub(crate) object: WpLinuxDrmSyncobjTimelineV1,
}

/// A window with explicit sync.
pub(crate) struct SyncWindow {
    pub(crate) window: Window,
    pub(crate) sync: WpLinuxDrmSyncobjSurfaceV1,
}

/// A place on a timeline.
pub(crate) type At<'a> = (&'a ClientTimeline, u64);

impl SyncApp {
    pub(crate) fn new(desk: &Fixture<impl Server>) -> Self {
        let app = App::new(desk);
        Self { manager: app.client.bind(1), factory: app.client.bind(4), app, device: device() }
    }

    pub(crate) fn timeline(&self) -> ClientTimeline {
        let kernel = Timeline::create(&self.device).expect("a timeline");
        let fd = kernel.export().expect("its fd");
        ClientTimeline { kernel, object: self.import(&fd) }
    }

    pub(crate) fn import(&self, fd: &OwnedFd) -> WpLinuxDrmSyncobjTimelineV1 {
        self.manager.import_timeline(fd.as_fd(), &self.app.client.handle(), Log::default())
    }

    pub(crate) fn sync_surface(&self, surface: &WlSurface) -> WpLinuxDrmSyncobjSurfaceV1 {
        self.manager.get_surface(surface, &self.app.client.handle(), Log::default())
    }

    pub(crate) fn sync_window(&mut self) -> SyncWindow {
        let window = self.app.window();
        let sync = self.sync_surface(&window.surface);
        SyncWindow { window, sync }
    }

    fn import_buffer(&self, fd: &impl AsFd, size: (i32, i32), stride: u32, modifier: u64) -> WlBuffer {
        let (handle, none) = (self.app.client.handle(), Flags::empty());
        let params = self.factory.create_params(&handle, Log::default());
        params.add(fd.as_fd(), 0, 0, stride, (modifier >> 32) as u32, modifier as u32);
        let format = Fourcc::Xrgb8888 as u32;
        params.create_immed(size.0, size.1, format, none, &handle, Log::default())
    }

    /// A buffer that the CPU has to copy, as the GPU cannot import it: it is free again once it was drawn.
    pub(crate) fn heap_buffer(&self) -> WlBuffer {
        self.buffer_of(&heap_buffer())
    }

    /// As [`Self::heap_buffer`], of a dma-buf that the test keeps.
    pub(crate) fn buffer_of(&self, dma_buf: &OwnedFd) -> WlBuffer {
        self.import_buffer(dma_buf, SIZE, STRIDE as u32, Modifier::Linear.into())
    }

    /// A buffer of the GPU, which is sampled for as long as it is shown.
    pub(crate) fn gpu_buffer(&self) -> WlBuffer {
        self.gpu_buffer_of(&gpu_dma_buf())
    }

    /// As [`Self::gpu_buffer`], of a dma-buf that the test keeps.
    pub(crate) fn gpu_buffer_of(&self, dma_buf: &Dmabuf) -> WlBuffer {
        let fd = dma_buf.handles().next().expect("a plane");
        let stride = dma_buf.strides().next().expect("its stride");
        let size = (dma_buf.size().w, dma_buf.size().h);
        self.import_buffer(&fd, size, stride, dma_buf.format().modifier.into())
    }

    /// As [`App::show`], between two points.
    pub(crate) fn show_between(
        &self,
        surface: &WlSurface,
        sync: &WpLinuxDrmSyncobjSurfaceV1,
        buffer: &WlBuffer,
        acquire: At<'_>,
        release: At<'_>,
    ) -> Watched {
        set_acquire(sync, acquire);
        set_release(sync, release);
        self.app.show(surface, buffer)
    }

    /// As [`Self::show_between`], for a window.
    pub(crate) fn show(
        &self,
        window: &SyncWindow,
        buffer: &WlBuffer,
        acquire: At<'_>,
        release: At<'_>,
    ) -> Watched {
        self.show_between(&window.window.surface, &window.sync, buffer, acquire, release)
    }

    /// Waits until the compositor has signalled the point.
    #[track_caller]
    pub(crate) fn until_signalled(&mut self, point: &Point) {
        self.app.client.until(|| point.status() == Status::Signalled);
    }
}

impl ClientTimeline {
    pub(crate) fn point(&self, value: u64) -> Point {
        self.kernel.point(value)
    }

    pub(crate) fn signal(&self, value: u64) {
        self.point(value).signal().expect("a signal");
    }

    pub(crate) fn status(&self, value: u64) -> Status {
        self.point(value).status()
    }
}

pub(crate) fn gpu_dma_buf() -> Dmabuf {
    gpu_dma_buf_of(GPU_SIZE)
}

/// A buffer of the GPU, of another size than the windows here usually have.
pub(crate) fn gpu_dma_buf_of(size: (i32, i32)) -> Dmabuf {
    let node = File::options().read(true).write(true).open(RENDER_NODE).expect("the render node");
    let mut allocator = GbmAllocator::new(GbmDevice::new(node).expect("GBM"), GbmBufferFlags::RENDERING);
    let (width, height) = (size.0 as u32, size.1 as u32);
    let buffer = allocator.create_buffer(width, height, Fourcc::Xrgb8888, &[Modifier::Invalid]);
    buffer.expect("a buffer").export().expect("a dma-buf")
}

pub(crate) fn set_acquire(sync: &WpLinuxDrmSyncobjSurfaceV1, (timeline, value): At<'_>) {
    sync.set_acquire_point(&timeline.object, (value >> 32) as u32, value as u32);
}

pub(crate) fn set_release(sync: &WpLinuxDrmSyncobjSurfaceV1, (timeline, value): At<'_>) {
    sync.set_release_point(&timeline.object, (value >> 32) as u32, value as u32);
}
