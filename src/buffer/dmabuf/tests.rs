//! The rules D1 to D7, each with the nearest thing that is allowed.

use super::*;

const TILED: Modifier = Modifier::I915_y_tiled;

fn advertised() -> Advertised {
    let pair = |code, modifier| Format { code, modifier };
    Advertised::from_iter([
        pair(Fourcc::Xrgb8888, Modifier::Linear),
        pair(Fourcc::Xrgb8888, Modifier::Invalid),
        pair(Fourcc::Xrgb8888, TILED),
        pair(Fourcc::Nv12, Modifier::Linear),
        pair(Fourcc::Nv12, TILED),
        pair(Fourcc::Yuv420, Modifier::Linear),
        pair(Fourcc::Argb8888, Modifier::Invalid),
        pair(Fourcc::Yuv420_8bit, Modifier::Linear),
    ])
}

fn plane(offset_bytes: u32, stride_bytes: u32, size_bytes: u64) -> Plane<char> {
    let size_bytes = Some(size_bytes);
    Plane { memory: Ok('m'), size_bytes, offset_bytes, stride_bytes, modifier: Modifier::Linear }
}

fn request(fourcc: Fourcc, width: i32, height: i32) -> Request {
    Request { version: 5, width, height, fourcc: fourcc as u32, flags: 0 }
}

fn try_planes<const N: usize>(
    planes: [(u32, Plane<char>); N],
    request: Request,
) -> Result<Checked<char>, Refusal> {
    let mut params = Params::default();
    for (index, plane) in planes {
        params.add(request.version, index, plane)?;
    }
    check(params.take()?, &request, &advertised())
}

/// A linear XRGB8888 buffer in one plane: what it takes, and nothing to spare, is 64 * 4 * 16 = 4096 bytes.
fn try_rgb(plane: Plane<char>) -> Result<Checked<char>, Refusal> {
    try_planes([(0, plane)], request(Fourcc::Xrgb8888, 64, 16))
}

/// An NV12 buffer of 64 x 17 with both planes in one dma-buf: 1088 bytes of luma, then 9 rows of chroma.
fn try_nv12(luma: Plane<char>, chroma: Plane<char>) -> Result<Checked<char>, Refusal> {
    try_planes([(0, luma), (1, chroma)], request(Fourcc::Nv12, 64, 17))
}

fn violation<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Violation {
    match result {
        Err(Refusal::Violation(violation)) => violation,
        other => panic!("no violation: {other:?}"),
    }
}

fn fault<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (usize, BoundsFault) {
    match violation(result) {
        Violation::OutOfBounds { plane, fault, .. } => (plane, fault),
        other => panic!("not out of bounds: {other}"),
    }
}

#[test]
fn a_buffer_that_fills_its_dma_buf_to_the_last_byte_is_accepted() {
    let checked = try_rgb(plane(0, 256, 4096)).unwrap();
    assert_eq!(checked.format, Format { code: Fourcc::Xrgb8888, modifier: Modifier::Linear });
    assert_eq!(checked.planes, [CheckedPlane { memory: 'm', offset_bytes: 0, stride_bytes: 256 }]);
    assert!(!checked.y_inverted);
}

#[test]
fn planes_come_out_in_index_order_whatever_order_they_were_added_in() {
    let second = Plane { memory: Ok('c'), ..plane(1088, 64, 4096) };
    let checked = try_planes([(1, second), (0, plane(0, 64, 4096))], request(Fourcc::Nv12, 64, 17)).unwrap();
    assert_eq!(checked.planes.iter().map(|plane| plane.memory).collect::<String>(), "mc");
}

#[test]
fn d1_params_can_be_used_once_and_not_added_to_afterwards() {
    let mut params = Params::default();
    params.add(5, 0, plane(0, 256, 4096)).unwrap();
    assert!(params.take().is_ok());
    assert_eq!(params.add(5, 1, plane(0, 256, 4096)), Err(Violation::AlreadyUsed));
    assert_eq!(params.take(), Err(Violation::AlreadyUsed));
}

#[test]
fn d2_the_last_plane_index_is_three() {
    let mut params = Params::default();
    params.add(5, 3, plane(0, 256, 4096)).unwrap();
    assert_eq!(params.add(5, 4, plane(0, 256, 4096)), Err(Violation::PlaneIdx(4)));
    assert_eq!(params.add(5, u32::MAX, plane(0, 256, 4096)), Err(Violation::PlaneIdx(u32::MAX)));
}

#[test]
fn d3_a_plane_can_be_set_once() {
    let mut params = Params::default();
    params.add(5, 0, plane(0, 256, 4096)).unwrap();
    params.add(5, 1, plane(0, 256, 4096)).unwrap();
    assert_eq!(params.add(5, 1, plane(0, 128, 4096)), Err(Violation::PlaneSet(1)));
}

#[test]
fn d4_no_plane_is_too_few() {
    let found = violation(try_planes([], request(Fourcc::Xrgb8888, 64, 16)));
    assert_eq!(found, Violation::Incomplete { given: vec![], wanted: 1 });
}

#[test]
fn d4_a_plane_that_the_format_has_is_missing() {
    let found = violation(try_planes([(0, plane(0, 64, 4096))], request(Fourcc::Nv12, 64, 16)));
    assert_eq!(found, Violation::Incomplete { given: vec![0], wanted: 2 });
}

#[test]
fn d4_a_gap_is_not_filled_by_a_plane_after_it() {
    let planes = [(0, plane(0, 64, 4096)), (2, plane(0, 64, 4096))];
    let found = violation(try_planes(planes, request(Fourcc::Nv12, 64, 16)));
    assert_eq!(found, Violation::Incomplete { given: vec![0, 2], wanted: 2 });
}

#[test]
fn d4_a_linear_buffer_has_no_more_planes_than_its_format() {
    let planes = [(0, plane(0, 256, 4096)), (1, plane(0, 256, 4096))];
    let found = violation(try_planes(planes, request(Fourcc::Xrgb8888, 64, 16)));
    assert_eq!(found, Violation::Incomplete { given: vec![0, 1], wanted: 1 });
}

#[test]
fn d4_a_driver_layout_may_have_planes_of_its_own_but_none_missing() {
    let tiled = |plane| Plane { modifier: TILED, ..plane };
    let with_metadata = [(0, tiled(plane(0, 256, 8192))), (1, tiled(plane(4096, 0, 8192)))];
    assert_eq!(try_planes(with_metadata, request(Fourcc::Xrgb8888, 64, 16)).unwrap().planes.len(), 2);

    let found = violation(try_planes([(0, tiled(plane(0, 64, 4096)))], request(Fourcc::Nv12, 64, 16)));
    assert_eq!(found, Violation::Incomplete { given: vec![0], wanted: 2 });
}

#[test]
fn d5_a_format_that_is_not_advertised_is_invalid_in_every_version() {
    for version in 1..=5 {
        for fourcc in [Fourcc::Rgb565 as u32, 0, u32::MAX] {
            let request = Request { version, fourcc, ..request(Fourcc::Xrgb8888, 64, 16) };
            let found = violation(try_planes([(0, plane(0, 256, 4096))], request));
            assert_eq!(found, Violation::InvalidFormat(FormatFault::Fourcc(fourcc)));
        }
    }
}

#[test]
fn d5_a_format_with_unknown_planes_is_as_good_as_not_advertised() {
    let found = violation(try_planes([(0, plane(0, 256, 4096))], request(Fourcc::Yuv420_8bit, 64, 16)));
    assert_eq!(found, Violation::InvalidFormat(FormatFault::Fourcc(Fourcc::Yuv420_8bit as u32)));
}

#[test]
fn d5_a_code_that_is_one_character_of_four_bytes_can_be_reported() {
    let fourcc = u32::from_le_bytes('🦀'.to_string().as_bytes().try_into().unwrap());
    let request = Request { fourcc, ..request(Fourcc::Xrgb8888, 64, 16) };
    let message = violation(try_planes([(0, plane(0, 256, 4096))], request)).to_string();
    assert_eq!(message, "format 0x80a69ff0 was not advertised");
}

#[test]
fn d5_a_pair_that_is_not_advertised_is_invalid_from_version_4_on() {
    let implicit = |version| {
        let plane = Plane { modifier: Modifier::Invalid, ..plane(0, 64, 8192) };
        let second = Plane { offset_bytes: 4096, ..plane.clone() };
        let request = Request { version, ..request(Fourcc::Nv12, 64, 16) };
        try_planes([(0, plane), (1, second)], request)
    };
    assert!(implicit(3).is_ok());
    let fault = FormatFault::Pair { fourcc: Fourcc::Nv12, modifier: 0x00ff_ffff_ffff_ffff };
    assert_eq!(violation(implicit(4)), Violation::InvalidFormat(fault));
}

#[test]
fn d5_modifiers_that_differ_are_invalid_at_the_second_add_from_version_5_on() {
    let mut params = Params::default();
    params.add(5, 0, plane(0, 64, 4096)).unwrap();
    let other = Plane { modifier: TILED, ..plane(1088, 64, 4096) };
    let fault = FormatFault::DifferingModifiers { plane: 1, found: TILED.into(), wanted: 0 };
    assert_eq!(params.add(5, 1, other), Err(Violation::InvalidFormat(fault)));
}

#[test]
fn d5_modifiers_that_differ_fail_the_import_before_version_5() {
    let other = Plane { modifier: TILED, ..plane(1088, 64, 4096) };
    let request = Request { version: 4, ..request(Fourcc::Nv12, 64, 17) };
    let fault = FormatFault::DifferingModifiers { plane: 1, found: TILED.into(), wanted: 0 };
    let refusal = Refusal::Unsupported(Unsupported::Modifiers(fault));
    assert_eq!(try_planes([(0, plane(0, 64, 4096)), (1, other)], request), Err(refusal));
}

#[test]
fn d6_both_dimensions_are_positive() {
    for (width, height) in [(0, 16), (64, 0), (-1, 16), (64, -1), (i32::MIN, i32::MIN)] {
        let found =
            violation(try_planes([(0, plane(0, 256, 4096))], request(Fourcc::Xrgb8888, width, height)));
        assert_eq!(found, Violation::InvalidDimensions { width, height });
    }
    assert!(try_planes([(0, plane(0, 4, 4))], request(Fourcc::Xrgb8888, 1, 1)).is_ok());
}

#[test]
fn d7_one_byte_too_few_is_out_of_bounds() {
    let end = |size_bytes| (0, BoundsFault::End { rows: 16, size_bytes });
    assert_eq!(fault(try_rgb(plane(0, 256, 4095))), end(4095));
    assert_eq!(fault(try_rgb(plane(1, 256, 4096))), end(4096));
    assert_eq!(fault(try_rgb(plane(0, 257, 4096))), end(4096));
    assert!(try_rgb(plane(1, 256, 4097)).is_ok());
}

#[test]
fn d7_a_plane_starts_inside_its_dma_buf() {
    assert_eq!(fault(try_rgb(plane(4096, 256, 4096))), (0, BoundsFault::Start { size_bytes: 4096 }));
    assert_eq!(fault(try_rgb(plane(0, 256, 0))), (0, BoundsFault::Start { size_bytes: 0 }));
}

#[test]
fn d7_a_stride_holds_a_row() {
    assert_eq!(fault(try_rgb(plane(0, 255, 4096))), (0, BoundsFault::Stride { row_bytes: 256 }));
    assert_eq!(fault(try_rgb(plane(0, 0, 4096))), (0, BoundsFault::Stride { row_bytes: 256 }));
}

#[test]
fn d7_chroma_planes_are_measured_by_their_own_rows() {
    let luma = plane(0, 64, 1664);
    assert!(try_nv12(luma.clone(), plane(1088, 64, 1664)).is_ok());
    let end = (1, BoundsFault::End { rows: 9, size_bytes: 1664 });
    assert_eq!(fault(try_nv12(luma.clone(), plane(1089, 64, 1664))), end);
    let stride = (1, BoundsFault::Stride { row_bytes: 64 });
    assert_eq!(fault(try_nv12(luma, plane(1088, 63, 1664))), stride);
}

#[test]
fn d7_with_a_driver_layout_the_formula_holds_for_the_base_plane_and_offsets_for_all() {
    let tiled = |plane| Plane { modifier: TILED, ..plane };
    let luma = tiled(plane(0, 64, 4096));
    assert!(try_nv12(luma.clone(), tiled(plane(4095, 8, 4096))).is_ok());
    let start = BoundsFault::Start { size_bytes: 4096 };
    assert_eq!(fault(try_nv12(luma.clone(), tiled(plane(4096, 8, 4096)))), (1, start));
    assert_eq!(fault(try_nv12(luma, tiled(plane(0, 0, 4096)))), (1, BoundsFault::Stride { row_bytes: 64 }));
    let end = BoundsFault::End { rows: 17, size_bytes: 1087 };
    assert_eq!(fault(try_nv12(tiled(plane(0, 64, 1087)), tiled(plane(0, 8, 4096)))), (0, end));
    let metadata = [(0, tiled(plane(0, 256, 4096))), (1, tiled(plane(4096, 8, 4096)))];
    assert_eq!(fault(try_planes(metadata, request(Fourcc::Xrgb8888, 64, 16))), (1, start));
}

#[test]
fn d7_numbers_at_their_limits_do_not_wrap_around() {
    let most = plane(u32::MAX - 1, u32::MAX, u64::from(u32::MAX));
    let request = |width, height| request(Fourcc::Xrgb8888, width, height);
    let end = |rows| (0, BoundsFault::End { rows, size_bytes: u64::from(u32::MAX) });
    assert_eq!(fault(try_planes([(0, most.clone())], request(1, i32::MAX))), end(i32::MAX as u32));
    // 2^31 - 1 rows of 2^31 bytes and a little: what a product of 32 bits would take for 2^31.
    let doubled = plane(0, 1 << 31, u64::from(u32::MAX));
    assert_eq!(fault(try_planes([(0, doubled)], request(1, i32::MAX))), end(i32::MAX as u32));
    // offset + stride is 2^32 + 4, which 32 bits take for 4.
    assert_eq!(fault(try_planes([(0, plane(u32::MAX - 3, 8, u64::from(u32::MAX)))], request(1, 1))), end(1));
    let row_bytes = 4 * (i32::MAX as u64);
    let stride = (0, BoundsFault::Stride { row_bytes });
    assert_eq!(fault(try_planes([(0, most)], request(i32::MAX, i32::MAX))), stride);
    assert!(try_planes([(0, plane(u32::MAX, u32::MAX, u64::MAX))], request(1, i32::MAX)).is_ok());
}

#[test]
fn d7_a_size_that_is_not_known_bounds_nothing() {
    let unknown = Plane { size_bytes: None, ..plane(u32::MAX, 256, 0) };
    assert!(try_rgb(unknown).is_ok());
}

#[test]
fn the_y_invert_flag_is_kept_and_others_fail_the_import() {
    let try_flags = |flags| {
        let request = Request { flags, ..request(Fourcc::Xrgb8888, 64, 16) };
        try_planes([(0, plane(0, 256, 4096))], request)
    };
    assert!(try_flags(1).unwrap().y_inverted);
    for flags in [2, 3, 4, 8, u32::MAX] {
        assert_eq!(try_flags(flags), Err(Refusal::Unsupported(Unsupported::Flags(flags))));
    }
}

#[test]
fn memory_of_no_use_fails_the_import_unless_a_rule_was_broken() {
    let useless = Plane { memory: Err(Unusable::NotADmaBuf), ..plane(0, 256, 4096) };
    let refusal = Refusal::Unsupported(Unsupported::Memory { plane: 0, why: Unusable::NotADmaBuf });
    assert_eq!(try_rgb(useless.clone()), Err(refusal));
    let found = violation(try_rgb(Plane { stride_bytes: 1, ..useless }));
    assert!(matches!(found, Violation::OutOfBounds { .. }));
}

#[test]
fn what_was_advertised_once_stays_valid() {
    let mut advertised = advertised();
    advertised.extend([Format { code: Fourcc::Rgb565, modifier: Modifier::Linear }]);
    assert!(advertised.modifiers(Fourcc::Rgb565 as u32).is_ok());
    assert!(advertised.modifiers(Fourcc::Xrgb8888 as u32).is_ok());
}
