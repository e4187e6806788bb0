//! The errors of linux-drm-syncobj-v1, S1 to S8: each with its code, on its object, and with what is just not one.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_manager_v1::Error as ManagerError;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_surface_v1::{
    Error, WpLinuxDrmSyncobjSurfaceV1,
};

use crate::fences::{SwSync, heap_buffer};
use crate::setup::{BYTES, Desk, desk, memory};
use crate::sync_app::{ClientTimeline, SyncApp, set_acquire, set_release};

/// A new client with a surface that is explicitly synchronised, and everything it could set.
struct Case {
    app: SyncApp,
    surface: WlSurface,
    sync: WpLinuxDrmSyncobjSurfaceV1,
    one: ClientTimeline,
    two: ClientTimeline,
    buffer: WlBuffer,
}

impl Case {
    fn new(desk: &Desk) -> Self {
        let app = SyncApp::new(desk);
        let surface = app.app.surface();
        let sync = app.sync_surface(&surface);
        let (one, two, buffer) = (app.timeline(), app.timeline(), app.heap_buffer());
        Self { app, surface, sync, one, two, buffer }
    }

    #[track_caller]
    fn commits_to(mut self, error: Error) {
        self.surface.commit();
        self.app.app.client.expect_protocol_error(&self.sync, error);
    }

    #[track_caller]
    fn commits(&mut self) {
        self.surface.commit();
        self.app.app.client.expect_no_error();
    }
}

#[test]
fn s1_a_surface_has_one_syncobj_object_at_a_time() {
    let desk = desk();
    let mut case = Case::new(&desk);
    let other = case.app.app.surface();
    case.app.sync_surface(&other);
    case.commits();
    case.app.sync_surface(&case.surface);
    case.app.app.client.expect_protocol_error(&case.app.manager, ManagerError::SurfaceExists);
}

#[test]
fn s1_a_destroyed_syncobj_object_makes_room_for_another_that_is_validated() {
    let desk = desk();
    let mut case = Case::new(&desk);
    case.sync.destroy();
    case.sync = case.app.sync_surface(&case.surface);
    case.commits();
    case.surface.attach(Some(&case.buffer), 0, 0);
    case.commits_to(Error::NoAcquirePoint);
}

#[test]
fn s2_only_a_syncobj_is_a_timeline() {
    let desk = desk();
    let mut sw = SwSync::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let others: [(&str, OwnedFd); 6] = [
        ("the reading end of a pipe", reader.into()),
        ("the writing end of a pipe", writer.into()),
        ("a memfd", memory(BYTES)),
        ("a sync_file", sw.fence().dup().unwrap()),
        ("a dma-buf", heap_buffer()),
        ("an eventfd", eventfd(0, EventfdFlags::empty()).unwrap()),
    ];
    for (what, fd) in others {
        let mut app = SyncApp::new(&desk);
        app.timeline();
        app.app.client.expect_no_error();
        app.import(&fd);
        println!("{what}");
        app.app.client.expect_protocol_error(&app.manager, ManagerError::InvalidTimeline);
    }
}

#[test]
fn s3_points_for_a_destroyed_surface_are_refused() {
    let desk = desk();
    for set in [set_acquire, set_release] {
        let mut case = Case::new(&desk);
        case.surface.destroy();
        case.app.app.client.expect_no_error();
        set(&case.sync, (&case.one, 1));
        case.app.app.client.expect_protocol_error(&case.sync, Error::NoSurface);
    }
}

#[test]
fn s4_a_shm_buffer_has_no_explicit_sync() {
    let desk = desk();
    for points in [true, false] {
        let mut case = Case::new(&desk);
        case.buffer = case.app.app.shm_buffer();
        case.surface.attach(Some(&case.buffer), 0, 0);
        if points {
            set_acquire(&case.sync, (&case.one, 1));
            set_release(&case.sync, (&case.one, 2));
        }
        case.commits_to(Error::UnsupportedBuffer);
    }
    let mut case = Case::new(&desk);
    case.sync.destroy();
    let shm = case.app.app.shm_buffer();
    case.surface.attach(Some(&shm), 0, 0);
    case.commits();
}

#[test]
fn s4_dma_bufs_of_every_version_of_linux_dmabuf_have_explicit_sync() {
    let desk = desk();
    // create_immed came with version 2.
    for version in 2..=5 {
        let mut case = Case::new(&desk);
        case.app.factory = case.app.app.client.bind(version);
        let buffer = case.app.heap_buffer();
        case.surface.attach(Some(&buffer), 0, 0);
        set_acquire(&case.sync, (&case.one, 1));
        set_release(&case.sync, (&case.one, 2));
        case.commits();
    }
}

#[test]
fn s5_a_point_without_a_buffer_is_refused() {
    let desk = desk();
    for set in [set_acquire, set_release] {
        for detach in [true, false] {
            let mut case = Case::new(&desk);
            if detach {
                case.surface.attach(Some(&case.buffer), 0, 0);
                case.surface.attach(None, 0, 0);
            }
            case.commits();
            set(&case.sync, (&case.one, 1));
            case.commits_to(Error::NoBuffer);
        }
    }
    let case = Case::new(&desk);
    case.surface.attach(None, 0, 0);
    set_acquire(&case.sync, (&case.one, 1));
    set_release(&case.sync, (&case.one, 2));
    case.commits_to(Error::NoBuffer);
}

#[test]
fn s5_points_do_not_carry_over_to_a_commit_without_a_buffer() {
    let desk = desk();
    let mut case = Case::new(&desk);
    case.surface.attach(Some(&case.buffer), 0, 0);
    set_acquire(&case.sync, (&case.one, 1));
    set_release(&case.sync, (&case.one, 2));
    case.commits();
    case.commits();
    case.surface.attach(None, 0, 0);
    case.commits();
}

#[test]
fn s6_a_buffer_without_an_acquire_point_is_refused() {
    let desk = desk();
    for release in [true, false] {
        let case = Case::new(&desk);
        case.surface.attach(Some(&case.buffer), 0, 0);
        if release {
            set_release(&case.sync, (&case.one, 1));
        }
        case.commits_to(Error::NoAcquirePoint);
    }
}

#[test]
fn s6_points_do_not_carry_over_to_a_commit_with_a_buffer() {
    let desk = desk();
    let mut case = Case::new(&desk);
    case.surface.attach(Some(&case.buffer), 0, 0);
    set_acquire(&case.sync, (&case.one, 1));
    set_release(&case.sync, (&case.one, 2));
    case.commits();
    case.surface.attach(Some(&case.buffer), 0, 0);
    case.commits_to(Error::NoAcquirePoint);
}

#[test]
fn s6_points_of_one_surface_are_not_anothers() {
    let desk = desk();
    let mut case = Case::new(&desk);
    let other = case.app.app.surface();
    let other_sync = case.app.sync_surface(&other);
    let implicit = case.app.app.surface();
    set_acquire(&other_sync, (&case.one, 1));
    set_release(&other_sync, (&case.one, 2));
    implicit.attach(Some(&case.buffer), 0, 0);
    implicit.commit();
    case.commits();
    case.surface.attach(Some(&case.buffer), 0, 0);
    case.commits_to(Error::NoAcquirePoint);
}

#[test]
fn s7_a_buffer_without_a_release_point_is_refused() {
    let desk = desk();
    let case = Case::new(&desk);
    case.surface.attach(Some(&case.buffer), 0, 0);
    set_acquire(&case.sync, (&case.one, 1));
    case.commits_to(Error::NoReleasePoint);
}

#[test]
fn s8_on_one_timeline_the_release_point_must_be_the_later_one() {
    let desk = desk();
    for (acquire, release) in [(5, 5), (6, 5), (0, 0), (1 << 32, 1), (u64::MAX, u64::MAX), (u64::MAX, 0)] {
        let case = Case::new(&desk);
        case.surface.attach(Some(&case.buffer), 0, 0);
        set_acquire(&case.sync, (&case.one, acquire));
        set_release(&case.sync, (&case.one, release));
        println!("{acquire} {release}");
        case.commits_to(Error::ConflictingPoints);
    }
}

#[test]
fn s8_later_points_and_points_of_other_timelines_do_not_conflict() {
    let desk = desk();
    let mut case = Case::new(&desk);
    for (acquire, release) in [(5, 6), (0, 1), (1, 1 << 32), (u64::MAX - 1, u64::MAX)] {
        case.surface.attach(Some(&case.buffer), 0, 0);
        set_acquire(&case.sync, (&case.one, acquire));
        set_release(&case.sync, (&case.one, release));
        case.commits();
    }
    for (acquire, release) in [(5, 5), (6, 5), (u64::MAX, 0)] {
        case.surface.attach(Some(&case.buffer), 0, 0);
        set_acquire(&case.sync, (&case.one, acquire));
        set_release(&case.sync, (&case.two, release));
        case.commits();
    }
}
