//! What this machine has to test with: dma-bufs that the compositor takes, syncobjs, and fences that the client signals.

use std::os::fd::AsFd;
use std::path::Path;

use wayland_client::globals::registry_queue_init;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::Event as ParamsEvent;

use super::app::App;
use super::connection::{Mail, connect, inbox};
use super::verdict::Stop;
use super::{Options, Place};
use crate::client::formats::Formats;
use crate::client::late::{LateError, Pledge};
use crate::client::source::{self, Image, Kind, Source, SourceError};
use crate::client::swapchain::Size;
use crate::errors::chain;
use crate::fence::sync_file::SyncFile;
use crate::fence::timeline::{SyncobjDevice, Timeline, TimelineError};
use crate::sys::dma_buf::{self, Access};

/// The size of the buffers. Large enough for every GPU, small enough for any screen.
pub(super) const SIZE: Size = (256, 128);

/// The kinds of buffers in the order they are tried in: what real clients have first.
const KINDS: [Kind; 4] = [Kind::Gpu, Kind::Heap, Kind::Udmabuf, Kind::Vgem];

/// The machine.
pub(super) struct Machine {
    syncobjs: Result<SyncobjDevice, String>,
    images: Result<(Kind, Box<dyn Source>), Stop>,
    vgem: Option<Box<dyn Source>>,
}

impl Machine {
    /// Looks at everything once. What is missing is said by the cases that need it.
    pub(super) fn find(place: &Place, options: &Options) -> Self {
        let formats = formats(&place.socket, options.device.as_deref());
        let node = source::render_node(formats.as_ref().ok().and_then(|formats| formats.main_device));
        let syncobjs = match SyncobjDevice::open(&node) {
            Ok(device) => Ok(device),
            // Any device will do: syncobjs are not tied to the one the buffers come from.
            Err(_) => SyncobjDevice::find([]).map_err(|error| error.to_string()),
        };
        let vgem = formats.as_ref().ok().and_then(|formats| source::open(Kind::Vgem, formats, 0).ok());
        let images = formats.and_then(|formats| find_images(place, &formats));
        Self { syncobjs, images, vgem }
    }

    /// What there is, for the report.
    pub(super) fn description(&self) -> Vec<String> {
        let images = match &self.images {
            Ok((kind, _)) => format!("dma-bufs: {kind:?}"),
            Err(Stop::Fail(why) | Stop::NotOffered(why) | Stop::CannotTest(why)) => {
                format!("no dma-bufs: {why}")
            }
        };
        let syncobjs = match &self.syncobjs {
            Ok(_) => "syncobjs".to_owned(),
            Err(why) => format!("no syncobjs: {why}"),
        };
        vec![images, syncobjs]
    }

    /// A new dma-buf that the compositor takes.
    pub(super) fn image(&mut self) -> Result<Box<dyn Image>, Stop> {
        match &mut self.images {
            Ok((_, source)) => Ok(source.allocate(SIZE)?),
            Err(stop) => Err(stop.clone()),
        }
    }

    /// A new timeline.
    pub(super) fn timeline(&self) -> Result<Timeline, Stop> {
        match &self.syncobjs {
            Ok(device) => Ok(Timeline::create(device)?),
            Err(why) => Err(Stop::CannotTest(format!("no syncobjs: {why}"))),
        }
    }

    /// A dma-buf that somebody writes to until the pledge is kept.
    pub(super) fn written_image(&mut self) -> Result<(Box<dyn Image>, Pledge), Stop> {
        let image = self.image()?;
        let pledge = pledge(image.as_ref())?;
        Ok((image, pledge))
    }

    /// A kernel fence that signals when the pledge is kept.
    pub(super) fn fence(&mut self) -> Result<(SyncFile, Pledge), Stop> {
        let (image, pledge) = match self.written_image() {
            Ok(written) => written,
            Err(stop) => match &mut self.vgem {
                Some(vgem) => {
                    let image = vgem.allocate(SIZE)?;
                    let pledge = image.pledge()?;
                    (image, pledge)
                }
                None => return Err(stop),
            },
        };
        let plane = image.layout().planes.first().ok_or(SourceError::NoLinear)?;
        let fence = dma_buf::export_sync_file(plane.fd.as_fd(), Access::Read);
        Ok((SyncFile::from_kernel(fence.map_err(LateError::Import)?), pledge))
    }
}

/// Makes everyone who uses the image implicitly wait.
pub(super) fn pledge(image: &dyn Image) -> Result<Pledge, Stop> {
    Ok(image.pledge()?)
}

fn formats(socket: &Path, device: Option<&Path>) -> Result<Formats, Stop> {
    let failed = |error: String| Stop::Fail(format!("no linux-dmabuf feedback: {error}"));
    let connection = connect(socket).map_err(|error| failed(error.to_string()))?;
    let (globals, _queue) =
        registry_queue_init::<Mail>(&connection).map_err(|error| failed(error.to_string()))?;
    let (_, mut formats) = Formats::ask(&connection, &globals).map_err(|error| match error {
        crate::client::Error::MissingGlobal { name } => Stop::NotOffered(name.to_owned()),
        crate::client::Error::NoFormat => Stop::NotOffered("dma-bufs of XRGB8888".to_owned()),
        error => failed(chain(&error)),
    })?;
    if let Some(device) = device {
        let stat = rustix::fs::stat(device)
            .map_err(|error| Stop::CannotTest(format!("{}: {error}", device.display())))?;
        formats.main_device = Some(stat.st_rdev);
    }
    Ok(formats)
}

/// The first kind that this machine has and the compositor takes.
fn find_images(place: &Place, formats: &Formats) -> Result<(Kind, Box<dyn Source>), Stop> {
    let mut reasons = Vec::new();
    for kind in KINDS {
        let found = source::open(kind, formats, 0).map_err(Stop::from).and_then(|mut source| {
            let image = source.allocate(SIZE)?;
            is_taken(place, image.as_ref()).map(|taken| (source, taken))
        });
        match found {
            Ok((source, true)) => return Ok((kind, source)),
            Ok((_, false)) => reasons.push(format!("{kind:?}: refused by the compositor")),
            Err(Stop::CannotTest(why) | Stop::Fail(why) | Stop::NotOffered(why)) => {
                reasons.push(format!("{kind:?}: {why}"));
            }
        }
    }
    Err(Stop::CannotTest(format!("no dma-bufs that the compositor takes ({})", reasons.join("; "))))
}

fn is_taken(place: &Place, image: &dyn Image) -> Result<bool, Stop> {
    let mut app = App::open(place)?;
    let params = app.params(image.layout())?;
    app.create(&params, image.layout());
    let answered = || inbox(&params, |events| !events.is_empty());
    app.client.until("created or failed", answered)?;
    Ok(inbox(&params, |events| matches!(events.first(), Some(ParamsEvent::Created { .. }))))
}

/// What a case cannot get hold of is not the compositor's fault.
macro_rules! cannot_test {
    ($($error:ty),*) => {
        $(impl From<$error> for Stop {
            fn from(error: $error) -> Self {
                Self::CannotTest(chain(&error))
            }
        })*
    };
}

cannot_test!(SourceError, LateError, TimelineError, std::io::Error, rustix::io::Errno);
