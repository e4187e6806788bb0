//! One window of the parent's, or its pointer's image: the surface, and what a commit of it carries.
//!
//! Owns the surface and its role. Which buffer is committed is decided elsewhere.

use std::cell::Cell;
use std::io;

use smithay::utils::{Buffer, Logical, Physical, Rectangle, Size};
use wayland_client::QueueHandle;
use wayland_client::delegate_noop;
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_manager_v1::WpFractionalScaleManagerV1;
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_v1::WpFractionalScaleV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_manager_v1::WpLinuxDrmSyncobjManagerV1;
use wayland_protocols::wp::presentation_time::client::wp_presentation::WpPresentation;
use wayland_protocols::wp::viewporter::client::wp_viewport::WpViewport;
use wayland_protocols::wp::viewporter::client::wp_viewporter::WpViewporter;
use wayland_protocols::xdg::shell::client::xdg_surface::XdgSurface;
use wayland_protocols::xdg::shell::client::xdg_toplevel::XdgToplevel;
use wayland_protocols::xdg::shell::client::xdg_wm_base::XdgWmBase;

use super::explicit::{Explicit, Shared};
use super::open::{Error, Opening};
use super::wire::Heard;
use crate::fence::implicit::Planes;
use crate::fence::sync_file::SyncFile;
use crate::fence::timeline::{SyncobjDevice, TimelineError};

/// The part of a buffer that a window shows, and how large, in the parent's units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct View {
    pub(super) src: Rectangle<f64, Buffer>,
    pub(super) dst: Size<i32, Logical>,
}

impl View {
    /// The part of a buffer of this size, shown that large; `None` for all of it, a pixel for each of the parent's units.
    pub(super) fn of(
        src: Rectangle<f64, Buffer>,
        size: Size<i32, Buffer>,
        dst: Size<i32, Logical>,
    ) -> Option<Self> {
        let plain = src == Rectangle::from_size(size.to_f64()) && (size.w, size.h) == (dst.w, dst.h);
        (!plain).then_some(Self { src, dst })
    }
}

/// How a commit is synchronised.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sync<'a> {
    /// With points, the release point being the next of this timeline.
    Points(&'a Shared),
    /// By the fences in these dma-bufs; `None` for shared memory.
    Implicit(Option<&'a Planes>),
}

/// What a window is to show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contents<'a> {
    pub(super) buffer: &'a WlBuffer,
    pub(super) sync: Sync<'a>,
    /// What the parent has to wait for.
    pub(super) acquire: Option<&'a SyncFile>,
    /// What differs from the commit before; empty for everything.
    pub(super) damage: &'a [Rectangle<i32, Physical>],
    /// `None` for the whole buffer, a pixel for each of the parent's units.
    pub(super) view: Option<View>,
}

/// What windows are made of.
#[derive(Debug)]
pub(super) struct Makers {
    compositor: WlCompositor,
    shell: XdgWmBase,
    viewporter: Option<WpViewporter>,
    scales: Option<WpFractionalScaleManagerV1>,
}

impl Makers {
    /// Those that the parent has. A scale is of use only where a picture can be shown smaller than it is.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub(super) fn bind(opening: &mut Opening) -> Result<Self, Error> {
        let compositor = opening.need("wl_compositor of version 4", 4..=6)?;
        let shell = opening.need("xdg_wm_base", 1..=6)?;
        let viewporter: Option<WpViewporter> = opening.bind(1..=1);
        let scales = viewporter.as_ref().and_then(|_| opening.bind(1..=1));
        opening.heard.whole_scales = viewporter.is_some() && scales.is_none();
        Ok(Self { compositor, shell, viewporter, scales })
    }

    fn viewport(&self, surface: &WlSurface, handle: &QueueHandle<Heard>) -> Option<WpViewport> {
        Some(self.viewporter.as_ref()?.get_viewport(surface, handle, ()))
    }
}

/// A window.
#[derive(Debug)]
pub(super) struct Window {
    surface: WlSurface,
    viewport: Option<WpViewport>,
    scale: Option<WpFractionalScaleV1>,
    /// The view of the commit before.
    view: Cell<Option<View>>,
    /// With a parent that is explicitly synchronised.
    explicit: Option<Explicit>,
    /// `None` for the pointer's image.
    role: Option<(XdgSurface, XdgToplevel)>,
}

impl Drop for Window {
    fn drop(&mut self) {
        // What hangs on the surface goes before it.
        drop(self.explicit.take());
        self.viewport.iter().for_each(WpViewport::destroy);
        self.scale.iter().for_each(WpFractionalScaleV1::destroy);
        if let Some((xdg_surface, toplevel)) = &self.role {
            toplevel.destroy();
            xdg_surface.destroy();
        }
        self.surface.destroy();
    }
}

impl Window {
    /// A window of this number, which the parent has yet to configure.
    pub(super) fn new(number: usize, makers: &Makers, handle: &QueueHandle<Heard>) -> Self {
        let surface = makers.compositor.create_surface(handle, number);
        let xdg_surface = makers.shell.get_xdg_surface(&surface, handle, number);
        let toplevel = xdg_surface.get_toplevel(handle, number);
        toplevel.set_title(if number == 0 {
            "fencepost".into()
        } else {
            format!("fencepost {}", number + 1)
        });
        toplevel.set_app_id("fencepost".into());
        let viewport = makers.viewport(&surface, handle);
        let scale =
            makers.scales.as_ref().map(|scales| scales.get_fractional_scale(&surface, handle, number));
        surface.commit();
        let role = Some((xdg_surface, toplevel));
        Self { surface, viewport, scale, view: Cell::new(None), explicit: None, role }
    }

    /// A surface without a window, for the pointer's image.
    pub(super) fn bare(makers: &Makers, handle: &QueueHandle<Heard>) -> Self {
        let surface = makers.compositor.create_surface(handle, usize::MAX);
        let viewport = makers.viewport(&surface, handle);
        Self { surface, viewport, scale: None, view: Cell::new(None), explicit: None, role: None }
    }

    /// The surface.
    pub(super) fn surface(&self) -> &WlSurface {
        &self.surface
    }

    /// Has every later commit carry points of this device.
    ///
    /// # Errors
    /// Those of making timelines.
    pub(super) fn synchronise_on(
        &mut self,
        device: &SyncobjDevice,
        manager: &WpLinuxDrmSyncobjManagerV1,
        handle: &QueueHandle<Heard>,
    ) -> Result<(), TimelineError> {
        self.explicit = Some(Explicit::new(device, manager, &self.surface, handle)?);
        Ok(())
    }

    /// Back to implicit synchronisation.
    pub(super) fn synchronise_implicitly(&mut self) {
        self.explicit = None;
    }

    /// Its side of linux-drm-syncobj, with a parent that has it.
    pub(super) fn explicit(&self) -> Option<&Explicit> {
        self.explicit.as_ref()
    }

    /// Whether it can show such a view.
    pub(super) fn can_show(&self, view: Option<View>) -> bool {
        view.is_none() || self.viewport.is_some()
    }

    /// Shows something, and asks for the next frame if the commit has a number. The parent waits for `acquire`: by the
    /// acquire point, or by the dma-buf's fences. Where neither can be had, it is waited for here.
    ///
    /// # Errors
    /// Nothing was committed.
    pub(super) fn commit(
        &self,
        contents: Contents<'_>,
        presentation: Option<&WpPresentation>,
        number: Option<u64>,
        handle: &QueueHandle<Heard>,
    ) -> io::Result<()> {
        let Contents { buffer, sync, acquire, damage, view } = contents;
        match (&self.explicit, sync) {
            (Some(explicit), Sync::Points(release)) => {
                explicit.set_points(release, acquire).map_err(io::Error::other)?;
            }
            (None, Sync::Implicit(planes)) => hand_over_implicitly(planes, acquire)?,
            (Some(_), Sync::Implicit(_)) | (None, Sync::Points(_)) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
        self.surface.attach(Some(buffer), 0, 0);
        self.set_view(view);
        if damage.is_empty() {
            self.surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
        }
        for Rectangle { loc, size } in damage {
            self.surface.damage_buffer(loc.x, loc.y, size.w, size.h);
        }
        if let Some(number) = number {
            self.surface.frame(handle, number);
            presentation.map(|presentation| presentation.feedback(&self.surface, handle, number));
        }
        self.surface.commit();
        Ok(())
    }

    fn set_view(&self, view: Option<View>) {
        let Some(viewport) = self.viewport.as_ref().filter(|_| self.view.replace(view) != view) else {
            return;
        };
        match view {
            Some(View { src, dst }) => {
                viewport.set_source(src.loc.x, src.loc.y, src.size.w, src.size.h);
                viewport.set_destination(dst.w, dst.h);
            }
            // wp_viewport: "if all of x, y, width and height are -1.0, the source rectangle is unset instead."
            None => {
                viewport.set_source(-1.0, -1.0, -1.0, -1.0);
                viewport.set_destination(-1, -1);
            }
        }
    }

    /// Asks that it fill the parent's screen, or no longer does. The parent answers with a size.
    pub(super) fn set_fullscreen(&self, fullscreen: bool) {
        match &self.role {
            Some((_, toplevel)) if fullscreen => toplevel.set_fullscreen(None),
            Some((_, toplevel)) => toplevel.unset_fullscreen(),
            None => {}
        }
    }

    /// Shows nothing, so that the parent is done with every buffer of it.
    pub(super) fn hide(&self) {
        self.surface.attach(None, 0, 0);
        self.surface.commit();
    }
}

/// Gives the dma-buf the fence of its drawing, for whoever reads it.
fn hand_over_implicitly(planes: Option<&Planes>, acquire: Option<&SyncFile>) -> io::Result<()> {
    let (Some(planes), Some(acquire)) = (planes, acquire) else { return Ok(()) };
    planes.add_writer(acquire).or_else(|error| {
        tracing::warn!("the parent is not handed the fence of a frame, which is waited for: {error}");
        acquire.wait()
    })
}

delegate_noop!(Heard: WpViewporter);
delegate_noop!(Heard: WpViewport);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_cut_or_scaled_only_where_it_has_to_be() {
        let whole = Rectangle::from_size((640.0, 480.0).into());
        let of = |src, dst: (i32, i32)| View::of(src, (640, 480).into(), dst.into());
        assert_eq!(of(whole, (640, 480)), None);
        assert_eq!(of(whole, (320, 240)), Some(View { src: whole, dst: (320, 240).into() }));
        let part = Rectangle::new((10.0, 0.0).into(), (320.0, 240.0).into());
        assert_eq!(of(part, (320, 240)), Some(View { src: part, dst: (320, 240).into() }));
    }
}
