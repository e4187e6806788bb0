//! The overlay's end of the Wayland connection: a surface, its buffers, and requests for events.
//!
//! Decides nothing.

use std::os::fd::AsFd;

use drm::buffer::{DrmFourcc, DrmModifier};
use wayland_client::{
    Connection, Dispatch, QueueHandle, delegate_noop,
    globals::{GlobalList, GlobalListContents},
    protocol::{
        wl_buffer::{self, WlBuffer},
        wl_compositor::WlCompositor,
        wl_registry::{self, WlRegistry},
        wl_shm::{self, WlShm},
        wl_shm_pool::WlShmPool,
        wl_surface::WlSurface,
    },
};
use wayland_protocols::wp::linux_dmabuf::zv1::client::{
    zwp_linux_buffer_params_v1::{Flags, ZwpLinuxBufferParamsV1},
    zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1,
};

use super::{
    Error, Overlay,
    buffers::{Kind, Memory, STRIDE},
    picture::{HEIGHT, WIDTH},
};
use crate::{
    client::formats::Formats,
    halves::halves,
    protocol::{
        VERSION,
        client::fencepost_debug_v1::{self, FencepostDebugV1},
    },
};

/// The picture's size as the protocols have it.
const SIZE: (i32, i32) = (WIDTH as i32, HEIGHT as i32);

/// What the compositor knows of the overlay, buffers excepted.
pub(super) struct Wire {
    handle: QueueHandle<Overlay>,
    debug: FencepostDebugV1,
    surface: WlSurface,
    shm: WlShm,
    /// linux-dmabuf, and a modifier of linear buffers that it takes.
    dmabuf: Option<(ZwpLinuxDmabufV1, u64)>,
}

/// A buffer.
pub(super) struct Slot {
    pub(super) memory: Memory,
    buffer: WlBuffer,
    /// The compositor has it.
    is_taken: bool,
}

impl Slot {
    pub(super) fn is_free(&self) -> bool {
        !self.is_taken
    }
}

impl Wire {
    /// Binds what is needed, and has a surface of ours shown above all others.
    pub(super) fn open(
        connection: &Connection,
        globals: &GlobalList,
        handle: &QueueHandle<Overlay>,
    ) -> Result<Self, Error> {
        let debug: FencepostDebugV1 = globals
            .bind(handle, VERSION..=VERSION, ())
            .map_err(|_| Error::NotOffered("fencepost_debug_v1"))?;
        let compositor: WlCompositor =
            globals.bind(handle, 4..=6, ()).map_err(|_| Error::NotOffered("wl_compositor"))?;
        let shm = globals.bind(handle, 1..=1, ()).map_err(|_| Error::NotOffered("wl_shm"))?;
        // Without linux-dmabuf there is shared memory.
        let dmabuf = Formats::ask(connection, globals).ok().and_then(|(dmabuf, formats)| {
            let wanted = [DrmModifier::Linear, DrmModifier::Invalid].map(u64::from);
            Some((dmabuf, wanted.into_iter().find(|modifier| formats.modifiers.contains(modifier))?))
        });
        let surface = compositor.create_surface(handle, ());
        debug.overlay(&surface);
        Ok(Self { handle: handle.clone(), debug, surface, shm, dmabuf })
    }

    pub(super) fn takes_dmabufs(&self) -> bool {
        self.dmabuf.is_some()
    }

    pub(super) fn ask_for_events(&self) {
        self.debug.events();
    }

    /// Makes a buffer of this memory; `index` is its place in the list of slots.
    pub(super) fn slot(&self, memory: Memory, index: usize) -> Slot {
        let buffer = match &self.dmabuf {
            Some((dmabuf, modifier)) if memory.kind == Kind::Dmabuf => {
                let params = dmabuf.create_params(&self.handle, ());
                let (high, low) = halves(*modifier);
                params.add(memory.fd.as_fd(), 0, 0, STRIDE, high, low);
                let format = DrmFourcc::Xrgb8888 as u32;
                let buffer = params.create_immed(SIZE.0, SIZE.1, format, Flags::empty(), &self.handle, index);
                params.destroy();
                buffer
            }
            Some(_) | None => {
                let len = i32::try_from(memory.len).unwrap_or(i32::MAX);
                let pool = self.shm.create_pool(memory.fd.as_fd(), len, &self.handle, ());
                let format = wl_shm::Format::Xrgb8888;
                let buffer =
                    pool.create_buffer(0, SIZE.0, SIZE.1, STRIDE as i32, format, &self.handle, index);
                pool.destroy();
                buffer
            }
        };
        Slot { memory, buffer, is_taken: false }
    }

    /// Commits what was drawn.
    ///
    /// `changed` is how many rows from the top may differ from what is shown.
    pub(super) fn show(&self, slot: &mut Slot, changed: u32) {
        slot.is_taken = true;
        self.surface.attach(Some(&slot.buffer), 0, 0);
        self.surface.damage_buffer(0, 0, SIZE.0, changed.try_into().unwrap_or(SIZE.1));
        self.surface.commit();
    }
}

impl Dispatch<FencepostDebugV1, ()> for Overlay {
    fn event(
        overlay: &mut Self,
        _: &FencepostDebugV1,
        event: fencepost_debug_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        overlay.model.hear(event);
    }
}

impl Dispatch<WlBuffer, usize> for Overlay {
    fn event(
        overlay: &mut Self,
        _: &WlBuffer,
        event: wl_buffer::Event,
        index: &usize,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_buffer::Event::Release = event
            && let Some(slot) = overlay.slots.get_mut(*index)
        {
            slot.is_taken = false;
        }
    }
}

impl Dispatch<WlRegistry, GlobalListContents> for Overlay {
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

delegate_noop!(Overlay: WlCompositor);
delegate_noop!(Overlay: WlShmPool);
delegate_noop!(Overlay: ignore WlShm);
delegate_noop!(Overlay: ignore WlSurface);
delegate_noop!(Overlay: ignore ZwpLinuxDmabufV1);
delegate_noop!(Overlay: ignore ZwpLinuxBufferParamsV1);
