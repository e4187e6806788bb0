//! The compositor as a session on KMS, with clients as processes: what people do with it.

use std::{fs, os::unix::fs::PermissionsExt, thread::sleep, time::Duration};

use crate::harness::{Client, Session, host, wait_for_commits, wait_until};
use crate::trace::new_file;

#[test]
fn explicit_and_implicit_gpu_clients_have_nothing_to_complain_about() {
    let session = Session::start(&[]);
    let [explicit, implicit] = ["--sync=explicit", "--sync=implicit"]
        .map(|sync| session.client(&[sync, "--source=gpu", "--size=320x240", "--frames=60"]));
    let pids = (explicit.pid(), implicit.pid());
    for report in [explicit.wait(), implicit.wait()] {
        report.expect_clean();
        assert!(report.number("presented") > 20, "{report:?}");
        assert!(report.number("released") >= report.number("committed") - 1, "{report:?}");
    }
    let record = session.end();
    assert!(record.of(pids.0)["commits"]["explicit"].as_u64() > Some(20));
    assert!(record.of(pids.1)["commits"]["implicit"].as_u64() > Some(20));
    assert_eq!(record.of(pids.0)["commits"]["implicit"].as_u64(), None, "explicit commits are not implicit");
}

#[test]
fn buffers_of_the_cpu_are_shown_and_released() {
    let session = Session::start(&[]);
    for source in ["heap", "udmabuf"] {
        for sync in ["explicit", "implicit"] {
            let (sync, source) = (format!("--sync={sync}"), format!("--source={source}"));
            let report = session.client(&[&sync, &source, "--size=160x120", "--frames=30"]).wait();
            report.expect_clean();
            assert_eq!(report.number("released"), 30, "{sync} {source} {report:?}");
        }
    }
    session.end();
}

#[test]
fn clients_nobody_here_wrote_are_shown() {
    let trace = new_file();
    let session = Session::start(&["--trace", trace.to_str().expect("a name")]);
    let clients = [
        ("weston-simple-egl", "implicit", &[][..]),
        ("weston-simple-dmabuf-egl", "implicit", &[][..]),
        ("weston-simple-shm", "shm", &[][..]),
        ("foot", "shm", &["--", "sh", "-c", "while sleep 0.1; do date; done"][..]),
    ];
    // One after the other: together they would take the emulated machine longer than anyone waits to start.
    let pids = clients.map(|(program, kind, arguments)| {
        let process = session.foreign(program, arguments);
        let pid = process.pid();
        // The decorations of a window may be surfaces of their own.
        wait_for_commits(&trace, &[pid], 40);
        process.end();
        (pid, program, kind)
    });
    let record = session.end();
    for (pid, program, kind) in pids {
        let entry = record.of(pid);
        assert!(entry["commits"][kind].as_u64() > Some(5), "{program}: {entry}");
        assert!(entry["presented"].as_u64() > Some(5), "{program}: {entry}");
    }
}

#[test]
fn a_fence_that_never_signals_stops_its_own_surface_only() {
    let session = Session::start(&[]);
    let never = session.client(&[
        "--sync=explicit",
        "--source=heap",
        "--size=160x120",
        "--fence-ms=never",
        "--busy-limit-s=2",
    ]);
    let other = session.client(&["--sync=explicit", "--source=heap", "--size=160x120", "--frames=100"]);
    other.wait().expect_clean();
    drop(never);
    session.end();
}

/// The virtual terminal in front.
pub(crate) fn active_terminal() -> String {
    std::fs::read_to_string("/sys/class/tty/tty0/active").expect("a virtual terminal").trim().to_owned()
}

#[test]
fn switching_the_terminal_away_and_back_loses_nothing() {
    let trace = new_file();
    let session = Session::start(&["--trace", trace.to_str().expect("a name")]);
    let home = active_terminal();
    let client = session.client(&["--sync=explicit", "--source=heap", "--size=160x120", "--frames=250"]);
    wait_for_commits(&trace, &[client.pid()], 8);
    for _ in 0..3 {
        host("key ctrl-alt-f2");
        wait_until("another terminal is in front", || active_terminal() == "tty2");
        sleep(Duration::from_secs(1));
        host(&format!("key ctrl-alt-f{}", home.trim_start_matches("tty")));
        wait_until("ours is in front", || active_terminal() == home);
    }
    let report = client.wait();
    report.expect_clean();
    assert_eq!(report.number("presented") + report.number("discarded"), 250, "{report:?}");
    session.end();
}

#[test]
fn the_end_of_the_compositor_releases_every_buffer() {
    let trace = new_file();
    let session = Session::start(&["--trace", trace.to_str().expect("a name")]);
    let client = session.client(&[
        "--sync=explicit",
        "--source=heap",
        "--size=160x120",
        "--buffers=4",
        "--fence-ms=300",
    ]);
    wait_for_commits(&trace, &[client.pid()], 8);
    session.end();
    let report = client.wait();
    // A commit that the compositor had not read from the socket was never its to release.
    assert!(report.number("released") + 1 >= report.number("committed"), "{report:?}");
}

/// Does it again and again until the client has gone: it may not have a window yet.
fn until_closed(mut client: Client, mut close: impl FnMut()) {
    wait_until("the client is closed", || {
        close();
        sleep(Duration::from_secs(1));
        client.has_ended()
    });
    client.wait().expect_clean();
}

#[test]
fn keys_and_buttons_start_a_terminal_close_windows_and_end_the_session() {
    let session = Session::start(&[]);
    let started = session.terminal().with_extension("started");
    fs::write(session.terminal(), format!("#!/bin/sh\ntouch {}\n", started.display())).expect("a script");
    fs::set_permissions(session.terminal(), fs::Permissions::from_mode(0o755)).expect("its mode");
    host("key meta_l-ret");
    wait_until("the terminal has started", || started.exists());

    let client = ["--sync=explicit", "--source=heap", "--size=160x120"];
    until_closed(session.client(&client), || host("key meta_l-q"));
    // The only window is in the middle.
    until_closed(session.client(&client), || {
        for request in [
            "mouse-move 640 360",
            "key meta_l down",
            "mouse-button middle down",
            "mouse-button middle up",
            "key meta_l up",
        ] {
            host(request);
        }
    });
    host("key meta_l-shift-e");
    session.wait();
}
