//! The release ledger over the whole chain: every commit has its own release, whatever else its buffer is used for.

use fencepost::fence::scarce::Use;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::chain::{Chain, Given, Memory, Shower, Way};
use crate::held::Held;
use crate::invariants::SOON;
use crate::late::{Driver, Source};
use crate::setup::{Clock, Fate, releases};

fn ticks(clock: &mut Clock) {
    clock.tick();
    clock.tick();
}

#[test]
fn a_buffer_on_two_surfaces_is_released_to_each_when_that_one_is_done() {
    let chain = Chain::start(&[]);
    let (mut shower, mut clock) = (Shower::new(&chain, Way::Explicit), chain.clock());
    let window = shower.app.app.window();
    let sync = shower.app.sync_surface(&window.surface);
    let one = shower.show(Memory::Gpu, None);
    let other = shower.show_buffer(&window.surface, Some(&sync), one.buffer.clone(), None);
    shower.app.app.until_shown(&one.commit);
    shower.app.app.until_shown(&other.commit);
    ticks(&mut clock);
    assert!(!one.is_back() && !other.is_back());
    let next = shower.show(Memory::Gpu, None);
    assert!(shower.comes(SOON, || one.is_back()));
    shower.app.app.until_shown(&next.commit);
    ticks(&mut clock);
    assert!(!other.is_back(), "it is still on the other surface");
    window.surface.attach(None, 0, 0);
    window.surface.commit();
    assert!(shower.comes(SOON, || other.is_back()));
    assert!(!next.is_back());
    chain.end();
}

#[test]
fn a_buffer_that_is_committed_again_is_released_once_for_each_commit() {
    let chain = Chain::start(&[]);
    let (mut shower, mut clock) = (Shower::new(&chain, Way::Explicit), chain.clock());
    let first = shower.show(Memory::Gpu, None);
    shower.app.app.until_shown(&first.commit);
    let surface = shower.window.surface.clone();
    let again = shower.show_buffer(&surface, shower.sync.as_ref(), first.buffer.clone(), None);
    shower.app.app.until_shown(&again.commit);
    assert!(shower.comes(SOON, || first.is_back()), "its commit was replaced, by one with the same buffer");
    ticks(&mut clock);
    assert!(!again.is_back());
    // A third time, and never shown.
    let late = Source::new().late(Driver::SwSync);
    let third = shower.show_buffer(&surface, shower.sync.as_ref(), first.buffer.clone(), Some(&late.fence));
    assert_eq!(shower.fate(&third), Fate::Waiting);
    assert!(!again.is_back() && !third.is_back());
    let last = shower.show(Memory::Gpu, None);
    late.signal();
    shower.app.app.until_shown(&last.commit);
    assert!(shower.comes(SOON, || again.is_back() && third.is_back()));
    chain.end();
}

#[test]
fn a_buffer_in_use_both_ways_is_released_both_ways_each_in_its_time() {
    let chain = Chain::start(&[]);
    let (mut shower, mut clock) = (Shower::new(&chain, Way::Explicit), chain.clock());
    let implicit = shower.app.app.window();
    let one = shower.show(Memory::Gpu, None);
    let other = shower.show_buffer(&implicit.surface, None, one.buffer.clone(), None);
    shower.app.app.until_shown(&one.commit);
    shower.app.app.until_shown(&other.commit);
    shower.show(Memory::Gpu, None);
    assert!(shower.comes(SOON, || one.is_back()));
    ticks(&mut clock);
    shower.fate(&one);
    assert_eq!(releases(&one.buffer), 0, "the implicit use is not over");
    implicit.surface.attach(None, 0, 0);
    implicit.surface.commit();
    assert!(shower.comes(SOON, || other.is_back()));
    ticks(&mut clock);
    shower.fate(&one);
    assert_eq!(releases(&one.buffer), 0, "released once");
    chain.end();
}

/// An implicit buffer that two surfaces show is given back once, when both are done.
#[test]
fn an_implicit_buffer_on_two_surfaces_comes_back_once() {
    let chain = Chain::start(&[]);
    let (mut shower, mut clock) = (Shower::new(&chain, Way::Implicit), chain.clock());
    let window = shower.app.app.window();
    let one = shower.show(Memory::Gpu, None);
    let other = shower.show_buffer(&window.surface, None, one.buffer.clone(), None);
    shower.app.app.until_shown(&one.commit);
    shower.app.app.until_shown(&other.commit);
    let next = shower.show(Memory::Gpu, None);
    shower.app.app.until_shown(&next.commit);
    ticks(&mut clock);
    shower.fate(&one);
    assert_eq!(releases(&one.buffer), 0);
    window.surface.attach(None, 0, 0);
    window.surface.commit();
    assert!(shower.comes(SOON, || other.is_back()));
    ticks(&mut clock);
    shower.fate(&one);
    assert_eq!(releases(&one.buffer), 0, "once");
    chain.end();
}

/// With no file descriptor left for waits, fences are looked at: no release is early, none is lost.
#[test]
fn with_few_file_descriptors_every_release_comes_and_none_too_early() {
    let chain = Chain::start(&[]);
    let pid = Pid::from_raw(chain.session.pid().cast_signed());
    let limit = |current| {
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum: Some(1024) })
            .expect("a limit");
    };
    let (mut source, mut clock) = (Source::new(), chain.clock());
    let mut shower = Shower::new(&chain, Way::Explicit);
    let mut before = shower.show(Memory::Gpu, None);
    shower.app.app.until_shown(&before.commit);
    // Buffers and timelines cost file descriptors on their way in, so they are there before.
    let late: Vec<_> = (0..6).map(|_| source.late(Driver::SwSync)).collect();
    let buffers: Vec<_> = late.iter().map(|_| shower.app.gpu_buffer()).collect();
    let timelines: Vec<_> = late.iter().map(|_| (shower.app.timeline(), shower.app.timeline())).collect();
    shower.app.app.client.expect_no_error();
    limit(Held::by(Some(chain.session.pid())).fds as u64);
    let sync = shower.sync.clone().expect("explicit sync");
    let surface = shower.window.surface.clone();
    for ((late, buffer), (acquire, release)) in late.iter().zip(&buffers).zip(&timelines) {
        acquire.point(1).import_sync_file(&late.fence).expect("import");
        let commit = shower.app.show_between(&surface, &sync, buffer, (acquire, 1), (release, 1));
        assert_eq!(shower.app.app.fate(&commit), Fate::Waiting);
        assert!(!before.is_back(), "nothing has replaced it");
        // Some for frames, and none for waits.
        limit(Held::by(Some(chain.session.pid())).fds as u64 + Use::Buffer.reserve());
        clock.tick();
        assert_eq!(shower.app.app.fate(&commit), Fate::Waiting);
        late.signal();
        shower.app.app.until_shown(&commit);
        assert!(shower.comes(SOON, || before.is_back()));
        before = Given::explicit(commit, buffer.clone(), release.point(1));
        // None at all: even a frame needs one.
        limit(Held::by(Some(chain.session.pid())).fds as u64);
    }
    limit(1024);
    clock.tick();
    assert!(!before.is_back());
    chain.end();
}
