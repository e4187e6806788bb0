//! `fencepost probe` against the compositor on KMS, without a display, and as a window: it passes. That it fails when a rule is
//! broken is in `probe_broken.rs`.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{FENCEPOST, Session, modprobe};

/// How many rules the probe has. A rule that goes missing is not noticed by its absence.
const RULES: usize = 153;

pub(crate) fn probe(session: &Session, timeout_s: &str, only: &[&str]) -> Vec<Value> {
    // Late fences are made with it.
    modprobe("sw_sync");
    let only = only.iter().flat_map(|pattern| ["--only", pattern]);
    let output = session
        .command(FENCEPOST)
        .args(["probe", "--json", "--timeout", timeout_s])
        .args(only)
        .stderr(Stdio::inherit())
        .output()
        .expect("start the probe");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    let findings = report["findings"].as_array().expect("findings").clone();
    let is_clean = failed(&findings).is_empty();
    assert_eq!(output.status.success(), is_clean, "the exit status agrees with the report: {report:#}");
    findings
}

fn with_verdict(findings: &[Value], verdict: &str) -> BTreeSet<String> {
    let chosen = findings.iter().filter(|finding| finding["verdict"] == verdict);
    chosen.map(|finding| finding["id"].as_str().expect("an id").to_owned()).collect()
}

pub(crate) fn failed(findings: &[Value]) -> BTreeSet<String> {
    with_verdict(findings, "fail")
}

#[track_caller]
fn expect_every_rule(session: &Session) {
    let findings = probe(session, "20", &[]);
    let took_ms = |finding: &Value| finding["took_ms"].as_u64().unwrap_or_default();
    println!("{} s", findings.iter().map(took_ms).sum::<u64>() / 1000);
    for finding in &findings {
        assert_eq!(finding["verdict"], "pass", "{finding:#}");
    }
    assert_eq!(findings.len(), RULES, "set RULES when rules come or go");
}

#[test]
fn fencepost_keeps_every_rule_of_the_probe() {
    let session = Session::start(&[]);
    expect_every_rule(&session);
    session.end();
}

#[test]
fn fencepost_keeps_every_rule_of_the_probe_without_a_display() {
    let session = Session::headless(&[]);
    expect_every_rule(&session);
    session.end();
}

#[test]
fn fencepost_keeps_every_rule_of_the_probe_in_a_window() {
    let outer = Session::start(&["--mode=800x600"]);
    let inner = outer.nested(&[]);
    expect_every_rule(&inner);
    inner.end();
    outer.end();
}
