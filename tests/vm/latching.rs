//! When outputs latch: as late as is safe, so that a refresh shows what was committed before it.
//!
//! Counts refreshes only: how long one takes an emulated machine says nothing.

use crate::chain::SLOW;
use crate::harness::Session;

const FRAMES: u64 = 100;

/// A mode, and the middle of its refresh.
type Pace = (&'static str, &'static str);
const PACE: Pace = (SLOW, "--after-ms=25");
const SLOWER: Pace = ("--mode=custom:640x480@15", "--after-ms=33");

/// A machine that is busy with something else has late timers and flips off the grid, and latches at once for a while: the best
/// of these counts.
const ATTEMPTS: [Pace; 5] = [PACE, PACE, PACE, SLOWER, SLOWER];

/// A client that commits in the middle of each refresh. Latched when the refresh begins, each of its frames would wait for
/// the end of the next.
#[test]
fn what_is_committed_in_the_middle_of_a_refresh_is_shown_at_its_end() {
    let mut attempts = Vec::new();
    for pace in ATTEMPTS {
        attempts.push(attempt(pace));
        if attempts.last().is_some_and(Attempt::is_good) {
            break;
        }
    }
    println!("{attempts:?}");
    assert!(attempts.last().is_some_and(Attempt::is_good), "{attempts:?}");
}

#[derive(Debug)]
struct Attempt {
    /// The refreshes that a frame waited, at the median, of an explicit and an implicit client.
    refreshes: [u64; 2],
    commits: u64,
    missed: u64,
}

impl Attempt {
    /// The schedule knows nothing of how a client synchronises. Latching at once, both wait two.
    fn is_good(&self) -> bool {
        self.refreshes.contains(&1) && self.missed * 20 <= self.commits
    }
}

fn attempt((mode, after): Pace) -> Attempt {
    let session = Session::start(&[mode]);
    let refreshes = ["--sync=explicit", "--sync=implicit"].map(|sync| {
        let frames = format!("--frames={FRAMES}");
        let report = session.client(&[sync, "--source=heap", "--size=128x96", after, &frames]).wait();
        report.expect_clean();
        report.number("/commit_to_present_refreshes/p50")
    });
    let record = session.end();
    Attempt { refreshes, commits: record.of_output("commits"), missed: record.of_output("missed") }
}
