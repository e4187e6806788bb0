//! The scene that an output keeps between frames: what is on the screen is always what a picture that is gathered and drawn
//! anew shows. A client's capture is such a picture.

use fencepost::shell::Shell;
use smithay::reexports::wayland_server::{Resource as _, protocol::wl_surface::WlSurface as Shown};
use wayland_client::Proxy as _;
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_output::Transform;
use wayland_client::protocol::wl_shm::Format;
use wayland_client::protocol::wl_subsurface::WlSubsurface;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::ext::image_copy_capture::v1::client::ext_image_copy_capture_manager_v1::Options;
use wayland_protocols::ext::image_copy_capture::v1::client::ext_image_copy_capture_session_v1::ExtImageCopyCaptureSessionV1;
use wayland_protocols::wp::viewporter::client::wp_viewport::WpViewport;
use wayland_protocols::wp::viewporter::client::wp_viewporter::WpViewporter;

use crate::capture::Photographer;
use crate::fixture::Log;
use crate::popups::{Popup, new_popup};
use crate::setup::{App, Desk, Window, ack, desk, desk_with_outputs, memory};

/// One application on a desk, whose screen is compared with pictures.
struct Stage {
    desk: Desk,
    app: App,
    /// It changes nothing but its picture.
    clock: (Window, WlBuffer),
    photographer: Photographer,
    session: ExtImageCopyCaptureSessionV1,
    colour: u32,
}

impl Stage {
    fn new(desk: Desk) -> Self {
        let mut photographer = Photographer::new(&desk);
        let session = photographer.session_with(Options::PaintCursors);
        let mut app = App::new(&desk);
        let clock = (app.window(), app.shm_buffer());
        let mut stage = Self { desk, app, clock, photographer, session, colour: 0 };
        stage.tick();
        stage.place(&stage.clock.0, (100, 120));
        stage
    }

    /// A buffer of this size in a colour of its own, half of which shines through if it is translucent.
    fn buffer(&mut self, (width, height): (i32, i32), translucent: bool) -> WlBuffer {
        self.colour = self.colour.wrapping_add(0x0023_4567) & 0x007f_7f7f;
        let (format, pixel) = match translucent {
            true => (Format::Argb8888, self.colour | 0x8000_0000),
            false => (Format::Xrgb8888, self.colour),
        };
        let memory = memory(width * height * 4);
        let pixels = pixel.to_ne_bytes().repeat((width * height) as usize);
        rustix::io::pwrite(&memory, &pixels, 0).expect("pixels");
        let pool = self.app.pool(&memory, width * height * 4);
        pool.create_buffer(0, width, height, width * 4, format, &self.app.client.handle(), Log::default())
    }

    fn window(&mut self, at: (i32, i32), size: (i32, i32)) -> Window {
        let window = self.app.window();
        self.repaint(&window.surface, size, false);
        self.place(&window, at);
        self.raise(&window);
        window
    }

    fn popup(&mut self, parent: &Window) -> Popup {
        let popup = new_popup(&self.app, &parent.xdg_surface);
        self.commit(&popup.surface);
        assert_eq!(ack(&popup.xdg_surface), 1);
        self.repaint(&popup.surface, SMALL, false);
        popup
    }

    /// Commits a new buffer.
    fn repaint(&mut self, surface: &WlSurface, size: (i32, i32), translucent: bool) {
        let buffer = self.buffer(size, translucent);
        self.app.show(surface, &buffer);
        self.app.client.expect_no_error();
    }

    fn commit(&mut self, surface: &WlSurface) {
        surface.commit();
        self.app.client.expect_no_error();
    }

    /// Moves a window, and tells nobody: the next frame has to notice.
    fn place(&self, window: &Window, at: (i32, i32)) {
        self.with(window, |shell, shown| {
            shell.window_mut(shown).expect("a window").location = at.into();
        });
    }

    /// Raises a window above all but the clock: what is hidden is never shown, and its commit would wait.
    fn raise(&self, window: &Window) {
        self.with(window, Shell::raise);
        self.with(&self.clock.0, Shell::raise);
    }

    fn with(&self, window: &Window, f: impl FnOnce(&mut Shell, &Shown)) {
        let number = window.surface.id().protocol_id();
        let mut server = self.desk.server_mut();
        let shell = &mut server.state().shell;
        // Nobody else has windows here.
        let shown: Vec<_> = shell.visible().map(|window| window.surface().clone()).collect();
        let shown = shown.into_iter().find(|surface| surface.id().protocol_id() == number);
        if let Some(shown) = shown {
            f(shell, &shown);
        }
    }

    fn tick(&mut self) {
        let watched = self.app.show(&self.clock.0.surface, &self.clock.1);
        self.app.until_shown(&watched);
    }

    /// A refresh later, what is on the screen is what there is to be seen.
    #[track_caller]
    fn check(&mut self, what: &str) {
        self.app.client.expect_no_error();
        // This frame draws from what was kept, if that still holds; the second one too if the first does not.
        self.tick();
        self.tick();
        let shown = self.screen();
        self.photographer.take(&self.session);
        let anew = self.photographer.pixels();
        let wrong = shown.iter().zip(&anew).filter(|(shown, anew)| shown != anew).count();
        assert_eq!((shown.len(), wrong), (anew.len(), 0), "wrong pixels after: {what}");
    }

    fn screen(&self) -> Vec<u32> {
        let picture = self.desk.server_mut().state().picture().unwrap_or_default();
        let pixel = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().expect("a pixel")) & 0x00ff_ffff;
        picture.chunks_exact(4).map(pixel).collect()
    }

    fn count(&self, colour: u32) -> usize {
        self.screen().into_iter().filter(|pixel| *pixel == colour).count()
    }

    fn viewport(&self, surface: &WlSurface) -> WpViewport {
        let (viewporter, handle): (WpViewporter, _) = (self.app.client.bind(1), self.app.client.handle());
        viewporter.get_viewport(surface, &handle, Log::default())
    }

    fn region(&self, surface: &WlSurface, (width, height): (i32, i32)) {
        let region = self.app.compositor.create_region(&self.app.client.handle(), Log::default());
        region.add(0, 0, width, height);
        surface.set_opaque_region(Some(&region));
    }
}

const SMALL: (i32, i32) = (20, 10);
const LARGE: (i32, i32) = (60, 50);

#[test]
fn windows_that_change_in_any_way_are_shown_as_they_are() {
    let mut stage = Stage::new(desk());
    let below = stage.window((40, 30), SMALL);
    let above = stage.window((64, 64), LARGE);
    stage.check("two windows came");
    stage.repaint(&below.surface, SMALL, false);
    stage.check("one drew");
    stage.place(&above, (30, 20));
    stage.check("one moved over the other");
    stage.repaint(&below.surface, SMALL, false);
    stage.check("the hidden one drew");
    let hidden = stage.colour;
    assert_eq!(stage.count(hidden), 0, "it is hidden");
    stage.place(&above, (64, 60));
    stage.check("it was uncovered");
    assert_eq!(stage.count(hidden), 200, "what it drew while it was hidden is shown");
    stage.place(&above, (35, 25));
    stage.raise(&below);
    stage.check("the lower was raised");
    assert_eq!(stage.count(stage.colour), 200);
    stage.repaint(&above.surface, SMALL, false);
    stage.check("one shrank");
    stage.repaint(&above.surface, LARGE, true);
    stage.raise(&above);
    stage.check("one grew and became translucent");
    stage.region(&above.surface, LARGE);
    stage.commit(&above.surface);
    stage.check("it says that it is opaque");
    let viewport = stage.viewport(&above.surface);
    viewport.set_destination(30, 30);
    stage.commit(&above.surface);
    stage.check("it is stretched, with no new buffer");
    viewport.set_source(1.0, 2.0, 3.0, 4.0);
    stage.commit(&above.surface);
    stage.check("another part of its buffer is shown");
    above.surface.set_buffer_transform(Transform::_90);
    stage.commit(&above.surface);
    stage.check("it is turned, with no new buffer");
    above.surface.attach(None, 0, 0);
    stage.commit(&above.surface);
    stage.check("it was unmapped");
    below.toplevel.destroy();
    below.xdg_surface.destroy();
    below.surface.destroy();
    stage.check("a window was destroyed");
}

#[test]
fn subsurfaces_and_popups_that_move_are_shown_where_they_are() {
    let mut stage = Stage::new(desk());
    let window = stage.window((10, 10), LARGE);
    let children: Vec<_> = (0..2).map(|_| stage.app.subsurface(&window.surface)).collect();
    for (surface, subsurface) in &children {
        subsurface.set_desync();
        stage.repaint(surface, SMALL, false);
    }
    stage.commit(&window.surface);
    stage.check("two subsurfaces came");
    stage.repaint(&children[0].0, SMALL, false);
    stage.check("one drew");
    children[0].1.set_position(50, 30);
    stage.commit(&window.surface);
    stage.check("one moved");
    children[1].1.set_position(55, 35);
    stage.commit(&window.surface);
    children[0].1.place_above(&children[1].0);
    stage.commit(&window.surface);
    stage.check("one was put above the other");
    children[0].1.place_below(&window.surface);
    stage.commit(&window.surface);
    stage.check("one was put below its parent");
    let popup = stage.popup(&window);
    stage.check("a popup came");
    stage.repaint(&popup.surface, LARGE, false);
    stage.check("the popup grew");
    stage.place(&window, (30, 60));
    stage.check("the window moved with all of them");
    popup.popup.destroy();
    stage.check("the popup went, its surface did not");
    children[1].1.destroy();
    stage.check("a subsurface went");
}

#[test]
fn a_window_that_goes_to_another_output_and_back_is_shown_where_it_is() {
    let mut stage = Stage::new(desk_with_outputs(2));
    let window = stage.window((10, 10), SMALL);
    stage.check("a window came");
    stage.place(&window, (120, 10));
    stage.check("it is on both outputs");
    stage.place(&window, (200, 10));
    stage.repaint(&window.surface, SMALL, false);
    stage.check("it is on the other");
    assert_eq!(stage.count(stage.colour), 0);
    stage.place(&window, (40, 40));
    stage.check("it is back");
    assert_eq!(stage.count(stage.colour), 200);
}

/// xorshift: what it gives is decided by its seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("an index")
    }

    fn number(&mut self, from: i32, to: i32) -> i32 {
        from + i32::try_from(self.below((to - from) as usize)).expect("a number")
    }
}

/// What may happen to a scene.
struct Random {
    windows: Vec<Window>,
    children: Vec<(WlSurface, WlSubsurface, usize)>,
    popup: Option<Popup>,
}

impl Random {
    fn step(&mut self, stage: &mut Stage, chance: &mut Chance) {
        let index = chance.below(self.windows.len());
        let window = &self.windows[index];
        let size = (chance.number(1, 90), chance.number(1, 90));
        let at = (chance.number(-40, 120), chance.number(-40, 120));
        let (child, subsurface, parent) = &self.children[chance.below(self.children.len())];
        match chance.below(12) {
            0 => stage.place(window, at),
            1 => stage.raise(window),
            2 => stage.repaint(&window.surface, size, false),
            3 => stage.repaint(&window.surface, size, true),
            4 => stage.repaint(child, size, chance.below(2) == 0),
            5 => {
                subsurface.set_position(at.0, at.1);
                stage.commit(&self.windows[*parent].surface);
            }
            6 => {
                subsurface.place_below(&self.windows[*parent].surface);
                stage.commit(&self.windows[*parent].surface);
            }
            7 => {
                child.attach(None, 0, 0);
                stage.commit(child);
            }
            8 => {
                stage.region(&window.surface, size);
                stage.commit(&window.surface);
            }
            9 => {
                let turned = [Transform::Normal, Transform::_180, Transform::Flipped][chance.below(3)];
                window.surface.set_buffer_transform(turned);
                stage.commit(&window.surface);
            }
            10 => match self.popup.take() {
                Some(popup) => {
                    popup.popup.destroy();
                    popup.xdg_surface.destroy();
                    popup.surface.destroy();
                }
                None => self.popup = Some(stage.popup(window)),
            },
            _ => {
                child.set_buffer_scale(1 + chance.number(0, 1));
                stage.commit(child);
            }
        }
    }
}

#[test]
fn whatever_happens_the_screen_shows_the_scene() {
    for seed in 1..=8 {
        println!("seed {seed}");
        let (mut stage, mut chance) = (Stage::new(desk()), Chance(seed));
        let windows: Vec<_> = (0..4).map(|index| stage.window((index * 25, index * 20), LARGE)).collect();
        let children = [0, 0, 1, 2].map(|parent| {
            let (surface, subsurface) = stage.app.subsurface(&windows[parent].surface);
            subsurface.set_desync();
            (surface, subsurface, parent)
        });
        let mut random = Random { windows, children: children.into(), popup: None };
        for step in 0..60 {
            random.step(&mut stage, &mut chance);
            stage.check(&format!("step {step} of seed {seed}"));
        }
    }
}
