//! `fencepost probe` against a compositor that breaks a rule: the cases of that rule fail, and no others.
//!
//! Every case is in one of the tables here: failed by a rule that can be broken, or named with the reason why none is.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{FENCEPOST, Session, next_id};
use crate::probe::{failed, probe};

/// A broken rule, what is run, and what has to fail of it.
type Broken = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Cases that no rule breaks, and why.
const NOT_BROKEN: &[(&str, &str)] = &[(
    "dmabuf.feedback.table-stays",
    "the file is sealed when it is made: the kernel keeps this rule, and nothing in the compositor can break it",
)];

/// The errors of linux-drm-syncobj-v1, and what is just not one.
const SYNCOBJ_ERRORS: &[Broken] = &[
    (
        "surface-exists",
        &["syncobj.s1.*", "fifo.second", "fifo.again", "commit-timing.second", "commit-timing.again"],
        &["commit-timing.second", "fifo.second", "syncobj.s1.second"],
    ),
    (
        "one-surface",
        &["syncobj.s1.*"],
        &["syncobj.s1.again", "syncobj.s1.again-validated", "syncobj.s1.two-surfaces"],
    ),
    (
        "stays",
        &["syncobj.s1.*", "fifo.again", "fifo.second", "commit-timing.again", "commit-timing.second"],
        &["commit-timing.again", "fifo.again", "syncobj.s1.again", "syncobj.s1.again-validated"],
    ),
    ("no-timeline", &["syncobj.s2.*"], &["syncobj.s2.twice"]),
    (
        "sync-destroyed",
        &["syncobj.s0.*", "syncobj.s3.*"],
        &["syncobj.s0.implicit-again", "syncobj.s3.destroy"],
    ),
    (
        "unsupported-dmabuf",
        &["syncobj.s4.*", "syncobj.s8.imported-twice", "implicit.acquire.while-explicit"],
        &["implicit.acquire.while-explicit", "syncobj.s4.dmabuf-every-version", "syncobj.s8.imported-twice"],
    ),
    ("no-points", &["syncobj.s5.*"], &["syncobj.s5.neither", "syncobj.s5.no-carry-over"]),
    ("any-points", &["syncobj.s8.*"], &["syncobj.s8.later", "syncobj.s8.two-timelines"]),
    (
        "invalid-timeline",
        &["syncobj.s*"],
        &[
            "syncobj.s2.dma-buf",
            "syncobj.s2.eventfd",
            "syncobj.s2.memfd",
            "syncobj.s2.pipe",
            "syncobj.s2.sync-file",
        ],
    ),
    (
        "no-surface",
        &["fifo.*-destroyed", "commit-timing.destroyed", "syncobj.s*"],
        &[
            "commit-timing.destroyed",
            "fifo.set-destroyed",
            "fifo.wait-destroyed",
            "syncobj.s3.acquire",
            "syncobj.s3.release",
        ],
    ),
    (
        "unsupported-buffer",
        &["single-pixel.*", "syncobj.s*"],
        &["single-pixel.explicit", "syncobj.s4.shm", "syncobj.s4.shm-without-points"],
    ),
    (
        "no-buffer",
        &["get-release.*", "syncobj.s*"],
        &[
            "get-release.no-buffer",
            "get-release.null",
            "syncobj.s0.others-unharmed",
            "syncobj.s5.acquire",
            "syncobj.s5.both",
            "syncobj.s5.null-acquire",
            "syncobj.s5.null-both",
            "syncobj.s5.null-release",
            "syncobj.s5.release",
            "syncobj.s5.replaced-by-null",
        ],
    ),
    (
        "no-acquire-point",
        &["syncobj.s*"],
        &[
            "syncobj.s6.neither",
            "syncobj.s6.no-carry-over",
            "syncobj.s6.other-surface",
            "syncobj.s6.release-only",
        ],
    ),
    ("no-release-point", &["syncobj.s*"], &["syncobj.s1.again-validated", "syncobj.s7.acquire-only"]),
    (
        "conflicting-points",
        &["syncobj.s*"],
        &["syncobj.s8.earlier", "syncobj.s8.equal", "syncobj.s8.high-word", "syncobj.s8.largest"],
    ),
];

/// When commits of linux-drm-syncobj-v1 are shown, when they are released, and what outlasts what.
const SYNCOBJ_SEMANTICS: &[Broken] = &[
    (
        "maker-destroyed",
        &["syncobj.p1.*", "syncobj.p2.*", "dmabuf.cancel", "dmabuf.params-destroyed", "robust.destroy-order"],
        &["dmabuf.params-destroyed", "robust.destroy-order", "syncobj.p1.manager-destroyed"],
    ),
    (
        "timeline-destroyed",
        &["syncobj.p1.*", "syncobj.p2.*", "syncobj.p3.*"],
        &["syncobj.p2.committed", "syncobj.p2.pending"],
    ),
    ("first-wins", &["syncobj.p3.*", "syncobj.p4.*"], &["syncobj.p4.last-wins"]),
    ("per-buffer", &["get-release.*", "syncobj.p6.*"], &["get-release.per-commit", "syncobj.p6.per-commit"]),
    (
        "keep-waiting",
        &["syncobj.p7.*", "robust.destroy-order", "implicit.release.waiting-destroyed"],
        &["robust.destroy-order", "syncobj.p7.buffer-destroyed", "syncobj.p7.waiting-destroyed"],
    ),
    (
        "waiting-destroyed",
        &["syncobj.p7.*", "robust.destroy-order", "implicit.release.*"],
        &["implicit.release.waiting-destroyed", "robust.destroy-order", "syncobj.p7.waiting-destroyed"],
    ),
    (
        "short-points",
        &["syncobj.s8.*", "syncobj.p9.*"],
        &["syncobj.p9.64-bits", "syncobj.s8.high-word", "syncobj.s8.later"],
    ),
    ("zero-point", &["syncobj.p9.*"], &["syncobj.p9.zero"]),
    ("materialised", &["syncobj.p5.*", "syncobj.p12.*"], &["syncobj.p12.late-fence"]),
    ("point-before", &["syncobj.p9.*", "syncobj.p12.*"], &["syncobj.p12.overtaken", "syncobj.p9.64-bits"]),
    (
        "acquire",
        &[
            "syncobj.p3.*",
            "syncobj.p4.*",
            "fifo.acquire",
            "syncobj.p5.*",
            "syncobj.p6.*",
            "syncobj.p7.s*",
            "syncobj.p13.order",
            "implicit.acquire.*",
            "content.*",
        ],
        &[
            "fifo.acquire",
            "syncobj.p3.committed",
            "syncobj.p4.last-wins",
            "syncobj.p4.subsurface",
            "content.explicit.acquire",
            "content.implicit.acquire",
            "implicit.acquire.after-explicit",
            "implicit.acquire.first",
            "implicit.acquire.next",
            "syncobj.p13.order",
            "syncobj.p5.first",
            "syncobj.p5.frame",
            "syncobj.p5.next",
            "syncobj.p6.no-overtaking",
            "syncobj.p6.not-before-acquire",
        ],
    ),
    (
        "forget",
        &[
            "get-release.*",
            "syncobj.p1.*",
            "syncobj.p2.*",
            "syncobj.p3.*",
            "syncobj.p4.*",
            "syncobj.p5.next",
            "syncobj.p6.*",
            "syncobj.p7.*",
            "implicit.release.replaced",
        ],
        &[
            "get-release.per-commit",
            "get-release.explicit",
            "implicit.release.replaced",
            "syncobj.p4.cached-twice",
            "syncobj.p4.subsurface",
            "syncobj.p3.committed",
            "syncobj.p2.pending",
            "syncobj.p2.committed",
            "syncobj.p1.manager-destroyed",
            "syncobj.p4.last-wins",
            "syncobj.p6.replaced",
            "syncobj.p6.per-commit",
            "syncobj.p6.no-overtaking",
            "syncobj.p7.superseded",
            "syncobj.p7.unmapped",
            "syncobj.p7.surface-destroyed",
            "syncobj.p7.waiting-destroyed",
            "syncobj.p7.buffer-destroyed",
            "syncobj.p7.disconnected",
        ],
    ),
    (
        "release",
        &["syncobj.p5.*", "syncobj.p6.*", "implicit.acquire.*", "implicit.release.*", "content.*"],
        &[
            "content.explicit.release",
            "content.implicit.release",
            "implicit.release.not-before-acquire",
            "syncobj.p6.no-overtaking",
            "syncobj.p6.not-before-acquire",
        ],
    ),
    (
        "order",
        &["syncobj.p5.*", "syncobj.p6.*", "syncobj.p13.*", "implicit.acquire.*"],
        &["syncobj.p13.order-without-buffer", "syncobj.p13.order", "syncobj.p13.order-implicit"],
    ),
];

/// linux-dmabuf-v1.
const DMABUF: &[Broken] = &[
    (
        "already-used",
        &["dmabuf.d1.*", "dmabuf.d3.*"],
        &[
            "dmabuf.d1.immed-after-create",
            "dmabuf.d1.add-after-create",
            "dmabuf.d1.create-after-create",
            "dmabuf.d1.create-after-immed",
        ],
    ),
    ("plane-idx", &["dmabuf.d2.*", "dmabuf.d3.*"], &["dmabuf.d2.five", "dmabuf.d2.largest"]),
    ("plane-set", &["dmabuf.d2.*", "dmabuf.d3.*"], &["dmabuf.d3.twice"]),
    (
        "incomplete",
        &["dmabuf.d4.*", "dmabuf.d5.*"],
        &["dmabuf.d4.gap", "dmabuf.d4.none", "dmabuf.d4.too-many"],
    ),
    (
        "invalid-format",
        &["dmabuf.d5.*", "dmabuf.d6.*"],
        &["dmabuf.d5.differing", "dmabuf.d5.format", "dmabuf.d5.modifier"],
    ),
    ("invalid-dimensions", &["dmabuf.d6.*", "dmabuf.d7.*"], &["dmabuf.d6.negative", "dmabuf.d6.zero"]),
    ("out-of-bounds", &["dmabuf.d6.*", "dmabuf.d7.*"], &["dmabuf.d7.offset", "dmabuf.d7.stride"]),
    ("invalid-wl-buffer", &["dmabuf.d7.*", "dmabuf.d8.*"], &["dmabuf.d8.memfd", "dmabuf.d8.pipe"]),
    ("invalid-dev-t-size", &["dmabuf.d9.*"], &["dmabuf.d9.large", "dmabuf.d9.small"]),
    ("unknown-device", &["dmabuf.d9.*"], &["dmabuf.d9.unknown"]),
    ("sampling", &["dmabuf.feedback.*"], &["dmabuf.feedback.sampling"]),
    ("answers-twice", &["dmabuf.create*", "dmabuf.cancel"], &["dmabuf.create", "dmabuf.create-immed"]),
    ("cancel", &["dmabuf.create*", "dmabuf.cancel", "dmabuf.params-destroyed"], &["dmabuf.cancel"]),
    ("bound-formats", &["dmabuf.bind.*", "dmabuf.feedback.*"], &["dmabuf.bind.new", "dmabuf.bind.old"]),
    (
        "sent-twice",
        &["dmabuf.bind.*", "dmabuf.feedback.*"],
        &[
            "dmabuf.feedback.default",
            "dmabuf.feedback.inert",
            "dmabuf.feedback.no-resend",
            "dmabuf.feedback.surface",
        ],
    ),
    ("main-device", &["dmabuf.feedback.*"], &["dmabuf.feedback.main-device"]),
    ("duplicates", &["dmabuf.feedback.*"], &["dmabuf.feedback.duplicates"]),
    ("feedback-destroyed", &["dmabuf.feedback.*"], &["dmabuf.feedback.inert"]),
];

/// presentation-time, single-pixel-buffer-v1, fifo-v1 and commit-timing-v1.
const PACING: &[Broken] = &[
    ("feedback", &["presentation.*"], &["presentation.once", "presentation.same", "presentation.zero-copy"]),
    ("presented-early", &["presentation.*"], &["presentation.times"]),
    ("zero-copy", &["presentation.*"], &["presentation.zero-copy"]),
    ("unanswered", &["presentation.*"], &["presentation.surface-destroyed"]),
    ("single-pixel", &["single-pixel.*"], &["single-pixel.feedback", "single-pixel.shown"]),
    ("fifo", &["fifo.*", "commit-timing.*"], &["fifo.each-shown"]),
    (
        "commit-timing",
        &["fifo.*", "commit-timing.*"],
        &[
            "commit-timing.idle",
            "commit-timing.not-before",
            "commit-timing.order",
            "commit-timing.timer-destroyed",
        ],
    ),
    ("no-barrier", &["fifo.*"], &["fifo.acquire", "fifo.each-shown", "fifo.no-barrier", "fifo.subsurface"]),
    ("subsurface-barrier", &["fifo.*"], &["fifo.subsurface"]),
    ("past", &["commit-timing.*"], &["commit-timing.past"]),
    ("asleep", &["fifo.*", "commit-timing.*"], &["commit-timing.idle"]),
    ("timestamp-stays", &["commit-timing.*"], &["commit-timing.each-commit", "commit-timing.not-before"]),
    ("invalid-timestamp", &["commit-timing.*"], &["commit-timing.nanoseconds"]),
    ("timestamp-exists", &["commit-timing.*"], &["commit-timing.twice"]),
    ("clock", &["presentation.*"], &["presentation.clock", "presentation.times"]),
];

/// What hurts others.
const ROBUSTNESS: &[Broken] = &[
    ("slow", &["robust.never-*"], &["robust.never-signalled", "robust.never-written"]),
    (
        "stumble",
        &["robust.*"],
        &["robust.many-timelines", "robust.many-waiting", "robust.points", "robust.wrong-fds"],
    ),
    ("gone", &["robust.vanishing"], &["robust.vanishing"]),
];

fn id(finding: &Value) -> &str {
    finding["id"].as_str().expect("an id")
}

/// How long anything may take that has to happen: what does not is waited for that long. For each attempt: an emulated machine
/// that stands still breaks rules about times, and hides broken ones.
const TIMEOUTS_S: [&str; 3] = ["2", "5", "10"];
/// A broken compositor that hurts others does so for three seconds: in more there is nothing to be seen.
const SHORT_TIMEOUTS_S: [&str; 3] = ["2", "2", "2"];

/// Rules that are kept or broken when the compositor starts, and stay so: the last of their tables.
const AT_START: &[&str] = &["clock"];

/// A compositor of which one rule after the other is broken: starting one for each takes longer than all of the cases.
struct Victim {
    session: Session,
    /// Names the rule that is broken for the clients that connect.
    broken: PathBuf,
}

impl Victim {
    fn start(rule: &str) -> Self {
        let broken = PathBuf::from(format!("/run/fencepost-broken-{}", next_id()));
        fs::write(&broken, rule).expect("name the rule");
        let session = Session::start(&["--break-rules-of", broken.to_str().expect("UTF-8")]);
        Self { session, broken }
    }

    fn probe(&self, rule: &str, timeout_s: &str, only: &[&str]) -> Vec<Value> {
        fs::write(&self.broken, rule).expect("name the rule");
        probe(&self.session, timeout_s, only)
    }
}

/// All of them are run, so that one failure of this test says everything.
fn check(table: &[Broken], timeouts_s: [&str; 3]) {
    let mut victim = Victim::start("");
    let mut wrong = Vec::new();
    for broken in table {
        let start = Instant::now();
        if AT_START.contains(&broken.0) {
            drop(victim);
            victim = Victim::start(broken.0);
        }
        let [first, others @ ..] = timeouts_s;
        let mut tried = try_out(&victim, first, broken);
        for timeout_s in others {
            let Err(why) = &tried else { break };
            println!("again, with a compositor of its own: {why}");
            drop(victim);
            victim = Victim::start(broken.0);
            tried = try_out(&victim, timeout_s, broken);
        }
        println!("{}: {:.1?}", broken.0, start.elapsed());
        wrong.extend(tried.err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    victim.session.end();
}

/// Whether exactly the cases fail that are meant to; what was seen instead.
fn try_out(victim: &Victim, timeout_s: &str, (rule, only, wanted): &Broken) -> Result<(), String> {
    let findings = victim.probe(rule, timeout_s, only);
    let wanted: BTreeSet<String> = wanted.iter().map(|id| (*id).to_owned()).collect();
    if failed(&findings) == wanted {
        return Ok(());
    }
    let of_interest = |finding: &&Value| finding["verdict"] == "fail" || wanted.contains(id(finding));
    let seen = findings.iter().filter(of_interest);
    let seen: Vec<_> = seen.map(|finding| format!("{}: {}", id(finding), finding["seen"])).collect();
    Err(format!("{rule} failed {seen:#?} instead of {wanted:?}"))
}

#[test]
fn broken_rules_of_syncobj_errors_fail_their_own_cases_and_no_others() {
    check(SYNCOBJ_ERRORS, TIMEOUTS_S);
}

#[test]
fn broken_rules_of_syncobj_semantics_fail_their_own_cases_and_no_others() {
    check(SYNCOBJ_SEMANTICS, TIMEOUTS_S);
}

#[test]
fn broken_rules_of_dmabuf_fail_their_own_cases_and_no_others() {
    check(DMABUF, TIMEOUTS_S);
}

#[test]
fn broken_rules_of_pacing_fail_their_own_cases_and_no_others() {
    check(PACING, TIMEOUTS_S);
}

#[test]
fn broken_rules_of_robustness_fail_their_own_cases_and_no_others() {
    check(ROBUSTNESS, SHORT_TIMEOUTS_S);
}

#[test]
fn every_case_of_the_probe_is_failed_by_a_broken_rule_or_has_a_reason() {
    let output = Command::new(FENCEPOST).args(["probe", "--list"]).output().expect("start the probe");
    let list = String::from_utf8(output.stdout).expect("UTF-8");
    let all: BTreeSet<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    let tables = [SYNCOBJ_ERRORS, SYNCOBJ_SEMANTICS, DMABUF, PACING, ROBUSTNESS];
    let mut failed: BTreeSet<&str> = tables
        .iter()
        .flat_map(|table| table.iter())
        .flat_map(|(_, _, failed)| failed.iter().copied())
        .collect();
    for (id, reason) in NOT_BROKEN {
        assert!(!reason.is_empty() && failed.insert(id), "{id} is failed by a broken rule");
    }
    let missing: Vec<_> = all.difference(&failed).collect();
    assert!(missing.is_empty(), "nothing fails {missing:?}");
    assert!(failed.is_subset(&all), "cases that there are not: {:?}", failed.difference(&all));
}
