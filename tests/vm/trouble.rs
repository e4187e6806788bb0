//! A session in trouble: terminals switched back and forth, the device taken over, fences that are late.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use fencepost::sys::drm_master;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::os::fd::AsFd;
use wayland_client::protocol::wl_output::WlOutput;
use wayland_protocols_wlr::output_power_management::v1::client::zwlr_output_power_manager_v1::ZwlrOutputPowerManagerV1;
use wayland_protocols_wlr::output_power_management::v1::client::zwlr_output_power_v1::Mode as Power;

use crate::chain::Chain;
use crate::fences::SwSync;
use crate::fixture::Log;
use crate::harness::{Session, wait_until};
use crate::session::active_terminal;

const EXPLICIT: [&str; 4] = ["--sync=explicit", "--source=heap", "--size=160x120", "--frames=150"];
const IMPLICIT: [&str; 4] = ["--sync=implicit", "--source=heap", "--size=160x120", "--frames=150"];

fn switch_to(terminal: &str) {
    let number = terminal.trim_start_matches("tty");
    let status = Command::new("busybox").args(["chvt", number]).status().expect("chvt");
    assert!(status.success(), "chvt {number}: {status}");
    wait_until("the terminal is in front", || active_terminal() == terminal);
}

/// That the kernel complains of nothing is seen to by `host.py`, for every test.
#[test]
fn a_storm_of_terminal_switches_loses_no_frame_and_no_buffer() {
    let session = Session::start(&[]);
    let home = active_terminal();
    let clients = [session.client(&EXPLICIT), session.client(&IMPLICIT)];
    sleep(Duration::from_secs(2));
    for round in 0..25 {
        switch_to("tty2");
        switch_to(&home);
        if round % 10 == 9 {
            sleep(Duration::from_millis(500));
        }
    }
    for client in clients {
        let report = client.wait();
        report.expect_clean();
        assert_eq!(report.number("presented") + report.number("discarded"), 150, "{report:?}");
        assert_eq!(report.number("released"), 150, "{report:?}");
    }
    session.end();
}

/// Whether the kernel drives a display of the compositor's card. Those of others are the console's when nobody has them.
fn is_lit() -> bool {
    let card = std::env::var("FENCEPOST_DRM_DEVICE").expect("the card of the guest");
    let card = card.rsplit('/').next().expect("a name").to_owned();
    let connectors = fs::read_dir(format!("/sys/class/drm/{card}")).expect("connectors");
    let enabled = connectors.filter_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.starts_with(&card).then(|| fs::read_to_string(path.join("enabled")))
    });
    enabled.flatten().any(|enabled| enabled.trim() == "enabled")
}

#[test]
fn an_output_that_is_switched_off_behind_another_terminal_is_dark_when_its_own_is_back() {
    let (chain, home) = (Chain::start(&[]), active_terminal());
    let client = &mut chain.app().app.client;
    let (output, manager): (WlOutput, ZwlrOutputPowerManagerV1) = (client.bind(4), client.bind(1));
    let power = manager.get_output_power(&output, &client.handle(), Log::default());
    client.expect_no_error();
    wait_until("the display is lit", is_lit);
    switch_to("tty2");
    power.set_mode(Power::Off);
    client.expect_no_error();
    switch_to(&home);
    wait_until("the display is dark", || !is_lit());
    // The console's terminal lights it.
    switch_to("tty2");
    wait_until("the display is lit by another", is_lit);
    switch_to(&home);
    wait_until("the display is dark again", || !is_lit());
    power.set_mode(Power::On);
    client.expect_no_error();
    wait_until("the display is lit again", is_lit);
    chain.end();
}

/// The compositor's own open file of the card: what is done to it is done to the compositor.
fn card_of(session: &Session) -> (OwnedFd, PathBuf) {
    let process = pidfd_open(Pid::from_raw(session.pid() as i32).expect("a pid"), PidfdFlags::empty());
    let process = process.expect("a pidfd");
    let fds = fs::read_dir(format!("/proc/{}/fd", session.pid())).expect("its fds");
    let found = fds.filter_map(|entry| {
        let entry = entry.ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        let number = entry.file_name().to_str()?.parse().ok()?;
        target.to_str()?.starts_with("/dev/dri/card").then_some((number, target))
    });
    let (number, path) = found.last().expect("a card");
    (pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).expect("its card"), path)
}

#[test]
fn an_output_whose_device_was_taken_over_comes_back_by_itself() {
    let session = Session::start(&[]);
    let (card, path) = card_of(&session);
    let client = session.client(&EXPLICIT);
    for _ in 0..3 {
        sleep(Duration::from_secs(1));
        drm_master::give_up(card.as_fd()).expect("the compositor was master");
        // Who opens it now is its master.
        let other = File::options().read(true).write(true).open(&path).expect("the card");
        assert!(drm_master::set(card.as_fd()).is_err(), "there is another master");
        sleep(Duration::from_millis(1500));
        drop(other);
        drm_master::set(card.as_fd()).expect("nobody else is");
    }
    let report = client.wait();
    report.expect_clean();
    assert_eq!(report.number("presented") + report.number("discarded"), 150, "{report:?}");
    session.end();
}

#[test]
fn a_fence_says_whose_it_is_and_how_far_it_has_come() {
    let mut sw = SwSync::new();
    let (one, two) = (sw.fence(), sw.fence());
    let both = one.merge(&two).expect("merge");
    let text = one.describe().expect("a description");
    assert!(text.contains("sw_sync") && text.ends_with("pending"), "{text}");
    sw.step();
    let text = one.describe().expect("a description");
    assert!(text.ends_with("signalled"), "{text}");
    let text = both.describe().expect("a description");
    assert!(text.ends_with("pending"), "{text}");
}
