//! Where events go that are to be kept: a thread of its own writes them, so that no disk can hold a frame up.
//!
//! Owns the channel, the thread, the file and the choice of its format: a name that ends in `.pftrace` is for Perfetto. What
//! comes faster than the disk takes it is left out, and the trace says how much.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread::{Builder, JoinHandle},
};

use super::{
    event::Entry,
    file::{Header, write_line},
    perfetto,
    story::Story,
};

/// How many entries may wait to be written: about a minute of a busy session.
const WAITING: usize = 65_536;

/// A file that is being written.
#[derive(Debug)]
pub struct Stream {
    sender: SyncSender<Message>,
    thread: JoinHandle<io::Result<()>>,
    left_out: u64,
}

#[derive(Debug)]
enum Message {
    Entry(Entry),
    /// So many entries are missing here.
    Gap(u64),
}

/// What is written, and in which format.
trait Sink: Send {
    fn entry(&mut self, entry: &Entry) -> io::Result<()>;
    fn gap(&mut self, left_out: u64) -> io::Result<()>;
    /// Nothing waits: what there is can be looked at, also after a crash.
    fn rest(&mut self) -> io::Result<()>;
    fn finish(&mut self) -> io::Result<()>;
}

struct JsonLines(BufWriter<File>);

impl Sink for JsonLines {
    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        write_line(&mut self.0, entry)
    }

    fn gap(&mut self, left_out: u64) -> io::Result<()> {
        write_line(&mut self.0, &serde_json::json!({ "gap": left_out }))
    }

    fn rest(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Written at the end: what a commit's flows go through is known only then. Nothing is there after a crash.
struct Perfetto {
    story: Story,
    file: File,
}

impl Sink for Perfetto {
    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.story.hear(*entry);
        Ok(())
    }

    fn gap(&mut self, left_out: u64) -> io::Result<()> {
        tracing::warn!("{left_out} events are missing in the trace: they came faster than they were taken");
        Ok(())
    }

    fn rest(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        perfetto::write(&self.story, &mut self.file)
    }
}

impl Stream {
    /// Creates the file and starts the thread that writes it.
    ///
    /// # Errors
    /// Those of creating either.
    pub fn open(path: &Path, header: &Header) -> io::Result<Self> {
        let file = File::create(path)?;
        let sink: Box<dyn Sink> = if path.extension().is_some_and(|extension| extension == "pftrace") {
            Box::new(Perfetto { story: Story::new(header.clone()), file })
        } else {
            let mut file = BufWriter::new(file);
            write_line(&mut file, header)?;
            Box::new(JsonLines(file))
        };
        let (sender, receiver) = sync_channel(WAITING);
        let thread = Builder::new().name("trace".to_owned()).spawn(move || write(sink, &receiver))?;
        Ok(Self { sender, thread, left_out: 0 })
    }

    /// Has an entry written, if there is room.
    pub(super) fn send(&mut self, entry: Entry) {
        if self.left_out > 0 {
            if self.sender.try_send(Message::Gap(self.left_out)).is_err() {
                self.left_out = self.left_out.saturating_add(1);
                return;
            }
            self.left_out = 0;
        }
        if self.sender.try_send(Message::Entry(entry)).is_err() {
            self.left_out = 1;
        }
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// The first error of writing.
    pub fn close(self) -> io::Result<()> {
        let Self { sender, thread, left_out: _ } = self;
        drop(sender);
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that writes the trace has crashed")))
    }
}

fn write(mut sink: Box<dyn Sink>, receiver: &Receiver<Message>) -> io::Result<()> {
    loop {
        let message = match receiver.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => return sink.finish(),
            Err(TryRecvError::Empty) => {
                sink.rest()?;
                match receiver.recv() {
                    Ok(message) => message,
                    Err(_) => return sink.finish(),
                }
            }
        };
        match message {
            Message::Entry(entry) => sink.entry(&entry)?,
            Message::Gap(left_out) => sink.gap(left_out)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{
        super::event::{Event, SyncKind},
        *,
    };

    /// What is in a file of this name after these events.
    fn written(name: &str, events: &[Entry]) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("fencepost-{}-{name}", std::process::id()));
        let mut stream = Stream::open(&path, &header()).expect("a file");
        events.iter().for_each(|event| stream.send(*event));
        stream.close().expect("written");
        let written = fs::read(&path).expect("the file");
        fs::remove_file(&path).expect("the file");
        written
    }

    fn header() -> Header {
        Header::new("auto", false, "test")
    }

    fn events() -> [Entry; 2] {
        let commit = Event::Commit {
            commit: 1,
            pid: 7,
            surface: 3,
            id: 1,
            buffer: 12,
            sync: SyncKind::Shm,
            fences: 0,
            acquire: None,
            release: None,
        };
        [Entry { t: 5, event: commit }, Entry { t: 9, event: Event::End }]
    }

    #[test]
    fn a_trace_is_lines_of_json_or_what_perfetto_reads() {
        let lines = written("stream.jsonl", &events());
        assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 3, "the header and two events");

        let mut story = Story::new(header());
        events().into_iter().for_each(|event| story.hear(event));
        let mut translated = Vec::new();
        perfetto::write(&story, &mut translated).expect("memory");
        assert!(!translated.is_empty());
        assert_eq!(written("stream.pftrace", &events()), translated);
    }
}
