//! Where the log goes, and what is in it when nobody asks for more.
//!
//! The policy: error is a bug of ours; warn, something outside is wrong; info, a few lines per run; debug and trace, for
//! people who look. Stages of a frame are spans of the level trace: `commit`, `acquire`, `latch`, `render`, `scan-out`,
//! `flip`, `release`. They cost a load and a branch each until `RUST_LOG` asks for them; then each says how long it took.
//! What happened to one frame after another is for the trace (`crate::trace`) to say, not for the log.

use std::{io, os::linux::fs::MetadataExt};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{self, format::FmtSpan},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::trace::dump;

/// EGL logs what it refuses, and DRM that somebody else is master, as an error of ours; whoever asked for it says what
/// follows from that. calloop warns of an event whose source another event of the same turn has had removed: a timer that
/// is no longer needed, a fence of a client that has gone.
const UNASKED: &str = concat!(
    "info,smithay=warn,smithay::backend::egl=off,smithay::backend::drm::device::fd=off,",
    "calloop::loop_logic=error"
);

/// Has everything logged, to the journal if stderr is connected to it, else to stderr. `RUST_LOG` says what.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(UNASKED));
    // Libraries have spans of higher levels, which nobody has asked for.
    let spans = match filter.max_level_hint() {
        Some(LevelFilter::TRACE) => FmtSpan::CLOSE,
        Some(_) | None => FmtSpan::NONE,
    };
    let log = if stderr_is_journal() { journal() } else { None }.unwrap_or_else(|| stderr(spans));
    tracing_subscriber::registry().with(log).with(dump::OnError).with(filter).init();
}

type Log = Box<dyn Layer<Registry> + Send + Sync>;

/// `None` if the journal's socket takes nothing: stderr leads there as well, without the fields.
fn journal() -> Option<Log> {
    Some(tracing_journald::layer().ok()?.with_syslog_identifier("fencepost".to_owned()).boxed())
}

/// `spans` is what of spans is logged: their ends say how long they took.
fn stderr(spans: FmtSpan) -> Log {
    let colours = io::IsTerminal::is_terminal(&io::stderr());
    fmt::layer().with_ansi(colours).with_writer(io::stderr).with_span_events(spans).boxed()
}

/// As systemd.exec(5) has services find out.
fn stderr_is_journal() -> bool {
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    is_stream(&stream, stderr.st_dev(), stderr.st_ino())
}

/// Whether `JOURNAL_STREAM` names the file with these numbers.
fn is_stream(stream: &str, device: u64, inode: u64) -> bool {
    stream == format!("{device}:{inode}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_file_that_is_named_is_the_journal() {
        assert!(is_stream("9:4711", 9, 4711));
        for other in ["", "9", "9:471", "9:47110", "4711:9"] {
            assert!(!is_stream(other, 9, 4711), "{other}");
        }
    }
}
