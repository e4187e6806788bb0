//! The frame machine's promises, one by one and then in every order of events up to a length.

use super::*;

const REFRESH: Duration = Duration::from_millis(16);
const MS: fn(u64) -> Duration = Duration::from_millis;

/// A lit, idle output whose first frame has flipped at 100 ms.
fn idle() -> FrameMachine {
    let mut machine = FrameMachine::new(REFRESH);
    assert_eq!(machine.resume(MS(90)), Some(Action::ArmTimer(MS(90))));
    assert_eq!(machine.timer(MS(90)), Some(Action::Latch { callbacks: true }));
    assert_eq!(machine.latched(Outcome::Submitted, MS(91)), None);
    assert_eq!(machine.flipped(MS(100), MS(100)), None);
    assert_eq!(machine.state(), State::Idle);
    machine
}

#[test]
fn damage_on_an_idle_output_is_latched_at_once() {
    let mut machine = idle();
    assert_eq!(machine.damaged(MS(105)), Some(Action::ArmTimer(MS(105))));
    assert_eq!(machine.timer(MS(105)), Some(Action::Latch { callbacks: true }));
}

#[test]
fn damage_in_flight_is_latched_at_the_flip() {
    let mut machine = idle();
    let _ = machine.damaged(MS(105));
    let _ = machine.timer(MS(105));
    assert_eq!(machine.latched(Outcome::Submitted, MS(106)), None);
    assert_eq!(machine.damaged(MS(107)), None);
    assert_eq!(machine.flipped(MS(116), MS(117)), Some(Action::ArmTimer(MS(117))));
}

#[test]
fn callbacks_without_damage_come_once_per_refresh_of_the_grid() {
    let mut machine = idle();
    assert_eq!(machine.callback_wanted(MS(105)), Some(Action::ArmTimer(MS(105))));
    assert_eq!(machine.timer(MS(105)), Some(Action::Latch { callbacks: true }));
    assert_eq!(machine.latched(Outcome::NothingToDraw, MS(105)), None);
    assert_eq!(machine.state(), State::Idle, "no timer is armed for a refresh that nobody wants");
    assert_eq!(machine.callback_wanted(MS(107)), Some(Action::ArmTimer(MS(116))));
    assert_eq!(machine.timer(MS(116)), Some(Action::Latch { callbacks: true }));
    let _ = machine.latched(Outcome::NothingToDraw, MS(116));
    assert_eq!(machine.callback_wanted(MS(117)), Some(Action::ArmTimer(MS(132))));
}

#[test]
fn damage_does_not_wait_for_an_estimated_refresh_but_callbacks_do() {
    let mut machine = idle();
    let _ = machine.callback_wanted(MS(105));
    let _ = machine.timer(MS(105));
    let _ = machine.latched(Outcome::NothingToDraw, MS(105));
    assert_eq!(machine.callback_wanted(MS(107)), Some(Action::ArmTimer(MS(116))));
    assert_eq!(machine.damaged(MS(108)), Some(Action::ArmTimer(MS(108))));
    assert_eq!(machine.timer(MS(108)), Some(Action::Latch { callbacks: false }));
    assert_eq!(machine.latched(Outcome::Submitted, MS(109)), None);
    assert_eq!(machine.flipped(MS(116), MS(116)), Some(Action::ArmTimer(MS(116))));
    assert_eq!(machine.timer(MS(116)), Some(Action::Latch { callbacks: true }));
}

#[test]
fn a_refused_commit_is_retried_ever_more_rarely() {
    let mut machine = idle();
    let _ = machine.damaged(MS(200));
    let mut now = MS(200);
    let mut waits = Vec::new();
    for _ in 0..9 {
        assert!(matches!(machine.timer(now), Some(Action::Latch { .. })));
        let Some(Action::ArmTimer(at)) = machine.latched(Outcome::Retry, now) else {
            panic!("no retry was scheduled");
        };
        assert_eq!(machine.damaged(now), None, "new damage does not hurry a refused commit");
        waits.push((at - now).as_millis());
        now = at;
    }
    assert_eq!(waits, [16, 32, 64, 128, 256, 512, 1000, 1000, 1000]);
}

#[test]
fn the_watchdog_sees_a_flip_that_does_not_come() {
    let mut machine = idle();
    let _ = machine.damaged(MS(105));
    let _ = machine.timer(MS(105));
    let _ = machine.latched(Outcome::Submitted, MS(106));
    assert!(!machine.stuck(MS(1106), MS(1000)));
    assert!(machine.stuck(MS(1107), MS(1000)));
    assert_eq!(machine.abandon(MS(1107)), Some(Action::ArmTimer(MS(1107))));
}

#[test]
fn a_flip_that_is_still_due_after_a_pause_is_waited_for() {
    let mut machine = idle();
    let _ = machine.damaged(MS(105));
    let _ = machine.timer(MS(105));
    let _ = machine.latched(Outcome::Submitted, MS(106));
    assert_eq!(machine.pause(), None);
    assert_eq!(machine.resume(MS(500)), None);
    assert_eq!(machine.flipped(MS(116), MS(501)), Some(Action::ArmTimer(MS(501))));
}

/// Inputs of the exhaustive test. An input that the caller could not give in this state is skipped.
#[derive(Clone, Copy, Debug)]
enum Input {
    Damaged,
    CallbackWanted,
    TimerDue,
    TimePasses,
    Latched(Outcome),
    Flipped,
    Pause,
    Resume,
}

const INPUTS: [Input; 11] = [
    Input::Damaged,
    Input::CallbackWanted,
    Input::TimerDue,
    Input::TimePasses,
    Input::Latched(Outcome::Submitted),
    Input::Latched(Outcome::NothingToDraw),
    Input::Latched(Outcome::Retry),
    Input::Latched(Outcome::Lost),
    Input::Flipped,
    Input::Pause,
    Input::Resume,
];

/// The caller and the kernel, as the machine sees them, with what must hold between them.
#[derive(Clone)]
struct World {
    machine: FrameMachine,
    now: Duration,
    timer: Option<Duration>,
    latching: bool,
    in_flight: bool,
    paused: bool,
    /// Wanted since the last latch that took it.
    damage: bool,
    callbacks: bool,
    /// Frame callbacks were sent in the current refresh, real or estimated, which ends at this time.
    sent_until: Option<Duration>,
}

impl World {
    fn new() -> Self {
        Self {
            machine: FrameMachine::new(REFRESH),
            now: MS(1000),
            timer: None,
            latching: false,
            in_flight: false,
            paused: true,
            damage: false,
            callbacks: false,
            sent_until: None,
        }
    }

    /// Gives one input; false if it makes no sense now.
    fn give(&mut self, input: Input) -> bool {
        let action = match input {
            Input::Damaged => {
                self.damage = true;
                self.machine.damaged(self.now)
            }
            Input::CallbackWanted => {
                self.callbacks = true;
                self.machine.callback_wanted(self.now)
            }
            Input::TimerDue => {
                let Some(at) = self.timer.take() else { return false };
                self.now = self.now.max(at);
                self.machine.timer(self.now)
            }
            Input::TimePasses => {
                self.now += MS(5);
                return true;
            }
            Input::Latched(outcome) => {
                if !self.latching {
                    return false;
                }
                self.latching = false;
                match outcome {
                    Outcome::Submitted => {
                        assert!(!self.in_flight, "two commits in flight");
                        self.in_flight = true;
                    }
                    Outcome::Retry => self.damage = true,
                    Outcome::Lost => self.paused = true,
                    Outcome::NothingToDraw => {}
                }
                self.machine.latched(outcome, self.now)
            }
            Input::Flipped => {
                if !self.in_flight {
                    return false;
                }
                self.in_flight = false;
                self.sent_until = None;
                self.machine.flipped(self.now, self.now)
            }
            Input::Pause => {
                self.paused = true;
                self.machine.pause()
            }
            Input::Resume => {
                if self.paused {
                    self.damage = true;
                }
                self.paused = false;
                self.machine.resume(self.now)
            }
        };
        self.perform(action);
        self.check();
        true
    }

    fn perform(&mut self, action: Option<Action>) {
        if self.paused && !matches!(action, None | Some(Action::DisarmTimer)) {
            panic!("a paused output acted: {action:?}");
        }
        match action {
            None => {}
            Some(Action::ArmTimer(at)) => self.timer = Some(at),
            Some(Action::DisarmTimer) => self.timer = None,
            Some(Action::Latch { callbacks }) => {
                assert!(!self.in_flight, "latched behind a commit in flight");
                assert!(!self.latching, "latched twice");
                self.latching = true;
                self.damage = false;
                if callbacks {
                    assert!(
                        self.sent_until.is_none_or(|end| self.now >= end),
                        "callbacks twice in a refresh"
                    );
                    self.callbacks = false;
                    self.sent_until = Some(schedule::next_refresh(self.now, self.machine.last_flip, REFRESH));
                }
            }
        }
    }

    fn check(&self) {
        let busy = self.latching || self.in_flight;
        assert_eq!(
            self.timer.is_some(),
            matches!(self.machine.state(), State::Scheduled { .. }),
            "a timer is armed exactly while a latch is scheduled"
        );
        if !self.paused && !busy {
            assert_eq!(
                self.timer.is_some(),
                self.damage || self.callbacks,
                "what is wanted has a timer, and nothing else has"
            );
        }
    }

    /// Lets a well-behaved kernel and session run: everything wanted is shown, then all is quiet.
    fn run_out(&mut self) {
        for _ in 0..20 {
            let given = self.paused && self.give(Input::Resume)
                || self.give(Input::Latched(Outcome::Submitted))
                || self.give(Input::Flipped)
                || self.give(Input::TimerDue);
            if !given {
                break;
            }
        }
        assert!(!self.damage && !self.callbacks, "something wanted was never latched");
        assert_eq!(self.machine.state(), State::Idle);
        assert_eq!(self.timer, None);
    }
}

fn explore(world: &World, trail: &mut Vec<Input>, depth: usize, seen: &mut usize) {
    *seen += 1;
    world.clone().run_out();
    if depth == 0 {
        return;
    }
    for input in INPUTS {
        let mut next = world.clone();
        if next.give(input) {
            trail.push(input);
            explore(&next, trail, depth - 1, seen);
            trail.pop();
        }
    }
}

#[test]
fn in_every_order_of_events_nothing_is_lost_doubled_or_done_in_vain() {
    let mut seen = 0;
    let mut trail = Vec::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        explore(&World::new(), &mut trail, 8, &mut seen);
    }));
    if let Err(panic) = outcome {
        eprintln!("after {trail:?}");
        std::panic::resume_unwind(panic);
    }
    assert!(seen > 1_000_000, "only {seen} orders were tried");
}
