//! What the client of a case is made of: surfaces, windows, buffers, and commits whose fate is watched.

use std::os::fd::{AsFd, OwnedFd};

use drm::buffer::DrmFourcc;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use wayland_client::WEnum;
use wayland_client::protocol::wl_buffer::{self, WlBuffer};
use wayland_client::protocol::wl_callback::WlCallback;
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_shm::{Format, WlShm};
use wayland_client::protocol::wl_subcompositor::WlSubcompositor;
use wayland_client::protocol::wl_subsurface::WlSubsurface;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::{
    Flags, ZwpLinuxBufferParamsV1,
};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1;
use wayland_protocols::wp::presentation_time::client::wp_presentation::WpPresentation;
use wayland_protocols::wp::presentation_time::client::wp_presentation_feedback::{
    self as feedback, WpPresentationFeedback,
};
use wayland_protocols::wp::viewporter::client::wp_viewport::WpViewport;
use wayland_protocols::wp::viewporter::client::wp_viewporter::WpViewporter;
use wayland_protocols::xdg::shell::client::xdg_surface::{self, XdgSurface};
use wayland_protocols::xdg::shell::client::xdg_toplevel::{self, XdgToplevel};

use super::connection::{Client, Inbox, inbox, take};
use super::verdict::{Outcome, Stop};
use super::{Place, machine};
use crate::client::source::{Image, Layout};
use crate::client::wire::add_planes;
use crate::halves::whole;

/// The buffers in a window's colour and form, as XRGB8888.
pub(super) const FORMAT: u32 = DrmFourcc::Xrgb8888 as u32;

/// A client with what every application has.
pub(super) struct App {
    /// Its connection.
    pub(super) client: Client,
    compositor: WlCompositor,
    factory: Option<ZwpLinuxDmabufV1>,
    presentation: Option<WpPresentation>,
}

/// A toplevel, configured and without a buffer.
pub(super) struct Window {
    /// The surface.
    pub(super) surface: WlSurface,
    /// Its role.
    pub(super) xdg_surface: XdgSurface,
    /// Its role.
    pub(super) toplevel: XdgToplevel,
    viewport: Option<WpViewport>,
}

/// A commit that is being watched.
pub(super) struct Watched {
    /// Where the compositor offers presentation-time.
    pub(super) feedback: Option<WpPresentationFeedback>,
    /// The frame callback.
    pub(super) frame: WlCallback,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Neither shown nor superseded so far.
    Waiting,
    /// Shown at a time, in nanoseconds of the presentation clock; 0 where nothing tells.
    Shown(u64),
    /// Never shown.
    Superseded,
}

impl Watched {
    /// As far as the client has heard.
    pub(super) fn fate(&self) -> Fate {
        let Some(object) = &self.feedback else {
            return match inbox(&self.frame, |events| events.is_empty()) {
                true => Fate::Waiting,
                false => Fate::Shown(0),
            };
        };
        let told = |event: &feedback::Event| match event {
            feedback::Event::Presented { tv_sec_hi, tv_sec_lo, tv_nsec, .. } => {
                let seconds = whole(*tv_sec_hi, *tv_sec_lo);
                Some(Fate::Shown(seconds.saturating_mul(1_000_000_000).saturating_add((*tv_nsec).into())))
            }
            feedback::Event::Discarded => Some(Fate::Superseded),
            _ => None,
        };
        inbox(object, |events| events.iter().find_map(told)).unwrap_or(Fate::Waiting)
    }

    /// Whether it is or was on the screen.
    pub(super) fn is_shown(&self) -> bool {
        matches!(self.fate(), Fate::Shown(_))
    }

    /// Fails if it has been shown.
    pub(super) fn expect_waiting(&self, why: &str) -> Result<(), Stop> {
        match self.fate() {
            Fate::Waiting => Ok(()),
            Fate::Shown(_) => Err(Stop::Fail(format!("the commit was shown although {why}"))),
            Fate::Superseded => Err(Stop::Fail(format!("the commit was discarded although {why}"))),
        }
    }
}

impl App {
    /// Connects.
    pub(super) fn open(place: &Place) -> Result<Self, Stop> {
        let client = Client::open(&place.socket, place.patience)?;
        let compositor = client.bind(4..=7)?;
        let presentation = client.bind(1..=1).ok();
        Ok(Self { client, compositor, factory: None, presentation })
    }

    /// A surface without a role.
    pub(super) fn surface(&self) -> WlSurface {
        self.compositor.create_surface(&self.client.handle(), Inbox::default())
    }

    /// A toplevel that may attach its first buffer.
    pub(super) fn window(&mut self) -> Result<Window, Stop> {
        let shell = self.client.shell()?;
        let (surface, handle) = (self.surface(), self.client.handle());
        let xdg_surface = shell.get_xdg_surface(&surface, &handle, Inbox::default());
        let toplevel = xdg_surface.get_toplevel(&handle, Inbox::default());
        toplevel.set_app_id("fencepost-probe".into());
        toplevel.set_title("fencepost probe".into());
        surface.commit();
        let configured = || inbox(&xdg_surface, |events| !events.is_empty());
        self.client.until("a toplevel is configured", configured)?;
        for event in take(&xdg_surface) {
            if let xdg_surface::Event::Configure { serial } = event {
                xdg_surface.ack_configure(serial);
            }
        }
        let size = take(&toplevel).into_iter().rev().find_map(|event| match event {
            xdg_toplevel::Event::Configure { width, height, .. } => Some((width, height)),
            _ => None,
        });
        // Where the compositor insists on a size, the viewport gives it to any buffer.
        let viewport = match (size, self.client.bind::<WpViewporter>(1..=1)) {
            (Some((width @ 1.., height @ 1..)), Ok(viewporter)) => {
                let viewport = viewporter.get_viewport(&surface, &handle, Inbox::default());
                viewport.set_destination(width, height);
                Some(viewport)
            }
            _ => None,
        };
        Ok(Window { surface, xdg_surface, toplevel, viewport })
    }

    /// A subsurface of `parent`, synchronised.
    pub(super) fn subsurface(&self, parent: &WlSurface) -> Result<(WlSurface, WlSubsurface), Stop> {
        let subcompositor: WlSubcompositor = self.client.bind(1..=1)?;
        let surface = self.surface();
        let handle = self.client.handle();
        let subsurface = subcompositor.get_subsurface(&surface, parent, &handle, Inbox::default());
        Ok((surface, subsurface))
    }

    /// A buffer of shared memory.
    pub(super) fn shm_buffer(&self) -> Result<WlBuffer, Stop> {
        const BYTES_PER_PIXEL: i32 = 4;
        let shm: WlShm = self.client.bind(1..=1)?;
        let (width, height) = (machine::SIZE.0 as i32, machine::SIZE.1 as i32);
        let bytes = width * height * BYTES_PER_PIXEL;
        let handle = self.client.handle();
        let pool = shm.create_pool(memory(bytes as u64)?.as_fd(), bytes, &handle, Inbox::default());
        let stride = width * BYTES_PER_PIXEL;
        let buffer =
            pool.create_buffer(0, width, height, stride, Format::Xrgb8888, &handle, Inbox::default());
        pool.destroy();
        Ok(buffer)
    }

    /// The linux-dmabuf global, in the latest version up to 5: version 6 has no main device.
    pub(super) fn factory(&mut self) -> Result<ZwpLinuxDmabufV1, Stop> {
        if let Some(factory) = &self.factory {
            return Ok(factory.clone());
        }
        let factory: ZwpLinuxDmabufV1 = self.client.bind(1..=5)?;
        self.factory = Some(factory.clone());
        Ok(factory)
    }

    /// Params with all planes of an image.
    pub(super) fn params(&mut self, layout: &Layout) -> Result<ZwpLinuxBufferParamsV1, Stop> {
        let params = self.factory()?.create_params(&self.client.handle(), Inbox::default());
        add_planes(&params, layout);
        Ok(params)
    }

    /// Asks for the buffer, which comes by event.
    pub(super) fn create(&self, params: &ZwpLinuxBufferParamsV1, layout: &Layout) {
        params.create(layout.size.0 as i32, layout.size.1 as i32, FORMAT, Flags::empty());
    }

    /// Makes the buffer at once.
    pub(super) fn create_immed(&self, params: &ZwpLinuxBufferParamsV1, layout: &Layout) -> WlBuffer {
        let (width, height) = (layout.size.0 as i32, layout.size.1 as i32);
        params.create_immed(width, height, FORMAT, Flags::empty(), &self.client.handle(), Inbox::default())
    }

    /// The buffer of a dma-buf.
    pub(super) fn buffer(&mut self, image: &dyn Image) -> Result<WlBuffer, Stop> {
        let params = self.params(image.layout())?;
        let buffer = self.create_immed(&params, image.layout());
        params.destroy();
        Ok(buffer)
    }

    /// Watches the surface's next commit.
    pub(super) fn watch(&self, surface: &WlSurface) -> Watched {
        let handle = self.client.handle();
        let feedback = self
            .presentation
            .as_ref()
            .map(|presentation| presentation.feedback(surface, &handle, Inbox::default()));
        Watched { feedback, frame: surface.frame(&handle, Inbox::default()) }
    }

    /// Attaches and damages all of a buffer, commits it, and watches that commit.
    pub(super) fn show(&self, surface: &WlSurface, buffer: &WlBuffer) -> Watched {
        surface.attach(Some(buffer), 0, 0);
        surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
        let watched = self.watch(surface);
        surface.commit();
        watched
    }

    /// The commit has to be shown soon.
    pub(super) fn until_shown(&mut self, commit: &Watched, when: &str) -> Result<(), Stop> {
        self.client.until(&format!("the commit is shown {when}"), || commit.fate() != Fate::Waiting)?;
        match commit.fate() {
            Fate::Superseded => Err(Stop::Fail(format!("the commit was discarded {when}"))),
            Fate::Waiting | Fate::Shown(_) => Ok(()),
        }
    }

    /// Nothing that was asked so far is an error, and the commit is shown soon.
    pub(super) fn expect_shown(&mut self, commit: &Watched) -> Outcome {
        self.until_shown(commit, "soon")?;
        Ok("shown".to_owned())
    }
}

impl Window {
    /// Destroys the window, role and all.
    pub(super) fn destroy(&self) {
        if let Some(viewport) = &self.viewport {
            viewport.destroy();
        }
        self.toplevel.destroy();
        self.xdg_surface.destroy();
        self.surface.destroy();
    }
}

/// How often a buffer was released.
pub(super) fn releases(buffer: &WlBuffer) -> usize {
    inbox(buffer, |events| events.iter().filter(|event| matches!(event, wl_buffer::Event::Release)).count())
}

/// The flags of presentation feedback; `None` before it came, or where it has no meaning.
pub(super) fn flags(feedback: &WpPresentationFeedback) -> Option<feedback::Kind> {
    inbox(feedback, |events| {
        events.iter().find_map(|event| match event {
            feedback::Event::Presented { flags: WEnum::Value(flags), .. } => Some(*flags),
            _ => None,
        })
    })
}

/// Memory to be shared, which is no dma-buf.
pub(super) fn memory(bytes: u64) -> Result<OwnedFd, Stop> {
    let fd = memfd_create("fencepost-probe", MemfdFlags::CLOEXEC)?;
    ftruncate(&fd, bytes)?;
    Ok(fd)
}
