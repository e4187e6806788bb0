//! The facts that [`crate::surface::policy`] decides from: who will read a surface's content, what it can wait for, and who
//! would wait with it.

use std::time::Duration;

use smithay::reexports::wayland_server::{Resource, backend::ObjectId, protocol::wl_surface::WlSurface};

use super::Compositor;
use crate::{
    buffer::ClientBuffer,
    fence::sync_file::SyncFile,
    render::{Renderer, live::NativeWait},
    shell::tree,
    surface::policy::{Acquire, Deadline, Facts, Standing, Verdict},
    wayland::{ClientState, commit::with_sync},
};

/// Who waits for acquire fences.
#[derive(Debug)]
pub(super) struct Rule {
    acquire: Acquire,
    gpu: NativeWait,
}

impl Rule {
    pub(super) fn new(acquire: Acquire, renderer: &mut Renderer) -> Self {
        Self { acquire, gpu: renderer.native_wait() }
    }
}

/// Whose content can be seen in a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Audience {
    /// Nobody's.
    #[default]
    Nobody,
    /// That of the tree with this root.
    One(ObjectId),
    /// That of several, or the pointer's image.
    Many,
}

impl Audience {
    /// Adds a tree of which something can be seen.
    pub(super) fn add(&mut self, root: &ObjectId) {
        match self {
            Self::Nobody => *self = Self::One(root.clone()),
            Self::One(one) if one == root => {}
            Self::One(_) | Self::Many => *self = Self::Many,
        }
    }

    fn is_only(&self, root: &ObjectId) -> bool {
        match self {
            Self::Nobody => true,
            Self::One(one) => one == root,
            Self::Many => false,
        }
    }
}

/// Who waits for the fences of one surface, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquireState {
    /// Its client's process.
    pub pid: i32,
    /// What its fences have been like.
    pub standing: Standing,
    /// The last decision; `None` while no fence of it has pended.
    pub verdict: Option<Verdict>,
}

impl Compositor {
    /// Who waits for the fences of each surface, for people who look.
    pub fn acquire_states(&self) -> Vec<AcquireState> {
        let of = |surface: WlSurface| {
            let pid = ClientState::pid(surface.client().as_ref());
            with_sync(&surface, |sync| AcquireState {
                pid,
                standing: sync.acquiring.standing,
                verdict: sync.acquiring.verdict,
            })
        };
        self.globals.surfaces().into_iter().map(of).collect()
    }

    /// The policy that was asked for.
    pub(crate) fn acquire_policy(&self) -> Acquire {
        self.acquire.acquire
    }

    /// When the fences of a commit that is made now have to have signalled for the next refresh of an output that shows the
    /// surface; `None` if none does.
    pub(crate) fn acquire_deadline(&self, surface: &WlSurface, now: Duration) -> Option<Deadline> {
        let shown = self.screens.iter().filter(|(_, screen)| screen.shows(surface));
        let deadlines = shown.filter_map(|(_, screen)| {
            Some(Deadline { at: screen.machine.signal_by(now)?, refresh: screen.head.refresh() })
        });
        deadlines.min_by_key(|deadline| deadline.at)
    }

    /// What is to be known to decide who waits for these fences, which are live.
    pub(crate) fn acquire_facts(
        &self,
        surface: &WlSurface,
        buffer: &ClientBuffer,
        fences: &[SyncFile],
        now: Duration,
    ) -> Facts {
        // Of a fence that has signalled meanwhile the kernel may no longer say whose it was.
        let pending =
            |info: crate::sys::sync_file::Info| info.fences.into_iter().filter(|fence| fence.status == 0);
        let drivers: Option<Vec<_>> = fences.iter().map(|fence| fence.info().ok().map(pending)).collect();
        let drivers: Option<Vec<_>> =
            drivers.map(|infos| infos.into_iter().flatten().map(|fence| fence.driver).collect());
        let names = || drivers.iter().flatten().map(String::as_str);
        let gpu_reads = match buffer {
            ClientBuffer::Dmabuf(client) => !self.renderer.is_uploaded(&client.dmabuf),
            ClientBuffer::Shm(_) | ClientBuffer::Pixel(_) => false,
        };
        let gpu = &self.acquire.gpu;
        Facts {
            consumer_can_wait: gpu_reads && drivers.is_some() && gpu.can_wait_for(names()),
            is_gpu: drivers.is_some() && gpu.is_gpu(names()),
            alone: self.is_alone(surface),
            deadline: self.acquire_deadline(surface, now),
        }
    }

    /// Whether nobody else would wait for the GPU: it draws for all outputs, one frame after the other.
    fn is_alone(&self, surface: &WlSurface) -> bool {
        let root = tree::root(surface).id();
        self.screens.iter().all(|(_, screen)| screen.audience.is_only(&root))
    }
}
