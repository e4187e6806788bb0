//! Devices that are taken away from under the compositor: a vkms device of our own, and the GPU.
//!
//! The GPU is taken away once in a boot: bound again, its emulation ends the whole guest when it is used.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod harness;
mod rack;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Client, Session, next_id, wait_for_commits, wait_until};
use crate::rack::{MODE, Rack};

/// More than a client has buffers.
const FRAMES: usize = 8;

const RENDER_NODE: &str = "/dev/dri/renderD128";
const DRIVER: &str = "/sys/bus/virtio/drivers/virtio_gpu";

impl Rack {
    /// Takes the whole device away, as when its driver is unbound.
    fn remove(&self) {
        fs::write(self.folder.join("enabled"), "0").expect("a device that goes");
    }
}

/// Unbinds the driver of the GPU, for the rest of this boot.
fn remove_gpu() {
    let entries = fs::read_dir(DRIVER).expect("the driver's devices");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let device = names.into_iter().find(|name| name.starts_with("virtio")).expect("a virtio GPU");
    fs::write(format!("{DRIVER}/unbind"), &device).expect("unbind");
    wait_until("the GPU is gone", || !Path::new(RENDER_NODE).exists());
}

/// What a session writes while it runs.
struct Written {
    log: PathBuf,
    trace: PathBuf,
}

impl Written {
    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }

    fn wait_for_frames(&self, pids: &[u32]) {
        wait_for_commits(&self.trace, pids, FRAMES);
    }
}

fn session_that_writes(arguments: &[&str]) -> (Session, Written) {
    let file = |kind: &str| PathBuf::from(format!("/run/unplugged-{}.{kind}", next_id()));
    let written = Written { log: file("log"), trace: file("jsonl") };
    let wrapper = format!("exec \"$0\" \"$@\" 2>{}", written.log.display());
    let trace = format!("--trace={}", written.trace.display());
    let arguments: Vec<_> = arguments.iter().copied().chain([&*trace]).collect();
    (Session::under(&["sh", "-c", &wrapper], &arguments), written)
}

/// vkms without the device that it makes of its own accord, which other tests would find.
fn rack() -> Rack {
    modprobe(&["vkms", "create_default_dev=0"]);
    Rack::new(1)
}

fn modprobe(arguments: &[&str]) {
    let status = Command::new("modprobe").args(arguments).status().expect("modprobe");
    assert!(status.success(), "modprobe {arguments:?}: {status}");
}

fn clients(session: &Session) -> [Client; 2] {
    modprobe(&["sw_sync"]);
    ["explicit", "implicit"].map(|sync| {
        session.client(&[&format!("--sync={sync}"), "--source=heap", "--size=160x120", "--fence-ms=200"])
    })
}

/// The compositor ends with a sentence about its device, once, and every buffer that it was given is released.
fn expect_the_end(session: Session, clients: [Client; 2], device: &str, written: &Written) {
    session.wait_for_failure();
    let log = written.log();
    let sentence = format!("fencepost: ended, because the display device {device} is gone");
    assert_eq!(log.lines().filter(|line| *line == sentence).count(), 1, "{log}");
    for client in clients {
        let report = client.wait();
        assert!(report.number("presented") > 0, "{report:?}");
        // A commit that the compositor had not read from the socket was never its to release.
        assert!(report.number("released") + 1 >= report.number("committed"), "{report:?}");
    }
}

#[test]
fn a_display_device_that_is_removed_ends_the_compositor_with_a_sentence_and_every_release() {
    let rack = rack();
    let device = rack.device();
    let (session, written) = session_that_writes(&["--device", &device, MODE[0], MODE[1]]);
    let clients = clients(&session);
    written.wait_for_frames(&clients.each_ref().map(Client::pid));
    rack.remove();
    expect_the_end(session, clients, &device, &written);
}

#[test]
fn a_gpu_that_is_removed_with_its_displays_ends_the_compositor_with_a_sentence_and_every_release() {
    let (session, written) = session_that_writes(&[]);
    let clients = clients(&session);
    written.wait_for_frames(&clients.each_ref().map(Client::pid));
    remove_gpu();
    expect_the_end(session, clients, "/dev/dri/card0", &written);
}

#[test]
fn a_device_of_timelines_that_is_removed_takes_its_clients_along_and_no_other() {
    let rack = rack();
    modprobe(&["sw_sync"]);
    let (session, written) = session_that_writes(&["--device", &rack.device(), MODE[0], MODE[1]]);
    // When it is committed, they wait for their last frame and ask the device nothing meanwhile: they have to be told.
    let explicit = [1, 2].map(|_| {
        session.client(&[
            "--sync=explicit",
            "--source=heap",
            "--size=160x120",
            "--fence-ms=never",
            &format!("--frames={FRAMES}"),
        ])
    });
    let mut other = session.foreign("weston-simple-shm", &[]);
    written.wait_for_frames(&[explicit[0].pid(), explicit[1].pid(), other.pid()]);
    remove_gpu();
    for client in explicit {
        let report = client.wait();
        assert!(report.number("presented") > 0, "{report:?}");
        assert!(
            report.error().contains("the device on which its timelines were imported is gone"),
            "{report:?}"
        );
    }
    let later = session.foreign("weston-simple-shm", &[]);
    written.wait_for_frames(&[later.pid()]);
    assert!(!other.has_ended(), "the client without timelines goes on");
    drop((other, later));
    session.end();
    let log = written.log();
    assert_eq!(log.matches("the device of the clients' timelines is gone").count(), 1, "{log}");
}
