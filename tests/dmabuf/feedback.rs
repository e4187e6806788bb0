//! What is advertised: at bind to old versions, by feedback objects to new ones.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use fencepost::halves::whole;
use fencepost::wayland::dmabuf::{Feedback, FeedbackError};
use rustix::fs::{SealFlags, ftruncate};
use rustix::io::Errno;
use smithay::backend::allocator::{Format, Fourcc, Modifier};
use wayland_client::WEnum;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_feedback_v1::{
    self, TrancheFlags, ZwpLinuxDmabufFeedbackV1,
};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1;
use wayland_server::Resource;

use crate::fixture::events;
use crate::server::{
    INVALID, LINEAR, MAIN_DEVICE, SCANOUT_DEVICE, Setup, answer, create_rgb, feedback, formats,
};

/// Format codes and format and modifier pairs that binding the factory in a version brings.
fn bound(version: u32) -> (Vec<u32>, Vec<(u32, u64)>) {
    let mut setup = Setup::with_version(version);
    setup.client.expect_no_error();
    let (mut codes, mut pairs) = (Vec::new(), Vec::new());
    for event in events(&setup.factory) {
        match event {
            zwp_linux_dmabuf_v1::Event::Format { format } => codes.push(format),
            zwp_linux_dmabuf_v1::Event::Modifier { format, modifier_hi, modifier_lo } => {
                pairs.push((format, whole(modifier_hi, modifier_lo)));
            }
            other => panic!("unknown event {other:?}"),
        }
    }
    (codes, pairs)
}

#[test]
fn versions_1_and_2_are_sent_each_format_that_needs_no_modifier_once() {
    for version in [1, 2] {
        let (codes, pairs) = bound(version);
        assert_eq!(codes, [Fourcc::Xrgb8888 as u32, Fourcc::Nv12 as u32]);
        assert!(pairs.is_empty());
    }
}

#[test]
fn version_3_is_sent_every_pair() {
    let (codes, pairs) = bound(3);
    assert!(codes.is_empty());
    let tiled = Modifier::I915_y_tiled.into();
    let (xrgb, argb, nv12) = (Fourcc::Xrgb8888 as u32, Fourcc::Argb8888 as u32, Fourcc::Nv12 as u32);
    assert_eq!(pairs, [(xrgb, LINEAR), (xrgb, INVALID), (argb, tiled), (nv12, LINEAR), (nv12, tiled)]);
}

#[test]
fn versions_with_feedback_are_sent_nothing_at_bind() {
    for version in [4, 5, 6] {
        assert_eq!(bound(version), (vec![], vec![]));
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Received {
    table: Vec<(u32, u64)>,
    main_device: u64,
    tranches: Vec<ReceivedTranche>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct ReceivedTranche {
    device: Option<u64>,
    flags: Option<TrancheFlags>,
    pairs: Vec<(u32, u64)>,
}

/// What a feedback object got since last asked, one entry for each `done`. Fails on whatever the protocol forbids.
fn received(object: &ZwpLinuxDmabufFeedbackV1) -> Vec<Received> {
    use zwp_linux_dmabuf_feedback_v1::Event;

    let device = |bytes: Vec<u8>| u64::from_ne_bytes(bytes.try_into().unwrap());
    let mut all = Vec::new();
    let (mut table, mut main_device, mut tranches) = (None, None, Vec::new());
    let mut tranche = ReceivedTranche::default();
    for event in events(object) {
        match event {
            Event::FormatTable { fd, size } => assert!(table.replace(read_table(&fd, size)).is_none()),
            Event::MainDevice { device: bytes } => assert!(main_device.replace(device(bytes)).is_none()),
            Event::TrancheTargetDevice { device: bytes } => {
                assert!(tranche.device.replace(device(bytes)).is_none());
            }
            Event::TrancheFlags { flags: WEnum::Value(flags) } => {
                assert!(tranche.flags.replace(flags).is_none());
            }
            Event::TrancheFormats { indices } => {
                assert!(indices.len() <= 4096 - 12, "libwayland reads messages of 4096 bytes");
                let table = table.as_ref().expect("a table before indices into it");
                let indices = indices.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]));
                tranche.pairs.extend(indices.map(|index| table[usize::from(index)]));
            }
            Event::TrancheDone => tranches.push(std::mem::take(&mut tranche)),
            Event::Done => {
                let (table, main_device) = (table.take().unwrap(), main_device.take().unwrap());
                all.push(Received { table, main_device, tranches: std::mem::take(&mut tranches) });
            }
            other => panic!("unknown event {other:?}"),
        }
    }
    assert!(table.is_none() && main_device.is_none() && tranches.is_empty(), "ends with done");
    all.iter().for_each(expect_conforming);
    all
}

fn read_table(fd: &OwnedFd, size: u32) -> Vec<(u32, u64)> {
    let mut bytes = vec![0; size as usize];
    assert_eq!(rustix::io::pread(fd, &mut bytes, 0).unwrap(), bytes.len());
    let entry = |entry: &[u8]| {
        let format = u32::from_ne_bytes(entry[0..4].try_into().unwrap());
        (format, u64::from_ne_bytes(entry[8..16].try_into().unwrap()))
    };
    bytes.chunks_exact(16).map(entry).collect()
}

fn expect_conforming(received: &Received) {
    let main = |tranche: &ReceivedTranche| tranche.device == Some(received.main_device);
    assert!(received.tranches.iter().any(main), "a tranche for the main device");
    let mut seen = HashSet::new();
    for tranche in &received.tranches {
        let kind = (tranche.device.expect("a target device"), tranche.flags.expect("flags").bits());
        assert!(!tranche.pairs.is_empty(), "formats");
        assert!(tranche.pairs.iter().all(|pair| seen.insert((kind, *pair))), "no pair twice in one kind");
    }
}

fn pairs(formats: &[Format]) -> Vec<(u32, u64)> {
    formats.iter().map(|format| (format.code as u32, format.modifier.into())).collect()
}

#[test]
fn default_feedback_lists_every_pair_for_the_main_device() {
    for version in [4, 5] {
        let mut setup = Setup::with_version(version);
        let object = setup.default_feedback();
        setup.client.expect_no_error();
        let pairs = pairs(&formats());
        let main = ReceivedTranche {
            device: Some(MAIN_DEVICE),
            flags: Some(TrancheFlags::empty()),
            pairs: pairs.clone(),
        };
        assert_eq!(
            received(&object),
            [Received { table: pairs, main_device: MAIN_DEVICE, tranches: vec![main] }]
        );
    }
}

#[test]
fn version_6_has_sampling_tranches_instead_of_a_main_device() {
    use zwp_linux_dmabuf_feedback_v1::Event;

    let mut setup = Setup::with_version(6);
    let scanout = feedback().with_scanout(SCANOUT_DEVICE, formats());
    setup.fixture.server_mut().state.dmabuf.set_default_feedback(scanout);
    let object = setup.default_feedback();
    setup.client.expect_no_error();
    let (mut devices, mut flags) = (Vec::new(), Vec::new());
    for event in events(&object) {
        match event {
            Event::MainDevice { .. } => panic!("version 6 has no main device"),
            Event::TrancheTargetDevice { device } => devices.push(device),
            Event::TrancheFlags { flags: WEnum::Value(value) } => flags.push(value),
            _ => {}
        }
    }
    assert_eq!(devices, [SCANOUT_DEVICE, MAIN_DEVICE].map(|device| device.to_ne_bytes().to_vec()));
    assert_eq!(flags, [TrancheFlags::Scanout, TrancheFlags::Sampling]);
}

#[test]
fn the_format_table_cannot_be_changed_by_a_client() {
    let mut setup = Setup::new();
    let object = setup.default_feedback();
    setup.client.expect_no_error();
    let table = events(&object).into_iter().find_map(|event| match event {
        zwp_linux_dmabuf_feedback_v1::Event::FormatTable { fd, size } => Some((fd, size)),
        _ => None,
    });
    let (fd, size) = table.unwrap();
    assert_eq!(u64::from(size), rustix::fs::fstat(&fd).unwrap().st_size as u64);
    assert_eq!(rustix::io::pwrite(&fd, &[1], 0), Err(Errno::PERM));
    assert_eq!(ftruncate(&fd, 0), Err(Errno::PERM));
    assert_eq!(ftruncate(&fd, 1 << 20), Err(Errno::PERM));
    // SEAL_WRITE also keeps writable shared mappings away, and SEAL_SEAL further seals.
    let seals = rustix::fs::fcntl_get_seals(&fd).unwrap();
    assert!(seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
}

#[test]
fn a_scanout_tranche_of_a_surface_comes_first_and_only_to_that_surface() {
    let mut setup = Setup::new();
    let (one, other) = (setup.surface(), setup.surface());
    let (of_one, of_other) = (setup.surface_feedback(&one), setup.surface_feedback(&other));
    let of_none = setup.default_feedback();
    setup.client.expect_no_error();
    for object in [&of_one, &of_other, &of_none] {
        assert_eq!(received(object).len(), 1);
    }

    let unknown = Format { code: Fourcc::Rgb565, modifier: Modifier::Linear };
    let scanout = [formats()[3], formats()[0], formats()[3], unknown];
    {
        let state = &mut setup.fixture.server_mut().state;
        state
            .dmabuf
            .set_surface_feedback(&state.surfaces[0], Some(feedback().with_scanout(SCANOUT_DEVICE, scanout)));
    }
    setup.client.expect_no_error();
    let got = received(&of_one);
    assert_eq!(got.len(), 1);
    let [first, main] = got[0].tranches.as_slice() else { panic!("not two tranches: {got:?}") };
    assert_eq!((first.device, first.flags), (Some(SCANOUT_DEVICE), Some(TrancheFlags::Scanout)));
    assert_eq!(first.pairs, pairs(&scanout[..2]), "once each, and only what can be sampled too");
    assert_eq!((main.device, main.pairs.len()), (Some(MAIN_DEVICE), formats().len()));
    assert!(received(&of_other).is_empty());
    assert!(received(&of_none).is_empty());
}

#[test]
fn a_second_scanout_tranche_repeats_nothing_and_an_empty_one_is_not_sent() {
    let base = feedback();
    let one = base.with_scanout(SCANOUT_DEVICE, [formats()[0]]);
    assert!(one == one.with_scanout(SCANOUT_DEVICE, [formats()[0]]));
    assert!(base == base.with_scanout(SCANOUT_DEVICE, []));
    let mut setup = Setup::new();
    let two = one.with_scanout(SCANOUT_DEVICE, [formats()[0], formats()[1]]);
    setup.fixture.server_mut().state.dmabuf.set_default_feedback(two);
    let object = setup.default_feedback();
    setup.client.expect_no_error();
    let got = received(&object);
    let counts = got[0].tranches.iter().map(|tranche| tranche.pairs.len());
    assert_eq!(counts.collect::<Vec<_>>(), [1, 1, formats().len()]);
}

#[test]
fn the_same_feedback_is_not_sent_again() {
    let mut setup = Setup::new();
    let surface = setup.surface();
    let (of_surface, of_none) = (setup.surface_feedback(&surface), setup.default_feedback());
    setup.client.expect_no_error();
    assert_eq!((received(&of_surface).len(), received(&of_none).len()), (1, 1));

    {
        // Equal, and made anew.
        let state = &mut setup.fixture.server_mut().state;
        state.dmabuf.set_default_feedback(feedback());
        state.dmabuf.set_surface_feedback(&state.surfaces[0], Some(feedback()));
        state.dmabuf.set_surface_feedback(&state.surfaces[0], None);
    }
    setup.client.expect_no_error();
    assert_eq!((received(&of_surface).len(), received(&of_none).len()), (0, 0));

    let changed = || Feedback::new(MAIN_DEVICE + 1, formats()).unwrap();
    for _ in 0..2 {
        setup.fixture.server_mut().state.dmabuf.set_default_feedback(changed());
    }
    setup.client.expect_no_error();
    assert_eq!((received(&of_surface).len(), received(&of_none).len()), (1, 1));
}

#[test]
fn a_new_default_reaches_all_but_surfaces_with_their_own_which_fall_back_to_it() {
    let mut setup = Setup::new();
    let (one, other) = (setup.surface(), setup.surface());
    setup.client.expect_no_error();
    {
        // Before the client asks for it.
        let state = &mut setup.fixture.server_mut().state;
        let own = feedback().with_scanout(SCANOUT_DEVICE, [formats()[0]]);
        state.dmabuf.set_surface_feedback(&state.surfaces[0], Some(own));
    }
    let (of_one, of_other) = (setup.surface_feedback(&one), setup.surface_feedback(&other));
    let of_none = setup.default_feedback();
    setup.client.expect_no_error();
    assert_eq!(received(&of_one)[0].tranches.len(), 2);
    assert_eq!(received(&of_other)[0].tranches.len(), 1);
    assert_eq!(received(&of_none)[0].tranches.len(), 1);

    let changed = Feedback::new(MAIN_DEVICE + 1, formats()).unwrap();
    setup.fixture.server_mut().state.dmabuf.set_default_feedback(changed);
    setup.client.expect_no_error();
    assert!(received(&of_one).is_empty());
    assert_eq!(received(&of_other)[0].main_device, MAIN_DEVICE + 1);
    assert_eq!(received(&of_none)[0].main_device, MAIN_DEVICE + 1);

    {
        let state = &mut setup.fixture.server_mut().state;
        state.dmabuf.set_surface_feedback(&state.surfaces[0], None);
    }
    setup.client.expect_no_error();
    assert_eq!(received(&of_one)[0].main_device, MAIN_DEVICE + 1);
}

#[test]
fn feedback_of_a_destroyed_surface_is_inert() {
    let mut setup = Setup::new();
    let surface = setup.surface();
    let object = setup.surface_feedback(&surface);
    setup.client.expect_no_error();
    assert_eq!(received(&object).len(), 1);

    surface.destroy();
    setup.client.expect_no_error();
    {
        let state = &mut setup.fixture.server_mut().state;
        assert!(!state.surfaces[0].is_alive());
        let own = feedback().with_scanout(SCANOUT_DEVICE, [formats()[0]]);
        state.dmabuf.set_surface_feedback(&state.surfaces[0], Some(own));
        state.dmabuf.set_default_feedback(Feedback::new(MAIN_DEVICE + 1, formats()).unwrap());
    }
    setup.client.expect_no_error();
    assert!(received(&object).is_empty());
    object.destroy();
    setup.client.expect_no_error();
}

#[test]
fn a_destroyed_feedback_object_is_sent_nothing() {
    let mut setup = Setup::new();
    let object = setup.default_feedback();
    setup.client.expect_no_error();
    assert_eq!(received(&object).len(), 1);
    object.destroy();
    setup.client.expect_no_error();
    let changed = Feedback::new(MAIN_DEVICE + 1, formats()).unwrap();
    setup.fixture.server_mut().state.dmabuf.set_default_feedback(changed);
    setup.client.expect_no_error();
    assert!(received(&object).is_empty());
}

#[test]
fn a_pair_advertised_earlier_is_no_violation_later() {
    let mut setup = Setup::new();
    let fewer = Feedback::new(MAIN_DEVICE, [formats()[3]]).unwrap();
    setup.fixture.server_mut().state.dmabuf.set_default_feedback(fewer);
    let params = setup.rgb_params();
    create_rgb(&params);
    setup.client.expect_no_error();
    assert!(answer(&params).is_some());
}

#[test]
fn more_pairs_than_fit_in_one_event_are_all_sent() {
    let many: Vec<Format> = (0..5000)
        .map(|modifier| Format { code: Fourcc::Xrgb8888, modifier: Modifier::from(1 << 56 | modifier) })
        .collect();
    let mut setup = Setup::new();
    let all = Feedback::new(MAIN_DEVICE, many.clone()).unwrap();
    setup.fixture.server_mut().state.dmabuf.set_default_feedback(all);
    let object = setup.default_feedback();
    setup.client.expect_no_error();
    assert_eq!(received(&object)[0].tranches[0].pairs, pairs(&many));
}

#[test]
fn formats_with_unknown_planes_and_duplicates_are_not_advertised() {
    let unknown = Format { code: Fourcc::Yuv420_8bit, modifier: Modifier::Linear };
    let some = Feedback::new(MAIN_DEVICE, [formats()[0], unknown, formats()[0]]).unwrap();
    assert_eq!(some.formats().collect::<Vec<_>>(), [formats()[0]]);
    assert!(matches!(Feedback::new(MAIN_DEVICE, [unknown]), Err(FeedbackError::NoFormats)));
    assert!(matches!(Feedback::new(MAIN_DEVICE, []), Err(FeedbackError::NoFormats)));
}

#[test]
fn there_are_no_more_pairs_than_indices() {
    let pairs = |count: u64| {
        (0..count).map(|modifier| Format { code: Fourcc::Xrgb8888, modifier: Modifier::from(modifier) })
    };
    assert_eq!(Feedback::new(MAIN_DEVICE, pairs(65_536)).unwrap().formats().count(), 65_536);
    assert!(matches!(Feedback::new(MAIN_DEVICE, pairs(65_537)), Err(FeedbackError::TooManyPairs(65_537))));
}
