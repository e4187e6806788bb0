//! How things are: the outputs, and every surface with its commits and what they wait for.
//!
//! Owns the bounds of what is told. Changes nothing, and asks the kernel about the fences of what it tells only.

use smithay::{
    reexports::wayland_server::{Resource, protocol::wl_surface::WlSurface},
    wayland::{compositor::with_states, shell::xdg::XdgToplevelSurfaceData},
};

use super::{OutputFacts, nanoseconds, saturated};
use crate::{
    buffer::{
        ClientBuffer,
        content::{Change, Picture},
    },
    compositor::Compositor,
    fence::{Fence, Status, roles::AcquireFence, sync_file::SyncFile},
    halves::halves,
    protocol::server::fencepost_debug_v1::{Buffer, Cause, CommitState, FencepostDebugV1, Policy},
    shell::tree,
    surface::Queued,
    trace,
    wayland::{
        ClientState,
        acquire::Wait,
        commit::{SurfaceSync, with_sync},
    },
};

/// How many surfaces a snapshot has at most.
const SURFACES: usize = 64;

/// How many queued commits it has at most, of all surfaces.
const COMMITS: usize = 128;

/// How many of them of one surface.
const COMMITS_OF_ONE: usize = 8;

/// How many causes it has of one commit.
const CAUSES: usize = 4;

/// How much of a text is told.
const TEXT: usize = 64;

/// Something that a commit waits for.
#[derive(Clone, Debug)]
struct Waiting {
    cause: Cause,
    timeline: u32,
    value: u64,
    name: String,
}

impl Waiting {
    fn of(cause: Cause) -> Self {
        Self { cause, timeline: 0, value: 0, name: String::new() }
    }

    fn fence(cause: Cause, fence: &SyncFile) -> Self {
        // Nothing but words: what the kernel does not tell is not told.
        Self { name: fence.describe().unwrap_or_default(), ..Self::of(cause) }
    }

    fn acquire(fence: &AcquireFence) -> Self {
        match fence {
            AcquireFence::Point(point) => {
                let (timeline, value) = (point.timeline().number(), point.value());
                Self { timeline, value, ..Self::of(Cause::Point) }
            }
            AcquireFence::SyncFile(fence) => Self::fence(Cause::Fence, fence),
            AcquireFence::DmaBufPoll(_) => Self::of(Cause::DmaBuf),
        }
    }

    fn send(&self, object: &FencepostDebugV1) {
        let (hi, lo) = halves(self.value);
        object.wait(self.cause, self.timeline, hi, lo, cut(&self.name));
    }
}

/// A commit, and what it waits for.
#[derive(Clone, Debug)]
struct Commit {
    number: u64,
    since: u64,
    state: CommitState,
    waits: Vec<Waiting>,
}

impl Commit {
    fn of(picture: Option<&Picture>, state: CommitState, waits: Vec<Waiting>) -> Self {
        let number = picture.map_or(0, |picture| picture.commit);
        let since = picture.map_or(0, |picture| nanoseconds(picture.committed_at));
        Self { number, since, state, waits }
    }

    fn queued(queued: &Queued<'_, Wait, Change>) -> Self {
        let pending = |wait: &&Wait| !wait.fence.status().is_done();
        let fences: Vec<_> = queued.waits.iter().filter(pending).take(CAUSES).collect();
        let picture = queued.content.and_then(|change| match change {
            Change::Attach(picture) => Some(picture),
            Change::Detach => None,
        });
        let unmaterialised = fences.iter().any(|wait| wait.fence.status() == Status::Unmaterialised);
        let state = match (fences.is_empty(), queued.open) {
            (false, _) if unmaterialised => CommitState::Unmaterialised,
            (false, _) => CommitState::Pending,
            (true, true) => CommitState::Ready,
            (true, false) => CommitState::Held,
        };
        let mut waits: Vec<_> = fences.iter().map(|wait| Waiting::acquire(&wait.fence)).collect();
        let time = queued.not_before.map(nanoseconds);
        waits.extend(time.map(|value| Waiting { value, ..Waiting::of(Cause::Time) }));
        let others = [
            (queued.held_by_barrier, Cause::Barrier),
            (queued.behind, Cause::Order),
            (queued.open, Cause::Tree),
        ];
        waits.extend(others.into_iter().filter(|(so, _)| *so).map(|(_, cause)| Waiting::of(cause)));
        Self::of(picture, state, waits)
    }

    fn send(&self, object: &FencepostDebugV1) {
        let (number, since) = (halves(self.number), halves(self.since));
        object.commit(number.0, number.1, self.state, since.0, since.1);
        self.waits.iter().for_each(|waiting| waiting.send(object));
    }
}

/// Tells how things are.
pub(super) fn send(state: &Compositor, object: &FencepostDebugV1) {
    let now = trace::now();
    let (hi, lo) = halves(nanoseconds(now));
    object.snapshot(hi, lo);
    state.output_facts(now).iter().for_each(|output| send_output(output, object));
    // The oldest first: their numbers grow.
    let mut surfaces = state.globals.surfaces();
    surfaces.sort_by_cached_key(|surface| with_sync(surface, SurfaceSync::number));
    let surfaces_left_out = surfaces.len().saturating_sub(SURFACES);
    let (mut room, mut commits_left_out) = (COMMITS, 0_usize);
    for surface in surfaces.iter().take(SURFACES) {
        let (told, queued) = send_surface(state, surface, room.min(COMMITS_OF_ONE), object);
        room = room.saturating_sub(told);
        commits_left_out = commits_left_out.saturating_add(queued.saturating_sub(told));
    }
    object.snapshot_done(saturated(surfaces_left_out as u64), saturated(commits_left_out as u64));
}

fn send_output(output: &OutputFacts, object: &FencepostDebugV1) {
    let deadline = halves(output.deadline.map_or(0, nanoseconds));
    let short = |time| saturated(nanoseconds(time));
    object.output(
        output.number,
        cut(&output.name),
        output.state,
        short(output.refresh),
        short(output.frame_time),
        short(output.margin),
        deadline.0,
        deadline.1,
        halves(output.frames).1,
        halves(output.misses).1,
    );
}

/// Tells of a surface with up to `room` queued commits; returns how many these are, and how many there are.
fn send_surface(
    state: &Compositor,
    surface: &WlSurface,
    room: usize,
    object: &FencepostDebugV1,
) -> (usize, usize) {
    let stage = state.stage_of(surface);
    let content = tree::content(surface, |content| {
        let picture = content.picture.as_ref()?;
        let state = match (stage.latched, content.fresh) {
            (true, _) => CommitState::Latched,
            (false, true) => CommitState::Applied,
            (false, false) => CommitState::Shown,
        };
        let live = picture.live.iter().filter(|fence| !fence.status().is_done());
        let waits = live.map(|fence| Waiting::fence(Cause::HandedOver, fence)).collect();
        let kind = match picture.buffer {
            ClientBuffer::Dmabuf(_) => Buffer::Dmabuf,
            ClientBuffer::Shm(_) => Buffer::Shm,
            ClientBuffer::Pixel(_) => Buffer::Pixel,
        };
        Some((Commit::of(Some(picture), state, waits), kind, picture.size))
    });
    let (number, verdict, unreleased, queued, waiting) = with_sync(surface, |sync| {
        let waiting: Vec<_> = sync.queue.queued().take(room).map(|queued| Commit::queued(&queued)).collect();
        (sync.number(), sync.acquiring.verdict, sync.unreleased(), sync.queue.len(), waiting)
    });
    let (policy, reason) = match verdict {
        None => (Policy::None, ""),
        Some(verdict) if verdict.hand_over => (Policy::HandOver, verdict.reason.name()),
        Some(verdict) => (Policy::Wait, verdict.reason.name()),
    };
    let (app_id, title, role) = names(surface);
    let pid = ClientState::pid(surface.client().as_ref());
    let (content, kind, size) =
        content.map_or((None, Buffer::None, None), |(commit, kind, size)| (Some(commit), kind, Some(size)));
    let pixels = |length: Option<i32>| length.and_then(|length| u32::try_from(length).ok()).unwrap_or(0);
    object.surface(
        number,
        pid.unsigned_abs(),
        cut(state.record.name(pid)),
        cut(&app_id),
        cut(&title),
        role.to_owned(),
        pixels(size.map(|size| size.w)),
        pixels(size.map(|size| size.h)),
        kind,
        stage.output,
        policy,
        reason.to_owned(),
        saturated(queued as u64),
        saturated(unreleased as u64),
    );
    content.iter().chain(&waiting).for_each(|commit| commit.send(object));
    (waiting.len(), queued)
}

/// The app id and the title of a toplevel, and the role of any surface.
fn names(surface: &WlSurface) -> (String, String, &'static str) {
    with_states(surface, |states| {
        let toplevel = states.data_map.get::<XdgToplevelSurfaceData>();
        let (app_id, title) = toplevel
            .and_then(|toplevel| toplevel.lock().ok())
            .map(|toplevel| (toplevel.app_id.clone(), toplevel.title.clone()))
            .unwrap_or_default();
        (app_id.unwrap_or_default(), title.unwrap_or_default(), states.role.unwrap_or_default())
    })
}

/// The beginning of a text, cut at a character.
fn cut(text: &str) -> String {
    let end = (0..=TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_a_character() {
        assert_eq!(cut("kitty"), "kitty");
        assert_eq!(cut(""), "");
        let long = "ß".repeat(TEXT);
        assert_eq!(cut(&long).len(), TEXT);
        assert_eq!(cut(&format!("a{long}")).len(), TEXT - 1);
    }
}
