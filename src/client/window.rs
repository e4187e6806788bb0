//! The window: globals, a toplevel, and every event translated into a call on [`Client`].
//!
//! Decides nothing.

use std::os::fd::AsFd;

use rustix::time::ClockId;
use wayland_client::globals::{BindError, GlobalList, GlobalListContents};
use wayland_client::protocol::wl_buffer::{self, WlBuffer};
use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_output::Transform;
use wayland_client::protocol::wl_pointer::{self, WlPointer};
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, QueueHandle, WEnum, delegate_noop};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::{
    self, Flags, ZwpLinuxBufferParamsV1,
};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_manager_v1::WpLinuxDrmSyncobjManagerV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_surface_v1::WpLinuxDrmSyncobjSurfaceV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_timeline_v1::WpLinuxDrmSyncobjTimelineV1;
use wayland_protocols::wp::presentation_time::client::wp_presentation::{self, WpPresentation};
use wayland_protocols::wp::presentation_time::client::wp_presentation_feedback::{
    self, Kind, WpPresentationFeedback,
};
use wayland_protocols::wp::single_pixel_buffer::v1::client::wp_single_pixel_buffer_manager_v1::WpSinglePixelBufferManagerV1;
use wayland_protocols::wp::tearing_control::v1::client::wp_tearing_control_manager_v1::WpTearingControlManagerV1;
use wayland_protocols::wp::tearing_control::v1::client::wp_tearing_control_v1::{
    PresentationHint, WpTearingControlV1,
};
use wayland_protocols::wp::viewporter::client::wp_viewport::WpViewport;
use wayland_protocols::wp::viewporter::client::wp_viewporter::WpViewporter;
use wayland_protocols::xdg::shell::client::xdg_surface::{self, XdgSurface};
use wayland_protocols::xdg::shell::client::xdg_toplevel::{self, XdgToplevel};
use wayland_protocols::xdg::shell::client::xdg_wm_base::{self, XdgWmBase};

use super::frames::Client;
use super::source::Layout;
use super::swapchain::{BufferId, Size};
use super::wire::add_planes;
use super::{Error, Options};
use crate::halves::{halves, whole};

/// Everything of ours that the compositor knows, buffers excepted.
#[derive(Debug)]
pub(super) struct Window {
    handle: QueueHandle<Client>,
    dmabuf: ZwpLinuxDmabufV1,
    presentation: WpPresentation,
    syncobj: Option<WpLinuxDrmSyncobjManagerV1>,
    role: Option<Role>,
}

/// What goes when the surface goes.
#[derive(Debug)]
struct Role {
    /// That of the frames.
    surface: WlSurface,
    /// That of the window, where the frames are the pointer's image.
    backdrop: Option<Backdrop>,
    xdg_surface: XdgSurface,
    toplevel: XdgToplevel,
    syncobj_surface: Option<WpLinuxDrmSyncobjSurfaceV1>,
}

/// What is below the pointer: one pixel, as large as the window.
#[derive(Debug)]
struct Backdrop {
    surface: WlSurface,
    pixel: WlBuffer,
    viewport: WpViewport,
}

/// The size of a window that has nothing but a pointer, where the compositor leaves it to us.
const BACKDROP_SIZE: Size = (640, 480);

impl Backdrop {
    fn new(globals: &GlobalList, handle: &QueueHandle<Client>, surface: WlSurface) -> Result<Self, Error> {
        let missing = |name| move |_: BindError| Error::MissingGlobal { name };
        let pixels: WpSinglePixelBufferManagerV1 =
            globals.bind(handle, 1..=1, ()).map_err(missing("wp_single_pixel_buffer_manager_v1"))?;
        let viewporter: WpViewporter = globals.bind(handle, 1..=1, ()).map_err(missing("wp_viewporter"))?;
        let pixel = pixels.create_u32_rgba_buffer(0, u32::MAX / 4, u32::MAX / 4, u32::MAX, handle, ());
        let viewport = viewporter.get_viewport(&surface, handle, ());
        Ok(Self { surface, pixel, viewport })
    }

    fn show(&self, (width, height): Size) {
        self.surface.attach(Some(&self.pixel), 0, 0);
        self.viewport.set_destination(width as i32, height as i32);
        self.surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
        self.surface.commit();
    }

    fn destroy(self) {
        self.viewport.destroy();
        self.surface.destroy();
        self.pixel.destroy();
    }
}

/// A point of a buffer's timeline, for a commit.
#[derive(Debug)]
pub(super) struct WirePoint<'a> {
    /// The timeline.
    pub(super) timeline: &'a WpLinuxDrmSyncobjTimelineV1,
    /// The point.
    pub(super) value: u64,
}

impl Window {
    /// Binds what is needed and asks for a toplevel. The surface waits for its first configure.
    pub(super) fn open(
        globals: &GlobalList,
        handle: QueueHandle<Client>,
        dmabuf: ZwpLinuxDmabufV1,
        options: &Options,
    ) -> Result<Self, Error> {
        let missing = |name| move |_: BindError| Error::MissingGlobal { name };
        let compositor: WlCompositor =
            globals.bind(&handle, 4..=6, ()).map_err(missing("wl_compositor, version 4"))?;
        let shell: XdgWmBase = globals.bind(&handle, 1..=6, ()).map_err(missing("xdg_wm_base"))?;
        let presentation = globals.bind(&handle, 1..=1, ()).map_err(missing("wp_presentation"))?;
        let syncobj = match options.sync {
            super::Sync::Implicit => None,
            super::Sync::Explicit => {
                let name = "wp_linux_drm_syncobj_manager_v1";
                Some(globals.bind(&handle, 1..=1, ()).map_err(missing(name))?)
            }
        };
        let surface = compositor.create_surface(&handle, ());
        let below = || Backdrop::new(globals, &handle, compositor.create_surface(&handle, ()));
        let backdrop = options.pointer.then(below).transpose()?;
        let own = backdrop.as_ref().map_or(&surface, |backdrop| &backdrop.surface);
        let xdg_surface = shell.get_xdg_surface(own, &handle, ());
        let toplevel = xdg_surface.get_toplevel(&handle, ());
        toplevel.set_title("fencepost client".into());
        toplevel.set_app_id("fencepost-client".into());
        if options.fullscreen {
            toplevel.set_fullscreen(None);
        }
        // Players and games have none: the pointer's image is somebody else's on the screen. Without a mouse there is none.
        if (options.fullscreen || options.pointer)
            && let Ok(seat) = globals.bind::<WlSeat, _, _>(&handle, 1..=1, ())
        {
            seat.get_pointer(&handle, ());
        }
        let syncobj_surface = syncobj
            .as_ref()
            .map(|manager: &WpLinuxDrmSyncobjManagerV1| manager.get_surface(&surface, &handle, ()));
        if options.tearing {
            let manager: WpTearingControlManagerV1 =
                globals.bind(&handle, 1..=1, ()).map_err(missing("wp_tearing_control_manager_v1"))?;
            manager.get_tearing_control(&surface, &handle, ()).set_presentation_hint(PresentationHint::Async);
        }
        if let Ok(transform) = Transform::try_from(options.buffer_transform) {
            surface.set_buffer_transform(transform);
        }
        own.commit();
        let role = Role { surface, backdrop, xdg_surface, toplevel, syncobj_surface };
        Ok(Self { handle, dmabuf, presentation, syncobj, role: Some(role) })
    }

    /// The window has this size, or one of our choice. Returns what of that is for the frames: nothing if they are the pointer's
    /// image.
    fn sized(&self, size: Option<Size>) -> Option<Size> {
        match self.role.as_ref().and_then(|role| role.backdrop.as_ref()) {
            Some(backdrop) => {
                backdrop.show(size.unwrap_or(BACKDROP_SIZE));
                None
            }
            None => size,
        }
    }

    /// The pointer's image on the window: the frames, or none.
    fn image(&self) -> Option<&WlSurface> {
        self.role.as_ref().filter(|role| role.backdrop.is_some()).map(|role| &role.surface)
    }

    /// Makes a `wl_buffer` of an image.
    pub(super) fn create_buffer(&self, id: BufferId, layout: &Layout) -> WlBuffer {
        let params = self.dmabuf.create_params(&self.handle, id);
        add_planes(&params, layout);
        let (width, height) = layout.size;
        let format = drm::buffer::DrmFourcc::Xrgb8888 as u32;
        let buffer =
            params.create_immed(width as i32, height as i32, format, Flags::empty(), &self.handle, id);
        params.destroy();
        buffer
    }

    /// Tells the compositor of a timeline; `None` with implicit sync.
    pub(super) fn import_timeline(&self, syncobj: impl AsFd) -> Option<WpLinuxDrmSyncobjTimelineV1> {
        Some(self.syncobj.as_ref()?.import_timeline(syncobj.as_fd(), &self.handle, ()))
    }

    /// Commits a buffer as commit `commit`, with its acquire and release points if it has any.
    pub(super) fn commit(&self, commit: u64, buffer: &WlBuffer, points: Option<[WirePoint<'_>; 2]>) {
        let Some(Role { surface, syncobj_surface, .. }) = &self.role else { return };
        if let (Some(sync), Some([acquire, release])) = (syncobj_surface, points) {
            let (high, low) = halves(acquire.value);
            sync.set_acquire_point(acquire.timeline, high, low);
            let (high, low) = halves(release.value);
            sync.set_release_point(release.timeline, high, low);
        }
        surface.attach(Some(buffer), 0, 0);
        surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
        surface.frame(&self.handle, ());
        self.presentation.feedback(surface, &self.handle, commit);
        surface.commit();
    }

    /// Destroys the surface and its role. The buffers live on.
    pub(super) fn close(&mut self) {
        let Some(role) = self.role.take() else { return };
        let Role { surface, backdrop, xdg_surface, toplevel, syncobj_surface } = role;
        if let Some(sync) = syncobj_surface {
            sync.destroy();
        }
        toplevel.destroy();
        xdg_surface.destroy();
        surface.destroy();
        if let Some(backdrop) = backdrop {
            backdrop.destroy();
        }
    }
}

/// What a toplevel is told before the `xdg_surface.configure` that makes it valid.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The size to take; `None` if the choice is ours.
    pub(super) size: Option<Size>,
}

impl Dispatch<XdgSurface, ()> for Client {
    fn event(
        client: &mut Self,
        xdg_surface: &XdgSurface,
        event: xdg_surface::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_surface::Event::Configure { serial } = event {
            xdg_surface.ack_configure(serial);
            client.pending.size = client.window.sized(client.pending.size.take());
            client.configured();
        }
    }
}

impl Dispatch<XdgToplevel, ()> for Client {
    fn event(
        client: &mut Self,
        _: &XdgToplevel,
        event: xdg_toplevel::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            xdg_toplevel::Event::Configure { width, height, .. } => {
                let side = |side: i32| u32::try_from(side).ok().filter(|side| *side > 0);
                client.pending.size = side(width).zip(side(height));
            }
            xdg_toplevel::Event::Close => client.close(),
            _ => {}
        }
    }
}

impl Dispatch<XdgWmBase, ()> for Client {
    fn event(
        _: &mut Self,
        shell: &XdgWmBase,
        event: xdg_wm_base::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_wm_base::Event::Ping { serial } = event {
            shell.pong(serial);
        }
    }
}

/// A pointer is asked for only to be hidden, or to be given an image.
impl Dispatch<WlPointer, ()> for Client {
    fn event(
        client: &mut Self,
        pointer: &WlPointer,
        event: wl_pointer::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_pointer::Event::Enter { serial, .. } = event {
            pointer.set_cursor(serial, client.window.image(), 0, 0);
        }
    }
}

impl Dispatch<WlCallback, ()> for Client {
    fn event(
        client: &mut Self,
        _: &WlCallback,
        event: wl_callback::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_callback::Event::Done { .. } = event {
            client.frame_wanted();
        }
    }
}

impl Dispatch<WlBuffer, BufferId> for Client {
    fn event(
        client: &mut Self,
        _: &WlBuffer,
        event: wl_buffer::Event,
        id: &BufferId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_buffer::Event::Release = event {
            client.buffer_released(*id);
        }
    }
}

impl Dispatch<ZwpLinuxBufferParamsV1, BufferId> for Client {
    fn event(
        client: &mut Self,
        _: &ZwpLinuxBufferParamsV1,
        event: zwp_linux_buffer_params_v1::Event,
        _: &BufferId,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let zwp_linux_buffer_params_v1::Event::Failed = event {
            client.fail(Error::ImportRefused);
        }
    }
}

impl Dispatch<WpPresentation, ()> for Client {
    fn event(
        client: &mut Self,
        _: &WpPresentation,
        event: wp_presentation::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wp_presentation::Event::ClockId { clk_id } = event {
            client.set_presentation_clock(clk_id == ClockId::Monotonic as u32);
        }
    }
}

impl Dispatch<WpPresentationFeedback, u64> for Client {
    fn event(
        client: &mut Self,
        _: &WpPresentationFeedback,
        event: wp_presentation_feedback::Event,
        commit: &u64,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use wp_presentation_feedback::Event;

        match event {
            Event::Presented { tv_sec_hi, tv_sec_lo, tv_nsec, refresh, seq_hi, seq_lo, flags } => {
                let seconds = whole(tv_sec_hi, tv_sec_lo);
                let at_ns = seconds.saturating_mul(1_000_000_000).saturating_add(tv_nsec.into());
                let zero_copy = matches!(flags, WEnum::Value(flags) if flags.contains(Kind::ZeroCopy));
                client.ledger.vblank(whole(seq_hi, seq_lo));
                client.presented(*commit, at_ns, refresh.into(), zero_copy);
            }
            Event::Discarded => client.discarded(*commit),
            _ => {}
        }
    }
}

impl Dispatch<WlRegistry, GlobalListContents> for Client {
    fn event(
        _: &mut Self,
        _: &WlRegistry,
        _: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

delegate_noop!(Client: WlCompositor);
delegate_noop!(Client: WpSinglePixelBufferManagerV1);
delegate_noop!(Client: WpTearingControlManagerV1);
delegate_noop!(Client: WpTearingControlV1);
delegate_noop!(Client: WpViewport);
delegate_noop!(Client: WpViewporter);
delegate_noop!(Client: ignore WlBuffer);
delegate_noop!(Client: ignore WlSeat);
delegate_noop!(Client: ignore WlSurface);
delegate_noop!(Client: WpLinuxDrmSyncobjManagerV1);
delegate_noop!(Client: WpLinuxDrmSyncobjSurfaceV1);
delegate_noop!(Client: WpLinuxDrmSyncobjTimelineV1);
