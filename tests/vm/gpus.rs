//! Displays of one device that another draws for.

use std::{fs, path::Path, process::Command};

use crate::{
    harness::{Report, Session},
    still_life, until_poison, watch,
};

/// Whose drawing stays on the host, where it has a GPU.
const VIRTIO_GPU: &str = "--render-device=/dev/dri/renderD128";

/// In whose buffers a processor draws: any other device can read them.
fn vgem() -> String {
    assert!(Command::new("modprobe").arg("vgem").status().expect("modprobe").success());
    let is_vgem = |card: &String| {
        let device = fs::read_link(Path::new("/sys/class/drm").join(card).join("device"));
        device.is_ok_and(|device| device.ends_with("vgem"))
    };
    let cards = (0..16).map(|number| format!("card{number}"));
    format!("--render-device=/dev/dri/{}", { cards }.find(is_vgem).expect("vgem"))
}

/// The picture is that of the display's own renderer, pixel by pixel; gives how many buffers were scanned out.
fn shows_the_same(render_device: &str) -> u64 {
    const WINDOWS: [(&str, u32); 3] = [("300x200", 0), ("200x150", 0), ("160x120", 0)];
    let (here, _) = still_life(&["--no-planes"], &WINDOWS);
    let (elsewhere, scanned_out) = still_life(&[render_device], &WINDOWS);
    let differ = here.chunks_exact(4).zip(elsewhere.chunks_exact(4)).filter(|(a, b)| a != b).count();
    assert_eq!((differ, here.len()), (0, elsewhere.len()), "pixels differ");
    scanned_out
}

/// No picture has poison or goes back.
fn shows_no_poison(arguments: &[&str]) -> Vec<Report> {
    const PICTURES: usize = 150;
    let mut shown = 0;
    let reports = watch(arguments, |seen, flaw| {
        assert_eq!(flaw, None, "picture {seen}");
        shown = seen;
        seen >= PICTURES
    });
    assert_eq!(shown, PICTURES);
    for report in &reports {
        report.expect_clean();
        assert!(report.number("presented") >= 20, "{report:?}");
    }
    reports
}

#[test]
fn what_one_device_draws_in_memory_another_shows_in_place() {
    let scanned_out = shows_the_same(&vgem());
    assert!(scanned_out > 0, "no client's buffer has a plane");
    shows_no_poison(&[&vgem()]);
}

#[test]
fn what_stays_with_the_device_that_draws_it_is_copied() {
    let scanned_out = shows_the_same(VIRTIO_GPU);
    assert_eq!(scanned_out, 0, "what a plane would show of a client's buffer is not what its GPU has drawn");
    shows_no_poison(&[VIRTIO_GPU]);
}

#[test]
fn a_copy_that_does_not_wait_for_acquire_fences_is_noticed() {
    let mut noticed = false;
    watch(&[VIRTIO_GPU, "--break-rule", "acquire"], until_poison(&mut noticed));
    assert!(noticed, "no poison");
}

#[test]
fn clients_of_the_device_that_draws_have_nothing_to_complain_about() {
    let session = Session::start(&["--mode=640x480", VIRTIO_GPU]);
    let foreign = session.foreign("weston-simple-egl", &[]);
    let clients = ["explicit", "implicit"].map(|sync| {
        session.client(&[&format!("--sync={sync}"), "--source=gpu", "--size=200x150", "--frames=60"])
    });
    for report in clients.map(crate::harness::Client::wait) {
        report.expect_clean();
        assert_eq!(report.number("zero_copy"), 0, "{report:?}");
    }
    let pid = foreign.pid();
    foreign.end();
    let record = session.end();
    let presented = record.of(pid)["presented"].as_u64();
    assert!(presented > Some(5), "{record:?}");
}
