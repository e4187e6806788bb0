//! The buffers that the parent takes, as linux-dmabuf feedback says: its device, formats and modifiers.
//!
//! Owns what was said first; later feedback, as for another output, is not followed. Decides nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use drm::buffer::{DrmFourcc as Fourcc, DrmModifier as Modifier};
use rustix::fs::Dev;
use smithay::backend::allocator::Format;
use smithay::backend::allocator::format::FormatSet;
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::{Connection, Dispatch, QueueHandle, delegate_noop, event_created_child};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::{
    self, EVT_CREATED_OPCODE, ZwpLinuxBufferParamsV1,
};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_feedback_v1::{
    self, ZwpLinuxDmabufFeedbackV1,
};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1;

use super::buffers::Lent;
use super::event::Event;
use super::wire::Heard;

/// Of an entry of the format table: the format, padding, the modifier.
const ENTRY: usize = 16;
/// Of the table: indices into it have 16 bits.
const LONGEST: usize = ENTRY << 16;

/// What the parent takes.
#[derive(Debug, Default)]
pub(super) struct Offer {
    table: Vec<u8>,
    device: Option<Dev>,
    formats: Vec<Format>,
    /// Of the tranche that is being told.
    tranche: (Option<Dev>, Vec<Format>),
    pub(super) is_complete: bool,
}

impl Offer {
    /// Its device, by any of its nodes.
    pub(super) fn device(&self) -> Option<Dev> {
        self.device
    }

    /// What it takes of buffers of that device.
    pub(super) fn formats(&self) -> FormatSet {
        self.formats.iter().copied().collect()
    }

    /// Whether it takes such buffers of that device.
    pub(super) fn takes(&self, format: &Format) -> bool {
        self.formats.contains(format)
    }

    /// Reads, and does not map: nobody can then take the memory away under us.
    fn read_table(&mut self, fd: &OwnedFd, size: u32) {
        let size = usize::try_from(size).unwrap_or(LONGEST).min(LONGEST);
        self.table = vec![0; size];
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(fd.as_fd(), &mut self.table, 0));
        self.table.truncate(read.unwrap_or(0));
    }

    fn entry(&self, index: usize) -> Option<Format> {
        let entry = self.table.chunks_exact(ENTRY).nth(index)?;
        let code = Fourcc::try_from(u32::from_ne_bytes(*entry.first_chunk()?)).ok()?;
        Some(Format { code, modifier: Modifier::from(u64::from_ne_bytes(*entry.last_chunk()?)) })
    }

    fn add_tranche(&mut self) {
        let (target, formats) = std::mem::take(&mut self.tranche);
        if target == self.device {
            self.formats.extend(formats);
        }
    }
}

fn device(bytes: &[u8]) -> Option<Dev> {
    bytes.first_chunk().map(|bytes| Dev::from_ne_bytes(*bytes))
}

impl Dispatch<ZwpLinuxDmabufFeedbackV1, ()> for Heard {
    fn event(
        heard: &mut Self,
        _: &ZwpLinuxDmabufFeedbackV1,
        event: zwp_linux_dmabuf_feedback_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use zwp_linux_dmabuf_feedback_v1::Event as Wire;

        let offer = &mut heard.offer;
        if offer.is_complete {
            return;
        }
        match event {
            Wire::FormatTable { fd, size } => offer.read_table(&fd, size),
            Wire::MainDevice { device: bytes } => offer.device = device(&bytes),
            Wire::TrancheTargetDevice { device: bytes } => offer.tranche.0 = device(&bytes),
            Wire::TrancheFormats { indices } => {
                let indices = indices.as_chunks().0.iter().map(|index| u16::from_ne_bytes(*index).into());
                let formats: Vec<_> = indices.filter_map(|index| offer.entry(index)).collect();
                offer.tranche.1.extend(formats);
            }
            Wire::TrancheDone => offer.add_tranche(),
            Wire::Done => offer.is_complete = true,
            _ => {}
        }
    }
}

/// Whether the parent makes a buffer of what it was asked to.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer(Arc<OnceLock<Option<WlBuffer>>>);

impl Answer {
    /// The buffer; `Some(None)` for a refusal, `None` before there is an answer.
    pub(super) fn get(&self) -> Option<Option<&WlBuffer>> {
        self.0.get().map(Option::as_ref)
    }

    /// The one share in it goes along with the question.
    fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Dispatch<ZwpLinuxBufferParamsV1, Answer> for Heard {
    fn event(
        heard: &mut Self,
        params: &ZwpLinuxBufferParamsV1,
        event: zwp_linux_buffer_params_v1::Event,
        answer: &Answer,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let buffer = match event {
            zwp_linux_buffer_params_v1::Event::Created { buffer } => Some(buffer),
            zwp_linux_buffer_params_v1::Event::Failed => None,
            _ => return,
        };
        params.destroy();
        let unwanted = if answer.is_wanted() { answer.0.set(buffer).err().flatten() } else { buffer };
        unwanted.iter().for_each(WlBuffer::destroy);
        heard.events.push(Event::Answered);
    }

    event_created_child!(Self, ZwpLinuxBufferParamsV1, [EVT_CREATED_OPCODE => (WlBuffer, Lent::default())]);
}

/// The buffers of a window, which are like one that the parent has taken.
impl Dispatch<ZwpLinuxBufferParamsV1, ()> for Heard {
    fn event(
        heard: &mut Self,
        _: &ZwpLinuxBufferParamsV1,
        event: zwp_linux_buffer_params_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let zwp_linux_buffer_params_v1::Event::Failed = event {
            heard.events.push(Event::Refused);
        }
    }
}

delegate_noop!(Heard: ignore ZwpLinuxDmabufV1);

#[cfg(test)]
mod tests {
    use super::*;

    const XRGB: Fourcc = Fourcc::Xrgb8888;

    fn offer(entries: &[(u32, u64)]) -> Offer {
        let bytes = |(format, modifier): &(u32, u64)| {
            [format.to_ne_bytes().as_slice(), &[0; 4], &modifier.to_ne_bytes()].concat()
        };
        Offer { table: entries.iter().flat_map(bytes).collect(), ..Offer::default() }
    }

    #[test]
    fn an_entry_is_a_format_with_a_modifier_and_nothing_is_outside_of_the_table() {
        let offer = offer(&[(1, 0), (XRGB as u32, 0)]);
        assert_eq!(offer.entry(0), None, "no such format");
        assert_eq!(offer.entry(1), Some(Format { code: XRGB, modifier: Modifier::Linear }));
        assert_eq!(offer.entry(2), None);
    }

    #[test]
    fn a_tranche_of_another_device_does_not_count() {
        let mut offer = Offer { device: Some(1), ..offer(&[(XRGB as u32, 0)]) };
        let format = offer.entry(0).expect("an entry");
        offer.tranche = (Some(2), vec![format]);
        offer.add_tranche();
        assert!(offer.formats.is_empty());
        offer.tranche = (Some(1), vec![format]);
        offer.add_tranche();
        assert_eq!(offer.formats, [format]);
    }
}
