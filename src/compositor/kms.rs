//! A session on KMS: the device that shows, and the one that draws, which may be another.
//!
//! Owns both, and the choice of how a picture gets from one to the other.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use smithay::backend::{
    drm::{DrmNode, NodeType},
    session::libseat::LibSeatSession,
};

use super::backend::Error;
use crate::{
    errors::chain,
    input::libinput::Devices,
    output::{
        display::Info,
        kms::{device::Device, head::Drawing, modes::ModeRequest, proposal::Proposal as KmsProposal},
        proposal::Proposal,
    },
    render::{self, Renderer},
};

/// How a picture gets from the device that draws it to the one that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// They are one.
    Same,
    /// In linear buffers of the drawing device: the other reads them in place, after the drawing's live fence.
    Shared,
    /// By the processor, when the drawing is done: what the drawing device writes does not reach memory that others read.
    Copied,
}

/// The session and its devices.
#[derive(Debug)]
pub(super) struct Kms {
    pub(super) session: LibSeatSession,
    pub(super) device: Rc<Device>,
    pub(super) input: Option<Devices>,
    /// The device that draws, if it is another.
    render_device: Option<PathBuf>,
    way: Way,
}

impl Kms {
    pub(super) fn new(session: LibSeatSession, device: Rc<Device>, render_device: Option<&Path>) -> Self {
        let render_device = render_device.filter(|node| !is_same(&device, node)).map(Path::to_owned);
        Self { session, device, input: None, render_device, way: Way::Same }
    }

    /// The renderer on the device that draws.
    pub(super) fn renderer(&mut self) -> Result<Renderer, render::Error> {
        let Some(node) = &self.render_device else {
            let gbm = self.device.gbm().map_err(|error| render::Error::Setup {
                on: self.device.node().display().to_string(),
                reason: error.to_string(),
            })?;
            return Renderer::on_device(gbm.clone(), self.device.node());
        };
        let mut renderer = Renderer::on_node(node)?;
        let (draws, shows) = (node.display(), self.device.node().display());
        self.way = match renderer.shares_memory() {
            Ok(()) => {
                tracing::info!("{draws} draws what {shows} shows, in buffers that both use");
                Way::Shared
            }
            Err(why) => {
                tracing::info!("{draws} draws what {shows} shows, and the processor copies it: {why}");
                Way::Copied
            }
        };
        Ok(renderer)
    }

    /// Whether the processor copies every picture.
    pub(super) fn copies(&self) -> bool {
        self.way == Way::Copied
    }

    pub(super) fn displays(&self) -> Result<Vec<Info>, Error> {
        let connected = self.device.connected().map_err(|error| Error::Dark {
            device: self.device.node().display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(connected.iter().map(|display| Info::of_connector(&display.connector)).collect())
    }

    pub(super) fn propose(
        &self,
        renderer: &Renderer,
        on: &[&str],
        wishes: &[(&str, ModeRequest)],
    ) -> Result<Vec<Proposal>, String> {
        let connected = self.device.connected().map_err(|error| error.to_string())?;
        let on = connected.into_iter().filter(|display| on.contains(&display.connector.name.as_str()));
        let pipes = self.device.route(on);
        let formats = renderer.render_formats();
        let propose = |&(name, mode): &(&str, ModeRequest)| {
            let pipe = pipes.iter().find(|pipe| pipe.connector.name == name);
            let pipe = pipe.ok_or_else(|| format!("no CRTC or no plane is left for {name}"))?;
            let drawing = match (self.way, renderer.gbm()) {
                (Way::Same, _) => Drawing::Render(&formats),
                (Way::Shared, Some(gbm)) => Drawing::Elsewhere(gbm, &formats),
                (Way::Shared | Way::Copied, _) => Drawing::Copy,
            };
            let proposal = KmsProposal::new(&self.device, pipe.clone(), mode, drawing);
            proposal.map(|proposal| Proposal::Kms(Box::new(proposal))).map_err(|error| chain(&error))
        };
        wishes.iter().map(propose).collect()
    }
}

/// Whether a node is one of the display device's.
fn is_same(device: &Device, node: &Path) -> bool {
    let primary = |node: DrmNode| node.node_with_type(NodeType::Primary).and_then(Result::ok).unwrap_or(node);
    let node = DrmNode::from_path(node).map(primary);
    let shows = DrmNode::from_file(device.fd()).map(primary);
    node.ok().zip(shows.ok()).is_some_and(|(node, shows)| node.dev_id() == shows.dev_id())
}
