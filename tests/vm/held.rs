//! What a process holds of the kernel's, as the kernel tells it.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use fencepost::sys::syncobj;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// What can leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) fds: usize,
    /// The fds in its epoll sets.
    pub(crate) sources: usize,
    /// The next syncobj handle of each of its DRM devices, all together: the kernel hands out the lowest free one.
    pub(crate) handles: u32,
    /// Memory that is no file's.
    pub(crate) anon_kib: usize,
}

impl Held {
    /// By another process, or by this one. This one's syncobj handles are not counted.
    pub(crate) fn by(pid: Option<u32>) -> Self {
        let proc = PathBuf::from(match pid {
            Some(pid) => format!("/proc/{pid}"),
            None => "/proc/self".to_owned(),
        });
        let fds: Vec<_> = fs::read_dir(proc.join("fd")).expect("its fds").map(|fd| fd.unwrap()).collect();
        // Those of this process have one more: the folder that is read.
        let infos =
            fds.iter().filter_map(|fd| fs::read_to_string(proc.join("fdinfo").join(fd.file_name())).ok());
        let sources = infos.map(|info| info.lines().filter(|line| line.starts_with("tfd:")).count()).sum();
        let devices =
            fds.iter().filter(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.starts_with("/dev/dri")));
        let number = |fd: &fs::DirEntry| fd.file_name().to_string_lossy().parse().expect("a number");
        let handles = pid.map_or(0, |pid| devices.map(|fd| next_handle(pid, number(fd))).sum());
        let status = fs::read_to_string(proc.join("status")).expect("its status");
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its size");
        let anon_kib = anonymous.trim().trim_end_matches(" kB").parse().expect("a number");
        Self { fds: fds.len(), sources, handles, anon_kib }
    }

    /// Whether it is no more than `before`, give or take what a frame in flight has.
    pub(crate) fn is_flat_since(&self, before: &Self, slack_kib: usize) -> bool {
        self.fds <= before.fds + 4
            && self.sources <= before.sources + 2
            && self.handles <= before.handles + 2
            && self.anon_kib <= before.anon_kib + slack_kib
    }
}

/// The lowest free syncobj handle of a DRM file of another process.
fn next_handle(pid: u32, fd: i32) -> u32 {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("a process");
    let device = pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty()).expect("its fd");
    // vkms has no syncobjs.
    let Ok(handle) = syncobj::create(device.as_fd()) else { return 0 };
    syncobj::destroy(device.as_fd(), handle).expect("a handle");
    handle
}
