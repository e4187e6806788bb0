//! Waits for what polls like a fence.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use calloop::EventLoop;

use super::*;

/// A pipe polls like a fence: readable once, when it is written to.
fn fence() -> (AcquireFence, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("pipe");
    (AcquireFence::DmaBufPoll(Arc::new(reader.into())), writer)
}

fn turn(event_loop: &mut EventLoop<'static, u32>, count: &mut u32) {
    event_loop.dispatch(Duration::from_millis(20), count).expect("dispatch");
}

#[test]
fn the_callback_runs_once_and_only_when_the_fence_is_done() {
    let mut event_loop = EventLoop::try_new().expect("event loop");
    let (fence, mut writer) = fence();
    let mut count = 0;
    let _token = wait(&event_loop.handle(), &fence, |count: &mut u32| *count += 1).expect("wait");
    turn(&mut event_loop, &mut count);
    assert_eq!(count, 0);
    writer.write_all(b"x").expect("write");
    turn(&mut event_loop, &mut count);
    turn(&mut event_loop, &mut count);
    assert_eq!(count, 1);
}

#[test]
fn two_waits_for_one_fence_both_end() {
    let mut event_loop = EventLoop::try_new().expect("event loop");
    let (fence, mut writer) = fence();
    let mut count = 0;
    let _first = wait(&event_loop.handle(), &fence, |count: &mut u32| *count += 1).expect("wait");
    let _second = wait(&event_loop.handle(), &fence, |count: &mut u32| *count += 1).expect("wait");
    writer.write_all(b"x").expect("write");
    turn(&mut event_loop, &mut count);
    turn(&mut event_loop, &mut count);
    assert_eq!(count, 2);
}

#[test]
fn a_dropped_token_cancels_the_wait_and_an_old_one_does_no_harm() {
    let mut event_loop = EventLoop::try_new().expect("event loop");
    let (one, mut first_writer) = fence();
    let (two, mut second_writer) = fence();
    let mut count = 0;
    drop(wait(&event_loop.handle(), &one, |count: &mut u32| *count += 1).expect("wait"));
    first_writer.write_all(b"x").expect("write");
    turn(&mut event_loop, &mut count);
    assert_eq!(count, 0);
    // The first wait has fired; the second takes its slot in the loop.
    let old = wait(&event_loop.handle(), &one, |count: &mut u32| *count += 1).expect("wait");
    turn(&mut event_loop, &mut count);
    assert_eq!(count, 1);
    let _token = wait(&event_loop.handle(), &two, |count: &mut u32| *count += 10).expect("wait");
    drop(old);
    second_writer.write_all(b"x").expect("write");
    turn(&mut event_loop, &mut count);
    assert_eq!(count, 11);
}

#[test]
fn a_callback_may_drop_its_own_token() {
    type Slot = Option<WaitToken>;
    let mut event_loop = EventLoop::<'static, Slot>::try_new().expect("event loop");
    let (fence, mut writer) = fence();
    let mut slot = None;
    slot = Some(wait(&event_loop.handle(), &fence, |slot: &mut Slot| *slot = None).expect("wait")).or(slot);
    writer.write_all(b"x").expect("write");
    event_loop.dispatch(Duration::from_millis(20), &mut slot).expect("dispatch");
    assert!(slot.is_none());
}

#[test]
fn a_fence_that_epoll_refuses_is_looked_at_until_it_is_done() {
    let mut event_loop = EventLoop::try_new().expect("event loop");
    // epoll takes no regular file (EPERM); poll calls it readable at once.
    let file = std::fs::File::open("/proc/self/exe").expect("a regular file");
    let fence = AcquireFence::DmaBufPoll(Arc::new(file.into()));
    let mut count = 0;
    let _token = wait(&event_loop.handle(), &fence, |count: &mut u32| *count += 1).expect("wait");
    assert_eq!(count, 0);
    turn(&mut event_loop, &mut count);
    assert_eq!(count, 1);
}

/// The fence is over when its source fires, and pends again when it is looked at: the kernel wakes first who has come last.
fn fire_for_nothing(
    event_loop: &mut EventLoop<'static, u32>,
    (fence, writer): &mut (AcquireFence, std::io::PipeWriter),
    count: &mut u32,
) {
    let AcquireFence::DmaBufPoll(fd) = &*fence else { panic!("not a pipe") };
    let fd = Arc::clone(fd);
    let first = Generic::new(fd.try_clone().expect("an fd"), Interest::READ, Mode::OneShot);
    let drain = move |_, _: &mut _, _: &mut u32| {
        rustix::io::read(&fd, &mut [0; 8]).expect("what was written");
        Ok(PostAction::Remove)
    };
    event_loop.handle().insert_source(first, drain).expect("a source");
    writer.write_all(b"x").expect("write");
    turn(event_loop, count);
}

/// How often a loop wakes up in 100 ms in which nothing happens.
fn wake_ups(event_loop: &mut EventLoop<'static, u32>, count: &mut u32) -> u32 {
    let end = Instant::now() + Duration::from_millis(100);
    let mut turns = 0;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        event_loop.dispatch(left, count).expect("dispatch");
        turns += 1;
    }
    turns
}

#[test]
fn a_fence_that_pends_again_costs_little_however_often() {
    let mut event_loop = EventLoop::try_new().expect("event loop");
    let mut fence = fence();
    let mut count = 0;
    let _token = wait(&event_loop.handle(), &fence.0, |count: &mut u32| *count += 1).expect("wait");
    fire_for_nothing(&mut event_loop, &mut fence, &mut count);
    let turns = wake_ups(&mut event_loop, &mut count);
    assert!(count == 0 && turns <= 2, "{turns}");
    fire_for_nothing(&mut event_loop, &mut fence, &mut count);
    let turns = wake_ups(&mut event_loop, &mut count);
    assert!(count == 0 && turns <= 10, "{turns}");
    fence.1.write_all(b"x").expect("write");
    (0..20).for_each(|_| turn(&mut event_loop, &mut count));
    assert_eq!(count, 1);
}

#[test]
fn waiting_for_all_of_none_ends_at_the_next_turn_and_for_all_at_the_last() {
    let mut event_loop = EventLoop::try_new().expect("event loop");
    let mut count = 0;
    let _none = wait_all(&event_loop.handle(), &[], |count: &mut u32| *count += 1).expect("wait");
    assert_eq!(count, 0);
    turn(&mut event_loop, &mut count);
    assert_eq!(count, 1);

    let pipes = [std::io::pipe().expect("pipe"), std::io::pipe().expect("pipe")];
    let (readers, mut writers): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
    let fences: Vec<_> = readers.into_iter().map(|fd| SyncFile::from_kernel(fd.into())).collect();
    let _all = wait_all(&event_loop.handle(), &fences, |count: &mut u32| *count += 10).expect("wait");
    writers[1].write_all(b"x").expect("write");
    turn(&mut event_loop, &mut count);
    assert_eq!(count, 1);
    writers[0].write_all(b"x").expect("write");
    turn(&mut event_loop, &mut count);
    assert_eq!(count, 11);
}
