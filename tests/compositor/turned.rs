//! Buffers that their client has turned (`wl_surface.set_buffer_transform`): what is shown, what of it changes, and what a
//! viewport cuts out of it. And an output that is.

use fencepost::compositor::Options;
use fencepost::input::move_pointer;
use wayland_client::WEnum;
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_output::Transform;
use wayland_client::protocol::wl_shm::Format;
use wayland_client::protocol::wl_surface::Event;
use wayland_protocols::wp::viewporter::client::wp_viewporter::WpViewporter;

use crate::fixture::{Log, events};
use crate::outputs::config;
use crate::setup::{App, Desk, Window, desk, desk_with, memory};

const TRANSFORMS: [Transform; 8] = [
    Transform::Normal,
    Transform::_90,
    Transform::_180,
    Transform::_270,
    Transform::Flipped,
    Transform::Flipped90,
    Transform::Flipped180,
    Transform::Flipped270,
];

/// A picture, row by row.
#[derive(Clone, Debug, PartialEq)]
struct Picture(Vec<Vec<u32>>);

impl Picture {
    /// Every pixel is another.
    fn new(width: u32, height: u32) -> Self {
        let pixel = |x: u32, y: u32| 0x40_0000 | (x * 6) << 8 | (y * 6);
        Self((0..height).map(|y| (0..width).map(|x| pixel(x, y)).collect()).collect())
    }

    fn part(&self, (x, y): (usize, usize), (width, height): (usize, usize)) -> Self {
        Self(self.0[y..y + height].iter().map(|row| row[x..x + width].to_vec()).collect())
    }

    /// As wl_output.transform has it: flipped around a vertical axis, or not, and then rotated counter-clockwise.
    fn turned(&self, transform: Transform) -> Self {
        let (flipped, quarters) = match transform {
            Transform::Normal => (false, 0),
            Transform::_90 => (false, 1),
            Transform::_180 => (false, 2),
            Transform::_270 => (false, 3),
            Transform::Flipped => (true, 0),
            Transform::Flipped90 => (true, 1),
            Transform::Flipped180 => (true, 2),
            Transform::Flipped270 => (true, 3),
            _ => unreachable!("the protocol has eight"),
        };
        let mut rows = self.0.clone();
        if flipped {
            rows.iter_mut().for_each(|row| row.reverse());
        }
        for _ in 0..quarters {
            // The rightmost column is the first row.
            rows = (0..rows[0].len()).rev().map(|x| rows.iter().map(|row| row[x]).collect()).collect();
        }
        Self(rows)
    }

    fn buffer(&self, app: &App) -> WlBuffer {
        let (width, height) = (self.0[0].len() as i32, self.0.len() as i32);
        let memory = memory(width * height * 4);
        let pixels: Vec<u8> = self.0.iter().flatten().flat_map(|pixel| pixel.to_ne_bytes()).collect();
        rustix::io::pwrite(&memory, &pixels, 0).expect("pixels");
        let pool = app.pool(&memory, width * height * 4);
        let handle = app.client.handle();
        pool.create_buffer(0, width, height, width * 4, Format::Xrgb8888, &handle, Log::default())
    }
}

/// Where the window is: not below the pointer.
const AT: (usize, usize) = (60, 70);

/// What the only window shows: all that is not background.
fn shown(desk: &Desk) -> Picture {
    let bytes = desk.server_mut().state().picture().unwrap_or_default();
    let pixels: Vec<_> = bytes
        .chunks_exact(4)
        .map(|pixel| u32::from_ne_bytes(pixel.try_into().unwrap()) & 0xff_ffff)
        .collect();
    let side = pixels.len().isqrt();
    let background = *pixels.last().expect("a picture");
    let rows = pixels.chunks_exact(side).skip(AT.1 - 1).map(|row| row.iter().skip(AT.0 - 1).copied());
    let rows = rows.map(|row| row.filter(|pixel| *pixel != background).collect::<Vec<_>>());
    Picture(rows.filter(|row| !row.is_empty()).collect())
}

struct Turned {
    desk: Desk,
    app: App,
    window: Window,
}

impl Turned {
    fn new() -> Self {
        let desk = desk();
        let mut app = App::new(&desk);
        let window = app.window();
        let mut stage = Self { desk, app, window };
        stage.show(&Picture::new(1, 1), Transform::Normal, all);
        {
            let mut server = stage.desk.server_mut();
            let shell = &mut server.state().shell;
            let surface = shell.visible().map(|window| window.surface().clone()).next().expect("a window");
            shell.window_mut(&surface).expect("a window").location = (AT.0 as i32, AT.1 as i32).into();
        }
        stage
    }

    fn show(&mut self, picture: &Picture, transform: Transform, damage: impl FnOnce(&Window)) -> Picture {
        let buffer = picture.turned(transform).buffer(&self.app);
        self.window.surface.set_buffer_transform(transform);
        self.window.surface.attach(Some(&buffer), 0, 0);
        damage(&self.window);
        let watched = self.app.watch(&self.window.surface);
        self.window.surface.commit();
        self.app.until_shown(&watched);
        shown(&self.desk)
    }
}

fn all(window: &Window) {
    window.surface.damage_buffer(0, 0, i32::MAX, i32::MAX);
}

#[test]
fn a_turned_buffer_is_shown_upright() {
    let (mut stage, picture) = (Turned::new(), Picture::new(24, 16));
    for transform in TRANSFORMS {
        assert_eq!(stage.show(&picture, transform, all), picture, "{transform:?}");
    }
}

#[test]
fn what_has_changed_of_a_turned_buffer_is_shown_and_nothing_else_is_looked_at() {
    for transform in TRANSFORMS {
        let (mut stage, mut picture) = (Turned::new(), Picture::new(24, 16));
        stage.show(&picture, transform, all);
        let ((x, y), side) = ((14, 3), 5);
        picture.0[y..y + side].iter_mut().for_each(|row| row[x..x + side].fill(0x50_6070));
        let honest = picture.clone();
        // A client that changes something and says nothing of it sees the old.
        picture.0[12][2] = 0x70_7070;
        let damage = |window: &Window| window.surface.damage(x as i32, y as i32, side as i32, side as i32);
        assert_eq!(stage.show(&picture, transform, damage), honest, "{transform:?}");
    }
}

#[test]
fn a_viewport_cuts_what_is_upright_out_of_a_turned_buffer() {
    let (mut stage, picture) = (Turned::new(), Picture::new(24, 16));
    let viewporter: WpViewporter = stage.app.client.bind(1);
    let viewport = viewporter.get_viewport(&stage.window.surface, &stage.app.client.handle(), Log::default());
    viewport.set_source(3.0, 5.0, 12.0, 7.0);
    for transform in TRANSFORMS {
        let shown = stage.show(&picture, transform, all);
        assert_eq!(shown, picture.part((3, 5), (12, 7)), "{transform:?}");
    }
}

#[test]
fn the_pointer_is_shown_everywhere_on_a_turned_output() {
    let file = config("[[output]]\nname = \"HEADLESS-1\"\ntransform = \"90\"\nmode = \"128x64@200\"\n");
    let desk = desk_with(Options { config: Some(file), ..Options::default() });
    let mut app = App::new(&desk);
    let window = app.window();
    let mut count = |at: (f64, f64)| {
        move_pointer(desk.server_mut().state(), at.into(), 0);
        let shown = app.show(&window.surface, &app.shm_buffer());
        app.until_shown(&shown);
        let mut server = desk.server_mut();
        let bytes = server.state().picture().unwrap_or_default();
        let background = bytes.last_chunk::<4>().expect("a picture").to_owned();
        bytes.as_chunks::<4>().0.iter().filter(|pixel| **pixel != background).count()
    };
    // The output is 64 wide and 128 high; its picture, read as the display shows it, is not.
    let [above, below, outside] = [(20.0, 40.0), (20.0, 90.0), (20.0, 127.0)].map(&mut count);
    assert!(above > outside && below > outside, "{above}, {below}, {outside}");
}

#[test]
fn a_client_is_told_how_its_output_is_turned() {
    let file = config("[[output]]\nname = \"HEADLESS-1\"\ntransform = \"90\"\nmode = \"128x64@200\"\n");
    let desk = desk_with(Options { config: Some(file), ..Options::default() });
    let mut app = App::new(&desk);
    let window = app.window();
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    let told = |event| match event {
        Event::PreferredBufferTransform { transform } => Some(transform),
        _ => None,
    };
    let told: Vec<_> = events(&window.surface).into_iter().filter_map(told).collect();
    assert_eq!(told, [WEnum::Value(Transform::_90)]);
}
