//! `fencepost probe` against fencepost without a display: what needs neither DRM nor root.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;

use crate::{FENCEPOST, Runtime};

impl Runtime {
    /// Runs the probe as the client of a compositor without a display.
    fn probe(&self, arguments: &[&str]) -> Output {
        let probe: Vec<_> = ["probe"].iter().chain(arguments).copied().collect();
        self.serve(&probe).env("RUST_LOG", "warn").output().expect("start the compositor")
    }
}

fn findings(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    report["findings"].as_array().expect("findings").clone()
}

#[test]
fn what_can_be_tested_without_a_gpu_passes() {
    let runtime = Runtime::new("passes");
    let junit = runtime.0.join("probe.xml");
    let output = runtime.probe(&["--json", "--junit", junit.to_str().expect("UTF-8")]);
    let findings = findings(&output);
    assert!(output.status.success(), "{findings:#?}");
    let passed = |family: &str| {
        let of_family =
            findings.iter().filter(|finding| finding["id"].as_str().expect("an id").starts_with(family));
        of_family.filter(|finding| finding["verdict"] == "pass").count()
    };
    // One rule of fifo-v1 is about acquire points.
    for (family, rules) in [("presentation.", 6), ("fifo.", 7), ("commit-timing.", 11)] {
        assert_eq!(passed(family), rules, "{family}: {findings:#?}");
    }
    let xml = fs::read_to_string(junit).expect("the file");
    assert!(xml.contains(&format!("tests=\"{}\" failures=\"0\"", findings.len())), "{xml}");
}

#[test]
fn patterns_choose_rules_and_nonsense_is_an_error() {
    let runtime = Runtime::new("patterns");
    let output = runtime.probe(&["--only", "presentation.c*", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let findings = findings(&output);
    let ids: Vec<_> = findings.iter().map(|finding| finding["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, ["presentation.clock"]);
    let output = runtime.probe(&["--only", "nonsense"]);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
}

#[test]
fn rules_are_listed_without_a_compositor() {
    let output = Command::new(FENCEPOST).args(["probe", "--list"]).output().expect("start the probe");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success() && text.lines().count() > 100, "{text}");
    assert!(text.lines().all(|line| line.ends_with(']')), "{text}");
}

#[test]
fn without_a_compositor_nothing_is_tested_and_that_is_an_error() {
    let runtime = Runtime::new("nobody");
    let mut command = Command::new(FENCEPOST);
    let output = command.arg("probe").env("XDG_RUNTIME_DIR", &runtime.0).output().expect("start the probe");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
}
