//! What a frame of one active window costs the compositor's thread beside idle windows: processor time and allocations.
//!
//! The windows are of shared memory, as nothing else needs no device; idle, all kinds are the same to a frame.

use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use fencepost::compositor::{Kind, Options, Running};
use fencepost::output::kms::modes::ModeRequest;
use rustix::time::{ClockId, clock_gettime};

use crate::counting::allocations;
use crate::fixture::{Fixture, Server};
use crate::setup::{App, SIZE};

const FRAMES: u32 = 100;

#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    time: Duration,
    allocations: u64,
}

/// A compositor that knows what its turns have cost.
struct Metered {
    running: Running,
    cost: Rc<Cell<Cost>>,
}

fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl Metered {
    fn turn_for(&mut self, timeout: Duration) {
        let before = thread_time();
        let allocated = allocations(|| self.running.turn(timeout).expect("a turn of the event loop"));
        let Cost { time, allocations } = self.cost.get();
        let spent = thread_time().saturating_sub(before);
        self.cost.set(Cost { time: time + spent, allocations: allocations + allocated });
    }
}

impl Server for Metered {
    fn connect(&mut self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        self.running.state().accept(theirs);
        ours
    }

    fn turn(&mut self) {
        self.turn_for(Duration::ZERO);
    }

    fn wait(&mut self) {
        self.turn_for(Duration::from_millis(10));
    }
}

/// Where the idle windows are.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Side by side, all of each can be seen.
    Tiled,
    /// All at one place: one can be seen.
    Hidden,
}

/// Twenty tiles in a row, each as large as a window.
const COLUMNS: usize = 20;
const OUTPUT: (i32, i32) = (1280, 816);

/// Puts every window where it belongs, the oldest first.
fn arrange(running: &mut Running, place: Place) {
    let shell = &mut running.state().shell;
    let windows: Vec<_> = shell.visible().map(|window| window.surface().clone()).collect();
    for (index, surface) in windows.iter().rev().enumerate() {
        let (column, row) = match place {
            Place::Tiled => (index % COLUMNS, index / COLUMNS),
            Place::Hidden => (0, 0),
        };
        let tile = |count: usize, side: i32| i32::try_from(count).expect("a place") * side;
        let window = shell.window_mut(surface).expect("a window");
        window.location = (tile(column, SIZE.0), tile(row, SIZE.1)).into();
    }
}

/// The cost of a frame beside `idle` windows.
fn frame_beside(idle: usize, place: Place) -> Cost {
    let cost = Rc::new(Cell::new(Cost::default()));
    let mode = ModeRequest::Size {
        width: u16::try_from(OUTPUT.0).expect("a width"),
        height: u16::try_from(OUTPUT.1).expect("a height"),
        refresh_mhz: Some(500_000),
    };
    let options = Options { backend: Kind::Headless, mode: Some(mode), ..Options::default() };
    let running = Running::start(&options).expect("a compositor");
    let desk = Fixture::new(Metered { running, cost: Rc::clone(&cost) });
    let mut crowd = App::new(&desk);
    let idle: Vec<_> = (0..idle)
        .map(|_| {
            let window = crowd.window();
            let buffer = crowd.shm_buffer();
            crowd.show(&window.surface, &buffer);
            crowd.client.expect_no_error();
            (window, buffer)
        })
        .collect();
    let mut app = App::new(&desk);
    let window = app.window();
    let buffers = [app.shm_buffer(), app.shm_buffer()];
    let first = app.show(&window.surface, &buffers[0]);
    app.until_shown(&first);
    arrange(&mut desk.server_mut().running, place);
    if matches!(place, Place::Hidden) && !idle.is_empty() {
        // Beside them, so that it draws as much as it does alone.
        let mut server = desk.server_mut();
        let shell = &mut server.running.state().shell;
        let active = shell.visible().next().expect("the active window").surface().clone();
        shell.window_mut(&active).expect("the active window").location = (SIZE.0, SIZE.1).into();
    }
    let mut frame = |count: u32| {
        for buffer in buffers.iter().cycle().take(count as usize) {
            let watched = app.show(&window.surface, buffer);
            app.until_shown(&watched);
        }
    };
    frame(20);
    cost.set(Cost::default());
    frame(FRAMES);
    let Cost { time, allocations } = cost.get();
    drop(idle);
    Cost { time: time / FRAMES, allocations: allocations / u64::from(FRAMES) }
}

pub(crate) fn run() {
    println!("| a frame of one active window beside | time | | allocations | |");
    println!("|---|---:|---:|---:|---:|");
    let alone = frame_beside(0, Place::Tiled);
    print_row("nothing", alone, alone);
    for (place, how) in [(Place::Tiled, "that are seen"), (Place::Hidden, "that are hidden")] {
        for idle in [10, 100, 1000] {
            print_row(&format!("{idle} idle windows {how}"), frame_beside(idle, place), alone);
        }
    }
    print_row("nothing, again", frame_beside(0, Place::Tiled), alone);
    println!();
}

fn print_row(what: &str, cost: Cost, alone: Cost) {
    let ratio = |cost: f64, alone: f64| if alone > 0.0 { cost / alone } else { f64::NAN };
    println!(
        "| {what} | {:.0} µs | × {:.2} | {} | × {:.2} |",
        cost.time.as_secs_f64() * 1e6,
        ratio(cost.time.as_secs_f64(), alone.time.as_secs_f64()),
        cost.allocations,
        ratio(cost.allocations as f64, alone.allocations as f64),
    );
}
