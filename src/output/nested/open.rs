//! The first exchange with the parent: connecting, its globals, the first configure.
//!
//! Owns the limit on all of it: nothing here waits longer. Decides nothing about what is opened.

use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use smithay::utils::{Logical, Size};
use wayland_client::backend::WaylandError;
use wayland_client::protocol::wl_registry::WlRegistry;
use wayland_client::{Connection, Dispatch, EventQueue, Proxy};

use super::wire::{Heard, Listed};
use crate::errors::how_it_ended;

/// Why there is no window.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("could not connect to the parent compositor at {at}: {error}; is WAYLAND_DISPLAY right?")]
    Connect {
        /// Its socket.
        at: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// Somebody listens, and says nothing.
    #[error("the parent compositor at {at} did not answer within {limit:?}")]
    Silent {
        /// Its socket.
        at: String,
        /// How long it had.
        limit: Duration,
    },
    /// It cannot show a window.
    #[error("the parent compositor has no {0}")]
    Missing(&'static str),
    /// It ended the connection.
    #[error("the parent compositor ended the connection: {0}")]
    Lost(String),
}

/// A connection whose window is not there yet.
pub(super) struct Opening {
    pub(super) connection: Connection,
    pub(super) queue: EventQueue<Heard>,
    pub(super) heard: Heard,
    registry: WlRegistry,
    at: String,
    limit: Duration,
    deadline: Instant,
}

impl Opening {
    /// Connects, and learns the globals.
    pub(super) fn connect(
        socket: &Path,
        (windows, size): (usize, Size<i32, Logical>),
        limit: Duration,
    ) -> Result<Self, Error> {
        let at = socket.display().to_string();
        let failed = |error| Error::Connect { at: at.clone(), error };
        let stream = open_socket(socket).map_err(|errno| failed(errno.into()))?;
        let connection =
            Connection::from_socket(stream).map_err(|error| failed(std::io::Error::other(error)))?;
        let queue = connection.new_event_queue();
        let registry = connection.display().get_registry(&queue.handle(), ());
        connection.display().sync(&queue.handle(), Listed);
        let deadline = Instant::now() + limit;
        let heard = Heard::new(size, windows);
        let mut opening = Self { connection, queue, heard, registry, at, limit, deadline };
        opening.until(|heard| heard.listed)?;
        Ok(opening)
    }

    /// A global of one of these versions, the newest that both sides have; `None` if it is not offered.
    pub(super) fn bind<I: Proxy + 'static>(&self, versions: RangeInclusive<u32>) -> Option<I>
    where
        Heard: Dispatch<I, ()>,
    {
        let mut globals = self.heard.globals.iter();
        let (name, _, offered) = globals.find(|(_, interface, version)| {
            *interface == I::interface().name && version >= versions.start()
        })?;
        let version = (*offered).min(*versions.end());
        Some(self.registry.bind(*name, version, &self.queue.handle(), ()))
    }

    /// As [`Self::bind`], for what no window goes without.
    pub(super) fn need<I: Proxy + 'static>(
        &self,
        what: &'static str,
        versions: RangeInclusive<u32>,
    ) -> Result<I, Error>
    where
        Heard: Dispatch<I, ()>,
    {
        self.bind(versions).ok_or(Error::Missing(what))
    }

    /// Sends what was asked, and hears the parent until `reached`.
    pub(super) fn until(&mut self, reached: impl Fn(&Heard) -> bool) -> Result<(), Error> {
        match until(&self.connection, &mut self.queue, &mut self.heard, self.deadline, reached) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Silent { at: self.at.clone(), limit: self.limit }),
            Err(error) => Err(Error::Lost(how_it_ended(&self.connection, &error))),
        }
    }
}

/// Sends what was asked, and hears the parent until `reached`; false at the deadline.
pub(super) fn until(
    connection: &Connection,
    queue: &mut EventQueue<Heard>,
    heard: &mut Heard,
    deadline: Instant,
    reached: impl Fn(&Heard) -> bool,
) -> Result<bool, String> {
    loop {
        queue.dispatch_pending(heard).map_err(|error| error.to_string())?;
        if reached(heard) {
            return Ok(true);
        }
        // A parent that hangs up has often said why: that is read before it is of interest that it takes no more.
        if let Err(error) = connection.flush() {
            tracing::debug!("the parent compositor could not be sent everything: {error}");
        }
        let Some(guard) = queue.prepare_read() else { continue };
        if !is_readable(&guard.connection_fd(), deadline) {
            return Ok(false);
        }
        match guard.read() {
            Ok(_) => {}
            Err(WaylandError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Connects without waiting: unix(7) has `EAGAIN` for a listener whose backlog is full.
fn open_socket(path: &Path) -> Result<UnixStream, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

/// Whether there is something to read before the deadline. What cannot be polled is left to the read, which says why.
fn is_readable(fd: &impl std::os::fd::AsFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            Ok(0) => return false,
            Ok(_) | Err(_) => return true,
        }
    }
}
