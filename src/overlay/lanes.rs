//! What the overlay shows: for each surface, what became of its commits in the last two seconds.
//!
//! Owns the choice of surfaces and the stages. Pure: a story goes in, and must not know how lanes are drawn.

use crate::trace::story::{Commit, Output, Story, When};

/// How far back it goes, in nanoseconds.
pub(super) const SPAN: u64 = 2_000_000_000;

/// What a commit is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// From the commit until its acquire fences have signalled.
    Fence,
    /// From there to the latch of the first frame that shows it.
    Queue,
    /// From the latch to the flip.
    Frame,
    /// From the flip until its buffer is released.
    Held,
}

impl Stage {
    /// In the order in which a commit goes through them.
    pub(super) const ALL: [Self; 4] = [Self::Fence, Self::Queue, Self::Frame, Self::Held];
}

/// How long a commit was at a stage, in nanoseconds on CLOCK_MONOTONIC. What is not over ends with the last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) stage: Stage,
    pub(super) from: u64,
    pub(super) to: u64,
    /// The output missed a refresh meanwhile.
    pub(super) missed: bool,
}

/// One surface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lane {
    /// Its client's name.
    pub(super) name: String,
    /// When it was committed.
    pub(super) commits: Vec<u64>,
    pub(super) bars: Vec<Bar>,
}

/// The surfaces that have committed last, the busiest first, but for those of process `own`.
pub(super) fn lanes(story: &Story, own: i32, most: usize) -> Vec<Lane> {
    let since = story.last.saturating_sub(SPAN);
    let mut lanes: Vec<_> = story
        .surfaces
        .values()
        .filter(|surface| surface.pid != own)
        .filter_map(|surface| {
            let commits = surface.commits.values().filter_map(|number| story.commits.get(number));
            let mut lane = Lane { name: name(story, surface.pid), ..Lane::default() };
            for commit in commits {
                lane.commits.extend((commit.at >= since).then_some(commit.at));
                lane.bars.extend(bars(story, commit).filter(|bar| bar.to >= since));
            }
            (!lane.bars.is_empty()).then_some(lane)
        })
        .collect();
    lanes.sort_by_key(|lane| std::cmp::Reverse(lane.commits.len()));
    lanes.truncate(most);
    lanes
}

fn name(story: &Story, pid: i32) -> String {
    story.clients.get(&pid).cloned().unwrap_or_else(|| pid.to_string())
}

fn bars(story: &Story, commit: &Commit) -> impl Iterator<Item = Bar> {
    let frame = commit.presented.and_then(|(number, flip)| Some((story.frames.get(&number)?, flip)));
    let begun = frame.map(|(frame, _)| frame.at);
    let flipped = frame.map(|(_, flip)| flip);
    let released = match (commit.released, commit.settled) {
        (When::At(at), _) | (When::Unknown, Some((_, at))) => Some(at),
        (When::Never | When::Unknown, _) => None,
    };
    // When they have signalled is known only to a trace that watches fences; when we had heard of it, always.
    let acquired = if commit.fences == 0 { Some(commit.at) } else { commit.acquired.at().or(commit.opened) };
    // A commit that was never shown ends where its buffer was released.
    let given_up = if flipped.is_none() { released } else { None };
    let ends = [acquired, begun, flipped, released];
    let output = frame.and_then(|(frame, _)| story.outputs.get(&frame.output));
    let mut from = Some(commit.at);
    let bars = Stage::ALL.into_iter().zip(ends).filter_map(move |(stage, end)| {
        let begin = from?;
        from = end.map(|end| end.max(begin));
        let to = from.or(given_up).unwrap_or(story.last).max(begin);
        if end.is_none() {
            from = None;
        }
        let missed = stage == Stage::Frame && output.is_some_and(|output| missed(output, begin, to));
        (to > begin).then_some(Bar { stage, from: begin, to, missed })
    });
    bars.collect::<Vec<_>>().into_iter()
}

/// Whether a refresh was missed then. It is noted with the flip that comes too late.
fn missed(output: &Output, from: u64, to: u64) -> bool {
    output.missed.iter().any(|at| *at > from && *at <= to.saturating_add(output.refresh))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{
        event::{Entry, Event, How, Reader, SyncKind, Text},
        file::Header,
    };

    const MS: u64 = 1_000_000;

    /// A story of these events, each some milliseconds after the run began.
    fn story(events: &[(u64, Event)]) -> Story {
        let mut story = Story::new(Header::new("auto", false, "test"));
        story.hear(Entry { t: 0, event: Event::Client { pid: 7, name: Text::new("cube") } });
        let output = Event::Output { output: 1, name: Text::new("HDMI-A-1"), refresh: 16 * MS };
        story.hear(Entry { t: 0, event: output });
        for (ms, event) in events {
            story.hear(Entry { t: ms * MS, event: *event });
        }
        story
    }

    fn commit(commit: u64, surface: u32, fences: u8) -> Event {
        let pid = i32::try_from(surface).expect("a small number") + 6;
        let (id, buffer, sync) = (commit, 3, SyncKind::Explicit);
        Event::Commit { commit, pid, surface, id, buffer, sync, fences, acquire: None, release: None }
    }

    fn frame_of(number: u64) -> [Event; 4] {
        [
            Event::Latch { output: 1, frame: number },
            Event::Read { frame: number, commit: number, by: Reader::Gpu },
            Event::Show { output: 1, commit: number },
            Event::Kms { output: 1, frame: number, in_fences: 1, out_fence: true },
        ]
    }

    fn told(lane: &Lane) -> Vec<(Stage, u64, u64)> {
        lane.bars.iter().map(|bar| (bar.stage, bar.from / MS, bar.to / MS)).collect()
    }

    #[test]
    fn a_commit_goes_from_stage_to_stage() {
        let [latch, read, show, kms] = frame_of(1);
        let events = [
            (10, commit(1, 1, 1)),
            (14, Event::Open { surface: 1, id: 1 }),
            (14, Event::Apply { surface: 1, id: 1 }),
            (20, latch),
            (20, read),
            (20, show),
            (21, kms),
            (32, Event::Flip { output: 1, frame: 1, at: 31 * MS, sequence: 2 }),
            (50, Event::Release { commit: 1, how: How::Now }),
        ];
        let lanes = lanes(&story(&events), 99, 4);
        assert_eq!((lanes.len(), &*lanes[0].name), (1, "cube"));
        let stages =
            [(Stage::Fence, 10, 14), (Stage::Queue, 14, 20), (Stage::Frame, 20, 31), (Stage::Held, 31, 50)];
        assert_eq!(told(&lanes[0]), stages);
        assert!(lanes[0].bars.iter().all(|bar| !bar.missed));
    }

    #[test]
    fn what_is_not_over_ends_with_the_last_event_and_what_was_not_shown_with_its_release() {
        let events = [
            (10, commit(1, 1, 1)),
            (12, commit(2, 1, 0)),
            (30, Event::Release { commit: 2, how: How::Now }),
            (40, commit(3, 2, 0)),
        ];
        let lanes = lanes(&story(&events), 99, 4);
        let of_first = lanes.iter().find(|lane| lane.commits.len() == 2).expect("the first surface");
        assert_eq!(told(of_first), [(Stage::Fence, 10, 40), (Stage::Queue, 12, 30)]);
    }

    #[test]
    fn a_frame_is_red_if_its_output_missed_a_refresh_and_no_other_stage_is() {
        let [latch, read, show, kms] = frame_of(1);
        let flip = Event::Flip { output: 1, frame: 1, at: 50 * MS, sequence: 3 };
        let events = [
            (10, commit(1, 1, 0)),
            (20, latch),
            (20, read),
            (20, show),
            (21, kms),
            (51, flip),
            (51, Event::Missed { output: 1 }),
            (90, commit(2, 1, 0)),
        ];
        let lanes = lanes(&story(&events), 99, 4);
        let red: Vec<_> = lanes[0].bars.iter().filter(|bar| bar.missed).map(|bar| bar.stage).collect();
        assert_eq!(red, [Stage::Frame]);
    }

    #[test]
    fn the_overlay_s_own_surface_and_what_is_long_ago_are_left_out_and_the_busiest_come_first() {
        let events = [
            (10, commit(1, 1, 0)),
            (10, Event::Release { commit: 1, how: How::Now }),
            (2990, commit(2, 2, 0)),
            (2991, commit(3, 3, 0)),
            (2992, commit(4, 3, 0)),
            (2993, commit(5, 4, 0)),
        ];
        let story = story(&events);
        let names: Vec<_> = lanes(&story, 10, 4).into_iter().map(|lane| lane.name).collect();
        assert_eq!(names, ["9", "8"]);
        assert_eq!(lanes(&story, 10, 1).len(), 1);
    }
}
