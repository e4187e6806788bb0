//! What a device's CRTCs, planes and connectors can. Only reads, but for one test that changes nothing.

use std::collections::BTreeSet;

use drm::{
    Device as _,
    control::{AtomicCommitFlags, Device as _, connector, plane},
};
use smithay::backend::drm::DrmDeviceFd;

use super::{Finding, Group};
use crate::{
    errors::chain,
    fence::sync_file::SyncFile,
    output::kms::{
        device::{self, Crtc, Plane, Tables},
        props::{ConnectorProp, CrtcProp, PlaneProp, Props},
        request::Request,
    },
};

/// Adds what there is to say about the device's outputs.
pub(super) fn ask(fd: &DrmDeviceFd, group: &mut Group) {
    if let Ok(driver) = fd.get_driver() {
        group.name.push_str(&format!(" ({})", driver.name().to_string_lossy()));
    }
    let tables = match Tables::read(fd) {
        Ok(tables) => tables,
        Err(error) => {
            group.findings.push(Finding::no("atomic KMS", chain(&error)));
            return;
        }
    };
    let master = device::is_master(fd);
    group.findings.extend([
        Finding::yes("atomic KMS", if master { "" } else { "another process is the device's master" }),
        Finding::present("DRM_CAP_ADDFB2_MODIFIERS", tables.caps.modifiers),
        Finding::present("DRM_CAP_ATOMIC_ASYNC_PAGE_FLIP", tables.caps.async_flip),
        in_fence(fd, &tables, master),
        out_fence(&tables.crtcs),
    ]);
    let mut planes = Group::new("planes");
    planes.groups = tables.planes.iter().map(plane).collect();
    group.groups.push(planes);
    match connectors(fd) {
        Ok(connectors) => group.groups.push(connectors),
        Err(error) => group.findings.push(Finding::unknown("connectors", error.to_string())),
    }
}

/// `IN_FENCE_FD`: every plane has the property; drivers that refuse it do so when it is set, which a commit that is
/// only tested finds out (nvidia-drm before 560.35.03: `EPERM`).
fn in_fence(fd: &DrmDeviceFd, tables: &Tables, master: bool) -> Finding {
    const NAME: &str = "IN_FENCE_FD";
    let with = tables.planes.iter().filter(|plane| plane.props.has(PlaneProp::InFenceFd)).count();
    let seen = format!("{with} of {} planes have it", tables.planes.len());
    let Some(plane) = tables.planes.iter().find(|plane| plane.props.has(PlaneProp::InFenceFd)) else {
        return Finding::no(NAME, seen);
    };
    if !master {
        return Finding::unknown(NAME, format!("{seen}; not tried: another process is the device's master"));
    }
    let fence = match super::kernel::signalled(fd) {
        Ok(fence) => fence,
        Err(error) => return Finding::unknown(NAME, format!("{seen}; not tried: {}", chain(&error))),
    };
    match test_in_fence(fd, plane, &fence) {
        Ok(()) => Finding::yes(NAME, format!("{seen}; taken in a test commit")),
        Err(error) => Finding::no(NAME, format!("{seen}; refused: {error}; waits on the CPU instead")),
    }
}

fn test_in_fence(fd: &DrmDeviceFd, plane: &Plane, fence: &SyncFile) -> std::io::Result<()> {
    use std::os::fd::AsFd;

    let mut request = Request::new();
    request.in_fence(&plane.props, fence.as_fd());
    request.send(fd, AtomicCommitFlags::TEST_ONLY).map(|_| ())
}

fn out_fence(crtcs: &[Crtc]) -> Finding {
    let with = crtcs.iter().filter(|crtc| crtc.props.has(CrtcProp::OutFencePtr)).count();
    let seen = format!("{with} of {} CRTCs have it; proven by the first commit", crtcs.len());
    Finding { name: "OUT_FENCE_PTR", can: if with > 0 { super::Can::Yes } else { super::Can::No }, seen }
}

fn plane(plane: &Plane) -> Group {
    let kind = format!("{:?}", plane.kind).to_lowercase();
    let mut group = Group::new(format!("{kind} {}", number(plane.handle)));
    let formats: BTreeSet<_> = plane.formats.iter().map(|format| format.code.to_string()).collect();
    let modifiers: BTreeSet<_> =
        plane.formats.iter().map(|format| format!("{:?}", format.modifier)).collect();
    group.findings.push(Finding::yes("formats", listed(&formats)));
    group.findings.push(Finding {
        name: "modifiers",
        can: if plane.props.has(PlaneProp::InFormats) { super::Can::Yes } else { super::Can::No },
        seen: listed(&modifiers),
    });
    for (name, prop) in [
        ("IN_FENCE_FD", PlaneProp::InFenceFd),
        ("FB_DAMAGE_CLIPS", PlaneProp::FbDamageClips),
        ("rotation", PlaneProp::Rotation),
        ("alpha", PlaneProp::Alpha),
    ] {
        group.findings.push(Finding::present(name, plane.props.has(prop)));
    }
    group
}

fn connectors(fd: &DrmDeviceFd) -> std::io::Result<Group> {
    let mut group = Group::new("connectors");
    for &handle in fd.resource_handles()?.connectors() {
        let info = fd.get_connector(handle, false)?;
        let props = Props::<ConnectorProp>::read(fd, handle)?;
        let state = match info.state() {
            connector::State::Connected => "connected",
            connector::State::Disconnected => "disconnected",
            connector::State::Unknown => "unknown",
        };
        let mut one = Group::new(format!("{info} ({state})"));
        one.findings.push(Finding::present("VRR", props.initial(ConnectorProp::VrrCapable) == Some(1)));
        if props.has(ConnectorProp::WritebackOutFencePtr) {
            one.findings.push(Finding::yes("WRITEBACK_OUT_FENCE_PTR", ""));
        }
        group.groups.push(one);
    }
    Ok(group)
}

fn number(handle: plane::Handle) -> u32 {
    handle.into()
}

/// A list that stays on a line.
fn listed(names: &BTreeSet<String>) -> String {
    const SHOWN: usize = 6;
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(" ");
    if let Some(more) = names.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
