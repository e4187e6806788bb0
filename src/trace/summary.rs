//! The summary: how long each step took, per surface and per output.
//!
//! Pure: a story comes in, a table goes out. Times are microseconds. The times of a surface are those of its commits that
//! reached a screen; its releases those of all.

use std::{collections::BTreeMap, io};

use serde::Serialize;

use super::{
    event::SyncKind,
    story::{Commit, Story, When},
};

/// The shape of some times, in microseconds: nearest ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// How many there are.
    pub count: usize,
    /// Half of them are not longer.
    pub p50: u64,
    /// 99 of 100 are not longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Times {
    fn of(times_ns: impl IntoIterator<Item = u64>) -> Self {
        let mut sorted: Vec<_> = times_ns.into_iter().map(|time| time / 1000).collect();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied().unwrap_or_default()
        };
        Self { count: sorted.len(), p50: rank(50), p99: rank(99), max: rank(100) }
    }
}

/// A surface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SurfaceSummary {
    /// Its number in the trace.
    pub surface: u32,
    /// Its client's process.
    pub pid: i32,
    /// The client's name.
    pub client: String,
    /// Commits with a buffer, by kind of synchronisation.
    pub commits: BTreeMap<SyncKind, usize>,
    /// Commits that reached a screen.
    pub presented: usize,
    /// Commits whose fences were handed over.
    pub handed_over: usize,
    /// How often its fences were dealt with differently from then on.
    pub policy_changes: usize,
    /// From the commit until nothing kept it from being applied.
    pub acquire_wait_us: Times,
    /// From then until the frame with it was begun.
    pub latch_us: Times,
    /// From the start of that frame until the GPU had drawn it.
    pub render_us: Times,
    /// From the frame's commit to KMS to its flip.
    pub flip_us: Times,
    /// From the commit to the flip.
    pub commit_to_flip_us: Times,
    /// From one flip that showed something new of it to the next.
    pub between_flips_us: Times,
    /// From the commit to the release.
    pub commit_to_release_us: Times,
}

/// An output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutputSummary {
    /// Its name.
    pub output: String,
    /// Its refresh.
    pub refresh_us: u64,
    /// Frames that were committed.
    pub frames: usize,
    /// Refreshes missed by frames that were begun at the last moment.
    pub missed_deadlines: usize,
    /// From the start of a frame to its commit to KMS.
    pub latch_us: Times,
    /// From the start of a frame until the GPU had drawn it.
    pub render_us: Times,
    /// From the commit to KMS to the flip.
    pub flip_us: Times,
    /// From one flip to the next.
    pub interval_us: Times,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// By number.
    pub surfaces: Vec<SurfaceSummary>,
    /// By number.
    pub outputs: Vec<OutputSummary>,
}

/// Sums a story up.
pub fn summarise(story: &Story) -> Summary {
    let mut by_surface = BTreeMap::<u32, Vec<&Commit>>::new();
    for commit in story.commits.values() {
        by_surface.entry(commit.surface).or_default().push(commit);
    }
    let surfaces = by_surface.iter().map(|(surface, commits)| of_surface(story, *surface, commits));
    let outputs = story.outputs.keys().map(|output| of_output(story, *output));
    Summary { surfaces: surfaces.collect(), outputs: outputs.collect() }
}

fn between(from: Option<u64>, to: Option<u64>) -> Option<u64> {
    Some(to?.saturating_sub(from?))
}

fn intervals(times: &[u64]) -> Times {
    Times::of(times.iter().zip(times.iter().skip(1)).map(|(one, next)| next.saturating_sub(*one)))
}

fn of_surface(story: &Story, number: u32, commits: &[&Commit]) -> SurfaceSummary {
    let times =
        |time: &dyn Fn(&Commit) -> Option<u64>| Times::of(commits.iter().filter_map(|commit| time(commit)));
    let frame = |commit: &Commit| commit.presented.and_then(|(frame, _)| story.frames.get(&frame));
    let begun = |commit: &Commit| {
        let first = commit.reads.iter().filter_map(|(of, _)| story.frames.get(of));
        first.map(|frame| frame.at).min().or(frame(commit).map(|frame| frame.at))
    };
    let pid = commits.first().map_or(0, |commit| commit.pid);
    let mut kinds = BTreeMap::new();
    for commit in commits {
        *kinds.entry(commit.sync).or_default() += 1;
    }
    let flips: Vec<_> = commits.iter().filter_map(|commit| Some(commit.presented?.1)).collect();
    SurfaceSummary {
        surface: number,
        pid,
        client: story.clients.get(&pid).cloned().unwrap_or_default(),
        commits: kinds,
        presented: commits.iter().filter(|commit| commit.presented.is_some()).count(),
        handed_over: commits.iter().filter(|commit| commit.handed_over).count(),
        policy_changes: story.surfaces.get(&number).map_or(0, |surface| surface.policies.len()),
        acquire_wait_us: times(&|commit| between(Some(commit.at), commit.opened)),
        latch_us: times(&|commit| {
            between(commit.opened, begun(commit).filter(|_| commit.presented.is_some()))
        }),
        render_us: times(&|commit| {
            let frame = frame(commit)?;
            between(Some(frame.at), frame.rendered.and(frame.drawn.at()))
        }),
        flip_us: times(&|commit| between(frame(commit)?.committed, commit.presented.map(|(_, at)| at))),
        commit_to_flip_us: times(&|commit| between(Some(commit.at), commit.presented.map(|(_, at)| at))),
        between_flips_us: intervals(&flips),
        commit_to_release_us: times(&|commit| match commit.released {
            When::At(at) => Some(at.saturating_sub(commit.at)),
            When::Unknown | When::Never => None,
        }),
    }
}

fn of_output(story: &Story, number: u32) -> OutputSummary {
    let output = story.outputs.get(&number).cloned().unwrap_or_default();
    let frames: Vec<_> = output.frames.iter().filter_map(|frame| story.frames.get(frame)).collect();
    let flips: Vec<_> = frames.iter().filter_map(|frame| Some(frame.flipped?.0)).collect();
    OutputSummary {
        output: output.name,
        refresh_us: output.refresh / 1000,
        frames: frames.len(),
        missed_deadlines: output.missed.len(),
        latch_us: Times::of(frames.iter().filter_map(|frame| between(Some(frame.at), frame.committed))),
        render_us: Times::of(
            frames.iter().filter_map(|frame| between(Some(frame.at), frame.rendered.and(frame.drawn.at()))),
        ),
        flip_us: Times::of(
            frames.iter().filter_map(|frame| between(frame.committed, frame.flipped.map(|(at, _)| at))),
        ),
        interval_us: intervals(&flips),
    }
}

impl Summary {
    /// For people.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn print(&self, to: &mut impl io::Write) -> io::Result<()> {
        let head = |to: &mut _, what: &str| row(to, what, ["count", "p50", "p99", "max"].map(str::to_owned));
        for surface in &self.surfaces {
            let SurfaceSummary { surface: number, pid, client, presented, handed_over, .. } = surface;
            let commits: usize = surface.commits.values().sum();
            let kinds: Vec<_> =
                surface.commits.iter().map(|(kind, count)| format!("{count} {}", kind_name(*kind))).collect();
            writeln!(to, "surface {number} of {client} ({pid}): {commits} commits ({})", kinds.join(", "))?;
            writeln!(
                to,
                "  {presented} shown, fences of {handed_over} handed over, {} policy changes",
                surface.policy_changes
            )?;
            head(to, "µs")?;
            for (what, times) in [
                ("acquire wait", surface.acquire_wait_us),
                ("latch", surface.latch_us),
                ("render", surface.render_us),
                ("flip", surface.flip_us),
                ("commit to flip", surface.commit_to_flip_us),
                ("between flips", surface.between_flips_us),
                ("commit to release", surface.commit_to_release_us),
            ] {
                row(to, what, columns(times))?;
            }
        }
        for output in &self.outputs {
            let OutputSummary { output: name, refresh_us, frames, missed_deadlines, .. } = output;
            writeln!(
                to,
                "output {name}: {frames} frames, {missed_deadlines} missed deadlines, refresh {refresh_us} µs"
            )?;
            head(to, "µs")?;
            for (what, times) in [
                ("latch", output.latch_us),
                ("render", output.render_us),
                ("flip", output.flip_us),
                ("between flips", output.interval_us),
            ] {
                row(to, what, columns(times))?;
            }
        }
        Ok(())
    }
}

fn kind_name(kind: SyncKind) -> &'static str {
    match kind {
        SyncKind::Explicit => "explicit",
        SyncKind::Implicit => "implicit",
        SyncKind::Shm => "shm",
    }
}

fn columns(Times { count, p50, p99, max }: Times) -> [String; 4] {
    match count {
        0 => ["0", "-", "-", "-"].map(str::to_owned),
        _ => [count as u64, p50, p99, max].map(|number| number.to_string()),
    }
}

fn row(to: &mut impl io::Write, what: &str, columns: [String; 4]) -> io::Result<()> {
    let [count, p50, p99, max] = columns;
    writeln!(to, "  {what:<18}{count:>8}{p50:>10}{p99:>10}{max:>10}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = Times::of((1..=200).rev().map(|ms| ms * 1000));
        assert_eq!(times, Times { count: 200, p50: 100, p99: 198, max: 200 });
        assert_eq!(Times::of([]), Times::default());
    }
}
