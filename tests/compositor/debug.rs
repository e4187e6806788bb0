//! fencepost-debug-v1: who may look, and what there is to see.

use std::time::Duration;

use fencepost::protocol::client::fencepost_debug_v1::{Buffer, Cause, CommitState, Error, FencepostDebugV1};
use fencepost::trace::Event;
use wayland_client::WEnum;
use wayland_client::protocol::wl_display;
use wayland_protocols::wp::commit_timing::v1::client::wp_commit_timing_manager_v1::WpCommitTimingManagerV1;

use crate::fixture::{Log, Server, events};
use crate::setup::{App, Clock, SIZE, desk};
use crate::watcher::{PATIENCE, Watcher, surface, watched_desk};

#[test]
fn who_watches_sees_outputs_surfaces_and_what_they_show() {
    let desk = watched_desk();
    let mut app = App::new(&desk);
    let window = app.window();
    window.toplevel.set_app_id("clock".to_owned());
    window.toplevel.set_title("Ten past three".to_owned());
    let shown = app.show(&window.surface, &app.shm_buffer());
    app.until_shown(&shown);
    let mut watcher = Watcher::new(&desk);
    watcher.until_seen(|model| {
        let commits = surface(model, "clock").map(|surface| &surface.commits);
        commits
            .is_some_and(|commits| commits.len() == 1 && commits[0].state == WEnum::Value(CommitState::Shown))
    });
    let model = &watcher.model;
    assert_eq!((model.compositor.pid, model.compositor.acquire.as_str()), (std::process::id(), "auto"));
    let clock = surface(model, "clock").expect("a surface");
    assert_eq!((clock.title.as_str(), clock.role.as_str()), ("Ten past three", "xdg_toplevel"));
    assert_eq!((clock.width, clock.height), (SIZE.0 as u32, SIZE.1 as u32));
    assert_eq!((clock.buffer, clock.queued), (WEnum::Value(Buffer::Shm), 0));
    let [output] = &model.now.outputs[..] else { panic!("{:?}", model.now.outputs) };
    assert_eq!((output.output, output.refresh_ns), (clock.output, 5_000_000));
    assert!(output.frames > 0 && output.deadline > 0 && output.margin_ns > 0, "{output:?}");
    let age = model.now.time.checked_sub(clock.commits[0].since).expect("a commit of the past");
    assert!(Duration::from_nanos(age) < PATIENCE);
}

#[test]
fn a_commit_that_waits_is_seen_with_what_it_waits_for() {
    let desk = watched_desk();
    let mut app = App::new(&desk);
    let window = app.window();
    window.toplevel.set_app_id("later".to_owned());
    let (now, later) = (app.shm_buffer(), app.shm_buffer());
    let shown = app.show(&window.surface, &now);
    app.until_shown(&shown);
    let manager = app.client.bind::<WpCommitTimingManagerV1>(1);
    let timer = manager.get_timer(&window.surface, &app.client.handle(), Log::default());
    let at = shown.at().expect("a time") + Duration::from_secs(3600);
    timer.set_timestamp(0, u32::try_from(at.as_secs()).expect("seconds"), at.subsec_nanos());
    app.show(&window.surface, &later);
    app.show(&window.surface, &now);
    app.client.expect_no_error();
    let mut watcher = Watcher::new(&desk);
    watcher.until_seen(|model| surface(model, "later").is_some_and(|surface| surface.queued == 2));
    let later = surface(&watcher.model, "later").expect("a surface");
    let states: Vec<_> = later.commits.iter().map(|commit| commit.state).collect();
    let held = WEnum::Value(CommitState::Held);
    assert_eq!(states, [WEnum::Value(CommitState::Shown), held, held]);
    let causes: Vec<_> = later.commits.iter().map(|commit| &commit.waits).collect();
    let (time, order) = (&causes[1][0], &causes[2][0]);
    assert_eq!((time.cause, time.value), (WEnum::Value(Cause::Time), at.as_nanos() as u64));
    assert_eq!((causes[0].len(), order.cause), (0, WEnum::Value(Cause::Order)));
    assert_eq!(later.waiting().map(|(commit, _)| commit.commit), Some(later.commits[1].commit));
    assert!(later.unreleased >= 2, "both that wait are owed: {}", later.unreleased);
}

#[test]
fn what_happens_is_told_to_whoever_asks_and_in_order() {
    let desk = watched_desk();
    let mut watcher = Watcher::new(&desk);
    let mut clock = Clock::new(&desk);
    for _ in 0..3 {
        clock.tick();
    }
    // What the trace remembers, then what is new: an answer that has to wait is given when something happens.
    for _ in 0..4 {
        let answers = watcher.model.answers;
        watcher.feed.ask_for_events();
        let heard = watcher.turn();
        heard.expect("a connection that holds");
        clock.tick();
        watcher.until(|watcher| watcher.model.answers > answers);
    }
    let story = &watcher.model.story;
    let presented = story.commits.values().filter(|commit| commit.presented.is_some()).count();
    assert!(presented >= 3, "{presented} of {:#?}", story.commits);
    assert!(!story.outputs.is_empty());
    assert_eq!(watcher.model.lost, 0);
}

#[test]
fn what_the_trace_has_forgotten_is_counted() {
    let desk = watched_desk();
    for surface in 0..10_000 {
        fencepost::trace::note(Event::Open { surface, id: 1 });
    }
    let mut watcher = Watcher::new(&desk);
    watcher.feed.ask_for_events();
    watcher.until(|watcher| watcher.model.answers > 0);
    assert!(watcher.model.lost >= 10_000 - 8192, "{}", watcher.model.lost);
}

#[test]
fn who_asks_twice_at_once_is_disconnected_and_nobody_else() {
    let desk = watched_desk();
    let mut clock = Clock::new(&desk);
    let mut watcher = Watcher::new(&desk);
    watcher.feed.ask_for_events();
    watcher.feed.ask_for_events();
    let error = fencepost::errors::chain(&watcher.until_ended());
    let code = format!("error {}", u32::from(Error::AlreadyAsked));
    assert!(error.to_lowercase().contains(&code), "{error}");
    clock.tick();
}

#[test]
fn who_asks_and_does_not_read_holds_nobody_up() {
    let desk = watched_desk();
    let mut clock = Clock::new(&desk);
    let mut watcher = Watcher::new(&desk);
    for _ in 0..200 {
        for _ in 0..50 {
            watcher.feed.ask_for_snapshot();
        }
        // Sends, and reads nothing: there is nothing to be read yet.
        if watcher.feed.send().is_err() {
            break;
        }
        desk.server_mut().turn();
    }
    clock.tick();
    watcher.until_ended();
    clock.tick();
}

#[test]
fn nobody_sees_or_binds_the_global_who_came_through_the_socket_for_all() {
    for desk in [watched_desk(), desk()] {
        let mut client = desk.client();
        assert_eq!(client.offered::<FencepostDebugV1>(), None);
        client.expect_no_error();
        let highest = client.highest_global();
        for name in 1..=highest + 8 {
            let mut guesser = desk.client();
            if guesser.is_offered(name) {
                continue;
            }
            let object = guesser.bind_guessed::<FencepostDebugV1>(name);
            let display = guesser.display();
            guesser.expect_protocol_error(&display, wl_display::Error::InvalidObject);
            assert!(events(&object).is_empty());
        }
        client.expect_no_error();
    }
}

#[test]
fn the_trace_is_written_when_somebody_who_watches_asks() {
    let desk = watched_desk();
    let mut watcher = Watcher::new(&desk);
    watcher.feed.ask_for_dump();
    watcher.until(|watcher| watcher.model.dump.is_some());
    let path = watcher.model.dump.take().expect("an answer").expect("a file");
    let text = std::fs::read_to_string(&path).expect("the file");
    std::fs::remove_file(&path).expect("removed");
    assert!(text.starts_with("{\"fencepost_trace\":"), "{text}");
}
