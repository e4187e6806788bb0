//! What EGL on a device can, as far as fences and dma-bufs go.

use std::path::Path;

use smithay::backend::{allocator::gbm::GbmDevice, drm::DrmDeviceFd};

use super::{Finding, Group};
use crate::render::{Gpu, Renderer};

/// Opens EGL on the device.
pub(super) fn ask(fd: &DrmDeviceFd, node: &Path) -> Group {
    let mut group = Group::new("EGL");
    let renderer = GbmDevice::new(fd.clone())
        .map_err(|error| format!("no GBM: {error}"))
        .and_then(|gbm| Renderer::on_device(gbm, node).map_err(|error| error.to_string()));
    let mut renderer = match renderer {
        Ok(renderer) => renderer,
        Err(error) => {
            group.findings.push(Finding::no("OpenGL ES", error));
            return group;
        }
    };
    let Gpu { name, software, fence } = renderer.gpu();
    group.findings.push(Finding::yes("OpenGL ES", name));
    group.findings.push(Finding::present("hardware", !software));
    group.findings.push(match fence {
        Ok(()) => Finding::yes("EGL_ANDROID_native_fence_sync", "a fence was exported and imported again"),
        Err(error) => Finding::no("EGL_ANDROID_native_fence_sync", error),
    });
    let (textures, targets) = (renderer.texture_formats(), renderer.render_formats());
    let explicit = |formats: &smithay::backend::allocator::format::FormatSet| {
        formats.iter().any(|format| format.modifier != smithay::backend::allocator::Modifier::Invalid)
    };
    group.findings.push(Finding {
        name: "EGL_EXT_image_dma_buf_import_modifiers",
        can: if explicit(&textures) { super::Can::Yes } else { super::Can::No },
        seen: format!(
            "{} pairs of format and modifier to sample, {} to draw into",
            textures.iter().count(),
            targets.iter().count()
        ),
    });
    group
}
