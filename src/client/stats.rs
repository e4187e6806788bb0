//! Numbers: percentiles of times, and the report that `fencepost client` ends with.
//!
//! Pure. Times are microseconds.

use std::fmt;

use serde::Serialize;

/// Times, to be summed up at the end.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<u64>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, time_us: u64) {
        self.0.push(time_us);
    }

    /// Sums up; `None` without samples.
    pub fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        Some(Summary {
            min: *sorted.first()?,
            p50: percentile(&sorted, 50)?,
            p99: percentile(&sorted, 99)?,
            max: *sorted.last()?,
        })
    }
}

/// The nearest rank: the smallest sample that `percent` of all samples do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// The shape of some times, in microseconds, or of counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The shortest.
    pub min: u64,
    /// Half of them are not longer.
    pub p50: u64,
    /// 99 of 100 are not longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, p50, p99, max } = self;
        write!(f, "min {min} µs, p50 {p50} µs, p99 {p99} µs, max {max} µs")
    }
}

/// The times of a commit, on CLOCK_MONOTONIC in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CommitTimes {
    /// Its number.
    pub commit: u64,
    /// When it was sent.
    pub committed: u64,
    /// When the client's own fence signalled.
    pub ready: Option<u64>,
    /// When it was shown, if it was.
    pub presented: Option<u64>,
    /// Whether it was shown by direct scan-out.
    pub zero_copy: bool,
    /// When the client saw that its buffer was back.
    pub released: u64,
}

/// What the client has to say about the compositor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `explicit` or `implicit`.
    pub sync: String,
    /// Where the buffers came from.
    pub source: String,
    /// Width and height of the last frame, in pixels.
    pub size: (u32, u32),
    /// From the first commit to the end, in milliseconds.
    pub duration_ms: u64,
    /// Frames committed.
    pub committed: u64,
    /// Frames the compositor says it has shown.
    pub presented: u64,
    /// Of these, shown by direct scan-out.
    pub zero_copy: u64,
    /// Vblanks between two shown frames, where the output counts them.
    pub missed_vblanks: u64,
    /// Frames the compositor says it will never show.
    pub discarded: u64,
    /// Commits whose buffer came back.
    pub released: u64,
    /// Of these, commits whose release point was seen with a fence that was still pending: the kernel released
    /// them without the compositor's doing anything more. A lower bound.
    pub released_by_fence: u64,
    /// From `wl_surface.commit` to the time of presentation.
    pub commit_to_present_us: Option<Summary>,
    /// The same, counted in refreshes: 1 for a frame that the next refresh after its commit shows.
    pub commit_to_present_refreshes: Option<Summary>,
    /// From one time of presentation to the next.
    pub between_presents_us: Option<Summary>,
    /// From `wl_surface.commit` to the release.
    pub commit_to_release_us: Option<Summary>,
    /// From the commit to when the client's own fence signalled, for comparison.
    pub commit_to_ready_us: Option<Summary>,
    /// What the compositor did wrong.
    pub violations: Vec<String>,
    /// What else went wrong, so that the run ended early.
    pub errors: Vec<String>,
    /// Those commits of which everything is known, if somebody wants them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commits: Option<Vec<CommitTimes>>,
}

impl Report {
    /// Whether there is nothing to complain about.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.errors.is_empty()
    }
}

/// For people: the same as the JSON.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = self.size;
        writeln!(
            f,
            "{} sync, {} buffers, {width}x{height}, {} ms",
            self.sync, self.source, self.duration_ms
        )?;
        writeln!(
            f,
            "{} frames committed, {} presented ({} by direct scan-out), {} vblanks missed, {} discarded, {} released ({} by fence)",
            self.committed,
            self.presented,
            self.zero_copy,
            self.missed_vblanks,
            self.discarded,
            self.released,
            self.released_by_fence,
        )?;
        for (what, summary) in [
            ("commit to ready", self.commit_to_ready_us),
            ("commit to present", self.commit_to_present_us),
            ("commit to release", self.commit_to_release_us),
        ] {
            match summary {
                Some(summary) => writeln!(f, "{what}: {summary}")?,
                None => writeln!(f, "{what}: never seen")?,
            }
        }
        if let Some(Summary { min, p50, p99, max }) = self.commit_to_present_refreshes {
            writeln!(f, "in refreshes: min {min}, p50 {p50}, p99 {p99}, max {max}")?;
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATION: {violation}")?;
        }
        for error in &self.errors {
            writeln!(f, "ERROR: {error}")?;
        }
        if self.is_clean() {
            writeln!(f, "no violation")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(times: impl IntoIterator<Item = u64>) -> Option<Summary> {
        let mut samples = Samples::default();
        times.into_iter().for_each(|time| samples.push(time));
        samples.summary()
    }

    #[test]
    fn no_samples_have_no_summary() {
        assert_eq!(summary([]), None);
    }

    #[test]
    fn one_sample_is_everything() {
        assert_eq!(summary([7]), Some(Summary { min: 7, p50: 7, p99: 7, max: 7 }));
    }

    #[test]
    fn percentiles_are_nearest_ranks_in_any_order_of_arrival() {
        let expected = Some(Summary { min: 1, p50: 100, p99: 198, max: 200 });
        assert_eq!(summary(1..=200), expected);
        assert_eq!(summary((1..=200).rev()), expected);
        assert_eq!(summary([30, 10, 20]), Some(Summary { min: 10, p50: 20, p99: 30, max: 30 }));
    }

    fn report() -> Report {
        Report {
            sync: "explicit".into(),
            source: "heap".into(),
            size: (640, 480),
            duration_ms: 1000,
            committed: 60,
            presented: 58,
            zero_copy: 0,
            missed_vblanks: 1,
            discarded: 2,
            released: 60,
            released_by_fence: 50,
            commit_to_present_us: summary(1..=100),
            commit_to_present_refreshes: None,
            between_presents_us: None,
            commit_to_release_us: None,
            commit_to_ready_us: None,
            violations: Vec::new(),
            errors: Vec::new(),
            commits: None,
        }
    }

    #[test]
    fn a_report_is_clean_without_violations_and_errors_only() {
        assert!(report().is_clean());
        assert!(!Report { violations: vec!["early".into()], ..report() }.is_clean());
        assert!(!Report { errors: vec!["busy".into()], ..report() }.is_clean());
    }

    #[test]
    fn the_json_has_what_the_tests_read() {
        let json = serde_json::to_value(report()).expect("JSON");
        assert_eq!(json["committed"], 60);
        assert_eq!(json["commit_to_present_us"]["p99"], 99);
        assert!(json["commit_to_release_us"].is_null());
        assert_eq!(json["violations"], serde_json::json!([]));
    }

    #[test]
    fn people_are_told_every_violation() {
        let text = Report { violations: vec!["frame 7 came early".into()], ..report() }.to_string();
        assert!(text.contains("VIOLATION: frame 7 came early"), "{text}");
        assert!(!text.contains("no violation"), "{text}");
    }
}
