//! A window of the probe's own that is always ready: its frames say that the compositor goes on showing things.
//!
//! "Not shown" means "not shown while these frames were".

use std::time::{Duration, Instant};

use wayland_client::protocol::wl_buffer::WlBuffer;

use super::Place;
use super::app::{App, Fate, Window};
use super::connection::Client;
use super::verdict::Stop;

/// A frame that takes longer counts as time that has passed: the window may be hidden behind others.
const LONGEST_FRAME: Duration = Duration::from_secs(1);

/// Frames that must pass before "not shown" is believed.
const SETTLED: u32 = 5;

/// The window.
pub(super) struct Clock {
    app: App,
    window: Window,
    buffers: [WlBuffer; 2],
    ticks: usize,
}

impl Clock {
    /// Opens the window and waits for its first frame.
    pub(super) fn open(place: &Place) -> Result<Self, Stop> {
        let mut app = App::open(place)?;
        let window = app.window()?;
        let buffers = [app.shm_buffer()?, app.shm_buffer()?];
        let mut clock = Self { app, window, buffers, ticks: 0 };
        let patience = clock.app.client.patience();
        match clock.tick(patience)? {
            true => Ok(clock),
            false => Err(Stop::CannotTest(format!("a plain window is not shown within {patience:?}"))),
        }
    }

    /// Shows a frame; false if that took longer than `limit`.
    pub(super) fn tick(&mut self, limit: Duration) -> Result<bool, Stop> {
        let [even, odd] = &self.buffers;
        let buffer = if self.ticks.is_multiple_of(2) { even } else { odd };
        self.ticks += 1;
        let commit = self.app.show(&self.window.surface, buffer);
        self.app.client.wait(limit, || commit.fate() != Fate::Waiting)
    }

    /// Lets the compositor show several frames, and hears what it has to say to `client`.
    pub(super) fn settle(&mut self, client: &mut Client) -> Result<(), Stop> {
        for _ in 0..SETTLED {
            self.tick(LONGEST_FRAME)?;
            client.roundtrip()?;
        }
        Ok(())
    }

    /// How long `frames` frames take.
    pub(super) fn time(&mut self, frames: u32) -> Result<Duration, Stop> {
        let start = Instant::now();
        for _ in 0..frames {
            self.tick(LONGEST_FRAME)?;
        }
        Ok(start.elapsed())
    }
}
