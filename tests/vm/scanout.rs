//! `output::kms` on real devices: virtio-gpu for flips and fences, vkms for what was really scanned out.
//!
//! The tests open the card as root, without a session. Only one at a time may be a card's master.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use drm::Device as _;
use drm::control::Device as _;
use fencepost::fence::roles::RenderFence;
use fencepost::fence::{Fence, Status};
use fencepost::output::headless::{self, Vblank};
use fencepost::output::kms::device::Device;
use fencepost::output::kms::head::{Drawing, Head, LightError};
use fencepost::output::kms::modes::ModeRequest;
use fencepost::output::kms::session::{self, SessionError};
use fencepost::output::kms::swapchain::{BufferError, Slot};
use fencepost::output::layer::Frame;
use fencepost::output::{CommitError, Committed, Flipped};
use fencepost::sys::sw_sync;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smithay::backend::allocator::format::FormatSet;
use smithay::backend::allocator::{Format, Fourcc, Modifier};
use smithay::backend::session::Session as _;
use smithay::utils::{Physical, Rectangle};

use crate::harness::modprobe;

const VIRTIO: &str = "virtio_gpu";
const VKMS: &str = "vkms";

/// Longer than any flip takes in a slow guest.
const SOON: Duration = Duration::from_secs(30);
/// Less than a commit takes that waits for its in-fence: it never returns.
const BLOCKED: Duration = Duration::from_secs(10);
/// Long enough for a flip to have come, had it not been held up.
const A_WHILE: Duration = Duration::from_millis(300);

fn exclusive() -> MutexGuard<'static, ()> {
    static MASTER: Mutex<()> = Mutex::new(());
    MASTER.lock().unwrap_or_else(PoisonError::into_inner)
}

fn card(driver: &str) -> PathBuf {
    if driver == VKMS {
        modprobe("vkms");
    }
    for index in 0..8 {
        let path = PathBuf::from(format!("/dev/dri/card{index}"));
        match session::open_directly(&path) {
            Ok(device) if device.driver() == driver => return path,
            _ => {}
        }
    }
    panic!("there is no card with the driver {driver}");
}

fn open(driver: &str) -> Rc<Device> {
    session::open_directly(&card(driver)).expect("the card opens")
}

fn light(device: &Rc<Device>, drawing: Drawing<'_>) -> Head {
    let pipe = device.pipes().expect("the displays").into_iter().next().expect("a display");
    let mode = "640x480".parse().expect("a mode");
    Head::new(device, pipe, mode, drawing).expect("a head")
}

/// A readable fd within `limit`.
fn readable(fd: impl AsFd, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).expect("poll") == 1
}

fn next_flip(device: &Device, head: &mut Head, limit: Duration) -> Option<Flipped> {
    let end = Instant::now() + limit;
    loop {
        for flip in device.flips().expect("the device's events") {
            if let Some(flipped) = head.flipped(&flip) {
                return Some(flipped);
            }
        }
        let left = end.checked_duration_since(Instant::now())?;
        readable(device.fd(), left);
    }
}

fn paint(slot: &mut Slot, pixel: u32) {
    let (width, height) = (640, 480);
    let mut pixels = slot.pixels().expect("a slot for the CPU");
    for y in 0..height {
        pixels.fill_row(y, width, pixel).expect("a row");
    }
}

fn show(head: &mut Head, pixel: u32, fence: Option<&RenderFence>) -> Result<Committed, CommitError> {
    let mut slot = head.next_slot().expect("a slot");
    paint(&mut slot, pixel);
    commit(head, slot, fence, Vec::new())
}

fn commit(
    head: &mut Head,
    slot: Slot,
    fence: Option<&RenderFence>,
    damage: Vec<Rectangle<i32, Physical>>,
) -> Result<Committed, CommitError> {
    let committed = head.commit(Frame::drawn(fencepost::output::Slot::Kms(slot), fence.cloned(), damage))?;
    Ok(committed.expect("a new picture"))
}

/// A commit and its flip.
fn show_now(device: &Device, head: &mut Head, pixel: u32) -> (Committed, Flipped) {
    let committed = show(head, pixel, None).expect("a commit");
    let flipped = next_flip(device, head, SOON).expect("a flip");
    assert_eq!(flipped.number, committed.number);
    (committed, flipped)
}

struct Timeline(OwnedFd, u32);

impl Timeline {
    fn new() -> Self {
        modprobe("sw_sync");
        Self(sw_sync::open_timeline().expect("a sw_sync timeline"), 0)
    }

    fn fence(&mut self) -> RenderFence {
        self.1 += 1;
        let fd = sw_sync::create_fence(self.0.as_fd(), self.1).expect("a sw_sync fence");
        RenderFence::from_egl(fd)
    }

    fn signal(&self) {
        sw_sync::increment(self.0.as_fd(), 1).expect("a step");
    }
}

fn sixty_frames(device: &Device, head: &mut Head, mut draw: impl FnMut(&mut Slot, u32)) {
    let mut last = None;
    let start = Instant::now();
    for frame in 0..60_u32 {
        let mut slot = head.next_slot().expect("a slot");
        draw(&mut slot, frame);
        let age = slot.age();
        assert!(frame < 2 && age == 0 || frame >= 2 && age == 2, "frame {frame} has a buffer of age {age}");
        let damage = [Rectangle::<i32, Physical>::from_size((640, 480).into())];
        let committed = commit(head, slot, None, damage.to_vec()).expect("a commit");
        let flipped = next_flip(device, head, SOON).expect("a flip");
        assert_eq!((committed.number, flipped.number), (u64::from(frame) + 1, u64::from(frame) + 1));
        assert!(last < Some((flipped.at, flipped.number)), "flips run backwards: {last:?}, {flipped:?}");
        last = Some((flipped.at, flipped.number));
    }
    let each = start.elapsed() / 60;
    println!("{}: 60 flips, one every {each:?}, of {:?}", device.driver(), head.timing().refresh());
}

#[test]
fn sixty_frames_reach_the_screen_of_virtio_gpu_by_the_cpu() {
    let _exclusive = exclusive();
    let device = open(VIRTIO);
    let mut head = light(&device, Drawing::Copy);
    sixty_frames(&device, &mut head, |slot, frame| paint(slot, 0x0001_0101 * frame));
}

#[test]
fn sixty_frames_of_gbm_buffers_reach_the_screen_of_virtio_gpu() {
    let _exclusive = exclusive();
    let device = open(VIRTIO);
    let formats = FormatSet::from_iter([Format { code: Fourcc::Xrgb8888, modifier: Modifier::Invalid }]);
    let mut head = light(&device, Drawing::Render(&formats));
    sixty_frames(&device, &mut head, |slot, _| assert!(slot.pixels().is_err(), "the renderer draws here"));
}

#[test]
fn sixty_frames_reach_the_screen_of_vkms() {
    let _exclusive = exclusive();
    let device = open(VKMS);
    let mut head = light(&device, Drawing::Copy);
    sixty_frames(&device, &mut head, |slot, frame| paint(slot, 0x0001_0101 * frame));
}

/// The fencepost itself: the fence of commit N + 1 is the flip that takes commit N off the screen.
fn out_fences_signal_with_the_flip(driver: &str) {
    let _exclusive = exclusive();
    let device = open(driver);
    let mut head = light(&device, Drawing::Copy);
    let mut timeline = Timeline::new();
    for pixel in 0..10 {
        let fence = timeline.fence();
        let committed = show(&mut head, pixel, Some(&fence)).expect("a commit");
        let out = committed.out_fence.expect("an out-fence");
        assert_eq!(out.status(), Status::Pending, "nothing can have flipped: the in-fence has not signalled");
        timeline.signal();
        let flipped = next_flip(&device, &mut head, SOON).expect("a flip");
        assert_eq!(out.status(), Status::Signalled, "the flip came before its fence");
        let at = out.as_consumer().signalled_at_ns().expect("the fence's time").expect("signalled");
        let apart = flipped.at.abs_diff(Duration::from_nanos(at));
        assert!(apart < Duration::from_micros(1), "flip and fence differ by {apart:?}");
    }
    assert_eq!(device.quirks(), Default::default());
}

#[test]
fn the_out_fence_of_a_commit_signals_with_its_flip_on_virtio_gpu() {
    out_fences_signal_with_the_flip(VIRTIO);
}

#[test]
fn the_out_fence_of_a_commit_signals_with_its_flip_on_vkms() {
    out_fences_signal_with_the_flip(VKMS);
}

fn an_in_fence_holds_up_the_flip(driver: &str) {
    let _exclusive = exclusive();
    let device = open(driver);
    let mut head = light(&device, Drawing::Copy);
    let mut timeline = Timeline::new();
    // The first round is the modeset, the second a flip.
    for round in ["modeset", "flip"] {
        let fence = timeline.fence();
        let start = Instant::now();
        show(&mut head, 0x00ff_0000, Some(&fence)).expect("a commit");
        let took = start.elapsed();
        assert!(took < BLOCKED, "the {round} blocked for {took:?} on its in-fence");
        assert_eq!(next_flip(&device, &mut head, A_WHILE), None, "the {round} did not wait for its fence");
        timeline.signal();
        assert!(next_flip(&device, &mut head, SOON).is_some(), "the {round} never came");
    }
}

#[test]
fn an_unsignalled_in_fence_holds_up_the_flip_and_not_the_caller_on_virtio_gpu() {
    an_in_fence_holds_up_the_flip(VIRTIO);
}

#[test]
fn an_unsignalled_in_fence_holds_up_the_flip_and_not_the_caller_on_vkms() {
    an_in_fence_holds_up_the_flip(VKMS);
}

fn a_second_commit_is_busy(driver: &str) {
    let _exclusive = exclusive();
    let device = open(driver);
    let mut head = light(&device, Drawing::Copy);
    let mut timeline = Timeline::new();
    show_now(&device, &mut head, 0);
    let fence = timeline.fence();
    show(&mut head, 1, Some(&fence)).expect("a commit");
    assert!(
        matches!(show(&mut head, 2, None), Err(CommitError::Busy)),
        "the head knows it has one in flight"
    );
    head.abandon();
    let refused = show(&mut head, 3, None);
    assert!(matches!(refused, Err(CommitError::Busy)), "the kernel knows it too: {refused:?}");
    let slots = [head.next_slot().expect("a slot")];
    let more = head.next_slot();
    assert!(matches!(more, Err(BufferError::NoneFree)), "an abandoned buffer was given out: {more:?}");
    drop(slots);

    timeline.signal();
    assert!(readable(device.fd(), SOON), "the abandoned flip comes after all");
    assert_eq!(next_flip(&device, &mut head, A_WHILE), None, "and is nobody's");
    let (committed, _) = show_now(&device, &mut head, 4);
    assert_eq!(committed.number, 3);
    let _all: Vec<_> = (0..2).map(|_| head.next_slot().expect("the abandoned buffer is back")).collect();
}

#[test]
fn a_second_commit_is_busy_until_the_first_has_flipped_on_virtio_gpu() {
    a_second_commit_is_busy(VIRTIO);
}

#[test]
fn a_second_commit_is_busy_until_the_first_has_flipped_on_vkms() {
    a_second_commit_is_busy(VKMS);
}

fn another_master_comes_and_goes(driver: &str) {
    let _exclusive = exclusive();
    let path = card(driver);
    let device = session::open_directly(&path).expect("the card");
    let mut head = light(&device, Drawing::Copy);
    show_now(&device, &mut head, 0x0000_ff00);

    let mut timeline = Timeline::new();
    let fence = timeline.fence();
    show(&mut head, 0x0000_00ff, Some(&fence)).expect("a commit");
    device.fd().release_master_lock().expect("as on a VT switch");
    head.pause();
    timeline.signal();
    assert!(next_flip(&device, &mut head, SOON).is_some(), "what was in flight still flips");
    assert!(matches!(show(&mut head, 1, None), Err(CommitError::NotMaster)));

    let other = session::open_directly(&path).expect("somebody else's turn");
    let pipe = other.pipes().expect("the displays").remove(0);
    let mut others = Head::new(&other, pipe, ModeRequest::Preferred, Drawing::Copy).expect("another head");
    let slot = others.next_slot().expect("a slot");
    commit(&mut others, slot, None, Vec::new()).expect("another mode, another buffer");
    next_flip(&other, &mut others, SOON).expect("a flip");
    other.fd().release_master_lock().expect("and back");

    device.fd().acquire_master_lock().expect("our turn again");
    head.resume();
    show_now(&device, &mut head, 0x00ff_ff00);
    show_now(&device, &mut head, 0x00ff_ffff);
    let lit = device.fd().get_crtc(head.crtc()).expect("the CRTC").mode().expect("a mode");
    assert_eq!(lit.size(), (640, 480), "the mode is ours again");
    drop(others);
}

#[test]
fn an_output_survives_another_master_on_virtio_gpu() {
    another_master_comes_and_goes(VIRTIO);
}

#[test]
fn an_output_survives_another_master_on_vkms() {
    another_master_comes_and_goes(VKMS);
}

#[test]
fn a_second_display_server_is_told_that_there_is_a_first() {
    let _exclusive = exclusive();
    let path = card(VIRTIO);
    let _first = session::open_directly(&path).expect("the card");
    let error = session::open_directly(&path).expect_err("a second master");
    let text = error.to_string();
    assert!(text.contains("another display server runs on it"), "{text}");
    assert!(matches!(error, SessionError::NoneUsable(_)), "{error:?}");
}

#[test]
fn a_render_node_is_refused_with_a_sentence() {
    let _exclusive = exclusive();
    let error = session::open_directly(Path::new("/dev/dri/renderD128")).expect_err("no KMS there");
    let text = error.to_string();
    assert!(text.contains("/dev/dri/renderD128: Could not use atomic modesetting"), "{text}");
}

/// seatd hands the card out and takes it back, as on a machine where nobody is root.
#[test]
fn a_session_through_libseat_lights_the_display() {
    let _exclusive = exclusive();
    let path = card(VIRTIO);
    // The sessions of other tests use the same seatd.
    let wrapper = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/guest-session");
    assert!(Command::new(wrapper).arg("true").status().expect("start seatd").success());
    let (mut session, notifier) = session::open_seat().expect("a seat");
    let candidates = session::candidates(Some(path), &session.seat()).expect("the card");
    let device = session::open_device(&mut session, &candidates).expect("the card, through the seat");
    let mut head = light(&device, Drawing::Copy);
    show_now(&device, &mut head, 0x0012_3456);
    show_now(&device, &mut head, 0x0065_4321);
    drop((head, device, session, notifier));
}

#[test]
fn udev_finds_the_card_without_a_name() {
    let found = smithay::backend::udev::primary_gpu("seat0").expect("udev");
    assert!(found.is_some_and(|path| path.starts_with("/dev/dri")));
}

#[test]
fn a_headless_output_flips_at_the_first_vblank_after_the_fence() {
    let refresh = Duration::from_millis(10);
    // The kernel dates the fence by its clock: these vblanks are all later.
    let origin = fencepost::trace::now() + Duration::from_secs(1000);
    let mut head = headless::Head::new("HEADLESS-1", (640, 480).into(), 100_000, origin);
    let mut timeline = Timeline::new();
    head.commit(Some(timeline.fence()), origin).expect("a commit");
    assert_eq!(head.vblank(origin + refresh), Vblank::Late(origin + 2 * refresh));
    timeline.signal();
    assert!(matches!(head.vblank(origin + 2 * refresh), Vblank::Flipped(Flipped { number: 1, .. })));
}

#[test]
fn a_headless_output_that_is_asked_late_does_not_flip_at_a_vblank_before_the_fence() {
    let refresh = Duration::from_millis(10);
    // These are all earlier than the signal.
    let origin = Duration::from_secs(1);
    let mut head = headless::Head::new("HEADLESS-1", (640, 480).into(), 100_000, origin);
    let mut timeline = Timeline::new();
    head.commit(Some(timeline.fence()), origin).expect("a commit");
    timeline.signal();
    assert_eq!(head.vblank(origin + refresh), Vblank::Late(origin + 2 * refresh));
}

#[test]
fn a_disabled_output_is_dark_and_can_be_lit_again() {
    let _exclusive = exclusive();
    let device = open(VIRTIO);
    let mut head = light(&device, Drawing::Copy);
    let mode = |head: &Head| device.fd().get_crtc(head.crtc()).expect("the CRTC").mode();
    show_now(&device, &mut head, 1);
    show(&mut head, 2, None).expect("a commit that is in flight meanwhile");
    head.disable().expect("off");
    assert_eq!(mode(&head), None);
    assert!(matches!(show(&mut head, 3, None), Err(CommitError::Off)));
    assert_eq!(next_flip(&device, &mut head, A_WHILE), None, "what was in flight is forgotten");
    head.resume();
    show_now(&device, &mut head, 4);
    assert!(mode(&head).is_some());
    let crtc = head.crtc();
    drop(head);
    assert_eq!(
        device.fd().get_crtc(crtc).expect("the CRTC").mode(),
        None,
        "a dropped head leaves nothing lit"
    );
}

#[test]
fn a_mode_that_does_not_exist_is_refused_with_a_list() {
    let _exclusive = exclusive();
    let device = open(VIRTIO);
    let pipe = device.pipes().expect("the displays").remove(0);
    let error = Head::new(&device, pipe, "641x479".parse().expect("a mode"), Drawing::Copy)
        .expect_err("no such mode");
    assert!(matches!(error, LightError::Mode(_)));
    assert!(error.to_string().contains("640x480@"), "{error}");
}

#[test]
fn nothing_is_left_behind_by_many_frames() {
    let _exclusive = exclusive();
    let device = open(VIRTIO);
    let mut head = light(&device, Drawing::Copy);
    let fds = || std::fs::read_dir("/proc/self/fd").expect("/proc").count();
    let framebuffers = || device.fd().resource_handles().expect("resources").framebuffers().len();
    for _ in 0..3 {
        show_now(&device, &mut head, 0);
    }
    let before = (fds(), framebuffers());
    for frame in 0..30 {
        show_now(&device, &mut head, frame);
    }
    assert_eq!((fds(), framebuffers()), before);
    drop(head);
    assert_eq!(framebuffers(), 0);
}

/// The pictures that were written back so far: the commit's number, and its colour if it is one colour all over.
fn captures(head: &mut Head) -> Vec<(u64, Option<u32>)> {
    let mut found = Vec::new();
    while let Some(capture) = head.writeback().expect("writeback").take() {
        let mut bytes = Vec::new();
        capture.read(&mut bytes).expect("its pixels");
        assert_eq!(bytes.len(), 640 * 480 * 4);
        let colour = |pixel: &[u8]| u32::from_le_bytes(pixel.try_into().expect("4 bytes")) & 0x00ff_ffff;
        let first = colour(&bytes[..4]);
        let same = bytes.chunks_exact(4).all(|pixel| colour(pixel) == first);
        found.push((capture.number(), same.then_some(first)));
    }
    found
}

fn finish_capture(head: &mut Head) {
    assert!(head.writeback().expect("writeback").wait(), "a picture never came");
}

#[test]
fn every_commit_on_vkms_is_written_back_as_it_was_drawn() {
    let _exclusive = exclusive();
    let device = open(VKMS);
    let mut head = light(&device, Drawing::Copy);
    head.enable_writeback().expect("writeback");
    let mut seen = Vec::new();
    let start = Instant::now();
    for frame in 1..=60 {
        show_now(&device, &mut head, 0x0003_0201 * frame);
        seen.extend(captures(&mut head));
    }
    println!("vkms with writeback: one flip every {:?}", start.elapsed() / 60);
    finish_capture(&mut head);
    seen.extend(captures(&mut head));
    let expected: Vec<_> = (1..=60_u32).map(|frame| (u64::from(frame), Some(0x0003_0201 * frame))).collect();
    assert_eq!(seen, expected);
    assert_eq!(head.writeback().expect("writeback").lost(), 0);
}

#[test]
fn writeback_on_vkms_sees_pixels_that_come_before_the_fence_and_none_after() {
    let _exclusive = exclusive();
    let device = open(VKMS);
    let mut head = light(&device, Drawing::Copy);
    head.enable_writeback().expect("writeback");
    show_now(&device, &mut head, 0x00aa_aaaa);
    let mut timeline = Timeline::new();
    let fence = timeline.fence();
    let mut slot = head.next_slot().expect("a slot");
    paint(&mut slot, 0x00ff_0000);
    let drawn_late = slot.dmabuf().clone();
    commit(&mut head, slot, Some(&fence), Vec::new()).expect("a commit");
    std::thread::sleep(A_WHILE);
    assert_eq!(captures(&mut head), [(1, Some(0x00aa_aaaa))], "only the first: the second waits");
    // What a GPU would do: finish the picture, then signal.
    repaint(&drawn_late, 0x0000_ff00);
    timeline.signal();
    next_flip(&device, &mut head, SOON).expect("a flip");
    finish_capture(&mut head);
    assert_eq!(captures(&mut head), [(2, Some(0x0000_ff00))]);
}

fn repaint(dmabuf: &smithay::backend::allocator::dmabuf::Dmabuf, pixel: u32) {
    use fencepost::sys::dma_buf::Access;
    use fencepost::sys::mapping::Mapping;
    let fd = dmabuf.handles().next().expect("a plane");
    let mut mapping = Mapping::new(fd, 640 * 480 * 4, Access::Write).expect("a mapping");
    mapping.fill(0, 640 * 480, pixel).expect("pixels");
}

#[test]
fn an_oracle_that_is_not_read_counts_what_it_misses() {
    let _exclusive = exclusive();
    let device = open(VKMS);
    let mut head = light(&device, Drawing::Copy);
    head.enable_writeback().expect("writeback");
    for frame in 0..6 {
        show_now(&device, &mut head, frame);
    }
    finish_capture(&mut head);
    assert_eq!(captures(&mut head).len(), 4);
    assert_eq!(head.writeback().expect("writeback").lost(), 2);
}

#[test]
fn virtio_gpu_has_no_writeback_and_says_so() {
    let _exclusive = exclusive();
    let device = open(VIRTIO);
    let mut head = light(&device, Drawing::Copy);
    let error = head.enable_writeback().expect_err("no such connector").to_string();
    assert!(error.contains("driver virtio_gpu"), "{error}");
    show_now(&device, &mut head, 0);
}
