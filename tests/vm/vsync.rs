//! Displays that need not refresh at a fixed rate: frames that tear, and a refresh that waits for them. On the rig's vkms, which does
//! both when it is asked to (`vkms-flips.c`).

use std::fs;

use crate::{
    harness::{Report, Session, modprobe, next_id},
    rack::{Rack, run},
};

/// Slow enough for a frame of an emulated machine to be much faster.
const REFRESH_US: u64 = 100_000;

impl Rack {
    /// A device with displays that have async flips and variable refresh.
    fn with_flips(displays: usize) -> Self {
        const FLIPS: &str = "/sys/module/vkms/parameters/flips";
        modprobe("vkms");
        fs::write(FLIPS, "1").expect("the vkms of the rig");
        let rack = Self::new(displays);
        fs::write(FLIPS, "0").expect("the vkms of the rig");
        rack
    }
}

fn slow(session: &Session) {
    let text = run(&mut session.command("wlr-randr"));
    let name = text.split(' ').next().expect("a display");
    run(session.command("wlr-randr").args(["--output", name, "--custom-mode", "640x480@10Hz"]));
}

/// A session on a display of 10 Hz that can do both, with this configuration of it.
fn session(rack: &Rack, config: &str) -> Session {
    let file = format!("/run/vsync{}.toml", next_id());
    fs::write(&file, format!("[[output]]\nmake = \"\"\n{config}\n")).expect("a configuration");
    let session = rack.session(&["--config", &file]);
    slow(&session);
    session
}

fn show(session: &Session, arguments: &[&str]) -> Report {
    let usual = ["--source=heap", "--size=640x480", "--fullscreen"];
    let report = session.client(&[&usual[..], arguments].concat()).wait();
    report.expect_clean();
    report
}

fn p50(report: &Report, name: &str) -> u64 {
    report.number(&format!("/{name}/p50"))
}

#[test]
fn frames_tear_where_the_client_and_the_user_let_them() {
    let rack = Rack::with_flips(1);
    for (config, arguments, tears) in [
        ("", ["--tearing", "--sync=explicit"], true),
        ("", ["--tearing", "--sync=implicit"], true),
        ("", ["--buffers=3", "--sync=explicit"], false),
        ("tearing = false", ["--tearing", "--sync=explicit"], false),
    ] {
        let session = session(&rack, config);
        let report = show(&session, &[&arguments[..], &["--frames=60"]].concat());
        let record = session.end();
        let (torn, direct) = (record.of_output("torn"), record.of_output("scanned_out"));
        let between_us = p50(&report, "between_presents_us");
        let seen = format!("{config:?} {arguments:?}: {torn} torn of {direct}, {between_us} us");
        assert!(direct >= 50, "{seen}");
        match tears {
            true => assert!(torn >= 50 && between_us < REFRESH_US / 2, "{seen}"),
            false => assert!(torn == 0 && between_us > REFRESH_US * 9 / 10, "{seen}"),
        }
    }
}

#[test]
fn a_display_that_waits_shows_a_frame_when_it_comes() {
    let rack = Rack::with_flips(1);
    let latency = ["off", "on", "auto"].map(|vrr| {
        let session = session(&rack, &format!("vrr = \"{vrr}\""));
        let text = run(&mut session.command("wlr-randr"));
        let state = if vrr == "off" { "disabled" } else { "enabled" };
        assert!(text.contains(&format!("Adaptive Sync: {state}")), "{text}");
        // Longer than a refresh after the last one, so that a display that waits is always free to begin another.
        let report = show(&session, &["--frames=60", "--after-ms=130"]);
        session.end();
        p50(&report, "commit_to_present_us")
    });
    let [off, on, auto] = latency;
    assert!(on.max(auto) * 2 < off, "{latency:?}");
}
