//! Taking a device over: what others left on it, and how to turn that off.
//!
//! Whoever had the device before us, or while the session was away, may have routed displays to other CRTCs and lit planes
//! that we know nothing of. Owns the finding of it; when to look is the head's business, before a modeset.

use std::io;

use drm::control::{AtomicCommitFlags, Device as _, crtc};

use super::device::{Device, Pipe, Plane, current_crtc};
use super::props::{ConnectorProp, CrtcProp, PlaneProp, Props};
use super::request::Request;

/// Objects to turn off.
#[derive(Debug, Default)]
pub(super) struct TurnOff {
    connectors: Vec<Props<ConnectorProp>>,
    crtcs: Vec<Props<CrtcProp>>,
    planes: Vec<Props<PlaneProp>>,
}

impl TurnOff {
    /// Everything that a pipe consists of.
    pub(super) fn pipe(pipe: &Pipe) -> Self {
        Self {
            connectors: vec![pipe.connector.props.clone()],
            crtcs: vec![pipe.crtc.props.clone()],
            planes: vec![pipe.primary.props.clone()],
        }
    }

    pub(super) fn and(mut self, other: Self) -> Self {
        self.connectors.extend(other.connectors);
        self.crtcs.extend(other.crtcs);
        self.planes.extend(other.planes);
        self
    }

    pub(super) fn add_to(&self, request: &mut Request<'_>) {
        for connector in &self.connectors {
            request.set(connector, ConnectorProp::CrtcId, 0);
        }
        for crtc in &self.crtcs {
            request.set(crtc, CrtcProp::Active, 0);
            request.set(crtc, CrtcProp::ModeId, 0);
        }
        for plane in &self.planes {
            request.set(plane, PlaneProp::CrtcId, 0);
            request.set(plane, PlaneProp::FbId, 0);
        }
    }
}

impl Device {
    /// What would be in the way of lighting `pipe` and belongs to none of our heads: CRTCs that whoever had the
    /// device before us left on, and the one that drives our display instead of ours.
    ///
    /// # Errors
    /// Those of GETCRTC, GETPLANE, GETRESOURCES and OBJ_GETPROPERTIES.
    pub(super) fn strays(&self, pipe: &Pipe) -> io::Result<TurnOff> {
        let routed = self.routed()?;
        let ours = pipe.connector.props.object();
        let came_from = routed.iter().find(|(props, _)| props.object() == ours).map(|&(_, crtc)| crtc);
        let mut off = TurnOff::default();
        for crtc in self.crtcs().iter().filter(|crtc| crtc.handle != pipe.crtc.handle) {
            let claimed = self.is_claimed(crtc.handle);
            let lit = self.fd().get_crtc(crtc.handle)?.mode().is_some();
            if lit && (!claimed || came_from == Some(crtc.handle)) {
                off.crtcs.push(crtc.props.clone());
                let driven = routed.iter().filter(|(_, driven_by)| *driven_by == crtc.handle);
                off.connectors.extend(driven.map(|(connector, _)| connector.clone()));
                off.planes.extend(self.planes_on(crtc.handle)?.map(|plane| plane.props.clone()));
            }
        }
        Ok(off)
    }

    /// What others left on the CRTC of `pipe` itself: planes other than the primary, displays other than its own.
    ///
    /// # Errors
    /// Those of GETPLANE, GETRESOURCES and OBJ_GETPROPERTIES.
    pub(super) fn leftovers(&self, pipe: &Pipe) -> io::Result<TurnOff> {
        let mut off = TurnOff::default();
        for (connector, crtc) in self.routed()? {
            if crtc == pipe.crtc.handle && connector.object() != pipe.connector.props.object() {
                off.connectors.push(connector);
            }
        }
        let planes = self.planes_on(pipe.crtc.handle)?.filter(|plane| plane.handle != pipe.primary.handle);
        off.planes.extend(planes.map(|plane| plane.props.clone()));
        Ok(off)
    }

    /// Turns strays off, in a commit of its own, and blocking. With the lighting itself it could not be: a flip event
    /// is asked for on every CRTC in a request, and refused on one that is off before and after. There is no in-fence
    /// to wait for, and normally there is nothing to do.
    ///
    /// # Errors
    /// Those of DRM_IOCTL_MODE_ATOMIC.
    pub(super) fn turn_off(&self, off: &TurnOff) -> io::Result<()> {
        if off.crtcs.is_empty() {
            return Ok(());
        }
        tracing::debug!(count = off.crtcs.len(), "turning off CRTCs");
        let mut request = Request::new();
        off.add_to(&mut request);
        request.send(self.fd(), AtomicCommitFlags::ALLOW_MODESET).map(|_none_asked_for| ())
    }

    /// The planes that a CRTC shows now, whoever set that up.
    fn planes_on(&self, crtc: crtc::Handle) -> io::Result<impl Iterator<Item = &Plane>> {
        let mut shown = Vec::new();
        for plane in self.planes() {
            if self.fd().get_plane(plane.handle)?.crtc() == Some(crtc) {
                shown.push(plane);
            }
        }
        Ok(shown.into_iter())
    }

    /// The connectors that are driven by a CRTC now, whoever set that up.
    fn routed(&self) -> io::Result<Vec<(Props<ConnectorProp>, crtc::Handle)>> {
        let mut routed = Vec::new();
        for &handle in self.fd().resource_handles()?.connectors() {
            let props = Props::read(self.fd(), handle)?;
            if let Some(crtc) = current_crtc(&props) {
                routed.push((props, crtc));
            }
        }
        Ok(routed)
    }
}
