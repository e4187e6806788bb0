//! `fencepost overlay`: what became of each surface's commits in the last two seconds, as a picture above all windows.
//!
//! A client like others, which fencepost starts for Super+F, in a process of its own: what it costs, it does not cost the
//! compositor, and its surface goes to a plane where one is left. It draws only while somebody else commits, ten times a
//! second at most and less often where that would take more than a twentieth of a CPU; when everything rests, it only asks.
//!
//! Owns the connection and the rhythm. [`lanes`] says what is shown, [`picture`] how it looks, [`buffers`] where it is.

mod buffers;
mod lanes;
mod picture;
mod wire;

use std::{
    io,
    process::ExitCode,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use wayland_client::{Connection, EventQueue, globals::registry_queue_init};

use crate::watch::{feed::exchange, model::Model};
use buffers::Memory;
use picture::Picture;
use wire::{Slot, Wire};

/// From one picture to the next, at least.
const PERIOD: Duration = Duration::from_millis(100);

/// And at least as many times the CPU time that the last one took: an emulated machine is not to be busy with what is shown
/// of it.
const REST: u32 = 20;

/// How long after the last commit of somebody else there are new pictures, in nanoseconds: its release has come by then.
const AFTERMATH: u64 = 300_000_000;

/// Why there is no overlay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No compositor.
    #[error("could not connect to a compositor; fencepost starts its overlay itself, with Super+F")]
    Connect(#[source] wayland_client::ConnectError),
    /// Somebody listens, who does not let us look.
    #[error(
        "the compositor does not offer {0} to this process; fencepost starts its overlay itself, with Super+F"
    )]
    NotOffered(&'static str),
    /// The connection has ended.
    #[error("the compositor has ended the connection")]
    Ended(#[source] io::Error),
    /// No memory for a picture.
    #[error("could not make a buffer or draw in it")]
    Memory(#[source] io::Error),
}

/// Everything that the overlay knows.
struct Overlay {
    wire: Wire,
    model: Model,
    slots: Vec<Slot>,
    /// How many rows the last picture has used.
    used: u32,
}

/// Runs until the compositor ends the connection.
///
/// # Errors
/// [`Error`].
pub fn run() -> Result<ExitCode, Error> {
    let connection = Connection::connect_to_env().map_err(Error::Connect)?;
    let (globals, mut queue) =
        registry_queue_init::<Overlay>(&connection).map_err(|error| Error::Ended(io::Error::other(error)))?;
    let wire = Wire::open(&connection, &globals, &queue.handle())?;
    let mut overlay = Overlay { model: Model::default(), slots: Vec::new(), used: 0, wire };
    for _ in 0..2 {
        let memory = Memory::new(overlay.wire.takes_dmabufs()).map_err(Error::Memory)?;
        let slot = overlay.wire.slot(memory, overlay.slots.len());
        overlay.slots.push(slot);
    }
    loop {
        let mut spent = cpu_time();
        // What there is to catch up on at first is not rested for.
        while overlay.ask(&connection, &mut queue)? {
            spent = cpu_time();
        }
        overlay.draw().map_err(Error::Memory)?;
        let rest = PERIOD.max(cpu_time().saturating_sub(spent) * REST);
        let next = Instant::now() + rest;
        while let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            overlay.turn(&connection, &mut queue, Some(left))?;
        }
    }
}

impl Overlay {
    /// Asks what has happened, and hears it. Whether there is more.
    fn ask(&mut self, connection: &Connection, queue: &mut EventQueue<Self>) -> Result<bool, Error> {
        let answers = self.model.answers;
        self.wire.ask_for_events();
        while self.model.answers == answers {
            self.turn(connection, queue, None)?;
        }
        Ok(self.model.behind)
    }

    /// Sends, waits for something to be heard, and hears it.
    fn turn(
        &mut self,
        connection: &Connection,
        queue: &mut EventQueue<Self>,
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        exchange(connection, queue, timeout).map_err(|error| Error::Ended(io::Error::other(error)))?;
        queue.dispatch_pending(self).map(drop).map_err(|error| Error::Ended(io::Error::other(error)))
    }

    /// Until when there is something to draw, by the times of the trace.
    fn until(&self) -> u64 {
        let of_others = self.model.story.commits.values().filter(|commit| commit.pid != own_pid());
        of_others.map(|commit| commit.at.saturating_add(AFTERMATH)).max().unwrap_or(0)
    }

    /// Shows another picture, if there is something new in it and a buffer is free.
    fn draw(&mut self) -> io::Result<()> {
        self.model.story.forget_before(self.model.story.last.saturating_sub(2 * lanes::SPAN));
        if self.model.story.last > self.until() {
            return Ok(());
        }
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_free()) else { return Ok(()) };
        let lanes = lanes::lanes(&self.model.story, own_pid(), picture::LANES);
        let picture = Picture::of(&self.model.story, &lanes);
        slot.memory.draw(&picture)?;
        self.wire.show(slot, picture.used().max(std::mem::replace(&mut self.used, picture.used())));
        Ok(())
    }
}

/// What this process has had of a CPU.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}
