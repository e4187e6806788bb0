//! memfds: memory of ours that another process or a device may be given.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// Makes `len` zeroed bytes that cannot be taken away again: who maps them is not sent a SIGBUS. Linux 3.17.
///
/// `name` is what /proc shows.
///
/// # Errors
/// `ENOMEM`, `EMFILE`, `EFBIG`.
pub fn sealed(name: &str, len: u64) -> io::Result<OwnedFd> {
    let memory = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&memory, len)?;
    fcntl_add_seals(&memory, SealFlags::SHRINK)?;
    Ok(memory)
}
