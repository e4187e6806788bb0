//! Property blobs that are destroyed when they are dropped. A state that uses one keeps it alive in the kernel, so
//! each may go as soon as the commit is made.

use std::io;
use std::os::fd::AsFd;

use drm::control::{Device, Mode, property};
use smithay::backend::drm::DrmDeviceFd;
use smithay::utils::{Physical, Rectangle};

use crate::sys::property_blob;

/// A blob of this device.
#[derive(Debug)]
pub struct Blob {
    device: DrmDeviceFd,
    id: property::RawValue,
}

/// More rectangles than this become one around them all: drivers do no better with a long list.
const MAX_CLIPS: usize = 16;

impl Blob {
    /// A mode, for `MODE_ID`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn mode(device: &DrmDeviceFd, mode: &Mode) -> io::Result<Self> {
        match device.create_property_blob(mode)? {
            property::Value::Blob(id) => Ok(Self { device: device.clone(), id }),
            other => Err(io::Error::other(format!("a blob was created as {other:?}"))),
        }
    }

    /// Damaged rectangles of a framebuffer, for `FB_DAMAGE_CLIPS` (`struct drm_mode_rect[]`).
    ///
    /// # Errors
    /// `ENOMEM`, and `EINVAL` without a rectangle.
    pub fn clips(device: &DrmDeviceFd, damage: &[Rectangle<i32, Physical>]) -> io::Result<Self> {
        let id = property_blob::create(device.as_fd(), &clip_bytes(damage))?;
        Ok(Self { device: device.clone(), id: u64::from(id.get()) })
    }

    /// The value for a property.
    pub fn id(&self) -> property::RawValue {
        self.id
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        if let Err(error) = self.device.destroy_property_blob(self.id) {
            tracing::debug!(%error, id = self.id, "could not destroy a property blob");
        }
    }
}

fn clip_bytes(damage: &[Rectangle<i32, Physical>]) -> Vec<u8> {
    let merged;
    let rects = if damage.len() > MAX_CLIPS {
        merged = damage.iter().copied().reduce(Rectangle::merge);
        merged.as_slice()
    } else {
        damage
    };
    let ends = |start: i32, len: i32| start.saturating_add(len);
    rects
        .iter()
        .flat_map(|rect| {
            let (x, y) = (rect.loc.x, rect.loc.y);
            [x, y, ends(x, rect.size.w), ends(y, rect.size.h)]
        })
        .flat_map(i32::to_ne_bytes)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: i32, y: i32, w: i32, h: i32) -> Rectangle<i32, Physical> {
        Rectangle::new((x, y).into(), (w, h).into())
    }

    fn words(damage: &[Rectangle<i32, Physical>]) -> Vec<i32> {
        clip_bytes(damage)
            .chunks(4)
            .map(|word| i32::from_ne_bytes(word.try_into().expect("4 bytes")))
            .collect()
    }

    #[test]
    fn clips_are_corners_not_sizes() {
        assert_eq!(words(&[rect(10, 20, 30, 40), rect(0, 0, 1, 1)]), [10, 20, 40, 60, 0, 0, 1, 1]);
    }

    #[test]
    fn a_long_list_becomes_one_rectangle_around_all() {
        let many: Vec<_> = (0..17).map(|index| rect(index * 10, 5, 3, 4)).collect();
        assert_eq!(words(&many), [0, 5, 163, 9]);
        assert_eq!(words(&many[..16]).len(), 64);
    }
}
