//! The auditor: holds the times of a trace against the invariants of ARCHITECTURE.md.
//!
//! Pure: a trace comes in, violations go out. It accuses only on evidence: what a trace does not tell is counted as not
//! checked, and is no violation. What it can see of each invariant is in tests/TRACE.md.

use std::fmt;

use super::{
    event::{CommitNumber, Entry, Event, How, Reader},
    file::Trace,
    story::{Commit, Frame, Story, When},
};
use crate::fence::FLIP_DATE_SLACK_NS;

/// How much earlier than the flip that ends a scan-out a release may be: some drivers take the time of the fence and that of
/// the flip one after the other.
const SCANOUT_SLACK_NS: u64 = 100_000;

/// How long a release may be owed after its content was replaced, where the trace does not go on to the end of the run. No
/// display and no GPU takes that long.
const OWED_NS: u64 = 5_000_000_000;

/// How long the compositor may do nothing before that counts as standing still: more than any refresh, and than most
/// hiccups of a machine.
const STANDSTILL_NS: u64 = 50_000_000;

/// Who has waited for a fence goes on as soon as it has signalled, or not much later.
const AWAKE_NS: u64 = 20_000_000;

/// Who has waited for a fence and given up has waited longer than any hiccup takes.
const GIVEN_UP_NS: u64 = 250_000_000;

/// The invariant that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Nothing is read before its acquire fence.
    I1,
    /// No release before the last use.
    I2,
    /// Every release comes.
    I3,
    /// Commits in order.
    I4,
    /// A late fence delays its own surface only.
    I5,
}

/// A violation of an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Of which.
    pub rule: Rule,
    /// The commit that it concerns.
    pub commit: CommitNumber,
    /// By how much, in nanoseconds.
    pub by: u64,
    /// Its end is not in the trace: it was by that much or more.
    pub at_least: bool,
    /// What was seen.
    pub what: String,
}

/// What came of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By rule, then by commit.
    pub violations: Vec<Violation>,
    /// How many commits there are.
    pub commits: usize,
    /// How many frames were committed.
    pub frames: usize,
    /// Commits whose acquire fences' times are not in the trace.
    pub unknown_acquires: usize,
    /// Passes whose end is not in the trace.
    pub unknown_passes: usize,
    /// Releases by fence whose time is not in the trace.
    pub unknown_releases: usize,
    /// Whether it was seen that every release came: the run ended in order, and nothing is missing.
    pub to_the_end: bool,
}

/// Audits a trace.
pub fn audit(trace: &Trace) -> Report {
    let story = Story::of(trace);
    let mut violations = Vec::new();
    for (number, commit) in &story.commits {
        violations.extend(read_early(&story, *number, commit));
        violations.extend(released_early(&story, *number, commit));
        violations.extend(never_released(&story, *number, commit));
        violations.extend(held_a_frame(&story, *number, commit));
    }
    violations.extend(out_of_order(&story));
    violations.extend(held_everybody(&story, &trace.entries));
    violations.sort_by_key(|violation| (violation.rule, violation.commit));
    let mut report = Report { violations, commits: story.commits.len(), ..Report::default() };
    report.to_the_end = story.ended && story.complete;
    for commit in story.commits.values() {
        let by_fence = matches!(commit.settled, Some((How::ByFence, _)));
        report.unknown_acquires += usize::from(commit.fences > 0 && commit.acquired == When::Unknown);
        report.unknown_releases += usize::from(by_fence && commit.released == When::Unknown);
    }
    for frame in story.frames.values() {
        report.frames += usize::from(frame.committed.is_some());
        report.unknown_passes += usize::from(frame.rendered.is_some() && frame.drawn == When::Unknown);
    }
    report
}

/// By how much `when` is after `limit`, and whether it is not known by how much more.
fn after(when: When, limit: u64, last: u64) -> Option<(u64, bool)> {
    match when {
        When::At(at) if at > limit => Some((at - limit, false)),
        When::Never if last > limit => Some((last - limit, true)),
        When::At(_) | When::Never | When::Unknown => None,
    }
}

/// I1: something has read the buffer before its fences signalled. Who waits for a fence by itself has to be done after it.
fn read_early(story: &Story, number: CommitNumber, commit: &Commit) -> Option<Violation> {
    let early = |limit, what: String| {
        after(commit.acquired, limit, story.last).map(|(by, at_least)| (by, at_least, what))
    };
    let copied = commit.copied.and_then(|at| early(at, "was copied before its fence signalled".to_owned()));
    let read = commit.reads.iter().filter_map(|(of, by)| {
        let frame = story.frames.get(of)?;
        let (limit, what) = match (commit.handed_over, by) {
            (false, Reader::Gpu) => (frame.at, "was drawn"),
            (false, Reader::Plane) => (frame.committed?, "was given to a plane"),
            (false, Reader::Parent) => (frame.committed?, "was given to the parent compositor"),
            (true, Reader::Gpu) => (frame.drawn.at()?, "was drawn by a GPU that was to wait,"),
            (true, Reader::Plane) => (frame.on_screen()?, "was shown by a plane that was to wait,"),
            (true, Reader::Parent) => (frame.on_screen()?, "was shown by a parent that was to wait,"),
        };
        let slack = if (commit.handed_over, *by) == (true, Reader::Plane) { FLIP_DATE_SLACK_NS } else { 0 };
        early(limit, format!("{what} before its fence signalled, for frame {of}{}", on(story, frame)))
            .filter(|(by, ..)| *by > slack)
    });
    let (by, at_least, what) = copied.into_iter().chain(read).max_by_key(|(by, ..)| *by)?;
    Some(Violation { rule: Rule::I1, commit: number, by, at_least, what })
}

/// I2: somebody was not done with the buffer when it was released.
fn released_early(story: &Story, number: CommitNumber, commit: &Commit) -> Option<Violation> {
    let released = commit.released.at()?;
    let read = commit.reads.iter().filter(|(_, by)| *by == Reader::Gpu && commit.copied.is_none());
    let drawn = read.filter_map(|(of, _)| {
        let frame = story.frames.get(of)?;
        // A pass whose end is not known has not ended before it was begun.
        let end = if frame.drawn == When::Unknown { When::At(frame.at) } else { frame.drawn };
        let (by, at_least) = after(end, released, story.last)?;
        Some((by, at_least, format!("was released before frame {of}{} was drawn", on(story, frame))))
    });
    let copied = commit.copied.filter(|at| *at > released);
    let copied = copied.map(|at| (at - released, false, "was released before it was copied".to_owned()));
    let planes = scanouts(story, number, commit).into_iter().filter_map(|(frame, end)| {
        let by = end.checked_sub(released).filter(|by| *by > SCANOUT_SLACK_NS)?;
        Some((by, false, format!("was released while it was scanned out{}", on(story, frame))))
    });
    let (by, at_least, what) = drawn.chain(copied).chain(planes).max_by_key(|(by, ..)| *by)?;
    Some(Violation { rule: Rule::I2, commit: number, by, at_least, what })
}

/// The last frames that planes show a commit with, and when other frames replaced them on the screen. What ends otherwise,
/// or with the trace, is left out; as is what a parent shows, which may be a copy.
fn scanouts<'a>(story: &'a Story, number: CommitNumber, commit: &Commit) -> Vec<(&'a Frame, u64)> {
    let on_plane = |frame: &Frame| frame.reads.contains(&(number, Reader::Plane));
    let mut ends = Vec::new();
    let planes = commit.reads.iter().filter(|(_, by)| *by == Reader::Plane);
    for (of, frame) in planes.filter_map(|(of, _)| Some((*of, story.frames.get(of)?))) {
        let Some(output) = story.outputs.get(&frame.output) else { continue };
        let Ok(place) = output.frames.binary_search(&of) else { continue };
        let next = output.frames.get(place + 1).and_then(|next| story.frames.get(next));
        let Some((next, begun)) = next.and_then(|next| Some((next, frame.committed?))) else { continue };
        let went_dark = output.dark.iter().any(|at| *at >= begun && *at <= next.at);
        if let Some(flipped) = next.on_screen()
            && !on_plane(next)
            && !went_dark
        {
            ends.push((frame, flipped));
        }
    }
    ends
}

/// I3: the release did not come.
fn never_released(story: &Story, number: CommitNumber, commit: &Commit) -> Option<Violation> {
    if !story.complete || commit.lost {
        return None;
    }
    let waits = matches!(commit.settled, Some((How::Later, _))) && commit.released == When::Unknown;
    if commit.settled.is_some() && !waits {
        return None;
    }
    let surface = story.surfaces.get(&commit.surface)?;
    let newer = surface.applied.iter().find(|(_, id)| *id > commit.id).map(|(at, _)| *at);
    let replaced = newer.into_iter().chain(surface.destroyed).min();
    let owed_since = replaced.unwrap_or(commit.at);
    let by = story.last.saturating_sub(owed_since);
    let is_owed = replaced.is_some() && by > OWED_NS && !is_held(story, commit, owed_since);
    let what = match (story.ended, waits) {
        (true, _) => "was not released by the end".to_owned(),
        (false, false) if is_owed => "was replaced and is not released".to_owned(),
        (false, true) if is_owed => "has a release that waits and does not come".to_owned(),
        (false, _) => return None,
    };
    Some(Violation { rule: Rule::I3, commit: number, by, at_least: true, what })
}

/// Whether an output that has read the buffer has not shown two frames since, and may still use it.
fn is_held(story: &Story, commit: &Commit, since: u64) -> bool {
    let frames = commit.reads.iter().filter_map(|(of, _)| story.frames.get(of));
    let outputs = frames.filter_map(|frame| story.outputs.get(&frame.output));
    outputs.into_iter().any(|output| {
        let newer = output.frames.iter().rev().filter_map(|of| story.frames.get(of));
        newer.take_while(|frame| frame.at > since).filter(|frame| frame.flipped.is_some()).count() < 2
    })
}

/// I4: commits were applied or shown in another order, before they were open, or past one whose fence pended.
fn out_of_order(story: &Story) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut add = |surface: u32, id: u64, (by, at_least): (u64, bool), what: String| {
        let number = story.commit(surface, id);
        violations.extend(number.map(|commit| Violation { rule: Rule::I4, commit, by, at_least, what }));
    };
    for (number, surface) in &story.surfaces {
        for pair in surface.applied.windows(2) {
            if let [(before, newer), (at, older)] = pair
                && older < newer
            {
                add(*number, *older, (at - before, false), "was applied after a newer one".to_owned());
            }
        }
        for (at, id) in &surface.applied {
            let opened = story.commit(*number, *id).and_then(|commit| story.commits.get(&commit));
            if let Some(commit) = opened
                && commit.opened.is_none_or(|opened| opened > *at)
            {
                let by = commit.opened.unwrap_or(story.last).saturating_sub(*at);
                add(*number, *id, (by, commit.opened.is_none()), "was applied before it was open".to_owned());
            }
        }
        let mut up_to = 0;
        for (at, id) in &surface.opened {
            let overtaken = surface.commits.range(up_to..*id).filter(|(of, _)| **of > up_to);
            for (of, number_of) in overtaken {
                let Some(commit) = story.commits.get(number_of) else { continue };
                let excused = commit.discarded || commit.handed_over;
                if let Some(by) = after(commit.acquired, *at, story.last).filter(|_| !excused) {
                    add(*number, *of, by, "was overtaken while its fence was pending".to_owned());
                }
            }
            up_to = up_to.max(*id);
        }
    }
    violations.extend(shown_out_of_order(story));
    violations
}

fn shown_out_of_order(story: &Story) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut newest = std::collections::BTreeMap::<(u32, u32), (u64, u64)>::new();
    for (of, frame) in &story.frames {
        for (number, _) in &frame.reads {
            let Some(commit) = story.commits.get(number) else { continue };
            let last = newest.entry((frame.output, commit.surface)).or_insert((commit.id, frame.at));
            if commit.id < last.0 {
                let what = format!("is in frame {of}{}, after a newer one", on(story, frame));
                let by = frame.at.saturating_sub(last.1);
                violations.push(Violation { rule: Rule::I4, commit: *number, by, at_least: false, what });
            } else {
                *last = (commit.id, frame.at);
            }
        }
    }
    violations
}

/// I5: a frame waited for the fence that this commit had handed over, and what others showed with it came late. Whoever runs
/// with `--acquire hand-over` has chosen that.
fn held_a_frame(story: &Story, number: CommitNumber, commit: &Commit) -> Option<Violation> {
    if !commit.handed_over || story.header.acquire == "hand-over" {
        return None;
    }
    let first = commit.reads.iter().filter_map(|(of, _)| Some((*of, story.frames.get(of)?)));
    let (of, frame) = first.into_iter().find(|(_, frame)| frame.committed.is_some())?;
    let refresh = story.outputs.get(&frame.output).map_or(0, |output| output.refresh);
    let due = frame.committed?.saturating_add(refresh);
    let flipped = frame.on_screen()?;
    let (by, _) = after(commit.acquired, due, story.last).filter(|_| flipped > due)?;
    let other = frame.reads.iter().find(|(other, _)| {
        let other = story.commits.get(other);
        other.is_some_and(|other| {
            other.surface != commit.surface && other.presented.is_some_and(|(first, _)| first == of)
        })
    });
    let (other, _) = other?;
    let what = format!("held frame {of}{} up, and commit {other} with it", on(story, frame));
    Some(Violation { rule: Rule::I5, commit: number, by, at_least: false, what })
}

/// I5: nothing was done after a commit came in while its fence was pending, although an output had flipped and was to go on.
fn held_everybody(story: &Story, entries: &[Entry]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, pair) in entries.windows(2).enumerate() {
        let [Entry { t: from, event: Event::Commit { commit, surface, .. } }, Entry { t: until, .. }] = pair
        else {
            continue;
        };
        let Some(of) = story.commits.get(commit) else { continue };
        let stood = until.saturating_sub(*from);
        // A machine's hiccup ends whether or not the fence has signalled.
        let pended = match of.acquired {
            When::At(at) if at <= *until => until - at <= AWAKE_NS,
            When::At(_) | When::Never => stood >= GIVEN_UP_NS,
            When::Unknown => false,
        };
        if stood < STANDSTILL_NS || !pended {
            continue;
        }
        let harmed = |entry: &&Entry| match entry.event {
            // It would have been noticed at once.
            Event::Flip { at, .. } => at < *until && entry.t.saturating_sub(at) >= STANDSTILL_NS / 2,
            // Others' commits have piled up.
            Event::Commit { surface: other, .. } => {
                other != *surface && entry.t < until.saturating_add(2_000_000)
            }
            _ => false,
        };
        let next =
            entries.iter().skip(index + 1).take_while(|entry| entry.t < until.saturating_add(20_000_000));
        if next.into_iter().any(|entry| harmed(&entry)) {
            let what = "held everybody up: nothing was done for a while after it, and its fence was pending";
            let what = what.to_owned();
            violations.push(Violation { rule: Rule::I5, commit: *commit, by: stood, at_least: false, what });
        }
    }
    violations
}

fn on(story: &Story, frame: &Frame) -> String {
    story.outputs.get(&frame.output).map_or_else(String::new, |output| format!(" of {}", output.name))
}

/// A commit as people are told of it.
pub fn name(story: &Story, number: CommitNumber) -> String {
    let Some(commit) = story.commits.get(&number) else { return format!("commit {number}") };
    let client = story.clients.get(&commit.pid).map_or("a client", String::as_str);
    format!("commit {number} ({client} {}, surface {}, id {})", commit.pid, commit.surface, commit.id)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
