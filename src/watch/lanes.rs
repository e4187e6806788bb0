//! The recent life of a surface's commits, as a graph of a few lines.
//!
//! Owns what is drawn where. Pure: the story and the time go in, phases come out. Times are nanoseconds.

use crate::trace::story::{Commit, Story};

/// How many lines a graph has: commits take turns, so that those that overlap can be told apart.
pub const LANES: u64 = 3;

/// What a commit does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    #[default]
    Nothing,
    /// It is replaced, and its buffer has not been given back.
    Held,
    /// Nothing keeps it from the screen, and it is not there yet.
    Ready,
    /// It is on the screen.
    Shown,
    /// It waits: for fences, a barrier or a time.
    Waits,
}

/// The graph of a surface: `cells` for each lane, the newest last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph(pub Vec<Vec<Phase>>);

/// A stretch of time.
#[derive(Clone, Copy, Debug)]
struct Window {
    end: u64,
    length: u64,
    cells: usize,
}

impl Window {
    /// The first moment of a cell.
    fn start_of(self, cell: usize) -> u64 {
        let into = (u128::from(self.length) * cell as u128).checked_div(self.cells as u128).unwrap_or(0);
        self.end.saturating_sub(self.length).saturating_add(u64::try_from(into).unwrap_or(u64::MAX))
    }

    /// The cell that a moment is in, or the nearest.
    fn cell_at(self, at: u64) -> usize {
        let into = at.saturating_sub(self.end.saturating_sub(self.length)).min(self.length);
        let cell = (u128::from(into) * self.cells as u128).checked_div(u128::from(self.length)).unwrap_or(0);
        usize::try_from(cell).unwrap_or(self.cells).min(self.cells.saturating_sub(1))
    }

    /// The cells that `from` to `until` touch, with how long it is in each.
    fn cells(self, from: u64, until: u64) -> impl Iterator<Item = (usize, u64)> {
        let cells =
            if self.cells == 0 { 0..0 } else { self.cell_at(from)..self.cell_at(until).saturating_add(1) };
        let shares = cells.map(move |cell| {
            let (start, end) = (self.start_of(cell), self.start_of(cell.saturating_add(1)));
            (cell, until.min(end).saturating_sub(from.max(start)))
        });
        shares.filter(|(_, share)| *share > 0)
    }
}

/// The phases of a commit, as (from, until, phase); those that go on end `now`.
fn phases(commit: &Commit, replaced: Option<u64>, now: u64) -> Vec<(u64, u64, Phase)> {
    let over = commit.released.at().or(commit.settled.map(|(_, at)| at));
    let opened = commit.opened.or(over).unwrap_or(now);
    let mut phases = vec![(commit.at, opened, Phase::Waits)];
    match commit.presented {
        Some((_, shown)) => {
            let replaced = replaced.unwrap_or(now);
            phases.push((opened, shown, Phase::Ready));
            phases.push((shown, replaced, Phase::Shown));
            phases.push((replaced, over.unwrap_or(now), Phase::Held));
        }
        None => phases.push((opened, over.or(replaced).unwrap_or(now), Phase::Ready)),
    }
    phases
}

/// The last `length` nanoseconds of a surface. `shows` says that it has a content, which may be older than the story.
pub fn graph(story: &Story, surface: u32, shows: bool, now: u64, length: u64, cells: usize) -> Graph {
    let window = Window { end: now, length, cells };
    // A cell shows what fills most of it: a commit that opens at once, as most do, is not to look like one that waits.
    let mut lanes = vec![vec![(Phase::Nothing, 0); cells]; usize::try_from(LANES).unwrap_or(1)];
    let mut paint = |id: u64, from: u64, until: u64, phase: Phase| {
        let Some(lane) = usize::try_from(id % LANES).ok().and_then(|lane| lanes.get_mut(lane)) else {
            return;
        };
        for (cell, share) in window.cells(from, until) {
            if let Some(cell) = lane.get_mut(cell).filter(|(_, most)| share > *most) {
                *cell = (phase, share);
            }
        }
    };
    let ids = story.surfaces.get(&surface).map(|of| &of.commits).into_iter().flatten();
    let commits: Vec<_> = ids.filter_map(|(id, number)| Some((*id, story.commits.get(number)?))).collect();
    let destroyed = story.surfaces.get(&surface).and_then(|of| of.destroyed);
    let mut replaced = destroyed;
    for (id, commit) in commits.iter().rev() {
        for (from, until, phase) in phases(commit, replaced, now) {
            paint(*id, from, until, phase);
        }
        replaced = commit.presented.map(|(_, at)| at).or(replaced);
    }
    if shows && commits.iter().all(|(_, commit)| commit.presented.is_none()) {
        paint(0, 0, replaced.unwrap_or(now), Phase::Shown);
    }
    Graph(lanes.into_iter().map(|lane| lane.into_iter().map(|(phase, _)| phase).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{
        event::{Entry, Event, How, SyncKind},
        file::Header,
    };

    const MS: u64 = 1_000_000;

    struct Tale(Story);

    impl Tale {
        fn new() -> Self {
            Self(Story::new(Header::new("", false, "")))
        }

        fn at(&mut self, ms: u64, event: Event) {
            self.0.hear(Entry { t: ms * MS, event });
        }

        fn commit(&mut self, ms: u64, id: u64) {
            let (sync, acquire, release) = (SyncKind::Shm, None, None);
            let (commit, pid, surface, buffer, fences) = (100 + id, 1, 7, 1, 0);
            let event = Event::Commit { commit, pid, surface, id, buffer, sync, fences, acquire, release };
            self.at(ms, event);
        }

        fn flip(&mut self, ms: u64, id: u64) {
            self.at(ms, Event::Show { output: 1, commit: 100 + id });
            self.at(ms, Event::Flip { output: 1, frame: id, at: ms * MS, sequence: 0 });
        }

        /// The last 100 ms in cells of 10 ms.
        fn lines(&self, shows: bool) -> Vec<String> {
            let Graph(lanes) = graph(&self.0, 7, shows, 100 * MS, 100 * MS, 10);
            let letter = |phase: &Phase| match phase {
                Phase::Nothing => '.',
                Phase::Held => 'h',
                Phase::Ready => 'r',
                Phase::Shown => 'S',
                Phase::Waits => 'w',
            };
            lanes.iter().map(|lane| lane.iter().map(letter).collect()).collect()
        }
    }

    #[test]
    fn a_commit_waits_is_ready_is_shown_and_is_held_until_its_release() {
        let mut tale = Tale::new();
        tale.commit(10, 1);
        tale.at(30, Event::Open { surface: 7, id: 1 });
        tale.flip(50, 1);
        tale.commit(60, 2);
        tale.at(60, Event::Open { surface: 7, id: 2 });
        tale.flip(70, 2);
        tale.at(90, Event::Release { commit: 101, how: How::Now });
        assert_eq!(tale.lines(true), ["..........", ".wwrrSShh.", "......rSSS"]);
    }

    #[test]
    fn a_commit_whose_fence_does_not_come_waits_until_now() {
        let mut tale = Tale::new();
        tale.commit(40, 3);
        assert_eq!(tale.lines(false), ["....wwwwww", "..........", ".........."]);
    }

    #[test]
    fn a_commit_that_was_never_shown_ends_with_its_release() {
        let mut tale = Tale::new();
        tale.commit(20, 1);
        tale.at(20, Event::Discard { commit: 101 });
        tale.at(40, Event::Release { commit: 101, how: How::Now });
        assert_eq!(tale.lines(false)[1], "..ww......");
    }

    #[test]
    fn a_content_that_is_older_than_the_story_is_shown_all_along() {
        let mut tale = Tale::new();
        assert_eq!(tale.lines(true)[0], "SSSSSSSSSS");
        assert_eq!(tale.lines(false)[0], "..........");
        tale.commit(40, 1);
        tale.at(40, Event::Open { surface: 7, id: 1 });
        tale.flip(60, 1);
        assert_eq!(tale.lines(true), ["..........", "....rrSSSS", ".........."]);
    }

    #[test]
    fn a_commit_that_opens_at_once_does_not_look_as_if_it_had_waited() {
        let mut tale = Tale::new();
        tale.commit(41, 1);
        tale.at(42, Event::Open { surface: 7, id: 1 });
        tale.flip(58, 1);
        assert_eq!(tale.lines(false)[1], "....rrSSSS");
    }

    #[test]
    fn what_is_shorter_than_a_cell_is_seen_all_the_same() {
        let mut tale = Tale::new();
        tale.commit(41, 1);
        tale.at(43, Event::Release { commit: 101, how: How::Now });
        assert_eq!(tale.lines(false)[1], "....w.....");
    }
}
