//! fencepost as a window of another compositor: dma-bufs and fences over two levels.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::fake_parent::{FakeParent, Manners};
use crate::harness::{Client, Process, Session, next_id, wait_until};

/// Frames of each client.
const FRAMES: u64 = 40;

/// A client that draws with the GPU, and one whose fences come late.
fn two_clients_of(session: &Session) -> [Client; 2] {
    let client = |arguments: [&str; 4]| session.client(&[&arguments[..], &["--frames=40"]].concat());
    [
        client(["--sync=explicit", "--source=gpu", "--size=320x240", "--buffers=3"]),
        client(["--sync=explicit", "--source=heap", "--size=160x120", "--fence-ms=50"]),
    ]
}

/// Every frame is shown or superseded, and every buffer comes back.
#[track_caller]
fn expect_frames(clients: [Client; 2]) {
    for report in clients.map(Client::wait) {
        report.expect_clean();
        assert_eq!(report.number("released"), FRAMES, "{report:?}");
        assert_eq!(report.number("presented") + report.number("discarded"), FRAMES, "{report:?}");
        assert!(report.number("presented") > 0, "{report:?}");
    }
}

/// Neither that frames go by shared memory, nor that a fence could not be handed over.
#[track_caller]
fn expect_no_warning(nested: &Session) {
    let said = nested.said();
    assert!(!said.contains("WARN fencepost"), "{said}");
}

#[test]
fn explicit_sync_goes_through_two_levels_of_fencepost() {
    let outer = Session::start(&["--mode=640x480"]);
    let inner = outer.nested(&["--mode=480x360"]);
    let pid = inner.pid();
    expect_frames(two_clients_of(&inner));
    expect_no_warning(&inner);
    inner.end();
    let record = outer.end();
    let nested = record.of(pid);
    assert!(nested["commits"]["explicit"].as_u64() > Some(10), "{nested:#}");
    for other in ["implicit", "shm"] {
        assert_eq!(nested["commits"][other].as_u64(), None, "{nested:#}");
    }
}

#[test]
fn explicit_sync_goes_through_three_levels_of_fencepost() {
    let outer = Session::start(&["--mode=640x480"]);
    let middle = outer.nested(&["--mode=480x360"]);
    let inner = middle.nested(&["--mode=400x300"]);
    let pids = (middle.pid(), inner.pid());
    let clients = two_clients_of(&inner);
    sleep(Duration::from_secs(3));
    crate::harness::host("screenshot three-levels.png");
    expect_frames(clients);
    expect_no_warning(&middle);
    expect_no_warning(&inner);
    inner.end();
    assert!(middle.end().of(pids.1)["commits"]["explicit"].as_u64() > Some(10));
    assert!(outer.end().of(pids.0)["commits"]["explicit"].as_u64() > Some(10));
}

/// A client whose window fills the output.
fn fullscreen_client(session: &Session, sync: &str) -> Client {
    let arguments = [sync, "--source=gpu", "--fullscreen", "--buffers=4", "--frames=60"];
    session.client(&arguments)
}

/// A few frames are composed before the parent has said of each buffer that it takes it; the rest are shown by the parent
/// itself, and nothing is drawn for them.
#[track_caller]
fn expect_passed_through(client: Client, inner: Session) {
    let report = client.wait();
    report.expect_clean();
    assert_eq!(report.number("released"), 60, "{report:?}");
    expect_no_warning(&inner);
    let record = inner.end();
    let (passes, direct) = (record.of_output("passes"), record.of_output("scanned_out"));
    assert!(passes <= 20, "{passes} passes, {direct} commits of the client's own buffers");
    assert!(direct >= 20, "{passes} passes, {direct} commits of the client's own buffers");
}

#[test]
fn a_client_that_fills_the_window_is_shown_by_the_parent_itself() {
    let outer = Session::start(&["--mode=640x480"]);
    for sync in ["--sync=explicit", "--sync=implicit"] {
        let inner = outer.nested(&["--mode=480x360"]);
        let client = fullscreen_client(&inner, sync);
        expect_passed_through(client, inner);
    }
    outer.end();
}

/// The window fills the screen of its parent, which has the pointer on it.
#[test]
fn a_client_two_compositors_deep_reaches_the_screen_without_a_copy() {
    let outer = Session::start(&["--mode=640x480"]);
    let inner = outer.nested(&["--mode=640x480"]);
    let client = fullscreen_client(&inner, "--sync=explicit");
    expect_passed_through(client, inner);
    let direct = outer.end().of_output("scanned_out");
    assert!(direct >= 20, "{direct} commits of the client's own buffers");
}

/// weston as a session on KMS, which has no linux-drm-syncobj.
struct Weston {
    _process: Process,
    socket: PathBuf,
}

impl Weston {
    fn start() -> Self {
        let folder = PathBuf::from(format!("/run/fencepost-test-{}", next_id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(root.join("tests/vm/guest-session"));
        command.args(["weston", "--backend=drm", "--renderer=gl", "--no-config", "--idle-time=0"]);
        command.arg("--socket=weston").env("XDG_RUNTIME_DIR", &folder);
        let weston = Self { _process: Process::start(&mut command), socket: folder.join("weston") };
        wait_until("weston accepts clients", || {
            std::os::unix::net::UnixStream::connect(&weston.socket).is_ok()
        });
        weston
    }
}

#[test]
fn implicit_sync_goes_to_a_parent_that_knows_no_other() {
    let weston = Weston::start();
    let inner = Session::window_of(&weston.socket, &["--mode=480x360"]);
    expect_frames(two_clients_of(&inner));
    expect_no_warning(&inner);
    let record = inner.end();
    assert!(record.of_output("commits") > 10);
}

#[test]
fn a_parent_that_refuses_a_buffer_after_others_gets_shared_memory_and_no_client_is_hurt() {
    let device = std::fs::metadata("/dev/dri/renderD128").expect("a render node").rdev();
    let manners = Manners { device: Some(device), refuses: true, ..Manners::default() };
    let parent = FakeParent::new("refuses", manners);
    let inner = Session::window_of(&parent.socket(), &["--mode=480x360"]);
    expect_frames(two_clients_of(&inner));
    assert!(parent.ask(|fake| fake.has_refused() && fake.is_shm()));
    let said = inner.said();
    let refused = "the parent compositor refuses a dma-buf; frames go by shared memory from now on";
    assert_eq!(said.matches(refused).count(), 1, "{said}");
    inner.end();
}
