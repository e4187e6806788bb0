//! Clients' buffers and the pointer on planes of their own, on virtio-gpu: what that saves, and who gives the buffers back.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use fencepost::fence::sync_file::SyncFile;
use fencepost::fence::{Fence, Status};
use rustix::process::Signal;

use crate::chain::{Chain, Given, Shower, Way};
use crate::fixture::events;
use crate::harness::{Session, host, wait_until};
use crate::invariants::SOON;
use crate::late::{AGAIN, Gpu};
use crate::sync_app::gpu_dma_buf_of;

/// The whole screen of a [`Chain`].
const SCREEN: (i32, i32) = (640, 480);

const FRAMES: u64 = 100;

fn fullscreen_client(sync: &str) {
    let session = Session::start(&["--mode=640x480"]);
    let (sync, frames) = (format!("--sync={sync}"), format!("--frames={FRAMES}"));
    let report = session.client(&[&sync, "--source=gpu", "--size=640x480", &frames]).wait();
    report.expect_clean();
    let record = session.end();
    let work = ["commits", "passes", "imports", "scanned_out"].map(|name| record.of_output(name));
    let [_, passes, imports, scanned_out] = work;
    assert!(report.number("zero_copy") + 5 >= FRAMES, "{report:?}, {work:?}");
    assert!(scanned_out + 5 >= FRAMES, "{work:?}");
    // The empty screen before it and after it, and the pointer's image.
    assert!(passes <= 4, "{work:?}");
    assert!(imports <= 1, "{work:?}");
}

#[test]
fn an_explicit_client_that_fills_the_screen_costs_no_drawing() {
    fullscreen_client("explicit");
}

#[test]
fn an_implicit_client_that_fills_the_screen_costs_no_drawing() {
    fullscreen_client("implicit");
}

#[test]
fn moving_the_pointer_costs_no_drawing() {
    let session = Session::start(&["--mode=640x480"]);
    sleep(Duration::from_secs(1));
    for step in 0..60 {
        host(&format!("mouse-move {} {}", 100 + 5 * step, 200 + step));
    }
    let record = session.end();
    let work = ["commits", "passes"].map(|name| record.of_output(name));
    let [commits, passes] = work;
    assert!(commits >= 20, "{work:?}");
    assert!(passes <= 2, "{work:?}");
}

/// Commits a buffer that fills the screen.
fn show(shower: &Shower, fence: Option<&SyncFile>) -> Given {
    let buffer = shower.app.gpu_buffer_of(&gpu_dma_buf_of(SCREEN));
    shower.show_buffer(&shower.window.surface, shower.sync.as_ref(), buffer, fence)
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the compositor");
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

/// Work that lasts until long after a commit that waits for it was made, or so many times that.
fn work(gpu: &mut Gpu, times: u32) -> SyncFile {
    gpu.work_of(4 * times)
}

/// The point signals although the compositor is stopped, once it has left a fence there. Says whether that was to be seen: not if
/// the work was over too soon.
fn signals_while_the_compositor_stands_still(chain: &Chain, shower: &mut Shower, given: &Given) -> bool {
    let point = given.point.clone().expect("explicit sync");
    assert!(shower.comes(SOON, || point.status() != Status::Unmaterialised), "never released");
    let status = point.status();
    chain.session.signal(Signal::STOP);
    wait_until("the compositor stands still", || is_stopped(chain.session.pid()));
    wait_until("the release point signals", || point.status() == Status::Signalled);
    assert!(is_stopped(chain.session.pid()));
    chain.session.signal(Signal::CONT);
    status == Status::Pending
}

/// Looks again, with more work, until something was to be seen.
fn see(look: impl FnMut(u32) -> bool) {
    assert!(AGAIN.into_iter().any(look), "the work was over too soon to tell");
}

#[test]
fn a_buffer_on_the_primary_plane_is_released_by_the_flip_while_the_compositor_stands_still() {
    let chain = Chain::start(&["--acquire=hand-over"]);
    let (mut gpu, mut shower) = (Gpu::new(), Shower::new(&chain, Way::Explicit));
    see(|times| {
        let first = show(&shower, None);
        shower.app.app.until_shown(&first.commit);
        let second = show(&shower, Some(&work(&mut gpu, times)));
        let seen = signals_while_the_compositor_stands_still(&chain, &mut shower, &first);
        shower.app.app.until_shown(&second.commit);
        seen
    });
    drop(shower);
    assert!(chain.end().of_output("scanned_out") >= 2);
}

#[test]
fn a_buffer_that_was_composed_is_released_by_the_drawing_while_the_compositor_stands_still() {
    let chain = Chain::start(&["--no-planes"]);
    let (mut gpu, mut shower) = (Gpu::new(), Shower::new(&chain, Way::Explicit));
    let first = show(&shower, None);
    shower.app.app.until_shown(&first.commit);
    see(|times| {
        let _work = work(&mut gpu, times);
        let drawn = shower.app.app.frame(&shower.window.surface);
        let read = show(&shower, None);
        assert!(shower.comes(SOON, || !events(&drawn).is_empty()), "not drawn");
        let next = show(&shower, None);
        let seen = signals_while_the_compositor_stands_still(&chain, &mut shower, &read);
        shower.app.app.until_shown(&next.commit);
        seen
    });
    drop(shower);
    chain.end();
}
