//! What the parent says, as it comes over the wire, and as [`Event`]s.
//!
//! Translates. The only answers given here are those that the protocol wants at once: pong and ack_configure. What it says of
//! its seat is in [`super::seat`].

use std::time::Duration;

use smithay::utils::{Logical, Size};
use wayland_client::protocol::wl_buffer::{self, WlBuffer};
use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_shm::WlShm;
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_client::protocol::wl_surface::{self, WlSurface};
use wayland_client::{Connection, Dispatch, QueueHandle, delegate_noop};
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_manager_v1::WpFractionalScaleManagerV1;
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_v1::{
    self, WpFractionalScaleV1,
};
use wayland_protocols::wp::presentation_time::client::wp_presentation::{self, WpPresentation};
use wayland_protocols::wp::presentation_time::client::wp_presentation_feedback::{
    self, WpPresentationFeedback,
};
use wayland_protocols::xdg::shell::client::xdg_surface::{self, XdgSurface};
use wayland_protocols::xdg::shell::client::xdg_toplevel::{self, XdgToplevel};
use wayland_protocols::xdg::shell::client::xdg_wm_base::{self, XdgWmBase};

use super::Word;
use super::buffers::Lent;
use super::configured::Configured;
use super::event::Event;
use super::offer::Offer;
use super::seat::Seat;
use crate::halves::whole;
use crate::output::display::Scale;

/// What a window's refresh is taken to be before the parent has told.
const ASSUMED_MHZ: i32 = 60_000;

/// What was heard and not yet taken.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) events: Vec<Event>,
    /// By their numbers.
    pub(super) windows: Vec<Configured>,
    /// Name, interface and version, in order.
    pub(super) globals: Vec<(u32, String, u32)>,
    /// The globals are complete.
    pub(super) listed: bool,
    /// The dma-bufs that the parent takes.
    pub(super) offer: Offer,
    /// Its presentation times are of our clock.
    pub(super) monotonic: bool,
    /// Its refresh rate, as far as it has told.
    pub(super) refresh_mhz: i32,
    /// Scales come as whole numbers, with the surfaces: it knows no others, and pictures can be shown smaller than they are.
    pub(super) whole_scales: bool,
    pub(super) seat: Seat,
}

impl Heard {
    pub(super) fn new(size: Size<i32, Logical>, windows: usize) -> Self {
        Self {
            events: Vec::new(),
            windows: vec![Configured::new(size); windows],
            globals: Vec::new(),
            listed: false,
            offer: Offer::default(),
            monotonic: false,
            refresh_mhz: ASSUMED_MHZ,
            whole_scales: false,
            seat: Seat::default(),
        }
    }

    /// The parent prefers pictures of a window to have this scale.
    fn prefers(&mut self, window: usize, scale: Option<Scale>) {
        if self.windows.get_mut(window).is_some_and(|configured| configured.rescale(scale)) {
            self.events.push(Event::Resized);
        }
    }

    /// The length of a refresh, in ns; 0 where the parent has none.
    fn refresh_is(&mut self, refresh_ns: u32) {
        let mhz =
            1_000_000_000_000_u64.checked_div(refresh_ns.into()).and_then(|mhz| i32::try_from(mhz).ok());
        // A rate that is measured wobbles.
        if let Some(mhz) = mhz.filter(|mhz| mhz.abs_diff(self.refresh_mhz) > mhz.unsigned_abs() / 100) {
            self.refresh_mhz = mhz;
            self.events.push(Event::Resized);
        }
    }
}

impl Dispatch<XdgToplevel, usize> for Heard {
    fn event(
        heard: &mut Self,
        _: &XdgToplevel,
        event: xdg_toplevel::Event,
        window: &usize,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match (event, heard.windows.get_mut(*window)) {
            (xdg_toplevel::Event::Configure { width, height, states }, Some(configured)) => {
                configured.suggest(width, height, &states);
            }
            (xdg_toplevel::Event::Close, _) => heard.events.push(Event::Closed(*window)),
            _ => {}
        }
    }
}

impl Dispatch<XdgSurface, usize> for Heard {
    fn event(
        heard: &mut Self,
        surface: &XdgSurface,
        event: xdg_surface::Event,
        window: &usize,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let xdg_surface::Event::Configure { serial } = event else { return };
        surface.ack_configure(serial);
        if heard.windows.get_mut(*window).is_some_and(Configured::take_effect) {
            heard.events.push(Event::Resized);
        }
    }
}

impl Dispatch<XdgWmBase, ()> for Heard {
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

impl Dispatch<WlCallback, u64> for Heard {
    fn event(
        heard: &mut Self,
        _: &WlCallback,
        event: wl_callback::Event,
        number: &u64,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_callback::Event::Done { .. } = event {
            heard.events.push(Event::Frame(*number, Word::Wanted));
        }
    }
}

impl Dispatch<WpPresentation, ()> for Heard {
    fn event(
        heard: &mut Self,
        _: &WpPresentation,
        event: wp_presentation::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wp_presentation::Event::ClockId { clk_id } = event {
            heard.monotonic = clk_id == rustix::time::ClockId::Monotonic as u32;
        }
    }
}

impl Dispatch<WpPresentationFeedback, u64> for Heard {
    fn event(
        heard: &mut Self,
        _: &WpPresentationFeedback,
        event: wp_presentation_feedback::Event,
        number: &u64,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use wp_presentation_feedback::Event as Wire;

        let word = match event {
            Wire::Presented { tv_sec_hi, tv_sec_lo, tv_nsec, refresh, seq_lo, flags, .. } => {
                heard.refresh_is(refresh);
                let seconds = whole(tv_sec_hi, tv_sec_lo);
                let at = Duration::from_secs(seconds).saturating_add(Duration::from_nanos(tv_nsec.into()));
                Word::Presented { at, sequence: seq_lo, flags: flags.into() }
            }
            Wire::Discarded => Word::Discarded,
            _ => return,
        };
        heard.events.push(Event::Frame(*number, word));
    }
}

impl Dispatch<WlBuffer, Lent> for Heard {
    fn event(
        heard: &mut Self,
        _: &WlBuffer,
        event: wl_buffer::Event,
        lent: &Lent,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_buffer::Event::Release = event {
            lent.end();
            heard.events.push(Event::Released);
        }
    }
}

impl Dispatch<WlRegistry, ()> for Heard {
    fn event(
        heard: &mut Self,
        _: &WlRegistry,
        event: wl_registry::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        // What comes later is not looked at.
        if let wl_registry::Event::Global { name, interface, version } = event
            && !heard.listed
        {
            heard.globals.push((name, interface, version));
        }
    }
}

/// Of the callback after which every global has been announced.
#[derive(Debug)]
pub(super) struct Listed;

impl Dispatch<WlCallback, Listed> for Heard {
    fn event(
        heard: &mut Self,
        _: &WlCallback,
        _: wl_callback::Event,
        _: &Listed,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        heard.listed = true;
    }
}

impl Dispatch<WpFractionalScaleV1, usize> for Heard {
    fn event(
        heard: &mut Self,
        _: &WpFractionalScaleV1,
        event: wp_fractional_scale_v1::Event,
        window: &usize,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wp_fractional_scale_v1::Event::PreferredScale { scale } = event {
            heard.prefers(*window, Scale::of_120ths(scale));
        }
    }
}

impl Dispatch<WlSurface, usize> for Heard {
    fn event(
        heard: &mut Self,
        _: &WlSurface,
        event: wl_surface::Event,
        window: &usize,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_surface::Event::PreferredBufferScale { factor } = event
            && heard.whole_scales
        {
            heard.prefers(*window, Scale::new(factor.into()));
        }
    }
}

delegate_noop!(Heard: WpFractionalScaleManagerV1);
delegate_noop!(Heard: WlCompositor);
delegate_noop!(Heard: WlShmPool);
delegate_noop!(Heard: ignore WlShm);
