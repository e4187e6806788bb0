//! One output: its head, its frame machine, its canvas, and what the frame in flight will present.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use calloop::RegistrationToken;
use smithay::{
    output::Output,
    reexports::wayland_server::{
        DisplayHandle, Resource, Weak,
        backend::{GlobalId, ObjectId},
        protocol::wl_surface::WlSurface,
    },
    utils::{Logical, Point, Rectangle, Transform},
    wayland::presentation::PresentationFeedbackCallback,
};

use super::{
    Compositor, acquire::Audience, advice::Advised, kept::Kept, scene::Scene, watchdog::Awaited,
    writeback::Pictures,
};
use crate::{
    fence::roles::RenderFence,
    output::{
        Head,
        display::{Scale, Settings},
        frame::{FrameMachine, State},
        turn::Mount,
        vsync::Vrr,
    },
    render::Canvas,
    trace::{self, FrameNumber},
    wayland::capture::Job,
};

/// One output.
#[derive(Debug)]
pub struct Screen {
    /// Its number in the trace.
    pub number: u32,
    /// The frame that was latched last, and that is in flight if one is, in the trace.
    pub(super) frame: FrameNumber,
    /// The frame that was committed last, in the trace.
    pub(super) committed: FrameNumber,
    /// As clients see it.
    pub output: Output,
    /// When it latches.
    pub machine: FrameMachine,
    /// Where its frames go.
    pub head: Head,
    /// What it has shown, for damage.
    pub canvas: Canvas,
    /// What the pointer's plane has shown.
    pub pointer_canvas: Option<Canvas>,
    /// Everything is composed, the pointer too.
    pub no_planes: bool,
    /// When the display waits for frames, if it can.
    pub(super) vrr: Vrr,
    /// A client that fills the output may have its frames shown in the middle of a refresh.
    pub(super) tearing: bool,
    /// Whose clients were told which buffers would be scanned out.
    pub advised: Advised,
    /// The surfaces whose own buffers the newest frame shows.
    pub scanned_out: Vec<WlSurface>,
    /// The frame machine's timer.
    pub timer: Option<RegistrationToken>,
    /// It was due when it was armed.
    pub(super) is_due: bool,
    /// Whether a watchdog is set on the commit in flight, or was on an earlier one and has yet to look.
    pub watched: bool,
    /// It is a window that the parent has asked for no frame for some time.
    pub(super) unseen: bool,
    /// What the frame in flight was handed to the driver with.
    pub(super) awaited: Awaited,
    /// How often in a row the kernel took no commit because the device is another process's at the moment.
    pub(super) regaining: u32,
    /// Who is told when the frame in flight is on the screen.
    /// The flag says whether the display reads the surface's own buffer.
    pub in_flight: Vec<(PresentationFeedbackCallback, bool)>,
    /// Whose content the frame in flight shows for the first time.
    pub presenting: Vec<Weak<WlSurface>>,
    /// Where the pictures that KMS has scanned out are written, if anywhere.
    pub pictures: Option<Pictures>,
    /// The frames that it has shown, and the one in flight.
    pub frames: u64,
    /// The pictures that clients wait for with the next frame.
    pub(super) captures: Vec<Job>,
    /// Its `wl_output` global.
    pub global: GlobalId,
    /// Whether it is on; one that is off keeps its place and commits nothing.
    pub powered: bool,
    /// The pass in flight.
    pub(super) rendering: Option<RenderFence>,
    /// When the commit in flight was begun.
    pub(super) committed_at: Duration,
    /// Whose content its last frame shows.
    pub(super) audience: Audience,
    /// The scene of its last frame.
    pub(super) kept: Kept,
    /// The surfaces of the pointer's image in its last frame.
    pointer_surfaces: Vec<WlSurface>,
    /// The surfaces that were told that they are on this output.
    entered: HashMap<ObjectId, Weak<WlSurface>>,
    /// Those of them that it paces.
    paced: HashSet<ObjectId>,
}

impl Screen {
    /// An output that is dark until its machine is resumed.
    pub fn new(output: Output, display: &DisplayHandle, machine: FrameMachine, head: Head) -> Self {
        let canvas = Canvas::new(head.mode().size, 1.0, Transform::Normal);
        Self {
            number: trace::output(head.name(), head.refresh()),
            frame: 0,
            committed: 0,
            global: output.create_global::<Compositor>(display),
            powered: true,
            output,
            machine,
            head,
            canvas,
            pointer_canvas: None,
            no_planes: false,
            vrr: Vrr::Off,
            tearing: false,
            advised: Advised::default(),
            scanned_out: Vec::new(),
            timer: None,
            is_due: false,
            watched: false,
            unseen: false,
            awaited: Awaited::default(),
            regaining: 0,
            in_flight: Vec::new(),
            presenting: Vec::new(),
            pictures: None,
            frames: 0,
            captures: Vec::new(),
            rendering: None,
            committed_at: Duration::ZERO,
            audience: Audience::default(),
            kept: Kept::default(),
            pointer_surfaces: Vec::new(),
            entered: HashMap::new(),
            paced: HashSet::new(),
        }
    }

    /// Its place in the global coordinate space.
    pub fn area(&self) -> Rectangle<i32, Logical> {
        let mode = self.output.current_mode().map(|mode| mode.size).unwrap_or_default();
        let size = self.output.current_transform().transform_size(mode);
        let logical = size.to_f64().to_logical(self.output.current_scale().fractional_scale()).to_i32_round();
        Rectangle::new(self.output.current_location(), logical)
    }

    /// How its surfaces lie in the pixels of its mode.
    pub(super) fn mount(&self) -> Mount {
        Mount::new(self.head.mode().size, self.output.current_transform())
    }

    /// Makes the output what its head is now and its settings say, with this scale, at this place. What has not changed is
    /// not told.
    pub fn configure(&mut self, settings: &Settings, scale: Scale, at: Point<i32, Logical>) {
        let (mode, number) = (self.head.mode(), scale.get());
        let output = &self.output;
        let new_mode = (output.current_mode() != Some(mode)).then_some(mode);
        let new_transform = (output.current_transform() != settings.transform).then_some(settings.transform);
        let new_scale = (output.current_scale().fractional_scale() != number).then(|| scale.for_clients());
        let new_place = (output.current_location() != at).then_some(at);
        if new_mode.is_some() || new_transform.is_some() || new_scale.is_some() || new_place.is_some() {
            output.change_current_state(new_mode, new_transform, new_scale, new_place);
        }
        if !self.canvas.is_for(mode.size, number, settings.transform) {
            self.canvas = Canvas::new(mode.size, number, settings.transform);
            // Clients' buffers were made for what it was; they are told so.
            self.captures.clear();
        }
        (self.vrr, self.tearing) = (settings.vrr, settings.tearing);
        self.forget_scene();
        self.machine.set_refresh(self.head.refresh());
    }

    /// The GPU context is lost, and with it what was drawn in it.
    pub fn lose_drawings(&mut self) {
        self.canvas.lose();
        self.forget_scene();
        self.pointer_canvas = None;
    }

    /// Whether the surface was on this output in its last frame.
    pub fn shows(&self, surface: &WlSurface) -> bool {
        self.entered.contains_key(&surface.id())
    }

    /// Whether this output paces the surface: shows most of it, some of it could be seen in the last frame, and frames go
    /// on.
    pub fn paces(&self, surface: &WlSurface) -> bool {
        !self.unseen && !matches!(self.machine.state(), State::Off { .. }) && self.is_paced(surface)
    }

    /// Whether it shows most of the surface, and some of it could be seen in the last frame.
    pub(super) fn is_paced(&self, surface: &WlSurface) -> bool {
        self.paced.contains(&surface.id())
    }

    /// Whether it was one of the pointer's image in the last frame.
    pub(super) fn points_with(&self, surface: &WlSurface) -> bool {
        self.pointer_surfaces.contains(surface)
    }

    /// Takes note of the surfaces of a frame, and of those that it paces. Tells those that came to this output or left it,
    /// and returns them.
    pub(super) fn set_shown(&mut self, scene: &Scene) -> Vec<WlSurface> {
        if !scene.is_new && scene.of_pointer() == self.pointer_surfaces {
            return Vec::new();
        }
        self.pointer_surfaces = scene.of_pointer().to_vec();
        self.paced = scene.paced().map(Resource::id).collect();
        let mut moved = Vec::new();
        let now: HashMap<_, _> =
            scene.surfaces().map(|surface| (surface.id(), surface.downgrade())).collect();
        for surface in scene.surfaces().filter(|surface| !self.entered.contains_key(&surface.id())) {
            self.output.enter(surface);
            moved.push(surface.clone());
        }
        for (_, gone) in self.entered.iter().filter(|(id, _)| !now.contains_key(id)) {
            if let Ok(surface) = gone.upgrade() {
                self.output.leave(&surface);
                moved.push(surface);
            }
        }
        self.entered = now;
        moved
    }

    /// When the pass in flight ended; `None` if it has not, or nobody can say.
    pub fn pass_ended_at(&self) -> Option<Duration> {
        let fence = self.rendering.as_ref()?;
        fence.as_consumer().signalled_at_ns().ok().flatten().map(Duration::from_nanos)
    }

    /// A flip at this time. It was held until the pass in flight had ended, which saves its releases a look; unless it is
    /// an older one, of a commit that was given up, or what a parent says of a frame, which may be said before.
    pub fn pass_flipped(&mut self, at: Duration) {
        if let Some(fence) = self.rendering.take()
            && at > self.committed_at
            && !matches!(self.head, Head::Nested(_))
        {
            fence.flipped();
        }
    }

    /// A surface is gone.
    pub fn forget(&mut self, surface: &WlSurface) {
        self.entered.remove(&surface.id());
        self.paced.remove(&surface.id());
        self.output.leave(surface);
    }
}
