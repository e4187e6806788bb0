//! Getting at a KMS device: which one, and through whom.
//!
//! Owns the sentences for people who have no seat, no permission or no device: what was tried, and what to do. libseat
//! opens the device, so that no root is needed and the VT can be switched; a path that was named is the only one tried.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};
use smithay::backend::drm::DrmDeviceFd;
use smithay::backend::session::Session;
use smithay::backend::session::libseat::{Error as SeatError, LibSeatSession, LibSeatSessionNotifier};
use smithay::backend::udev;
use smithay::utils::DeviceFd;

use super::device::{Device, OpenError};
use crate::errors::chain;

/// The environment variable that names the device.
pub const DEVICE_VARIABLE: &str = "FENCEPOST_DRM_DEVICE";

/// Why there is no session or no device.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Neither seatd nor logind gives us a seat.
    #[error(
        "Could not open a seat through libseat. Start from a text console (Ctrl+Alt+F3) of a system with logind, or \
         start seatd and be in its group; without a display, use the headless backend"
    )]
    NoSeat(#[source] SeatError),
    /// udev could not be asked.
    #[error(
        "Could not ask udev for graphics devices; name one in {DEVICE_VARIABLE}, for example /dev/dri/card0"
    )]
    Udev(#[source] io::Error),
    /// There is none.
    #[error(
        "Could not find a graphics device on {seat}: udev knows no /dev/dri/card*. Is the driver loaded?"
    )]
    NoDevice {
        /// The seat that was asked for.
        seat: String,
    },
    /// None of them is any good.
    #[error("Could not use any graphics device:{0}")]
    NoneUsable(Attempts),
}

/// What was tried, one line each.
#[derive(Debug)]
pub struct Attempts(Vec<(PathBuf, DeviceError)>);

/// Why one device was not opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The session does not hand it out.
    #[error("the session does not open it")]
    Session(#[source] SeatError),
    /// It does not open.
    #[error("it does not open")]
    Open(#[source] io::Error),
    /// It opens, and cannot be used.
    #[error(transparent)]
    Unusable(#[from] OpenError),
}

/// Opens the seat we were started on. The notifier is an event source: it tells when the VT is switched.
///
/// # Errors
/// [`SessionError::NoSeat`].
pub fn open_seat() -> Result<(LibSeatSession, LibSeatSessionNotifier), SessionError> {
    LibSeatSession::new().map_err(SessionError::NoSeat)
}

/// The devices to try, best first: the one that was named (by `requested`, else in the environment), or all of the
/// seat's with the primary GPU first.
///
/// # Errors
/// [`SessionError::Udev`], [`SessionError::NoDevice`].
pub fn candidates(requested: Option<PathBuf>, seat: &str) -> Result<Vec<PathBuf>, SessionError> {
    let named = requested.or_else(|| std::env::var_os(DEVICE_VARIABLE).map(PathBuf::from));
    if let Some(path) = named {
        return Ok(vec![path]);
    }
    let primary = udev::primary_gpu(seat).map_err(SessionError::Udev)?;
    let all = udev::all_gpus(seat).map_err(SessionError::Udev)?;
    let others = all.into_iter().filter(|path| Some(path) != primary.as_ref()).collect::<Vec<_>>();
    let found = primary.into_iter().chain(others).collect::<Vec<_>>();
    if found.is_empty() {
        return Err(SessionError::NoDevice { seat: seat.to_owned() });
    }
    Ok(found)
}

/// Opens the first of `paths` that is a usable KMS device, through the session.
///
/// # Errors
/// [`SessionError::NoneUsable`], which says of each why not.
pub fn open_device(session: &mut LibSeatSession, paths: &[PathBuf]) -> Result<Rc<Device>, SessionError> {
    first_usable(paths, |path| {
        let fd = session.open(path, flags()).map_err(DeviceError::Session)?;
        Ok(Device::open(DrmDeviceFd::new(DeviceFd::from(fd)), path)?)
    })
}

/// Opens a device without a session, as root or with nobody else on it: for tests and tools.
///
/// # Errors
/// [`SessionError::NoneUsable`].
pub fn open_directly(path: &Path) -> Result<Rc<Device>, SessionError> {
    first_usable(&[path.to_owned()], |path| {
        let fd = rustix::fs::open(path, flags(), Mode::empty())
            .map_err(|error| DeviceError::Open(error.into()))?;
        Ok(Device::open(DrmDeviceFd::new(DeviceFd::from(fd)), path)?)
    })
}

/// Non-blocking, so that reading events never waits.
fn flags() -> OFlags {
    OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK
}

fn first_usable<T>(
    paths: &[PathBuf],
    mut open: impl FnMut(&Path) -> Result<T, DeviceError>,
) -> Result<T, SessionError> {
    let mut attempts = Vec::new();
    for path in paths {
        match open(path) {
            Ok(device) => return Ok(device),
            Err(error) => attempts.push((path.clone(), error)),
        }
    }
    Err(SessionError::NoneUsable(Attempts(attempts)))
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, error) in &self.0 {
            write!(f, "\n  {}: {}", path.display(), chain(error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_usable_device_is_taken() {
        let paths = ["/dev/dri/card7", "/dev/dri/card8", "/dev/dri/card9"].map(PathBuf::from);
        let taken = first_usable(&paths, |path| {
            if path.ends_with("card8") { Ok(path.to_owned()) } else { Err(no_outputs()) }
        });
        assert_eq!(taken.expect("one is usable"), paths[1]);
    }

    #[test]
    fn when_none_is_usable_each_is_named_with_its_reason() {
        let paths = ["/dev/dri/card7", "/dev/dri/card8"].map(PathBuf::from);
        let error = first_usable::<()>(&paths, |path| {
            let missing = || DeviceError::Open(io::ErrorKind::NotFound.into());
            Err(if path.ends_with("card7") { missing() } else { no_outputs() })
        });
        let text = error.expect_err("none is usable").to_string();
        assert!(text.contains("\n  /dev/dri/card7: it does not open: entity not found"), "{text}");
        assert!(
            text.contains(
                "\n  /dev/dri/card8: Could not use atomic modesetting on this device (driver vgem)"
            )
        );
    }

    #[test]
    fn a_named_device_is_the_only_candidate() {
        let named = PathBuf::from("/dev/dri/card9");
        assert_eq!(candidates(Some(named.clone()), "seat0").expect("no udev needed"), [named]);
    }

    fn no_outputs() -> DeviceError {
        let source = io::ErrorKind::Unsupported.into();
        DeviceError::Unusable(OpenError::NoAtomic { driver: "vgem".to_owned(), source })
    }
}
