//! A connection of one case: its objects keep their own events, every wait ends in time, and a protocol error ends nothing
//! but this connection.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wayland_client::backend::protocol::ProtocolError;
use wayland_client::backend::{ObjectData, WaylandError};
use wayland_client::globals::{BindError, GlobalListContents};
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_callback::WlCallback;
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::{Connection, Dispatch, EventQueue, Proxy, QueueHandle};
use wayland_protocols::xdg::shell::client::xdg_wm_base::{self, XdgWmBase};

use super::verdict::{Outcome, Stop};

/// User data of every object: the events it has got, in order.
pub(super) struct Inbox<I: Proxy>(Mutex<Vec<I::Event>>);

impl<I: Proxy> Default for Inbox<I> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Looks at the events that an object has got.
pub(super) fn inbox<I, R>(object: &I, look: impl FnOnce(&mut Vec<I::Event>) -> R) -> R
where
    I: Proxy + 'static,
    I::Event: Send + 'static,
{
    match object.data::<Inbox<I>>() {
        Some(inbox) => look(&mut inbox.0.lock().unwrap_or_else(PoisonError::into_inner)),
        // Of an object that was not made here; there is none.
        None => look(&mut Vec::new()),
    }
}

/// Takes the events that an object has got.
pub(super) fn take<I>(object: &I) -> Vec<I::Event>
where
    I: Proxy + 'static,
    I::Event: Send + 'static,
{
    inbox(object, std::mem::take)
}

/// Where events are dispatched: to the inbox of their object.
pub(super) struct Mail;

impl<I: Proxy + 'static> Dispatch<I, Inbox<I>> for Mail
where
    I::Event: Send + 'static,
{
    fn event(_: &mut Self, _: &I, event: I::Event, inbox: &Inbox<I>, _: &Connection, _: &QueueHandle<Self>) {
        inbox.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    // Of all events that the probe can get, only zwp_linux_buffer_params_v1.created makes an object.
    fn event_created_child(_: u16, queue: &QueueHandle<Self>) -> Arc<dyn ObjectData> {
        queue.make_data::<WlBuffer, _>(Inbox::default())
    }
}

/// For the globals at the start.
impl Dispatch<WlRegistry, GlobalListContents> for Mail {
    fn event(
        _: &mut Self,
        _: &WlRegistry,
        _: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

/// Opens a connection to the socket.
///
/// # Errors
/// Those of connect(2).
pub(super) fn connect(socket: &Path) -> std::io::Result<Connection> {
    let stream = UnixStream::connect(socket)?;
    Connection::from_socket(stream).map_err(std::io::Error::other)
}

/// The client of one case.
pub(super) struct Client {
    connection: Connection,
    queue: EventQueue<Mail>,
    registry: WlRegistry,
    /// Name, interface, version.
    globals: Vec<(u32, String, u32)>,
    shells: Vec<XdgWmBase>,
    patience: Duration,
}

impl Client {
    /// Connects and learns the globals. `patience` is how long anything may take that has to happen.
    pub(super) fn open(socket: &Path, patience: Duration) -> Result<Self, Stop> {
        let refused = |error| Stop::Fail(format!("the compositor does not accept a connection: {error}"));
        let connection = connect(socket).map_err(refused)?;
        let queue = connection.new_event_queue();
        let registry = connection.display().get_registry(&queue.handle(), Inbox::default());
        let mut client =
            Self { connection, queue, registry, globals: Vec::new(), shells: Vec::new(), patience };
        client.roundtrip()?;
        for event in take(&client.registry) {
            if let wl_registry::Event::Global { name, interface, version } = event {
                client.globals.push((name, interface, version));
            }
        }
        Ok(client)
    }

    /// For requests that make objects: `object.request(&client.handle(), Inbox::default())`.
    pub(super) fn handle(&self) -> QueueHandle<Mail> {
        self.queue.handle()
    }

    /// How long anything may take that has to happen.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// The version that a global is offered in.
    pub(super) fn offered<I: Proxy>(&self) -> Option<u32> {
        self.find::<I>().map(|(_, version)| version)
    }

    fn find<I: Proxy>(&self) -> Option<(u32, u32)> {
        let found = self.globals.iter().find(|(_, interface, _)| interface == I::interface().name);
        found.map(|(name, _, version)| (*name, *version))
    }

    /// Binds a global in the latest version of `versions` that is offered.
    pub(super) fn bind<I>(&self, versions: std::ops::RangeInclusive<u32>) -> Result<I, Stop>
    where
        I: Proxy + 'static,
        I::Event: Send + 'static,
    {
        let interface = I::interface().name;
        let missing = |error: BindError| match error {
            BindError::NotPresent => Stop::NotOffered(interface.to_owned()),
            BindError::UnsupportedVersion => {
                Stop::NotOffered(format!("{interface}, version {}", versions.start()))
            }
        };
        let (name, offered) = self.find::<I>().ok_or(BindError::NotPresent).map_err(missing)?;
        if offered < *versions.start() {
            return Err(missing(BindError::UnsupportedVersion));
        }
        let version = offered.min(*versions.end());
        Ok(self.registry.bind(name, version, &self.handle(), Inbox::default()))
    }

    /// Binds xdg_wm_base, whose pings are answered from then on.
    pub(super) fn shell(&mut self) -> Result<XdgWmBase, Stop> {
        if let Some(shell) = self.shells.first() {
            return Ok(shell.clone());
        }
        let shell: XdgWmBase = self.bind(1..=6)?;
        self.shells.push(shell.clone());
        Ok(shell)
    }

    /// Sends what was asked and takes in what has come; waits for the compositor until `deadline` at most. False when the
    /// connection has ended.
    fn turn(&mut self, deadline: Instant) -> bool {
        if self.queue.dispatch_pending(&mut Mail).is_err() {
            return false;
        }
        self.answer_pings();
        let sent = self.connection.flush();
        let Some(guard) = self.queue.prepare_read() else { return self.is_connected() };
        let connection = self.connection.backend();
        let mut wanted = PollFlags::IN;
        match sent {
            Ok(()) => {}
            Err(WaylandError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                wanted |= PollFlags::OUT;
            }
            // What the compositor had to say before it hung up can still be read.
            Err(_) => {}
        }
        let fd = connection.poll_fd();
        let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), wanted)];
        let left = deadline.saturating_duration_since(Instant::now());
        let polled = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        // A poll that failed was interrupted: it is one that has waited for less.
        let read = match polled.is_ok() && fds.iter().any(|fd| fd.revents().intersects(readable)) {
            true => guard.read().map(drop),
            false => Ok(()),
        };
        let dispatched = self.queue.dispatch_pending(&mut Mail);
        let would_block = |error: &WaylandError| matches!(error, WaylandError::Io(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        self.answer_pings();
        dispatched.is_ok() && read.as_ref().err().is_none_or(would_block) && self.is_connected()
    }

    fn answer_pings(&self) {
        for shell in &self.shells {
            for event in take(shell) {
                if let xdg_wm_base::Event::Ping { serial } = event {
                    shell.pong(serial);
                }
            }
        }
    }

    fn is_connected(&self) -> bool {
        self.connection.protocol_error().is_none() && self.connection.backend().last_error().is_none()
    }

    /// Sends what was asked, and nothing more.
    pub(super) fn flush(&self) {
        // A connection that has ended is noticed by the next wait.
        drop(self.connection.flush());
    }

    /// What ended the connection, if it has ended; `Ok` if the compositor answered within its time.
    fn answered(&mut self) -> Result<(), Ended> {
        let callback = self.connection.display().sync(&self.handle(), Inbox::<WlCallback>::default());
        let deadline = Instant::now() + self.patience;
        while inbox(&callback, |events| events.is_empty()) {
            if !self.turn(deadline) {
                return Err(self.ended());
            }
            if Instant::now() >= deadline {
                return Err(Ended::Silent(self.patience));
            }
        }
        Ok(())
    }

    fn ended(&self) -> Ended {
        match self.connection.protocol_error() {
            Some(error) => Ended::Protocol(error),
            None => Ended::Gone,
        }
    }

    /// After this the compositor has acted on every request.
    pub(super) fn roundtrip(&mut self) -> Result<(), Stop> {
        self.answered().map_err(|ended| Stop::Fail(ended.to_string()))
    }

    /// The same, where an end of the connection is an answer too: `None` if it holds.
    pub(super) fn end(&mut self) -> Result<Option<ProtocolError>, Stop> {
        match self.answered() {
            Ok(()) => Ok(None),
            Err(Ended::Protocol(error)) => Ok(Some(error)),
            Err(ended) => Err(Stop::Fail(ended.to_string())),
        }
    }

    /// What was asked so far must not be an error.
    pub(super) fn expect_no_error(&mut self) -> Outcome {
        self.roundtrip().map(|()| "no error".to_owned())
    }

    /// What was asked so far must end the connection with error `code` on `object`.
    pub(super) fn expect_error<I: Proxy>(&mut self, object: &I, code: impl Into<u32>) -> Outcome {
        // Taken first: the object of a broken connection is dead.
        let (interface, id, code) = (I::interface().name, object.id().protocol_id(), code.into());
        let Some(error) = self.end()? else {
            return Err(Stop::Fail(format!("no error; error {code} on {interface} is wanted")));
        };
        let seen = told(&error);
        match (error.object_interface.as_str(), error.object_id, error.code) == (interface, id, code) {
            true => Ok(seen),
            false => Err(Stop::Fail(format!("{seen}; error {code} on {interface}@{id} is wanted"))),
        }
    }

    /// Takes in what comes until `reached` says so, which has to be soon.
    pub(super) fn until(&mut self, what: &str, reached: impl FnMut() -> bool) -> Result<(), Stop> {
        match self.wait(self.patience, reached)? {
            true => Ok(()),
            false => Err(Stop::Fail(format!("not within {:?}: {what}", self.patience))),
        }
    }

    /// The same, where it need not happen within `limit`. Says whether it did.
    pub(super) fn wait(&mut self, limit: Duration, mut reached: impl FnMut() -> bool) -> Result<bool, Stop> {
        /// Fences tell nobody: they are looked at.
        const LOOK: Duration = Duration::from_millis(2);
        let deadline = Instant::now() + limit;
        loop {
            if !self.turn(deadline.min(Instant::now() + LOOK)) {
                return Err(Stop::Fail(self.ended().to_string()));
            }
            if reached() {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }
}

/// Why there is no answer.
enum Ended {
    Protocol(ProtocolError),
    Gone,
    Silent(Duration),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Protocol(error) => f.write_str(&told(error)),
            Self::Gone => f.write_str("the compositor ended the connection without an error"),
            Self::Silent(limit) => write!(f, "the compositor has not answered for {limit:?}"),
        }
    }
}

/// An error as people read it.
pub(super) fn told(error: &ProtocolError) -> String {
    let ProtocolError { code, object_id, object_interface, message } = error;
    format!("error {code} on {object_interface}@{object_id}: {message:?}")
}
