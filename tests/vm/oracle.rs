//! What was really scanned out: fencepost on vkms, whose writeback connector gives back every picture that KMS showed.
//!
//! The clients poison every buffer that they own and draw a frame only just before its fence signals. So a poisoned pixel
//! on the screen means that a buffer was read before its acquire fence had signalled, or after its release.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod harness;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read},
    process::Command,
};

use fencepost::client::marker::Frame;
use harness::{PATIENCE, Session};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// The pictures of an output, oldest first.
struct Pictures {
    pipe: BufReader<File>,
    bytes: Vec<u8>,
    pixels: Vec<u32>,
    last: u64,
}

/// What was wrong with a picture.
#[derive(Debug, PartialEq)]
enum Flaw {
    Poison { picture: u64, pixels: usize, at: (u32, u32) },
    WentBack { picture: u64, at: (u32, u32), from: u32, to: u32 },
}

impl Pictures {
    fn open(path: &str) -> Self {
        let pipe = BufReader::new(File::open(path).expect("the pipe"));
        Self { pipe, bytes: Vec::new(), pixels: Vec::new(), last: 0 }
    }

    fn word<const N: usize>(&mut self) -> [u8; N] {
        let mut word = [0; N];
        self.pipe.read_exact(&mut word).expect("a picture");
        word
    }

    /// The next picture: its number and what is wrong with it. `newest` has the newest frame seen of each client, by the
    /// place of its marker.
    fn next(&mut self, newest: &mut BTreeMap<(u32, u32), u32>) -> (u64, Option<Flaw>) {
        let number = u64::from_le_bytes(self.word());
        assert!(number > self.last, "picture {number} after {}", self.last);
        self.last = number;
        let (width, height) = (u32::from_le_bytes(self.word()), u32::from_le_bytes(self.word()));
        self.bytes.resize(width as usize * height as usize * 4, 0);
        self.pipe.read_exact(&mut self.bytes).expect("pixels");
        let pixels = self.bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], 0]));
        self.pixels.clear();
        self.pixels.extend(pixels);
        let frame = Frame { pixels: &self.pixels, width, stride: width, height };
        if let (pixels, Some(at)) = frame.poison() {
            return (number, Some(Flaw::Poison { picture: number, pixels, at }));
        }
        // Windows stand still, so markers are looked for on the whole screen only until both have been found.
        let found: Vec<_> = match newest.len() {
            0 | 1 => frame.find_markers(),
            _ => newest.keys().filter_map(|&(x, y)| Some((x, y, frame.counter_at(x, y)?))).collect(),
        };
        for (x, y, counter) in found {
            if let Some(from) = newest.insert((x, y), counter).filter(|from| *from > counter) {
                return (number, Some(Flaw::WentBack { picture: number, at: (x, y), from, to: counter }));
            }
        }
        (number, None)
    }
}

/// Runs an explicit and an implicit client with random late fences until `enough` says so of the pictures so far.
fn watch(arguments: &[&str], mut enough: impl FnMut(usize, Option<Flaw>) -> bool) -> Vec<harness::Report> {
    for module in ["sw_sync", "vgem"] {
        assert!(Command::new("modprobe").arg(module).status().expect("modprobe").success(), "{module}");
    }
    let pipe = format!("/run/pictures-{}", harness::next_id());
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || Pictures::open(&pipe)
    });
    let session = Session::start(&[&["--mode=640x480", "--writeback", &pipe], arguments].concat());
    let clients = ["explicit", "implicit"].map(|sync| {
        let sync = format!("--sync={sync}");
        session.client(&[
            &sync,
            "--source=heap",
            "--size=160x120",
            "--buffers=2",
            "--fence-ms=80",
            "--fence-random",
        ])
    });
    let mut pictures = reader.join().expect("pictures");
    let (mut newest, mut seen) = (BTreeMap::new(), 0);
    loop {
        let (_, flaw) = pictures.next(&mut newest);
        seen += 1;
        if enough(seen, flaw) {
            break;
        }
    }
    // The pipe has to be read on, or the compositor could not end.
    let drain = std::thread::spawn(move || std::io::copy(&mut pictures.pipe, &mut std::io::sink()));
    let reports = clients.map(harness::Client::end).into_iter().collect();
    session.end();
    drain.join().expect("drain").expect("the rest of the pictures");
    reports
}

#[test]
fn nothing_that_was_scanned_out_is_poisoned_or_older_than_what_was_shown_before() {
    const PICTURES: usize = 500;
    let mut shown = 0;
    let reports = watch(&[], |seen, flaw| {
        assert_eq!(flaw, None, "picture {seen}");
        shown = seen;
        seen >= PICTURES
    });
    assert_eq!(shown, PICTURES);
    for report in reports {
        report.expect_clean();
        assert!(report.number("presented") >= 100, "{report:?}");
    }
}

/// Whether the oracle sees that fencepost breaks a rule, within as many pictures as it looks at above.
fn is_noticed(rule: &str) -> bool {
    let mut noticed = false;
    watch(&["--break-rule", rule], |seen, flaw| {
        noticed |= matches!(flaw, Some(Flaw::Poison { .. }));
        noticed || seen >= 500
    });
    noticed
}

#[test]
fn a_compositor_that_does_not_wait_for_acquire_fences_is_noticed() {
    assert!(is_noticed("acquire"), "no poison within {PATIENCE:?}");
}

#[test]
fn a_compositor_that_releases_too_early_is_noticed() {
    assert!(is_noticed("release"), "no poison within {PATIENCE:?}");
}
