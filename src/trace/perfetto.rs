//! Traces for ui.perfetto.dev: a track for each surface, buffer and output, with the GPU's and KMS's below it, and a flow that
//! follows each commit through all of them.
//!
//! Owns the translation of a [`Story`] into Perfetto's packets. Of Perfetto's schema only the few messages that are needed are
//! declared here, by their numbers in `protos/perfetto/trace/`: prost encodes them, and neither protoc nor the generated thousands
//! of others are needed.

use std::{collections::BTreeMap, io};

use prost::Message;

use super::{
    event::{CommitNumber, Reader},
    story::{Commit, Frame, Story},
};

#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<Packet>,
}

#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    trusted_packet_sequence_id: Option<u32>,
    #[prost(message, optional, tag = "11")]
    track_event: Option<TrackEvent>,
    #[prost(uint32, optional, tag = "58")]
    timestamp_clock_id: Option<u32>,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<Track>,
}

#[derive(Clone, PartialEq, Message)]
struct Track {
    #[prost(uint64, optional, tag = "1")]
    uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackEvent {
    /// 1: a slice begins; 2: it ends; 3: an instant.
    #[prost(int32, optional, tag = "9")]
    r#type: Option<i32>,
    #[prost(uint64, optional, tag = "11")]
    track_uuid: Option<u64>,
    #[prost(string, optional, tag = "23")]
    name: Option<String>,
    #[prost(fixed64, repeated, packed = "false", tag = "47")]
    flow_ids: Vec<u64>,
}

const BEGIN: i32 = 1;
const END: i32 = 2;
const INSTANT: i32 = 3;
/// `BUILTIN_CLOCK_MONOTONIC`
const MONOTONIC: u32 = 3;
/// We are the only writer.
const SEQUENCE: u32 = 1;

/// What is gathered: packets, and the tracks that they are on.
#[derive(Default)]
struct Writer {
    packets: Vec<(u64, u8, Packet)>,
    tracks: BTreeMap<String, u64>,
    descriptors: Vec<Packet>,
}

impl Writer {
    /// The track of this name below another. It may need several lanes: what overlaps goes to lanes of its own.
    fn track(&mut self, parent: Option<u64>, name: &str) -> u64 {
        let key = format!("{}/{name}", parent.unwrap_or_default());
        let next = self.tracks.len() as u64 + 1;
        let uuid = *self.tracks.entry(key).or_insert(next);
        if uuid == next {
            let track = Track { uuid: Some(uuid), name: Some(name.to_owned()), parent_uuid: parent };
            self.descriptors.push(Packet {
                trusted_packet_sequence_id: Some(SEQUENCE),
                track_descriptor: Some(track),
                ..Packet::default()
            });
        }
        uuid
    }

    fn event(&mut self, at: u64, track: u64, kind: i32, name: Option<String>, flows: &[CommitNumber]) {
        let event =
            TrackEvent { r#type: Some(kind), track_uuid: Some(track), name, flow_ids: flows.to_vec() };
        let packet = Packet {
            timestamp: Some(at),
            trusted_packet_sequence_id: Some(SEQUENCE),
            track_event: Some(event),
            timestamp_clock_id: Some(MONOTONIC),
            track_descriptor: None,
        };
        // Where one slice ends and the next begins, the end comes first.
        self.packets.push((at, u8::from(kind != END), packet));
    }

    fn slice(&mut self, track: u64, (from, to): (u64, u64), name: String, flows: &[CommitNumber]) {
        self.event(from, track, BEGIN, Some(name), flows);
        // A slice that takes no time would end before it begins.
        self.event(to.max(from.saturating_add(1)), track, END, None, &[]);
    }
}

/// Writes a story as Perfetto's trace.
///
/// # Errors
/// Those of `to`.
pub fn write(story: &Story, to: &mut impl io::Write) -> io::Result<()> {
    let mut writer = Writer::default();
    for (number, commit) in &story.commits {
        surface(&mut writer, story, *number, commit);
    }
    for (number, frame) in &story.frames {
        output(&mut writer, story, *number, frame);
    }
    let Writer { mut packets, descriptors, .. } = writer;
    packets.sort_by_key(|(at, order, _)| (*at, *order));
    let packet = descriptors.into_iter().chain(packets.into_iter().map(|(.., packet)| packet)).collect();
    to.write_all(&Trace { packet }.encode_to_vec())
}

/// What becomes of a commit, on its surface's tracks and its buffer's. Commits of a surface wait at once and are shown one after the
/// other, so each step has a track of its own, and a commit that overlaps the one before is an instant's flow there.
fn surface(writer: &mut Writer, story: &Story, number: CommitNumber, commit: &Commit) {
    let client = story.clients.get(&commit.pid).map_or("client", String::as_str);
    let of = writer.track(None, &format!("surface {} ({client} {})", commit.surface, commit.pid));
    let name = |what: &str| format!("{what} {number}");
    let commits = writer.track(Some(of), "commit");
    writer.event(commit.at, commits, INSTANT, Some(name("commit")), &[number]);
    if let Some(opened) = commit.opened {
        // Several commits may wait; a track for each of eight keeps their slices apart.
        let waits = writer.track(Some(of), &format!("acquire {}", commit.id % 8));
        writer.slice(waits, (commit.at, opened), name("acquire"), &[number]);
    }
    if let Some((_, presented)) = commit.presented {
        let shown = writer.track(Some(of), "on screen");
        writer.event(presented, shown, INSTANT, Some(name("flip")), &[number]);
    }
    if let Some(released) = commit.released.at() {
        let buffers = writer.track(None, &format!("buffers of {client} {}", commit.pid));
        let buffer = writer.track(Some(buffers), &format!("buffer {}", commit.buffer));
        writer.slice(buffer, (commit.at, released), name("commit"), &[number]);
        let releases = writer.track(Some(of), "release");
        writer.event(released, releases, INSTANT, Some(name("release")), &[number]);
    }
}

/// A frame, on the tracks of its output, its GPU and KMS.
fn output(writer: &mut Writer, story: &Story, number: u64, frame: &Frame) {
    let name = story.outputs.get(&frame.output).map_or("an output", |output| output.name.as_str()).to_owned();
    let of = writer.track(None, &format!("output {name}"));
    let what = format!("frame {number}");
    let all: Vec<_> = frame.reads.iter().map(|(commit, _)| *commit).collect();
    let (latch, gpu) = (writer.track(Some(of), "latch"), writer.track(Some(of), "GPU"));
    let begun = (frame.at, frame.committed.or(frame.rendered).unwrap_or(frame.at));
    writer.slice(latch, begun, what.clone(), &all);
    if let (Some(rendered), Some(drawn)) = (frame.rendered, frame.drawn.at()) {
        let read = frame.reads.iter().filter(|(_, by)| *by == Reader::Gpu);
        let read: Vec<_> = read.map(|(commit, _)| *commit).collect();
        writer.slice(gpu, (rendered, drawn), what.clone(), &read);
    }
    if let (Some(committed), Some(flipped)) = (frame.committed, frame.on_screen()) {
        let kms = writer.track(Some(of), "KMS");
        writer.slice(kms, (committed, flipped), what, &all);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            event::{Entry, Event, SyncKind, Text},
            file,
        },
        *,
    };

    #[test]
    fn a_commit_has_its_tracks_and_one_flow_through_them() {
        let header = file::Header::new("auto", true, "a test");
        let (sync, acquire, release) = (SyncKind::Shm, None, None);
        let events = [
            Event::Client { pid: 4, name: Text::new("client") },
            Event::Output { output: 1, name: Text::new("HDMI-A-1"), refresh: 16_000_000 },
            Event::Commit {
                commit: 7,
                pid: 4,
                surface: 2,
                id: 1,
                buffer: 9,
                sync,
                fences: 0,
                acquire,
                release,
            },
            Event::Open { surface: 2, id: 1 },
            Event::Latch { output: 1, frame: 3 },
            Event::Read { frame: 3, commit: 7, by: Reader::Gpu },
            Event::Render { frame: 3, fence: false },
            Event::Show { output: 1, commit: 7 },
            Event::Kms { output: 1, frame: 3, in_fences: 0, out_fence: false },
            Event::Flip { output: 1, frame: 3, at: 100, sequence: 0 },
        ];
        let entries = (1..).zip(events).map(|(t, event)| Entry { t, event }).collect();
        let story = Story::of(&file::Trace { header, entries, gaps: 0 });
        let mut bytes = Vec::new();
        write(&story, &mut bytes).expect("written");
        let trace = Trace::decode(bytes.as_slice()).expect("decoded");
        let named = |packet: &Packet| packet.track_descriptor.as_ref().and_then(|track| track.name.clone());
        let names: Vec<_> = trace.packet.iter().filter_map(named).collect();
        for name in ["surface 2 (client 4)", "output HDMI-A-1", "GPU", "KMS", "latch"] {
            assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
        }
        let events = trace.packet.iter().filter_map(|packet| packet.track_event.as_ref());
        let flows = events.clone().filter(|event| event.flow_ids == [7]);
        assert_eq!(flows.count(), 6, "commit, acquire, flip, latch, GPU, KMS");
        let (begin, end) = (events.clone().filter(|event| event.r#type == Some(BEGIN)), events);
        assert_eq!(begin.count(), end.filter(|event| event.r#type == Some(END)).count());
    }
}
