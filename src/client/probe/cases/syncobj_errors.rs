//! The errors of linux-drm-syncobj-v1, each on its object, and what is just not one.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use wayland_client::Proxy;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::Event as ParamsEvent;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_manager_v1::Error as ManagerError;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_surface_v1::Error;

use crate::client::probe::Probe;
use crate::client::probe::app::{FORMAT, memory};
use crate::client::probe::case::{Case, case};
use crate::client::probe::connection::{Inbox, inbox, told};
use crate::client::probe::sync_app::{At, Bench, SyncApp, set_acquire, set_release};
use crate::client::probe::verdict::{Outcome, Stop};
use crate::client::wire::add_planes;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::Flags;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_surface_v1::WpLinuxDrmSyncobjSurfaceV1;

const MANAGER: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_manager_v1.get_surface";
const IMPORT: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_manager_v1.import_timeline";
const SURFACE: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_surface_v1";
const DESTROY: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_surface_v1.destroy";
const ACQUIRE: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_surface_v1.set_acquire_point";
const RELEASE: &str = "linux-drm-syncobj-v1: wp_linux_drm_syncobj_surface_v1.set_release_point";

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    case("syncobj.s1.second", "a second syncobj object for a surface is surface_exists, on the manager", MANAGER, s1_second),
    case("syncobj.s1.two-surfaces", "every surface may have a syncobj object", MANAGER, s1_two_surfaces),
    case("syncobj.s1.again", "a surface may have a new syncobj object when the old one is destroyed", MANAGER, s1_again),
    case("syncobj.s1.again-validated", "the rules hold for a surface's second syncobj object, too", MANAGER, s1_again_validated),
    case("syncobj.s2.pipe", "a pipe is no timeline: invalid_timeline, on the manager", IMPORT, s2_pipe),
    case("syncobj.s2.memfd", "a memfd is no timeline: invalid_timeline, on the manager", IMPORT, s2_memfd),
    case("syncobj.s2.eventfd", "an eventfd is no timeline: invalid_timeline, on the manager", IMPORT, s2_eventfd),
    case("syncobj.s2.sync-file", "a sync_file is no timeline: invalid_timeline, on the manager", IMPORT, s2_sync_file),
    case("syncobj.s2.dma-buf", "a dma-buf is no timeline: invalid_timeline, on the manager", IMPORT, s2_dma_buf),
    case("syncobj.s2.twice", "one syncobj may be imported twice", IMPORT, s2_twice),
    case("syncobj.s3.acquire", "an acquire point for a destroyed surface is no_surface", ACQUIRE, s3_acquire),
    case("syncobj.s3.release", "a release point for a destroyed surface is no_surface", RELEASE, s3_release),
    case("syncobj.s3.destroy", "the syncobj object of a destroyed surface may be destroyed", DESTROY, s3_destroy),
    case("syncobj.s4.shm", "a wl_shm buffer is unsupported_buffer, or is synchronised by its points", SURFACE, s4_shm),
    case("syncobj.s4.shm-without-points", "a wl_shm buffer without points is unsupported_buffer or no_acquire_point", SURFACE, s4_shm_without_points),
    case("syncobj.s4.dmabuf-every-version", "buffers of every version of linux-dmabuf may have points", SURFACE, s4_every_version),
    case("syncobj.s5.acquire", "an acquire point without a buffer is no_buffer", ACQUIRE, s5_acquire),
    case("syncobj.s5.release", "a release point without a buffer is no_buffer", RELEASE, s5_release),
    case("syncobj.s5.both", "two points without a buffer are no_buffer", SURFACE, s5_both),
    case("syncobj.s5.null-acquire", "an acquire point with a null buffer is no_buffer", ACQUIRE, s5_null_acquire),
    case("syncobj.s5.null-release", "a release point with a null buffer is no_buffer", RELEASE, s5_null_release),
    case("syncobj.s5.null-both", "two points with a null buffer are no_buffer", SURFACE, s5_null_both),
    case("syncobj.s5.replaced-by-null", "points for a buffer that a null buffer replaced are no_buffer", SURFACE, s5_replaced_by_null),
    case("syncobj.s5.neither", "a commit with neither buffer nor points is no error", SURFACE, s5_neither),
    case("syncobj.s5.no-carry-over", "points do not carry over to a commit without a buffer", ACQUIRE, s5_no_carry_over),
    case("syncobj.s6.release-only", "a buffer with only a release point is no_acquire_point", ACQUIRE, s6_release_only),
    case("syncobj.s6.neither", "a buffer without points is no_acquire_point or no_release_point", SURFACE, s6_neither),
    case("syncobj.s6.no-carry-over", "points do not carry over to the next buffer", ACQUIRE, s6_no_carry_over),
    case("syncobj.s6.other-surface", "the points of one surface are not another's", SURFACE, s6_other_surface),
    case("syncobj.s7.acquire-only", "a buffer with only an acquire point is no_release_point", RELEASE, s7_acquire_only),
    case("syncobj.s8.equal", "equal points of one timeline are conflicting_points", SURFACE, s8_equal),
    case("syncobj.s8.earlier", "a release point before the acquire point is conflicting_points", SURFACE, s8_earlier),
    case("syncobj.s8.high-word", "points are compared with all 64 bits", SURFACE, s8_high_word),
    case("syncobj.s8.largest", "equal points at the end of the range are conflicting_points", SURFACE, s8_largest),
    case("syncobj.s8.later", "a later release point on one timeline is no error", SURFACE, s8_later),
    case("syncobj.s8.two-timelines", "points of two timelines do not conflict, whatever their values", SURFACE, s8_two_timelines),
    case("syncobj.s8.imported-twice", "equal points of one syncobj that was imported twice are conflicting_points or no error", SURFACE, s8_imported_twice),
    case("syncobj.s0.implicit-again", "without its syncobj object a surface needs no points", DESTROY, implicit_again),
    case("syncobj.s0.others-unharmed", "an error ends the connection of its client only", SURFACE, others_unharmed),
];

fn s1_second(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    bench.app.sync_surface(&bench.surface);
    bench.app.app.client.expect_error(&bench.app.manager, ManagerError::SurfaceExists)
}

fn s1_two_surfaces(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    let other = bench.app.app.surface();
    bench.app.sync_surface(&other);
    bench.app.app.client.expect_no_error()
}

fn s1_again(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    bench.sync.destroy();
    bench.sync = bench.app.sync_surface(&bench.surface);
    bench.commits()
}

fn s1_again_validated(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    bench.sync.destroy();
    bench.sync = bench.app.sync_surface(&bench.surface);
    bench.attach();
    set_acquire(&bench.sync, (&bench.one, 1));
    bench.commits_to(Error::NoReleasePoint)
}

fn imported(probe: &mut Probe, fd: OwnedFd) -> Outcome {
    let mut app = SyncApp::open(probe)?;
    app.import(fd);
    app.app.client.expect_error(&app.manager, ManagerError::InvalidTimeline)
}

fn s2_pipe(probe: &mut Probe) -> Outcome {
    let (reader, _writer) = std::io::pipe()?;
    imported(probe, reader.into())
}

fn s2_memfd(probe: &mut Probe) -> Outcome {
    imported(probe, memory(4096)?)
}

fn s2_eventfd(probe: &mut Probe) -> Outcome {
    imported(probe, eventfd(0, EventfdFlags::CLOEXEC)?)
}

fn s2_sync_file(probe: &mut Probe) -> Outcome {
    SyncApp::open(probe)?;
    let point = probe.machine.timeline()?.point(1);
    point.signal()?;
    imported(probe, point.export_sync_file()?.dup()?)
}

fn s2_dma_buf(probe: &mut Probe) -> Outcome {
    SyncApp::open(probe)?;
    let image = probe.machine.image()?;
    let plane = image.layout().planes.first().ok_or(Stop::CannotTest("no plane".into()))?;
    imported(probe, plane.fd.try_clone()?)
}

fn s2_twice(probe: &mut Probe) -> Outcome {
    let mut app = SyncApp::open(probe)?;
    let timeline = app.timeline(probe)?;
    app.import(timeline.kernel.export()?);
    app.app.client.expect_no_error()
}

type Set = fn(&WpLinuxDrmSyncobjSurfaceV1, At<'_>);

fn for_a_destroyed_surface(probe: &mut Probe, set: Set) -> Outcome {
    let mut bench = Bench::new(probe)?;
    bench.surface.destroy();
    bench.app.app.client.roundtrip()?;
    set(&bench.sync, (&bench.one, 1));
    bench.app.app.client.expect_error(&bench.sync, Error::NoSurface)
}

fn s3_acquire(probe: &mut Probe) -> Outcome {
    for_a_destroyed_surface(probe, set_acquire)
}

fn s3_release(probe: &mut Probe) -> Outcome {
    for_a_destroyed_surface(probe, set_release)
}

fn s3_destroy(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    bench.surface.destroy();
    bench.sync.destroy();
    bench.app.app.client.expect_no_error()
}

/// What the compositor answers to the commit of a buffer that it need not support.
fn unsupported(bench: &mut Bench, others: &[Error]) -> Result<Option<String>, Stop> {
    let (interface, id) = (WpLinuxDrmSyncobjSurfaceV1::interface().name, bench.sync.id().protocol_id());
    bench.surface.commit();
    let Some(error) = bench.app.app.client.end()? else { return Ok(None) };
    let is_right = error.object_interface == interface
        && error.object_id == id
        && (error.code == Error::UnsupportedBuffer as u32
            || others.iter().any(|other| *other as u32 == error.code));
    match is_right {
        true => Ok(Some(told(&error))),
        false => {
            Err(Stop::Fail(format!("{}; unsupported_buffer on {interface}@{id} is wanted", told(&error))))
        }
    }
}

fn s4_shm(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    let shm = bench.app.app.shm_buffer()?;
    bench.surface.attach(Some(&shm), 0, 0);
    bench.set_points(1, 2);
    if let Some(refused) = unsupported(&mut bench, &[])? {
        return Ok(refused);
    }
    // Accepted: then nothing reads the buffer any more when the surface is gone, and the release point has to say so.
    bench.one.signal(1)?;
    bench.surface.destroy();
    bench.app.until_signalled((&bench.one, 2), "when the surface is gone")?;
    Ok("accepted and released".into())
}

fn s4_shm_without_points(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    let shm = bench.app.app.shm_buffer()?;
    bench.surface.attach(Some(&shm), 0, 0);
    let refused = unsupported(&mut bench, &[Error::NoAcquirePoint, Error::NoReleasePoint])?;
    refused.ok_or_else(|| Stop::fail("no error: a buffer without points was accepted"))
}

fn s4_every_version(probe: &mut Probe) -> Outcome {
    let offered = probe.app()?.client.offered::<ZwpLinuxDmabufV1>();
    let last = offered.ok_or(Stop::NotOffered("zwp_linux_dmabuf_v1".into()))?;
    for version in 1..=last.min(5) {
        let mut bench = Bench::new(probe)?;
        let image = probe.machine.image()?;
        let layout = image.layout();
        let client = &mut bench.app.app.client;
        let factory: ZwpLinuxDmabufV1 = client.bind(version..=version)?;
        let params = factory.create_params(&client.handle(), Inbox::default());
        add_planes(&params, layout);
        params.create(layout.size.0 as i32, layout.size.1 as i32, FORMAT, Flags::empty());
        client.until("created or failed", || inbox(&params, |events| !events.is_empty()))?;
        let buffer = inbox(&params, |events| match events.first() {
            Some(ParamsEvent::Created { buffer }) => Some(buffer.clone()),
            _ => None,
        });
        let Some(buffer) = buffer else {
            return Err(Stop::CannotTest(format!("version {version}: the buffer is refused")));
        };
        bench.surface.attach(Some(&buffer), 0, 0);
        bench.set_points(1, 2);
        bench.commits().map_err(|stop| in_version(version, stop))?;
    }
    Ok(format!("no error with versions 1 to {}", last.min(5)))
}

fn in_version(version: u32, stop: Stop) -> Stop {
    match stop {
        Stop::Fail(seen) => Stop::Fail(format!("version {version}: {seen}")),
        other => other,
    }
}

/// Points without a buffer: with nothing attached, or with `attach(NULL)`.
fn without_a_buffer(probe: &mut Probe, null: bool, set: &[Set]) -> Outcome {
    let bench = Bench::new(probe)?;
    if null {
        bench.surface.attach(None, 0, 0);
    }
    for (set, value) in set.iter().zip(1..) {
        set(&bench.sync, (&bench.one, value));
    }
    bench.commits_to(Error::NoBuffer)
}

fn s5_acquire(probe: &mut Probe) -> Outcome {
    without_a_buffer(probe, false, &[set_acquire])
}

fn s5_release(probe: &mut Probe) -> Outcome {
    without_a_buffer(probe, false, &[set_release])
}

fn s5_both(probe: &mut Probe) -> Outcome {
    without_a_buffer(probe, false, &[set_acquire, set_release])
}

fn s5_null_acquire(probe: &mut Probe) -> Outcome {
    without_a_buffer(probe, true, &[set_acquire])
}

fn s5_null_release(probe: &mut Probe) -> Outcome {
    without_a_buffer(probe, true, &[set_release])
}

fn s5_null_both(probe: &mut Probe) -> Outcome {
    without_a_buffer(probe, true, &[set_acquire, set_release])
}

fn s5_replaced_by_null(probe: &mut Probe) -> Outcome {
    let bench = Bench::new(probe)?;
    bench.attach();
    bench.set_points(1, 2);
    bench.surface.attach(None, 0, 0);
    bench.commits_to(Error::NoBuffer)
}

fn s5_neither(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    bench.commits()?;
    bench.surface.attach(None, 0, 0);
    bench.commits()
}

fn s5_no_carry_over(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    bench.attach();
    bench.set_points(1, 2);
    bench.commits()?;
    bench.commits()?;
    bench.surface.attach(None, 0, 0);
    bench.commits()
}

fn s6_release_only(probe: &mut Probe) -> Outcome {
    let bench = Bench::new(probe)?;
    bench.attach();
    set_release(&bench.sync, (&bench.one, 1));
    bench.commits_to(Error::NoAcquirePoint)
}

fn s6_neither(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    bench.attach();
    let id = bench.sync.id().protocol_id();
    bench.surface.commit();
    let Some(error) = bench.app.app.client.end()? else { return Err(Stop::fail("no error")) };
    // Both points are missing: either is true.
    let codes = [Error::NoAcquirePoint as u32, Error::NoReleasePoint as u32];
    let interface = WpLinuxDrmSyncobjSurfaceV1::interface().name;
    match error.object_interface == interface && error.object_id == id && codes.contains(&error.code) {
        true => Ok(told(&error)),
        false => Err(Stop::Fail(told(&error))),
    }
}

fn s6_no_carry_over(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    bench.attach();
    bench.set_points(1, 2);
    bench.commits()?;
    bench.attach();
    set_release(&bench.sync, (&bench.one, 3));
    bench.commits_to(Error::NoAcquirePoint)
}

fn s6_other_surface(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    let (explicit, implicit) = (bench.app.app.surface(), bench.app.app.surface());
    let other: WpLinuxDrmSyncobjSurfaceV1 = bench.app.sync_surface(&explicit);
    set_acquire(&other, (&bench.one, 1));
    set_release(&other, (&bench.one, 2));
    commit_buffer(&implicit, &bench);
    bench.app.app.client.roundtrip()?;
    bench.attach();
    set_release(&bench.sync, (&bench.one, 2));
    bench.commits_to(Error::NoAcquirePoint)
}

fn commit_buffer(surface: &WlSurface, bench: &Bench) {
    surface.attach(Some(&bench.buffer), 0, 0);
    surface.commit();
}

fn s7_acquire_only(probe: &mut Probe) -> Outcome {
    let bench = Bench::new(probe)?;
    bench.attach();
    set_acquire(&bench.sync, (&bench.one, 1));
    bench.commits_to(Error::NoReleasePoint)
}

fn on_one_timeline(probe: &mut Probe, (acquire, release): (u64, u64)) -> Outcome {
    let bench = Bench::new(probe)?;
    bench.attach();
    bench.set_points(acquire, release);
    bench.commits_to(Error::ConflictingPoints)
}

fn s8_equal(probe: &mut Probe) -> Outcome {
    on_one_timeline(probe, (5, 5))
}

fn s8_earlier(probe: &mut Probe) -> Outcome {
    on_one_timeline(probe, (6, 5))
}

fn s8_high_word(probe: &mut Probe) -> Outcome {
    on_one_timeline(probe, ((1 << 32) + 1, 2))
}

fn s8_largest(probe: &mut Probe) -> Outcome {
    on_one_timeline(probe, (u64::MAX, u64::MAX))
}

fn s8_later(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    for (acquire, release) in [(5, 6), (7, 1 << 32), ((1 << 32) + 1, 1 << 40), (1 << 63, u64::MAX)] {
        bench.attach();
        bench.set_points(acquire, release);
        bench.commits()?;
    }
    Ok("no error".into())
}

fn s8_two_timelines(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    for (acquire, release) in [(5, 5), (9, 6), (1 << 40, 7)] {
        bench.attach();
        set_acquire(&bench.sync, (&bench.one, acquire));
        set_release(&bench.sync, (&bench.two, release));
        bench.commits()?;
    }
    Ok("no error".into())
}

fn s8_imported_twice(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    bench.two.object = bench.app.import(bench.one.kernel.export()?);
    bench.attach();
    set_acquire(&bench.sync, (&bench.one, 5));
    set_release(&bench.sync, (&bench.two, 5));
    let id = bench.sync.id().protocol_id();
    bench.surface.commit();
    match bench.app.app.client.end()? {
        None => Ok("no error: the imports count as two timelines".into()),
        Some(error) if error.object_id == id && error.code == Error::ConflictingPoints as u32 => {
            Ok(told(&error))
        }
        Some(error) => Err(Stop::Fail(told(&error))),
    }
}

fn implicit_again(probe: &mut Probe) -> Outcome {
    let mut bench = Bench::new(probe)?;
    bench.attach();
    bench.set_points(1, 2);
    bench.commits()?;
    bench.sync.destroy();
    let shm = bench.app.app.shm_buffer()?;
    bench.surface.attach(Some(&shm), 0, 0);
    bench.commits()?;
    bench.attach();
    bench.commits()
}

fn others_unharmed(probe: &mut Probe) -> Outcome {
    let mut other = Bench::new(probe)?;
    let bench = Bench::new(probe)?;
    set_acquire(&bench.sync, (&bench.one, 1));
    bench.commits_to(Error::NoBuffer)?;
    other.attach();
    other.set_points(1, 2);
    other.commits()
}
