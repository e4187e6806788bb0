//! Screen capture: from a client's [`Job`] to pixels in its buffer.
//!
//! A capture is one more consumer of what the surfaces show: its fence goes on the lease of every buffer that it has read
//! (I2), and `ready` is sent when that fence has signalled. It shows the applied contents, as the next latch would, and
//! takes nothing from that latch: no frame callback, no presentation feedback.

use smithay::{backend::allocator::Format, output::Output};

use super::{Compositor, outputs::OutputId, scene::For};
use crate::{
    buffer::lease::Consumer,
    fence::{roles::RenderFence, wait},
    render::{self, capture::Capture},
    sys, trace,
    wayland::capture::{Failure, Job, Taken, Target, When},
};

/// Why a picture was not taken; the client is told that it has failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Render(#[from] render::Error),
    #[error(transparent)]
    Write(#[from] sys::wl_shm::WriteError),
    #[error(transparent)]
    Wait(#[from] wait::WaitError),
}

impl Compositor {
    /// The formats and modifiers of dma-bufs that a picture can be drawn into.
    pub(crate) fn drawable_formats(&self) -> Vec<Format> {
        self.renderer.render_formats().into_iter().collect()
    }

    /// The device on which such dma-bufs are to be allocated.
    pub(crate) fn capture_device(&self) -> Option<u64> {
        self.renderer.device()
    }

    /// How many frames an output has shown.
    pub(crate) fn frames_shown(&self, output: &Output) -> Option<u64> {
        self.screen_of(output).and_then(|id| self.screens.get(id)).map(|screen| screen.frames)
    }

    pub(super) fn screen_of(&self, output: &Output) -> Option<OutputId> {
        self.screens.iter().find(|(_, screen)| screen.output == *output).map(|(id, _)| id)
    }

    /// Takes a picture at once, or with the output's next new frame.
    pub(crate) fn capture(&mut self, job: Job) {
        let Some(id) = self.screen_of(&job.output) else { return job.failed(Failure::Stopped) };
        let Some(screen) = self.screens.get_mut(id) else { return job.failed(Failure::Stopped) };
        match job.when {
            When::After(seen) if screen.frames <= seen => screen.captures.push(job),
            When::After(_) | When::Now => self.take_picture(id, job),
        }
    }

    /// An output has drawn a new frame: whoever waited for it gets a picture.
    pub(super) fn take_pictures(&mut self, id: OutputId) {
        let waiting = self.screens.get_mut(id).map(|screen| std::mem::take(&mut screen.captures));
        for job in waiting.unwrap_or_default() {
            self.take_picture(id, job);
        }
    }

    fn take_picture(&mut self, id: OutputId, job: Job) {
        // The dropped job tells the client.
        if let Err(error) = self.try_take_picture(id, job) {
            tracing::warn!("a picture was not taken: {error}");
        }
    }

    fn try_take_picture(&mut self, id: OutputId, mut job: Job) -> Result<(), Error> {
        if !self.gpu_is_sound() {
            return Err(render::Error::Lost.into());
        }
        let Some(mut scene) = self.scene(id, For::Picture { cursor: job.cursor }) else { return Ok(()) };
        let Some(screen) = self.screens.get_mut(id) else { return Ok(()) };
        let frame = trace::latch(screen.number);
        let picture = scene.compose(&mut self.renderer, (screen.canvas.scale(), frame), true, |_| true);
        let all: Vec<_> = (0..picture.elements.len()).collect();
        let leases = picture.leases(&all);
        let taken =
            Taken { at: trace::now(), transform: screen.output.current_transform(), frame: screen.frames };
        let used_until = |fence: &RenderFence| {
            trace::rendered(frame, Some(fence.as_consumer()));
            for lease in &leases {
                lease.used_until(Consumer::Renderer, fence.as_consumer().clone());
            }
        };
        match &mut job.target {
            Target::Dmabuf(client) => {
                let into = &mut client.dmabuf.clone();
                let fence = self.renderer.capture_into(&screen.canvas, into, &picture.elements)?;
                fence.iter().for_each(used_until);
                self.when_done(fence, move |_| job.ready(taken))
            }
            Target::Shm(_) => {
                let capture = self.renderer.capture(&mut screen.canvas, job.region, &picture.elements)?;
                capture.fence.iter().for_each(used_until);
                self.when_done(capture.fence.clone(), move |state| match state.copy_out(&capture, &job) {
                    Ok(()) => job.ready(taken),
                    Err(error) => tracing::warn!("a picture was not copied: {error}"),
                })
            }
        }
    }

    /// Calls `then` once the fence has signalled; at once without one. Until then `then` lives in the event loop, and
    /// with it the client's frame.
    fn when_done(
        &mut self,
        fence: Option<RenderFence>,
        then: impl FnOnce(&mut Self) + 'static,
    ) -> Result<(), Error> {
        match fence {
            Some(fence) => wait::wait_all(&self.handle, &[fence.as_consumer().clone()], then)?.detach(),
            None => then(self),
        }
        Ok(())
    }

    fn copy_out(&mut self, capture: &Capture, job: &Job) -> Result<(), Error> {
        let Target::Shm(buffer) = &job.target else { return Ok(()) };
        let row_len = usize::try_from(job.region.size.w).unwrap_or(0).saturating_mul(4);
        Ok(sys::wl_shm::write(buffer, row_len, self.renderer.captured(capture)?)?)
    }
}
