//! The trace of a session on KMS: the auditor finds nothing in an honest one, finds each rule that the compositor breaks, and
//! the summary says what the clients say.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use fencepost::trace::file::Trace;
use serde_json::Value;

use crate::chain::{Chain, Memory, Shower, Way};
use crate::harness::modprobe;
use crate::harness::{Client, FENCEPOST, Report, Session, next_id, wait_for_commits, wait_until};
use crate::late::{Driver, Source};

pub(crate) fn new_file() -> PathBuf {
    PathBuf::from(format!("/run/fencepost-trace-test-{}.jsonl", next_id()))
}

fn ask(question: &str, more: &[&str], file: &Path) -> (Option<i32>, String) {
    let output =
        Command::new(FENCEPOST).args(["trace", question]).args(more).arg(file).output().expect("run");
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

/// How often a session is run of which the auditor says that it stood still.
const SESSIONS: usize = 3;

/// Runs a session that writes this trace. The auditor finds nothing in it, and has not left out anything. A machine that stood
/// still looks like a compositor that did, which broke I5 and nothing else: then the session is run again.
pub(crate) fn expect_honest<T>(session: impl Fn(&Path) -> T) -> (PathBuf, T) {
    let mut sessions = 0;
    loop {
        sessions += 1;
        let file = new_file();
        let outcome = session(&file);
        let (status, text) = ask("check", &[], &file);
        println!("{text}");
        if sessions < SESSIONS && is_a_standstill(&text) {
            continue;
        }
        assert_eq!(status, Some(0), "{text}");
        assert!(text.contains(" 0 violations") && !text.contains("not checked"), "{text}");
        return (file, outcome);
    }
}

/// Whether I5 is broken, and no other invariant.
fn is_a_standstill(text: &str) -> bool {
    let is_broken = |rule: &&str| text.lines().any(|line| line.starts_with(rule));
    ["I1", "I2", "I3", "I4", "I5"].into_iter().filter(is_broken).eq(["I5"])
}

/// The auditor finds this invariant broken.
fn expect_broken(file: &Path, rule: &str, invariant: &str) {
    let (status, text) = ask("check", &[], file);
    let first = text.lines().find(|line| line.starts_with(invariant));
    println!("--break-rule {rule}: {}", first.unwrap_or(&text));
    assert_eq!(status, Some(1), "{rule}: {text}");
    assert!(first.is_some_and(|line| line.contains(": by ")), "{rule}: {text}");
}

fn summary(file: &Path) -> Value {
    let (status, json) = ask("summary", &["--json"], file);
    assert_eq!(status, Some(0), "{json}");
    serde_json::from_str(&json).expect("JSON")
}

/// What the summary says of the one surface of a client.
fn surface_of(summary: &Value, pid: u32) -> &Value {
    let surfaces = summary["surfaces"].as_array().expect("surfaces");
    surfaces.iter().find(|surface| surface["pid"] == pid).unwrap_or_else(|| panic!("no {pid} in {summary:#}"))
}

/// Whom a release wakes may run, and look at its clock, before the compositor, which has signalled it, looks at its own. How much
/// later that is at worst is for a machine that nobody else uses: of releases only the median is compared.
const PREEMPTED_US: u64 = 20_000;

const ALL: [&str; 3] = ["p50", "p99", "max"];

/// Holds what the summary says of a client against what the client says: to the millisecond where both have the kernel's times.
/// What begins with a commit begins with the client's sending it, and the compositor can only say when it came: on a busy
/// emulated processor that is several milliseconds later, so there the trace may say less, but not more.
fn compare(name: &str, of_trace: &Value, of_client: &Report) {
    let number = |path: &str| of_trace.pointer(path).and_then(Value::as_u64).unwrap_or(u64::MAX);
    assert_eq!(number("/presented"), of_client.number("presented"), "{name}: presented");
    let commits: u64 =
        of_trace["commits"].as_object().expect("kinds").values().filter_map(Value::as_u64).sum();
    assert_eq!(commits, of_client.number("committed"), "{name}: committed");
    for shape in ALL {
        let ours = number(&format!("/between_flips_us/{shape}"));
        let theirs = of_client.number(&format!("/between_presents_us/{shape}"));
        assert!(ours.abs_diff(theirs) <= 1000, "{name}, {shape}: {ours} µs, and {theirs} µs by the client");
    }
    let since_commit = [
        ("/commit_to_flip_us", "/commit_to_present_us", 1000, &ALL[..]),
        ("/commit_to_release_us", "/commit_to_release_us", PREEMPTED_US, &ALL[..1]),
    ];
    for (ours, theirs, slack_us, shapes) in since_commit {
        for shape in shapes {
            let (ours, theirs) =
                (number(&format!("{ours}/{shape}")), of_client.number(&format!("{theirs}/{shape}")));
            println!("{name}, commit_to…/{shape}: {ours} µs, and {theirs} µs by the client");
            assert!(ours <= theirs + slack_us, "{name}: {ours} µs, and only {theirs} µs by the client");
        }
    }
}

#[test]
fn an_honest_session_is_found_honest_and_its_summary_says_what_the_clients_say() {
    modprobe("sw_sync");
    let (file, (pids, [late, implicit, explicit])) = expect_honest(|file| {
        let session = Session::start(&["--mode=640x480", "--trace", file.to_str().expect("a name")]);
        let shm = session.foreign("weston-simple-shm", &[]);
        let run = |arguments: &[&str]| session.client(&[&["--size=160x120"], arguments].concat());
        let explicit = run(&["--sync=explicit", "--source=gpu", "--frames=100"]);
        let implicit = run(&["--sync=implicit", "--source=gpu", "--frames=100"]);
        let late = run(&["--sync=explicit", "--source=heap", "--frames=20", "--fence-ms=150"]);
        let pids = [explicit.pid(), implicit.pid(), late.pid(), shm.pid()];
        let reports = [late, implicit, explicit].map(|client| client.wait());
        shm.end();
        session.end();
        (pids, reports)
    });
    let summary = summary(&file);
    for (name, pid, report) in
        [("explicit", pids[0], &explicit), ("implicit", pids[1], &implicit), ("late", pids[2], &late)]
    {
        report.expect_clean();
        compare(name, surface_of(&summary, pid), report);
    }
    let waited = surface_of(&summary, pids[2])["acquire_wait_us"]["p50"].as_u64().expect("a wait");
    assert!(waited >= 75_000, "the late fences: {waited} µs");
    assert!(surface_of(&summary, pids[3])["commits"]["shm"].as_u64() > Some(0), "{summary:#}");
    let output = &summary["outputs"][0];
    assert!(output["interval_us"]["count"].as_u64() > Some(50), "{output:#}");
}

/// Who runs with a broken rule, what the auditor has to find with a late client that synchronises like this, and after how many
/// commits of each client it has to be there. A client that gets no buffer back has three. The CPU does not copy a dma-buf
/// that somebody writes to, whatever rule is broken; of what a point says it knows nothing.
const BROKEN: [(&str, &str, &str, usize); 4] = [
    ("acquire", "I1", "--sync=explicit", 20),
    ("release", "I2", "--sync=implicit", 20),
    ("forget", "I3", "--sync=implicit", 3),
    ("hold", "I5", "--sync=implicit", 20),
];

#[test]
fn each_broken_rule_is_found_as_the_invariant_that_it_breaks() {
    modprobe("sw_sync");
    for (rule, invariant, sync, commits) in BROKEN {
        let file = new_file();
        let path = file.to_str().expect("a name");
        let session = Session::start(&["--mode=640x480", "--trace", path, "--break-rule", rule]);
        let late = [sync, "--source=heap", "--size=160x120", "--fence-ms=200", "--fence-random"];
        let clients = [session.client(&late), session.client(&late[1..3])];
        wait_for_commits(&file, &clients.each_ref().map(Client::pid), commits);
        drop(clients);
        session.end();
        expect_broken(&file, rule, invariant);
    }
}

#[test]
fn a_commit_that_overtakes_a_late_one_is_found() {
    let file = new_file();
    let path = file.to_str().expect("a name");
    let chain = Chain::start(&["--trace", path, "--break-rule", "order"]);
    let (mut source, mut clock) = (Source::new(), chain.clock());
    let late = source.late(Driver::SwSync);
    let mut shower = Shower::new(&chain, Way::Explicit);
    shower.show(Memory::Heap, Some(&late.fence));
    let second = shower.show(Memory::Heap, None);
    shower.app.app.until_shown(&second.commit);
    clock.tick();
    late.signal();
    clock.tick();
    chain.end();
    expect_broken(&file, "order", "I4");
}

#[test]
fn the_newest_events_are_written_when_a_signal_asks_for_them() {
    let session = Session::start(&["--mode=640x480"]);
    session.client(&["--source=heap", "--size=160x120", "--frames=10"]).wait().expect_clean();
    session.signal(rustix::process::Signal::USR1);
    let folder = session.socket().parent().expect("a folder").to_owned();
    let dump = || {
        let files = std::fs::read_dir(&folder).expect("the folder").map(|file| file.expect("a file").path());
        files.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "jsonl"))
    };
    wait_until("the dump is there", || {
        dump().is_some_and(|file| Trace::read(std::fs::read(file).expect("read").as_slice()).is_ok())
    });
    session.end();
    let (status, text) = ask("check", &[], &dump().expect("the dump"));
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("10 commits") && text.contains("the run goes on after the trace"), "{text}");
}
