//! What fencepost does with a machine's abilities, and why: the same rules as the code they speak of.

use super::{Can, Finding, Group};

/// The sentences, from most to least asked.
pub(super) fn conclude(fences: &Group, devices: &[Group]) -> Vec<Finding> {
    vec![
        explicit(devices),
        implicit(fences),
        handed_to("the GPU waits for fences itself", "EGL_ANDROID_native_fence_sync", devices),
        handed_to("KMS waits for fences itself", "IN_FENCE_FD", devices),
        handed_to("releases by page flip need no wake-up", "OUT_FENCE_PTR", devices),
        handed_to("tearing", "DRM_CAP_ATOMIC_ASYNC_PAGE_FLIP", devices),
        handed_to("variable refresh", "VRR", devices),
    ]
}

fn find<'a>(group: &'a Group, name: &str) -> impl Iterator<Item = &'a Finding> {
    group.all().into_iter().filter(move |finding| finding.name == name)
}

fn can(group: &Group, name: &str) -> bool {
    find(group, name).any(|finding| finding.can == Can::Yes)
}

fn explicit(devices: &[Group]) -> Finding {
    const NAME: &str = "explicit sync (linux-drm-syncobj-v1) offered";
    const NEEDS: [&str; 3] =
        ["DRM_CAP_SYNCOBJ_TIMELINE", "DRM_IOCTL_SYNCOBJ_EVENTFD", "DRM_IOCTL_SYNCOBJ_TRANSFER"];
    if let Some(device) = devices.iter().find(|device| NEEDS.iter().all(|need| can(device, need))) {
        return Finding::yes(
            NAME,
            format!("because {} has timelines, eventfds for points, and transfers", device.name),
        );
    }
    let missing = |device: &Group| {
        let lacks: Vec<_> = NEEDS.into_iter().filter(|need| !can(device, need)).collect();
        format!("{} lacks {}", device.name, lacks.join(", "))
    };
    Finding::no(NAME, format!("because {}", devices.iter().map(missing).collect::<Vec<_>>().join("; ")))
}

fn implicit(fences: &Group) -> Finding {
    const NAME: &str = "implicit sync both ways";
    let works = |name| find(fences, name).next().map_or(Can::Unknown, |finding| finding.can);
    match (works("DMA_BUF_IOCTL_EXPORT_SYNC_FILE"), works("DMA_BUF_IOCTL_IMPORT_SYNC_FILE")) {
        (Can::Yes, Can::Yes) => Finding::yes(
            NAME,
            "because writers' fences can be read from dma-bufs and ours be added as readers",
        ),
        (Can::No, _) | (_, Can::No) => Finding::no(
            NAME,
            "because the kernel is older than 6.0: writers are polled for, and readers are told by wl_buffer.release alone",
        ),
        _ => Finding::unknown(NAME, "because there was no dma-buf to try it on"),
    }
}

/// Names the devices that can.
fn handed_to(name: &'static str, ability: &'static str, devices: &[Group]) -> Finding {
    let who = |wanted: Can| {
        let able = devices.iter().filter(|device| find(device, ability).any(|finding| finding.can == wanted));
        able.map(|device| device.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (able, unknown) = (who(Can::Yes), who(Can::Unknown));
    match (able.is_empty(), unknown.is_empty()) {
        (false, _) => Finding::yes(name, format!("on {able} ({ability})")),
        (true, false) => Finding::unknown(name, format!("{ability} could not be tried on {unknown}")),
        (true, true) => Finding::no(name, format!("no device has {ability}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(findings: Vec<Finding>) -> Group {
        Group { name: "card".into(), findings, groups: vec![] }
    }

    fn timeline() -> Vec<Finding> {
        ["DRM_CAP_SYNCOBJ_TIMELINE", "DRM_IOCTL_SYNCOBJ_EVENTFD", "DRM_IOCTL_SYNCOBJ_TRANSFER"]
            .map(|name| Finding::yes(name, ""))
            .into()
    }

    #[test]
    fn explicit_sync_takes_everything_on_one_device() {
        assert_eq!(explicit(&[device(timeline())]).can, Can::Yes);
        for missing in 0..3 {
            let (mut one, mut other) = (timeline(), vec![]);
            other.push(one.remove(missing));
            let verdict = explicit(&[device(one), device(other)]);
            assert_eq!(verdict.can, Can::No);
            assert!(verdict.seen.contains(timeline()[missing].name), "{}", verdict.seen);
        }
    }

    #[test]
    fn implicit_sync_needs_both_directions() {
        let group = |export, import| {
            device(vec![
                Finding { name: "DMA_BUF_IOCTL_EXPORT_SYNC_FILE", can: export, seen: String::new() },
                Finding { name: "DMA_BUF_IOCTL_IMPORT_SYNC_FILE", can: import, seen: String::new() },
            ])
        };
        assert_eq!(implicit(&group(Can::Yes, Can::Yes)).can, Can::Yes);
        assert_eq!(implicit(&group(Can::Yes, Can::No)).can, Can::No);
        assert_eq!(implicit(&group(Can::Unknown, Can::Unknown)).can, Can::Unknown);
        assert_eq!(implicit(&device(vec![])).can, Can::Unknown);
    }

    #[test]
    fn an_ability_of_a_part_is_an_ability_of_its_device() {
        let part = device(vec![Finding::yes("VRR", "")]);
        let whole = Group { name: "card".into(), findings: vec![], groups: vec![part] };
        assert_eq!(handed_to("variable refresh", "VRR", &[whole]).can, Can::Yes);
        let untried = device(vec![Finding::unknown("VRR", "")]);
        assert_eq!(handed_to("variable refresh", "VRR", &[untried]).can, Can::Unknown);
        assert_eq!(handed_to("variable refresh", "VRR", &[]).can, Can::No);
    }
}
