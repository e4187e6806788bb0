//! What a client notices of another whose fences are late: nothing (I5). Measured with clients as processes.
//!
//! An emulated processor's times wander, so the test asks only for what tells a client that was held up from one that was
//! not; the measured ratios are printed.

use std::{thread::sleep, time::Duration};

use crate::harness::modprobe;
use crate::harness::{Report, Session};

/// How late the fences are: a machine that stands still does so for less than half of that.
const LATE_MS: u64 = 4000;
const ROUNDS: usize = 3;
const FRAMES: &str = "--frames=120";

/// What one run of the client that is measured gave.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Commit to presentation, in microseconds.
    p50: u64,
    p99: u64,
    /// The share of vblanks with a frame of the client, in per cent.
    hit: u64,
}

impl Run {
    fn of(report: &Report) -> Self {
        report.expect_clean();
        let (shown, missed) = (report.number("presented"), report.number("missed_vblanks"));
        let summary = |of: &str| report.number(&format!("/commit_to_present_us/{of}"));
        Self { p50: summary("p50"), p99: summary("p99"), hit: 100 * shown / (shown + missed) }
    }
}

/// A run beside a client with `arguments`, if there is one.
fn run(session: &Session, sync: &str, beside: Option<&[&str]>) -> Run {
    let beside = beside.map(|arguments| session.client(arguments));
    // What its start costs the emulated processor, or the end of the one before, is not what its fences cost.
    sleep(Duration::from_secs(2));
    let run = session.client(&[sync, "--source=heap", "--size=160x120", FRAMES]).wait();
    if let Some(client) = beside {
        client.end().expect_clean();
    }
    Run::of(&run)
}

fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}

fn medians(runs: &[Run]) -> Run {
    let of = |number: fn(&Run) -> u64| median(runs.iter().map(number).collect());
    Run { p50: of(|run| run.p50), p99: of(|run| run.p99), hit: of(|run| run.hit) }
}

/// With the other's fences held against it, a client would show a frame or two in four seconds, in time for one vblank in a
/// hundred, and its slowest frames would take as long as a fence is late. One that was not shows a frame at every third vblank
/// at least; how many exactly is for a machine that is not emulated.
#[test]
fn a_client_whose_fences_are_late_does_not_slow_another() {
    modprobe("sw_sync");
    let session = Session::start(&["--mode=640x480"]);
    let late = format!("--fence-ms={LATE_MS}");
    let ways = ["--sync=explicit", "--sync=implicit"];
    let mut runs = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    for _ in 0..ROUNDS {
        for (way, [alone, beside]) in ways.into_iter().zip(&mut runs) {
            alone.push(run(&session, way, None));
            let other = [way, "--source=heap", "--size=160x120", "--busy-limit-s=60", &late];
            beside.push(run(&session, way, Some(&other)));
        }
    }
    session.end();
    for (way, runs) in ways.into_iter().zip(&runs) {
        let [alone, beside] = runs.each_ref().map(|runs| medians(runs));
        let ratio = |of: fn(&Run) -> u64| of(&beside) as f64 / of(&alone) as f64;
        let (p50, p99, hit) = (ratio(|run| run.p50), ratio(|run| run.p99), ratio(|run| run.hit));
        println!(
            "{way}: alone {alone:?}, beside a late client {beside:?}; ratios: p50 {p50:.2}, p99 {p99:.2}, vblanks hit {hit:.2}"
        );
        assert!(hit > 0.25, "{way}: {beside:?}, alone {alone:?}");
        assert!(beside.p99 < 1000 * LATE_MS / 2, "{way}: {beside:?}, alone {alone:?}");
    }
}
