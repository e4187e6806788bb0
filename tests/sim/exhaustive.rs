//! Every order of a few commits, fence signals and ends: destroyed, disconnected, unplugged.
//!
//! A scenario is a set of threads; what is in one thread happens in its order, and the rest in every order there is. Each
//! interleaving is run from the start, with every invariant checked after each step. How many there are is known, so that
//! a change cannot make them fewer unseen.

use crate::action::{Acquire, Action};
use crate::model::{Model, SURFACES_PER_CLIENT};

/// When the GPU and the display do their part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// At once, after every step.
    Fast,
    /// Frames start, and end only after the last step.
    Slow,
    /// At any time: their steps are interleaved too.
    Any,
}

/// What the output is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Screen {
    /// It draws, and latches at once.
    Drawn,
    /// It has a surface that is alone on a plane.
    Planes,
    /// It draws, and latches at the last moment.
    Steady,
}

const OUTPUT: usize = 0;
/// The first surface of each client.
const A: usize = 0;
const B: usize = SURFACES_PER_CLIENT;
/// The child of `A`.
const CHILD: usize = 1;

const fn commit(surface: usize, fence: usize) -> Action {
    Action::Commit { surface, acquire: Acquire::Named(fence), implicit: false }
}

const fn tree(parent_fence: usize, child_fence: usize) -> Action {
    let acquires = [Acquire::Named(parent_fence), Acquire::Named(child_fence)];
    Action::CommitTree { parent: A, child: CHILD, acquires, twice: false }
}

const fn signal(fence: usize) -> Action {
    Action::SignalNamed(fence)
}

const DESTROY: Action = Action::Destroy { surface: A };
const DISCONNECT: Action = Action::Disconnect { client: 0 };
const UNPLUG: Action = Action::Unplug { output: OUTPUT };

const FOUR_COMMITS: &[Action] = &[commit(A, 0), commit(A, 1), commit(A, 2), commit(A, 3)];

/// Two clients with an output that shows all of their surfaces.
fn start(screen: Screen) -> Model {
    let mut model = Model::new(2, 1, None);
    model.steady = screen == Screen::Steady;
    let create = [A, CHILD, B].map(|surface| Action::Create { surface, copied: false, outputs: 1 });
    let output = [
        Action::Plug { output: OUTPUT },
        Action::Direct { output: OUTPUT, direct: screen == Screen::Planes },
    ];
    for action in create.into_iter().chain(output) {
        assert!(model.act(action).expect("a good start"), "{action:?}");
    }
    rest(&mut model);
    assert_eq!(model.coverage.last_moment > 0, model.steady);
    model
}

/// What the GPU and the display can do next.
fn possible(model: &Model) -> Vec<Action> {
    let timer = model.outputs[OUTPUT].timer.map(|_| Action::Timer { output: OUTPUT });
    let gpu = model.kernel.gpu_can_go_on().then_some(Action::Gpu);
    let flip = model.kernel.can_flip(OUTPUT).then_some(Action::Vblank { output: OUTPUT });
    timer.into_iter().chain(gpu).chain(flip).collect()
}

/// Lets the GPU and the display do all they can.
fn rest(model: &mut Model) {
    while let Some(action) = possible(model).first() {
        model.act(*action).expect("the GPU and the display at work");
    }
}

/// One interleaving. `choices` says which way to go at each fork, and how many there are; it grows with the run.
fn run(threads: &[&[Action]], pace: Pace, screen: Screen, choices: &mut Vec<(usize, usize)>) {
    let mut model = start(screen);
    let mut next = vec![0; threads.len()];
    let mut trail = Vec::new();
    loop {
        let of_threads = threads.iter().zip(&next).enumerate();
        let of_threads =
            of_threads.filter_map(|(thread, (actions, at))| Some((Some(thread), *actions.get(*at)?)));
        let of_kernel = possible(&model).into_iter().map(|action| (None, action));
        let enabled: Vec<_> = match pace {
            Pace::Any => of_threads.chain(of_kernel).collect(),
            Pace::Fast | Pace::Slow => of_threads.collect(),
        };
        if enabled.is_empty() {
            break;
        }
        if choices.len() == trail.len() {
            choices.push((0, enabled.len()));
        }
        let (thread, action) = enabled[choices[trail.len()].0];
        if let Some(thread) = thread {
            next[thread] += 1;
        }
        trail.push(action);
        // False where the surface or client is gone: the step is empty then.
        let stepped = model.act(action);
        stepped.unwrap_or_else(|broken| panic!("{broken:?} after {trail:?}"));
        match pace {
            Pace::Fast => rest(&mut model),
            Pace::Slow => drop(model.act(Action::Timer { output: OUTPUT })),
            Pace::Any => {}
        }
    }
    model.quiesce().unwrap_or_else(|broken| panic!("{broken:?} at the end of {trail:?}"));
}

/// Runs every interleaving; returns how many there were.
fn explore(threads: &[&[Action]], pace: Pace, screen: Screen) -> usize {
    let mut choices = Vec::new();
    let mut runs = 0;
    loop {
        run(threads, pace, screen, &mut choices);
        runs += 1;
        // The next way: as a counter whose digits have different ranges.
        while let Some((chosen, ways)) = choices.last_mut() {
            *chosen += 1;
            if *chosen < *ways {
                break;
            }
            choices.pop();
        }
        if choices.is_empty() {
            return runs;
        }
    }
}

fn factorial(n: usize) -> usize {
    (1..=n).product()
}

/// The orders of threads of these lengths: all orders of the steps, by the orders within each thread.
fn orders(threads: &[&[Action]]) -> usize {
    let steps = threads.iter().map(|thread| thread.len()).sum();
    threads.iter().fold(factorial(steps), |orders, thread| orders / factorial(thread.len()))
}

fn every_order(threads: &[&[Action]], expected: usize) {
    assert_eq!(orders(threads), expected);
    for pace in [Pace::Fast, Pace::Slow] {
        assert_eq!(explore(threads, pace, Screen::Drawn), expected);
    }
}

#[test]
fn four_commits_and_their_fences_in_every_order_with_the_surface_destroyed_at_any_time() {
    every_order(&[FOUR_COMMITS, &[signal(0)], &[signal(1)], &[signal(2)], &[signal(3)], &[DESTROY]], 15_120);
}

#[test]
fn four_commits_and_their_fences_in_every_order_with_the_client_gone_at_any_time() {
    every_order(
        &[FOUR_COMMITS, &[signal(0)], &[signal(1)], &[signal(2)], &[signal(3)], &[DISCONNECT]],
        15_120,
    );
}

#[test]
fn four_commits_and_their_fences_in_every_order_with_the_output_gone_at_any_time() {
    every_order(&[FOUR_COMMITS, &[signal(0)], &[signal(1)], &[signal(2)], &[signal(3)], &[UNPLUG]], 15_120);
}

#[test]
fn two_clients_with_four_fences_in_every_order_with_one_gone_at_any_time() {
    let (a, b) = ([commit(A, 0), commit(A, 1)], [commit(B, 2), commit(B, 3)]);
    let threads: [&[Action]; 7] =
        [&a, &b, &[signal(0)], &[signal(1)], &[signal(2)], &[signal(3)], &[DISCONNECT]];
    every_order(&threads, 90_720);
}

#[test]
fn every_end_in_every_order_with_three_commits_and_their_fences() {
    let other_gone = Action::Disconnect { client: 1 };
    let (a, b) = ([commit(A, 0), commit(A, 1)], [commit(B, 2)]);
    let threads: [&[Action]; 8] =
        [&a, &b, &[signal(0)], &[signal(1)], &[signal(2)], &[DESTROY], &[other_gone], &[UNPLUG]];
    every_order(&threads, 181_440);
}

#[test]
fn a_tree_with_four_fences_in_every_order_with_its_child_and_the_output_gone_at_any_time() {
    let trees = [tree(0, 1), tree(2, 3)];
    let child_gone = Action::Destroy { surface: CHILD };
    let threads: [&[Action]; 7] =
        [&trees, &[signal(0)], &[signal(1)], &[signal(2)], &[signal(3)], &[child_gone], &[UNPLUG]];
    every_order(&threads, 20_160);
}

/// The steps of the GPU and the display depend on what came before, so there is no formula for their number: it was counted.
#[test]
fn passes_and_flips_in_every_order_with_commits_fences_and_the_end_of_the_output() {
    let a = [commit(A, 0), commit(A, 1)];
    let threads: [&[Action]; 6] = [&a, &[commit(B, 2)], &[signal(0)], &[signal(1)], &[signal(2)], &[UNPLUG]];
    assert_eq!(explore(&threads, Pace::Any, Screen::Drawn), 103_068);
}

#[test]
fn passes_and_flips_in_every_order_with_commits_fences_and_a_switch_to_another_session_and_back() {
    let a = [commit(A, 0), commit(A, 1)];
    let switch = [Action::Pause { output: OUTPUT }, Action::Resume { output: OUTPUT }];
    let threads: [&[Action]; 4] = [&a, &[signal(0)], &[signal(1)], &switch];
    assert_eq!(explore(&threads, Pace::Any, Screen::Drawn), 4_572);
}

#[test]
fn flips_of_buffers_on_a_plane_in_every_order_with_commits_fences_and_ends() {
    let a = [commit(A, 0), commit(A, 1), commit(A, 2)];
    let threads: [&[Action]; 6] = [&a, &[signal(0)], &[signal(1)], &[signal(2)], &[DESTROY], &[UNPLUG]];
    assert_eq!(explore(&threads, Pace::Any, Screen::Planes), 132_304);
}

#[test]
fn frames_that_wait_for_the_last_moment_in_every_order_with_commits_fences_and_the_end_of_the_output() {
    let a = [commit(A, 0), commit(A, 1)];
    let threads: [&[Action]; 5] = [&a, &[commit(B, 2)], &[signal(0)], &[signal(1)], &[UNPLUG]];
    assert_eq!(explore(&threads, Pace::Any, Screen::Steady), 3_894);
}

#[test]
fn frames_that_wait_for_the_last_moment_in_every_order_with_a_switch_to_another_session_and_back() {
    let a = [commit(A, 0), commit(A, 1)];
    let switch = [Action::Pause { output: OUTPUT }, Action::Resume { output: OUTPUT }];
    let threads: [&[Action]; 4] = [&a, &[signal(0)], &[signal(1)], &switch];
    assert_eq!(explore(&threads, Pace::Any, Screen::Steady), 4_572);
}
