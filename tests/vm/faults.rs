//! Without file descriptors, in the whole compositor: slower, and neither early nor lost (I7).

use std::fs::File;
use std::process::Command;

use fencepost::fence::Status;

use crate::fences::ALONE;
use crate::setup::{Clock, Fate, desk};
use crate::sync_app::SyncApp;

#[test]
fn a_compositor_that_is_out_of_file_descriptors_shows_and_releases_what_is_ready() {
    let name = "faults::a_compositor_that_is_out_of_file_descriptors_shows_and_releases_what_is_ready";
    if std::env::var_os(ALONE).is_none() {
        let this = std::env::current_exe().expect("this test");
        let status = Command::new(this).args(["--exact", name]).env(ALONE, "1").status().expect("start");
        assert!(status.success(), "{status}");
        return;
    }
    let desk = desk();
    let (mut app, mut clock) = (SyncApp::new(&desk), Clock::new(&desk));
    let (window, acquire, release) = (app.sync_window(), app.timeline(), app.timeline());
    let (one, two) = (app.gpu_buffer(), app.gpu_buffer());
    acquire.signal(1);
    let shown = app.show(&window, &one, (&acquire, 1), (&release, 1));
    app.app.until_shown(&shown);

    let mut hoard = Vec::new();
    while let Ok(fd) = File::open("/dev/null") {
        hoard.push(fd);
    }
    let commit = app.show(&window, &two, (&acquire, 2), (&release, 2));
    app.app.client.expect_no_error();
    clock.tick();
    assert_eq!(app.app.fate(&commit), Fate::Waiting);
    assert_eq!(release.status(1), Status::Unmaterialised);
    acquire.signal(2);
    app.app.until_shown(&commit);
    app.until_signalled(&release.point(1));
    assert_eq!(release.status(2), Status::Unmaterialised);

    window.window.surface.attach(None, 0, 0);
    window.window.surface.commit();
    app.until_signalled(&release.point(2));
    drop(hoard);
    clock.tick();
}
