//! Timelines, as far as they need no device.

use super::*;

#[test]
fn what_is_no_drm_device_is_refused() {
    let (pipe, _writer) = std::io::pipe().expect("pipe");
    let error = SyncobjDevice::from_fd(pipe.into()).expect_err("a pipe");
    assert!(matches!(error, TimelineError::Unsupported { .. }), "{error}");
    let error = SyncobjDevice::open(Path::new("/nonexistent")).expect_err("no file");
    assert!(matches!(error, TimelineError::Open(_)), "{error}");
}

/// A timeline of a device on which nothing works.
pub(super) fn timeline_of_no_device(count: Option<Arc<()>>) -> Timeline {
    let (pipe, _writer) = std::io::pipe().expect("pipe");
    let scratch = Mutex::new(Scratch { handle: 0, holds: Weak::new() });
    let device = Device { fd: pipe.into(), scratch, gone: AtomicBool::new(false) };
    Timeline::from_handle(&SyncobjDevice(Arc::new(device)), 1, count)
}

#[test]
fn a_timeline_counts_until_its_last_point_is_gone() {
    let count = Arc::new(());
    let timeline = timeline_of_no_device(Some(Arc::clone(&count)));
    let point = timeline.point(1);
    drop(timeline);
    assert_eq!(Arc::strong_count(&count), 2);
    drop(point);
    assert_eq!(Arc::strong_count(&count), 1);
}
