//! Pictures of the screen, by wlr-screencopy and ext-image-copy-capture: what the compositor has read, and when.
//!
//! Owns the pictures. How the compositor is asked for one is known to a file for each protocol.

mod ext;
mod wlr;

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::pread;
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_output::WlOutput;
use wayland_client::protocol::wl_shm::{Format, WlShm};
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_protocols::ext::image_capture_source::v1::client::ext_output_image_capture_source_manager_v1::ExtOutputImageCaptureSourceManagerV1;
use wayland_protocols::ext::image_copy_capture::v1::client::ext_image_copy_capture_manager_v1::ExtImageCopyCaptureManagerV1;
use wayland_protocols_wlr::screencopy::v1::client::zwlr_screencopy_manager_v1::ZwlrScreencopyManagerV1;

use super::Place;
use super::app::memory;
use super::connection::{Client, Inbox};
use super::verdict::Stop;
use crate::client::marker::{Flaw, Frame, body_colour};

/// A connection of its own, so that a picture waits for nobody.
pub(super) struct Screen {
    client: Client,
    output: WlOutput,
    shm: WlShm,
    /// All that the compositor offers. They take turns.
    cameras: Vec<Camera>,
}

/// A protocol for pictures of an output.
enum Camera {
    Wlr(ZwlrScreencopyManagerV1),
    Ext(ExtOutputImageCaptureSourceManagerV1, ExtImageCopyCaptureManagerV1),
}

/// What was on the screen.
pub(super) struct Picture {
    pixels: Vec<u32>,
    width: u32,
    height: u32,
}

/// The form of a picture, as the compositor wants it.
#[derive(Clone, Copy)]
struct Form {
    format: Format,
    width: u32,
    height: u32,
    stride: u32,
}

/// Memory that a picture is put into.
struct Film {
    form: Form,
    file: OwnedFd,
    pool: WlShmPool,
    buffer: WlBuffer,
}

impl Screen {
    /// The first output.
    pub(super) fn open(place: &Place) -> Result<Self, Stop> {
        let client = Client::open(&place.socket, place.patience)?;
        let (output, shm) = (client.bind(1..=4)?, client.bind(1..=1)?);
        let ext = || Ok::<_, Stop>(Camera::Ext(client.bind(1..=1)?, client.bind(1..=1)?));
        let cameras = match (client.bind(1..=1).map(Camera::Wlr), ext()) {
            (Ok(wlr), Ok(ext)) => vec![wlr, ext],
            (Ok(only), Err(_)) | (Err(_), Ok(only)) => vec![only],
            (Err(_), Err(neither)) => return Err(neither),
        };
        Ok(Self { client, output, shm, cameras })
    }

    /// Takes a picture.
    pub(super) fn picture(&mut self) -> Result<Picture, Stop> {
        self.cameras.rotate_left(1);
        let film = match self.cameras.first() {
            Some(Camera::Wlr(manager)) => wlr::take(&mut self.client, manager, &self.output, &self.shm)?,
            Some(Camera::Ext(sources, manager)) => {
                ext::take(&mut self.client, (sources, manager), &self.output, &self.shm)?
            }
            None => return Err(Stop::CannotTest("no screen capture".into())),
        };
        film.develop()
    }
}

/// A capture that fails says nothing of what is on the screen.
fn refused() -> Stop {
    Stop::CannotTest("screen capture failed".into())
}

impl Film {
    fn new(client: &Client, shm: &WlShm, form: Form) -> Result<Self, Stop> {
        let bytes = u64::from(form.stride) * u64::from(form.height);
        let file = memory(bytes)?;
        let (bytes, handle) = (i32::try_from(bytes).unwrap_or(i32::MAX), client.handle());
        let pool = shm.create_pool(file.as_fd(), bytes, &handle, Inbox::default());
        let [width, height, stride] = [form.width, form.height, form.stride].map(|side| side as i32);
        let buffer = pool.create_buffer(0, width, height, stride, form.format, &handle, Inbox::default());
        Ok(Self { form, file, pool, buffer })
    }

    fn develop(self) -> Result<Picture, Stop> {
        self.pool.destroy();
        self.buffer.destroy();
        let mut content = vec![0; self.form.stride as usize * self.form.height as usize];
        match pread(&self.file, content.as_mut_slice(), 0) {
            Ok(read) if read == content.len() => Ok(Picture::new(&content, self.form)),
            _ => Err(Stop::CannotTest("a screen capture could not be read".into())),
        }
    }
}

impl Picture {
    fn new(content: &[u8], Form { format, width, height, stride }: Form) -> Self {
        let is_bgr = matches!(format, Format::Xbgr8888 | Format::Abgr8888);
        let pixel = |bytes: &[u8; 4]| match (u32::from_le_bytes(*bytes), bytes) {
            (_, [red, green, blue, _]) if is_bgr => u32::from_be_bytes([0, *red, *green, *blue]),
            (pixel, _) => pixel,
        };
        let row =
            |row: &[u8]| row.as_chunks::<4>().0.iter().take(width as usize).map(pixel).collect::<Vec<_>>();
        let pixels = content.chunks(stride.max(1) as usize).take(height as usize).flat_map(row).collect();
        Self { pixels, width, height }
    }

    fn frame(&self) -> Frame<'_> {
        Frame { pixels: &self.pixels, width: self.width, height: self.height, stride: self.width }
    }

    /// Whether frame `counter` is to be seen in it: its body is, also where a compositor has scaled the window or cut its
    /// corners.
    pub(super) fn shows(&self, counter: u32) -> bool {
        const ENOUGH: usize = 4096;
        let colour = body_colour(counter);
        self.pixels.iter().filter(|pixel| **pixel & 0x00ff_ffff == colour).count() >= ENOUGH
    }

    /// Fails if it shows what nobody may read.
    pub(super) fn expect_no_poison(&self, when: &str) -> Result<(), Stop> {
        match self.frame().poison() {
            (pixels, Some((x, y))) => Err(Stop::Fail(format!("{when}: {}", Flaw::Poisoned { pixels, x, y }))),
            (_, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::marker::{POISON, picture};

    /// A screen of 300x200 with the marker of frame 7 and one pixel of poison, in rows of 1300 bytes.
    fn content(poison: bool, swap: bool) -> Vec<u8> {
        let (width, height, stride) = (300_usize, 200_usize, 1300_usize);
        let mut content = vec![0; stride * height];
        let mut put = |x: usize, y: usize, colour: u32| {
            let [blue, green, red, _] = colour.to_le_bytes();
            let bytes = if swap { [red, green, blue, 0] } else { [blue, green, red, 0] };
            content[y * stride + x * 4..][..4].copy_from_slice(&bytes);
        };
        for rect in picture(7, 256, 128) {
            for y in rect.y..rect.y + rect.height {
                (rect.x..rect.x + rect.width).for_each(|x| put(x as usize, y as usize, rect.colour));
            }
        }
        if poison {
            put(width - 1, height - 1, POISON);
        }
        content
    }

    #[test]
    fn frames_and_poison_are_found_in_either_order_of_colours() {
        for (format, swap) in [(Format::Xrgb8888, false), (Format::Xbgr8888, true)] {
            let form = Form { format, width: 300, height: 200, stride: 1300 };
            let clean = Picture::new(&content(false, swap), form);
            assert!(clean.shows(7) && !clean.shows(6) && !clean.shows(8));
            assert_eq!(clean.expect_no_poison("now"), Ok(()));
            let poisoned = Picture::new(&content(true, swap), form).expect_no_poison("now");
            assert_eq!(poisoned, Err(Stop::Fail("now: 1 poisoned pixels, the first at 299,199".into())));
        }
    }
}
