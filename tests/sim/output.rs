//! One output of the model: the real frame machine, on a simulated CRTC.
//!
//! Does what `compositor/latch.rs` and `compositor/screen.rs` do, in the same order: gather, draw, leave the fences on
//! the leases, commit, tell the machine.

use std::time::Duration;

use fencepost::buffer::lease::Consumer;
use fencepost::output::frame::{Action, FrameMachine, Outcome, State};
use fencepost::output::schedule::next_refresh;

use crate::action::Fault;
use crate::checker::{Broken, Checked, CommitNo, Invariant, OutputReport, Reader};
use crate::kernel::{Commit, SimFence};
use crate::model::{Lease, Model};

pub(crate) const REFRESH: Duration = Duration::from_millis(16);

/// More flips on the grid than it takes for them to be counted on.
const MANY: u32 = 20;

/// A machine whose output has flipped on the grid of whole refreshes until `now`, and is off.
fn steady(now: Duration) -> FrameMachine {
    let mut machine = FrameMachine::new(REFRESH);
    let next = next_refresh(now, Some(Duration::ZERO), REFRESH);
    for before in (1..=MANY).rev() {
        let flip = next - REFRESH * before;
        let begun = flip - Duration::from_millis(1);
        let wanted = machine.resume(begun).or_else(|| machine.damaged(begun));
        assert_eq!(wanted, Some(Action::ArmTimer(begun)));
        assert!(matches!(machine.timer(begun), Some(Action::Latch { .. })));
        let ended = machine.latched(Outcome::Submitted, begun).or_else(|| machine.flipped(flip, flip));
        assert_eq!(ended, None);
    }
    assert_eq!(machine.pause(), None);
    machine
}

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) machine: FrameMachine,
    pub(crate) timer: Option<Duration>,
    pub(crate) plugged: bool,
    pub(crate) paused: bool,
    /// Put a surface that is alone on a plane instead of drawing it.
    pub(crate) direct: bool,
    /// What becomes of the next commit, if not what should.
    pub(crate) refuse: Option<Outcome>,
    /// The leases on what is on its planes, or will be with the flip in flight.
    planes: Vec<(CommitNo, Lease)>,
    /// What it showed last, to tell whether there is anything to draw.
    last: Option<Vec<CommitNo>>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self {
            machine: FrameMachine::new(REFRESH),
            timer: None,
            plugged: false,
            paused: false,
            direct: false,
            refuse: None,
            planes: Vec::new(),
            last: None,
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.plugged && !self.paused
    }

    pub(crate) fn in_flight(&self) -> bool {
        matches!(self.machine.state(), State::InFlight { .. } | State::Off { in_flight: Some(_) })
    }

    fn report(&self) -> OutputReport {
        OutputReport {
            timer: self.timer.is_some(),
            latching: matches!(self.machine.state(), State::Latching { .. }),
        }
    }
}

/// A frame, before it is drawn.
#[derive(Default)]
struct Scene {
    commits: Vec<CommitNo>,
    leases: Vec<(CommitNo, Lease)>,
    /// The acquire fences that are not done.
    late: Vec<SimFence>,
}

impl Model {
    /// Performs what a frame machine asks for.
    pub(crate) fn perform(&mut self, index: usize, action: Option<Action>) -> Checked {
        let mut next = action;
        while let Some(action) = next.take() {
            match action {
                Action::ArmTimer(at) => {
                    let output = &mut self.outputs[index];
                    let refresh = next_refresh(self.now, Some(Duration::ZERO), REFRESH);
                    let waits = at > self.now && at + output.machine.pace().lead() == refresh;
                    self.coverage.last_moment += u64::from(waits);
                    output.timer = Some(at);
                }
                Action::DisarmTimer => self.outputs[index].timer = None,
                Action::Latch { callbacks } => next = self.latch(index, callbacks)?,
            }
        }
        Ok(())
    }

    /// Tells the outputs that show a surface of a change, or of a wish for a callback.
    pub(crate) fn tell_outputs(&mut self, mask: u32, changed: bool) -> Checked {
        for index in 0..self.outputs.len() {
            if mask & (1 << index) == 0 || !self.outputs[index].plugged {
                continue;
            }
            if changed {
                self.checker.damaged(index);
            } else {
                self.checker.asked(index);
            }
            if self.fault == Some(Fault::MissedDamage) {
                continue;
            }
            let machine = &mut self.outputs[index].machine;
            let action = match changed {
                true => machine.damaged(self.now),
                false => machine.callback_wanted(self.now),
            };
            self.perform(index, action)?;
        }
        Ok(())
    }

    fn scene(&mut self, index: usize, direct: bool) -> Checked<Scene> {
        let mut scene = Scene::default();
        for surface in self.surfaces.iter_mut().flatten().filter(|s| s.outputs & (1 << index) != 0) {
            let Some(picture) = &mut surface.picture else { continue };
            scene.commits.push(picture.no);
            if surface.copied
                && !direct
                && let Some(lease) = picture.lease.take()
            {
                // As the renderer does with what it cannot import: copied at once, and given back.
                self.checker.read_begins(picture.no, Reader::Cpu, &[])?;
                self.checker.read_ends(picture.no, Reader::Cpu);
                drop(lease);
            }
            scene.leases.extend(picture.lease.clone().map(|lease| (picture.no, lease)));
            if !picture.acquire.is_done() && self.fault != Some(Fault::EarlySample) {
                scene.late.push(picture.acquire.clone());
            }
        }
        Ok(scene)
    }

    fn latch(&mut self, index: usize, callbacks: bool) -> Checked<Option<Action>> {
        self.coverage.latches += 1;
        self.checker.latched(index, callbacks)?;
        let on_it = |surface: &&mut crate::model::Surface| surface.outputs & (1 << index) != 0;
        let alone = self.surfaces.iter_mut().flatten().filter(on_it).filter(|s| s.picture.is_some()).count();
        let direct = self.outputs[index].direct
            && alone == 1
            && self.surfaces.iter().flatten().any(|s| {
                s.outputs & (1 << index) != 0 && s.picture.as_ref().is_some_and(|p| p.lease.is_some())
            });
        let scene = self.scene(index, direct)?;
        let outcome = match self.outputs[index].last.as_ref() == Some(&scene.commits) {
            true => Outcome::NothingToDraw,
            false => self.draw(index, scene, direct)?,
        };
        let mut action = self.outputs[index].machine.latched(outcome, self.now);
        self.checker.in_flight(index, outcome == Outcome::Submitted);
        match outcome {
            Outcome::Retry => self.checker.damaged(index),
            Outcome::Lost => {
                self.outputs[index].paused = true;
                self.checker.output_on(index, false);
            }
            Outcome::Submitted | Outcome::NothingToDraw => {}
        }
        let waiting = self.surfaces.iter_mut().flatten().filter(|surface| {
            surface.outputs & (1 << index) != 0 && surface.picture.is_some() && surface.wants_frame
        });
        if callbacks {
            waiting.for_each(|surface| surface.wants_frame = false);
        } else if waiting.count() > 0 {
            self.checker.asked(index);
            action = self.outputs[index].machine.callback_wanted(self.now).or(action);
        }
        if self.fault == Some(Fault::BusyTimer) && action.is_none() && !self.outputs[index].in_flight() {
            self.outputs[index].timer = Some(self.now + REFRESH);
        }
        Ok(action)
    }

    /// Draws, or puts on a plane, and commits.
    fn draw(&mut self, index: usize, scene: Scene, direct: bool) -> Checked<Outcome> {
        let mut commit = Commit::default();
        let mut planes = Vec::new();
        if direct {
            self.coverage.direct += 1;
            commit.planes = scene.commits.clone();
            commit.in_fences = scene.late;
            planes = scene.leases;
            if self.fault == Some(Fault::NoPlaneFence) {
                commit.in_fences.clear();
            }
        } else {
            let reads = scene.leases.iter().map(|(no, _)| *no).collect();
            let pass = self.kernel.submit(reads, scene.late, &mut self.checker)?;
            for (_, lease) in &scene.leases {
                if self.fault != Some(Fault::ForgottenReader) {
                    lease.used_until(Consumer::Renderer, pass.clone());
                }
            }
            if self.fault != Some(Fault::NoRenderFence) {
                commit.in_fences.push(pass.clone());
            }
            commit.pass = Some(pass);
        }
        if let Some(refused) = self.outputs[index].refuse.take() {
            self.coverage.refused += 1;
            self.outputs[index].last = None;
            return Ok(refused);
        }
        let Ok(out_fence) = self.kernel.commit(index, commit, &mut self.checker)? else {
            return Err(Broken { invariant: Invariant::I8, what: "a second commit in flight".to_owned() });
        };
        let output = &mut self.outputs[index];
        for (no, lease) in std::mem::replace(&mut output.planes, planes) {
            let stays = output.planes.iter().any(|(new, _)| *new == no);
            if !stays && self.fault != Some(Fault::ReleaseAtCommit) {
                lease.used_until(Consumer::Crtc(index as u32), out_fence.clone());
            }
        }
        output.last = Some(scene.commits);
        Ok(Outcome::Submitted)
    }

    /// Lets the output's time come.
    pub(crate) fn timer(&mut self, index: usize) -> Checked<bool> {
        let Some(at) = self.outputs[index].timer.take() else { return Ok(false) };
        self.now = self.now.max(at);
        let action = self.outputs[index].machine.timer(self.now);
        self.perform(index, action)?;
        Ok(true)
    }

    /// A vblank, with the flip event if there is one.
    pub(crate) fn vblank(&mut self, index: usize) -> Checked<bool> {
        if !self.kernel.can_flip(index) {
            return Ok(false);
        }
        if self.steady {
            self.now = next_refresh(self.now, Some(Duration::ZERO), REFRESH);
        }
        self.kernel.flip(index, &mut self.checker)?;
        self.coverage.flips += 1;
        self.checker.in_flight(index, false);
        let action = self.outputs[index].machine.flipped(self.now, self.now);
        self.perform(index, action)?;
        Ok(true)
    }

    pub(crate) fn plug(&mut self, index: usize) -> Checked<bool> {
        if self.outputs[index].plugged {
            return Ok(false);
        }
        self.outputs[index] = Output { plugged: true, ..Output::new() };
        if self.steady {
            self.outputs[index].machine = steady(self.now);
        }
        self.checker.output_on(index, true);
        let action = self.outputs[index].machine.resume(self.now);
        self.perform(index, action)?;
        if self
            .surfaces
            .iter()
            .flatten()
            .any(|s| s.wants_frame && s.picture.is_some() && s.outputs & (1 << index) != 0)
        {
            self.checker.asked(index);
            let action = self.outputs[index].machine.callback_wanted(self.now);
            self.perform(index, action)?;
        }
        Ok(true)
    }

    pub(crate) fn unplug(&mut self, index: usize) -> Checked<bool> {
        if !self.outputs[index].plugged {
            return Ok(false);
        }
        let _action = self.outputs[index].machine.pause();
        self.kernel.disable(index, &mut self.checker)?;
        self.checker.output_gone(index);
        // Off, so its planes are not read any more.
        self.outputs[index] = Output::new();
        Ok(true)
    }

    pub(crate) fn pause(&mut self, index: usize) -> Checked<bool> {
        if !self.outputs[index].is_on() {
            return Ok(false);
        }
        self.outputs[index].paused = true;
        self.checker.output_on(index, false);
        let action = self.outputs[index].machine.pause();
        self.perform(index, action)?;
        Ok(true)
    }

    pub(crate) fn resume(&mut self, index: usize) -> Checked<bool> {
        let output = &mut self.outputs[index];
        if !output.plugged || !output.paused {
            return Ok(false);
        }
        (output.paused, output.last) = (false, None);
        self.checker.output_on(index, true);
        let action = self.outputs[index].machine.resume(self.now);
        self.perform(index, action)?;
        Ok(true)
    }

    pub(crate) fn check_outputs(&self) -> Checked {
        for (index, output) in self.outputs.iter().enumerate() {
            self.checker.timers(index, output.report())?;
        }
        Ok(())
    }
}
