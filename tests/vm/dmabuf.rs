//! linux-dmabuf-v1 with the kernel's dma-bufs, and with what it does not take for one.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};

use fencepost::sys::{dma_heap, udmabuf};
use smithay::backend::allocator::Fourcc;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::{Error, Flags};

use crate::dmabuf_server::{LINEAR, Setup, add, answer, create_rgb};

fn device(path: &str) -> OwnedFd {
    OpenOptions::new().read(true).write(true).open(path).unwrap().into()
}

/// One of each exporter, of 4096 bytes.
fn dma_bufs() -> [OwnedFd; 2] {
    let heap = dma_heap::allocate(device(dma_heap::SYSTEM_PATH).as_fd(), 4096).unwrap();
    let pages = udmabuf::create(device(udmabuf::PATH).as_fd(), 4096).unwrap();
    [heap, pages]
}

#[test]
fn dma_bufs_of_any_exporter_are_taken_for_what_they_are() {
    for dma_buf in dma_bufs() {
        let mut setup = Setup::strict();
        let params = setup.params();
        add(&params, &dma_buf, 0, 0, 256, LINEAR);
        create_rgb(&params);
        setup.client.expect_no_error();
        assert!(answer(&params).is_some());
        assert_eq!(setup.imports(), 1);
    }
}

#[test]
fn the_kernel_says_how_large_a_dma_buf_is() {
    for dma_buf in dma_bufs() {
        let mut setup = Setup::strict();
        let params = setup.params();
        add(&params, &dma_buf, 0, 0, 256, LINEAR);
        params.create(64, 17, Fourcc::Xrgb8888 as u32, Flags::empty());
        let message = setup.client.expect_protocol_error(&params, Error::OutOfBounds);
        assert!(message.contains("its dma-buf of 4096 bytes"), "{message}");
    }
}

#[test]
fn a_device_or_the_memory_under_a_udmabuf_is_no_dma_buf() {
    let memory = crate::dmabuf_server::memory(4096);
    for fd in [device(udmabuf::PATH), device(dma_heap::SYSTEM_PATH), memory] {
        let mut setup = Setup::strict();
        let params = setup.params();
        add(&params, &fd, 0, 0, 256, LINEAR);
        create_rgb(&params);
        setup.client.expect_no_error();
        assert!(answer(&params).is_none());
        assert_eq!(setup.imports(), 0);
    }
}
