//! A vkms device that the test makes, plugs displays into and takes away again.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{next_id, wait_until};

/// Small: every pixel is drawn by an emulated processor.
pub(crate) const MODE: [&str; 2] = ["--mode", "640x480"];

/// A vkms device of our own, with as many CRTCs as displays.
pub(crate) struct Rack {
    pub(crate) folder: PathBuf,
    pub(crate) card: String,
    pub(crate) displays: usize,
}

impl Rack {
    pub(crate) fn new(displays: usize) -> Self {
        let root = Path::new("/sys/kernel/config");
        if !root.join("vkms").exists() {
            run(Command::new("mount").args(["-t", "configfs", "none"]).arg(root));
        }
        let folder = root.join("vkms").join(format!("rack{}", next_id()));
        let make = |path: &str| {
            let path = folder.join(path);
            fs::create_dir(&path).expect("a folder of configfs");
            path
        };
        let cards = cards();
        make("");
        for index in 0..displays {
            let plane = make(&format!("planes/plane{index}"));
            let crtc = make(&format!("crtcs/crtc{index}"));
            let encoder = make(&format!("encoders/encoder{index}"));
            let connector = make(&format!("connectors/connector{index}"));
            fs::write(plane.join("type"), "1").expect("a primary plane");
            symlink(&crtc, plane.join("possible_crtcs/crtc")).expect("a link");
            symlink(&crtc, encoder.join("possible_crtcs/crtc")).expect("a link");
            symlink(&encoder, connector.join("possible_encoders/encoder")).expect("a link");
        }
        fs::write(folder.join("enabled"), "1").expect("a device");
        let card = cards_now(|new| !cards.contains(new));
        Self { folder, card, displays }
    }

    pub(crate) fn device(&self) -> String {
        format!("/dev/dri/{}", self.card)
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        // In the order in which configfs lets them go; a test that failed may have left the device in use.
        drop(fs::write(self.folder.join("enabled"), "0"));
        for index in 0..self.displays {
            for link in [
                format!("connectors/connector{index}/possible_encoders/encoder"),
                format!("encoders/encoder{index}/possible_crtcs/crtc"),
                format!("planes/plane{index}/possible_crtcs/crtc"),
            ] {
                drop(fs::remove_file(self.folder.join(link)));
            }
            for kind in ["connector", "encoder", "crtc", "plane"] {
                drop(fs::remove_dir(self.folder.join(format!("{kind}s/{kind}{index}"))));
            }
        }
        drop(fs::remove_dir(&self.folder));
    }
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("a command");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text
}

fn cards() -> Vec<String> {
    let entries = fs::read_dir("/dev/dri").expect("devices");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("card")).collect()
}

fn cards_now(wanted: impl Fn(&String) -> bool) -> String {
    let mut found = None;
    wait_until("there is a device", || {
        found = cards().into_iter().find(&wanted);
        found.is_some()
    });
    found.expect("a device")
}
