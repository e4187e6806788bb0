//! Windows of parents with bad manners, and of poor ones: each stated reaction to what a parent can do.

use std::time::Duration;

use fencepost::compositor::{Kind, Options};
use fencepost::output::nested::parent::{Error, Parent};

use crate::fake_parent::{FakeParent, Manners};
use crate::fixture::Fixture;
use crate::nested::Program;
use crate::setup::{App, Desk, Fate, SIZE, compositor};

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const ALL: usize = (SIZE.0 * SIZE.1) as usize;

/// How many buffers a window has.
const BUFFERS: usize = 3;

fn desk(parent: &FakeParent) -> Desk {
    let (backend, parent) = (Kind::Nested, Some(parent.socket()));
    Fixture::new(compositor(Options { backend, parent, ..Options::default() }))
}

#[test]
fn a_parent_without_presentation_times_paces_by_asking_for_frames() {
    let parent = FakeParent::new("untold", Manners { asks: false, ..Manners::default() });
    let desk = desk(&parent);
    let mut app = App::new(&desk);
    let window = app.window();
    // The empty desk's frame is in flight, or the client's is; both are done when the parent has asked twice.
    let shown = app.show(&window.surface, &app.coloured_buffer(RED));
    parent.until(|fake| !fake.commits.is_empty(), || app.client.roundtrip());
    assert_eq!(app.fate(&shown), Fate::Waiting, "the parent has asked for nothing");
    parent.until(
        move |fake| {
            fake.ask_for_frame();
            fake.pixels_of(RED) == ALL
        },
        || app.client.roundtrip(),
    );
    parent.ask(crate::fake_parent::Fake::ask_for_frame);
    app.until_shown(&shown);
}

#[test]
fn a_parent_that_keeps_every_buffer_is_given_no_more_and_the_newest_picture_when_it_gives_one_back() {
    let parent = FakeParent::new("keeps", Manners { releases: false, ..Manners::default() });
    let desk = desk(&parent);
    let mut app = App::new(&desk);
    let window = app.window();
    while parent.ask(|fake| fake.commits.len()) < BUFFERS {
        let before = parent.ask(|fake| fake.commits.len());
        app.show(&window.surface, &app.coloured_buffer(RED));
        parent.until(move |fake| fake.commits.len() > before, || app.client.roundtrip());
    }
    // There is no buffer left to show this in.
    app.show(&window.surface, &app.coloured_buffer(GREEN));
    for _ in 0..20 {
        app.client.roundtrip();
    }
    parent.ask(|fake| {
        assert_eq!((fake.commits.len(), fake.buffers().len()), (BUFFERS, BUFFERS));
        fake.buffers()[0].release();
    });
    parent.until(|fake| fake.pixels_of(GREEN) == ALL, || app.client.roundtrip());
    parent.ask(|fake| {
        assert_eq!((fake.commits.len(), fake.buffers().len()), (BUFFERS + 1, BUFFERS), "a buffer more");
        assert!(fake.commits.last() == fake.commits.first(), "another one than was given back");
    });
}

#[test]
fn a_parent_that_lacks_a_global_is_said_to() {
    let parent = FakeParent::new("lacks", Manners { shell: false, ..Manners::default() });
    let error = Parent::open(&parent.socket(), 1, (64, 64).into(), Duration::from_secs(30));
    let error = error.expect_err("a window without a shell");
    assert!(matches!(error, Error::Missing("xdg_wm_base")), "{error}");
}

#[test]
fn a_parent_with_another_gpu_gets_shared_memory_and_is_listened_to_no_longer() {
    // No device has such a number.
    let parent = FakeParent::new("gpu", Manners { device: Some(0xfff_ffff), ..Manners::default() });
    let program = Program::start(&parent.folder, "nested");
    let warning = program.until_says("frames go to the parent compositor by shared memory");
    assert!(warning.contains("its device has no render node"), "{warning}");
    parent.until(
        |fake| fake.is_shm() && !fake.is_listened_to(),
        || std::thread::sleep(Duration::from_millis(5)),
    );
}
