//! The ledger: what happened to each commit, and whether it was allowed to.
//!
//! Pure: it is told, with times on CLOCK_MONOTONIC in ns, and holds them against each other. A commit is
//! struck off once it is both released and answered (presented or discarded).

use std::collections::BTreeMap;

use super::stats::{CommitTimes, Samples};
use crate::fence::FLIP_DATE_SLACK_NS;

/// How much earlier than the flip that ends a scan-out its release may seem to have come: both are told by
/// the kernel, to us in two messages.
const SCANOUT_SLACK_NS: u64 = 1_000_000;

/// What a compositor must not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Shown although the client's fence had not signalled.
    #[error("commit {commit} was shown {by_us} µs before its fence signalled")]
    ShownBeforeReady {
        /// The commit.
        commit: u64,
        /// How much before.
        by_us: u64,
    },
    /// Shown although the client's fence has still not signalled.
    #[error("commit {commit} was shown and its fence has not signalled yet")]
    ShownUnready {
        /// The commit.
        commit: u64,
    },
    /// Shown although its buffer had been given back before it had its content.
    #[error("commit {commit} was shown although its buffer was released before its fence signalled")]
    ShownAfterRelease {
        /// The commit.
        commit: u64,
    },
    /// Given back while it was on the screen.
    #[error(
        "commit {commit} was scanned out and released {by_us} µs before the next one was shown, unless it was composed in between"
    )]
    ReleasedOnScreen {
        /// The commit.
        commit: u64,
        /// How much before.
        by_us: u64,
    },
    /// Shown after a later one.
    #[error("commit {commit} was shown after commit {after}")]
    OutOfOrder {
        /// The commit.
        commit: u64,
        /// The later one that was shown before.
        after: u64,
    },
    /// Given back twice, or without having been committed.
    #[error("buffer {buffer} was released and is not the compositor's")]
    ReleasedTwice {
        /// Its number.
        buffer: u64,
    },
    /// Not given back after the surface was gone.
    #[error("commits {commits:?} were not released although their surface is gone")]
    NeverReleased {
        /// The commits.
        commits: Vec<u64>,
    },
}

#[derive(Debug, Clone, Copy, Default)]
struct Commit {
    at: u64,
    ready: Option<u64>,
    released: Option<u64>,
    answered: bool,
    presented: Option<u64>,
    zero_copy: bool,
}

/// The commits that are still open, and what has been seen of all.
#[derive(Debug, Default)]
pub struct Ledger {
    open: BTreeMap<u64, Commit>,
    last_shown: Option<Shown>,
    /// The last scan-out that was released before its end was known: the commit, and when.
    scanned_out: Option<(u64, u64)>,
    /// Commits made.
    pub committed: u64,
    /// Commits shown since [`Ledger::start_over`], as the next two.
    pub presented: u64,
    /// Of these, by direct scan-out.
    pub zero_copy: u64,
    /// Vblanks between two shown frames.
    pub missed_vblanks: u64,
    last_vblank: Option<u64>,
    /// Commits that will never be shown.
    pub discarded: u64,
    /// Commits whose buffer came back.
    pub released: u64,
    /// Commit to presentation.
    pub to_present: Samples,
    /// The same, in refreshes that began after the commit: 1 for one that was shown with the next.
    pub to_present_refreshes: Samples,
    /// One presentation to the next.
    pub between_presents: Samples,
    last_presented: Option<u64>,
    /// Commit to release.
    pub to_release: Samples,
    /// Commit to the client's own fence.
    pub to_ready: Samples,
    /// What the compositor did wrong.
    pub violations: Vec<Violation>,
    /// The times of each commit that is struck off, if they are wanted.
    pub each: Option<Vec<CommitTimes>>,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    commit: u64,
    zero_copy: bool,
}

impl Ledger {
    /// Without commits; one that keeps the times of `each`, or not.
    pub fn new(each: bool) -> Self {
        Self { each: each.then(Vec::new), ..Self::default() }
    }

    /// Forgets how many were shown and all times, but nothing that is open and no violation: a warm-up is over.
    pub fn start_over(&mut self) {
        (self.presented, self.zero_copy, self.missed_vblanks) = (0, 0, 0);
        let times = [&mut self.to_present, &mut self.to_present_refreshes, &mut self.between_presents];
        for samples in times.into_iter().chain([&mut self.to_release, &mut self.to_ready]) {
            *samples = Samples::default();
        }
        self.each.iter_mut().for_each(Vec::clear);
    }

    /// A commit is sent. They are numbered in order.
    pub fn committed(&mut self, commit: u64, at: u64) {
        self.committed += 1;
        self.open.insert(commit, Commit { at, ..Commit::default() });
    }

    /// The client's fence for it signals, at `at` or later.
    pub fn ready(&mut self, commit: u64, at: u64) {
        if let Some(entry) = self.open.get_mut(&commit) {
            entry.ready.get_or_insert(at);
            self.to_ready.push(micros(entry.at, at));
        }
    }

    /// The compositor says it was shown at `at`.
    pub fn presented(&mut self, commit: u64, at: u64, zero_copy: bool) {
        let Some(entry) = self.open.get_mut(&commit) else { return };
        (entry.answered, entry.presented, entry.zero_copy) = (true, Some(at), zero_copy);
        self.presented += 1;
        self.zero_copy += u64::from(zero_copy);
        self.to_present.push(micros(entry.at, at));
        if let Some(last) = self.last_presented.replace(at) {
            self.between_presents.push(micros(last, at));
        }
        let released = entry.released;
        match (entry.ready, released) {
            (None, _) => self.violations.push(Violation::ShownUnready { commit }),
            (Some(ready), Some(released)) if released < ready => {
                self.violations.push(Violation::ShownAfterRelease { commit });
            }
            (Some(ready), _) if at.saturating_add(FLIP_DATE_SLACK_NS) < ready => {
                self.violations.push(Violation::ShownBeforeReady { commit, by_us: micros(at, ready) });
            }
            _ => {}
        }
        self.shown_next(commit, at, zero_copy);
        if let Some(released) = released {
            self.released_from_screen(commit, released);
        }
        self.strike_off(commit);
    }

    /// The display's refreshes were as long as this when a commit was shown at `at`; 0 where it has none.
    pub fn refreshes(&mut self, commit: u64, at: u64, refresh_ns: u64) {
        if let Some(entry) = self.open.get(&commit)
            && refresh_ns > 0
        {
            self.to_present_refreshes.push(at.saturating_sub(entry.at).div_ceil(refresh_ns));
        }
    }

    /// The number of the vblank at which a frame was shown; 0 where the output does not count them.
    pub fn vblank(&mut self, number: u64) {
        if number == 0 {
            return;
        }
        let last = self.last_vblank.replace(number).unwrap_or(number);
        self.missed_vblanks += number.saturating_sub(last.saturating_add(1));
    }

    fn shown_next(&mut self, commit: u64, at: u64, zero_copy: bool) {
        if let Some(last) = self.last_shown
            && last.commit > commit
        {
            self.violations.push(Violation::OutOfOrder { commit, after: last.commit });
            return;
        }
        // A buffer that went from its plane into a composed picture is free before the next commit is shown.
        if let Some((scanned_out, released)) = self.scanned_out.take()
            && zero_copy
            && released + SCANOUT_SLACK_NS < at
        {
            let by_us = micros(released, at);
            self.violations.push(Violation::ReleasedOnScreen { commit: scanned_out, by_us });
        }
        self.last_shown = Some(Shown { commit, zero_copy });
    }

    /// The compositor says it will never be shown.
    pub fn discarded(&mut self, commit: u64) {
        let Some(entry) = self.open.get_mut(&commit) else { return };
        entry.answered = true;
        self.discarded += 1;
        self.strike_off(commit);
    }

    /// Its buffer is back.
    pub fn released(&mut self, commit: u64, at: u64) {
        let Some(entry) = self.open.get_mut(&commit) else { return };
        entry.released = Some(at);
        self.released += 1;
        self.to_release.push(micros(entry.at, at));
        self.released_from_screen(commit, at);
        self.strike_off(commit);
    }

    /// Release and presentation come on different ways, in any order.
    fn released_from_screen(&mut self, commit: u64, at: u64) {
        if self.last_shown.is_some_and(|shown| shown.zero_copy && shown.commit == commit) {
            self.scanned_out = Some((commit, at));
        }
    }

    /// A release for a buffer that the compositor does not have.
    pub fn released_twice(&mut self, buffer: u64) {
        self.violations.push(Violation::ReleasedTwice { buffer });
    }

    /// The surface is gone: a scan-out ends without another commit's being shown.
    pub fn surface_gone(&mut self) {
        self.scanned_out = None;
        self.last_shown = None;
        self.last_vblank = None;
    }

    /// The time is up for `commits`.
    pub fn never_released(&mut self, commits: Vec<u64>) {
        self.violations.push(Violation::NeverReleased { commits });
    }

    /// Whether all commits are answered.
    pub fn is_answered(&self) -> bool {
        self.open.values().all(|entry| entry.answered)
    }

    /// Whether there is nothing more to hear of this commit.
    pub fn is_closed(&self, commit: u64) -> bool {
        !self.open.contains_key(&commit)
    }

    fn strike_off(&mut self, commit: u64) {
        let Some(entry) = self.open.get(&commit).filter(|entry| entry.answered) else { return };
        let Some(released) = entry.released else { return };
        if let Some(each) = &mut self.each {
            let Commit { at: committed, ready, presented, zero_copy, .. } = *entry;
            each.push(CommitTimes { commit, committed, ready, presented, zero_copy, released });
        }
        self.open.remove(&commit);
    }
}

fn micros(from: u64, to: u64) -> u64 {
    to.saturating_sub(from) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A ledger with commits 1 to `commits`, one each 16 ms, ready at once.
    fn ledger(commits: u64) -> Ledger {
        let mut ledger = Ledger::default();
        for commit in 1..=commits {
            ledger.committed(commit, commit * 16 * MS);
            ledger.ready(commit, commit * 16 * MS);
        }
        ledger
    }

    #[test]
    fn an_honest_run_has_no_violation_and_all_its_times() {
        let mut ledger = ledger(3);
        ledger.presented(1, 20 * MS, false);
        ledger.presented(2, 36 * MS, false);
        ledger.released(1, 37 * MS);
        ledger.discarded(3);
        ledger.released(3, 50 * MS);
        ledger.released(2, 60 * MS);
        assert_eq!(ledger.violations, []);
        assert_eq!((ledger.committed, ledger.presented, ledger.discarded, ledger.released), (3, 2, 1, 3));
        let summary = ledger.to_present.summary().expect("samples");
        assert_eq!((summary.min, summary.max), (4000, 4000));
        assert_eq!(ledger.to_release.summary().expect("samples").max, 28_000);
        assert_eq!(ledger.each, None);
        assert!(ledger.open.is_empty());
    }

    #[test]
    fn what_was_before_the_warm_up_ended_is_not_counted_but_held_against_the_compositor() {
        let mut ledger = ledger(3);
        ledger.presented(1, 14 * MS, false);
        ledger.vblank(7);
        ledger.start_over();
        ledger.presented(2, 34 * MS, false);
        ledger.vblank(8);
        ledger.presented(3, 50 * MS, false);
        ledger.vblank(10);
        assert_eq!((ledger.presented, ledger.missed_vblanks, ledger.committed), (2, 1, 3));
        assert_eq!(ledger.to_present.summary().expect("samples").max, 2000);
        assert_eq!(ledger.violations, [Violation::ShownBeforeReady { commit: 1, by_us: 2000 }]);
    }

    #[test]
    fn each_commit_is_told_with_its_times_once_all_of_them_are_known() {
        let mut ledger = Ledger { each: Some(Vec::new()), ..ledger(3) };
        ledger.presented(1, 20 * MS, true);
        ledger.start_over();
        ledger.discarded(3);
        ledger.presented(2, 36 * MS, false);
        ledger.released(2, 50 * MS);
        ledger.released(1, 37 * MS);
        let times = |commit: u64, presented, zero_copy, released| {
            let at = commit * 16 * MS;
            CommitTimes { commit, committed: at, ready: Some(at), presented, zero_copy, released }
        };
        let expected = [times(2, Some(36 * MS), false, 50 * MS), times(1, Some(20 * MS), true, 37 * MS)];
        assert_eq!(ledger.each.as_deref(), Some(&expected[..]));
    }

    #[test]
    fn vblanks_between_shown_frames_are_missed_where_they_are_counted() {
        let mut ledger = Ledger::default();
        for number in [7, 8, 11, 0, 0, 12, 14] {
            ledger.vblank(number);
        }
        assert_eq!(ledger.missed_vblanks, 3);
    }

    #[test]
    fn a_commit_that_the_next_refresh_shows_took_one() {
        let mut ledger = ledger(3);
        for (commit, at) in [(1, 17), (2, 48), (3, 65)] {
            ledger.refreshes(commit, at * MS, 16 * MS);
            ledger.refreshes(commit, at * MS, 0);
        }
        let summary = ledger.to_present_refreshes.summary().expect("samples");
        assert_eq!((summary.min, summary.p50, summary.max), (1, 1, 2));
    }

    #[test]
    fn a_frame_shown_before_its_fence_is_a_violation() {
        let mut ledger = Ledger::default();
        ledger.committed(1, 0);
        ledger.ready(1, 10 * MS);
        ledger.presented(1, 8 * MS, false);
        assert_eq!(ledger.violations, [Violation::ShownBeforeReady { commit: 1, by_us: 2000 }]);
        ledger.committed(2, 20 * MS);
        ledger.presented(2, 30 * MS, false);
        assert_eq!(ledger.violations[1], Violation::ShownUnready { commit: 2 });
    }

    #[test]
    fn a_frame_that_a_late_vblank_timer_took_along_is_none() {
        let mut ledger = Ledger::default();
        ledger.committed(1, 0);
        ledger.ready(1, 10 * MS);
        ledger.presented(1, 9 * MS, false);
        assert_eq!(ledger.violations, []);
    }

    #[test]
    fn a_buffer_may_come_back_unread_and_then_must_not_be_shown() {
        let mut ledger = Ledger::default();
        for commit in [1, 2] {
            ledger.committed(commit, 0);
            ledger.released(commit, 5 * MS);
            ledger.ready(commit, 10 * MS);
        }
        ledger.discarded(1);
        assert_eq!(ledger.violations, []);
        ledger.presented(2, 20 * MS, false);
        assert_eq!(ledger.violations, [Violation::ShownAfterRelease { commit: 2 }]);
    }

    #[test]
    fn a_scanned_out_buffer_stays_the_compositors_until_the_next_flip() {
        let mut early = ledger(2);
        early.presented(1, 20 * MS, true);
        early.released(1, 25 * MS);
        early.presented(2, 40 * MS, true);
        assert_eq!(early.violations, [Violation::ReleasedOnScreen { commit: 1, by_us: 15_000 }]);

        let mut told_late = ledger(2);
        told_late.released(1, 25 * MS);
        told_late.presented(1, 20 * MS, true);
        told_late.presented(2, 40 * MS, true);
        assert_eq!(told_late.violations, early.violations);

        let mut composed_meanwhile = ledger(2);
        composed_meanwhile.presented(1, 20 * MS, true);
        composed_meanwhile.released(1, 25 * MS);
        composed_meanwhile.presented(2, 40 * MS, false);
        assert_eq!(composed_meanwhile.violations, []);

        let mut composited = ledger(2);
        composited.presented(1, 20 * MS, false);
        composited.released(1, 25 * MS);
        composited.presented(2, 40 * MS, false);
        assert_eq!(composited.violations, []);

        let mut right = ledger(2);
        right.presented(1, 20 * MS, true);
        right.released(1, 40 * MS - 1000);
        right.presented(2, 40 * MS, true);
        assert_eq!(right.violations, []);
    }

    #[test]
    fn the_end_of_the_surface_ends_its_scan_out() {
        let mut ledger = ledger(1);
        ledger.presented(1, 20 * MS, true);
        ledger.surface_gone();
        ledger.released(1, 25 * MS);
        assert_eq!(ledger.violations, []);
    }

    #[test]
    fn frames_shown_out_of_order_are_a_violation() {
        let mut ledger = ledger(2);
        ledger.presented(2, 40 * MS, false);
        ledger.presented(1, 41 * MS, false);
        assert_eq!(ledger.violations, [Violation::OutOfOrder { commit: 1, after: 2 }]);
    }

    #[test]
    fn commits_are_open_until_answered() {
        let mut ledger = ledger(2);
        assert!(!ledger.is_answered());
        ledger.presented(1, 20 * MS, false);
        ledger.discarded(2);
        assert!(ledger.is_answered());
    }
}
