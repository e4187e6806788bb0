//! Nothing to show, nothing done: a window that stands still costs the compositor no wake-up, and the display no commit.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::chain::Chain;
use crate::harness::Session;
use crate::sync_app::SyncApp;

/// What is still under way when a window has just been shown is over by then, and so is the watch for its flip, which ends five
/// seconds after it without a look.
const SETTLED: Duration = Duration::from_secs(7);
/// How long nothing has to happen, in one of a few times: a slow machine may have something under way for longer.
const IDLE: Duration = Duration::from_secs(10);
const TIMES: usize = 3;

/// How often the threads of a process have been woken: each wake-up ends in one more wait, in which a thread gives its
/// processor away.
fn wake_ups(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let of_task = |task: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(task.expect("a thread").path().join("status")).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.expect("its waits").trim().parse::<u64>().expect("a number")
    };
    tasks.map(of_task).sum()
}

/// None of these processes is woken while there is nothing to do.
fn expect_sleep(pids: &[u32]) {
    sleep(SETTLED);
    let woken = |pids: &[u32]| pids.iter().map(|pid| wake_ups(*pid)).sum::<u64>();
    let sleeps = || {
        let before = woken(pids);
        sleep(IDLE);
        woken(pids) == before
    };
    assert!((0..TIMES).any(|_| sleeps()), "woken while there was nothing to do");
}

/// Shows a window that stands still from now on.
fn show_a_still_window(chain: &Chain) -> SyncApp {
    let mut app = chain.app();
    let window = app.app.window();
    let buffer = app.app.shm_buffer();
    let shown = app.app.show(&window.surface, &buffer);
    app.app.until_shown(&shown);
    app
}

#[test]
fn a_compositor_with_a_still_window_and_a_still_pointer_sleeps() {
    let chain = Chain::start(&[]);
    let _app = show_a_still_window(&chain);
    expect_sleep(&[chain.session.pid()]);
    // A thread that was never woken has committed nothing; the record has only what came before and after.
    let commits = chain.end().of_output("commits");
    assert!((1..=20).contains(&commits), "{commits} commits for one window that stood still");
}

#[test]
fn a_window_of_another_compositor_sleeps_and_so_does_its_parent() {
    let outer = Session::start(&["--mode=640x480"]);
    let inner = Chain::of(outer.nested(&["--mode=480x360"]));
    let _app = show_a_still_window(&inner);
    expect_sleep(&[inner.session.pid(), outer.pid()]);
    inner.end();
    outer.end();
}
