//! A connection to the debug socket of a compositor.
//!
//! Owns the socket and the global. Asks when told to and never waits by itself; what is told goes to whoever asks for it.

use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wayland_client::{
    Connection, Dispatch, EventQueue, Proxy, QueueHandle,
    backend::WaylandError,
    protocol::{
        wl_callback::{self, WlCallback},
        wl_registry::{self, WlRegistry},
    },
};

use crate::protocol::{
    SOCKET_SUFFIX, VERSION,
    client::fencepost_debug_v1::{Event, FencepostDebugV1},
};

/// Why a compositor cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Nobody listens there.
    #[error("could not connect to {}, which fencepost opens if it is started with --debug", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No name of a socket, and nowhere to look for it.
    #[error(
        "there is no compositor to watch: set WAYLAND_DISPLAY and XDG_RUNTIME_DIR, or name it with --display"
    )]
    Nowhere,
    /// Somebody listens, who does not let us look.
    #[error("the compositor does not let this process look: it does not offer fencepost-debug-v1")]
    NotOffered,
    /// The connection has ended.
    #[error("the compositor has ended the connection")]
    Ended(#[from] WaylandError),
}

/// What was heard.
#[derive(Debug, Default)]
struct Inbox {
    global: Option<(u32, u32)>,
    /// All globals have been announced.
    complete: bool,
    heard: Vec<Event>,
}

/// A connection.
#[derive(Debug)]
pub struct Feed {
    connection: Connection,
    queue: EventQueue<Inbox>,
    registry: WlRegistry,
    inbox: Inbox,
    object: Option<FencepostDebugV1>,
}

/// The debug socket of the compositor whose Wayland socket is `display`: a name in `runtime`, or a path.
pub fn socket(display: &Path, runtime: Option<&Path>) -> Option<PathBuf> {
    let mut path = match (display.is_absolute(), runtime) {
        (true, _) => display.to_owned(),
        (false, runtime) => runtime?.join(display),
    }
    .into_os_string();
    path.push(SOCKET_SUFFIX);
    Some(path.into())
}

impl Feed {
    /// Connects to the compositor whose Wayland socket this is; without one, to the one of this session.
    ///
    /// # Errors
    /// [`FeedError::Nowhere`], [`FeedError::Connect`].
    pub fn connect(display: Option<&Path>) -> Result<Self, FeedError> {
        let of_session = std::env::var_os("WAYLAND_DISPLAY").map(PathBuf::from);
        let display = display.map(Path::to_owned).or(of_session).ok_or(FeedError::Nowhere)?;
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let path = socket(&display, runtime.as_deref()).ok_or(FeedError::Nowhere)?;
        let opened =
            UnixStream::connect(&path).and_then(|stream| Self::over(stream).map_err(io::Error::other));
        opened.map_err(|source| FeedError::Connect { path, source })
    }

    /// A feed over a connection that there is.
    ///
    /// # Errors
    /// Those of a socket that is not one.
    pub fn over(stream: UnixStream) -> Result<Self, wayland_client::ConnectError> {
        let connection = Connection::from_socket(stream)?;
        let queue = connection.new_event_queue();
        let registry = connection.display().get_registry(&queue.handle(), ());
        // Answered after all globals: it is known then whether ours is among them.
        connection.display().sync(&queue.handle(), ());
        Ok(Self { connection, queue, registry, inbox: Inbox::default(), object: None })
    }

    /// Whether the compositor lets us look, as far as it has said.
    pub fn is_bound(&self) -> bool {
        self.object.is_some()
    }

    /// Asks how things are.
    pub fn ask_for_snapshot(&self) {
        if let Some(object) = &self.object {
            object.snapshot();
        }
    }

    /// Asks what happens; not again before the answer has ended.
    pub fn ask_for_events(&self) {
        if let Some(object) = &self.object {
            object.events();
        }
    }

    /// Has the trace written.
    pub fn ask_for_dump(&self) {
        if let Some(object) = &self.object {
            object.dump();
        }
    }

    /// Sends what was asked.
    ///
    /// # Errors
    /// [`FeedError::Ended`].
    pub fn send(&self) -> Result<(), FeedError> {
        Ok(would_block(self.connection.flush())?)
    }

    /// Sends what was asked, waits no longer than `timeout` for an answer, and returns what has come.
    ///
    /// # Errors
    /// [`FeedError::NotOffered`], [`FeedError::Ended`].
    pub fn turn(&mut self, timeout: Duration) -> Result<Vec<Event>, FeedError> {
        exchange(&self.connection, &self.queue, Some(timeout))?;
        let dispatched = self.queue.dispatch_pending(&mut self.inbox);
        if let Err(error) = dispatched {
            tracing::debug!("an event could not be read: {error}");
        }
        match (&self.object, self.inbox.global) {
            (None, Some((name, version))) => {
                let bound = self.registry.bind(name, version.min(VERSION), &self.queue.handle(), ());
                self.object = Some(bound);
            }
            (None, None) if self.inbox.complete => return Err(FeedError::NotOffered),
            (None, None) | (Some(_), _) => {}
        }
        Ok(std::mem::take(&mut self.inbox.heard))
    }
}

/// Sends what was asked, waits no longer than `timeout` for something to be heard, and takes it in; dispatching it is left.
///
/// # Errors
/// Those that end a connection.
pub fn exchange<State>(
    connection: &Connection,
    queue: &EventQueue<State>,
    timeout: Option<Duration>,
) -> Result<(), WaylandError> {
    would_block(connection.flush())?;
    let Some(guard) = queue.prepare_read() else { return Ok(()) };
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let fd = guard.connection_fd();
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    // A poll that failed was interrupted: it is one that has waited for less.
    if poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0) {
        would_block(guard.read().map(drop))?;
    }
    Ok(())
}

/// That there is nothing to read, or no room to write, is no failure.
fn would_block(result: Result<(), WaylandError>) -> Result<(), WaylandError> {
    match result {
        Err(WaylandError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}

impl Dispatch<WlRegistry, ()> for Inbox {
    fn event(
        inbox: &mut Self,
        _registry: &WlRegistry,
        event: wl_registry::Event,
        _data: &(),
        _connection: &Connection,
        _queue: &QueueHandle<Self>,
    ) {
        if let wl_registry::Event::Global { name, interface, version } = event
            && interface == FencepostDebugV1::interface().name
        {
            inbox.global = Some((name, version));
        }
    }
}

impl Dispatch<WlCallback, ()> for Inbox {
    fn event(
        inbox: &mut Self,
        _callback: &WlCallback,
        _event: wl_callback::Event,
        _data: &(),
        _connection: &Connection,
        _queue: &QueueHandle<Self>,
    ) {
        inbox.complete = true;
    }
}

impl Dispatch<FencepostDebugV1, ()> for Inbox {
    fn event(
        inbox: &mut Self,
        _object: &FencepostDebugV1,
        event: Event,
        _data: &(),
        _connection: &Connection,
        _queue: &QueueHandle<Self>,
    ) {
        inbox.heard.push(event);
    }
}
