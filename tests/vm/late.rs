//! Fences of three kernel drivers that are pending until a test, or the GPU, is done.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use drm::buffer::{Buffer, DrmFourcc};
use drm::control::Device as _;
use fencepost::fence::sync_file::SyncFile;
use fencepost::fence::{Fence, Status};
use fencepost::sys::dma_buf::{self, Access};
use fencepost::sys::{self, sw_sync, vgem};
use smithay::backend::allocator::gbm::GbmDevice;
use smithay::backend::egl::EGLContext;
use smithay::backend::renderer::gles::{GlesPixelProgram, GlesRenderer, GlesTexture};
use smithay::backend::renderer::sync::SyncPoint;
use smithay::backend::renderer::{Bind, Frame, Offscreen, Renderer};
use smithay::utils::{Rectangle, Transform};

use crate::fences::{Card, RENDER_NODE, vgem_card};
use crate::harness::modprobe;

/// Whose fence it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Signals when told to.
    SwSync,
    /// Signals when told to, or after 10 s.
    Vgem,
    /// Work for the GPU: signals when that is done.
    Virgl,
}

/// Those whose fences signal when told to.
pub(crate) const BY_HAND: [Driver; 2] = [Driver::SwSync, Driver::Vgem];
pub(crate) const ALL: [Driver; 3] = [Driver::SwSync, Driver::Vgem, Driver::Virgl];

/// How long the GPU works for one fence, at least.
const WORK: Duration = Duration::from_millis(150);
/// How many times as much it works whenever that was over before anyone looked. At first it is only tried again: the machine may
/// have stood still.
pub(crate) const AGAIN: [u32; 5] = [1, 1, 2, 2, 4];
/// The side of the square that it works on, in pixels.
const SIDE: i32 = 512;

/// A fence that is pending, and the means to signal it.
pub(crate) struct Late {
    pub(crate) fence: SyncFile,
    keep: Keep,
}

enum Keep {
    SwSync(OwnedFd),
    Vgem(Rc<Card>, u32),
    Virgl,
}

impl Late {
    /// Signals it, or waits until the GPU has. On a slow machine a vgem fence may have ended by itself.
    pub(crate) fn signal(&self) {
        match &self.keep {
            Keep::SwSync(timeline) => sw_sync::increment(timeline.as_fd(), 1).expect("a step"),
            Keep::Vgem(card, fence) => {
                let signal = vgem::signal_fence(card.as_fd(), *fence);
                assert!(signal.is_ok() || !self.is_pending(), "{signal:?}");
            }
            Keep::Virgl => self.fence.wait().expect("a wait"),
        }
        assert_eq!(self.fence.status(), Status::Signalled);
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.fence.status() == Status::Pending
    }

    /// When it signalled, on CLOCK_MONOTONIC.
    pub(crate) fn at(&self) -> Duration {
        let at = self.fence.signalled_at_ns().expect("its times").expect("it has signalled");
        Duration::from_nanos(at)
    }
}

/// Makes late fences.
pub(crate) struct Source {
    card: Rc<Card>,
    gpu: Option<Gpu>,
}

impl Source {
    pub(crate) fn new() -> Self {
        modprobe("sw_sync");
        modprobe("vgem");
        Self { card: Rc::new(vgem_card()), gpu: None }
    }

    pub(crate) fn late(&mut self, driver: Driver) -> Late {
        match driver {
            Driver::SwSync => {
                let timeline = sw_sync::open_timeline().expect("a sw_sync timeline");
                let fence = sw_sync::create_fence(timeline.as_fd(), 1).expect("a sw_sync fence");
                Late { fence: SyncFile::from_kernel(fence), keep: Keep::SwSync(timeline) }
            }
            Driver::Vgem => {
                let (fence, id) = vgem_fence(&self.card);
                Late { fence, keep: Keep::Vgem(Rc::clone(&self.card), id) }
            }
            Driver::Virgl => {
                let fence = self.gpu.get_or_insert_with(Gpu::new).work();
                Late { fence, keep: Keep::Virgl }
            }
        }
    }
}

/// A fence in a buffer of its own, taken out of it.
fn vgem_fence(card: &Card) -> (SyncFile, u32) {
    let buffer = card.create_dumb_buffer((64, 64), DrmFourcc::Xrgb8888, 32).expect("a dumb buffer");
    let fd = card.buffer_to_prime_fd(buffer.handle(), drm::CLOEXEC | drm::RDWR).expect("PRIME export");
    let id = vgem::attach_fence(card.as_fd(), buffer.handle().into(), Access::Write).expect("attach");
    let fence = dma_buf::export_sync_file(fd.as_fd(), Access::Read).expect("export");
    card.destroy_dumb_buffer(buffer).expect("destroy");
    (SyncFile::from_kernel(fence), id)
}

/// A GL context of the test, and work for it.
pub(crate) struct Gpu {
    renderer: GlesRenderer,
    target: GlesTexture,
    program: GlesPixelProgram,
    passes: u32,
}

impl Gpu {
    pub(crate) fn new() -> Self {
        let node = File::options().read(true).write(true).open(RENDER_NODE).expect("the render node");
        let display = sys::egl::display(GbmDevice::new(node).expect("GBM")).expect("EGL");
        let mut renderer = sys::egl::gles(EGLContext::new(&display).expect("a context")).expect("GLES");
        let shader = include_str!("../../shaders/busy.frag");
        let program = renderer.compile_custom_pixel_shader(shader, &[]).expect("a shader");
        let target = renderer.create_buffer(DrmFourcc::Abgr8888, (SIDE, SIDE).into()).expect("a texture");
        let mut gpu = Self { renderer, target, program, passes: 1 };
        gpu.paint().wait().expect("a wait");
        // The shortest: a machine that stands still meanwhile makes any work look long.
        while (0..3).map(|_| gpu.time()).min() < Some(WORK) {
            gpu.passes *= 2;
        }
        gpu
    }

    fn time(&mut self) -> Duration {
        let point = self.paint();
        // What it costs the processor to ask for it is not the GPU's work.
        let start = Instant::now();
        point.wait().expect("a wait");
        start.elapsed()
    }

    fn paint(&mut self) -> SyncPoint {
        let mut target = self.renderer.bind(&mut self.target).expect("bind");
        let side = (SIDE, SIDE);
        let mut frame = self.renderer.render(&mut target, side.into(), Transform::Normal).expect("a frame");
        for _ in 0..self.passes {
            frame
                .render_pixel_shader_to(
                    &self.program,
                    Rectangle::from_size(side.into()).to_f64(),
                    Rectangle::from_size(side.into()),
                    side.into(),
                    None,
                    1.0,
                    &[],
                )
                .expect("a pass");
        }
        frame.finish().expect("the end of a frame")
    }

    /// The fence of so many pieces of work, which are done in order.
    pub(crate) fn work_of(&mut self, pieces: u32) -> SyncFile {
        (0..pieces).map(|_| self.work()).last().expect("some work")
    }

    /// The fence of work that takes the GPU a while.
    pub(crate) fn work(&mut self) -> SyncFile {
        let fd = self.paint().export().expect("native fences: is this virgl?");
        SyncFile::from_fd(fd).expect("a sync_file")
    }
}

#[test]
fn the_fences_of_all_drivers_are_pending_at_first_and_signal_in_the_end() {
    let mut source = Source::new();
    for driver in ALL {
        let late = source.late(driver);
        assert!(late.is_pending(), "{driver:?}");
        late.signal();
        assert!(late.at() > Duration::ZERO, "{driver:?}");
    }
}
