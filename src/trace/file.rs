//! Traces as JSON lines: a header, then one event per line. tests/TRACE.md documents them.
//!
//! Owns reading and writing them. Must not know what the events mean.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use super::event::{Entry, SCHEMA};

/// The first line: what made this trace, and what can be expected of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`SCHEMA`] of the writer.
    pub fencepost_trace: u32,
    /// The writer's version.
    pub version: String,
    /// The clock of all times.
    pub clock: String,
    /// Kernel and machine, as uname(2) has them.
    pub machine: String,
    /// Who waits for acquire fences: `auto`, `wait` or `hand-over`.
    pub acquire: String,
    /// Whether fences were watched: then every signal time is in the trace, or the trace says that it is not.
    pub fence_times: bool,
    /// Entries older than the first that are not there any more; those of a dump are the newest.
    pub lost: u64,
    /// Why it was written.
    pub why: String,
}

impl Header {
    /// The header of a trace that is written now.
    pub fn new(acquire: &str, fence_times: bool, why: &str) -> Self {
        let system = rustix::system::uname();
        let of = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        Self {
            fencepost_trace: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock: "CLOCK_MONOTONIC".to_owned(),
            machine: [system.sysname(), system.release(), system.machine()].map(of).join(" "),
            acquire: acquire.to_owned(),
            fence_times,
            lost: 0,
            why: why.to_owned(),
        }
    }
}

/// A trace that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its header.
    pub header: Header,
    /// Its events, in the order in which they were noted.
    pub entries: Vec<Entry>,
    /// How many events are missing in between.
    pub gaps: u64,
}

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system's word.
    #[error("could not be read")]
    Io(#[from] io::Error),
    /// There is nothing in it.
    #[error("is empty")]
    Empty,
    /// Something else, or another version's.
    #[error("does not begin with the header of a trace")]
    NoHeader(#[source] serde_json::Error),
    /// A schema that is not known here.
    #[error("has schema {0}, and only schema {SCHEMA} is known")]
    Schema(u32),
    /// A line is not an event.
    #[error("has a line {line} that is no event")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        error: serde_json::Error,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Gap { gap: u64 },
    Entry(Entry),
}

impl Trace {
    /// Reads JSON lines. A last line that was cut off by a crash is left out.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(from: impl BufRead) -> Result<Self, ReadError> {
        let mut lines = from.lines().enumerate();
        let (_, first) = lines.next().ok_or(ReadError::Empty)?;
        let header: Header = serde_json::from_str(&first?).map_err(ReadError::NoHeader)?;
        if header.fencepost_trace != SCHEMA {
            return Err(ReadError::Schema(header.fencepost_trace));
        }
        let (mut entries, mut gaps) = (Vec::new(), 0);
        let mut lines = lines.peekable();
        while let Some((index, line)) = lines.next() {
            match serde_json::from_str(&line?) {
                Ok(Line::Entry(entry)) => entries.push(entry),
                Ok(Line::Gap { gap }) => gaps += gap,
                Err(_) if lines.peek().is_none() => {}
                Err(error) => return Err(ReadError::Line { line: index + 1, error }),
            }
        }
        Ok(Self { header, entries, gaps })
    }
}

/// Writes one line.
///
/// # Errors
/// Those of `to`.
pub fn write_line(to: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::{super::event::Event, *};

    fn text(lines: &[&str]) -> String {
        let header = serde_json::to_string(&Header::new("auto", true, "test")).expect("JSON");
        [&[header.as_str()], lines].concat().join("\n")
    }

    #[test]
    fn a_trace_reads_as_it_was_written_with_its_gaps() {
        let text = text(&[
            r#"{"t":1,"event":"open","surface":2,"id":3}"#,
            r#"{"gap":5}"#,
            r#"{"t":2,"event":"end"}"#,
        ]);
        let trace = Trace::read(text.as_bytes()).expect("a trace");
        assert_eq!(trace.gaps, 5);
        let events: Vec<_> = trace.entries.iter().map(|entry| entry.event).collect();
        assert_eq!(events, [Event::Open { surface: 2, id: 3 }, Event::End]);
    }

    #[test]
    fn a_last_line_that_was_cut_off_is_left_out_and_any_other_is_an_error() {
        let cut = text(&[r#"{"t":1,"event":"end"}"#, r#"{"t":2,"eve"#]);
        assert_eq!(Trace::read(cut.as_bytes()).expect("a trace").entries.len(), 1);
        let wrong = text(&[r#"{"t":2,"eve"#, r#"{"t":1,"event":"end"}"#]);
        assert!(matches!(Trace::read(wrong.as_bytes()), Err(ReadError::Line { line: 2, .. })));
        let unknown = text(&[r#"{"t":2,"event":"dance"}"#, r#"{"t":1,"event":"end"}"#]);
        assert!(matches!(Trace::read(unknown.as_bytes()), Err(ReadError::Line { line: 2, .. })));
    }

    #[test]
    fn what_is_no_trace_is_not_read_as_an_empty_one() {
        assert!(matches!(Trace::read(&b""[..]), Err(ReadError::Empty)));
        assert!(matches!(Trace::read(&b"hello\n"[..]), Err(ReadError::NoHeader(_))));
        let other = serde_json::to_string(&Header { fencepost_trace: 9, ..Header::new("auto", true, "") });
        assert!(matches!(Trace::read(other.expect("JSON").as_bytes()), Err(ReadError::Schema(9))));
    }
}
