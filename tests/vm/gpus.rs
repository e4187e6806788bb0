//! Displays of one device that another draws for.

use std::{fs, path::Path};

use crate::{
    expect_no_flaw,
    harness::{Client, Session, modprobe},
    is_poison_seen, show_the_same, watch,
};

/// Whose drawing stays on the host, where it has a GPU.
const VIRTIO_GPU: &str = "--render-device=/dev/dri/renderD128";

/// In whose buffers a processor draws: any other device can read them.
fn vgem() -> String {
    modprobe("vgem");
    let is_vgem = |card: &String| {
        let device = fs::read_link(Path::new("/sys/class/drm").join(card).join("device"));
        device.is_ok_and(|device| device.ends_with("vgem"))
    };
    let cards = (0..16).map(|number| format!("card{number}"));
    format!("--render-device=/dev/dri/{}", { cards }.find(is_vgem).expect("vgem"))
}

/// The picture is that of the display's own renderer, and has no flaw; gives how many buffers were scanned out for it.
fn draws_as_the_displays_own(render_device: &str) -> u64 {
    const WINDOWS: [(&str, u32); 3] = [("300x200", 0), ("200x150", 0), ("160x120", 0)];
    let [_, scanned_out] = show_the_same([&["--no-planes"], &[render_device]], &WINDOWS);
    expect_no_flaw(150, 20, |look| watch(&[render_device], look));
    scanned_out
}

#[test]
fn what_one_device_draws_in_memory_another_shows_in_place() {
    let scanned_out = draws_as_the_displays_own(&vgem());
    assert!(scanned_out > 0, "no client's buffer has a plane");
}

#[test]
fn what_stays_with_the_device_that_draws_it_is_copied() {
    let scanned_out = draws_as_the_displays_own(VIRTIO_GPU);
    assert_eq!(scanned_out, 0, "what a plane would show of a client's buffer is not what its GPU has drawn");
}

#[test]
fn a_copy_that_does_not_wait_for_acquire_fences_is_noticed() {
    let broken = [VIRTIO_GPU, "--break-rule", "acquire"];
    assert!(is_poison_seen(|look| watch(&broken, look)), "no poison");
}

#[test]
fn clients_of_the_device_that_draws_have_nothing_to_complain_about() {
    let session = Session::start(&["--mode=640x480", VIRTIO_GPU]);
    let foreign = session.foreign("weston-simple-egl", &[]);
    let clients = ["explicit", "implicit"].map(|sync| {
        session.client(&[&format!("--sync={sync}"), "--source=gpu", "--size=200x150", "--frames=60"])
    });
    for report in clients.map(Client::wait) {
        report.expect_clean();
        assert_eq!(report.number("zero_copy"), 0, "{report:?}");
    }
    let pid = foreign.pid();
    foreign.end();
    let record = session.end();
    let presented = record.of(pid)["presented"].as_u64();
    assert!(presented > Some(5), "{record:?}");
}
