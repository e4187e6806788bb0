//! Starts fencepost and clients as processes of their own in the guest, and reads what they report.
//!
//! Owns the processes: what is started here is ended here, also when a test fails.

// Each test program uses what it needs.
#![allow(dead_code, unreachable_pub)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

/// The compositor under test.
pub const FENCEPOST: &str = env!("CARGO_BIN_EXE_fencepost");

/// How long anything in the emulated guest may take that takes a moment on a real machine.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A process that is killed when it is dropped.
pub struct Process(Child);

impl Process {
    /// Starts a command.
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("start a process"))
    }

    /// Asks it to end, and waits until it has.
    pub fn end(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).expect("the process has ended already");
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("a process ends", || {
            status = self.0.try_wait().expect("wait");
            status.is_some()
        });
        status.expect("a status")
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("wait").is_some()
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, and then there is nothing to kill.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A number that no other call gives, in this test or another.
pub fn next_id() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    // Each test has a process, and a guest starts far fewer of them than it has numbers for.
    std::process::id().wrapping_mul(1000).wrapping_add(LAST.fetch_add(1, Ordering::Relaxed))
}

/// Has the kernel load a module.
pub fn modprobe(module: &str) {
    let status = Command::new("modprobe").arg(module).status().expect("modprobe");
    assert!(status.success(), "modprobe {module}: {status}");
}

/// Asks the host for something that a guest cannot do itself.
pub fn host(request: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm/host-request");
    let status = Command::new(script).args(request.split(' ')).status().expect("host-request");
    assert!(status.success(), "the host did not do: {request}");
}

/// Looks every few milliseconds until it is so.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many buffers a process has committed, by a trace that is being written.
fn commits(trace: &Path, pid: u32) -> usize {
    let trace = fs::read_to_string(trace).expect("the trace");
    let of_pid = format!("\"pid\":{pid},");
    trace.lines().filter(|line| line.contains("\"event\":\"commit\"") && line.contains(&of_pid)).count()
}

/// Whether each of these processes has committed so many buffers.
pub fn have_committed(trace: &Path, pids: &[u32], count: usize) -> bool {
    pids.iter().all(|pid| commits(trace, *pid) >= count)
}

/// Waits until each of these processes has committed so many buffers. If that is more than it has, some of them have been
/// shown and released.
pub fn wait_for_commits(trace: &Path, pids: &[u32], count: usize) {
    wait_until("every client has committed frames", || {
        let so = have_committed(trace, pids, count);
        if !so {
            // Reading all of it takes an emulated processor a while.
            std::thread::sleep(Duration::from_millis(200));
        }
        so
    });
}

/// Whether connections are accepted there. A socket is to be seen before that, from bind(2) to listen(2).
fn is_listening(socket: &Path) -> bool {
    const SO_ACCEPTCON: &str = "00010000";
    let sockets = fs::read_to_string("/proc/net/unix").expect("the sockets");
    let path = socket.to_string_lossy();
    sockets.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.get(3) == Some(&SO_ACCEPTCON) && fields.get(7) == Some(&&*path)
    })
}

/// A compositor on KMS, with a seat.
pub struct Session {
    process: Process,
    folder: PathBuf,
}

impl Session {
    /// Starts fencepost on KMS with `arguments` and waits until it listens.
    pub fn start(arguments: &[&str]) -> Self {
        Self::under(&[], arguments)
    }

    /// As [`start`](Self::start), with a program in front that runs the rest of its command line.
    pub fn under(wrapper: &[&str], arguments: &[&str]) -> Self {
        let folder = PathBuf::from(format!("/run/fencepost-test-{}", next_id()));
        fs::create_dir_all(&folder).expect("a folder");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let child = Command::new(root.join("tests/vm/guest-session"))
            .args(wrapper)
            .args([FENCEPOST, "--backend", "kms", "--socket", "wayland-test", "--record"])
            .arg(folder.join("record.json"))
            .args(arguments)
            .env("XDG_RUNTIME_DIR", &folder)
            .env("TERMINAL", folder.join("terminal"))
            .env("RUST_LOG", "warn,smithay::backend::egl=off")
            .spawn()
            .expect("start the compositor");
        let session = Self { process: Process(child), folder };
        wait_until("the compositor listens", || is_listening(&session.socket()));
        session
    }

    /// Starts fencepost as a window of this compositor, and waits until it listens.
    pub fn nested(&self, arguments: &[&str]) -> Self {
        Self::window_of(&self.socket(), arguments)
    }

    /// As [`nested`](Self::nested), in the compositor that listens there.
    pub fn window_of(parent: &Path, arguments: &[&str]) -> Self {
        Self::without_seat("nested", Command::new(FENCEPOST).env("WAYLAND_DISPLAY", parent), arguments)
    }

    /// Starts fencepost with a virtual output, and waits until it listens.
    pub fn headless(arguments: &[&str]) -> Self {
        Self::without_seat("headless", &mut Command::new(FENCEPOST), arguments)
    }

    fn without_seat(backend: &str, command: &mut Command, arguments: &[&str]) -> Self {
        let folder = PathBuf::from(format!("/run/fencepost-test-{}", next_id()));
        fs::create_dir_all(&folder).expect("a folder");
        let child = command
            .args(["--backend", backend, "--socket", "wayland-test", "--record"])
            .arg(folder.join("record.json"))
            .args(arguments)
            .env("XDG_RUNTIME_DIR", &folder)
            .env("RUST_LOG", "warn,smithay::backend::egl=off")
            .env("NO_COLOR", "1")
            .stderr(fs::File::create(folder.join("said")).expect("a log"))
            .spawn()
            .expect("start the compositor");
        let session = Self { process: Process(child), folder };
        wait_until("the compositor listens", || is_listening(&session.socket()));
        session
    }

    /// What a nested or headless compositor has said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.join("said")).expect("a log")
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("wayland-test")
    }

    /// The compositor's process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends the compositor a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        self.process.signal(signal);
    }

    /// What Super and Return start, if the test has put a program there.
    pub fn terminal(&self) -> PathBuf {
        self.folder.join("terminal")
    }

    /// A command that runs as a client of this compositor.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("XDG_RUNTIME_DIR", &self.folder).env("WAYLAND_DISPLAY", "wayland-test");
        command
    }

    /// Starts a client that nobody here wrote.
    pub fn foreign(&self, program: &str, arguments: &[&str]) -> Process {
        Process(self.command(program).args(arguments).stdout(Stdio::null()).spawn().expect(program))
    }

    /// Starts the reference client.
    pub fn client(&self, arguments: &[&str]) -> Client {
        let log = self.folder.join(format!("client-{}.json", next_id()));
        let stdout = fs::File::create(&log).expect("a log");
        let child = self.command(FENCEPOST).args(["client", "--json"]).args(arguments).stdout(stdout).spawn();
        Client { process: Process(child.expect("start the client")), log }
    }

    /// Ends the compositor, which has to go with exit status 0, and gives its record: a list of clients.
    pub fn end(self) -> Record {
        self.process.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Waits until the compositor ends because it cannot go on.
    pub fn wait_for_failure(mut self) {
        let status = self.process.wait();
        assert_eq!(status.code(), Some(1), "the compositor ended with {status}");
    }

    /// Waits until the compositor ends by itself; otherwise as [`end`](Self::end).
    pub fn wait(self) -> Record {
        let Self { mut process, folder } = self;
        let status = process.wait();
        assert!(status.success(), "the compositor ended with {status}");
        let record = fs::read(folder.join("record.json")).expect("the record");
        Record(serde_json::from_slice(&record).expect("the record is JSON"))
    }
}

/// What the compositor says of its clients and its output.
#[derive(Debug)]
pub struct Record(Vec<Value>);

impl Record {
    /// A number of the one output's entry.
    #[track_caller]
    pub fn of_output(&self, name: &str) -> u64 {
        let entry = self.0.iter().find(|entry| entry["output"].is_string());
        let entry = entry.unwrap_or_else(|| panic!("no output in {:?}", self.0));
        entry[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {entry:#}"))
    }

    /// The entry of a process.
    pub fn of(&self, pid: u32) -> &Value {
        let entry = self.0.iter().find(|client| client["pid"] == pid);
        entry.unwrap_or_else(|| panic!("no client {pid} in {:?}", self.0))
    }
}

/// A reference client.
pub struct Client {
    process: Process,
    log: PathBuf,
}

impl Client {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Asks it to end, and gives its report.
    pub fn end(self) -> Report {
        self.process.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Waits until it has shown all of its frames, and gives its report.
    pub fn wait(mut self) -> Report {
        let status = self.process.wait();
        let text = fs::read_to_string(&self.log).expect("the log");
        let report =
            Report(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status}: {error}: {text}")));
        assert_eq!(
            status.success(),
            report.is_clean(),
            "the exit status agrees with the report: {:?}",
            report.0
        );
        report
    }
}

/// What a reference client says of the compositor.
#[derive(Debug)]
pub struct Report(Value);

impl Report {
    fn is_clean(&self) -> bool {
        self.0["violations"] == Value::Array(vec![]) && self.0["errors"] == Value::Array(vec![])
    }

    /// Why it ended early; nothing if it did not.
    pub fn error(&self) -> &str {
        self.0["errors"][0].as_str().unwrap_or_default()
    }

    /// Fails the test if the client accuses the compositor.
    #[track_caller]
    pub fn expect_clean(&self) -> &Self {
        assert!(self.is_clean(), "{:#}", self.0);
        self
    }

    /// As [`expect_clean`](Self::expect_clean), but violations with this text are passed over.
    #[track_caller]
    pub fn expect_clean_but_for(&self, text: &str) {
        let violations = self.0["violations"].as_array().expect("violations");
        let mut others = violations.iter().filter(|violation| !violation.to_string().contains(text));
        assert!(others.next().is_none() && self.0["errors"] == Value::Array(vec![]), "{:#}", self.0);
    }

    /// A number of the report, by its name or by the path to it.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let value = if name.starts_with('/') { self.0.pointer(name) } else { self.0.get(name) };
        value.and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {name} in {:#}", self.0))
    }
}
