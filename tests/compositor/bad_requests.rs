//! Requests that no well-behaved client makes: each ends its client at most, and never the compositor or anybody else.

use fencepost::shell::window::Edges;
use smithay::utils::Rectangle;
use wayland_client::protocol::{wl_output::Transform, wl_subcompositor, wl_subsurface, wl_surface};
use wayland_protocols::wp::viewporter::client::wp_viewport::{self, WpViewport};
use wayland_protocols::wp::viewporter::client::wp_viewporter::{self, WpViewporter};
use wayland_protocols::xdg::shell::client::{xdg_surface, xdg_toplevel};

use crate::fixture::Log;
use crate::setup::{App, Clock, NO_MEMORY, SIZE, Window, desk};

fn viewport(app: &mut App, window: &Window) -> (WpViewporter, WpViewport) {
    let viewporter: WpViewporter = app.client.bind(1);
    let viewport = viewporter.get_viewport(&window.surface, &app.client.handle(), Log::default());
    (viewporter, viewport)
}

#[test]
fn a_viewport_of_no_size_is_refused() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    for (width, height) in [(0, 1), (1, 0), (-1, 1), (-2, -2), (i32::MIN, i32::MAX)] {
        let mut app = App::new(&desk);
        let window = app.window();
        let (_, viewport) = viewport(&mut app, &window);
        viewport.set_destination(width, height);
        app.client.expect_protocol_error(&viewport, wp_viewport::Error::BadValue);
        clock.tick();
    }
    for source in [(-0.5, 0.0, 1.0, 1.0), (0.0, -1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 1.0, -2.0)]
    {
        let mut app = App::new(&desk);
        let window = app.window();
        let (_, viewport) = viewport(&mut app, &window);
        viewport.set_source(source.0, source.1, source.2, source.3);
        app.client.expect_protocol_error(&viewport, wp_viewport::Error::BadValue);
        clock.tick();
    }
}

#[test]
fn a_viewport_must_lie_in_its_buffer() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let (width, height) = (f64::from(SIZE.0), f64::from(SIZE.1));
    for (x, y, w, h, error) in [
        (0.0, 0.0, width, height, None),
        (width - 1.0, 0.0, 1.0, height, None),
        (0.0, 0.0, width + 1.0, height, Some(wp_viewport::Error::OutOfBuffer)),
        (1.0, 0.0, width, height, Some(wp_viewport::Error::OutOfBuffer)),
        (8_388_607.0, 0.0, 8_388_607.0, 8_388_607.0, Some(wp_viewport::Error::OutOfBuffer)),
        (0.0, 0.0, 1.5, 1.0, Some(wp_viewport::Error::BadSize)),
    ] {
        let mut app = App::new(&desk);
        let window = app.window();
        let (_, viewport) = viewport(&mut app, &window);
        viewport.set_source(x, y, w, h);
        let shown = app.show(&window.surface, &app.shm_buffer());
        match error {
            None => app.until_shown(&shown),
            Some(error) => drop(app.client.expect_protocol_error(&viewport, error)),
        }
        clock.tick();
    }
}

#[test]
fn a_surface_as_large_as_numbers_go_is_shown_and_hurts_nobody() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let mut app = App::new(&desk);
    let window = app.window();
    let (_, viewport) = viewport(&mut app, &window);
    viewport.set_destination(i32::MAX, i32::MAX);
    window.xdg_surface.set_window_geometry(i32::MIN, i32::MIN, i32::MAX, i32::MAX);
    app.show(&window.surface, &app.shm_buffer());
    app.client.expect_no_error();
    clock.tick();
    app.client.expect_no_error();
}

#[test]
fn a_window_geometry_of_any_place_and_size_hurts_nobody() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let mut app = App::new(&desk);
    let window = app.window();
    let (child, below) = app.subsurface(&window.surface);
    for (place, size) in [(8, 4), (0, i32::MAX), (i32::MAX, i32::MAX), (i32::MIN, i32::MAX)] {
        let (_, viewport) = viewport(&mut app, &window);
        viewport.set_destination(size, size);
        below.set_position(place, place);
        window.xdg_surface.set_window_geometry(place, place, size, size);
        app.show(&child, &app.shm_buffer());
        app.show(&window.surface, &app.shm_buffer());
        app.client.expect_no_error();
        {
            let mut server = desk.server_mut();
            let shell = &mut server.state().shell;
            let surface = shell.visible().last().expect("a window").surface().clone();
            let window = shell.window_mut(&surface).expect("the same window");
            window.resize((1, i32::MAX).into(), Edges::default());
            window.location = (1, 1).into();
            window.resize((i32::MAX, 1).into(), Edges { left: true, top: true });
        }
        app.show(&window.surface, &app.shm_buffer());
        app.client.expect_no_error();
        viewport.destroy();
        clock.tick();
    }
}

#[test]
fn a_window_geometry_is_what_the_window_shows_at_most() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    window.xdg_surface.set_window_geometry(8, -4, 1000, 1000);
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    let mut server = desk.server_mut();
    let geometry = server.state().shell.visible().next().expect("a window").geometry();
    assert_eq!(geometry, Rectangle::new((8, 0).into(), (SIZE.0 - 8, SIZE.1).into()));
}

#[test]
fn sizes_below_nothing_are_refused_by_xdg_shell() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    for (width, height) in [(0, 1), (1, -1), (i32::MIN, i32::MIN)] {
        let mut app = App::new(&desk);
        let window = app.window();
        window.xdg_surface.set_window_geometry(0, 0, width, height);
        app.client.expect_protocol_error(&window.xdg_surface, xdg_surface::Error::InvalidSize);
        clock.tick();
    }
    for (width, height) in [(-1, 0), (0, i32::MIN)] {
        for max in [true, false] {
            let mut app = App::new(&desk);
            let window = app.window();
            match max {
                true => window.toplevel.set_max_size(width, height),
                false => window.toplevel.set_min_size(width, height),
            }
            app.client.expect_protocol_error(&window.toplevel, xdg_toplevel::Error::InvalidSize);
            clock.tick();
        }
    }
}

#[test]
fn one_surface_has_one_viewport() {
    let desk = desk();
    let mut app = App::new(&desk);
    let window = app.window();
    let (viewporter, _viewport) = viewport(&mut app, &window);
    viewporter.get_viewport(&window.surface, &app.client.handle(), Log::default());
    // smithay 0.7 posts it on the wl_surface, not on the wp_viewporter.
    app.client.expect_protocol_error(&window.surface, wp_viewporter::Error::ViewportExists);
}

#[test]
fn a_scale_must_be_positive_and_a_huge_one_hurts_nobody() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    for scale in [0, -1, i32::MIN] {
        let mut app = App::new(&desk);
        let window = app.window();
        window.surface.set_buffer_scale(scale);
        app.client.expect_protocol_error(&window.surface, wl_surface::Error::InvalidScale);
        clock.tick();
    }
    let mut app = App::new(&desk);
    let window = app.window();
    window.surface.set_buffer_scale(i32::MAX);
    app.show(&window.surface, &app.shm_buffer());
    app.client.roundtrip();
    clock.tick();
}

#[test]
fn damage_and_regions_of_any_size_hurt_nobody() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let mut app = App::new(&desk);
    let window = app.window();
    let extremes = [i32::MIN, -1, 0, 1, i32::MAX];
    let region = app.compositor.create_region(&app.client.handle(), Log::default());
    for a in extremes {
        for b in extremes {
            window.surface.damage(a, a, b, b);
            window.surface.damage_buffer(a, b, b, a);
            region.add(a, b, b, a);
            region.subtract(b, b, a, a);
        }
    }
    window.surface.set_opaque_region(Some(&region));
    window.surface.set_input_region(Some(&region));
    window.surface.offset(i32::MIN, i32::MAX);
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    clock.tick();
}

#[test]
fn a_subsurface_may_stand_anywhere() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let mut app = App::new(&desk);
    let window = app.window();
    for (x, y) in [(i32::MAX, i32::MAX), (i32::MIN, i32::MIN), (0, 0)] {
        let (child, subsurface) = app.subsurface(&window.surface);
        let (grandchild, below) = app.subsurface(&child);
        subsurface.set_position(x, y);
        below.set_position(x, y);
        app.show(&grandchild, &app.shm_buffer());
        app.show(&child, &app.shm_buffer());
    }
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    clock.tick();
}

#[test]
fn a_surface_cannot_be_its_own_parent_or_its_childs() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let mut app = App::new(&desk);
    let surface = app.surface();
    app.subsurface(&surface);
    let handle = app.client.handle();
    app.subcompositor.get_subsurface(&surface, &surface, &handle, Log::default());
    let subcompositor = app.subcompositor.clone();
    app.client.expect_protocol_error(&subcompositor, wl_subcompositor::Error::BadSurface);
    clock.tick();

    let mut app = App::new(&desk);
    let parent = app.surface();
    let (child, _) = app.subsurface(&parent);
    let handle = app.client.handle();
    app.subcompositor.get_subsurface(&parent, &child, &handle, Log::default());
    let subcompositor = app.subcompositor.clone();
    app.client.expect_protocol_error(&subcompositor, wl_subcompositor::Error::BadSurface);
    clock.tick();
}

#[test]
fn a_subsurface_cannot_be_placed_beside_itself() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    for above in [true, false] {
        let mut app = App::new(&desk);
        let parent = app.surface();
        let (child, subsurface) = app.subsurface(&parent);
        match above {
            true => subsurface.place_above(&child),
            false => subsurface.place_below(&child),
        }
        app.client.expect_protocol_error(&subsurface, wl_subsurface::Error::BadSurface);
        clock.tick();
    }
}

#[test]
fn subsurfaces_are_nested_up_to_a_bound() {
    const MAX_SUBSURFACE_DEPTH: usize = 64;
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let mut app = App::new(&desk);
    let mut deepest = app.surface();
    for _ in 0..MAX_SUBSURFACE_DEPTH {
        deepest = app.subsurface(&deepest).0;
    }
    app.client.expect_no_error();
    app.subsurface(&deepest);
    let display = app.client.display();
    app.client.expect_protocol_error(&display, NO_MEMORY);
    clock.tick();

    // From the other end: the whole tree gets a parent.
    let mut app = App::new(&desk);
    let mut top = app.surface();
    for _ in 0..=MAX_SUBSURFACE_DEPTH {
        let parent = app.surface();
        app.subcompositor.get_subsurface(&top, &parent, &app.client.handle(), Log::default());
        top = parent;
    }
    let display = app.client.display();
    app.client.expect_protocol_error(&display, NO_MEMORY);
    clock.tick();
}

#[test]
fn damage_of_any_size_hurts_nobody_however_the_buffer_is_turned() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let mut app = App::new(&desk);
    let window = app.window();
    let extremes = [i32::MIN, -1, 0, 1, i32::MAX];
    for transform in
        [Transform::_90, Transform::_180, Transform::_270, Transform::Flipped, Transform::Flipped90]
    {
        window.surface.set_buffer_transform(transform);
        for a in extremes {
            for b in extremes {
                window.surface.damage(a, b, i32::MAX, i32::MAX);
            }
        }
        let shown = app.show(&window.surface, &app.shm_buffer());
        app.until_shown(&shown);
        clock.tick();
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_everything_leaves_nothing_behind() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    let mut app = App::new(&desk);
    let window = app.window();
    let (child, _) = app.subsurface(&window.surface);
    app.show(&child, &app.shm_buffer());
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    app.show(&child, &app.shm_buffer());
    window.surface.attach(Some(&app.shm_buffer()), 0, 0);
    app.client.roundtrip();
    drop(app);
    clock.tick();
    let before = desk.server_mut().state().globals.surfaces().len();
    assert_eq!(before, 1, "the clock's");
}
