//! Page-flip events: what the kernel writes to the device's fd, as [`Flip`]s.
//!
//! Owns the parsing, and believes nothing: an event of another kind is passed over, one that does not fit its frame
//! ends the reading. From `include/uapi/drm/drm.h` (`struct drm_event`, `struct drm_event_vblank`).

use std::time::Duration;

use drm::control::{crtc, from_u32};

/// Room for 32 events; there is never more than one per CRTC.
pub const BUFFER_LEN: usize = 1024;

const FLIP_COMPLETE: u32 = 0x02;
const HEADER_LEN: usize = 8;
const VBLANK_LEN: usize = 32;

/// A commit is on the screen: its framebuffers are scanned out, and those it replaced are not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Where.
    pub crtc: crtc::Handle,
    /// When its first line was scanned out: the kernel's timestamp, CLOCK_MONOTONIC.
    pub at: Duration,
    /// The CRTC's vblank counter at that time. It wraps.
    pub sequence: u32,
}

/// The flips among the events in a buffer.
#[derive(Clone, Debug)]
pub struct Flips {
    bytes: [u8; BUFFER_LEN],
    from: usize,
    until: usize,
}

impl Flips {
    /// The first `len` bytes were read from the device.
    pub fn new(bytes: [u8; BUFFER_LEN], len: usize) -> Self {
        Self { bytes, from: 0, until: len.min(BUFFER_LEN) }
    }

    fn next_event(&mut self) -> Option<(u32, &[u8])> {
        let rest = self.bytes.get(self.from..self.until)?;
        let kind = word(rest, 0)?;
        let len = usize::try_from(word(rest, 4)?).ok()?;
        if len < HEADER_LEN || len > rest.len() {
            tracing::warn!(len, have = rest.len(), "the device sent an event of an impossible length");
            self.from = self.until;
            return None;
        }
        self.from += len;
        Some((kind, rest.get(..len)?))
    }
}

impl Iterator for Flips {
    type Item = Flip;

    fn next(&mut self) -> Option<Flip> {
        loop {
            let (kind, event) = self.next_event()?;
            let flip = if kind == FLIP_COMPLETE && event.len() >= VBLANK_LEN { flip(event) } else { None };
            if flip.is_some() {
                return flip;
            }
        }
    }
}

fn flip(event: &[u8]) -> Option<Flip> {
    let (seconds, microseconds) = (word(event, 16)?, word(event, 20)?);
    Some(Flip {
        at: Duration::from_secs(u64::from(seconds)) + Duration::from_micros(u64::from(microseconds)),
        sequence: word(event, 24)?,
        // 0 on kernels before 4.12, which have no atomic device that we could drive.
        crtc: from_u32(word(event, 28)?)?,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u32, len: u32, crtc: u32, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [kind, len, 0, 0, 5, 250_000, sequence, crtc] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn flips(events: &[Vec<u8>], cut: usize) -> Vec<(u32, u32)> {
        let mut bytes = [0; BUFFER_LEN];
        let all = events.concat();
        bytes[..all.len()].copy_from_slice(&all);
        Flips::new(bytes, all.len() - cut).map(|flip| (flip.crtc.into(), flip.sequence)).collect()
    }

    #[test]
    fn a_flip_has_its_crtc_time_and_sequence() {
        let mut bytes = [0; BUFFER_LEN];
        bytes[..32].copy_from_slice(&event(FLIP_COMPLETE, 32, 7, 99));
        let flip = Flips::new(bytes, 32).next().expect("a flip");
        assert_eq!(u32::from(flip.crtc), 7);
        assert_eq!((flip.at, flip.sequence), (Duration::from_micros(5_250_000), 99));
    }

    #[test]
    fn events_of_other_kinds_are_passed_over() {
        let mut sequence_event = event(3, 36, 1, 0);
        sequence_event.extend_from_slice(&[0; 4]);
        let events = [event(1, 32, 5, 1), sequence_event, event(FLIP_COMPLETE, 32, 7, 2), event(77, 8, 0, 0)];
        assert_eq!(flips(&events[..3], 0), [(7, 2)]);
    }

    #[test]
    fn short_reads_and_impossible_lengths_end_the_reading() {
        let good = event(FLIP_COMPLETE, 32, 7, 1);
        assert_eq!(flips(&[good.clone(), good.clone()], 1), [(7, 1)]);
        assert_eq!(flips(&[good.clone(), event(FLIP_COMPLETE, 0, 7, 2), good.clone()], 0), [(7, 1)]);
        assert_eq!(flips(&[good.clone(), event(FLIP_COMPLETE, u32::MAX, 7, 2)], 0), [(7, 1)]);
        assert_eq!(flips(&[event(FLIP_COMPLETE, 32, 0, 2), good], 0), [(7, 1)]);
        assert_eq!(flips(&[], 0), []);
    }
}
