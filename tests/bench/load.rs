//! The load of the benchmarks beside other compositors: a window with many small surfaces in it, of which some go on. It uses
//! what every compositor has, `wl_shm` and subsurfaces, so that all of them have the same to show at the same places.
//!
//! It prints a line of JSON when everything has been shown, and one at the end.
//!
//! With `--wake-ups` it shows nothing, and prints how long the machine takes to wake a process that sleeps.
#![allow(clippy::print_stdout, clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use fencepost::client::stats::{Samples, Summary};
use fencepost::trace;
use fencepost::watch::feed::exchange;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use wayland_client::globals::{GlobalList, GlobalListContents, registry_queue_init};
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_shm::{Format, WlShm};
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_client::protocol::wl_subcompositor::WlSubcompositor;
use wayland_client::protocol::wl_subsurface::WlSubsurface;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, EventQueue, QueueHandle, delegate_noop};
use wayland_protocols::wp::presentation_time::client::wp_presentation::WpPresentation;
use wayland_protocols::wp::presentation_time::client::wp_presentation_feedback::{
    self, WpPresentationFeedback,
};
use wayland_protocols::xdg::shell::client::xdg_surface::{self, XdgSurface};
use wayland_protocols::xdg::shell::client::xdg_toplevel::XdgToplevel;
use wayland_protocols::xdg::shell::client::xdg_wm_base::{self, XdgWmBase};

/// The window, and the surfaces in it: a grid with room for 1,200.
const WINDOW: (i32, i32) = (640, 480);
const SIDE: i32 = 16;
/// Commits of `--flood` between two round trips.
const BURST: u64 = 64;
/// How often `--flood` says how many it has made.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Between two wake-ups everybody sleeps.
const WAKE_UP_EVERY: Duration = Duration::from_millis(5);

#[derive(Parser)]
struct Options {
    /// Surfaces in the window, 1,200 at most.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1200))]
    surfaces: u16,
    /// How many of them show frame after frame; the others show one picture.
    #[arg(long, default_value_t = 0)]
    active: usize,
    /// The first surface commits as fast as the compositor reads, and waits for no frame callback.
    #[arg(long)]
    flood: bool,
    /// How long to go on once everything has been shown; without it, until it is killed.
    #[arg(long)]
    seconds: Option<f64>,
    /// Wait for the first compositor that listens in XDG_RUNTIME_DIR.
    #[arg(long)]
    wait: bool,
    /// Show nothing: wake another process so often, by an eventfd.
    #[arg(long, value_name = "N")]
    wake_ups: Option<usize>,
    /// Be that process: the eventfd is stdin, and stdout is told when it was seen.
    #[arg(long)]
    sleeper: bool,
}

struct Surface {
    surface: WlSurface,
    buffers: [WlBuffer; 2],
    commits: usize,
}

struct Window {
    surface: WlSurface,
    background: WlBuffer,
    small: Vec<Surface>,
    presentation: WpPresentation,
}

/// What the compositor has said.
#[derive(Default)]
struct Said {
    configured: bool,
    shown: bool,
    /// Surfaces that may show their next frame.
    wanted: Vec<usize>,
    /// Frames of the first surface that were presented.
    presented: u64,
}

fn main() {
    let options = Options::parse();
    if options.sleeper {
        return sleep_and_tell();
    }
    if let Some(count) = options.wake_ups {
        return wake_up(count);
    }
    let connection = connect(options.wait);
    let (globals, mut queue) = registry_queue_init::<Said>(&connection).expect("globals");
    let handle = queue.handle();
    let mut said = Said::default();
    let mut window = Window::open(&globals, &handle, options.surfaces);
    while !said.configured {
        queue.blocking_dispatch(&mut said).expect("a configure");
    }
    window.show(&handle);
    while !said.shown {
        queue.blocking_dispatch(&mut said).expect("a frame on the screen");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    println!(r#"{{"shown_us": {}}}"#, now.as_micros());
    let start = Instant::now();
    let end = options.seconds.map(|seconds| start + Duration::from_secs_f64(seconds));
    let commits = match options.flood {
        true => window.flood(&mut queue, &mut said, end),
        false => window.go_on((&connection, &mut queue), &mut said, options.active, end),
    };
    let (presented, seconds) = (said.presented, start.elapsed().as_secs_f64());
    println!(r#"{{"presented": {presented}, "commits": {commits}, "seconds": {seconds:.3}}}"#);
}

/// Wakes a process that waits as an event loop does, and prints the nearest ranks of how long that took.
fn wake_up(count: usize) {
    let fd = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("--sleeper").stdin(fd.try_clone().expect("a file descriptor")).stdout(Stdio::piped());
    let mut sleeper = command.spawn().expect("another process");
    let mut told = sleeper.stdout.take().expect("a pipe");
    let mut times = Samples::default();
    for _ in 0..count {
        std::thread::sleep(WAKE_UP_EVERY);
        let (written, mut seen) = (now_ns(), [0; 8]);
        rustix::io::write(&fd, &1_u64.to_ne_bytes()).expect("an eventfd");
        told.read_exact(&mut seen).expect("the time");
        times.push(u64::from_ne_bytes(seen).saturating_sub(written) / 1000);
    }
    sleeper.kill().expect("it is there");
    sleeper.wait().expect("it ends");
    let Summary { p50, p99, max, .. } = times.summary().expect("one wake-up, at least");
    println!(r#"{{"count": {count}, "p50_us": {p50}, "p99_us": {p99}, "max_us": {max}}}"#);
}

fn sleep_and_tell() {
    let (stdin, mut stdout) = (std::io::stdin(), std::io::stdout());
    loop {
        poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None).expect("poll");
        let seen = now_ns();
        rustix::io::read(&stdin, &mut [0; 8]).expect("an eventfd");
        let told = stdout.write_all(&seen.to_ne_bytes()).and_then(|()| stdout.flush());
        told.expect("somebody who listens");
    }
}

fn now_ns() -> u64 {
    u64::try_from(trace::now().as_nanos()).unwrap()
}

fn connect(wait: bool) -> Connection {
    if !wait {
        return Connection::connect_to_env().expect("a compositor");
    }
    let folder = std::env::var("XDG_RUNTIME_DIR").expect("XDG_RUNTIME_DIR");
    loop {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
        let mut sockets = entries.map(|entry| entry.path()).filter(|path| is_socket(path));
        if let Some(stream) = sockets.find_map(|path| UnixStream::connect(path).ok()) {
            return Connection::from_socket(stream).expect("a connection");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_socket(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("wayland-").is_some_and(|number| number.parse::<u32>().is_ok())
}

fn is_over(end: Option<Instant>) -> bool {
    end.is_some_and(|end| Instant::now() >= end)
}

impl Window {
    fn open(globals: &GlobalList, handle: &QueueHandle<Said>, surfaces: u16) -> Self {
        let compositor: WlCompositor = globals.bind(handle, 4..=4, ()).expect("wl_compositor");
        let subcompositor: WlSubcompositor = globals.bind(handle, 1..=1, ()).expect("wl_subcompositor");
        let shm: WlShm = globals.bind(handle, 1..=1, ()).expect("wl_shm");
        let shell: XdgWmBase = globals.bind(handle, 1..=1, ()).expect("xdg_wm_base");
        let presentation: WpPresentation = globals.bind(handle, 1..=1, ()).expect("wp_presentation");
        let surface = compositor.create_surface(handle, ());
        let toplevel = shell.get_xdg_surface(&surface, handle, ()).get_toplevel(handle, ());
        toplevel.set_title("load".into());
        toplevel.set_app_id("fencepost-load".into());
        surface.commit();
        let [background] = buffers(&shm, handle, WINDOW, [0xff20_3040], 1).remove(0);
        let columns = WINDOW.0 / SIDE;
        let pairs = buffers(&shm, handle, (SIDE, SIDE), [0xff80_a0c0, 0xffc0_8040], surfaces);
        let small = (0..).zip(pairs).map(|(number, buffers)| {
            let small = compositor.create_surface(handle, ());
            let place = subcompositor.get_subsurface(&small, &surface, handle, ());
            place.set_position(number % columns * SIDE, number / columns * SIDE);
            place.set_desync();
            Surface { surface: small, buffers, commits: 0 }
        });
        let small = small.collect();
        Self { surface, background, small, presentation }
    }

    /// Shows everything once.
    fn show(&mut self, handle: &QueueHandle<Said>) {
        for small in &mut self.small {
            small.attach();
            small.surface.commit();
        }
        self.surface.attach(Some(&self.background), 0, 0);
        self.surface.damage_buffer(0, 0, WINDOW.0, WINDOW.1);
        self.presentation.feedback(&self.surface, handle, Shown::Window);
        self.surface.commit();
    }

    /// Shows frames of the first `active` surfaces, whenever the compositor asks for one. Returns how many.
    fn go_on(
        &mut self,
        (connection, queue): (&Connection, &mut EventQueue<Said>),
        said: &mut Said,
        active: usize,
        end: Option<Instant>,
    ) -> u64 {
        let mut commits = 0;
        said.wanted.extend(0..active.min(self.small.len()));
        while !is_over(end) {
            for number in std::mem::take(&mut said.wanted) {
                let small = &mut self.small[number];
                small.attach();
                small.surface.frame(&queue.handle(), number);
                if number == 0 {
                    self.presentation.feedback(&small.surface, &queue.handle(), Shown::First);
                }
                small.surface.commit();
                commits += 1;
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            exchange(connection, queue, left).expect("a compositor that is there");
            queue.dispatch_pending(said).expect("no protocol error");
        }
        commits
    }

    /// Commits the first surface again and again. Returns how many commits the compositor has read.
    fn flood(&mut self, queue: &mut EventQueue<Said>, said: &mut Said, end: Option<Instant>) -> u64 {
        let mut commits = 0;
        let start = Instant::now();
        let mut told = start;
        while !is_over(end) {
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                let seconds = start.elapsed().as_secs_f64();
                println!(r#"{{"commits": {commits}, "seconds": {seconds:.3}}}"#);
            }
            for _ in 0..BURST {
                self.small[0].attach();
                self.small[0].surface.commit();
            }
            queue.roundtrip(said).expect("a round trip");
            commits += BURST;
        }
        commits
    }
}

impl Surface {
    fn attach(&mut self) {
        self.surface.attach(Some(&self.buffers[self.commits % 2]), 0, 0);
        self.surface.damage_buffer(0, 0, SIDE, SIDE);
        self.commits += 1;
    }
}

/// `count` buffers of each colour, in one pool.
fn buffers<const COLOURS: usize>(
    shm: &WlShm,
    handle: &QueueHandle<Said>,
    (width, height): (i32, i32),
    colours: [u32; COLOURS],
    count: u16,
) -> Vec<[WlBuffer; COLOURS]> {
    let fd = memfd_create("load", MemfdFlags::CLOEXEC).expect("a memfd");
    let mut file = std::fs::File::from(fd);
    for _ in 0..count {
        for colour in colours {
            let pixels = colour.to_ne_bytes().repeat(usize::try_from(width * height).unwrap());
            file.write_all(&pixels).expect("room for pixels");
        }
    }
    let bytes = width * height * 4;
    let all = bytes * i32::from(count) * i32::try_from(COLOURS).unwrap();
    let pool = shm.create_pool(file.as_fd(), all.max(bytes), handle, ());
    let mut offsets = (0..).step_by(usize::try_from(bytes).unwrap());
    let mut next = || {
        let offset = offsets.next().expect("an offset");
        pool.create_buffer(offset, width, height, width * 4, Format::Xrgb8888, handle, ())
    };
    let made = (0..count).map(|_| std::array::from_fn(|_| next())).collect();
    pool.destroy();
    made
}

/// Whose feedback it is.
enum Shown {
    Window,
    First,
}

impl Dispatch<WpPresentationFeedback, Shown> for Said {
    fn event(
        said: &mut Self,
        _: &WpPresentationFeedback,
        event: wp_presentation_feedback::Event,
        what: &Shown,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match (event, what) {
            (wp_presentation_feedback::Event::Presented { .. }, Shown::Window) => said.shown = true,
            (wp_presentation_feedback::Event::Presented { .. }, Shown::First) => said.presented += 1,
            _ => {}
        }
    }
}

impl Dispatch<WlCallback, usize> for Said {
    fn event(
        said: &mut Self,
        _: &WlCallback,
        event: wl_callback::Event,
        surface: &usize,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_callback::Event::Done { .. } = event {
            said.wanted.push(*surface);
        }
    }
}

impl Dispatch<XdgSurface, ()> for Said {
    fn event(
        said: &mut Self,
        surface: &XdgSurface,
        event: xdg_surface::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_surface::Event::Configure { serial } = event {
            surface.ack_configure(serial);
            said.configured = true;
        }
    }
}

impl Dispatch<XdgWmBase, ()> for Said {
    fn event(
        _: &mut Self,
        shell: &XdgWmBase,
        event: xdg_wm_base::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_wm_base::Event::Ping { serial } = event {
            shell.pong(serial);
        }
    }
}

impl Dispatch<WlRegistry, GlobalListContents> for Said {
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

delegate_noop!(Said: WlCompositor);
delegate_noop!(Said: WlSubcompositor);
delegate_noop!(Said: WlSubsurface);
delegate_noop!(Said: WlShmPool);
delegate_noop!(Said: ignore WlShm);
delegate_noop!(Said: ignore WlSurface);
delegate_noop!(Said: ignore WlBuffer);
delegate_noop!(Said: ignore WpPresentation);
delegate_noop!(Said: ignore XdgToplevel);
