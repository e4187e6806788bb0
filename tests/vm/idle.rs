//! Nothing to show, nothing done: a window that stands still costs the compositor no wake-up, and the display no commit.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::chain::Chain;

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

#[test]
fn a_compositor_with_a_still_window_and_a_still_pointer_sleeps() {
    let chain = Chain::start(&[]);
    let mut app = chain.app();
    let window = app.app.window();
    let buffer = app.app.shm_buffer();
    let shown = app.app.show(&window.surface, &buffer);
    app.app.until_shown(&shown);
    sleep(SETTLED);
    let pid = chain.session.pid();
    let woken = || {
        let before = wake_ups(pid);
        sleep(IDLE);
        wake_ups(pid) - before
    };
    assert!((0..TIMES).any(|_| woken() == 0), "the compositor was woken while there was nothing to do");
    // A thread that was never woken has committed nothing; the record has only what came before and after.
    let commits = chain.end().of_output("commits");
    assert!((1..=20).contains(&commits), "{commits} commits for one window that stood still");
}
