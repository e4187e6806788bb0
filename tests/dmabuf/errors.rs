//! Each error: what raises it, and on which object.

use smithay::backend::allocator::{Fourcc, Modifier};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::{Error, Flags};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1;

use crate::server::{LINEAR, MAIN_DEVICE, SCANOUT_DEVICE, Setup, add, answer, create_rgb, memory};

#[test]
fn d1_adding_to_used_params_raises_already_used() {
    let mut setup = Setup::new();
    let params = setup.rgb_params();
    create_rgb(&params);
    setup.client.expect_no_error();
    add(&params, &memory(4096), 1, 0, 256, LINEAR);
    setup.client.expect_protocol_error(&params, Error::AlreadyUsed);
}

#[test]
fn d1_creating_twice_raises_already_used() {
    let mut setup = Setup::new();
    let params = setup.rgb_params();
    create_rgb(&params);
    create_rgb(&params);
    setup.client.expect_protocol_error(&params, Error::AlreadyUsed);
    assert_eq!(setup.imports(), 1);
}

#[test]
fn d1_creating_at_once_what_was_created_raises_already_used() {
    let mut setup = Setup::new();
    let params = setup.rgb_params();
    create_rgb(&params);
    setup.create_immed(&params);
    setup.client.expect_protocol_error(&params, Error::AlreadyUsed);
}

#[test]
fn d1_a_failed_create_uses_the_params_up_too() {
    let mut setup = Setup::refusing();
    let params = setup.rgb_params();
    create_rgb(&params);
    create_rgb(&params);
    setup.client.expect_protocol_error(&params, Error::AlreadyUsed);
}

#[test]
fn d1_destroying_used_params_is_legal() {
    let mut setup = Setup::new();
    let params = setup.rgb_params();
    create_rgb(&params);
    params.destroy();
    setup.client.expect_no_error();
}

#[test]
fn d2_a_fifth_plane_raises_plane_idx() {
    let mut setup = Setup::new();
    let params = setup.params();
    add(&params, &memory(4096), 4, 0, 256, LINEAR);
    setup.client.expect_protocol_error(&params, Error::PlaneIdx);
}

#[test]
fn d3_setting_a_plane_twice_raises_plane_set() {
    let mut setup = Setup::new();
    let params = setup.rgb_params();
    add(&params, &memory(4096), 0, 0, 256, LINEAR);
    setup.client.expect_protocol_error(&params, Error::PlaneSet);
}

#[test]
fn d4_creating_without_planes_raises_incomplete() {
    let mut setup = Setup::new();
    let params = setup.params();
    create_rgb(&params);
    setup.client.expect_protocol_error(&params, Error::Incomplete);
}

#[test]
fn d4_creating_at_once_without_a_plane_of_the_format_raises_incomplete() {
    let mut setup = Setup::new();
    let params = setup.params();
    add(&params, &memory(4096), 1, 0, 256, LINEAR);
    setup.create_immed(&params);
    let message = setup.client.expect_protocol_error(&params, Error::Incomplete);
    assert_eq!(message, "planes [1] were added, and the format has 1 from 0 on");
}

#[test]
fn d5_a_format_that_was_not_advertised_raises_invalid_format() {
    let mut setup = Setup::new();
    let params = setup.rgb_params();
    params.create(64, 16, Fourcc::Rgb565 as u32, Flags::empty());
    setup.client.expect_protocol_error(&params, Error::InvalidFormat);
}

#[test]
fn d5_a_format_that_is_no_text_raises_invalid_format() {
    let mut setup = Setup::new();
    let params = setup.rgb_params();
    params.create(64, 16, u32::from_le_bytes([0xf0, 0x9f, 0xa6, 0x80]), Flags::empty());
    setup.client.expect_protocol_error(&params, Error::InvalidFormat);
}

#[test]
fn d5_a_pair_that_was_not_advertised_raises_invalid_format_in_version_4() {
    let mut setup = Setup::with_version(4);
    let params = setup.params();
    add(&params, &memory(4096), 0, 0, 256, Modifier::I915_y_tiled.into());
    create_rgb(&params);
    setup.client.expect_protocol_error(&params, Error::InvalidFormat);
}

#[test]
fn d5_a_pair_that_was_not_advertised_is_up_to_the_renderer_in_version_3() {
    let mut setup = Setup::with_version(3);
    let params = setup.params();
    add(&params, &memory(4096), 0, 0, 256, Modifier::I915_y_tiled.into());
    create_rgb(&params);
    setup.client.expect_no_error();
    assert!(answer(&params).is_some());
    assert_eq!(setup.imports(), 1);
}

#[test]
fn d5_planes_of_two_modifiers_raise_invalid_format_in_version_5() {
    let mut setup = Setup::new();
    let params = setup.params();
    add(&params, &memory(8192), 0, 0, 64, LINEAR);
    add(&params, &memory(8192), 1, 0, 64, Modifier::I915_y_tiled.into());
    setup.client.expect_protocol_error(&params, Error::InvalidFormat);
}

#[test]
fn d5_planes_of_two_modifiers_fail_in_version_4() {
    let mut setup = Setup::with_version(4);
    let params = setup.params();
    add(&params, &memory(8192), 0, 0, 64, LINEAR);
    add(&params, &memory(8192), 1, 0, 64, Modifier::I915_y_tiled.into());
    params.create(64, 16, Fourcc::Nv12 as u32, Flags::empty());
    setup.client.expect_no_error();
    assert!(answer(&params).is_none());
}

#[test]
fn d6_a_width_of_zero_raises_invalid_dimensions() {
    let mut setup = Setup::new();
    let params = setup.rgb_params();
    params.create(0, 16, Fourcc::Xrgb8888 as u32, Flags::empty());
    setup.client.expect_protocol_error(&params, Error::InvalidDimensions);
    assert_eq!(setup.imports(), 0);
}

#[test]
fn d6_the_least_height_there_is_raises_invalid_dimensions() {
    let mut setup = Setup::new();
    let params = setup.rgb_params();
    params.create(64, i32::MIN, Fourcc::Xrgb8888 as u32, Flags::empty());
    setup.client.expect_protocol_error(&params, Error::InvalidDimensions);
}

#[test]
fn d7_a_dma_buf_that_is_a_byte_short_raises_out_of_bounds() {
    let mut setup = Setup::new();
    let params = setup.params();
    add(&params, &memory(4095), 0, 0, 256, LINEAR);
    create_rgb(&params);
    let message = setup.client.expect_protocol_error(&params, Error::OutOfBounds);
    let wanted =
        "plane 0 with offset 0 and stride 256 has 16 rows, which end outside its dma-buf of 4095 bytes";
    assert_eq!(message, wanted);
}

#[test]
fn d7_the_largest_numbers_there_are_raise_out_of_bounds() {
    let mut setup = Setup::new();
    let params = setup.params();
    add(&params, &memory(4096), 0, u32::MAX, u32::MAX, LINEAR);
    params.create(i32::MAX, i32::MAX, Fourcc::Xrgb8888 as u32, Flags::empty());
    setup.client.expect_protocol_error(&params, Error::OutOfBounds);
}

#[test]
fn d8_creating_at_once_what_the_renderer_refuses_raises_invalid_wl_buffer() {
    let mut setup = Setup::refusing();
    let params = setup.rgb_params();
    setup.create_immed(&params);
    let message = setup.client.expect_protocol_error(&params, Error::InvalidWlBuffer);
    let wanted = "could not create the wl_buffer: Could not import the dma-buf: the renderer is out of sorts";
    assert_eq!(message, wanted);
}

#[test]
fn d8_creating_at_once_from_what_is_no_dma_buf_raises_invalid_wl_buffer() {
    let mut setup = Setup::strict();
    let params = setup.rgb_params();
    setup.create_immed(&params);
    let message = setup.client.expect_protocol_error(&params, Error::InvalidWlBuffer);
    let wanted = "could not create the wl_buffer: plane 0: the file descriptor is not a dma-buf";
    assert_eq!(message, wanted);
    assert_eq!(setup.imports(), 0);
}

#[test]
fn d9_a_sampling_device_is_not_taken_in_version_5() {
    let mut setup = Setup::new();
    assert_eq!(setup.client.offered::<ZwpLinuxDmabufV1>(), Some(6));
    let params = setup.rgb_params();
    // The client library sends it: what an object's version has is for the server to know.
    params.set_sampling_device(vec![0; 3]);
    setup.client.roundtrip();
    let error = setup.client.protocol_error().unwrap();
    assert_eq!((error.object_interface.as_str(), error.code), ("wl_display", 1), "invalid_method: {error:?}");
}

#[test]
fn d9_a_device_of_another_size_than_a_dev_t_raises_invalid_dev_t_size() {
    for size in [0, 3, 7, 9, 16] {
        let mut setup = Setup::with_version(6);
        let params = setup.rgb_params();
        params.set_sampling_device(vec![0; size]);
        setup.client.expect_protocol_error(&params, Error::InvalidDevTSize);
    }
}

#[test]
fn d9_a_buffer_for_the_main_device_is_made_and_one_for_another_fails_without_an_error() {
    for (device, made) in [(MAIN_DEVICE, true), (SCANOUT_DEVICE, false)] {
        let mut setup = Setup::with_version(6);
        let params = setup.rgb_params();
        params.set_sampling_device(device.to_ne_bytes().to_vec());
        create_rgb(&params);
        setup.client.expect_no_error();
        assert_eq!(answer(&params).is_some(), made, "device {device:#x}");
        assert_eq!(setup.imports(), usize::from(made));
    }
}

#[test]
fn an_error_of_one_client_leaves_the_others_alone() {
    let mut setup = Setup::new();
    let mut other = setup.fixture.client();
    let params = setup.params();
    create_rgb(&params);
    setup.client.expect_protocol_error(&params, Error::Incomplete);
    other.expect_no_error();
}
