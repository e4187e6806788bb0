//! The compositor with 256 file descriptors: what there is goes round, and what there is not is said.

use std::fs;

use fencepost::surface::queue::MAX_QUEUED_COMMITS;

use crate::chain::Chain;
use crate::harness::{Session, next_id};
use crate::held::Held;
use crate::setup::Fate;

/// Runs the rest of the command line under the limit, with its log in the file.
const LIMITED: &str = "ulimit -n 256 && log=$1 && shift && exec \"$@\" 2>\"$log\"";

#[test]
fn with_256_file_descriptors_clients_are_served_and_a_greedy_one_is_slow() {
    let log = format!("/run/fencepost-log-{}", next_id());
    let wrapper = ["sh", "-c", LIMITED, "sh", &log];
    let chain = Chain::of(Session::under(&wrapper, &["--mode=640x480"]));
    let pid = Some(chain.session.pid());

    // More fences than there are file descriptors.
    let mut greedy = chain.app();
    let (window, acquire, release) = (greedy.sync_window(), greedy.timeline(), greedy.timeline());
    let buffer = greedy.heap_buffer();
    let commits: Vec<_> = (1..MAX_QUEUED_COMMITS as u64)
        .map(|value| greedy.show(&window, &buffer, (&acquire, value), (&release, value)))
        .collect();
    greedy.app.client.expect_no_error();
    let held = Held::by(pid);
    assert!((100..160).contains(&held.fds), "waits take some, and not all: {held:?}");
    // The others notice nothing, also those that come now.
    let mut clock = chain.clock();
    for _ in 0..5 {
        clock.tick();
    }
    serve(&chain);
    assert_eq!(greedy.app.fate(&commits[0]), Fate::Waiting);
    acquire.signal(MAX_QUEUED_COMMITS as u64);
    greedy.app.until_shown(&commits[commits.len() - 1]);
    greedy.until_signalled(&release.point(MAX_QUEUED_COMMITS as u64 - 1));
    assert!(Held::by(pid).fds < 100, "{:?}", Held::by(pid));
    chain.end();
    let log = fs::read_to_string(log).expect("the log");
    assert!(log.contains("it is polled instead"), "what could not be had is said: {log}");
}

/// Runs clients of every kind, all at once.
fn serve(chain: &Chain) {
    let clients = ["explicit", "implicit"].map(|sync| {
        let sync = format!("--sync={sync}");
        ["heap", "gpu"].map(|source| {
            let source = format!("--source={source}");
            chain.session.client(&[&sync, &source, "--size=160x120", "--frames=40"])
        })
    });
    for client in clients.into_iter().flatten() {
        let report = client.wait();
        report.expect_clean();
        assert_eq!(report.number("released"), 40, "{report:?}");
    }
}
