//! Lighting a display: the buffers that the kernel takes for it, and all that a modeset sets.
//!
//! Owns the choice, made by trying: each way to allocate buffers is tested with the kernel, best first, in a commit
//! that is not made. Keeps no state; [`super::head`] does.

use std::io;
use std::rc::Rc;

use drm::buffer::DrmFourcc as Fourcc;
use drm::control::AtomicCommitFlags;
use smithay::backend::allocator::format::FormatSet;
use smithay::backend::allocator::gbm::GbmDevice;
use smithay::backend::drm::DrmDeviceFd;

use super::blob::Blob;
use super::device::{Device, Pipe};
use super::formats;
use super::modes::{NoSuchMode, Timing};
use super::props::{ConnectorProp, CrtcProp};
use super::request::Request;
use super::stack::Shows;
use super::swapchain::{BufferError, Source, Swapchain};
use crate::output::CommitError;

/// Why a display could not be lit.
#[derive(Debug, thiserror::Error)]
pub enum LightError {
    /// No such mode.
    #[error(transparent)]
    Mode(#[from] NoSuchMode),
    /// A blob could not be made.
    #[error("Could not hand the mode to the kernel")]
    Blob(#[source] io::Error),
    /// libgbm has no back end for the device.
    #[error("Could not use the device with GBM; is Mesa installed?")]
    Gbm(#[source] io::Error),
    /// The renderer and the plane have no format in common.
    #[error("Could not find a pixel format that the renderer draws and {connector} shows")]
    NoFormat {
        /// Which display.
        connector: String,
    },
    /// No buffer of any shared format can be had.
    #[error("Could not get a buffer that {connector} shows")]
    Buffer {
        /// Which display.
        connector: String,
        /// Why.
        #[source]
        source: BufferError,
    },
    /// The kernel refuses the mode with every kind of buffer.
    #[error("Could not light {connector} with {mode}")]
    Refused {
        /// Which display.
        connector: String,
        /// With what mode.
        mode: Timing,
        /// Why.
        #[source]
        source: CommitError,
    },
}

/// How pictures get into an output's buffers.
#[derive(Clone, Copy, Debug)]
pub enum Drawing<'a> {
    /// A renderer on this device draws into dma-bufs of these formats.
    Render(&'a FormatSet),
    /// A renderer on another device, whose allocator this is, draws into linear dma-bufs of these formats.
    Elsewhere(&'a GbmDevice<DrmDeviceFd>, &'a FormatSet),
    /// The CPU copies finished pictures in.
    Copy,
}

/// An empty swapchain whose buffers the kernel would show on this pipe in this mode.
pub(super) fn swapchain(
    device: &Device,
    pipe: &Pipe,
    mode: &Blob,
    timing: Timing,
    drawing: Drawing<'_>,
) -> Result<Swapchain, LightError> {
    let size = (u32::from(timing.width), u32::from(timing.height));
    let try_source = |source| {
        let mut swapchain = Swapchain::new(device, source, size);
        test(device, pipe, mode, timing, &mut swapchain).map(|()| swapchain)
    };
    let mut refused = LightError::NoFormat { connector: pipe.connector.name.clone() };
    for source in sources(device, &formats::PREFERRED, &pipe.primary.formats, drawing)? {
        match try_source(source) {
            Ok(swapchain) => return Ok(swapchain),
            Err(error) => refused = error,
        }
    }
    match drawing {
        Drawing::Render(_) => Err(refused),
        Drawing::Elsewhere(..) | Drawing::Copy => try_source(Source::dumb(device)),
    }
}

/// The sources of buffers for the renderer to draw in and a plane with the formats given to show, best first.
pub(super) fn sources(
    device: &Device,
    preferred: &[Fourcc],
    plane: &FormatSet,
    drawing: Drawing<'_>,
) -> Result<Vec<Source>, LightError> {
    let has_modifiers = device.caps().modifiers;
    let sources: io::Result<Vec<_>> = match drawing {
        Drawing::Render(renderer) => formats::candidates(preferred, plane, renderer, has_modifiers)
            .into_iter()
            .map(|candidate| Source::gbm(device, candidate))
            .collect(),
        Drawing::Elsewhere(gbm, renderer) => formats::linear(preferred, plane, renderer)
            .into_iter()
            .map(|fourcc| Source::elsewhere(device, gbm, fourcc))
            .collect(),
        Drawing::Copy => Ok(Vec::new()),
    };
    sources.map_err(LightError::Gbm)
}

/// Whether the kernel would take the pipe with this mode and these buffers.
fn test(
    device: &Device,
    pipe: &Pipe,
    mode: &Blob,
    timing: Timing,
    swapchain: &mut Swapchain,
) -> Result<(), LightError> {
    let connector = || pipe.connector.name.clone();
    let slot = swapchain.acquire().map_err(|source| LightError::Buffer { connector: connector(), source })?;
    let off = device.strays(pipe).and_then(|strays| Ok(strays.and(device.leftovers(pipe)?)));
    let result = off.and_then(|off| {
        let mut request = Request::new();
        off.add_to(&mut request);
        add_modeset(&mut request, pipe, mode);
        Shows::slot(Rc::new(slot), (0, 0).into()).add_to(&mut request, &pipe.primary, pipe.crtc.handle);
        request.send(device.fd(), AtomicCommitFlags::TEST_ONLY | AtomicCommitFlags::ALLOW_MODESET)
    });
    match result {
        Ok(_no_fences) => Ok(()),
        Err(error) => {
            tracing::debug!(%error, ?swapchain, "the kernel would not take this kind of buffer");
            let source = CommitError::from_kernel(error);
            Err(LightError::Refused { connector: connector(), mode: timing, source })
        }
    }
}

/// Everything about a pipe but what its planes show.
pub(super) fn add_modeset(request: &mut Request<'_>, pipe: &Pipe, mode: &Blob) {
    let (connector, crtc) = (&pipe.connector.props, &pipe.crtc.props);
    request.set(connector, ConnectorProp::CrtcId, u32::from(pipe.crtc.handle).into());
    request.set_if_present(connector, ConnectorProp::LinkStatus, 0);
    request.set(crtc, CrtcProp::ModeId, mode.id());
    request.set(crtc, CrtcProp::Active, 1);
    request.set_if_present(crtc, CrtcProp::VrrEnabled, 0);
    // A session that had the device before may have left its night light, or its high dynamic range.
    for prop in [CrtcProp::DegammaLut, CrtcProp::Ctm, CrtcProp::GammaLut] {
        request.set_if_present(crtc, prop, 0);
    }
    for prop in [ConnectorProp::Colorspace, ConnectorProp::HdrOutputMetadata] {
        request.set_if_present(connector, prop, 0);
    }
}
