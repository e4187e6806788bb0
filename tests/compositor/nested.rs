//! fencepost as a window of fencepost: the parent runs in a thread of its own, as a process would.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fencepost::input;
use fencepost::output::nested::parent::{Error, Parent as Connection};
use smithay::backend::input::{KeyState, Keycode};
use smithay::input::keyboard::XkbConfig;
use wayland_client::WEnum;
use wayland_client::protocol::wl_keyboard::{self, WlKeyboard};
use wayland_client::protocol::wl_output::{self, WlOutput};
use wayland_client::protocol::wl_seat::WlSeat;
use wayland_client::protocol::wl_surface;

use crate::fixture::{Log, events};
use crate::parent::{PATIENCE, Parent};
use crate::setup::{App, Desk, SIZE, Window, releases};

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const ALL: usize = (SIZE.0 * SIZE.1) as usize;
const KEY_A: u32 = 30;
const KEY_M: u32 = 50;
const KEY_Q: u32 = 16;

#[test]
fn what_a_client_of_the_window_shows_is_on_the_parents_screen() {
    let parent = Parent::new("picture");
    let desk = parent.desk();
    let mut app = App::new(&desk);
    let window = app.window();
    for colour in [RED, GREEN, RED, GREEN, RED, GREEN] {
        let shown = app.show(&window.surface, &app.coloured_buffer(colour));
        app.until_shown(&shown);
        parent.until_pixels(&mut app, colour, ALL);
    }
    assert_eq!(parent.pixels_of(RED), 0);
}

#[test]
fn a_key_of_the_parent_reaches_the_client_of_the_window() {
    let parent = Parent::new("key");
    let desk = parent.desk();
    let mut app = App::new(&desk);
    let seat: WlSeat = app.client.bind(7);
    let keyboard: WlKeyboard = seat.get_keyboard(&app.client.handle(), Log::default());
    let window = app.window();
    let shown = app.show(&window.surface, &app.coloured_buffer(RED));
    app.until_shown(&shown);
    parent.until_pixels(&mut app, RED, ALL);
    for state in [KeyState::Pressed, KeyState::Released] {
        parent.ask(move |parent| input::key(parent.state(), Keycode::new(KEY_A + 8), state, 0));
    }
    let mut keys = Vec::new();
    app.client.until(|| {
        keys.extend(events(&keyboard).into_iter().filter_map(|event| match event {
            wl_keyboard::Event::Key { key, state: WEnum::Value(state), .. } => Some((key, state)),
            _ => None,
        }));
        keys.len() >= 2
    });
    let expected = [wl_keyboard::KeyState::Pressed, wl_keyboard::KeyState::Released];
    assert_eq!(keys, expected.map(|state| (KEY_A, state)));
}

#[test]
fn keys_mean_to_the_clients_of_the_window_what_they_mean_to_the_parents() {
    let parent = Parent::new("keymap");
    let desk = parent.desk();
    let mut app = App::new(&desk);
    let seat: WlSeat = app.client.bind(7);
    let keyboard: WlKeyboard = seat.get_keyboard(&app.client.handle(), Log::default());
    app.client.roundtrip();
    events(&keyboard);
    parent.ask(|parent| {
        let german = XkbConfig { layout: "de", ..XkbConfig::default() };
        let keyboard = parent.state().seat.get_keyboard().expect("a keyboard");
        keyboard.set_xkb_config(parent.state(), german).expect("a keymap");
        keyboard.change_repeat_info(7, 777);
    });
    let (mut keymap, mut repeats) = (String::new(), false);
    app.client.until(|| {
        for event in events(&keyboard) {
            match event {
                wl_keyboard::Event::Keymap { fd, .. } => {
                    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                    keymap = String::from_utf8_lossy(&fs::read(path).expect("a keymap")).into_owned();
                }
                wl_keyboard::Event::RepeatInfo { rate, delay } => repeats = (rate, delay) == (7, 777),
                _ => {}
            }
        }
        keymap.contains("German") && repeats
    });
}

/// A client whose window the parent shows, and has a buffer to show next.
struct Shown {
    app: App,
    window: Window,
    output: WlOutput,
    first: wayland_client::protocol::wl_buffer::WlBuffer,
}

impl Shown {
    fn new(parent: &Parent, desk: &Desk) -> Self {
        let mut app = App::new(desk);
        let output = app.client.bind(4);
        let window = app.window();
        let first = app.coloured_buffer(RED);
        let shown = app.show(&window.surface, &first);
        app.until_shown(&shown);
        parent.until_pixels(&mut app, RED, ALL);
        Self { app, window, output, first }
    }

    /// The output goes; the client stays, and gets back what it had shown.
    #[track_caller]
    fn expect_no_output_and_no_harm(mut self) {
        let mut left = false;
        self.app.client.until(|| {
            left |= events(&self.window.surface)
                .iter()
                .any(|event| matches!(event, wl_surface::Event::Leave { .. }));
            left
        });
        self.app.client.roundtrip();
        assert_eq!(self.app.client.offered::<WlOutput>(), None, "the output is still announced");
        let second = self.app.coloured_buffer(GREEN);
        self.app.show(&self.window.surface, &second);
        self.app.client.until(|| releases(&self.first) == 1);
        self.window.surface.destroy();
        self.app.client.until(|| releases(&second) == 1);
        self.app.client.expect_no_error();
    }
}

#[test]
fn a_parent_that_goes_takes_the_output_and_no_client() {
    let mut parent = Parent::new("gone");
    let desk = parent.desk();
    let shown = Shown::new(&parent, &desk);
    parent.end();
    shown.expect_no_output_and_no_harm();
}

#[test]
fn a_parent_that_posts_an_error_takes_the_output_and_no_client() {
    let parent = Parent::new("error");
    let desk = parent.desk();
    let shown = Shown::new(&parent, &desk);
    parent.ask_with_sockets(|_, sockets| {
        // wl_display.error: on wl_display itself, implementation, "no".
        let words = [1_u32, 24 << 16, 1, 3, 3, u32::from_ne_bytes(*b"no\0\0")];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        (&sockets[0]).write_all(&bytes).expect("an error that is sent");
    });
    shown.expect_no_output_and_no_harm();
}

#[test]
fn of_a_storm_of_sizes_a_client_sees_the_last_and_few_others() {
    let parent = Parent::new("storm");
    let desk = parent.desk();
    let mut shown = Shown::new(&parent, &desk);
    parent.press_with_super(KEY_M);
    shown.app.client.roundtrip();
    events(&shown.output);
    for step in 1..=100 {
        parent.resize(128 + step, 128);
    }
    let mut sizes = Vec::new();
    shown.app.client.until(|| {
        sizes.extend(events(&shown.output).into_iter().filter_map(|event| match event {
            wl_output::Event::Mode { width, height, .. } => Some((width, height)),
            _ => None,
        }));
        sizes.last() == Some(&(228, 128))
    });
    assert!(sizes.len() <= 5, "{sizes:?}");
    let (window, app) = (&shown.window, &mut shown.app);
    app.client.roundtrip();
    window.ack();
    app.show(&window.surface, &app.coloured_buffer(GREEN));
    parent.until_pixels(app, GREEN, ALL);
}

#[test]
fn clients_of_a_window_that_is_asked_for_no_frame_are_served_as_hidden_ones() {
    let parent = Parent::new("occluded");
    let desk = parent.desk();
    let Shown { mut app, window, .. } = Shown::new(&parent, &desk);
    let frozen = parent.freeze();
    // The parent may still ask for the frame after the one that it has, so that one is in flight at the latest now.
    for _ in 0..6 {
        let callback = app.frame(&window.surface);
        app.show(&window.surface, &app.coloured_buffer(GREEN));
        app.client.until(|| !events(&callback).is_empty());
    }
    drop(frozen);
    parent.until_pixels(&mut app, GREEN, ALL);
    let shown = app.show(&window.surface, &app.coloured_buffer(RED));
    app.until_shown(&shown);
    parent.until_pixels(&mut app, RED, ALL);
}

#[test]
fn a_parent_that_says_nothing_is_not_waited_for_for_ever() {
    let parent = Parent::new("silent");
    let frozen = parent.freeze();
    let error = Connection::open(&parent.socket(), 1, (64, 64).into(), Duration::from_millis(50));
    let error = error.expect_err("a window of a parent that says nothing");
    assert!(matches!(error, Error::Silent { .. }), "{error}");
    assert!(error.to_string().ends_with("did not answer within 50ms"), "{error}");
    drop(frozen);
}

/// fencepost as a program, in the parent's folder, with what it says on stderr. Dropping it kills it.
pub(crate) struct Program {
    pub(crate) child: Child,
    said: Receiver<String>,
}

impl Program {
    pub(crate) fn start(folder: &std::path::Path, backend: &str) -> Self {
        Self::start_with(folder, backend, &[])
    }

    pub(crate) fn start_with(folder: &std::path::Path, backend: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fencepost"))
            .args(["run", "--backend", backend, "--mode", "64x64", "--socket", "child"])
            .args(arguments)
            .env("XDG_RUNTIME_DIR", folder)
            .env("WAYLAND_DISPLAY", "parent")
            .env("RUST_LOG", "info")
            // No screen may be taken here, wherever this runs.
            .env("LIBSEAT_BACKEND", "none of them")
            .stderr(Stdio::piped())
            .spawn()
            .expect("start fencepost");
        let lines = BufReader::new(child.stderr.take().expect("stderr")).lines().map_while(Result::ok);
        let (say, said) = channel();
        std::thread::spawn(move || lines.for_each(|line| drop(say.send(line))));
        Self { child, said }
    }

    /// The next line with this in it.
    #[track_caller]
    pub(crate) fn until_says(&self, what: &str) -> String {
        let start = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let line = self.said.recv_timeout(left).unwrap_or_else(|error| panic!("no {what}: {error}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    #[track_caller]
    fn expect_status(&mut self, code: i32) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return assert_eq!(status.code(), Some(code));
            }
            assert!(start.elapsed() < PATIENCE, "it has not ended");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_parent_that_goes_ends_the_program_with_a_message_and_status_1() {
    let mut parent = Parent::new("status");
    let mut program = Program::start(&parent.folder, "nested");
    program.until_says("listening on");
    parent.end();
    let last = program.until_says("fencepost: ended, because");
    assert!(last.starts_with("fencepost: ended, because the parent compositor ended"), "{last}");
    program.expect_status(1);
}

#[test]
fn closing_the_window_ends_the_program_with_status_0() {
    let parent = Parent::new("closed");
    let mut program = Program::start(&parent.folder, "nested");
    program.until_says("listening on");
    // The parent shows the window, and gives it the keyboard, with its first frame.
    let start = Instant::now();
    while parent.windows() == 0 {
        assert!(start.elapsed() < PATIENCE, "no window");
    }
    parent.press_with_super(KEY_Q);
    program.until_says("the window was closed");
    program.expect_status(0);
}

#[test]
fn several_outputs_are_several_windows_and_a_window_that_is_closed_takes_its_output() {
    let parent = Parent::new("several");
    let desk = parent.desk_of(3);
    let mut app = App::new(&desk);
    let outputs = app.client.bind_all::<WlOutput>(4).len();
    assert_eq!(outputs, 3);
    let until_windows = |app: &mut App, count| {
        let start = Instant::now();
        while parent.windows() != count {
            assert!(start.elapsed() < PATIENCE, "{} of {count} windows", parent.windows());
            app.client.roundtrip();
        }
    };
    until_windows(&mut app, 3);
    parent.press_with_super(KEY_Q);
    until_windows(&mut app, 2);
    let start = Instant::now();
    while app.client.bind_all::<WlOutput>(4).len() != 2 {
        assert!(start.elapsed() < PATIENCE, "the output is still announced");
        app.client.roundtrip();
    }
    // The others go on. They cover each other, so that a client need not be shown; it is served.
    let window = app.window();
    let callback = app.frame(&window.surface);
    app.show(&window.surface, &app.coloured_buffer(RED));
    app.client.until(|| !events(&callback).is_empty());
    app.client.expect_no_error();
}

#[test]
fn a_screenshot_is_pixel_by_pixel_what_the_client_drew() {
    let parent = Parent::new("screenshot");
    let desk = parent.desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let shown = app.show(&window.surface, &app.coloured_buffer(RED));
    app.until_shown(&shown);
    parent.until_pixels(&mut app, RED, ALL);
    let pixels = parent.screenshot("HEADLESS-1").expect("a screenshot");
    // As the screen has it, which is read in another way.
    let screen = parent.ask(|parent| parent.state().picture().expect("a picture"));
    let screen: Vec<u8> = screen.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
    assert!(pixels == screen, "the pictures differ");
    assert_eq!(pixels.chunks_exact(3).filter(|pixel| **pixel == RED).count(), ALL);

    let said = parent.screenshot("HEADLESS-7").expect_err("no such output");
    assert!(said.contains("HEADLESS-7: there are HEADLESS-1"), "{said}");
}

#[test]
fn a_dead_socket_is_said_and_a_screen_is_tried() {
    let folder = std::env::temp_dir().join(format!("fencepost-nested-dead-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    drop(UnixListener::bind(folder.join("parent")).expect("a socket"));
    let mut program = Program::start(&folder, "auto");
    let warning =
        program.until_says("no window, trying a screen: could not connect to the parent compositor");
    assert!(warning.contains("Connection refused"), "{warning}");
    program.until_says("fencepost: ");
    program.expect_status(1);
    drop(fs::remove_dir_all(&folder));
}
