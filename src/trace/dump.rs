//! The ring, written to a file: when somebody asks, when we log an error (which says that a rule of ours is broken), and
//! when we crash.
//!
//! Owns the names of the files, and how many are written.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::{
    file::{Header, write_line},
    tracer::{self, Snapshot},
};

/// How many dumps a run may write that nobody has asked for: what goes wrong with each frame is seen in the first.
const MAX_UNASKED: u32 = 4;

/// Writes the newest events to a new file in the runtime directory, which only this user can read; `None` if there is
/// nothing to write.
///
/// # Errors
/// Those of creating and writing the file.
pub fn dump(why: &str) -> io::Result<Option<PathBuf>> {
    static DUMPS: AtomicU32 = AtomicU32::new(0);
    let Some(snapshot) = tracer::snapshot() else { return Ok(None) };
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let number = DUMPS.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("fencepost-trace-{}-{number}.jsonl", std::process::id()));
    write(&path, &snapshot, why)?;
    Ok(Some(path))
}

fn write(path: &Path, snapshot: &Snapshot, why: &str) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut file = BufWriter::new(file);
    let header = Header::new(snapshot.acquire.as_str(), snapshot.fence_times, why);
    write_line(&mut file, &Header { lost: snapshot.lost, ..header })?;
    for entry in &snapshot.entries {
        write_line(&mut file, entry)?;
    }
    file.flush()
}

/// As [`dump`], and says in the log what came of it.
pub fn dump_and_tell(why: &str) {
    match dump(why) {
        Ok(Some(path)) => tracing::info!("the newest events are in {}", path.display()),
        Ok(None) => tracing::info!("there are no events to be written"),
        Err(error) => tracing::warn!("the newest events could not be written: {error}"),
    }
}

/// As [`dump_and_tell`], for the first few times.
fn dump_unasked(why: &str) {
    static UNASKED: AtomicU32 = AtomicU32::new(0);
    if UNASKED.fetch_add(1, Ordering::Relaxed) < MAX_UNASKED {
        dump_and_tell(why);
    }
}

/// From now on a thread that panics leaves its newest events behind, and what it streamed is written.
pub fn on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        dump_unasked("a panic");
        tracer::crash();
    }));
}

/// Writes the newest events when an error of ours is logged. Those of libraries say nothing about our rules.
#[derive(Debug)]
pub struct OnError;

impl<S: Subscriber> Layer<S> for OnError {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() == Level::ERROR && metadata.target().starts_with(env!("CARGO_PKG_NAME")) {
            dump_unasked("an error was logged");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            event::Event,
            file::Trace,
            tracer::{Times, note, start},
        },
        *,
    };

    #[test]
    fn a_dump_is_a_trace_that_only_its_user_can_read() {
        use std::os::unix::fs::PermissionsExt;

        start("wait", Times::Unwanted, None);
        note(Event::Open { surface: 1, id: 2 });
        let path = std::env::temp_dir().join(format!("fencepost-dump-test-{}", std::process::id()));
        write(&path, &tracer::snapshot().expect("a snapshot"), "a test").expect("written");
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        let trace = Trace::read(std::fs::read(&path).expect("read").as_slice()).expect("a trace");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!((trace.header.acquire.as_str(), trace.header.fence_times), ("wait", false));
        assert_eq!(trace.entries[0].event, Event::Open { surface: 1, id: 2 });
    }
}
