//! Implicit sync in both directions, for the buffers of each exporter: what others write is seen, and what we read delays
//! whoever writes, on whichever driver.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use drm::buffer::{Buffer as _, DrmFourcc};
use drm::control::Device as _;
use fencepost::fence::implicit::Planes;
use fencepost::fence::release::{self, Outcome, Target};
use fencepost::fence::sync_file::SyncFile;
use fencepost::fence::{Fence, Status};
use fencepost::sys::dma_buf::{self, Access};
use fencepost::sys::vgem;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::fences::{Card, SwSync, heap_buffer, udmabuf_buffer, vgem_card};
use crate::harness::modprobe;
use crate::sync_app::gpu_dma_buf;

fn vgem_buffer(card: &Card) -> OwnedFd {
    let buffer = card.create_dumb_buffer((64, 64), DrmFourcc::Xrgb8888, 32).expect("a dumb buffer");
    card.buffer_to_prime_fd(buffer.handle(), drm::CLOEXEC | drm::RDWR).expect("PRIME export")
}

fn buffers(card: &Card) -> [(&'static str, OwnedFd); 4] {
    let gpu = gpu_dma_buf().handles().next().expect("a plane").try_clone_to_owned().expect("its fd");
    [("vgem", vgem_buffer(card)), ("dma-heap", heap_buffer()), ("udmabuf", udmabuf_buffer()), ("GPU", gpu)]
}

fn fences_for(buffer: BorrowedFd<'_>, access: Access) -> Status {
    SyncFile::from_kernel(dma_buf::export_sync_file(buffer, access).expect("export")).status()
}

fn is_ready(buffer: BorrowedFd<'_>, events: PollFlags) -> bool {
    poll(&mut [PollFd::from_borrowed_fd(buffer, events)], Some(&Timespec::default())).expect("poll") == 1
}

#[test]
fn what_we_read_delays_writers_on_any_driver_and_no_readers() {
    modprobe("vgem");
    let card = vgem_card();
    for (what, buffer) in buffers(&card) {
        let mut sw = SwSync::new();
        let ours = sw.fence();
        let planes = Planes::new([buffer.as_fd()]).expect("planes");
        let outcome = release::resolve(Target::DmaBuf(planes), vec![ours]);
        let Outcome::Wait { target, .. } = outcome else { panic!("{what}: {outcome:?}") };
        // As another driver sees it: vgem refuses a writer while a reader is pending.
        let handle = u32::from(card.prime_fd_to_buffer(buffer.as_fd()).expect(what));
        let refused = vgem::attach_fence(card.as_fd(), handle, Access::Write).expect_err(what);
        assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::BUSY.raw_os_error()), "{what}");
        assert_eq!(fences_for(buffer.as_fd(), Access::Write), Status::Pending, "{what}");
        assert!(!is_ready(buffer.as_fd(), PollFlags::OUT), "{what}");
        assert_eq!(fences_for(buffer.as_fd(), Access::Read), Status::Signalled, "{what}");
        assert!(is_ready(buffer.as_fd(), PollFlags::IN), "{what}");

        sw.step();
        let writer = vgem::attach_fence(card.as_fd(), handle, Access::Write).expect(what);
        vgem::signal_fence(card.as_fd(), writer).expect("signal");
        assert!(matches!(release::resolve(target, Vec::new()), Outcome::Released), "{what}");
    }
}

#[test]
fn what_others_write_on_any_driver_is_waited_for() {
    modprobe("vgem");
    let card = vgem_card();
    for (what, buffer) in buffers(&card) {
        let handle = u32::from(card.prime_fd_to_buffer(buffer.as_fd()).expect(what));
        let writer = vgem::attach_fence(card.as_fd(), handle, Access::Write).expect(what);
        let planes = Planes::new([buffer.as_fd()]).expect("planes");
        let writers = planes.writers().expect("writers");
        assert_eq!(writers[0].status(), Status::Pending, "{what}");
        vgem::signal_fence(card.as_fd(), writer).expect("signal");
        assert_eq!(writers[0].status(), Status::Signalled, "{what}");
    }
}
