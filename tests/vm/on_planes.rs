//! Poison, where planes show what a client has drawn: its buffer on the primary plane or on an overlay, and the pointer's image,
//! which is never a client's buffer but drawn from it, on the pointer's.
//!
//! With explicit sync: of an implicit client's buffer the kernel itself waits for the fences.

use std::{collections::BTreeMap, fs};

use crate::{
    Flaw, Pictures,
    harness::{Record, Report},
};

/// What was seen of a client.
#[derive(Debug)]
struct Seen {
    pictures: usize,
    poisoned: usize,
    /// The first thing that was wrong with any of them.
    flaw: Option<Flaw>,
    /// At the end the pointer was on a plane.
    pointed: bool,
    report: Report,
    record: Record,
}

/// Pictures of a client of this kind, until so many have been seen, or were poisoned. Its fences are late by so much that most of
/// them pend while vkms reads its planes, which is long after the commit.
fn see(client: &[&str], arguments: &[&str], pictures: usize, poisoned: usize) -> Seen {
    let (session, mut from) = Pictures::of_session(arguments);
    let late = ["--sync=explicit", "--source=heap", "--buffers=2", "--fence-ms=500", "--fence-random"];
    let client = session.client(&[&late, client].concat());
    let (mut seen, mut bad, mut first, mut newest) = (0, 0, None, BTreeMap::new());
    while seen < pictures && bad < poisoned {
        let (_, flaw) = from.next(&mut newest);
        seen += 1;
        bad += usize::from(matches!(flaw, Some(Flaw::Poison { .. })));
        first = first.or(flaw);
    }
    let pointed = is_pointer_on_a_plane();
    let drain = from.drain();
    let report = client.end();
    let record = session.end();
    drain.join().expect("drain");
    Seen { pictures: seen, poisoned: bad, flaw: first, pointed, report, record }
}

/// How many pictures are looked at.
const PICTURES: usize = 100;

/// In how many of them a client's buffer may have been on no plane: before the client has come, and once it has gone.
const OTHERS: u64 = 15;

impl Seen {
    /// How many commits had no client's buffer on a plane.
    fn without(&self) -> u64 {
        self.record.of_output("commits") - self.record.of_output("scanned_out")
    }

    fn expect_clean(&self) {
        assert_eq!(self.flaw, None, "{self:?}");
        assert_eq!(self.pictures, PICTURES);
        self.report.expect_clean();
    }
}

/// Whether a plane of any device has a picture of the size that those of the pointer have.
fn is_pointer_on_a_plane() -> bool {
    let devices = fs::read_dir("/sys/kernel/debug/dri").expect("debugfs");
    let mut states = devices.filter_map(|device| fs::read_to_string(device.ok()?.path().join("state")).ok());
    states.any(|state| state.contains("size=256x256"))
}

/// Nothing of a client's buffer on a plane is poisoned, unless a rule is broken.
fn on_a_plane(client: &[&str]) {
    let seen = see(client, &[], PICTURES, 1);
    seen.expect_clean();
    assert!(seen.without() <= OTHERS, "{seen:?}");
    for rule in ["acquire", "release-used"] {
        let seen = see(client, &["--break-rule", rule], 3 * PICTURES, 2 * OTHERS as usize);
        // More than those of which it may have been composed.
        assert!(seen.poisoned as u64 > seen.without(), "{rule}: {seen:?}");
    }
}

#[test]
fn nothing_is_poisoned_on_an_overlay_plane_unless_a_rule_is_broken() {
    on_a_plane(&["--size=160x120"]);
}

#[test]
fn nothing_is_poisoned_on_the_primary_plane_unless_a_rule_is_broken() {
    on_a_plane(&["--size=640x480", "--fullscreen"]);
}

#[test]
fn nothing_is_poisoned_on_the_pointers_plane_unless_a_rule_is_broken() {
    let client = ["--size=128x96", "--pointer", "--fullscreen"];
    let seen = see(&client, &[], PICTURES, 1);
    seen.expect_clean();
    assert!(seen.pointed && seen.report.number("presented") >= 50, "{seen:?}");
    for rule in ["acquire", "release-used"] {
        let seen = see(&client, &["--break-rule", rule], 3 * PICTURES, 1);
        assert!(seen.poisoned == 1 && seen.pointed, "{rule}: {seen:?}");
    }
}
