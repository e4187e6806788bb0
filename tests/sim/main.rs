//! The synchronisation core proven on a model: the pure parts of the compositor, composed as the compositor composes
//! them, under simulated fences, a simulated GPU and display, and a simulated clock.
//!
//! `action` lists what can happen, `kernel` is what fences, the GPU and CRTCs do; `model` joins the real queue, lease, release and frame machine;
//! `checker` keeps its own truth and knows the invariants I1 to I9; `exhaustive`, `random` and `faults` drive them.

// Always so here. It tells clippy that the helpers are tests too, and may panic.
#![cfg(test)]

mod action;
mod checker;
mod exhaustive;
mod faults;
mod kernel;
mod model;
mod output;
mod random;
