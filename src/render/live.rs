//! The fences that are handed over to the GPU: what it waits for before it reads a client's buffer.
//!
//! Owns the way from a sync_file to a wait in GL's command stream, and the knowledge of which GPUs can wait at all. Decides
//! nothing: whether a fence is handed over is `surface::policy`'s.

use std::cell::OnceCell;

use smithay::backend::{
    egl::{EGLDisplay, fence::EGLFence},
    renderer::gles::GlesError,
};

use super::{Error, Gpu, Renderer};
use crate::fence::sync_file::SyncFile;

/// A fence on its way into one pass.
#[derive(Clone, Debug)]
pub(super) struct Live {
    fence: SyncFile,
    imported: OnceCell<EGLFence>,
}

impl Live {
    pub(super) fn new(fence: SyncFile) -> Self {
        Self { fence, imported: OnceCell::new() }
    }

    /// Makes it a fence of EGL's, which takes a file descriptor and may fail.
    ///
    /// # Errors
    /// [`Error::Live`].
    pub(super) fn import(&self, display: &EGLDisplay) -> Result<(), Error> {
        if self.imported.get().is_some() {
            return Ok(());
        }
        let fd = self.fence.dup().map_err(|error| Error::Live(error.to_string()))?;
        let fence = EGLFence::import(display, fd).map_err(|error| Error::Live(error.to_string()))?;
        self.imported.get_or_init(|| fence);
        Ok(())
    }

    /// Puts the wait in front of all that GL is given from here on. It was imported before the pass began.
    pub(super) fn wait(&self, display: &EGLDisplay) -> Result<(), GlesError> {
        let waits = self.imported.get().is_some_and(|fence| {
            fence.wait(display).inspect_err(|error| tracing::error!("eglWaitSync failed: {error}")).is_ok()
        });
        if waits { Ok(()) } else { Err(GlesError::SyncInterrupted) }
    }
}

/// What the GPU waits for by itself, so that our thread goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeWait {
    /// The driver; `None` where nothing can be handed over: there is no EGL_ANDROID_native_fence_sync, or a processor
    /// draws, and would be held up itself.
    driver: Option<String>,
}

/// The fences of jobs on any GPU whose driver uses the kernel's scheduler (`drm_sched_fence_get_driver_name`).
const SCHEDULER: &str = "drm_sched";

/// Drivers that wait for foreign fences inside the submitting ioctl, in the caller's thread.
///
/// virtio_gpu: `virtio_gpu_execbuffer_ioctl` calls `dma_fence_wait` on every in-fence of another context before it queues
/// the commands (`drivers/gpu/drm/virtio/virtgpu_submit.c`); its own are in order on the host anyway.
const WAITS_IN_THREAD: &[&str] = &["virtio_gpu"];

/// What GL calls a processor that draws.
const PROCESSORS: &[&str] = &["llvmpipe", "softpipe"];

impl NativeWait {
    /// Whether the GPU can be given a fence that pends in `drivers`.
    pub fn can_wait_for<'a>(&self, mut drivers: impl Iterator<Item = &'a str>) -> bool {
        match &self.driver {
            None => false,
            Some(own) if WAITS_IN_THREAD.contains(&own.as_str()) => drivers.all(|driver| driver == own),
            Some(_) => true,
        }
    }

    /// Whether all of `drivers` are GPUs that the kernel answers for, and none has fences that a process signals.
    pub fn is_gpu<'a>(&self, mut drivers: impl Iterator<Item = &'a str>) -> bool {
        drivers.all(|driver| driver == SCHEDULER || Some(driver) == self.driver.as_deref())
    }
}

impl Renderer {
    /// What the GPU waits for: found out by making a fence.
    pub fn native_wait(&mut self) -> NativeWait {
        let Gpu { name, software, fence } = self.gpu();
        // EGL's word is of the device, and behind one that only shows pictures a processor draws.
        let software = software || PROCESSORS.iter().any(|processor| name.starts_with(processor));
        let driver = self.driver.clone().filter(|_| !software && fence.is_ok());
        NativeWait { driver }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(driver: &str) -> NativeWait {
        NativeWait { driver: Some(driver.into()) }
    }

    #[test]
    fn a_gpu_that_waits_in_our_thread_is_given_its_own_fences_only() {
        let virtio = gpu("virtio_gpu");
        assert!(virtio.can_wait_for(["virtio_gpu", "virtio_gpu"].into_iter()));
        assert!(!virtio.can_wait_for(["virtio_gpu", "vgem"].into_iter()));
        assert!(gpu("i915").can_wait_for(["i915", "vgem"].into_iter()));
        assert!(!NativeWait { driver: None }.can_wait_for(["i915"].into_iter()));
    }

    #[test]
    fn fences_that_a_process_signals_are_no_gpus() {
        assert!(gpu("i915").is_gpu(["i915", "drm_sched"].into_iter()));
        assert!(!gpu("i915").is_gpu(["i915", "sw_sync"].into_iter()));
        assert!(!gpu("i915").is_gpu(["vgem"].into_iter()));
    }
}
