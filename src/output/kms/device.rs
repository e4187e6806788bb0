//! A KMS device: what it has, what it can, who drives what.
//!
//! Owns the fd, the tables of CRTCs and planes, and the quirks found so far. Capabilities are found by asking for
//! them, never from a driver's name or version. Knows no frame: [`super::head`] lights outputs with it.

use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use drm::control::{
    AtomicCommitFlags, Device as _, Mode, PlaneType, ResourceHandles, connector, crtc, from_u32, plane,
};
use drm::{ClientCapability, Device as _, DriverCapability};
use rustix::io::Errno;
use smithay::backend::allocator::format::FormatSet;
use smithay::backend::allocator::gbm::GbmDevice;
use smithay::backend::drm::DrmDeviceFd;

use super::edid::Identity;
use super::events::{BUFFER_LEN, Flips};
use super::formats;
use super::modes::Timing;
use super::props::{ConnectorProp, CrtcProp, PlaneProp, Props};
use super::quirks::Quirks;
use super::request::Request;
use super::routing::{self, Wish};
use super::scanout::Framebuffers;
use crate::output::turn;

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is no DRM device, or gone.
    #[error("Could not ask the device for its driver")]
    Driver(#[source] io::Error),
    /// No KMS at all (a render node, a GPU without outputs), or only the old, non-atomic one.
    #[error("Could not use atomic modesetting on this device (driver {driver}); name one with outputs")]
    NoAtomic {
        /// The kernel driver.
        driver: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another process is the device's master.
    #[error("Could not become master of this device (driver {driver}): another display server runs on it")]
    NotMaster {
        /// The kernel driver.
        driver: String,
    },
    /// Flip events without CLOCK_MONOTONIC timestamps are of no use.
    #[error("Could not use this device (driver {driver}): its timestamps are not monotonic")]
    NotMonotonic {
        /// The kernel driver.
        driver: String,
    },
    /// A table of the device could not be read.
    #[error("Could not read the device's resources")]
    Resources(#[source] io::Error),
}

/// What the device said it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Framebuffers take modifiers.
    pub modifiers: bool,
    /// Flips outside of vblank, through atomic commits.
    pub async_flip: bool,
    /// Writeback connectors are shown to us, if it has any.
    pub writeback: bool,
    /// Width and height of the pointer's image on a cursor plane, in pixels.
    pub cursor_size: (u32, u32),
}

/// The side of a cursor plane that says nothing, which is what the first ones had.
const SMALLEST_CURSOR: u32 = 64;
/// Larger images are composed. Some devices without a limit claim a whole screen.
const LARGEST_CURSOR: u32 = 256;

/// A CRTC.
#[derive(Clone, Debug)]
pub struct Crtc {
    /// Its handle.
    pub handle: crtc::Handle,
    /// Its properties.
    pub props: Props<CrtcProp>,
}

/// A plane.
#[derive(Clone, Debug)]
pub struct Plane {
    /// Its handle.
    pub handle: plane::Handle,
    /// Primary, cursor or overlay.
    pub kind: PlaneType,
    /// Its properties.
    pub props: Props<PlaneProp>,
    /// The CRTCs that can show it.
    pub crtcs: Vec<crtc::Handle>,
    /// What it can show; modifier INVALID stands for the driver's own layout.
    pub formats: FormatSet,
    /// How it can turn what it shows: the bits of its rotation property.
    pub rotations: u64,
}

/// A connector with a display.
#[derive(Clone, Debug)]
pub struct Connector {
    /// Its handle.
    pub handle: connector::Handle,
    /// For people, as the kernel names it: "HDMI-A-1".
    pub name: String,
    /// Its properties.
    pub props: Props<ConnectorProp>,
    /// The modes of the display, in the kernel's order.
    pub modes: Vec<(Mode, Timing)>,
    /// The display's width and height in millimetres; zero where unknown.
    pub size_mm: (u32, u32),
    /// Who the display is.
    pub identity: Identity,
}

/// A connected display and what could drive it.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The display.
    pub connector: Connector,
    wish: Wish,
}

/// Everything it takes to light one display.
#[derive(Clone, Debug)]
pub struct Pipe {
    /// The display.
    pub connector: Connector,
    /// What drives it.
    pub crtc: Crtc,
    /// What it shows.
    pub primary: Plane,
}

/// What a device has, as its tables say. Reading them takes no rights beyond an open fd.
#[derive(Debug)]
pub struct Tables {
    /// The kernel driver's name.
    pub driver: String,
    /// What the device said it can.
    pub caps: Caps,
    /// Its CRTCs.
    pub crtcs: Vec<Crtc>,
    /// Its planes.
    pub planes: Vec<Plane>,
}

impl Tables {
    /// Enables atomic modesetting for this fd and reads the tables.
    ///
    /// # Errors
    /// [`OpenError`], but [`OpenError::NotMaster`].
    pub fn read(fd: &DrmDeviceFd) -> Result<Self, OpenError> {
        let driver = fd.get_driver().map_err(OpenError::Driver)?.name().to_string_lossy().into_owned();
        for capability in [ClientCapability::UniversalPlanes, ClientCapability::Atomic] {
            fd.set_client_capability(capability, true)
                .map_err(|source| OpenError::NoAtomic { driver: driver.clone(), source })?;
        }
        let can = |cap| fd.get_driver_capability(cap).is_ok_and(|value| value != 0);
        if !can(DriverCapability::MonotonicTimestamp) {
            return Err(OpenError::NotMonotonic { driver });
        }
        let cursor = |cap| {
            let side = fd.get_driver_capability(cap).ok().and_then(|side| u32::try_from(side).ok());
            side.filter(|side| *side > 0).unwrap_or(SMALLEST_CURSOR).min(LARGEST_CURSOR)
        };
        let caps = Caps {
            modifiers: can(DriverCapability::AddFB2Modifiers),
            async_flip: can(DriverCapability::AtomicASyncPageFlip),
            writeback: fd.set_client_capability(ClientCapability::WritebackConnectors, true).is_ok(),
            cursor_size: (cursor(DriverCapability::CursorWidth), cursor(DriverCapability::CursorHeight)),
        };
        // Virtual devices hide their cursor planes from those who would not set the hotspots. Others refuse this.
        if let Err(error) = fd.set_client_capability(ClientCapability::CursorPlaneHotspot, true) {
            tracing::debug!(%error, "cursors have no hotspots");
        }
        let resources = fd.resource_handles().map_err(OpenError::Resources)?;
        let crtcs = resources
            .crtcs()
            .iter()
            .map(|&handle| Props::read(fd, handle).map(|props| Crtc { handle, props }));
        let crtcs = crtcs.collect::<io::Result<Vec<_>>>().map_err(OpenError::Resources)?;
        let planes = read_planes(fd, &resources).map_err(OpenError::Resources)?;
        Ok(Self { driver, caps, crtcs, planes })
    }
}

/// An open KMS device. Its fd has to be non-blocking.
#[derive(Debug)]
pub struct Device {
    fd: DrmDeviceFd,
    node: PathBuf,
    /// Opened on demand: a device whose buffers the CPU fills does without.
    gbm: OnceCell<GbmDevice<DrmDeviceFd>>,
    driver: String,
    caps: Caps,
    crtcs: Vec<Crtc>,
    planes: Vec<Plane>,
    quirks: Cell<Quirks>,
    /// Of clients' buffers.
    framebuffers: RefCell<Framebuffers>,
    /// The heads that exist: which display has which CRTC and primary plane.
    claimed: RefCell<Vec<(connector::Handle, crtc::Handle, plane::Handle)>>,
}

impl Device {
    /// Takes a device over: enables atomic modesetting for us and reads its tables. Changes nothing on its screens.
    ///
    /// # Errors
    /// [`OpenError`], a sentence for people each.
    pub fn open(fd: DrmDeviceFd, node: &Path) -> Result<Rc<Self>, OpenError> {
        let Tables { driver, caps, crtcs, planes } = Tables::read(&fd)?;
        if !is_master(&fd) {
            return Err(OpenError::NotMaster { driver });
        }
        tracing::info!(driver, ?caps, crtcs = crtcs.len(), planes = planes.len(), "opened a KMS device");
        let (gbm, quirks, claimed) = (OnceCell::new(), Cell::default(), RefCell::default());
        let (framebuffers, node) = (RefCell::default(), node.to_owned());
        Ok(Rc::new(Self { fd, node, gbm, driver, caps, crtcs, planes, quirks, framebuffers, claimed }))
    }

    /// Where the device was when it was opened, for people: it may be gone since.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// The device's fd, readable when there are flip events.
    pub fn fd(&self) -> &DrmDeviceFd {
        &self.fd
    }

    /// The device's allocator. The renderer's EGL display has to be made from this one too: GEM handles are not counted
    /// by the kernel, and two users of one fd would close each other's.
    ///
    /// # Errors
    /// Mesa is not installed, or has no driver for the device.
    pub fn gbm(&self) -> io::Result<&GbmDevice<DrmDeviceFd>> {
        if self.gbm.get().is_none() {
            let _already_set = self.gbm.set(GbmDevice::new(self.fd.clone())?);
        }
        self.gbm.get().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether the device has been taken away: the kernel answers `ENODEV` to everything.
    pub fn is_gone(&self) -> bool {
        let answer = self.fd.get_driver();
        answer.is_err_and(|error| error.raw_os_error() == Some(Errno::NODEV.raw_os_error()))
    }

    /// The kernel driver's name, for people.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// What it can.
    pub fn caps(&self) -> Caps {
        self.caps
    }

    /// What it turned out not to be able to do.
    pub fn quirks(&self) -> Quirks {
        self.quirks.get()
    }

    pub(super) fn learn(&self, quirks: Quirks) {
        self.quirks.set(quirks);
    }

    /// The framebuffers of clients' buffers.
    pub(super) fn framebuffers(&self) -> RefMut<'_, Framebuffers> {
        self.framebuffers.borrow_mut()
    }

    /// Its planes.
    pub fn planes(&self) -> &[Plane] {
        &self.planes
    }

    /// The flips since the last call. Does not block: without any there is none.
    ///
    /// # Errors
    /// Those of read(2); `ENODEV` when the device is gone.
    pub fn flips(&self) -> io::Result<Flips> {
        let mut bytes = [0; BUFFER_LEN];
        match rustix::io::read(self.fd.as_fd(), &mut bytes) {
            Ok(len) => Ok(Flips::new(bytes, len)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Flips::new(bytes, 0)),
            Err(error) => Err(error.into()),
        }
    }

    /// The connected displays with what can drive them.
    ///
    /// # Errors
    /// As [`connected`](Self::connected).
    pub fn pipes(&self) -> io::Result<Vec<Pipe>> {
        Ok(self.route(self.connected()?))
    }

    /// The connected displays: at the start, and again after a hotplug. Asks the displays, which can take a while on
    /// real hardware.
    ///
    /// # Errors
    /// Those of GETRESOURCES, GETCONNECTOR and GETENCODER.
    pub fn connected(&self) -> io::Result<Vec<Connected>> {
        let resources = self.fd.resource_handles()?;
        let mut connected = Vec::new();
        for &handle in resources.connectors() {
            let info = match self.fd.get_connector(handle, true) {
                // An MST display went away in between.
                Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => continue,
                info => info?,
            };
            let writeback = info.interface() == connector::Interface::Writeback;
            if writeback || info.state() != connector::State::Connected {
                continue;
            }
            let connector = self.connector(&info)?;
            let wish = self.wish(&connector, &info, &resources)?;
            connected.push(Connected { connector, wish });
        }
        Ok(connected)
    }

    /// What drives each of these displays; as many of them as can be lit together.
    pub fn route(&self, displays: impl IntoIterator<Item = Connected>) -> Vec<Pipe> {
        let (connectors, wishes): (Vec<_>, Vec<_>) =
            displays.into_iter().map(|display| (display.connector, display.wish)).unzip();
        let mut taken = Vec::new();
        let mut pipes = Vec::new();
        for (connector, crtc) in connectors.into_iter().zip(routing::assign(&wishes)) {
            let crtc = crtc.and_then(|index| self.crtcs.get(index));
            let primary = crtc.and_then(|crtc| self.primary_for(crtc.handle, connector.handle, &taken));
            let (Some(crtc), Some(primary)) = (crtc, primary) else {
                tracing::warn!(connector = connector.name, "no CRTC or no plane is left for this display");
                continue;
            };
            taken.push(primary.handle);
            pipes.push(Pipe { connector, crtc: crtc.clone(), primary: primary.clone() });
        }
        pipes
    }

    /// The writeback connectors that this CRTC can feed.
    ///
    /// # Errors
    /// Those of GETRESOURCES, GETCONNECTOR and GETENCODER.
    pub fn writeback_connectors(&self, crtc: crtc::Handle) -> io::Result<Vec<Connector>> {
        let resources = self.fd.resource_handles()?;
        let mut found = Vec::new();
        for &handle in resources.connectors() {
            let info = self.fd.get_connector(handle, false)?;
            if info.interface() != connector::Interface::Writeback {
                continue;
            }
            for &encoder in info.encoders() {
                let encoder = self.fd.get_encoder(encoder)?;
                if resources.filter_crtcs(encoder.possible_crtcs()).contains(&crtc) {
                    found.push(self.connector(&info)?);
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Registers a head, so that its CRTC stays its own.
    pub(super) fn claim(&self, pipe: &Pipe) {
        self.claimed.borrow_mut().push((pipe.connector.handle, pipe.crtc.handle, pipe.primary.handle));
    }

    pub(super) fn unclaim(&self, pipe: &Pipe) {
        self.claimed.borrow_mut().retain(|&(_, crtc, _)| crtc != pipe.crtc.handle);
    }

    pub(super) fn is_claimed(&self, crtc: crtc::Handle) -> bool {
        self.claimed.borrow().iter().any(|&(_, claimed, _)| claimed == crtc)
    }

    /// Its CRTCs.
    pub(super) fn crtcs(&self) -> &[Crtc] {
        &self.crtcs
    }

    fn connector(&self, info: &connector::Info) -> io::Result<Connector> {
        let props = Props::<ConnectorProp>::read(&self.fd, info.handle())?;
        let edid = match props.initial(ConnectorProp::Edid).filter(|blob| *blob != 0) {
            // The display may have gone since, and its EDID with it.
            Some(blob) => self.fd.get_property_blob(blob).unwrap_or_default(),
            None => Vec::new(),
        };
        Ok(Connector {
            handle: info.handle(),
            name: info.to_string(),
            props,
            identity: Identity::parse(&edid),
            modes: info.modes().iter().map(|mode| (*mode, Timing::of(mode))).collect(),
            size_mm: info.size().unwrap_or_default(),
        })
    }

    fn wish(
        &self,
        connector: &Connector,
        info: &connector::Info,
        resources: &ResourceHandles,
    ) -> io::Result<Wish> {
        let index = |crtc: crtc::Handle| self.crtcs.iter().position(|known| known.handle == crtc);
        let mut possible = Vec::new();
        for &encoder in info.encoders() {
            let mask = self.fd.get_encoder(encoder)?.possible_crtcs();
            possible.extend(resources.filter_crtcs(mask).into_iter().filter_map(index));
        }
        possible.dedup();
        let claims = self.claimed.borrow();
        let claimed =
            claims.iter().find(|&&(claimant, ..)| claimant == connector.handle).map(|&(_, crtc, _)| crtc);
        let current = claimed.or_else(|| current_crtc(&connector.props));
        Ok(Wish { current: current.and_then(index), possible })
    }

    /// The primary plane for a CRTC: the one that its head has, else the one made for it alone, if there is one. A plane that
    /// shows another head's picture does not go from one CRTC to another.
    fn primary_for(
        &self,
        crtc: crtc::Handle,
        connector: connector::Handle,
        taken: &[plane::Handle],
    ) -> Option<&Plane> {
        let claims = self.claimed.borrow();
        let own = claims.iter().find(|claim| (claim.0, claim.1) == (connector, crtc)).map(|claim| claim.2);
        let is_free = |plane: plane::Handle| {
            own == Some(plane)
                || !taken.contains(&plane) && claims.iter().all(|&(_, _, claimed)| claimed != plane)
        };
        let fits = |plane: &&Plane| {
            plane.kind == PlaneType::Primary && plane.crtcs.contains(&crtc) && is_free(plane.handle)
        };
        self.planes.iter().filter(fits).min_by_key(|plane| (own != Some(plane.handle), plane.crtcs.len()))
    }
}

/// Whether this fd may change the device's state, found by doing: an empty commit that is only tested.
pub fn is_master(fd: &DrmDeviceFd) -> bool {
    match Request::new().send(fd, AtomicCommitFlags::TEST_ONLY) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() != Some(Errno::ACCESS.raw_os_error()),
    }
}

pub(super) fn current_crtc(connector: &Props<ConnectorProp>) -> Option<crtc::Handle> {
    let id = connector.initial(ConnectorProp::CrtcId)?;
    from_u32(u32::try_from(id).ok()?)
}

fn read_planes(fd: &DrmDeviceFd, resources: &ResourceHandles) -> io::Result<Vec<Plane>> {
    let read = |handle| {
        let info = fd.get_plane(handle)?;
        let props = Props::<PlaneProp>::read(fd, handle)?;
        let kind = match props.initial(PlaneProp::Type) {
            Some(kind) if kind == PlaneType::Primary as u64 => PlaneType::Primary,
            Some(kind) if kind == PlaneType::Cursor as u64 => PlaneType::Cursor,
            _ => PlaneType::Overlay,
        };
        let formats = match props.initial(PlaneProp::InFormats).filter(|blob| *blob != 0) {
            Some(blob) => formats::parse_in_formats(&fd.get_property_blob(blob)?),
            None => None,
        };
        let formats = formats.unwrap_or_else(|| formats::without_modifiers(info.formats()));
        let crtcs = resources.filter_crtcs(info.possible_crtcs());
        let rotations = read_rotations(fd, &props)?;
        Ok(Plane { handle, kind, props, crtcs, formats, rotations })
    };
    fd.plane_handles()?.into_iter().map(read).collect()
}

fn read_rotations(fd: &DrmDeviceFd, props: &Props<PlaneProp>) -> io::Result<u64> {
    let Some(id) = props.id(PlaneProp::Rotation) else { return Ok(turn::ROTATE_0) };
    // The bits that it knows are listed by their numbers, which the drm crate leaves out.
    let (mut values, mut bits) = (Vec::new(), Vec::new());
    drm_ffi::mode::get_property(fd.as_fd(), id.into(), Some(&mut values), Some(&mut bits))?;
    let mask = |bit: &drm_ffi::drm_mode_property_enum| 1_u64.checked_shl(u32::try_from(bit.value).ok()?);
    Ok(bits.iter().filter_map(mask).fold(0, std::ops::BitOr::bitor))
}
