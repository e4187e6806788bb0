//! `wl_shm`.

use smithay::{
    reexports::wayland_server::{
        Client, DataInit, Dispatch, DisplayHandle, Resource,
        backend::ClientId,
        protocol::{
            wl_buffer::WlBuffer,
            wl_shm::{self, WlShm},
            wl_shm_pool::{self, WlShmPool},
        },
    },
    wayland::{
        buffer::BufferHandler,
        shm::{ShmBufferUserData, ShmHandler, ShmPoolUserData, ShmState},
    },
};

use crate::compositor::Compositor;

impl BufferHandler for Compositor {
    fn buffer_destroyed(&mut self, _buffer: &WlBuffer) {}
}

impl ShmHandler for Compositor {
    fn shm_state(&self) -> &ShmState {
        &self.globals.shm
    }
}

impl Dispatch<WlShmPool, ShmPoolUserData> for Compositor {
    fn request(
        state: &mut Self,
        client: &Client,
        pool: &WlShmPool,
        request: wl_shm_pool::Request,
        data: &ShmPoolUserData,
        display: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        // smithay 0.7 posts the error and then goes on to unwrap the size.
        if let wl_shm_pool::Request::Resize { size } = request
            && size <= 0
        {
            pool.post_error(wl_shm::Error::InvalidFd, format!("a pool cannot have {size} bytes"));
            return;
        }
        <ShmState as Dispatch<_, _, Self>>::request(state, client, pool, request, data, display, init);
    }

    fn destroyed(state: &mut Self, client: ClientId, pool: &WlShmPool, data: &ShmPoolUserData) {
        <ShmState as Dispatch<_, _, Self>>::destroyed(state, client, pool, data);
    }
}

smithay::reexports::wayland_server::delegate_global_dispatch!(Compositor: [WlShm: ()] => ShmState);
smithay::reexports::wayland_server::delegate_dispatch!(Compositor: [WlShm: ()] => ShmState);
smithay::reexports::wayland_server::delegate_dispatch!(Compositor: [WlBuffer: ShmBufferUserData] => ShmState);
