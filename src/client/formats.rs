//! What the compositor takes: its device, and the modifiers of XRGB8888, through linux-dmabuf.
//!
//! From version 4 on by feedback, before that by `modifier` events. Asked once, at the start.

use std::os::fd::OwnedFd;

use drm::buffer::DrmFourcc;
use rustix::io::pread;
use wayland_client::globals::{BindError, GlobalList};
use wayland_client::{Connection, Dispatch, DispatchError, Proxy, QueueHandle};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_feedback_v1::{
    self, ZwpLinuxDmabufFeedbackV1,
};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1::{self, ZwpLinuxDmabufV1};

use super::Error;
use crate::halves::whole;

/// The length of one entry of the format table: a format, padding, a modifier.
const ENTRY_LEN: usize = 16;

/// The answer.
#[derive(Debug, Default)]
pub(crate) struct Formats {
    /// The device the compositor works with, as a `dev_t`; `None` before version 4.
    pub(super) main_device: Option<u64>,
    /// Modifiers of XRGB8888, the preferred ones first.
    pub(crate) modifiers: Vec<u64>,
    table: Vec<u8>,
    is_done: bool,
}

impl Formats {
    /// Asks, on a queue of its own. Returns the global too, to make buffers with.
    pub(crate) fn ask(
        connection: &Connection,
        globals: &GlobalList,
    ) -> Result<(ZwpLinuxDmabufV1, Self), Error> {
        let mut queue = connection.new_event_queue::<Self>();
        let handle = queue.handle();
        let dmabuf: ZwpLinuxDmabufV1 = globals.bind(&handle, 3..=5, ()).map_err(|error| match error {
            BindError::NotPresent => Error::MissingGlobal { name: "zwp_linux_dmabuf_v1" },
            BindError::UnsupportedVersion => Error::MissingGlobal { name: "zwp_linux_dmabuf_v1, version 3" },
        })?;
        let mut formats = Self::default();
        let feedback = (dmabuf.version() >= 4).then(|| dmabuf.get_default_feedback(&handle, ()));
        let disconnected = |error: DispatchError| Error::disconnected(connection, &error.to_string());
        queue.roundtrip(&mut formats).map_err(disconnected)?;
        // Nothing says that the feedback is complete after one round trip.
        while feedback.is_some() && !formats.is_done {
            queue.blocking_dispatch(&mut formats).map_err(disconnected)?;
        }
        if let Some(feedback) = feedback {
            feedback.destroy();
        }
        formats.table = Vec::new();
        if formats.modifiers.is_empty() {
            return Err(Error::NoFormat);
        }
        Ok((dmabuf, formats))
    }

    fn add(&mut self, format: u32, modifier: u64) {
        if format == DrmFourcc::Xrgb8888 as u32 && !self.modifiers.contains(&modifier) {
            self.modifiers.push(modifier);
        }
    }

    /// Reads instead of mapping the file: nothing the compositor does to it can hurt us then.
    fn read_table(&mut self, fd: &OwnedFd, size: u32) {
        // A format table of the largest kind has some thousands of entries.
        self.table = vec![0; (size as usize).min(1 << 20)];
        let mut offset = 0;
        while let Some(rest) = self.table.get_mut(offset..).filter(|rest| !rest.is_empty()) {
            match pread(fd, rest, offset as u64) {
                Ok(0) | Err(_) => break,
                Ok(read) => offset += read,
            }
        }
        self.table.truncate(offset);
    }

    fn add_tranche(&mut self, indices: &[u8]) {
        for index in indices.as_chunks::<2>().0 {
            let start = usize::from(u16::from_ne_bytes(*index)) * ENTRY_LEN;
            let Some((entry, _)) =
                self.table.get(start..).and_then(|rest| rest.split_first_chunk::<ENTRY_LEN>())
            else {
                continue;
            };
            let [a, b, c, d, _, _, _, _, modifier @ ..] = *entry;
            self.add(u32::from_ne_bytes([a, b, c, d]), u64::from_ne_bytes(modifier));
        }
    }
}

impl Dispatch<ZwpLinuxDmabufV1, ()> for Formats {
    fn event(
        formats: &mut Self,
        _: &ZwpLinuxDmabufV1,
        event: zwp_linux_dmabuf_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let zwp_linux_dmabuf_v1::Event::Modifier { format, modifier_hi, modifier_lo } = event {
            formats.add(format, whole(modifier_hi, modifier_lo));
        }
    }
}

impl Dispatch<ZwpLinuxDmabufFeedbackV1, ()> for Formats {
    fn event(
        formats: &mut Self,
        _: &ZwpLinuxDmabufFeedbackV1,
        event: zwp_linux_dmabuf_feedback_v1::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use zwp_linux_dmabuf_feedback_v1::Event;

        match event {
            Event::FormatTable { fd, size } => formats.read_table(&fd, size),
            Event::MainDevice { device } => {
                formats.main_device = device.first_chunk().copied().map(u64::from_ne_bytes);
            }
            Event::TrancheFormats { indices } => formats.add_tranche(&indices),
            Event::Done => formats.is_done = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    fn table(entries: &[(u32, u64)]) -> Vec<u8> {
        let bytes = |(format, modifier): &(u32, u64)| {
            [format.to_ne_bytes().as_slice(), &[0; 4], &modifier.to_ne_bytes()].concat()
        };
        entries.iter().flat_map(bytes).collect()
    }

    const XRGB: u32 = DrmFourcc::Xrgb8888 as u32;

    #[test]
    fn a_tranche_adds_the_modifiers_of_our_format_once_and_in_order() {
        let bytes = table(&[(XRGB, 5), (1, 6), (XRGB, 7)]);
        let mut formats = Formats { table: bytes, ..Formats::default() };
        // 9 is outside; the last byte is half an index.
        let indices = [2_u16, 1, 0, 9, 2].map(u16::to_ne_bytes).concat();
        formats.add_tranche(&[indices.as_slice(), &[0]].concat());
        assert_eq!(formats.modifiers, [7, 5]);
    }

    #[test]
    fn a_table_shorter_than_promised_is_read_as_far_as_it_goes() {
        let fd = rustix::fs::memfd_create("table", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        let bytes = table(&[(XRGB, 3)]);
        std::fs::File::from(fd.as_fd().try_clone_to_owned().expect("dup")).write_all(&bytes).expect("write");
        let mut formats = Formats::default();
        formats.read_table(&fd, 1 << 30);
        assert_eq!(formats.table, bytes);
    }
}
