//! Displays that come, go and change while clients draw: fencepost on a vkms device whose plugs the test pulls, configured
//! by wlr-randr and kanshi.

use std::{fs, thread::sleep, time::Duration};

use crate::harness::{Session, next_id, wait_until};
use crate::rack::{MODE, Rack, run};

impl Rack {
    /// Plugs a display in, or pulls its plug.
    fn plug(&self, index: usize, plugged: bool) {
        let status = self.folder.join(format!("connectors/connector{index}/status"));
        fs::write(status, if plugged { "1" } else { "2" }).expect("a plug");
    }

    /// How many displays are driven at the moment.
    fn lit(&self) -> usize {
        let connectors = fs::read_dir(format!("/sys/class/drm/{}", self.card)).expect("the device");
        let enabled = |entry: std::io::Result<fs::DirEntry>| {
            let path = entry.expect("an entry").path().join("enabled");
            fs::read_to_string(path).is_ok_and(|text| text.trim() == "enabled")
        };
        connectors.map(enabled).filter(|enabled| *enabled).count()
    }

    pub(crate) fn session(&self, arguments: &[&str]) -> Session {
        let device = self.device();
        let session = Session::start(&[&["--device", &device][..], &MODE, arguments].concat());
        wait_until("all displays are lit", || self.lit() == self.displays);
        session
    }
}

fn fds(session: &Session) -> usize {
    fs::read_dir(format!("/proc/{}/fd", session.pid())).expect("the compositor").count()
}

/// The names of the heads that wlr-randr lists, and whether each is enabled.
fn heads(session: &Session) -> Vec<(String, bool)> {
    let text = run(&mut session.command("wlr-randr"));
    let mut heads: Vec<(String, bool)> = Vec::new();
    for line in text.lines() {
        if !line.starts_with(' ') {
            heads.push((line.split(' ').next().expect("a word").to_owned(), false));
        } else if line.trim() == "Enabled: yes" {
            heads.last_mut().expect("a head").1 = true;
        }
    }
    heads
}

const CLIENTS: [[&str; 3]; 2] = [
    ["--sync=explicit", "--source=heap", "--size=160x120"],
    ["--sync=implicit", "--source=heap", "--size=160x120"],
];

#[test]
fn a_hundred_plugs_and_unplugs_hurt_no_client_and_leave_nothing_behind() {
    let rack = Rack::new(2);
    let session = rack.session(&[]);
    let clients = CLIENTS.map(|arguments| session.client(&arguments));
    let mut before = None;
    for cycle in 0..100 {
        let index = cycle % 2;
        rack.plug(index, false);
        // Every tenth time nothing is left.
        let none = cycle % 10 == 9;
        if none {
            rack.plug(1 - index, false);
        }
        // Half of the plugs are back before the compositor can have looked.
        if cycle % 4 < 2 {
            wait_until("it is dark", || rack.lit() == usize::from(!none));
        }
        rack.plug(index, true);
        rack.plug(1 - index, true);
        wait_until("both are lit", || rack.lit() == 2);
        if cycle == 20 {
            before = Some(fds(&session));
        }
    }
    let before = before.expect("a number");
    // The globals of outputs that have gone are there for a while.
    wait_until("all but a few file descriptors are given back", || fds(&session) <= before + 6);
    for client in clients {
        let report = client.end();
        report.expect_clean();
        assert!(report.number("presented") > 20, "{report:?}");
        assert!(report.number("released") + 1 >= report.number("committed"), "{report:?}");
    }
    session.end();
}

#[test]
fn modes_scales_and_transforms_change_under_load() {
    let rack = Rack::new(1);
    let session = rack.session(&[]);
    let clients = CLIENTS.map(|arguments| session.client(&arguments));
    let name = heads(&session).remove(0).0;
    let changes: [&[&str]; 6] = [
        &["--mode", "800x600"],
        &["--scale", "1.5"],
        &["--transform", "90"],
        &["--mode", "640x480", "--scale", "2"],
        &["--transform", "flipped-270"],
        &["--scale", "1", "--transform", "normal"],
    ];
    let mut before = None;
    for round in 0..5 {
        for change in changes {
            run(session.command("wlr-randr").args(["--output", &name]).args(change));
            sleep(Duration::from_millis(300));
        }
        if round == 1 {
            before = Some(fds(&session));
        }
    }
    let (before, after) = (before.expect("a number"), fds(&session));
    assert!(after <= before + 4, "{before} file descriptors became {after}");
    let text = run(&mut session.command("wlr-randr"));
    let current = text.lines().find(|line| line.contains("current")).expect("a current mode");
    assert!(current.contains("640x480"), "{text}");
    for client in clients {
        let report = client.end();
        report.expect_clean();
        assert!(report.number("presented") > 20, "{report:?}");
    }
    session.end();
}

#[test]
fn a_display_is_switched_off_and_on_by_a_client_and_the_last_one_too() {
    let rack = Rack::new(2);
    let session = rack.session(&[]);
    let client = session.client(&CLIENTS[0]);
    let names: Vec<_> = heads(&session).into_iter().map(|(name, _)| name).collect();
    let switch = |name: &str, how: &str| run(session.command("wlr-randr").args(["--output", name, how]));
    switch(&names[1], "--off");
    wait_until("one is dark", || rack.lit() == 1);
    switch(&names[0], "--off");
    wait_until("both are dark", || rack.lit() == 0);
    assert_eq!(heads(&session).into_iter().map(|(_, on)| on).collect::<Vec<_>>(), [false, false]);
    switch(&names[1], "--on");
    switch(&names[0], "--on");
    wait_until("both are lit", || rack.lit() == 2);
    sleep(Duration::from_secs(2));
    client.end().expect_clean();
    session.end();
}

#[test]
fn a_mode_that_the_display_does_not_list_is_made_and_one_that_cannot_be_changes_nothing() {
    let rack = Rack::new(1);
    let session = rack.session(&[]);
    let client = session.client(&CLIENTS[0]);
    let name = heads(&session).remove(0).0;
    let custom = |mode: &str| {
        let set = session.command("wlr-randr").args(["--output", &name, "--custom-mode", mode]).status();
        set.expect("wlr-randr").success()
    };
    assert!(custom("648x486@20Hz"));
    let before = run(&mut session.command("wlr-randr"));
    let current = before.lines().find(|line| line.contains("current")).expect("a current mode");
    // Its clock is in whole kHz.
    assert!(current.contains("648x486 px, 20.00"), "{before}");
    assert!(!custom("60000x60000@60Hz"), "no framebuffer is as large");
    assert_eq!(run(&mut session.command("wlr-randr")), before);
    // Its place is nothing to the kernel, and the mode stays.
    run(session.command("wlr-randr").args(["--output", &name, "--scale", "2"]));
    let after = run(&mut session.command("wlr-randr"));
    assert!(after.lines().any(|line| line == current), "{after}");
    client.end().expect_clean();
    session.end();
}

#[test]
fn kanshi_arranges_the_displays_that_it_finds() {
    let rack = Rack::new(2);
    let session = rack.session(&[]);
    let names: Vec<_> = heads(&session).into_iter().map(|(name, _)| name).collect();
    let config = std::env::temp_dir().join(format!("kanshi-{}", next_id()));
    let text = format!(
        "profile both {{\n output {} enable position 0,480\n output {} enable position 0,0 scale 2\n}}\nprofile one {{\n output {} enable scale 3\n}}\n",
        names[0], names[1], names[0]
    );
    fs::write(&config, text).expect("a configuration");
    let kanshi = session.foreign("kanshi", &["--config", &config.to_string_lossy()]);
    let says = |wanted: &str| run(&mut session.command("wlr-randr")).contains(wanted);
    wait_until("kanshi has arranged both", || says("Position: 0,480") && says("Scale: 2.000000"));
    rack.plug(1, false);
    wait_until("kanshi has arranged the one that is left", || says("Scale: 3.000000"));
    rack.plug(1, true);
    wait_until("kanshi has arranged both again", || says("Position: 0,480") && says("Scale: 2.000000"));
    kanshi.end();
    session.end();
}
