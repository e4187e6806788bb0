//! Who waits for an acquire fence: our event loop, or whoever reads the content.
//!
//! Owns the choice, and the [`Standing`] of each surface that it is made from. Pure: facts and times come in, a verdict
//! goes out. Must not know fds, outputs or a clock.
//!
//! # The rule
//!
//! *Waiting* costs the surface a wake-up of ours between its fence and its frame. *Handing over* saves that, and makes the
//! frame as late as the fence: everything that is drawn with it, and with a GPU everything that is drawn after it, is held
//! up. So `auto` hands a fence over when all of this is so, and waits otherwise:
//!
//! 1. Whoever reads the content can wait by itself ([`Facts::consumer_can_wait`]).
//! 2. The fence is a GPU's ([`Facts::is_gpu`]): the kernel answers for it, and a GPU that hangs holds us up in any case. A
//!    fence that some process signals when it likes is never handed over.
//! 3. The surface has *no fence pending* that was handed over before: what it did with the last one is known.
//! 4. The surface is not *demoted*.
//! 5. *Nobody else* would wait with it ([`Facts::alone`]), and its last [`PROOF_ALONE`] pending fences were at most one
//!    refresh late; or somebody would, and its last [`PROOF_BESIDE`] were all in time.
//! 6. Its slowest fence of late, starting now, would be in time; alone, at most one refresh late.
//!
//! Nothing is handed over without evidence: a surface earns it with fences that were waited for, and those that had
//! signalled before their commit prove nothing. A fence that is late by a refresh or less takes the surface's place beside
//! others away until it has proved itself anew. One that is later demotes it for [`DEMOTION`], twice as long each time that it
//! was trusted again; while it is demoted, it only begins anew: what is waited for hurts nobody.
//!
//! So a fence that holds others up was foreseen in time, and is as rare as a surface's first mistake in minutes. What no
//! rule can know is when a job ends that has not ended: the bound on that one frame is the kernel's on a job of this GPU.

use std::time::Duration;

/// Who waits for the clients' acquire fences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Acquire {
    /// Each surface as it deserves: handed over where that cannot hurt anybody else or its fences have been in time, else
    /// waited for.
    #[default]
    Auto,
    /// The compositor, always: a late frame delays its own surface only, and is shown a little later than it could be.
    Wait,
    /// The GPU or KMS, wherever it can: a late frame is shown as soon as it can be, and holds up all else that is drawn until
    /// then. A fence that never signals stops the picture; the watchdog says so every five seconds.
    HandOver,
}

impl Acquire {
    /// Its name on the command line.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self)
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Pending fences in a row that earn a surface its hand-overs where it is alone: enough not to be chance, and a sixth of a
/// second at 60 Hz. Nobody else is there to be hurt meanwhile.
pub const PROOF_ALONE: u32 = 10;

/// The same beside others: two seconds at 60 Hz, so that a scene which is heavy now and then shows it once.
pub const PROOF_BESIDE: u32 = 120;

/// How long a surface waits after a fence that was more than a refresh late: long enough to see what is wrong with it, and
/// at most one refresh in a hundred can be lost to it.
pub const DEMOTION: Duration = Duration::from_secs(2);

/// How often [`DEMOTION`] is doubled at most: to about two minutes.
const MAX_DOUBLINGS: u32 = 6;

/// The share of the slowest fence that is forgotten with each one that is faster: half of it in 44 fences, less than a
/// second, so that a scene that has become lighter counts as that.
const FORGOTTEN: u32 = 64;

/// What a commit with pending fences is decided from. They all have materialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whoever will read the content can wait for these fences by itself while our thread goes on.
    pub consumer_can_wait: bool,
    /// The fences are those of a GPU's jobs.
    pub is_gpu: bool,
    /// Nobody else is on the planes, or behind the GPU, that would wait.
    pub alone: bool,
    /// When the fences have to have signalled for the next refresh; `None` for a surface that nobody sees.
    pub deadline: Option<Deadline>,
}

/// The next refresh that a commit can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The latest time for its fences to signal.
    pub at: Duration,
    /// The length of a refresh.
    pub refresh: Duration,
}

/// Why it is decided so; the numbers are those of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was asked for on the command line.
    Forced,
    /// (1) The consumer cannot wait.
    Consumer,
    /// (2) A process signals the fence.
    NotGpu,
    /// (3) The surface's last hand-over is not over.
    Unjudged,
    /// (4) The surface is demoted.
    Demoted,
    /// (5) It has not proved itself.
    Unproven,
    /// (6) Its fences take too long for the next refresh, or nobody sees it.
    TooSlow,
    /// A fence of another surface of its tree is waited for.
    Tree,
    /// (5) Nobody else would wait.
    Alone,
    /// (5) Its fences have been in time.
    Proven,
}

impl Reason {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forced => "forced",
            Self::Consumer => "consumer",
            Self::NotGpu => "not-gpu",
            Self::Unjudged => "unjudged",
            Self::Demoted => "demoted",
            Self::Unproven => "unproven",
            Self::TooSlow => "too-slow",
            Self::Tree => "tree",
            Self::Alone => "alone",
            Self::Proven => "proven",
        }
    }
}

/// What is decided for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it opens now, and its fences go with its content; else it opens when they have signalled.
    pub hand_over: bool,
    /// Why.
    pub reason: Reason,
}

/// What is known of a surface's fences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Pending fences in a row that were in time.
    in_time: u32,
    /// Pending fences in a row that were at most one refresh late.
    tolerable: u32,
    /// The slowest of late.
    slowest: Duration,
    /// How often it was demoted, less one for each time that it has proved itself since.
    strikes: u32,
    demoted_until: Duration,
}

/// What a fence was like whose end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// In time.
    InTime,
    /// Late by a refresh or less.
    Late,
    /// Later: the surface is demoted.
    Miss,
}

impl Standing {
    /// The rule.
    pub fn decide(&self, acquire: Acquire, facts: Facts, unjudged: bool, now: Duration) -> Verdict {
        let hand_over = |reason| Verdict { hand_over: true, reason };
        let wait = |reason| Verdict { hand_over: false, reason };
        match acquire {
            Acquire::Wait => return wait(Reason::Forced),
            _ if !facts.consumer_can_wait => return wait(Reason::Consumer),
            Acquire::HandOver => return hand_over(Reason::Forced),
            Acquire::Auto => {}
        }
        let (proof, earned) = match facts.alone {
            true => (self.tolerable >= PROOF_ALONE, Reason::Alone),
            false => (self.in_time >= PROOF_BESIDE, Reason::Proven),
        };
        let in_time = facts.deadline.is_some_and(|deadline| {
            let grace = if facts.alone { deadline.refresh } else { Duration::ZERO };
            now.saturating_add(self.slowest) <= deadline.at.saturating_add(grace)
        });
        match () {
            () if !facts.is_gpu => wait(Reason::NotGpu),
            () if unjudged => wait(Reason::Unjudged),
            () if self.is_demoted(now) => wait(Reason::Demoted),
            () if !proof => wait(Reason::Unproven),
            () if !in_time => wait(Reason::TooSlow),
            () => hand_over(earned),
        }
    }

    /// Whether it waits whatever its fences do.
    pub fn is_demoted(&self, now: Duration) -> bool {
        now < self.demoted_until
    }

    /// A fence that pended at `from` signalled at `until`, or has not by that time.
    pub fn judge(&mut self, deadline: Deadline, from: Duration, until: Duration) -> Judgement {
        let late = until.saturating_sub(deadline.at);
        let forgotten = self.slowest / FORGOTTEN;
        self.slowest = until.saturating_sub(from).max(self.slowest.saturating_sub(forgotten));
        if late.is_zero() {
            self.in_time = self.in_time.saturating_add(1);
            self.tolerable = self.tolerable.saturating_add(1);
            if self.in_time.is_multiple_of(PROOF_BESIDE) {
                self.strikes = self.strikes.saturating_sub(1);
            }
            return Judgement::InTime;
        }
        self.in_time = 0;
        if late <= deadline.refresh {
            self.tolerable = self.tolerable.saturating_add(1);
            return Judgement::Late;
        }
        self.tolerable = 0;
        if !self.is_demoted(until) {
            self.strikes = self.strikes.saturating_add(1);
        }
        let doublings = self.strikes.saturating_sub(1).min(MAX_DOUBLINGS);
        let time = DEMOTION.saturating_mul(1 << doublings);
        self.demoted_until = self.demoted_until.max(until.saturating_add(time));
        Judgement::Miss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const REFRESH: Duration = Duration::from_millis(16);
    const BESIDE: Facts = Facts {
        consumer_can_wait: true,
        is_gpu: true,
        alone: false,
        deadline: Some(Deadline { at: Duration::from_millis(14), refresh: REFRESH }),
    };
    const ALONE: Facts = Facts { alone: true, ..BESIDE };

    /// A surface after `count` fences that pended for `lasted` each, with 14 ms to be in time.
    fn after(count: u32, lasted: Duration) -> Standing {
        let mut standing = Standing::default();
        for _ in 0..count {
            standing.judge(Deadline { at: MS(14), refresh: REFRESH }, MS(0), lasted);
        }
        standing
    }

    fn auto(standing: &Standing, facts: Facts) -> Verdict {
        standing.decide(Acquire::Auto, facts, false, MS(0))
    }

    fn reason(standing: &Standing, facts: Facts) -> Reason {
        auto(standing, facts).reason
    }

    #[test]
    fn nothing_is_handed_over_without_evidence() {
        for facts in [BESIDE, ALONE] {
            assert_eq!(reason(&Standing::default(), facts), Reason::Unproven);
        }
    }

    #[test]
    fn evidence_is_worth_more_where_nobody_else_is() {
        let few = after(PROOF_ALONE, MS(5));
        assert_eq!(auto(&few, ALONE), Verdict { hand_over: true, reason: Reason::Alone });
        assert_eq!(reason(&few, BESIDE), Reason::Unproven);
        assert_eq!(reason(&after(PROOF_ALONE - 1, MS(5)), ALONE), Reason::Unproven);
        let many = after(PROOF_BESIDE, MS(5));
        assert_eq!(auto(&many, BESIDE), Verdict { hand_over: true, reason: Reason::Proven });
        assert!(!auto(&after(PROOF_BESIDE - 1, MS(5)), BESIDE).hand_over);
    }

    #[test]
    fn one_that_is_steadily_a_little_late_is_handed_over_only_where_it_is_alone() {
        let late = after(PROOF_BESIDE, MS(20));
        assert_eq!(reason(&late, ALONE), Reason::Alone);
        assert_eq!(reason(&late, BESIDE), Reason::Unproven);
    }

    #[test]
    fn a_miss_demotes_even_the_best_for_a_while() {
        let mut standing = after(1000, MS(5));
        let deadline = Deadline { at: MS(14), refresh: REFRESH };
        assert_eq!(standing.judge(deadline, MS(0), MS(1014)), Judgement::Miss);
        assert_eq!(reason(&standing, ALONE), Reason::Demoted);
        let free = MS(1014) + DEMOTION;
        assert!(standing.is_demoted(free - MS(1)) && !standing.is_demoted(free));
        // And then it has to prove itself anew.
        assert_eq!(standing.decide(Acquire::Auto, ALONE, false, free).reason, Reason::Unproven);
    }

    #[test]
    fn who_misses_again_is_demoted_for_longer_and_who_proves_itself_for_less_again() {
        let demotion = |standing: &mut Standing| {
            let before = standing.demoted_until;
            let deadline = Deadline { at: before, refresh: REFRESH };
            assert_eq!(standing.judge(deadline, before, before + MS(17)), Judgement::Miss);
            standing.demoted_until - before - MS(17)
        };
        let mut standing = Standing::default();
        let times = [1, 2, 4, 8, 16, 32, 64, 64, 64].map(|times| DEMOTION * times);
        assert_eq!(times.map(|_| demotion(&mut standing)), times);
        let mut standing = Standing::default();
        demotion(&mut standing);
        for _ in 0..PROOF_BESIDE {
            standing.judge(Deadline { at: MS(14), refresh: REFRESH }, MS(0), MS(1));
        }
        assert_eq!(demotion(&mut standing), DEMOTION);
    }

    #[test]
    fn a_burst_of_misses_is_one() {
        let (mut standing, deadline) = (Standing::default(), Deadline { at: MS(14), refresh: REFRESH });
        for ms in (100..1000).step_by(50) {
            assert_eq!(standing.judge(deadline, MS(0), MS(ms)), Judgement::Miss);
            assert_eq!(standing.demoted_until, MS(ms) + DEMOTION);
        }
    }

    #[test]
    fn a_fence_that_would_come_too_late_this_time_is_waited_for() {
        let standing = after(PROOF_BESIDE, MS(10));
        let now = MS(5);
        assert_eq!(standing.decide(Acquire::Auto, BESIDE, false, now).reason, Reason::TooSlow);
        assert_eq!(standing.decide(Acquire::Auto, ALONE, false, now).reason, Reason::Alone);
        assert_eq!(standing.decide(Acquire::Auto, ALONE, false, MS(21)).reason, Reason::TooSlow);
        assert_eq!(reason(&standing, Facts { deadline: None, ..BESIDE }), Reason::TooSlow);
    }

    #[test]
    fn a_slow_fence_is_forgotten_in_time() {
        let mut standing = after(1, MS(13));
        let steps = (1..)
            .take_while(|_| {
                standing.judge(Deadline { at: MS(14), refresh: REFRESH }, MS(0), MS(1));
                standing.slowest > MS(13) / 2
            })
            .count();
        assert!((40..50).contains(&steps), "{steps}");
    }

    #[test]
    fn only_one_hand_over_of_a_surface_is_open_at_a_time() {
        let standing = after(PROOF_BESIDE, MS(5));
        assert_eq!(standing.decide(Acquire::Auto, ALONE, true, MS(0)).reason, Reason::Unjudged);
    }

    #[test]
    fn what_a_process_signals_is_never_handed_over_by_itself() {
        let standing = after(1000, MS(5));
        assert_eq!(reason(&standing, Facts { is_gpu: false, ..ALONE }), Reason::NotGpu);
    }

    #[test]
    fn a_forced_policy_is_followed_as_far_as_the_consumer_can() {
        let (good, new) = (after(1000, MS(5)), Standing::default());
        assert!(!good.decide(Acquire::Wait, ALONE, false, MS(0)).hand_over);
        assert!(new.decide(Acquire::HandOver, Facts { is_gpu: false, ..BESIDE }, true, MS(0)).hand_over);
        let cpu = Facts { consumer_can_wait: false, ..BESIDE };
        assert_eq!(new.decide(Acquire::HandOver, cpu, false, MS(0)).reason, Reason::Consumer);
    }
}
