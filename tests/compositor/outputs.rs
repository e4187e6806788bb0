//! Several outputs: what is on which, what a client hears of it, and what happens when one goes.

use fencepost::compositor::Compositor;
use fencepost::output::kms::modes::ModeRequest;
use wayland_client::Proxy;
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_callback::WlCallback;
use wayland_client::protocol::wl_output::{self, WlOutput};
use wayland_client::protocol::wl_surface::{self, WlSurface};
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_manager_v1::{
    Error as ManagerError, WpFractionalScaleManagerV1,
};
use wayland_protocols::wp::fractional_scale::v1::client::wp_fractional_scale_v1::{
    Event as FractionalEvent, WpFractionalScaleV1,
};
use wayland_protocols::wp::presentation_time::client::wp_presentation_feedback::{
    Event as FeedbackEvent, WpPresentationFeedback,
};
use wayland_protocols::xdg::xdg_output::zv1::client::zxdg_output_manager_v1::ZxdgOutputManagerV1;
use wayland_protocols::xdg::xdg_output::zv1::client::zxdg_output_v1;
use wayland_protocols_wlr::output_power_management::v1::client::zwlr_output_power_manager_v1::ZwlrOutputPowerManagerV1;
use wayland_protocols_wlr::output_power_management::v1::client::zwlr_output_power_v1::{
    Event as PowerEvent, Mode as Power, ZwlrOutputPowerV1,
};

use crate::fixture::{Log, events};
use crate::setup::{App, Desk, Fate, MODE, Window, desk, desk_with, desk_with_outputs, releases};

/// The side of every output's square.
const SIDE: i32 = 128;

fn on<T>(desk: &Desk, f: impl FnOnce(&mut Compositor) -> T) -> T {
    f(desk.server_mut().state())
}

/// Puts the topmost window there; it is drawn there with its next commit.
fn put(desk: &Desk, x: i32, y: i32) {
    on(desk, |state| {
        let surface = state.shell.visible().next().expect("a window").surface().clone();
        state.shell.window_mut(&surface).expect("the window").location = (x, y).into();
    });
}

fn place(desk: &Desk) -> (i32, i32) {
    on(desk, |state| state.shell.visible().next().expect("a window").location.into())
}

/// A window that is shown at a place.
fn shown_at(desk: &Desk, app: &mut App, x: i32, y: i32) -> (Window, WlBuffer) {
    let (window, buffer) = (app.window(), app.shm_buffer());
    let watched = app.show(&window.surface, &buffer);
    app.until_shown(&watched);
    put(desk, x, y);
    let watched = app.show(&window.surface, &buffer);
    app.until_shown(&watched);
    app.client.expect_no_error();
    (window, buffer)
}

fn outputs(app: &mut App) -> Vec<WlOutput> {
    let outputs = app.client.bind_all(4);
    app.client.expect_no_error();
    outputs
}

/// The outputs that a surface was told that it is on, of those that its client has bound.
fn entered(surface: &WlSurface, among: &[WlOutput]) -> Vec<usize> {
    let mut inside = Vec::new();
    for event in events(surface) {
        match event {
            wl_surface::Event::Enter { output } => {
                inside.extend(among.iter().position(|other| *other == output));
            }
            wl_surface::Event::Leave { output } => inside.retain(|index| among[*index] != output),
            _ => {}
        }
    }
    inside.sort_unstable();
    inside
}

#[test]
fn several_outputs_are_side_by_side_and_named() {
    let desk = desk_with_outputs(3);
    let mut app = App::new(&desk);
    let described: Vec<_> = outputs(&mut app)
        .iter()
        .map(|output| {
            let (mut at, mut named) = (None, None);
            for event in events(output) {
                match event {
                    wl_output::Event::Geometry { x, y, .. } => at = Some((x, y)),
                    wl_output::Event::Name { name } => named = Some(name),
                    _ => {}
                }
            }
            (at.expect("a place"), named.expect("a name"))
        })
        .collect();
    let wanted = [0, 1, 2].map(|index| ((index * SIDE, 0), format!("HEADLESS-{}", index + 1)));
    assert_eq!(described, wanted);
}

#[test]
fn a_surface_on_two_outputs_is_on_both_and_is_paced_and_presented_by_the_one_that_shows_most_of_it() {
    let desk = desk_with_outputs(2);
    let mut app = App::new(&desk);
    let outputs = outputs(&mut app);
    let (window, buffer) = shown_at(&desk, &mut app, SIDE - 20, 10);
    // Frames of the other output are not waited for.
    let mut inside = 0;
    app.client.until(|| {
        inside += events(&window.surface)
            .iter()
            .filter(|event| matches!(event, wl_surface::Event::Enter { .. }))
            .count();
        inside == 2
    });
    for _ in 0..3 {
        let feedback: WpPresentationFeedback =
            app.presentation.feedback(&window.surface, &app.client.handle(), Log::default());
        let callbacks: [WlCallback; 2] = [app.frame(&window.surface), app.frame(&window.surface)];
        let watched = app.show(&window.surface, &buffer);
        app.until_shown(&watched);
        app.client.until(|| callbacks.iter().all(|callback| !events(callback).is_empty()));
        app.client.expect_no_error();
        let heard = events(&feedback);
        let synced: Vec<_> = heard
            .iter()
            .filter_map(|event| match event {
                FeedbackEvent::SyncOutput { output } => outputs.iter().position(|other| other == output),
                _ => None,
            })
            .collect();
        assert_eq!(synced, [1], "most of it is on the second output");
        assert_eq!(heard.iter().filter(|event| matches!(event, FeedbackEvent::Presented { .. })).count(), 1);
    }
    assert!(releases(&buffer) >= 3);
}

#[test]
fn an_output_that_goes_is_left_its_global_withdrawn_and_its_windows_move() {
    let desk = desk_with_outputs(2);
    let mut app = App::new(&desk);
    let outputs = outputs(&mut app);
    let (window, buffer) = shown_at(&desk, &mut app, SIDE + 20, 30);
    assert_eq!(entered(&window.surface, &outputs), [1]);
    app.show(&window.surface, &buffer);
    on(&desk, |state| state.unplug("HEADLESS-2"));
    let watched = app.show(&window.surface, &buffer);
    app.until_shown(&watched);
    app.client.expect_no_error();
    assert_eq!(app.client.bind_all::<WlOutput>(4).len(), 1, "one global is left");
    let left: Vec<_> = events(&window.surface)
        .into_iter()
        .filter_map(|event| match event {
            wl_surface::Event::Leave { output } => outputs.iter().position(|other| *other == output),
            _ => None,
        })
        .collect();
    assert_eq!(left, [1]);
    assert!((0..SIDE - 60).contains(&place(&desk).0), "{:?} is on the output that is left", place(&desk));
}

#[test]
fn frames_in_flight_on_an_output_that_goes_are_discarded_and_its_buffers_released() {
    let desk = desk_with_outputs(2);
    let mut app = App::new(&desk);
    let (window, buffer) = shown_at(&desk, &mut app, SIDE + 20, 30);
    events(&buffer);
    let buffers: Vec<_> = (0..3).map(|_| app.shm_buffer()).collect();
    let mut watched = Vec::new();
    for buffer in &buffers {
        watched.push(app.show(&window.surface, buffer));
        app.client.expect_no_error();
    }
    on(&desk, |state| state.unplug("HEADLESS-2"));
    // Nobody waits for the frame that never came: each commit is shown, on the other output, or discarded.
    app.client.until(|| watched.iter().all(|commit| commit.fate() != Fate::Waiting));
    window.surface.attach(None, 0, 0);
    window.surface.commit();
    let mut released = vec![0; buffers.len()];
    app.client.until(|| {
        released.iter_mut().zip(&buffers).for_each(|(count, buffer)| *count += releases(buffer));
        released.iter().all(|count| *count > 0)
    });
    assert_eq!(released, [1, 1, 1]);
}

#[test]
fn without_any_output_windows_wait_and_are_shown_when_one_comes() {
    let desk = desk();
    let mut app = App::new(&desk);
    let (window, buffer) = shown_at(&desk, &mut app, 30, 30);
    on(&desk, |state| state.unplug("HEADLESS-1"));
    let watched = app.show(&window.surface, &buffer);
    for _ in 0..5 {
        assert_eq!(app.fate(&watched), Fate::Waiting);
    }
    on(&desk, |state| state.plug("HEADLESS-7", MODE));
    app.until_shown(&watched);
    app.client.expect_no_error();
    assert_eq!(app.client.bind_all::<WlOutput>(4).len(), 1);
    assert_eq!(place(&desk), (30, 30));
}

#[test]
fn a_maximised_window_fills_the_output_that_is_left() {
    let desk = desk_with_outputs(2);
    let mut app = App::new(&desk);
    on(&desk, |state| {
        state.plug("HEADLESS-2", ModeRequest::Size { width: 200, height: 90, refresh_mhz: Some(200_000) });
        fencepost::input::move_pointer(state, (150.0, 50.0).into(), 0);
    });
    let window = app.new_window();
    window.toplevel.set_maximized();
    window.surface.commit();
    app.client.expect_no_error();
    assert_eq!(sizes(&window), [(200, 90)]);
    window.ack();
    on(&desk, |state| state.unplug("HEADLESS-2"));
    app.client.expect_no_error();
    assert_eq!(sizes(&window), [(SIDE, SIDE)]);
}

fn sizes(window: &Window) -> Vec<(i32, i32)> {
    use wayland_protocols::xdg::shell::client::xdg_toplevel::Event;
    let size = |event| match event {
        Event::Configure { width, height, .. } => Some((width, height)),
        _ => None,
    };
    events(&window.toplevel).into_iter().filter_map(size).collect()
}

#[test]
fn the_pointer_stays_on_an_output_when_its_own_goes() {
    let desk = desk_with_outputs(2);
    let pointer = |state: &Compositor| state.seat.get_pointer().expect("a pointer").current_location();
    on(&desk, |state| {
        fencepost::input::move_pointer(state, (200.0, 50.0).into(), 0);
        assert_eq!(pointer(state), (200.0, 50.0).into());
        state.unplug("HEADLESS-2");
        assert_eq!(pointer(state), (127.0, 50.0).into());
    });
}

#[test]
fn a_storm_of_plugs_leaves_nothing_behind() {
    // More than the tests beside this one open and close, in the same process.
    const ROUNDS: usize = 300;
    let desk = desk_with_outputs(2);
    let mut app = App::new(&desk);
    let (window, buffer) = shown_at(&desk, &mut app, SIDE + 20, 30);
    let fds = || std::fs::read_dir("/proc/self/fd").expect("proc").count();
    let before = fds();
    for _ in 0..ROUNDS {
        on(&desk, |state| state.unplug("HEADLESS-2"));
        app.show(&window.surface, &buffer);
        app.client.expect_no_error();
        on(&desk, |state| state.plug("HEADLESS-2", MODE));
        app.show(&window.surface, &buffer);
        app.client.expect_no_error();
    }
    let watched = app.show(&window.surface, &buffer);
    app.until_shown(&watched);
    assert!(fds() < before + ROUNDS, "{before} file descriptors became {}", fds());
}

/// smithay 0.7 looks up the output and takes it for granted.
#[test]
fn an_output_that_has_gone_can_still_be_asked_for_its_xdg_output() {
    let desk = desk_with_outputs(2);
    let mut app = App::new(&desk);
    let outputs = outputs(&mut app);
    on(&desk, |state| state.unplug("HEADLESS-2"));
    app.client.expect_no_error();
    let manager: ZxdgOutputManagerV1 = app.client.bind(3);
    let xdg_output = manager.get_xdg_output(&outputs[1], &app.client.handle(), Log::default());
    app.client.expect_no_error();
    let named = |event: &zxdg_output_v1::Event| matches!(event, zxdg_output_v1::Event::Name { name } if name == "HEADLESS-2");
    assert!(events(&xdg_output).iter().any(named));
}

#[test]
fn clients_are_told_the_scale_of_the_largest_output_that_shows_them() {
    let file = config("[[output]]\nname = \"HEADLESS-2\"\nscale = 1.5\n");
    let desk = desk_with(fencepost::compositor::Options {
        outputs: Some(2),
        config: Some(file),
        ..Default::default()
    });
    let mut app = App::new(&desk);
    let manager: WpFractionalScaleManagerV1 = app.client.bind(1);
    let (window, buffer) = shown_at(&desk, &mut app, 10, 10);
    let fractional: WpFractionalScaleV1 =
        manager.get_fractional_scale(&window.surface, &app.client.handle(), Log::default());
    app.client.expect_no_error();
    let told = || -> Vec<u32> {
        let scale = |event| match event {
            FractionalEvent::PreferredScale { scale } => Some(scale),
            _ => None,
        };
        events(&fractional).into_iter().filter_map(scale).collect()
    };
    assert_eq!(told(), [120]);
    events(&window.surface);
    put(&desk, SIDE - 20, 10);
    let watched = app.show(&window.surface, &buffer);
    app.until_shown(&watched);
    app.client.until(|| !told_scale(&window.surface).is_empty());
    assert_eq!(told(), [180]);
    put(&desk, SIDE + 10, 10);
    let watched = app.show(&window.surface, &buffer);
    app.until_shown(&watched);
    app.client.expect_no_error();
    assert_eq!(told(), [] as [u32; 0], "what it knows already is not told again");
}

fn told_scale(surface: &WlSurface) -> Vec<i32> {
    let scale = |event| match event {
        wl_surface::Event::PreferredBufferScale { factor } => Some(factor),
        _ => None,
    };
    events(surface).into_iter().filter_map(scale).collect()
}

/// A configuration file with this text.
pub(crate) fn config(text: &str) -> std::path::PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("fencepost-{}-{number}.toml", std::process::id()));
    std::fs::write(&file, text).expect("a file");
    file
}

#[test]
fn the_configuration_file_places_turns_and_darkens_outputs() {
    let file = config(
        "[[output]]\nname = \"HEADLESS-1\"\nposition = [500, 40]\ntransform = \"90\"\nmode = \"300x200@50\"\nscale = 2\n\
         [[output]]\nname = \"HEADLESS-2\"\non = false\n",
    );
    let desk = desk_with(fencepost::compositor::Options {
        outputs: Some(2),
        config: Some(file),
        ..Default::default()
    });
    let mut app = App::new(&desk);
    let outputs = outputs(&mut app);
    assert_eq!(outputs.len(), 1);
    let manager: ZxdgOutputManagerV1 = app.client.bind(3);
    let xdg_output = manager.get_xdg_output(&outputs[0], &app.client.handle(), Log::default());
    app.client.expect_no_error();
    let heard = events(&xdg_output);
    let at = |event: &_| matches!(event, zxdg_output_v1::Event::LogicalPosition { x: 500, y: 40 });
    assert!(heard.iter().any(at), "{heard:?}");
    let size = |event: &_| matches!(event, zxdg_output_v1::Event::LogicalSize { width: 100, height: 150 });
    assert!(heard.iter().any(size), "{heard:?}");
    let modes = events(&outputs[0]);
    let current = modes.iter().any(|event| {
        matches!(event, wl_output::Event::Mode { width: 300, height: 200, refresh: 50_000, flags }
            if flags.into_result().is_ok_and(|flags| flags.contains(wl_output::Mode::Current)))
    });
    assert!(current, "{modes:?}");
}

#[test]
fn an_output_that_is_off_shows_nothing_until_it_is_on_again() {
    let desk = desk();
    let mut app = App::new(&desk);
    let (window, buffer) = shown_at(&desk, &mut app, 10, 10);
    let output = outputs(&mut app).remove(0);
    let manager: ZwlrOutputPowerManagerV1 = app.client.bind(1);
    let power: ZwlrOutputPowerV1 = manager.get_output_power(&output, &app.client.handle(), Log::default());
    app.client.expect_no_error();
    assert_eq!(powers(&power), [Power::On]);
    power.set_mode(Power::Off);
    app.client.expect_no_error();
    assert_eq!(powers(&power), [Power::Off]);
    let watched = app.show(&window.surface, &buffer);
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(10));
        assert_eq!(app.fate(&watched), Fate::Waiting);
    }
    assert_eq!(app.client.bind_all::<WlOutput>(4).len(), 1, "it keeps its place");
    power.set_mode(Power::On);
    app.until_shown(&watched);
    assert_eq!(powers(&power), [Power::On]);
}

fn has_failed(power: &ZwlrOutputPowerV1) -> bool {
    events(power).iter().any(|event| matches!(event, PowerEvent::Failed))
}

fn powers(power: &ZwlrOutputPowerV1) -> Vec<Power> {
    let mode = |event| match event {
        PowerEvent::Mode { mode } => mode.into_result().ok(),
        _ => None,
    };
    events(power).into_iter().filter_map(mode).collect()
}

#[test]
fn a_surface_on_an_output_that_is_off_is_paced_by_the_other_that_shows_it() {
    let desk = desk_with_outputs(2);
    let mut app = App::new(&desk);
    let (window, buffer) = shown_at(&desk, &mut app, SIDE - 20, 10);
    let outputs = outputs(&mut app);
    let manager: ZwlrOutputPowerManagerV1 = app.client.bind(1);
    let power = manager.get_output_power(&outputs[1], &app.client.handle(), Log::default());
    power.set_mode(Power::Off);
    let watched = app.show(&window.surface, &buffer);
    app.until_shown(&watched);
}

#[test]
fn the_power_of_an_output_that_goes_is_nobodys() {
    let desk = desk_with_outputs(2);
    let mut app = App::new(&desk);
    let outputs = outputs(&mut app);
    let manager: ZwlrOutputPowerManagerV1 = app.client.bind(1);
    let power = manager.get_output_power(&outputs[1], &app.client.handle(), Log::default());
    app.client.expect_no_error();
    on(&desk, |state| state.unplug("HEADLESS-2"));
    power.set_mode(Power::Off);
    app.client.expect_no_error();
    assert!(has_failed(&power));
    let late = manager.get_output_power(&outputs[1], &app.client.handle(), Log::default());
    app.client.expect_no_error();
    assert!(has_failed(&late));
    // What is no mode is an error on an object that works.
    let power = manager.get_output_power(&outputs[0], &app.client.handle(), Log::default());
    app.client.expect_no_error();
    let message = wayland_client::backend::protocol::Message {
        sender_id: power.id(),
        opcode: 0,
        args: [wayland_client::backend::protocol::Argument::Uint(7)].into_iter().collect(),
    };
    power.backend().upgrade().expect("a backend").send_request(message, None, None).expect("sent");
    app.client.expect_protocol_error(&power, 1_u32);
}

#[test]
fn a_surface_has_one_fractional_scale_at_a_time() {
    let desk = desk();
    let mut app = App::new(&desk);
    let manager: WpFractionalScaleManagerV1 = app.client.bind(1);
    let surface = app.surface();
    let scale = || manager.get_fractional_scale(&surface, &app.client.handle(), Log::default());
    let first: WpFractionalScaleV1 = scale();
    first.destroy();
    let _second: WpFractionalScaleV1 = scale();
    let _third: WpFractionalScaleV1 = scale();
    app.client.expect_protocol_error(&manager, ManagerError::FractionalScaleExists);
}
