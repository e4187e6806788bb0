//! The processes that the compositor starts: its one client of the command line, and terminals.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::OwnedFd,
    process::{Child, Command, ExitCode, ExitStatus},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// The children, and the socket that they are to connect to.
#[derive(Debug, Default)]
pub(super) struct Children {
    socket: OsString,
    /// The file descriptors that they may have; `None` for as many as we.
    fds: Option<Rlimit>,
    main: Option<Child>,
    /// How the main client ended.
    ended: Option<ExitStatus>,
    others: Vec<Child>,
    overlay: Option<Child>,
}

impl Children {
    /// Where children are to connect to, and how many file descriptors they may have.
    pub(super) fn inherit(&mut self, socket: &OsStr, fds: Rlimit) {
        self.socket = socket.to_owned();
        self.fds = Some(fds);
    }

    fn start(&self, program: &OsStr, arguments: &[OsString]) -> io::Result<Child> {
        let mut command = Command::new(program);
        command.args(arguments);
        command.env("WAYLAND_DISPLAY", &self.socket).env_remove("WAYLAND_SOCKET").env_remove("DISPLAY");
        let child = command.spawn()?;
        if let Some(fds) = &self.fds
            && let Err(error) = prlimit(Some(Pid::from_child(&child)), Resource::Nofile, *fds)
        {
            tracing::debug!("process {} keeps our limit of file descriptors: {error}", child.id());
        }
        Ok(child)
    }

    /// Starts the client with which the compositor ends.
    pub(super) fn start_main(&mut self, program: &OsStr, arguments: &[OsString]) -> io::Result<()> {
        self.main = Some(self.start(program, arguments)?);
        Ok(())
    }

    /// Starts `$TERMINAL`, or foot.
    pub(super) fn start_terminal(&mut self) {
        let terminal = std::env::var_os("TERMINAL").unwrap_or_else(|| "foot".into());
        match self.start(&terminal, &[]) {
            Ok(child) => {
                tracing::info!("started {} as process {}", terminal.display(), child.id());
                self.others.push(child);
            }
            Err(error) => tracing::warn!("could not start {}: {error}; set TERMINAL", terminal.display()),
        }
    }

    /// Starts the overlay with this end of a connection to us; its process.
    pub(super) fn start_overlay(&mut self, connection: OwnedFd) -> io::Result<i32> {
        let mut command = Command::new("/proc/self/exe");
        // Any fd that a child is to inherit has to be without CLOEXEC for a while; its stdin is so by itself.
        command.arg("overlay").env("WAYLAND_SOCKET", "0").stdin(connection);
        let child = command.spawn()?;
        let pid = Pid::from_child(&child).as_raw_nonzero().get();
        self.overlay = Some(child);
        Ok(pid)
    }

    /// Ends the overlay; whether there was one.
    pub(super) fn end_overlay(&mut self) -> bool {
        let Some(mut overlay) = self.overlay.take() else { return false };
        // It may have ended by itself.
        drop(overlay.kill());
        self.others.push(overlay);
        true
    }

    /// Takes note of children that have ended; the status of the main one, if it is among them.
    pub(super) fn reap(&mut self) -> Option<ExitStatus> {
        self.others.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        self.overlay.take_if(|child| !matches!(child.try_wait(), Ok(None)));
        let status = self.main.as_mut()?.try_wait().unwrap_or_else(|error| {
            tracing::error!("could not wait for the client: {error}");
            None
        })?;
        self.main = None;
        self.ended = Some(status);
        Some(status)
    }

    /// The main client's exit status is ours; one that we had to end has not failed.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self.ended {
            Some(status) if !status.success() => {
                ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
            }
            _ => ExitCode::SUCCESS,
        }
    }

    /// Asks the main client to end, with its compositor.
    pub(super) fn end(&mut self) {
        if let Some(child) = &self.main
            && let Err(error) = kill_process(Pid::from_child(child), Signal::TERM)
        {
            tracing::debug!("the client has ended already: {error}");
        }
    }
}
