//! A lost GPU context, with dma-bufs and points: no buffer is given back early or forgotten.

use fencepost::fence::Status;

use crate::fences::SwSync;
use crate::setup::{Clock, Desk, Fate, desk, releases};
use crate::sync_app::SyncApp;

fn lose(desk: &Desk, failures: u32) {
    desk.server_mut().state().lose_gpu(failures);
}

#[test]
fn a_dma_buf_that_is_shown_stays_leased_over_a_loss_and_is_shown_again() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, acquire, release) = (app.sync_window(), app.timeline(), app.timeline());
    acquire.signal(10);
    let shown = app.show(&window, &app.gpu_buffer(), (&acquire, 1), (&release, 1));
    app.app.until_shown(&shown);
    clock.tick();
    app.app.client.expect_no_error();
    window.window.ack();
    for failures in [0, 0, 2] {
        lose(&desk, failures);
        clock.tick();
        app.app.client.expect_no_error();
        assert_eq!(release.status(1), Status::Unmaterialised, "it is still on the screen");
        assert_eq!(window.window.ack(), 0, "nothing of it is lost");
    }
    let next = app.show(&window, &app.gpu_buffer(), (&acquire, 2), (&release, 2));
    app.app.until_shown(&next);
    app.until_signalled(&release.point(1));
}

#[test]
fn commits_that_wait_for_fences_outlive_a_loss_and_every_release_comes() {
    let desk = desk();
    let mut sw = SwSync::new();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, acquire, release) = (app.sync_window(), app.timeline(), app.timeline());
    let buffers = [app.gpu_buffer(), app.heap_buffer()];
    for value in 1..=20 {
        let fence = sw.fence();
        acquire.point(value).import_sync_file(&fence).expect("import");
        let commit = app.show(&window, &buffers[value as usize % 2], (&acquire, value), (&release, value));
        app.app.client.expect_no_error();
        lose(&desk, u32::from(value % 7 == 0));
        clock.tick();
        assert_eq!(app.app.fate(&commit), Fate::Waiting);
        sw.step();
        if value % 3 == 0 {
            lose(&desk, 0);
        }
        app.app.until_shown(&commit);
    }
    window.window.surface.attach(None, 0, 0);
    window.window.surface.commit();
    app.until_signalled(&release.point(20));
    for value in 1..20 {
        assert_eq!(release.status(value), Status::Signalled, "{value}");
    }
}

#[test]
fn a_buffer_made_while_there_is_no_context_is_shown_when_there_is_one() {
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let window = app.app.window();
    clock.tick();
    lose(&desk, 4);
    // The loss is noticed by the next frame.
    app.app.client.expect_no_error();
    std::thread::sleep(std::time::Duration::from_millis(20));
    app.app.client.expect_no_error();
    let (gpu, heap) = (app.gpu_buffer(), app.heap_buffer());
    for buffer in [&gpu, &heap] {
        let shown = app.app.show(&window.surface, buffer);
        app.app.until_shown(&shown);
    }
    clock.tick();
    app.app.client.expect_no_error();
    assert_eq!((releases(&gpu), releases(&heap)), (1, 1));
}

#[test]
fn losses_leave_nothing_behind() {
    let desk = desk();
    let mut app = SyncApp::new(&desk);
    let mut clock = Clock::new(&desk);
    let window = app.app.window();
    let buffer = app.gpu_buffer();
    let fds = || std::fs::read_dir("/proc/self/fd").expect("fds").count();
    let mut seen = Vec::new();
    for _ in 0..12 {
        let shown = app.app.show(&window.surface, &buffer);
        app.app.until_shown(&shown);
        lose(&desk, 0);
        clock.tick();
        seen.push(fds());
    }
    assert!(seen[11].abs_diff(seen[2]) <= 2, "{seen:?}");
}
