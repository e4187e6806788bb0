//! Every way in which the use of a commit's buffer can end, over the whole chain: each gives the buffer back (I3).
//!
//! The test holds a duplicate of every timeline, so it sees release points also when their client is gone.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fencepost::fence::timeline::{Point, Timeline};
use fencepost::fence::{Fence, Status};
use rustix::process::Signal;

use crate::chain::{Chain, Given, Memory, Remote, Shower, Way};
use crate::fences::device;
use crate::fixture::Fixture;
use crate::harness::{Client, Process, host, wait_until};
use crate::invariants::{SOON, Verdict, ensure, is_noticed};
use crate::late::{Driver, Gpu, Late, Source};
use crate::session::active_terminal;
use crate::setup::Fate;
use crate::sync_app::{ClientTimeline, SyncApp};

/// A client, and every buffer that it wants back.
struct Stage<'a> {
    chain: &'a Chain,
    source: Source,
    /// `None` when the client has gone.
    shower: Option<Shower>,
    given: Vec<(&'static str, Given)>,
    /// Fences that signal when the test is over.
    never: Vec<Late>,
    /// Whoever else is there.
    others: Vec<Client>,
}

impl<'a> Stage<'a> {
    fn new(chain: &'a Chain, way: Way) -> Self {
        let shower = Some(Shower::new(chain, way));
        Self { chain, source: Source::new(), shower, given: vec![], never: vec![], others: vec![] }
    }

    fn shower(&mut self) -> &mut Shower {
        self.shower.as_mut().expect("a client that has not gone")
    }

    /// Commits a buffer that is ready.
    fn show(&mut self, what: &'static str) {
        let given = self.shower().show(Memory::Gpu, None);
        self.shower().fate(&given);
        self.given.push((what, given));
    }

    /// As [`Self::show`], and waits until it is on the screen.
    fn show_now(&mut self, what: &'static str) {
        let given = self.shower().show(Memory::Gpu, None);
        self.shower().app.app.until_shown(&given.commit);
        assert!(!given.is_back(), "it is on the screen");
        self.given.push((what, given));
    }

    /// Commits buffers that nothing will ever make ready.
    fn show_never(&mut self) {
        for _ in 0..2 {
            let late = self.source.late(Driver::SwSync);
            let given = self.shower().show(Memory::Gpu, Some(&late.fence));
            assert_eq!(self.shower().fate(&given), Fate::Waiting);
            self.never.push(late);
            self.given.push(("what waits", given));
        }
    }

    /// Forgets the last one: it may stay where it is.
    fn except_the_last(&mut self) {
        self.given.pop();
    }

    /// Whether all buffers come back in time.
    fn all_back(&mut self, limit: Duration) -> Verdict {
        for (what, given) in &self.given {
            let back = match &mut self.shower {
                Some(shower) => shower.comes(limit, || given.is_back()),
                None => is_so(limit, || given.is_back()),
            };
            ensure(back, || format!("{what} was never released"))?;
        }
        Ok(())
    }
}

fn is_so(limit: Duration, mut so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !so() {
        if start.elapsed() > limit {
            return false;
        }
        sleep(Duration::from_millis(5));
    }
    true
}

fn replaced_before_it_was_shown(stage: &mut Stage<'_>) {
    // Both in one message, so that no frame comes between them.
    let shower = stage.shower();
    let given = shower.show(Memory::Gpu, None);
    let last = shower.show(Memory::Gpu, None);
    shower.app.app.until_shown(&last.commit);
    stage.given.push(("what was replaced", given));
}

fn replaced_on_the_screen(stage: &mut Stage<'_>) {
    stage.show_now("what was shown");
    stage.show_now("what is shown");
    stage.except_the_last();
}

fn replaced_behind_another_window(stage: &mut Stage<'_>) {
    stage.show_now("what was shown before");
    let mut other =
        stage.chain.session.client(&["--sync=implicit", "--source=heap", "--fullscreen", "--size=640x480"]);
    // Until it covers everything; a refresh of the guest takes a fraction of this.
    sleep(Duration::from_secs(2));
    assert!(!other.has_ended());
    stage.others.push(other);
    stage.show("what nobody could see");
    stage.show("what nobody could see either");
    stage.show("what nobody can see");
    stage.except_the_last();
}

fn unmapped(stage: &mut Stage<'_>) {
    stage.show_now("what was shown");
    let surface = &stage.shower().window.surface;
    surface.attach(None, 0, 0);
    surface.commit();
}

fn its_surface_destroyed(stage: &mut Stage<'_>) {
    stage.show_now("what was shown");
    stage.show_never();
    let shower = stage.shower();
    if let Some(sync) = &shower.sync {
        sync.destroy();
    }
    shower.window.toplevel.destroy();
    shower.window.xdg_surface.destroy();
    shower.window.surface.destroy();
}

fn its_buffer_destroyed(stage: &mut Stage<'_>) {
    stage.show_now("what was shown");
    let late = stage.source.late(Driver::SwSync);
    let given = stage.shower().show(Memory::Gpu, Some(&late.fence));
    stage.given.push(("what waited", given));
    for (_, given) in &stage.given {
        given.buffer.destroy();
    }
    stage.shower().app.app.client.expect_no_error();
    late.signal();
    stage.show_now("what is shown");
    stage.except_the_last();
}

fn its_syncobj_surface_destroyed(stage: &mut Stage<'_>) {
    stage.show_now("what was shown");
    let late = stage.source.late(Driver::SwSync);
    let given = stage.shower().show(Memory::Gpu, Some(&late.fence));
    stage.given.push(("what waited", given));
    stage.shower().sync.take().expect("explicit sync").destroy();
    stage.shower().app.app.client.expect_no_error();
    late.signal();
    // Without the object, the surface is back to implicit sync.
    stage.show_now("what is shown");
    stage.except_the_last();
}

fn the_terminal_switched_away(stage: &mut Stage<'_>) {
    let home = active_terminal();
    stage.show_now("what was shown");
    host("key ctrl-alt-f2");
    wait_until("another terminal is in front", || active_terminal() == "tty2");
    sleep(Duration::from_millis(500));
    stage.show("what came while another terminal was in front");
    stage.show("the newest");
    stage.except_the_last();
    let back = stage.all_back(SOON);
    host(&format!("key ctrl-alt-f{}", home.trim_start_matches("tty")));
    wait_until("ours is in front", || active_terminal() == home);
    back.expect("also while another terminal is in front");
}

fn its_client_gone(stage: &mut Stage<'_>) {
    stage.show_now("what was shown");
    stage.show_never();
    stage.shower = None;
}

fn its_client_thrown_out(stage: &mut Stage<'_>) {
    stage.show_now("what was shown");
    stage.show_never();
    let shower = stage.shower();
    shower.window.surface.set_buffer_scale(-1);
    shower.app.app.client.roundtrip();
    assert!(!shower.app.app.client.is_connected());
    stage.shower = None;
}

type Case = (&'static str, fn(&mut Stage<'_>), &'static [Way]);

const BOTH: &[Way] = &[Way::Explicit, Way::Implicit];
/// Without its client or its `wl_buffer`, nobody can be told of an implicit release.
const EXPLICIT: &[Way] = &[Way::Explicit];

const CASES: [Case; 10] = [
    ("replaced before it was shown", replaced_before_it_was_shown, BOTH),
    ("replaced on the screen", replaced_on_the_screen, BOTH),
    ("replaced behind another window", replaced_behind_another_window, BOTH),
    ("unmapped", unmapped, BOTH),
    ("its surface destroyed", its_surface_destroyed, BOTH),
    ("its buffer destroyed", its_buffer_destroyed, EXPLICIT),
    ("its syncobj surface destroyed", its_syncobj_surface_destroyed, EXPLICIT),
    ("the terminal switched away", the_terminal_switched_away, BOTH),
    ("its client gone", its_client_gone, EXPLICIT),
    ("its client thrown out", its_client_thrown_out, EXPLICIT),
];

fn i3(chain: &Chain, (name, end, ways): Case, limit: Duration) -> Verdict {
    for &way in ways {
        let mut stage = Stage::new(chain, way);
        end(&mut stage);
        stage.all_back(limit).map_err(|complaint| format!("{name}, {way:?}: {complaint}"))?;
    }
    Ok(())
}

#[test]
fn i3_every_committed_release_comes_in_the_end() {
    let chain = Chain::start(&[]);
    for case in CASES {
        i3(&chain, case, SOON).unwrap();
    }
    chain.end();
}

#[test]
fn a_compositor_that_forgets_releases_is_noticed_in_every_case() {
    is_noticed("forget", |chain| {
        // Its own check would end this test.
        let cases = CASES.iter().filter(|case| case.0 != "the terminal switched away");
        let complaints = cases.map(|&case| i3(chain, case, Duration::from_millis(500)).expect_err(case.0));
        Err(complaints.collect::<Vec<_>>().join("; "))
    });
}

#[test]
fn i3_a_compositor_that_is_told_to_end_releases_everything_first() {
    let chain = Chain::start(&[]);
    let mut source = Source::new();
    let mut shower = Shower::new(&chain, Way::Explicit);
    let shown = shower.show(Memory::Gpu, None);
    shower.app.app.until_shown(&shown.commit);
    let late = source.late(Driver::SwSync);
    let waits = shower.show(Memory::Gpu, Some(&late.fence));
    assert_eq!(shower.fate(&waits), Fate::Waiting);
    chain.end();
    assert!(shown.is_back() && waits.is_back());
    assert!(late.is_pending());
}

/// The release needs the kernel only, once the compositor has answered the displacing commit.
#[test]
fn a_release_comes_although_the_compositor_is_stopped_after_the_displacing_commit() {
    let chain = Chain::start(&[]);
    let mut gpu = Gpu::new();
    let mut shower = Shower::new(&chain, Way::Explicit);
    for round in 0..5 {
        let shown = shower.show(Memory::Gpu, None);
        shower.app.app.until_shown(&shown.commit);
        // Every second time, the frame that reads the buffer waits behind other work.
        let _work = (round % 2 == 0).then(|| gpu.work());
        let next = shower.show(Memory::Gpu, None);
        shower.fate(&next);
        chain.session.signal(Signal::STOP);
        let back = is_so(SOON, || shown.is_back());
        chain.session.signal(Signal::CONT);
        assert!(back, "round {round}");
        shower.app.app.until_shown(&next.commit);
    }
    chain.end();
}

/// In the process that is to be killed: the socket to connect to. Its standard input is a timeline.
const KILLED: &str = "FENCEPOST_TEST_KILLED";

/// Shows a buffer, has another one wait, makes the file and waits to be killed.
fn be_killed(socket: PathBuf) -> ! {
    let all_set = socket.with_extension("set");
    let desk = Fixture::new(Remote::at(socket));
    let mut app = SyncApp::new(&desk);
    let window = app.sync_window();
    let fd = std::io::stdin().as_fd().try_clone_to_owned().expect("the timeline");
    let kernel = Timeline::import(&device(), fd.as_fd()).expect("a timeline");
    let (acquire, release) = (app.timeline(), ClientTimeline { kernel, object: app.import(&fd) });
    acquire.signal(1);
    let shown = app.show(&window, &app.gpu_buffer(), (&acquire, 1), (&release, 1));
    app.app.until_shown(&shown);
    app.show(&window, &app.gpu_buffer(), (&acquire, 2), (&release, 2));
    app.app.client.expect_no_error();
    fs::write(all_set, "").expect("a file");
    loop {
        sleep(Duration::from_secs(60));
    }
}

#[test]
fn i3_a_client_that_is_killed_leaves_its_points_signalled() {
    if let Some(socket) = std::env::var_os(KILLED) {
        be_killed(socket.into());
    }
    let chain = Chain::start(&[]);
    let timeline = Timeline::create(&device()).expect("a timeline");
    let name = "endings::i3_a_client_that_is_killed_leaves_its_points_signalled";
    let mut client = Command::new(std::env::current_exe().expect("this test"));
    client.args(["--exact", name]).env(KILLED, chain.session.socket());
    client.stdin(timeline.export().expect("its fd"));
    let mut client = Process::start(&mut client);
    wait_until("it shows something", || chain.session.socket().with_extension("set").exists());
    let points = [timeline.point(1), timeline.point(2)];
    assert!(points.iter().all(|point| point.status() != Status::Signalled));
    client.signal(Signal::KILL);
    client.wait();
    let left = |point: &&Point| !is_so(SOON, || point.status() == Status::Signalled);
    assert_eq!(points.iter().find(left), None);
    chain.end();
}
