//! The invariants of synchronisation over the whole chain: client, compositor, KMS; with fences of every driver there is.
//!
//! Each check gives its complaint back, so that the same check can be seen to complain about a compositor that breaks
//! its rule. The fences of virgl are work on the host, which does everything in order and thus waits whoever else does
//! not: with them only times can be compared, and no broken rule is seen. I3 is in `endings.rs`.

use std::time::{Duration, Instant};

use fencepost::trace::now;

use crate::chain::{Chain, Memory, Shower, WAYS, Way};
use crate::fixture::events;
use crate::late::{ALL, BY_HAND, Driver, Gpu, Late, Source};
use crate::setup::{Clock, Fate, Watched};
use crate::sync_trees::Tree;
use crate::trace;

/// Whether the rule was kept, else what was seen.
pub(crate) type Verdict = Result<(), String>;

pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Long enough for whatever does not wait for a fence.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Some frames, unless the fence is the work that they would wait for on the host.
fn frames(clock: &mut Clock, driver: Driver) {
    for _ in 0..if driver == Driver::Virgl { 0 } else { 3 } {
        clock.tick();
    }
}

/// Whether the commit has not been shown as long as its fence was pending.
fn waits(shower: &mut Shower, commit: &Watched, late: &Late) -> bool {
    let fate = shower.app.app.fate(commit);
    fate == Fate::Waiting || !late.is_pending()
}

fn i1(chain: &Chain, drivers: &[Driver]) -> Verdict {
    let (mut source, mut clock) = (Source::new(), chain.clock());
    for &driver in drivers {
        for (way, memory) in WAYS.into_iter().flat_map(|way| [(way, Memory::Gpu), (way, Memory::Heap)]) {
            let mut shower = Shower::new(chain, way);
            let late = source.late(driver);
            let given = shower.show(memory, Some(&late.fence));
            shower.app.app.client.expect_no_error();
            frames(&mut clock, driver);
            ensure(waits(&mut shower, &given.commit, &late), || {
                format!("{driver:?}, {way:?}, {memory:?}: shown and its fence is pending")
            })?;
            late.signal();
            shower.app.app.until_shown(&given.commit);
            let (at, ready) = (given.commit.at().expect("shown"), late.at());
            ensure(at >= ready, || {
                format!("{driver:?}, {way:?}, {memory:?}: shown at {at:?}, ready {ready:?}")
            })?;
        }
    }
    Ok(())
}

fn i2(chain: &Chain, drivers: &[Driver]) -> Verdict {
    let (mut source, mut clock) = (Source::new(), chain.clock());
    for &driver in drivers {
        for way in WAYS {
            let mut shower = Shower::new(chain, way);
            let stays =
                |when: &str, held: bool| ensure(held, || format!("{driver:?}, {way:?}: released {when}"));
            let late = source.late(driver);
            let given = shower.show(Memory::Gpu, Some(&late.fence));
            shower.app.app.client.expect_no_error();
            frames(&mut clock, driver);
            shower.fate(&given);
            stays("before it was read", !given.is_back())?;
            late.signal();
            shower.app.app.until_shown(&given.commit);
            clock.tick();
            clock.tick();
            shower.fate(&given);
            stays("while it is shown", !given.is_back())?;
            let late = source.late(driver);
            let next = shower.show(Memory::Gpu, Some(&late.fence));
            shower.app.app.client.expect_no_error();
            frames(&mut clock, driver);
            shower.fate(&next);
            stays("before its successor was ready", !given.is_back() || !late.is_pending())?;
            late.signal();
            shower.app.app.until_shown(&next.commit);
            stays("never", shower.comes(SOON, || given.is_back()))?;
            stays("while it is shown", !next.is_back())?;
        }
    }
    Ok(())
}

/// The compositor's frame is behind other work of the GPU when the buffer that it reads is replaced.
fn i2_on_a_busy_gpu(chain: &Chain) -> Verdict {
    let mut gpu = Gpu::new();
    let mut shower = Shower::new(chain, Way::Explicit);
    let first = shower.show(Memory::Gpu, None);
    shower.app.app.until_shown(&first.commit);
    let work = gpu.work();
    let latched = shower.app.app.frame(&shower.window.surface);
    let read = shower.show(Memory::Gpu, None);
    let mut back = None;
    let mut look = || back = back.or_else(|| read.is_back().then(now));
    // The callback comes when the frame has been drawn: its pass waits behind the work.
    let drawn = shower.comes(SOON, || {
        look();
        !events(&latched).is_empty()
    });
    ensure(drawn, || "not drawn".into())?;
    shower.show(Memory::Gpu, None);
    shower.comes(SOON, || {
        look();
        read.is_back()
    });
    work.wait().expect("a wait");
    let done = Duration::from_nanos(work.signalled_at_ns().expect("its times").expect("signalled"));
    ensure(back.is_some(), || "never released".into())?;
    ensure(back >= Some(done), || {
        format!("released before {back:?}, and the GPU came to read it at {done:?}")
    })
}

fn i4(chain: &Chain, drivers: &[Driver]) -> Verdict {
    let (mut source, mut clock) = (Source::new(), chain.clock());
    for &driver in drivers {
        for way in WAYS {
            let mut shower = Shower::new(chain, way);
            let late = source.late(driver);
            let first = shower.show(Memory::Heap, Some(&late.fence));
            let second = shower.show(Memory::Heap, None);
            shower.app.app.client.expect_no_error();
            frames(&mut clock, driver);
            for commit in [&first.commit, &second.commit] {
                ensure(waits(&mut shower, commit, &late), || format!("{driver:?}, {way:?}: overtaken"))?;
            }
            late.signal();
            shower.app.app.until_shown(&second.commit);
            let (first, second) = (first.commit.at(), second.commit.at());
            ensure(first <= second, || format!("{driver:?}, {way:?}: {first:?} after {second:?}"))?;
            ensure(second >= Some(late.at()), || format!("{driver:?}, {way:?}: overtaken"))?;
        }
        tree(chain, source.late(driver), driver, &mut clock)?;
    }
    Ok(())
}

/// The child of a synchronised tree is late.
fn tree(chain: &Chain, late: Late, driver: Driver, clock: &mut Clock) -> Verdict {
    let mut tree = Tree::new(&chain.desk);
    tree.of_child.point(1).import_sync_file(&late.fence).expect("import");
    tree.of_window.signal(1);
    let ((child, _), window) = (tree.show_child(1), tree.show_window(1));
    tree.app.app.client.expect_no_error();
    frames(clock, driver);
    let fates = [tree.app.app.fate(&child), tree.app.app.fate(&window)];
    ensure(fates == [Fate::Waiting; 2] || !late.is_pending(), || format!("{driver:?}: a tree is {fates:?}"))?;
    late.signal();
    tree.app.app.until_shown(&window);
    let (child, window) = (child.at(), window.at());
    ensure(child == window, || format!("{driver:?}: a tree was shown at {child:?} and {window:?}"))
}

/// How often the others show a frame while somebody commits.
const ROUNDS: u32 = 20;

/// As [`ROUNDS`], where each takes as long as a late fence holds a broken compositor up.
const HELD_ROUNDS: u32 = 5;

/// How many times as long the others may take. They would take ten times as long and more if a late fence held them up;
/// the rest is for an emulated processor.
const SLOWER: u32 = 3;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn i5(chain: &Chain, drivers: &[Driver], rounds: u32) -> Verdict {
    let (mut source, mut clock) = (Source::new(), chain.clock());
    clock.tick();
    for &driver in drivers {
        for way in WAYS {
            let mut shower = Shower::new(chain, way);
            let mut took = [Vec::new(), Vec::new()];
            let (mut late, mut commits) = (Vec::new(), Vec::new());
            for (is_late, took) in took.iter_mut().enumerate() {
                for _ in 0..rounds {
                    let start = Instant::now();
                    // Made in both: it takes time.
                    let fence = source.late(driver);
                    let given = shower.show(Memory::Heap, (is_late == 1).then_some(&fence.fence));
                    shower.app.app.client.expect_no_error();
                    clock.tick();
                    took.push(start.elapsed());
                    if is_late == 1 {
                        commits.push(given);
                        late.push(fence);
                    }
                }
            }
            // A machine that stands still makes a few of them long.
            let [ready, beside] = took.map(median);
            println!("{driver:?}, {way:?}: a frame in {ready:?}, beside a late client in {beside:?}");
            ensure(beside < SLOWER * ready, || {
                format!("{driver:?}, {way:?}: {beside:?} instead of {ready:?}")
            })?;
            ensure(waits(&mut shower, &commits[0].commit, &late[0]), || {
                format!("{driver:?}, {way:?}: shown")
            })?;
            late.iter().for_each(Late::signal);
            shower.app.app.until_shown(&commits[commits.len() - 1].commit);
        }
    }
    Ok(())
}

fn holds(check: impl Fn(&Chain) -> Verdict) {
    trace::expect_honest(|file| {
        let chain = Chain::start(&["--trace", file.to_str().expect("a name")]);
        check(&chain).unwrap();
        chain.end();
    });
}

/// How often a compositor that breaks a rule is looked at: on a slow machine the GPU may be done before there is anything to see.
const LOOKS: usize = 5;

/// What the check says of a compositor that breaks the rule.
pub(crate) fn is_noticed(rule: &str, check: impl Fn(&Chain) -> Verdict) {
    let chain = Chain::start(&["--break-rule", rule]);
    let complaint = (0..LOOKS).find_map(|_| check(&chain).err());
    println!("--break-rule {rule}: {}", complaint.expect("the rule was broken and nobody noticed"));
}

#[test]
fn i1_nothing_is_read_before_its_acquire_fence_has_signalled() {
    holds(|chain| i1(chain, &ALL));
}

#[test]
fn i2_no_release_comes_before_the_last_use_of_the_buffer() {
    holds(|chain| i2(chain, &ALL).and_then(|()| i2_on_a_busy_gpu(chain)));
}

#[test]
fn i4_commits_of_a_surface_apply_in_order_and_a_synchronised_tree_as_one() {
    holds(|chain| i4(chain, &ALL));
}

#[test]
fn i5_a_late_fence_delays_its_own_surface_only() {
    holds(|chain| i5(chain, &BY_HAND, ROUNDS));
}

#[test]
fn a_compositor_that_reads_before_the_acquire_fence_is_noticed() {
    for driver in BY_HAND {
        is_noticed("acquire", |chain| i1(chain, &[driver]));
    }
}

#[test]
fn a_compositor_that_releases_what_it_still_reads_is_noticed() {
    is_noticed("release", |chain| i2(chain, &BY_HAND));
    is_noticed("release", i2_on_a_busy_gpu);
}

#[test]
fn a_compositor_that_lets_a_ready_commit_overtake_a_late_one_is_noticed() {
    is_noticed("order", |chain| i4(chain, &BY_HAND));
}

#[test]
fn a_compositor_that_stands_still_for_a_fence_is_noticed() {
    is_noticed("hold", |chain| i5(chain, &BY_HAND, HELD_ROUNDS));
}
