//! `fencepost watch`, for scripts.

use serde_json::Value;

use crate::Runtime;

const ONCE: [&str; 3] = ["watch", "--once", "--json"];

#[test]
fn who_was_not_asked_for_a_look_gives_none() {
    let runtime = Runtime::new("watch-not");
    let output = runtime.serve(&ONCE).output().expect("start the compositor");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(said.contains("wayland-test-debug") && said.contains("--debug"), "{said}");
}

#[test]
fn who_was_asked_says_how_things_are() {
    let runtime = Runtime::new("watch");
    let output = runtime.serve_with(&["--debug"], &ONCE).output().expect("start the compositor");
    assert!(output.status.success(), "{output:?}");
    let seen: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(seen["snapshot"]["outputs"][0]["name"], "HEADLESS-1", "{seen:#}");
}
