//! What the kernel can for fences: syncobjs on a device, sync_files and dma-bufs on any.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use smithay::{backend::drm::DrmDeviceFd, utils::DeviceFd};

use super::Finding;
use crate::{
    fence::{
        sync_file::SyncFile,
        timeline::{SyncobjDevice, Timeline, TimelineError, Until},
    },
    sys::{
        dma_buf::{self, Access},
        dma_heap, syncobj, udmabuf,
    },
};
use drm::{
    buffer::{Buffer as _, DrmFourcc as Fourcc},
    control::Device as _,
};

pub(super) fn open(node: &Path) -> io::Result<DrmDeviceFd> {
    let fd = rustix::fs::open(node, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    Ok(DrmDeviceFd::new(DeviceFd::from(fd)))
}

/// Explicit sync on one device.
pub(super) fn syncobjs(fd: &DrmDeviceFd) -> Vec<Finding> {
    let mut findings = Vec::new();
    match syncobj::capabilities(fd.as_fd()) {
        Ok((binary, timeline)) => {
            findings.push(Finding::present("DRM_CAP_SYNCOBJ", binary));
            findings.push(Finding::present("DRM_CAP_SYNCOBJ_TIMELINE", timeline));
        }
        Err(error) => findings.push(Finding::no("DRM_CAP_SYNCOBJ", error.to_string())),
    }
    let device =
        fd.as_fd().try_clone_to_owned().map_err(TimelineError::Open).and_then(SyncobjDevice::from_fd);
    // Opening one for use tries the eventfd too, also on a point that a later one has overtaken.
    findings.push(Finding::tried("DRM_IOCTL_SYNCOBJ_EVENTFD", device.as_ref().map(|_| ())));
    if let Ok(device) = device {
        findings.push(Finding::tried("DRM_IOCTL_SYNCOBJ_TRANSFER", crossing(&device)));
    }
    findings
}

/// A point's fence out as a sync_file and in again at another point, which is the way of every release by fence.
fn crossing(device: &SyncobjDevice) -> Result<(), TimelineError> {
    let timeline = Timeline::create(device)?;
    timeline.point(1).signal()?;
    let fence = timeline.point(1).export_sync_file()?;
    timeline.point(2).import_sync_file(&fence)?;
    let eventfd = timeline.point(2).eventfd(Until::Signalled)?;
    drop(eventfd);
    Ok(())
}

/// A fence that has signalled.
pub(super) fn signalled(fd: &DrmDeviceFd) -> Result<SyncFile, TimelineError> {
    let fd = fd.as_fd().try_clone_to_owned().map_err(TimelineError::Open)?;
    let timeline = Timeline::create(&SyncobjDevice::from_fd(fd)?)?;
    timeline.point(1).signal()?;
    timeline.point(1).export_sync_file()
}

/// What does not depend on a device: the fences of dma-bufs, and deadlines.
pub(super) fn fences(nodes: &[PathBuf]) -> super::Group {
    let mut group = super::Group::new("dma-bufs and sync_files");
    let buffer = match buffer(nodes) {
        Ok(buffer) => buffer,
        Err(why) => {
            for name in
                ["DMA_BUF_IOCTL_EXPORT_SYNC_FILE", "DMA_BUF_IOCTL_IMPORT_SYNC_FILE", "SYNC_IOC_SET_DEADLINE"]
            {
                group.findings.push(Finding::unknown(name, why.clone()));
            }
            return group;
        }
    };
    let exported = dma_buf::export_sync_file(buffer.as_fd(), Access::Read);
    group.findings.push(Finding::tried("DMA_BUF_IOCTL_EXPORT_SYNC_FILE", exported.as_ref().map_err(clone)));
    if let Ok(fence) = exported {
        let imported = dma_buf::import_sync_file(buffer.as_fd(), Access::Read, fence.as_fd());
        group.findings.push(Finding::tried("DMA_BUF_IOCTL_IMPORT_SYNC_FILE", imported));
        let deadline = SyncFile::from_kernel(fence).set_deadline(1);
        group.findings.push(Finding::tried("SYNC_IOC_SET_DEADLINE", deadline));
    }
    group
}

fn clone(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

/// A small dma-buf of any exporter: whichever of them we may open.
fn buffer(nodes: &[PathBuf]) -> Result<OwnedFd, String> {
    const LEN: u64 = 4096;
    let device = |path: &str| open(Path::new(path));
    let others = [
        device(udmabuf::PATH).and_then(|device| udmabuf::create(device.as_fd(), LEN)),
        device(dma_heap::SYSTEM_PATH).and_then(|device| dma_heap::allocate(device.as_fd(), LEN)),
    ];
    let mut reasons = Vec::new();
    for made in nodes.iter().map(|node| dumb(node)).chain(others) {
        match made {
            Ok(buffer) => return Ok(buffer),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Err(format!("no dma-buf to try it on ({})", reasons.join("; ")))
}

/// A dumb buffer, which takes no rights beyond opening a primary node.
fn dumb(node: &Path) -> io::Result<OwnedFd> {
    let device = open(node)?;
    let buffer = device.create_dumb_buffer((16, 16), Fourcc::Xrgb8888, 32)?;
    let exported = device.buffer_to_prime_fd(buffer.handle(), drm::CLOEXEC);
    device.destroy_dumb_buffer(buffer)?;
    exported
}
