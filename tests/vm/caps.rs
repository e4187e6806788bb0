//! `fencepost caps` on the guest's devices, whose abilities are known.

use std::process::Command;

use serde_json::Value;

use crate::harness::FENCEPOST;

fn report(arguments: &[&str]) -> (bool, Value) {
    let output = Command::new(FENCEPOST).args(["caps", "--json"]).args(arguments).output().expect("run");
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

fn answer<'a>(findings: &'a Value, name: &str) -> &'a str {
    let findings = findings.as_array().expect("a list of findings");
    let found = findings.iter().find(|finding| finding["name"] == name);
    found.and_then(|finding| finding["can"].as_str()).unwrap_or("not asked")
}

#[test]
fn the_guests_kernel_and_card_can_what_the_rig_was_built_for() {
    let (success, report) = report(&[]);
    assert!(success);
    for name in ["DMA_BUF_IOCTL_EXPORT_SYNC_FILE", "DMA_BUF_IOCTL_IMPORT_SYNC_FILE", "SYNC_IOC_SET_DEADLINE"]
    {
        assert_eq!(answer(&report["fences"]["findings"], name), "yes", "{name}: {report}");
    }
    let devices = report["devices"].as_array().expect("devices");
    let card = devices.iter().find(|device| answer(&device["findings"], "atomic KMS") == "yes");
    let card = card.expect("a card with KMS");
    for name in ["DRM_CAP_SYNCOBJ_TIMELINE", "DRM_IOCTL_SYNCOBJ_EVENTFD", "IN_FENCE_FD", "OUT_FENCE_PTR"] {
        assert_eq!(answer(&card["findings"], name), "yes", "{name}: {card}");
    }
    assert_eq!(answer(&report["conclusions"], "explicit sync (linux-drm-syncobj-v1) offered"), "yes");
    assert_eq!(answer(&report["conclusions"], "tearing"), "no", "virtio-gpu and vkms have no async flips");
}

#[test]
fn a_device_that_is_none_is_reported_as_not_offering_anything() {
    let (success, report) = report(&["--device", "/dev/null"]);
    assert!(success);
    assert_eq!(answer(&report["conclusions"], "explicit sync (linux-drm-syncobj-v1) offered"), "no");
}
