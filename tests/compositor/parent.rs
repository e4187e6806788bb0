//! fencepost as the parent of fencepost: it runs in a thread of its own, as a process would.

use std::fs;
use std::io::BufReader;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fencepost::compositor::{Kind, Options};
use fencepost::input;
use fencepost::output::kms::modes::ModeRequest;
use smithay::backend::input::{KeyState, Keycode};

use crate::fixture::{Fixture, Server};
use crate::outputs::config;
use crate::setup::{App, Desk, TestCompositor, compositor};

const SUPER: u32 = 125;

/// How long anything may take. Only a test that fails gets there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The mode of an output, or the size of a window, that has so many pixels a side.
pub(crate) fn square(side: u16) -> ModeRequest {
    ModeRequest::Size { width: side, height: side, refresh_mhz: Some(200_000) }
}

/// The parent as other clients than the window see it.
pub(crate) struct Remote(pub(crate) PathBuf);

impl Server for Remote {
    fn connect(&mut self) -> UnixStream {
        UnixStream::connect(&self.0).expect("a connection")
    }

    /// It is a thread: it gets some time with each.
    fn turns(&self) -> usize {
        PATIENCE.as_millis() as usize
    }

    fn turn(&mut self) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the parent is to do, with the sockets of those who have connected.
type Request = Box<dyn FnOnce(&mut TestCompositor, &[UnixStream]) + Send>;

/// A parent; dropping it ends it.
pub(crate) struct Parent {
    pub(crate) folder: PathBuf,
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Parent {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, Options::default())
    }

    /// A parent with a screen of so many pixels a side, which is scaled like this.
    pub(crate) fn scaled(name: &str, scale: &str, side: u16) -> Self {
        let file = config(&format!("[[output]]\nname = \"HEADLESS-1\"\nscale = {scale}\n"));
        Self::with(name, Options { config: Some(file), mode: Some(square(side)), ..Options::default() })
    }

    pub(crate) fn with(name: &str, options: Options) -> Self {
        let folder = std::env::temp_dir().join(format!("fencepost-nested-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let listener = UnixListener::bind(folder.join("parent")).expect("a socket");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let (requests, receiver) = channel();
        let thread = std::thread::spawn(move || serve(&listener, &receiver, options));
        Self { folder, requests: Some(requests), thread: Some(thread) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("parent")
    }

    /// A compositor in a window of this one.
    pub(crate) fn desk(&self) -> Desk {
        self.desk_of(1)
    }

    /// The same, in several windows.
    pub(crate) fn desk_of(&self, windows: u8) -> Desk {
        self.desk_with(Options { outputs: Some(windows), ..Options::default() })
    }

    pub(crate) fn desk_with(&self, options: Options) -> Desk {
        let (backend, parent) = (Kind::Nested, Some(self.socket()));
        Fixture::new(compositor(Options { backend, parent, ..options }))
    }

    /// For clients of its own.
    pub(crate) fn clients(&self) -> Fixture<Remote> {
        Fixture::new(Remote(self.socket()))
    }

    pub(crate) fn windows(&self) -> usize {
        self.ask(|parent| parent.state().shell.visible().count())
    }

    pub(crate) fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut TestCompositor) -> T + Send + 'static,
    ) -> T {
        self.ask_with_sockets(|parent, _| what(parent))
    }

    pub(crate) fn ask_with_sockets<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut TestCompositor, &[UnixStream]) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = channel();
        let request = move |parent: &mut TestCompositor, sockets: &[UnixStream]| {
            answer.send(what(parent, sockets)).expect("somebody asks");
        };
        self.requests.as_ref().expect("a parent").send(Box::new(request)).expect("a parent");
        answered.recv_timeout(PATIENCE).expect("an answer")
    }

    /// It does nothing at all, so it asks for no frame, until what is returned is dropped.
    pub(crate) fn freeze(&self) -> Sender<()> {
        let (frozen, thawed) = channel::<()>();
        let request = move |_: &mut TestCompositor, _: &[UnixStream]| {
            // The other end is only ever dropped.
            let _dropped = thawed.recv();
        };
        self.requests.as_ref().expect("a parent").send(Box::new(request)).expect("a parent");
        frozen
    }

    /// A key (linux/input-event-codes.h) with Super, which the parent takes for itself.
    pub(crate) fn press_with_super(&self, key: u32) {
        let keys = [(SUPER, KeyState::Pressed), (key, KeyState::Pressed)];
        let keys = keys.into_iter().chain([(key, KeyState::Released), (SUPER, KeyState::Released)]);
        self.ask(move |parent| {
            keys.for_each(|(key, state)| input::key(parent.state(), Keycode::new(key + 8), state, 0));
        });
    }

    /// Its screen, and so a maximised window, has another size.
    pub(crate) fn resize(&self, width: u16, height: u16) {
        let mode = ModeRequest::Size { width, height, refresh_mhz: Some(200_000) };
        self.ask(move |parent| parent.state().plug("HEADLESS-1", mode));
    }

    pub(crate) fn pixels_of(&self, colour: [u8; 3]) -> usize {
        self.ask(move |parent| parent.pixels_of(colour))
    }

    /// Lets the child run until the parent's screen has so many pixels of this colour.
    #[track_caller]
    pub(crate) fn until_pixels(&self, app: &mut App, colour: [u8; 3], count: usize) {
        let start = Instant::now();
        while self.pixels_of(colour) != count {
            assert!(start.elapsed() < PATIENCE, "{} of {count} pixels", self.pixels_of(colour));
            app.client.roundtrip();
        }
    }

    /// Lets the child run until this is so of the parent.
    #[track_caller]
    pub(crate) fn until<F>(&self, app: &mut App, what: F)
    where
        F: Fn(&mut TestCompositor) -> bool + Clone + Send + 'static,
    {
        let start = Instant::now();
        while !self.ask(what.clone()) {
            assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}");
            app.client.roundtrip();
        }
    }

    /// What `fencepost screenshot` takes of an output: rows of red, green and blue. Or what it says instead.
    pub(crate) fn screenshot(&self, output: &str) -> Result<Vec<u8>, String> {
        let file = self.folder.join("picture.png");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fencepost"));
        command.args(["screenshot", "--output", output]).arg(&file).env("WAYLAND_DISPLAY", self.socket());
        let answer = command.output().expect("a screenshot");
        if !answer.status.success() {
            assert_eq!(answer.status.code(), Some(1));
            return Err(String::from_utf8_lossy(&answer.stderr).into_owned());
        }
        let decoder = png::Decoder::new(BufReader::new(fs::File::open(&file).expect("the file")));
        let mut reader = decoder.read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("a picture");
        assert_eq!(info.color_type, png::ColorType::Rgb);
        assert_eq!((info.width * info.height * 3) as usize, pixels.len());
        Ok(pixels)
    }

    pub(crate) fn end(&mut self) {
        drop(self.requests.take());
        self.thread.take().expect("a parent").join().expect("a parent that ends well");
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn serve(listener: &UnixListener, requests: &Receiver<Request>, options: Options) {
    let mut parent = compositor(Options { backend: Kind::Headless, ..options });
    let mut sockets = Vec::new();
    loop {
        if let Ok((stream, _)) = listener.accept() {
            sockets.push(stream.try_clone().expect("a duplicate"));
            parent.state().accept(stream);
        }
        parent.sleep(Duration::from_millis(2));
        match requests.try_recv() {
            Ok(request) => request(&mut parent, &sockets),
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return parent.end(),
        }
    }
}
