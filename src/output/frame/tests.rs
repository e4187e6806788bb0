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

/// A client that commits a millisecond after each flip; when it was latched, counted from that flip.
fn latched_after(machine: &mut FrameMachine, flip: Duration) -> Duration {
    let Some(Action::ArmTimer(at)) = machine.damaged(flip + MS(1)) else { panic!("nothing is scheduled") };
    assert_eq!(machine.timer(at), Some(Action::Latch { callbacks: true }), "once per refresh");
    assert_eq!(machine.latched(Outcome::Submitted, at), None);
    assert_eq!(machine.flipped(flip + REFRESH, flip + REFRESH), None);
    at - flip
}

#[test]
fn on_a_steady_grid_a_frame_is_begun_just_before_its_refresh() {
    let mut machine = idle();
    let latches: Vec<_> = (0..40).map(|n| latched_after(&mut machine, MS(100) + REFRESH * n)).collect();
    assert_eq!(latches[0], MS(1), "at once, until the grid is known");
    // What the first frame took has worn off in part.
    assert!((REFRESH - MS(2)..REFRESH - MS(1)).contains(&latches[39]), "{:?}", latches[39]);
    let (flip, lead) = (MS(100) + REFRESH * 40, machine.pace.lead());
    let by = machine.signal_by(flip + MS(2)).expect("the output is on");
    assert_eq!(by, flip + REFRESH - lead, "fences that signal until then are in the frame");
    assert_eq!(machine.damaged(flip + MS(500)), Some(Action::ArmTimer(flip + REFRESH * 32 - lead)));
    assert_eq!(machine.misses(), 0);
}

#[test]
fn a_window_is_latched_at_once_on_whatever_grid_its_parent_flips() {
    let mut machine = FrameMachine::new(REFRESH).with_cadence(Cadence::AtOnce);
    let _ = machine.resume(MS(0));
    let mut now = MS(0);
    for frame in 1..10 {
        assert!(matches!(machine.timer(now), Some(Action::Latch { .. })), "frame {frame}");
        assert_eq!(machine.latched(Outcome::Submitted, now), None);
        let _ = machine.damaged(now);
        let flip = REFRESH * frame;
        assert_eq!(machine.flipped(flip, flip), Some(Action::ArmTimer(flip)), "frame {frame}");
        now = flip;
    }
    assert_eq!(machine.misses(), 0);
}

#[test]
fn a_display_that_waits_is_latched_for_when_a_frame_comes_but_not_before_it_can_refresh() {
    let mut machine = FrameMachine::new(REFRESH).with_cadence(Cadence::Variable);
    let _ = machine.resume(MS(0));
    assert!(matches!(machine.timer(MS(0)), Some(Action::Latch { .. })));
    assert_eq!(machine.latched(Outcome::Submitted, MS(0)), None);
    let flip = MS(20);
    assert_eq!(machine.flipped(flip, flip), None);
    let soon = flip + REFRESH - machine.pace().lead();
    assert_eq!(machine.signal_by(flip), Some(soon));
    assert_eq!(machine.damaged(flip + MS(2)), Some(Action::ArmTimer(soon)));
    assert!(matches!(machine.timer(soon), Some(Action::Latch { .. })));
    assert_eq!(machine.latched(Outcome::NothingToDraw, soon), None);
    // No refresh of a fixed rate is here.
    let late = flip + REFRESH * 3 + REFRESH / 2;
    assert_eq!(machine.signal_by(late), Some(late));
    assert_eq!(machine.forecast(late).map(|forecast| forecast.presents_at), Some(late));
    assert_eq!(machine.damaged(late), Some(Action::ArmTimer(late)));
}

#[test]
fn a_frame_that_was_begun_too_late_is_counted_unless_a_client_held_it() {
    for held in [false, true] {
        let mut machine = idle();
        for n in 0..40 {
            latched_after(&mut machine, MS(100) + REFRESH * n);
        }
        let flip = MS(100) + REFRESH * 40;
        let Some(Action::ArmTimer(at)) = machine.damaged(flip) else { panic!("nothing is scheduled") };
        let _ = machine.timer(at);
        let _ = machine.latched(Outcome::Submitted, at);
        if held {
            machine.waits_for_a_client();
        }
        let _ = machine.flipped(flip + 2 * REFRESH, flip + 2 * REFRESH);
        assert_eq!(machine.misses(), u64::from(!held));
    }
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
fn what_was_refused_is_tried_at_once_when_that_may_help_and_only_then() {
    let mut machine = idle();
    assert_eq!(machine.retry(MS(200)), None, "nothing was refused");
    let _ = machine.damaged(MS(200));
    let mut now = MS(200);
    for _ in 0..5 {
        let _ = machine.timer(now);
        let Some(Action::ArmTimer(at)) = machine.latched(Outcome::Retry, now) else {
            panic!("no retry was scheduled");
        };
        now = at;
    }
    let early = now - MS(200);
    assert_eq!(machine.retry(early), Some(Action::ArmTimer(early)));
    let _ = machine.timer(early);
    let Some(Action::ArmTimer(next)) = machine.latched(Outcome::Retry, early) else {
        panic!("no retry was scheduled");
    };
    assert_eq!(next - early, REFRESH, "the waits begin anew");
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
#[derive(Clone, Debug)]
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
    /// Flips come with the vblanks.
    on_grid: bool,
}

impl World {
    /// An output that is lit and has shown what was wanted many times, so that it waits for the last moment.
    fn steady() -> Self {
        let mut world = Self { on_grid: true, ..Self::new() };
        world.give(Input::Resume);
        for _ in 0..40 {
            for input in [Input::Damaged, Input::TimerDue, Input::Latched(Outcome::Submitted), Input::Flipped]
            {
                assert!(world.give(input), "{input:?}");
            }
        }
        let mut wanted = world.clone();
        wanted.give(Input::Damaged);
        assert!(wanted.timer > Some(wanted.now + REFRESH / 2), "it does not wait: {wanted:?}");
        world
    }

    fn new() -> Self {
        Self {
            on_grid: false,
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
                if self.on_grid {
                    self.now = schedule::next_refresh(self.now, Some(Duration::ZERO), REFRESH);
                }
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
        assert!(seen > 1_000_000, "only {seen} orders were tried");
        explore(&World::steady(), &mut trail, 7, &mut seen);
    }));
    if let Err(panic) = outcome {
        eprintln!("after {trail:?}");
        std::panic::resume_unwind(panic);
    }
    assert!(seen > 1_500_000, "only {seen} orders were tried");
}

/// Latches and flips once.
fn flip(machine: &mut FrameMachine, submitted: u64, at: u64) {
    let _ = machine.damaged(MS(submitted));
    let _ = machine.timer(MS(submitted));
    assert_eq!(machine.latched(Outcome::Submitted, MS(submitted)), None);
    let _ = machine.flipped(MS(at), MS(at));
}

#[test]
fn refreshes_are_foreseen_once_two_flips_were_a_whole_number_of_them_apart() {
    let mut machine = idle();
    let presents_at = |machine: &FrameMachine, now| machine.forecast(MS(now)).map(|f| f.presents_at);
    assert_eq!(presents_at(&machine, 105), Some(MS(105)), "one flip says nothing of the next");
    flip(&mut machine, 105, 116);
    assert_eq!(presents_at(&machine, 120), Some(MS(132)));
    // One is dated late, and the next one comes when it would have come anyway.
    flip(&mut machine, 120, 141);
    assert_eq!(presents_at(&machine, 142), Some(MS(142)), "else content would be shown before 157");
    flip(&mut machine, 142, 148);
    assert_eq!(presents_at(&machine, 149), Some(MS(149)));
    flip(&mut machine, 149, 164);
    assert_eq!(presents_at(&machine, 165), Some(MS(180)));
    // An output without vblanks flips when it has drawn.
    flip(&mut machine, 165, 167);
    assert_eq!(presents_at(&machine, 168), Some(MS(168)));
    let _ = machine.pause();
    assert_eq!(presents_at(&machine, 169), None);
}

#[test]
fn a_flip_is_not_older_than_its_commit_by_more_than_a_refresh() {
    let machine = FrameMachine::new(MS(10));
    assert_eq!(machine.flip_time(MS(20), MS(103)), MS(103));
    assert_eq!(machine.flip_time(MS(101), MS(103)), MS(101), "the vblank was due before, and came late");
    assert_eq!(machine.flip_time(MS(110), MS(103)), MS(110));
}
