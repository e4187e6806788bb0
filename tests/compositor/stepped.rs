//! Frames by command: nothing is shown that no step has shown.

use std::process::Command;
use std::time::Duration;

use fencepost::compositor::Options;
use wayland_client::protocol::wl_callback;

use crate::fixture::{Fixture, events};
use crate::nested::Program;
use crate::parent::Remote;
use crate::setup::{App, Fate, desk_with};

const RED: [u8; 3] = [255, 0, 0];

#[test]
fn a_stepped_display_shows_a_commit_with_a_step_and_not_before() {
    let desk = desk_with(Options { step: true, ..Options::default() });
    let mut app = App::new(&desk);
    let window = app.window();
    // The empty desk.
    app.client.until(|| desk.server_mut().state().picture().is_some());
    desk.server_mut().state().step();
    for _ in 0..3 {
        let buffer = app.coloured_buffer(RED);
        let callback = app.frame(&window.surface);
        let shown = app.show(&window.surface, &buffer);
        // Until its frame is in flight, as the frame callback goes out with the latch; and many refreshes longer.
        app.client
            .until(|| events(&callback).iter().any(|event| matches!(event, wl_callback::Event::Done { .. })));
        for _ in 0..10 {
            desk.server_mut().sleep(Duration::from_millis(10));
        }
        assert_eq!(app.fate(&shown), Fate::Waiting, "nobody has stepped");
        desk.server_mut().state().step();
        assert_eq!(app.fate(&shown), Fate::Shown);
    }
}

#[test]
fn sigusr2_is_a_step() {
    let folder = std::env::temp_dir().join(format!("fencepost-stepped-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let program = Program::start_with(&folder, "headless", &["--step"]);
    program.until_says("listening on");
    let mut app = App::new(&Fixture::new(Remote(folder.join("child"))));
    let window = app.window();
    let callback = app.frame(&window.surface);
    let shown = app.show(&window.surface, &app.coloured_buffer(RED));
    app.client.roundtrip();
    assert_eq!(app.fate(&shown), Fate::Waiting);
    // The first may be one of the empty desk's frame.
    app.client.until(|| {
        let pid = program.child.id().to_string();
        assert!(Command::new("kill").args(["-USR2", &pid]).status().expect("kill").success());
        shown.fate() == Fate::Shown
    });
    assert!(!events(&callback).is_empty());
    drop(std::fs::remove_dir_all(&folder));
}
