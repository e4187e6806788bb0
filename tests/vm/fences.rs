//! `sys` and `fence` on real kernel fences: sw_sync for fences that the test signals, the render node for
//! syncobjs, dma-heap, udmabuf and vgem for dma-bufs of different exporters.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use calloop::EventLoop;
use drm::buffer::Buffer;
use drm::control::Device as _;
use fencepost::fence::implicit::Planes;
use fencepost::fence::release::{self, Outcome, Target};
use fencepost::fence::roles::AcquireFence;
use fencepost::fence::sync_file::SyncFile;
use fencepost::fence::timeline::{MAX_EVENTFDS, Point, SyncobjDevice, Timeline, TimelineError, Until};
use fencepost::fence::{Fence, Status, wait};
use fencepost::sys::dma_buf::{self, Access};
use fencepost::sys::mapping::Mapping;
use fencepost::sys::{dma_heap, sw_sync, syncobj, udmabuf, vgem};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::harness::modprobe;

pub(crate) const RENDER_NODE: &str = "/dev/dri/renderD128";
const PAGE: usize = 4096;

/// Fences that signal in order, one at each step.
pub(crate) struct SwSync {
    timeline: OwnedFd,
    made: u32,
}

impl SwSync {
    pub(crate) fn new() -> Self {
        modprobe("sw_sync");
        Self { timeline: sw_sync::open_timeline().expect("a sw_sync timeline"), made: 0 }
    }

    pub(crate) fn fence(&mut self) -> SyncFile {
        self.made += 1;
        let fd = sw_sync::create_fence(self.timeline.as_fd(), self.made).expect("a sw_sync fence");
        SyncFile::from_fd(fd).expect("a sync_file")
    }

    pub(crate) fn step(&self) {
        sw_sync::increment(self.timeline.as_fd(), 1).expect("step");
    }
}

pub(crate) fn device() -> SyncobjDevice {
    SyncobjDevice::open(Path::new(RENDER_NODE)).expect("a device with syncobjs")
}

fn timeline() -> Timeline {
    Timeline::create(&device()).expect("a timeline")
}

pub(crate) fn heap_buffer() -> OwnedFd {
    let heap = File::options().read(true).write(true).open(dma_heap::SYSTEM_PATH).expect("the system heap");
    dma_heap::allocate(heap.as_fd(), PAGE as u64).expect("a dma-heap buffer")
}

pub(crate) fn udmabuf_buffer() -> OwnedFd {
    let device = File::options().read(true).write(true).open(udmabuf::PATH).expect("udmabuf");
    udmabuf::create(device.as_fd(), PAGE as u64).expect("a udmabuf")
}

fn is_readable(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).expect("poll") == 1
}

#[test]
fn a_point_is_unmaterialised_then_pending_then_signalled() {
    let mut sw = SwSync::new();
    let point = timeline().point(1 << 40);
    assert_eq!(point.status(), Status::Unmaterialised);
    point.import_sync_file(&sw.fence()).expect("import");
    assert_eq!(point.status(), Status::Pending);
    assert!(point.is_materialised());
    sw.step();
    assert_eq!(point.status(), Status::Signalled);
}

#[test]
fn the_largest_points_work() {
    let timeline = timeline();
    for value in [1 << 32, (1 << 32) + 1, 1 << 63, u64::MAX] {
        let point = timeline.point(value);
        assert_eq!(point.status(), Status::Unmaterialised, "{value}");
        point.signal().expect("signal");
        assert_eq!(point.status(), Status::Signalled, "{value}");
    }
}

#[test]
fn an_eventfd_fires_at_materialisation_or_at_the_signal_as_asked() {
    let mut sw = SwSync::new();
    let point = timeline().point(7);
    let materialised = point.eventfd(Until::Materialised).expect("eventfd");
    let signalled = point.eventfd(Until::Signalled).expect("eventfd");
    assert!(!is_readable(&materialised) && !is_readable(&signalled));
    point.import_sync_file(&sw.fence()).expect("import");
    assert!(is_readable(&materialised) && !is_readable(&signalled));
    sw.step();
    assert!(is_readable(&signalled));
}

#[test]
fn an_eventfd_for_a_point_that_was_overtaken_fires_at_once() {
    let timeline = timeline();
    timeline.point(1).signal().expect("signal");
    timeline.point(5).signal().expect("signal");
    for value in [1, 3, 5] {
        let eventfd = timeline.point(value).eventfd(Until::Signalled).expect("eventfd");
        assert!(is_readable(&eventfd), "point {value}");
    }
}

#[test]
fn a_point_signals_only_after_the_points_below_it() {
    let mut sw = SwSync::new();
    let timeline = timeline();
    let (one, two) = (timeline.point(1), timeline.point(2));
    let first = sw.fence();
    one.import_sync_file(&first).expect("import");
    two.signal().expect("signal");
    assert_eq!(two.status(), Status::Pending);
    sw.step();
    assert_eq!((one.status(), two.status()), (Status::Signalled, Status::Signalled));
}

#[test]
fn points_that_arrive_out_of_order_never_signal_early() {
    let mut sw = SwSync::new();
    let timeline = timeline();
    timeline.point(10).import_sync_file(&sw.fence()).expect("import");
    assert_eq!(timeline.point(5).status(), Status::Pending, "10 stands for everything below it");
    timeline.point(5).signal().expect("signal");
    assert_eq!(timeline.point(10).status(), Status::Pending);
    assert_ne!(timeline.point(5).status(), Status::Signalled, "chained to what was there");
    sw.step();
    assert_eq!(timeline.point(10).status(), Status::Signalled);
    assert_eq!(timeline.point(5).status(), Status::Signalled);
}

#[test]
fn nothing_done_at_point_0_costs_the_timeline_its_points() {
    let mut sw = SwSync::new();
    let timeline = timeline();
    timeline.point(3).import_sync_file(&sw.fence()).expect("import");
    let refused = timeline.point(0).import_sync_file(&sw.fence());
    assert!(matches!(refused, Err(TimelineError::PointZero)));
    timeline.point(0).signal().expect("signal");
    assert_eq!(timeline.point(3).status(), Status::Pending);
    assert_eq!(timeline.point(4).status(), Status::Unmaterialised);
    sw.step();
    assert_eq!(timeline.point(3).status(), Status::Signalled);
    assert_eq!(timeline.point(0).status(), Status::Signalled);
}

#[test]
fn an_exported_point_is_a_live_fence_and_an_unmaterialised_one_cannot_be_exported() {
    let mut sw = SwSync::new();
    let point = timeline().point(1);
    assert!(matches!(point.export_sync_file(), Err(TimelineError::Unmaterialised)));
    assert!(AcquireFence::Point(point.clone()).hand_over().expect("hand over").is_none());
    point.import_sync_file(&sw.fence()).expect("import");
    let exported = point.export_sync_file().expect("export");
    assert_eq!(exported.status(), Status::Pending);
    sw.step();
    assert_eq!(exported.status(), Status::Signalled);
    assert_eq!(point.export_sync_file().expect("export of the past").status(), Status::Signalled);
}

#[test]
fn fences_can_be_moved_between_timelines_again_and_again() {
    let mut sw = SwSync::new();
    let device = device();
    let (a, b) =
        (Timeline::create(&device).expect("a timeline"), Timeline::create(&device).expect("a timeline"));
    a.point(1).import_sync_file(&sw.fence()).expect("import");
    // Every round adds a chain to a chain; the kernel warns (and the rig fails) if one is nested in another.
    for round in 1..50 {
        let there = a.point(round).export_sync_file().expect("export");
        b.point(round).import_sync_file(&there).expect("import");
        let back = b.point(round).export_sync_file().expect("export");
        a.point(round + 1).import_sync_file(&back).expect("import");
    }
    assert_eq!(b.point(49).status(), Status::Pending);
    sw.step();
    assert_eq!(b.point(49).status(), Status::Signalled);
    assert_eq!(a.point(50).status(), Status::Signalled);
}

#[test]
fn a_merged_fence_waits_for_all_and_tells_of_each() {
    let mut sw = SwSync::new();
    let (first, second) = (sw.fence(), sw.fence());
    let mut other = SwSync::new();
    let third = other.fence();
    let merged = SyncFile::merge_all([&first, &second, &third]).expect("merge").expect("a fence");
    // The kernel keeps the later of two fences of one timeline.
    assert_eq!(merged.info().expect("info").fences.len(), 2);
    sw.step();
    sw.step();
    assert_eq!(merged.status(), Status::Pending);
    assert_eq!(merged.signalled_at_ns().expect("info"), None);
    other.step();
    assert_eq!(merged.status(), Status::Signalled);
    let last = third.signalled_at_ns().expect("info").expect("a time");
    assert_eq!(merged.signalled_at_ns().expect("info"), Some(last));
}

#[test]
fn a_fence_that_failed_says_so_and_counts_as_signalled() {
    let mut sw = SwSync::new();
    let fence = sw.fence();
    let good = SwSync::new().fence();
    let point = timeline().point(1);
    point.import_sync_file(&fence).expect("import");
    drop(sw);
    let enoent = rustix::io::Errno::NOENT.raw_os_error();
    assert_eq!(fence.status(), Status::Failed(-enoent));
    assert_eq!(point.status(), Status::Signalled);
    // `good` lost its timeline too.
    assert!(fence.merge(&good).expect("merge").status().is_done());
}

#[test]
fn a_deadline_reaches_the_fence() {
    let mut sw = SwSync::new();
    let fence = sw.fence();
    fence.set_deadline(123_456_789).expect("set");
    let set = sw_sync::deadline_ns(sw.timeline.as_fd(), fence.as_fd()).expect("read back");
    assert_eq!(set, 123_456_789);
}

#[test]
fn only_a_syncobj_is_imported_as_a_timeline() {
    let device = device();
    let (pipe, _writer) = std::io::pipe().expect("pipe");
    let memfd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    let others: [(&str, OwnedFd); 4] = [
        ("a pipe", pipe.into()),
        ("a memfd", memfd),
        ("a sync_file", SwSync::new().fence().dup().expect("dup")),
        ("a dma-buf", heap_buffer()),
    ];
    for (what, fd) in others {
        let result = Timeline::import(&device, fd.as_fd());
        assert!(matches!(result, Err(TimelineError::NotASyncobj(_))), "{what}: {result:?}");
    }
}

#[test]
fn an_imported_timeline_is_the_same_syncobj() {
    let device = device();
    let ours = Timeline::create(&device).expect("a timeline");
    let fd = ours.export().expect("export");
    let theirs = Timeline::import(&device, fd.as_fd()).expect("import");
    drop(fd);
    assert_ne!(ours, theirs);
    theirs.point(9).signal().expect("signal");
    drop(theirs);
    assert_eq!(ours.point(9).status(), Status::Signalled);
}

#[test]
fn no_handle_is_left_behind() {
    let node = File::options().read(true).write(true).open(RENDER_NODE).expect("the render node");
    // A clone is the same open file, so it sees the same handles.
    let device = SyncobjDevice::from_fd(node.try_clone().expect("clone").into()).expect("a device");
    let mut sw = SwSync::new();
    let fence = sw.fence();
    let before = syncobj::create(node.as_fd()).expect("create");
    for value in 1..500 {
        let timeline = Timeline::create(&device).expect("create");
        let again = Timeline::import(&device, timeline.export().expect("export").as_fd()).expect("import");
        again.point(value).import_sync_file(&fence).expect("import");
        timeline.point(value).export_sync_file().expect("export");
    }
    let after = syncobj::create(node.as_fd()).expect("create");
    assert_eq!(after, before + 1, "the kernel hands out the lowest free handle");
    drop(device);
    let last = syncobj::create(node.as_fd()).expect("create");
    assert!(last < before, "the scratch handle {last} is free again");
}

fn follows_its_writers(buffer: &OwnedFd) {
    let mut sw = SwSync::new();
    let planes = Planes::new([buffer.as_fd(), buffer.as_fd()]).expect("planes");
    let idle = planes.writers().expect("writers");
    assert!(idle.iter().all(|fence| fence.status() == Status::Signalled));

    let write = sw.fence();
    dma_buf::import_sync_file(buffer.as_fd(), Access::Write, write.as_fd()).expect("import");
    let writers = planes.writers().expect("writers");
    assert_eq!(writers.len(), 1, "both planes are one dma-buf");
    assert_eq!(writers[0].status(), Status::Pending);

    // A snapshot: what comes later is another commit's business.
    let later = sw.fence();
    dma_buf::import_sync_file(buffer.as_fd(), Access::Write, later.as_fd()).expect("import");
    let both = planes.writers().expect("writers");
    sw.step();
    assert_eq!(writers[0].status(), Status::Signalled);
    assert_eq!(both[0].status(), Status::Pending);
    sw.step();
    assert_eq!(both[0].status(), Status::Signalled);
}

#[test]
fn a_snapshot_of_a_heap_buffer_has_its_writers_of_then() {
    follows_its_writers(&heap_buffer());
}

#[test]
fn a_snapshot_of_a_udmabuf_has_its_writers_of_then() {
    follows_its_writers(&udmabuf_buffer());
}

#[test]
fn a_reader_delays_writers_and_not_readers() {
    let mut sw = SwSync::new();
    let buffer = heap_buffer();
    let planes = Planes::new([buffer.as_fd()]).expect("planes");
    planes.add_reader(&sw.fence()).expect("import");
    assert!(planes.writers().expect("writers").is_empty(), "nobody writes");
    let all = dma_buf::export_sync_file(buffer.as_fd(), Access::ReadWrite).expect("export");
    let all = SyncFile::from_kernel(all);
    assert_eq!(all.status(), Status::Pending);
    sw.step();
    assert_eq!(all.status(), Status::Signalled);
}

pub(crate) struct Card(File);

impl AsFd for Card {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Card {}
impl drm::control::Device for Card {}

#[test]
fn a_vgem_fence_delays_the_readers_of_its_buffer() {
    modprobe("vgem");
    let card = vgem_card();
    let format = drm::buffer::DrmFourcc::Xrgb8888;
    let buffer = card.create_dumb_buffer((64, 64), format, 32).expect("a dumb buffer");
    let flags = drm::CLOEXEC | drm::RDWR;
    let fd = card.buffer_to_prime_fd(buffer.handle(), flags).expect("PRIME export");
    let fence = vgem::attach_fence(card.as_fd(), buffer.handle().into(), Access::Write).expect("attach");
    let writers = Planes::new([fd.as_fd()]).expect("planes").writers().expect("writers");
    assert_eq!(writers[0].status(), Status::Pending);
    vgem::signal_fence(card.as_fd(), fence).expect("signal");
    assert_eq!(writers[0].status(), Status::Signalled);
    card.destroy_dumb_buffer(buffer).expect("destroy");
}

pub(crate) fn vgem_card() -> Card {
    use drm::Device as _;

    let cards =
        (0..8).filter_map(|n| File::options().read(true).write(true).open(format!("/dev/dri/card{n}")).ok());
    let is_vgem = |card: &Card| card.get_driver().is_ok_and(|driver| driver.name() == "vgem");
    cards.map(Card).find(is_vgem).expect("the vgem card")
}

#[test]
fn every_exporter_can_be_mapped_and_written() {
    for (what, buffer) in [("dma-heap", heap_buffer()), ("udmabuf", udmabuf_buffer())] {
        assert!(dma_buf::is_dma_buf(buffer.as_fd()).expect("fstatfs"), "{what}");
        assert!(Mapping::new(buffer.as_fd(), 2 * PAGE, Access::Write).is_err(), "{what}: too much");
        let mut mapping = Mapping::new(buffer.as_fd(), PAGE, Access::Write).expect(what);
        dma_buf::begin_cpu_access(buffer.as_fd(), Access::ReadWrite).expect("begin");
        mapping.fill(0, PAGE / 4, 0xfeed_f00d).expect("fill");
        let mut back = [0; 4];
        mapping.read(PAGE - 4, &mut back).expect("read");
        dma_buf::end_cpu_access(buffer.as_fd(), Access::ReadWrite).expect("end");
        assert_eq!(u32::from_ne_bytes(back), 0xfeed_f00d, "{what}");
    }
}

/// Turns the loop until `count` is `expected`, for at most half a minute; then once more, to see that it stays.
fn expect_callbacks(event_loop: &mut EventLoop<'static, u32>, count: &mut u32, expected: u32) {
    let start = Instant::now();
    while *count != expected && start.elapsed() < Duration::from_secs(30) {
        event_loop.dispatch(Duration::from_millis(10), count).expect("dispatch");
    }
    event_loop.dispatch(Duration::from_millis(10), count).expect("dispatch");
    assert_eq!(*count, expected);
}

#[test]
fn waits_for_points_and_sync_files_end_with_their_fences() {
    let mut event_loop = EventLoop::try_new().expect("event loop");
    let handle = event_loop.handle();
    let mut sw = SwSync::new();
    let fence = sw.fence();
    let timeline = timeline();
    let point = timeline.point(1);
    let mut count = 0;
    let tokens = [
        wait::wait_materialised(&handle, &point, |count: &mut u32| *count += 1).expect("wait"),
        wait::wait(&handle, &AcquireFence::Point(point.clone()), |count: &mut u32| *count += 10)
            .expect("wait"),
        wait::wait(&handle, &AcquireFence::SyncFile(fence.clone()), |count: &mut u32| *count += 100)
            .expect("wait"),
        wait::wait(&handle, &AcquireFence::SyncFile(fence.clone()), |count: &mut u32| *count += 1000)
            .expect("wait"),
    ];
    assert_eq!(timeline.eventfds(), 2);
    expect_callbacks(&mut event_loop, &mut count, 0);
    point.import_sync_file(&fence).expect("import");
    expect_callbacks(&mut event_loop, &mut count, 1);
    sw.step();
    expect_callbacks(&mut event_loop, &mut count, 1111);
    assert_eq!(timeline.eventfds(), 0);
    drop(tokens);
}

#[test]
fn a_cancelled_wait_counts_until_its_point_has_come() {
    let event_loop = EventLoop::<()>::try_new().expect("event loop");
    let mut sw = SwSync::new();
    let timeline = timeline();
    let wait = |value| {
        let point = timeline.point(value);
        wait::wait_materialised(&event_loop.handle(), &point, |()| ()).expect("a wait")
    };
    (1..=MAX_EVENTFDS as u64).for_each(|value| drop(wait(value)));
    assert!(!timeline.has_room());
    timeline.point(10).import_sync_file(&sw.fence()).expect("import");
    assert!(timeline.has_room(), "ten have materialised, and nobody waits for their signal");
    assert_eq!(timeline.eventfds(), MAX_EVENTFDS - 10);
}

#[test]
fn a_wait_ends_although_nobody_else_has_the_timeline_any_more() {
    let mut event_loop = EventLoop::try_new().expect("event loop");
    let mut sw = SwSync::new();
    let timeline = timeline();
    timeline.point(1).import_sync_file(&sw.fence()).expect("import");
    let fence = AcquireFence::Point(timeline.point(1));
    let _token = wait::wait(&event_loop.handle(), &fence, |count: &mut u32| *count += 1).expect("wait");
    drop((fence, timeline));
    sw.step();
    expect_callbacks(&mut event_loop, &mut 0, 1);
}

#[test]
fn two_waits_for_one_dma_buf_both_end() {
    let mut event_loop = EventLoop::try_new().expect("event loop");
    let mut sw = SwSync::new();
    let buffer = heap_buffer();
    dma_buf::import_sync_file(buffer.as_fd(), Access::Write, sw.fence().as_fd()).expect("import");
    let fence = AcquireFence::DmaBufPoll(std::sync::Arc::new(buffer));
    assert_eq!(fence.status(), Status::Pending);
    let mut count = 0;
    let _first = wait::wait(&event_loop.handle(), &fence, |count: &mut u32| *count += 1).expect("wait");
    let _second = wait::wait(&event_loop.handle(), &fence, |count: &mut u32| *count += 10).expect("wait");
    expect_callbacks(&mut event_loop, &mut count, 0);
    sw.step();
    expect_callbacks(&mut event_loop, &mut count, 11);
    assert_eq!(fence.status(), Status::Signalled);
}

fn explicit_release() -> (Point, Target) {
    let point = timeline().point(4);
    (point.clone(), Target::Point(point))
}

#[test]
fn a_release_by_fence_needs_no_one_to_signal_it() {
    let (mut sw, mut other) = (SwSync::new(), SwSync::new());
    let (point, target) = explicit_release();
    let outcome = release::resolve(target, vec![sw.fence(), other.fence()]);
    assert!(matches!(outcome, Outcome::ByFence(_)), "{outcome:?}");
    assert_eq!(point.status(), Status::Pending);
    sw.step();
    assert_eq!(point.status(), Status::Pending);
    other.step();
    assert_eq!(point.status(), Status::Signalled);
}

#[test]
fn a_release_without_pending_users_signals_at_once() {
    let mut sw = SwSync::new();
    let (point, target) = explicit_release();
    let fence = sw.fence();
    sw.step();
    // Nobody has asked the fence yet, so it goes to the kernel, which knows.
    assert!(matches!(release::resolve(target, vec![fence.clone()]), Outcome::ByFence(_)));
    assert_eq!(point.status(), Status::Signalled);
    assert_eq!(fence.status(), Status::Signalled);
    let (point, target) = explicit_release();
    assert!(matches!(release::resolve(target, vec![fence]), Outcome::Released));
    assert_eq!(point.status(), Status::Signalled);
}

#[test]
fn a_release_at_point_0_waits_and_then_signals() {
    let mut sw = SwSync::new();
    let timeline = timeline();
    timeline.point(9).signal().expect("signal");
    let outcome = release::resolve(Target::Point(timeline.point(0)), vec![sw.fence()]);
    let Outcome::Wait { target, fences } = outcome else { panic!("{outcome:?}") };
    sw.step();
    assert!(fences.iter().all(|fence| fence.status().is_done()));
    assert!(matches!(release::resolve(target, Vec::new()), Outcome::Released));
    assert_eq!(timeline.point(9).status(), Status::Signalled);
}

#[test]
fn an_implicit_release_leaves_a_reader_in_the_buffer_and_a_wait_to_us() {
    let mut sw = SwSync::new();
    let buffer = heap_buffer();
    let planes = Planes::new([buffer.as_fd()]).expect("planes");
    let outcome = release::resolve(Target::DmaBuf(planes), vec![sw.fence()]);
    let Outcome::Wait { target, fences } = outcome else { panic!("{outcome:?}") };
    let all =
        SyncFile::from_kernel(dma_buf::export_sync_file(buffer.as_fd(), Access::Write).expect("export"));
    assert_eq!(all.status(), Status::Pending);
    assert_eq!(fences[0].status(), Status::Pending);
    sw.step();
    assert_eq!(all.status(), Status::Signalled);
    assert!(matches!(release::resolve(target, Vec::new()), Outcome::Released));
}

/// Set in the process that runs a test which spends every file descriptor.
pub(crate) const ALONE: &str = "FENCEPOST_TEST_ALONE";

#[test]
fn without_file_descriptors_a_wait_is_slower_and_neither_early_nor_lost() {
    let name = "fences::without_file_descriptors_a_wait_is_slower_and_neither_early_nor_lost";
    if std::env::var_os(ALONE).is_none() {
        let this = std::env::current_exe().expect("this test");
        let status = Command::new(this).args(["--exact", name]).env(ALONE, "1").status().expect("start");
        assert!(status.success(), "{status}");
        return;
    }
    let mut event_loop = EventLoop::try_new().expect("event loop");
    let mut sw = SwSync::new();
    let (fence, other) = (sw.fence(), sw.fence());
    let point = timeline().point(1);
    let (release_point, target) = explicit_release();

    let mut hoard = Vec::new();
    while let Ok(fd) = File::open("/dev/null") {
        hoard.push(fd);
    }
    let mut count = 0;
    let handle = event_loop.handle();
    let acquire = AcquireFence::Point(point.clone());
    let _point = wait::wait(&handle, &acquire, |count: &mut u32| *count += 1).expect("wait");
    let acquire = AcquireFence::SyncFile(fence.clone());
    let _fence = wait::wait(&handle, &acquire, |count: &mut u32| *count += 10).expect("wait");
    // No fd for the merged fence either.
    let outcome = release::resolve(target, vec![fence, other]);
    let Outcome::Wait { target, fences } = outcome else { panic!("{outcome:?}") };
    assert_eq!(fences.len(), 2);
    expect_callbacks(&mut event_loop, &mut count, 0);
    point.signal().expect("signal");
    expect_callbacks(&mut event_loop, &mut count, 1);
    sw.step();
    expect_callbacks(&mut event_loop, &mut count, 11);
    assert_eq!(release_point.status(), Status::Unmaterialised);
    sw.step();
    assert!(matches!(release::resolve(target, Vec::new()), Outcome::Released));
    assert_eq!(release_point.status(), Status::Signalled);
    drop(hoard);
}
