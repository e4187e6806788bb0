//! What a frame of one active window costs the compositor beside a thousand idle ones, all of them with explicit sync.

use std::fs;
use std::time::Duration;

use wayland_client::protocol::wl_buffer::WlBuffer;

use crate::chain::Chain;
use crate::sync_app::{ClientTimeline, SyncApp, SyncWindow, set_acquire, set_release};

const IDLE: u64 = 1000;
/// Frames of one measurement, and how many of these there are on each side: a processor that others use too makes some of them
/// dear, and none cheap.
const FRAMES: u64 = 20;
const BATCHES: usize = 10;
/// A frame that looks at every window takes many times that of one alone; one that does not is within the noise of an
/// emulated machine.
const MAX_RATIO: f64 = 2.0;

/// The processor time of all threads of a process.
fn processor_time(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let spent = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
    let spent = spent.map(|text| text.split(' ').next().expect("a time").parse::<u64>().expect("a number"));
    Duration::from_nanos(spent.sum())
}

/// A window that shows one frame after the other.
struct Active {
    app: SyncApp,
    window: SyncWindow,
    buffers: [WlBuffer; 2],
    acquire: ClientTimeline,
    release: ClientTimeline,
    frames: u64,
}

impl Active {
    fn new(chain: &Chain) -> Self {
        let mut app = chain.app();
        let (window, acquire, release) = (app.sync_window(), app.timeline(), app.timeline());
        let buffers = [app.gpu_buffer(), app.gpu_buffer()];
        Self { app, window, buffers, acquire, release, frames: 0 }
    }

    fn show(&mut self, count: u64) {
        for _ in 0..count {
            self.frames += 1;
            let value = self.frames;
            let buffer = &self.buffers[(value % 2) as usize];
            self.acquire.signal(value);
            let shown = self.app.show(&self.window, buffer, (&self.acquire, value), (&self.release, value));
            self.app.app.until_shown(&shown);
        }
    }

    /// The processor time of the compositor for one frame of this window, at best.
    fn cost(&mut self, chain: &Chain) -> Duration {
        self.show(20);
        let batches = (0..BATCHES).map(|_| {
            let before = processor_time(chain.session.pid());
            self.show(FRAMES);
            (processor_time(chain.session.pid()) - before) / FRAMES as u32
        });
        batches.min().expect("some batches")
    }
}

/// Windows that have shown a buffer each and do nothing more.
fn crowd(chain: &Chain) -> (SyncApp, Vec<SyncWindow>) {
    let mut app = chain.app();
    let (acquire, release, buffer) = (app.timeline(), app.timeline(), app.gpu_buffer());
    acquire.signal(1);
    let windows: Vec<_> = (1..=IDLE)
        .map(|value| {
            let window = app.sync_window();
            set_acquire(&window.sync, (&acquire, 1));
            set_release(&window.sync, (&release, value));
            window.window.surface.attach(Some(&buffer), 0, 0);
            window.window.surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
            window.window.surface.commit();
            window
        })
        .collect();
    app.app.client.expect_no_error();
    (app, windows)
}

#[test]
fn a_frame_beside_a_thousand_idle_explicit_windows_costs_what_it_costs_alone() {
    let chain = Chain::start(&[]);
    let alone = Active::new(&chain).cost(&chain);
    let crowd = crowd(&chain);
    // Above the others, so that all of it is drawn as before.
    let mut active = Active::new(&chain);
    let beside = active.cost(&chain);
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    println!("alone {alone:?}, beside {IDLE} idle explicit windows {beside:?}: × {ratio:.2}");
    assert!(ratio < MAX_RATIO, "alone {alone:?}, beside {beside:?}");
    drop((crowd, active));
    chain.end();
}
