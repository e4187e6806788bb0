//! CPU access to memory that somebody else may be writing at the same time.
//!
//! The other side of a dma-buf is another process or a device, and nothing stops it from writing while we
//! read: there is never a `&[u8]` into it, only copies, each byte of which is read or written once. What
//! the copies contain is the other side's doing. Waiting for fences and [`super::dma_buf::begin_cpu_access`]
//! are the caller's.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::dma_buf::{Access, is_dma_buf};

/// A shared mapping of a dma-buf or of a memfd that cannot shrink.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: the mapping is plain memory that belongs to this value alone; no thread is special to it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `fd`. [`Access::Write`] maps for both, as mmap(2) does anyway.
    ///
    /// # Errors
    /// `EINVAL` if `len` is 0 or more than the object has, or if its memory could go away under us (which
    /// would be a SIGBUS): it has to be a dma-buf, or sealed with `F_SEAL_SHRINK`. Those of mmap(2).
    pub fn new(fd: BorrowedFd<'_>, len: usize, access: Access) -> io::Result<Self> {
        // A dma-buf has a fixed size, and its exporter refuses to map more than that.
        if !is_dma_buf(fd)? {
            let sealed = fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
            if !sealed || usize::try_from(fstat(fd)?.st_size).is_ok_and(|size| len > size) {
                return Err(Errno::INVAL.into());
            }
        }
        let writable = access != Access::Read;
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing of ours.
        let start = unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0)? };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, len, writable })
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true: an empty mapping cannot be made.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes out, starting at `offset`.
    ///
    /// # Errors
    /// `EINVAL` if that is not all inside.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> io::Result<()> {
        let mut from = self.at(offset, into.len())?;
        // Words where the source allows it: dma-bufs are often uncached, where every access counts.
        let head = from.align_offset(size_of::<u64>()).min(into.len());
        let (head, rest) = into.split_at_mut(head);
        let mut words = rest.chunks_exact_mut(size_of::<u64>());
        // SAFETY: `at` has checked that `from` and the `into.len()` bytes after it are mapped, and each step
        // moves on by as much as it has read. After `head` bytes `from` is aligned for u64, or `rest` is empty.
        unsafe {
            for byte in head {
                *byte = from.read_volatile();
                from = from.add(1);
            }
            for word in &mut words {
                word.copy_from_slice(&from.cast::<u64>().read_volatile().to_ne_bytes());
                from = from.add(size_of::<u64>());
            }
            for byte in words.into_remainder() {
                *byte = from.read_volatile();
                from = from.add(1);
            }
        }
        Ok(())
    }

    /// Copies bytes in, starting at `offset`.
    ///
    /// # Errors
    /// `EINVAL` if that is not all inside, `EACCES` if mapped for reading only.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> io::Result<()> {
        let mut to = self.at_mut(offset, from.len())?;
        let (head, rest) = from.split_at(to.align_offset(size_of::<u64>()).min(from.len()));
        let (words, tail) = rest.as_chunks::<8>();
        // SAFETY: as in `read`; and the mapping is writable.
        unsafe {
            for byte in head {
                to.write_volatile(*byte);
                to = to.add(1);
            }
            for word in words {
                to.cast::<u64>().write_volatile(u64::from_ne_bytes(*word));
                to = to.add(size_of::<u64>());
            }
            for byte in tail {
                to.write_volatile(*byte);
                to = to.add(1);
            }
        }
        Ok(())
    }

    /// Writes `count` times the pixel `value`, starting at `offset`, a multiple of 4.
    ///
    /// # Errors
    /// `EINVAL` if that is not all inside or not aligned, `EACCES` if mapped for reading only.
    pub fn fill(&mut self, offset: usize, count: usize, value: u32) -> io::Result<()> {
        let bytes = count.checked_mul(size_of::<u32>()).ok_or(Errno::INVAL)?;
        let to = self.at_mut(offset, bytes)?.cast::<u32>();
        if !to.is_aligned() {
            return Err(Errno::INVAL.into());
        }
        for index in 0..count {
            // SAFETY: aligned, inside the `bytes` that `at_mut` has checked, and writable.
            unsafe { to.add(index).write_volatile(value) };
        }
        Ok(())
    }

    fn at(&self, offset: usize, len: usize) -> io::Result<*const u8> {
        match offset.checked_add(len) {
            // SAFETY: `offset` is at most `self.len`, so this stays inside the mapping or at its end.
            Some(end) if end <= self.len => Ok(unsafe { self.start.as_ptr().add(offset) }),
            _ => Err(Errno::INVAL.into()),
        }
    }

    fn at_mut(&mut self, offset: usize, len: usize) -> io::Result<*mut u8> {
        if !self.writable {
            return Err(Errno::ACCESS.into());
        }
        self.at(offset, len).map(<*const u8>::cast_mut)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped, and nobody else has a pointer into it.
        let result = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(result.is_ok(), "munmap of our own mapping");
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

    use super::*;

    fn memfd(len: u64) -> OwnedFd {
        let fd = memfd_create("test", MemfdFlags::ALLOW_SEALING).expect("memfd");
        ftruncate(&fd, len).expect("ftruncate");
        fd
    }

    fn sealed(len: u64) -> OwnedFd {
        let fd = memfd(len);
        fcntl_add_seals(&fd, SealFlags::SHRINK).expect("seal");
        fd
    }

    #[test]
    fn what_is_written_at_any_offset_is_read_back() {
        let fd = sealed(4096);
        let mut mapping = Mapping::new(fd.as_fd(), 4096, Access::Write).expect("map");
        let bytes: Vec<u8> = (0..100).collect();
        for offset in [0, 1, 7, 8, 13, 4096 - 100] {
            mapping.write(offset, &bytes).expect("write");
            let mut back = vec![0; 100];
            mapping.read(offset, &mut back).expect("read");
            assert_eq!(back, bytes, "at offset {offset}");
        }
        mapping.fill(8, 3, 0x0102_0304).expect("fill");
        let mut back = [0; 16];
        mapping.read(6, &mut back).expect("read");
        assert_eq!(back[2..14], [4, 3, 2, 1, 4, 3, 2, 1, 4, 3, 2, 1]);
    }

    #[test]
    fn nothing_outside_the_mapping_is_touched() {
        let fd = sealed(4096);
        let mut mapping = Mapping::new(fd.as_fd(), 4096, Access::Write).expect("map");
        assert!(mapping.read(4090, &mut [0; 7]).is_err());
        assert!(mapping.write(4096, &[0]).is_err());
        assert!(mapping.write(usize::MAX, &[0; 2]).is_err());
        assert!(mapping.fill(4092, 2, 0).is_err());
        assert!(mapping.fill(2, 1, 0).is_err());
        assert!(mapping.fill(0, usize::MAX, 0).is_err());
    }

    #[test]
    fn memory_that_could_go_away_is_refused() {
        assert!(Mapping::new(memfd(4096).as_fd(), 4096, Access::Read).is_err());
        assert!(Mapping::new(sealed(4096).as_fd(), 8192, Access::Read).is_err());
        assert!(Mapping::new(sealed(4096).as_fd(), 0, Access::Read).is_err());
    }

    #[test]
    fn a_mapping_for_reading_is_not_written() {
        let fd = sealed(4096);
        let mut mapping = Mapping::new(fd.as_fd(), 4096, Access::Read).expect("map");
        let error = mapping.write(0, &[1]).expect_err("write to a read-only mapping");
        assert_eq!(error.raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
    }
}
