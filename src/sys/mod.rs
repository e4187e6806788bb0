//! The kernel's interfaces: one safe function per ioctl, and all of this project's `unsafe`.
//!
//! Functions here take a [`BorrowedFd`](std::os::fd::BorrowedFd), give back an
//! [`OwnedFd`](std::os::fd::OwnedFd) and decide nothing: no fallback, no cache, no log. Each one names
//! the kernel version that brought it and the rule its users have to know. Whoever wants RAII and types
//! uses [`crate::fence`].

#![allow(unsafe_code)]

pub mod atomic;
pub mod dma_buf;
pub mod dma_heap;
pub mod drm_master;
pub mod egl;
pub mod gl;
pub mod mapping;
pub mod memfd;
pub mod property_blob;
pub mod sw_sync;
pub mod sync_file;
pub mod syncobj;
pub mod udmabuf;
pub mod vgem;
pub mod wl_shm;

mod ioctl;
