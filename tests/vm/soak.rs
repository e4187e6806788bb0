//! A hundred thousand commits: what the compositor holds at the end is what it held at the start.

use std::time::Instant;

use wayland_client::protocol::wl_buffer::WlBuffer;

use crate::chain::Chain;
use crate::harness::PATIENCE;
use crate::held::Held;
use crate::setup::Fate;
use crate::sync_app::{ClientTimeline, SyncApp, SyncWindow, set_acquire, set_release};

const COMMITS: u64 = 100_000;
/// Commits between two answers of the compositor, as a client makes them that never waits for a frame.
const BATCH: u64 = 50;
/// One commit in so many waits for its fence.
const LATE: u64 = 10;
/// The client's side of what is measured has grown by then.
const WARM_UP: u64 = 5_000;
/// What the allocator may keep.
const SLACK_KIB: usize = 1024;

struct Storm {
    app: SyncApp,
    window: SyncWindow,
    acquire: ClientTimeline,
    release: ClientTimeline,
    buffers: Vec<WlBuffer>,
    commits: u64,
}

impl Storm {
    fn new(chain: &Chain) -> Self {
        let mut app = chain.app();
        let window = app.sync_window();
        let (acquire, release) = (app.timeline(), app.timeline());
        // Some that the GPU samples and some that the CPU copies.
        let buffers = (0..4).map(|n| if n % 2 == 0 { app.gpu_buffer() } else { app.heap_buffer() }).collect();
        Self { app, window, acquire, release, buffers, commits: 0 }
    }

    /// Commits until there are `until`.
    fn rage(&mut self, until: u64) {
        while self.commits < until {
            let last = self.commits + BATCH;
            // Signals all the points below it, too.
            self.acquire.signal(last - LATE);
            for _ in 0..BATCH {
                self.commits += 1;
                set_acquire(&self.window.sync, (&self.acquire, self.commits));
                set_release(&self.window.sync, (&self.release, self.commits));
                let surface = &self.window.window.surface;
                let buffer = (self.commits % self.buffers.len() as u64) as usize;
                surface.attach(Some(&self.buffers[buffer]), 0, 0);
                surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
                surface.commit();
            }
            self.app.app.client.expect_no_error();
            self.acquire.signal(last);
        }
    }

    /// One more commit is shown, and all before it are released: what is held now is not a commit's that is under way.
    fn settle(&mut self) {
        self.commits += 1;
        let value = self.commits;
        self.acquire.signal(value);
        let last =
            self.app.show(&self.window, &self.buffers[0], (&self.acquire, value), (&self.release, value));
        self.app.app.until_shown(&last);
        assert_eq!(self.app.app.fate(&last), Fate::Shown);
        self.app.until_signalled(&self.release.point(value - 1));
    }
}

#[test]
fn a_hundred_thousand_commits_leave_nothing_behind() {
    let chain = Chain::start(&[]);
    let mut storm = Storm::new(&chain);
    storm.rage(WARM_UP);
    storm.settle();
    let before = Held::by(Some(chain.session.pid()));
    let start = Instant::now();
    storm.rage(COMMITS);
    let took = start.elapsed();
    // The compositor is well.
    storm.settle();
    let after = Held::by(Some(chain.session.pid()));
    println!("{} commits in {took:?}: {before:?}, then {after:?}", COMMITS - WARM_UP);
    assert!(after.is_flat_since(&before, SLACK_KIB), "{before:?}, then {after:?}");
    chain.end();
}

#[test]
fn a_client_that_goes_leaves_nothing_behind() {
    let chain = Chain::start(&[]);
    let mut clock = chain.clock();
    let mut come_and_go = || {
        let mut app = chain.app();
        let (window, never, release) = (app.sync_window(), app.timeline(), app.timeline());
        let buffer = app.gpu_buffer();
        for value in 1..=200 {
            app.show(&window, &buffer, (&never, value), (&release, value));
        }
        app.app.client.expect_no_error();
        let during = Held::by(Some(chain.session.pid()));
        drop((app, window, never, release, buffer));
        clock.tick();
        clock.tick();
        during
    };
    // What is opened once and for all is open after this.
    come_and_go();
    let before = Held::by(Some(chain.session.pid()));
    let during = come_and_go();
    assert!(
        during.fds >= before.fds + 200 && during.sources >= before.sources + 200,
        "{before:?} {during:?}"
    );
    assert!(during.handles >= before.handles + 2, "{before:?} {during:?}");
    // How many buffers of an output keep the fence of their last frame depends on which of them the next one finds free.
    let start = Instant::now();
    loop {
        clock.tick();
        let now = Held::by(Some(chain.session.pid()));
        if now.fds <= before.fds && now.sources <= before.sources && now.handles <= before.handles {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{before:?}, and after the client {now:?}");
    }
    chain.end();
}
