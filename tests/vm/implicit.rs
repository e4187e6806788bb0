//! Implicit sync through the whole compositor: the fences in dma-bufs, and what comes of them for clients.

use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use fencepost::fence::sync_file::SyncFile;
use fencepost::fence::{Fence, Status};
use fencepost::sys::dma_buf::{self, Access};
use smithay::backend::allocator::dmabuf::Dmabuf;

use crate::fences::{SwSync, heap_buffer};
use crate::setup::{Clock, Fate, desk, releases};
use crate::sync_app::{SyncApp, gpu_dma_buf};

/// A dma-buf that somebody writes to until the next step.
fn being_written(sw: &mut SwSync) -> OwnedFd {
    let buffer = heap_buffer();
    dma_buf::import_sync_file(buffer.as_fd(), Access::Write, sw.fence().as_fd()).expect("import");
    buffer
}

fn write_until(dma_buf: &Dmabuf, fence: SyncFile) {
    let plane = dma_buf.handles().next().expect("a plane");
    dma_buf::import_sync_file(plane, Access::Write, fence.as_fd()).expect("import");
}

#[test]
fn a_dma_buf_is_shown_when_its_writers_are_done() {
    let desk = desk();
    let mut sw = SwSync::new();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let window = app.app.window();
    let commit = app.app.show(&window.surface, &app.buffer_of(&being_written(&mut sw)));
    app.app.client.expect_no_error();
    clock.tick();
    assert_eq!(app.app.fate(&commit), Fate::Waiting);
    sw.step();
    app.app.until_shown(&commit);
}

#[test]
fn later_writers_of_a_dma_buf_do_not_delay_an_earlier_commit() {
    let desk = desk();
    let (mut sw, mut later) = (SwSync::new(), SwSync::new());
    let mut app = SyncApp::new(&desk);
    let window = app.app.window();
    let dma_buf = gpu_dma_buf();
    write_until(&dma_buf, sw.fence());
    let commit = app.app.show(&window.surface, &app.gpu_buffer_of(&dma_buf));
    app.app.client.expect_no_error();
    write_until(&dma_buf, later.fence());
    sw.step();
    app.app.until_shown(&commit);
}

#[test]
fn readers_of_a_dma_buf_do_not_delay_a_commit() {
    let desk = desk();
    let mut sw = SwSync::new();
    let mut app = SyncApp::new(&desk);
    let window = app.app.window();
    let dma_buf = heap_buffer();
    dma_buf::import_sync_file(dma_buf.as_fd(), Access::Read, sw.fence().as_fd()).expect("import");
    let commit = app.app.show(&window.surface, &app.buffer_of(&dma_buf));
    app.app.until_shown(&commit);
}

#[test]
fn with_points_the_writers_of_a_dma_buf_are_nobodys_business() {
    let desk = desk();
    let mut sw = SwSync::new();
    let mut app = SyncApp::new(&desk);
    let (window, timeline) = (app.sync_window(), app.timeline());
    timeline.signal(1);
    let dma_buf = gpu_dma_buf();
    write_until(&dma_buf, sw.fence());
    let commit = app.show(&window, &app.gpu_buffer_of(&dma_buf), (&timeline, 1), (&timeline, 2));
    app.app.until_shown(&commit);
}

#[test]
fn a_buffer_that_was_replaced_while_it_waited_is_released_once() {
    let desk = desk();
    let mut sw = SwSync::new();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let window = app.app.window();
    let (one, two) = (app.buffer_of(&being_written(&mut sw)), app.heap_buffer());
    let never = app.app.show(&window.surface, &one);
    let shown = app.app.show(&window.surface, &two);
    app.app.client.expect_no_error();
    assert_eq!((releases(&one), releases(&two)), (0, 0));
    sw.step();
    app.app.until_shown(&shown);
    clock.tick();
    assert_eq!(app.app.fate(&never), Fate::Superseded);
    assert_eq!((releases(&one), releases(&two)), (1, 1));
}

#[test]
fn a_late_client_does_not_delay_another() {
    let desk = desk();
    let mut sw = SwSync::new();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (implicit, explicit, timeline) = (app.app.window(), app.sync_window(), app.timeline());
    let (window, shm) = (app.app.window(), app.app.shm_buffer());
    let one = app.app.show(&implicit.surface, &app.buffer_of(&being_written(&mut sw)));
    let two = app.show(&explicit, &app.heap_buffer(), (&timeline, 1), (&timeline, 2));
    app.app.client.expect_no_error();
    for _ in 0..10 {
        clock.tick();
        let same_client = app.app.show(&window.surface, &shm);
        app.app.until_shown(&same_client);
    }
    assert_eq!((app.app.fate(&one), app.app.fate(&two)), (Fate::Waiting, Fate::Waiting));
    sw.step();
    timeline.signal(1);
    app.app.until_shown(&one);
    app.app.until_shown(&two);
}

#[test]
fn a_later_writer_of_a_buffer_that_the_cpu_copies_stops_nobody() {
    let desk = desk();
    let (mut sw, mut later) = (SwSync::new(), SwSync::new());
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let window = app.app.window();
    let dma_buf = being_written(&mut sw);
    let commit = app.app.show(&window.surface, &app.buffer_of(&dma_buf));
    app.app.client.expect_no_error();
    let fence = later.fence();
    dma_buf::import_sync_file(dma_buf.as_fd(), Access::Write, fence.as_fd()).expect("import");
    sw.step();
    // A compositor that waits for it would wait here; without this it would wait for ever.
    let rescue = thread::spawn(move || {
        thread::sleep(Duration::from_secs(3));
        later.step();
    });
    app.app.client.until(|| commit.fate() == Fate::Shown);
    clock.tick();
    assert_eq!(fence.status(), Status::Pending);
    rescue.join().unwrap();
}
