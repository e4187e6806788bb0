//! The checker checked: what is done wrong on purpose is found, and as what it is.

use crate::action::Fault;
use crate::checker::Invariant;
use crate::random::{STEPS, run};

/// Runs until the fault is found; each run has another seed.
#[track_caller]
fn finds(fault: Fault, expected: Invariant) {
    for seed in 0..4 {
        if let Err(failure) = run(seed, STEPS, Some(fault)) {
            let found = failure.broken;
            assert_eq!(found.invariant, expected, "{fault:?}: {}", found.what);
            return;
        }
    }
    panic!("{fault:?} was not found");
}

#[test]
fn a_release_point_signalled_twice_is_found() {
    finds(Fault::ReleaseTwice, Invariant::I3);
}

#[test]
fn a_release_before_its_consumers_are_done_is_found() {
    finds(Fault::ReleaseEarly, Invariant::I2);
}

#[test]
fn a_release_that_never_comes_is_found() {
    finds(Fault::ReleaseLost, Invariant::I3);
}

#[test]
fn a_pass_that_leaves_no_fence_on_its_leases_is_found() {
    finds(Fault::ForgottenReader, Invariant::I2);
}

#[test]
fn a_release_at_the_displacing_commit_instead_of_its_flip_is_found() {
    finds(Fault::ReleaseAtCommit, Invariant::I2);
}

#[test]
fn a_commit_that_overtakes_is_found() {
    finds(Fault::Overtaking, Invariant::I4);
}

#[test]
fn a_sample_before_the_acquire_fence_is_found() {
    finds(Fault::EarlySample, Invariant::I1);
}

#[test]
fn a_late_fence_that_holds_another_surface_is_found() {
    finds(Fault::HeldByOthers, Invariant::I5);
}

#[test]
fn a_tree_that_applies_in_parts_is_found() {
    finds(Fault::SplitTree, Invariant::I4);
}

#[test]
fn a_flip_to_a_buffer_that_is_not_ready_is_found() {
    finds(Fault::NoPlaneFence, Invariant::I1);
}

#[test]
fn a_flip_to_a_frame_that_is_not_drawn_is_found() {
    finds(Fault::NoRenderFence, Invariant::I1);
}

#[test]
fn a_point_without_a_fence_given_to_the_gpu_is_found() {
    finds(Fault::Unmaterialised, Invariant::I6);
}

#[test]
fn a_timer_on_an_idle_output_is_found() {
    finds(Fault::BusyTimer, Invariant::I9);
}

#[test]
fn an_output_that_stands_still_is_found() {
    finds(Fault::MissedDamage, Invariant::I9);
}

#[test]
fn a_client_that_stays_after_an_overflow_is_found() {
    finds(Fault::IgnoredOverflow, Invariant::I8);
}
