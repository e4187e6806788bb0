//! The log, for people who look.

use crate::Runtime;

const CLIENT: [&str; 3] = ["probe", "--only", "fifo.*"];

#[test]
fn every_stage_of_a_frame_says_how_long_it_took_to_who_asks_and_to_nobody_else() {
    let runtime = Runtime::new("log");
    let log = |filter: &str| {
        let output = runtime.serve(&CLIENT).env("RUST_LOG", filter).output().expect("start the compositor");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let (asked, unasked) = (log("fencepost=trace"), log("fencepost=debug"));
    // Nothing is waited for here, so there is no stage `acquire`.
    for stage in
        ["commit{surface=", "latch{output=", "render{elements=", "scan-out:", "flip{output=", "release{due="]
    {
        let ends = asked.lines().filter(|line| line.contains(stage) && line.contains("close time.busy="));
        assert!(ends.count() >= 5, "{stage} {asked}");
        assert!(!unasked.contains(stage), "{stage} {unasked}");
    }
    assert!(!log("info").contains("close time.busy="));
}
