//! What was really scanned out: fencepost on vkms, whose writeback connector gives back every picture that KMS showed.
//!
//! The clients poison every buffer that they own and draw a frame only just before its fence signals. So a poisoned pixel
//! on the screen means that a buffer was read before its acquire fence had signalled, or after its release.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod gpus;
mod harness;
mod hotplug;
mod on_planes;
mod overlay;
mod rack;
mod vsync;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufReader, Read},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use fencepost::client::marker::Frame;
use harness::{Record, Session, have_committed, modprobe};
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
    /// A session whose pictures these are.
    fn of_session(arguments: &[&str]) -> (Session, Self) {
        let pipe = pipe();
        let reader = spawn({
            let pipe = pipe.clone();
            move || BufReader::new(File::open(pipe).expect("the pipe"))
        });
        let session = Session::start(&[&["--mode=640x480", "--writeback", &pipe], arguments].concat());
        let pipe = reader.join().expect("the pipe");
        (session, Self { pipe, bytes: Vec::new(), pixels: Vec::new(), last: 0 })
    }

    /// Reads on until the session ends, which it could not otherwise.
    fn drain(mut self) -> JoinHandle<()> {
        spawn(move || {
            std::io::copy(&mut self.pipe, &mut std::io::sink()).expect("the rest of the pictures");
        })
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

/// A named pipe for pictures.
fn pipe() -> String {
    let pipe = format!("/run/pictures-{}", harness::next_id());
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    pipe
}

/// A file for a trace.
fn new_trace() -> String {
    format!("/run/oracle-{}.jsonl", harness::next_id())
}

/// Runs an explicit and an implicit client with random late fences until `enough` says so of the pictures so far.
fn watch(arguments: &[&str], enough: impl FnMut(usize, Option<Flaw>) -> bool) -> Vec<harness::Report> {
    watch_sizes(["160x120"; 2], arguments, None, |_, _| {}, enough).0
}

/// As [`watch`], with clients of a compositor that is a window of the one whose pictures they are, and has these arguments.
fn watch_window(window: &[&str], enough: impl FnMut(usize, Option<Flaw>) -> bool) -> Vec<harness::Report> {
    watch_sizes(["160x120"; 2], &[], Some(window), |_, _| {}, enough).0
}

/// Set also when a picture has ended the test: a scope waits for all that it has started.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// As [`watch`], with clients of these sizes, in a window if there is to be one. `meanwhile` runs beside them until it is told
/// to stop.
fn watch_sizes(
    sizes: [&str; 2],
    arguments: &[&str],
    window: Option<&[&str]>,
    meanwhile: impl Fn(&Session, &AtomicBool) + Sync,
    mut enough: impl FnMut(usize, Option<Flaw>) -> bool,
) -> (Vec<harness::Report>, Record) {
    ["sw_sync", "vgem"].into_iter().for_each(modprobe);
    let (session, mut pictures) = Pictures::of_session(arguments);
    let window = window.map(|window| session.nested(&[&["--mode=480x360"], window].concat()));
    let clients = [("explicit", sizes[0]), ("implicit", sizes[1])].map(|(sync, size)| {
        let (sync, size) = (format!("--sync={sync}"), format!("--size={size}"));
        window.as_ref().unwrap_or(&session).client(&[
            &sync,
            "--source=heap",
            &size,
            "--buffers=2",
            "--fence-ms=80",
            "--fence-random",
        ])
    });
    let (mut newest, mut seen) = (BTreeMap::new(), 0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| meanwhile(&session, &stop));
        let _stop = SetAtEnd(&stop);
        loop {
            let (_, flaw) = pictures.next(&mut newest);
            seen += 1;
            if enough(seen, flaw) {
                break;
            }
        }
    });
    let drain = pictures.drain();
    let reports = clients.map(harness::Client::end).into_iter().collect();
    window.map(Session::end);
    let record = session.end();
    drain.join().expect("drain");
    (reports, record)
}

/// Looks at a picture, after so many: whether that is enough.
type Look<'a> = &'a mut dyn FnMut(usize, Option<Flaw>) -> bool;

/// None of so many pictures is poisoned or goes back, and no client has anything to complain about, nor fewer frames than said.
fn expect_no_flaw(pictures: usize, presented: u64, watch: impl FnOnce(Look<'_>) -> Vec<harness::Report>) {
    let mut shown = 0;
    let reports = watch(&mut |seen, flaw| {
        assert_eq!(flaw, None, "picture {seen}");
        shown = seen;
        seen >= pictures
    });
    assert_eq!(shown, pictures);
    for report in reports {
        report.expect_clean();
        assert!(report.number("presented") >= presented, "{report:?}");
    }
}

/// Whether poison is seen in as many pictures as are looked at where there should be none.
fn is_poison_seen(watch: impl FnOnce(Look<'_>) -> Vec<harness::Report>) -> bool {
    let mut noticed = false;
    watch(&mut |seen, flaw| {
        noticed |= matches!(flaw, Some(Flaw::Poison { .. }));
        noticed || seen >= PICTURES
    });
    noticed
}

const PICTURES: usize = 500;

#[test]
fn nothing_that_was_scanned_out_is_poisoned_or_older_than_what_was_shown_before() {
    expect_no_flaw(PICTURES, 100, |look| watch(&[], look));
}

/// Two levels of compositors: what the inner one waits for, and what it gives back, is what the outer one's screen shows.
#[test]
fn nothing_that_a_window_shows_is_poisoned_or_older_than_what_it_showed_before() {
    expect_no_flaw(150, 20, |look| watch_window(&[], look));
}

#[test]
fn a_window_that_does_not_wait_for_acquire_fences_is_noticed() {
    assert!(is_poison_seen(|look| watch_window(&["--break-rule", "acquire"], look)), "no poison");
}

/// A window of the CPU's comes and goes above a client that fills the screen, which is composed while it is there, and
/// scanned out while it is not. The pointer and the second client have planes of their own.
#[test]
fn nothing_is_poisoned_while_buffers_change_between_planes_and_composition() {
    const PICTURES: usize = 250;
    /// Pictures in which the window is there, or is not, and how often it comes and goes.
    const EACH: usize = 20;
    const TIMES: usize = 2;
    let trace = new_trace();
    let (pictures, times) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let come_and_go = |session: &Session, stop: &AtomicBool| {
        let until = |so: &dyn Fn() -> bool| {
            while !stop.load(Ordering::Relaxed) && !so() {
                sleep(Duration::from_millis(200));
            }
        };
        let some_pictures = || {
            let before = pictures.load(Ordering::Relaxed);
            until(&|| pictures.load(Ordering::Relaxed) >= before + EACH);
        };
        while !stop.load(Ordering::Relaxed) {
            let window = session.foreign("weston-simple-shm", &[]);
            until(&|| have_committed(trace.as_ref(), &[window.pid()], 8));
            some_pictures();
            window.end();
            some_pictures();
            times.fetch_add(1, Ordering::Relaxed);
        }
    };
    let arguments = ["--trace", &trace];
    let (reports, record) =
        watch_sizes(["640x480", "160x120"], &arguments, None, come_and_go, |seen, flaw| {
            assert_eq!(flaw, None, "picture {seen}");
            assert!(seen < 20 * PICTURES, "the window does not come and go");
            pictures.store(seen, Ordering::Relaxed);
            seen >= PICTURES && times.load(Ordering::Relaxed) >= TIMES
        });
    // The small window may be behind the large one.
    let went_both_ways = |report: &&harness::Report| {
        let (shown, scanned_out) = (report.number("presented"), report.number("zero_copy"));
        scanned_out >= 10 && scanned_out < shown
    };
    assert!(reports.iter().any(|report| went_both_ways(&report)), "{reports:?}");
    for report in &reports {
        // A buffer that is composed between two scan-outs is back before the next frame. Its client cannot know that; whether
        // it was too early, the pictures have said.
        report.expect_clean_but_for("was scanned out and released");
    }
    assert!(record.of_output("passes") < record.of_output("commits"), "{record:?}");
}

/// Windows of these sizes, whose buffers are upright.
const UPRIGHT: [(&str, u32); 4] = [("640x480", 0), ("200x150", 0), ("160x120", 0), ("300x100", 0)];

/// The picture that the screen comes to rest with when windows of these sizes, whose buffers are turned as said, have stopped
/// at a frame, and how many buffers were scanned out.
fn still_life(arguments: &[&str], windows: &[(&str, u32)]) -> (Vec<u8>, u64) {
    modprobe("sw_sync");
    let pipe = pipe();
    let newest = Arc::new(Mutex::new((Instant::now(), Vec::new(), 0)));
    let reader = spawn({
        let (pipe, newest) = (pipe.clone(), Arc::clone(&newest));
        move || {
            let mut pipe = BufReader::new(File::open(pipe).expect("the pipe"));
            let mut header = [0; 16];
            while pipe.read_exact(&mut header).is_ok() {
                let mut pixels = vec![0; 640 * 480 * 4];
                pipe.read_exact(&mut pixels).expect("pixels");
                // The fourth byte of XRGB8888 is nobody's.
                pixels.chunks_exact_mut(4).for_each(|pixel| pixel[3] = 0);
                let mut newest = newest.lock().expect("lock");
                *newest = (Instant::now(), pixels, newest.2 + 1);
            }
        }
    });
    let session = Session::start(&[&["--mode=640x480", "--writeback", &pipe], arguments].concat());
    let stop = |(size, transform): &(&str, u32)| {
        let (size, transform) = (format!("--size={size}"), format!("--buffer-transform={transform}"));
        let seen = newest.lock().expect("lock").2;
        let client = session.client(&[
            "--sync=explicit",
            "--source=heap",
            &size,
            &transform,
            "--frames=5",
            "--fence-ms=never",
            "--busy-limit-s=600",
        ]);
        sleep(Duration::from_secs(2));
        // On a slow machine the window's first picture takes its time.
        harness::wait_until("the picture with the window stands still", || {
            let newest = newest.lock().expect("lock");
            newest.2 > seen && newest.0.elapsed() > Duration::from_secs(6)
        });
        client
    };
    let stopped: Vec<_> = windows.iter().map(stop).collect();
    let picture = newest.lock().expect("lock").1.clone();
    drop(stopped);
    let scanned_out = session.end().of_output("scanned_out");
    reader.join().expect("the reader");
    (picture, scanned_out)
}

#[test]
fn planes_show_pixel_by_pixel_what_composition_shows() {
    planes_show_what_composition_shows(&[], &UPRIGHT, 1);
}

/// So many buffers have to be scanned out, at least.
fn planes_show_what_composition_shows(arguments: &[&str], windows: &[(&str, u32)], least: u64) {
    let [none, some] = show_the_same([&[arguments, &["--no-planes"]].concat(), arguments], windows);
    assert_eq!(none, 0);
    assert!(some >= least, "{some} scanned out");
}

/// The windows look the same with these arguments and with those, pixel by pixel. Gives how many buffers were scanned out with
/// each.
fn show_the_same(arguments: [&[&str]; 2], windows: &[(&str, u32)]) -> [u64; 2] {
    let [(one, on_planes), (other, on_others)] = arguments.map(|arguments| still_life(arguments, windows));
    let differ = one.chunks_exact(4).zip(other.chunks_exact(4)).filter(|(a, b)| a != b).count();
    assert_eq!(differ, 0, "pixels differ");
    assert_eq!([one.len(), other.len()], [640 * 480 * 4; 2]);
    [on_planes, on_others]
}

/// An output that is mounted like this, and what fills it first.
fn on_a_turned_output(transform: &str, windows: &[(&str, u32)]) {
    // Connectors are counted over all devices.
    let rule = |number| format!("[[output]]\nname = \"Virtual-{number}\"\ntransform = \"{transform}\"\n");
    let file = format!("/run/turned-{}.toml", harness::next_id());
    fs::write(&file, (1..=4).map(rule).collect::<String>()).expect("a configuration");
    // Each window shows a few frames by itself, and the first goes on being shown with those of the second.
    let least = 5 * windows.len() as u64;
    planes_show_what_composition_shows(&["--config", &file], windows, least);
}

#[test]
fn planes_show_buffers_that_are_turned_as_their_output_is() {
    on_a_turned_output("90", &[("640x480", 1), ("150x200", 1)]);
}

#[test]
fn planes_turn_buffers_for_a_turned_output() {
    on_a_turned_output("90", &[("480x640", 0), ("200x150", 0)]);
}

#[test]
fn planes_mirror_and_turn_buffers_for_a_mirrored_output() {
    on_a_turned_output("flipped-90", &[("640x480", 3), ("150x200", 4)]);
}

/// Whether the oracle sees that fencepost breaks a rule. Composed: what is drawn is read at once, while vkms reads its planes so
/// much later that a fence of this lateness has mostly signalled.
fn is_noticed(rule: &str) -> bool {
    is_poison_seen(|look| watch(&["--no-planes", "--break-rule", rule], look))
}

#[test]
fn a_compositor_that_does_not_wait_for_acquire_fences_is_noticed() {
    assert!(is_noticed("acquire"), "no poison");
}

#[test]
fn a_compositor_that_releases_too_early_is_noticed() {
    assert!(is_noticed("release"), "no poison");
}
