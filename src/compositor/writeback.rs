//! What was shown, for tests: `--writeback` hands what KMS has scanned out to a file, and a headless output can be read.
//!
//! Owns the stream's format. Blocks when its reader is slow: every picture counts, and this is no mode to work in.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use super::{Compositor, Screen, backend};
use crate::output::{Head, kms::writeback::Writeback};

/// Where pictures go.
#[derive(Debug)]
pub struct Pictures {
    file: File,
    pixels: Vec<u8>,
    lost: u64,
}

impl Pictures {
    /// Writes every picture that is finished, oldest first.
    fn write(&mut self, writeback: &mut Writeback) -> io::Result<()> {
        while let Some(capture) = writeback.take() {
            capture.read(&mut self.pixels)?;
            let (width, height) = capture.size();
            self.file.write_all(&capture.number().to_le_bytes())?;
            self.file.write_all(&width.to_le_bytes())?;
            self.file.write_all(&height.to_le_bytes())?;
            self.file.write_all(&self.pixels)?;
        }
        if writeback.lost() > self.lost {
            self.lost = writeback.lost();
            tracing::warn!("{} commits have no picture", self.lost);
        }
        Ok(())
    }
}

impl Compositor {
    /// Writes the pictures of the first output to `path` from now on.
    pub(super) fn write_back_to(&mut self, path: &Path) -> Result<(), backend::Error> {
        let error = |reason: String| backend::Error::Writeback { file: path.display().to_string(), reason };
        let screen = self.screens.iter_mut().next();
        let Some((_, screen)) = screen else { return Err(error("there is no output".into())) };
        match &mut screen.head {
            Head::Kms(head) => head.enable_writeback().map_err(|reason| error(reason.to_string()))?,
            Head::Headless(_) | Head::Nested(_) => {
                return Err(error("only displays of KMS scan something out".into()));
            }
        }
        let file = File::options().write(true).create(true).truncate(true).open(path);
        let file = file.map_err(|reason| error(reason.to_string()))?;
        screen.pictures = Some(Pictures { file, pixels: Vec::new(), lost: 0 });
        Ok(())
    }
}

impl Compositor {
    /// What was last drawn for a headless output that is the only one: XRGB8888 rows. `None` if nothing was.
    #[doc(hidden)]
    pub fn picture(&mut self) -> Option<Vec<u8>> {
        let (_, screen) = self.screens.iter_mut().next()?;
        let mut pixels = Vec::new();
        let read = self.renderer.read(&mut screen.canvas, |_, row| {
            pixels.extend_from_slice(row);
            Ok(())
        });
        read.is_ok().then_some(pixels).filter(|pixels| !pixels.is_empty())
    }
}

impl Screen {
    /// Writes the pictures that are finished, if they are wanted.
    pub(super) fn write_back(&mut self) {
        let (Some(pictures), Head::Kms(head)) = (&mut self.pictures, &mut self.head) else { return };
        let Some(writeback) = head.writeback() else { return };
        if let Err(error) = pictures.write(writeback) {
            tracing::warn!("pictures are no longer written back: {error}");
            self.pictures = None;
        }
    }
}
