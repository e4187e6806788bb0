//! Super+F on vkms, which has planes to spare: the picture above all windows, and what it does to what is below.

use std::fs;

use crate::harness::{Session, host, wait_for_commits, wait_until};
use crate::new_trace;

/// The processes that show an overlay.
fn overlays() -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse::<u32>().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        command.starts_with(b"/proc/self/exe\0overlay\0").then_some(pid)
    });
    processes.collect()
}

#[test]
fn the_overlay_is_on_a_plane_and_a_client_below_it_is_scanned_out_as_before() {
    const FRAMES: usize = 500;
    let trace = new_trace();
    let session = Session::start(&["--mode=640x480", "--trace", &trace]);
    let client = session.client(&["--sync=explicit", "--source=heap", "--fullscreen"]);
    wait_for_commits(trace.as_ref(), &[client.pid()], 10);
    host("key meta_l-f");
    wait_until("there is an overlay", || !overlays().is_empty());
    let overlay = overlays()[0];
    // It draws only while the client does.
    wait_for_commits(trace.as_ref(), &[overlay], 3);
    wait_for_commits(trace.as_ref(), &[client.pid()], FRAMES);
    let report = client.end();
    report.expect_clean();
    let frames = report.number("presented");
    assert!(frames + 5 >= FRAMES as u64, "{report:?}");
    host("key meta_l-f");
    wait_until("there is none", || overlays().is_empty());
    let record = session.end();
    let shown = record.of(overlay)["presented"].as_u64().unwrap_or(0);
    let work = ["commits", "passes", "scanned_out"].map(|name| record.of_output(name));
    let [_, passes, scanned_out] = work;
    println!("{shown} pictures of the overlay, {work:?}");
    assert!(shown >= 2, "{shown} {work:?}");
    // The empty screen before the client and after it, with the overlay and without.
    assert!(passes <= 8, "{shown} {work:?} {report:?}");
    assert!(report.number("zero_copy") + 5 >= frames, "{work:?} {report:?}");
    assert!(scanned_out >= frames + shown - 5, "{shown} {work:?}");
}
