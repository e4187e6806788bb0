//! Owns what is advertised: the format table, its tranches, and which feedback object was last sent what. Must not know
//! where the formats come from.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::Dev;
use smithay::backend::allocator::Format;
use smithay::utils::SealedFile;
use wayland_protocols::wp::linux_dmabuf::zv1::server::zwp_linux_dmabuf_feedback_v1::{
    self, TrancheFlags, ZwpLinuxDmabufFeedbackV1,
};
use wayland_server::protocol::wl_surface::WlSurface;
use wayland_server::{Client, DataInit, Dispatch, DisplayHandle, Resource, Weak};

use super::{DmabufHandler, DmabufState};
use crate::buffer::dmabuf::plane_layouts;
#[cfg(feature = "guest")]
use crate::wayland::broken::{self, BrokenRule};

/// Indices that go into one `tranche_formats` event: a message holds 4096 bytes in the libwayland that most clients use.
const INDICES_PER_EVENT: usize = 1024;

/// The version from which a tranche says whether it is for sampling, and there is no main device to say so.
const SAMPLING_SINCE: u32 = 6;

/// There is nothing to advertise, or no way to.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    /// Of the formats given, none is in the table of formats that can be checked.
    #[error("Could not advertise dma-buf formats: none is known")]
    NoFormats,
    /// Indices have 16 bits.
    #[error("Could not advertise {0} pairs of dma-buf format and modifier: 65536 are possible")]
    TooManyPairs(usize),
    /// The kernel did not give the memory.
    #[error("Could not make the file of the dma-buf format table")]
    Table(#[source] io::Error),
}

/// One set of parameters: a main device, and tranches in descending preference. Never changes; clones share it.
#[derive(Debug, Clone)]
pub struct Feedback(Arc<Parameters>);

#[derive(Debug, Clone)]
struct Parameters {
    main_device: Dev,
    table: Arc<FormatTable>,
    /// Never empty; the last one is for the main device and has every pair.
    tranches: Vec<Tranche>,
}

/// The pairs, and the sealed file with the same for the clients. They are fixed from the start.
#[derive(Debug)]
struct FormatTable {
    pairs: Vec<Format>,
    file: SealedFile,
    size_bytes: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tranche {
    device: Dev,
    flags: TrancheFlags,
    /// Into the table, without duplicates.
    indices: Vec<u16>,
}

impl Feedback {
    /// Everything in `formats` can be sampled by `main_device`. Formats whose planes are not known are left out, since
    /// buffers of them could not be checked; so are duplicates.
    pub fn new(main_device: Dev, formats: impl IntoIterator<Item = Format>) -> Result<Self, FeedbackError> {
        let table = FormatTable::new(formats)?;
        let indices = (0..=u16::MAX).take(table.pairs.len()).collect();
        let main = Tranche { device: main_device, flags: TrancheFlags::Sampling, indices };
        Ok(Self(Arc::new(Parameters { main_device, table: Arc::new(table), tranches: vec![main] })))
    }

    /// These parameters with one more tranche, preferred to those for the main device: `formats` can be scanned out by
    /// `device`. What the main device cannot sample is left out: there would be nothing to fall back to.
    #[must_use]
    pub fn with_scanout(&self, device: Dev, formats: impl IntoIterator<Item = Format>) -> Self {
        let flags = TrancheFlags::Scanout;
        let Parameters { main_device, table, tranches } = &*self.0;
        let same_kind = |tranche: &&Tranche| tranche.device == device && tranche.flags == flags;
        let mut known: HashSet<u16> =
            tranches.iter().filter(same_kind).flat_map(|tranche| tranche.indices.iter().copied()).collect();
        let indices = formats.into_iter().filter_map(|format| table.index(format));
        let indices: Vec<u16> = indices.filter(|index| known.insert(*index)).collect();
        if indices.is_empty() {
            return self.clone();
        }
        let mut tranches = tranches.clone();
        tranches.insert(tranches.len().saturating_sub(1), Tranche { device, flags, indices });
        Self(Arc::new(Parameters { main_device: *main_device, table: Arc::clone(table), tranches }))
    }

    /// Every pair of format and modifier, once.
    pub fn formats(&self) -> impl Iterator<Item = Format> + '_ {
        self.0.table.pairs.iter().copied()
    }

    /// Where everything can be sampled.
    pub(super) fn main_device(&self) -> Dev {
        self.0.main_device
    }

    fn send(&self, object: &ZwpLinuxDmabufFeedbackV1) {
        let Parameters { main_device, table, tranches } = &*self.0;
        let names_sampling = object.version() >= SAMPLING_SINCE;
        object.format_table(table.file.as_fd(), table.size_bytes);
        #[cfg(feature = "guest")]
        let main_device = broken::object::main_device(*main_device);
        if !names_sampling {
            object.main_device(main_device.to_ne_bytes().to_vec());
        }
        for tranche in tranches {
            object.tranche_target_device(tranche.device.to_ne_bytes().to_vec());
            #[cfg(feature = "guest")]
            let names_sampling = names_sampling && !broken::is(BrokenRule::Sampling);
            object.tranche_flags(match names_sampling {
                true => tranche.flags,
                false => tranche.flags.difference(TrancheFlags::Sampling),
            });
            let indices = tranche.indices.as_slice();
            #[cfg(feature = "guest")]
            let indices = &broken::object::indices(indices.to_vec());
            for indices in indices.chunks(INDICES_PER_EVENT) {
                object.tranche_formats(indices.iter().flat_map(|index| index.to_ne_bytes()).collect());
            }
            object.tranche_done();
        }
        object.done();
    }
}

impl PartialEq for Feedback {
    fn eq(&self, other: &Self) -> bool {
        let Parameters { main_device, table, tranches } = &*self.0;
        Arc::ptr_eq(&self.0, &other.0)
            || (*main_device == other.0.main_device
                && table.pairs == other.0.table.pairs
                && *tranches == other.0.tranches)
    }
}

impl FormatTable {
    fn new(formats: impl IntoIterator<Item = Format>) -> Result<Self, FeedbackError> {
        let mut seen = HashSet::new();
        let known = formats.into_iter().filter(|format| plane_layouts(format.code).is_some());
        let pairs: Vec<Format> = known.filter(|format| seen.insert(*format)).collect();
        match pairs.len() {
            0 => return Err(FeedbackError::NoFormats),
            count if count > usize::from(u16::MAX) + 1 => return Err(FeedbackError::TooManyPairs(count)),
            _ => {}
        }
        let bytes: Vec<u8> = pairs.iter().flat_map(|pair| entry(*pair)).collect();
        let file =
            SealedFile::with_data(c"fencepost-dmabuf-formats", &bytes).map_err(FeedbackError::Table)?;
        let size_bytes = u32::try_from(bytes.len()).map_err(|_| FeedbackError::TooManyPairs(pairs.len()))?;
        Ok(Self { pairs, file, size_bytes })
    }

    fn index(&self, format: Format) -> Option<u16> {
        self.pairs.iter().position(|pair| *pair == format).and_then(|index| u16::try_from(index).ok())
    }
}

/// One entry of the table: the format, four bytes of padding, the modifier, in native endianness.
fn entry(pair: Format) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[0..4].copy_from_slice(&(pair.code as u32).to_ne_bytes());
    entry[8..16].copy_from_slice(&u64::from(pair.modifier).to_ne_bytes());
    entry
}

/// The feedback objects of all clients and what each is to be sent.
#[derive(Debug)]
pub(super) struct Feedbacks {
    default: Feedback,
    /// Of surfaces that have one of their own. Entries of destroyed surfaces go at the next change.
    surfaces: Vec<(Weak<WlSurface>, Feedback)>,
    objects: Vec<Object>,
}

#[derive(Debug)]
struct Object {
    resource: Weak<ZwpLinuxDmabufFeedbackV1>,
    surface: Option<Weak<WlSurface>>,
    sent: Feedback,
}

impl Feedbacks {
    pub(super) fn new(default: Feedback) -> Self {
        Self { default, surfaces: Vec::new(), objects: Vec::new() }
    }

    pub(super) fn default(&self) -> &Feedback {
        &self.default
    }

    pub(super) fn set_default(&mut self, default: Feedback) {
        self.default = default;
        self.send_changes();
    }

    pub(super) fn set_for_surface(&mut self, surface: &WlSurface, feedback: Option<Feedback>) {
        self.surfaces.retain(|(other, _)| other.is_alive() && other != surface);
        self.surfaces.extend(feedback.map(|feedback| (surface.downgrade(), feedback)));
        self.send_changes();
    }

    /// Takes a new object up and sends it its first parameters.
    pub(super) fn add(&mut self, object: &ZwpLinuxDmabufFeedbackV1, surface: Option<&WlSurface>) {
        let surface = surface.map(Resource::downgrade);
        let feedback = self.wanted(surface.as_ref()).clone();
        feedback.send(object);
        #[cfg(feature = "guest")]
        if broken::is(BrokenRule::SentTwice) {
            feedback.send(object);
        }
        self.objects.push(Object { resource: object.downgrade(), surface, sent: feedback });
    }

    fn remove(&mut self, object: &ZwpLinuxDmabufFeedbackV1) {
        self.objects.retain(|other| other.resource != *object);
    }

    fn wanted(&self, surface: Option<&Weak<WlSurface>>) -> &Feedback {
        let own = self.surfaces.iter().find(|(other, _)| Some(other) == surface);
        own.map_or(&self.default, |(_, feedback)| feedback)
    }

    fn send_changes(&mut self) {
        let mut objects = std::mem::take(&mut self.objects);
        for object in &mut objects {
            // The object of a destroyed surface is inert.
            if object.surface.as_ref().is_some_and(|surface| !surface.is_alive()) {
                continue;
            }
            let wanted = self.wanted(object.surface.as_ref());
            if let Ok(resource) = object.resource.upgrade()
                && *wanted != object.sent
            {
                wanted.send(&resource);
                object.sent = wanted.clone();
            }
        }
        self.objects = objects;
    }
}

/// User data of the feedback objects.
#[derive(Debug)]
pub struct FeedbackData;

impl<D> Dispatch<ZwpLinuxDmabufFeedbackV1, FeedbackData, D> for DmabufState
where
    D: DmabufHandler + Dispatch<ZwpLinuxDmabufFeedbackV1, FeedbackData>,
{
    #[cfg_attr(not(feature = "guest"), expect(unused_variables, reason = "only tests break rules"))]
    fn request(
        _state: &mut D,
        _client: &Client,
        object: &ZwpLinuxDmabufFeedbackV1,
        _request: zwp_linux_dmabuf_feedback_v1::Request,
        _data: &FeedbackData,
        _display: &DisplayHandle,
        _data_init: &mut DataInit<'_, D>,
    ) {
        // The one request is destroy.
        #[cfg(feature = "guest")]
        if broken::is(BrokenRule::FeedbackDestroyed) {
            object.post_error(0_u32, "a feedback object was destroyed");
        }
    }

    fn destroyed(
        state: &mut D,
        _client: wayland_server::backend::ClientId,
        object: &ZwpLinuxDmabufFeedbackV1,
        _data: &FeedbackData,
    ) {
        state.dmabuf_state().feedbacks.remove(object);
    }
}
