//! What create and create_immed promise where no rule is broken, and how long a buffer lasts.

use std::error::Error as _;
use std::os::unix::net::UnixStream;

use fencepost::wayland::dmabuf::{ImportError, MAX_FDS_PER_CLIENT};
use smithay::backend::allocator::{Buffer, Format, Fourcc, Modifier};
use wayland_client::Proxy;
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::{Error, Flags};
use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_dmabuf_v1::ZwpLinuxDmabufV1;

use crate::fixture::{Log, Server, events};
use crate::server::{LINEAR, Setup, add, answer, create_rgb, memory};

#[test]
fn create_answers_with_one_created_event() {
    let mut setup = Setup::new();
    let params = setup.rgb_params();
    create_rgb(&params);
    setup.client.expect_no_error();
    assert!(answer(&params).unwrap().is_alive());
}

#[test]
fn create_answers_with_one_failed_event_when_the_renderer_refuses() {
    let mut setup = Setup::refusing();
    let params = setup.rgb_params();
    create_rgb(&params);
    setup.client.expect_no_error();
    assert!(answer(&params).is_none());
}

#[test]
fn create_from_what_is_no_dma_buf_fails_without_asking_the_renderer() {
    let (pipe, _other_end) = rustix::pipe::pipe().unwrap();
    let regular_file = std::fs::File::open("/proc/self/exe").unwrap().into();
    let socket = UnixStream::pair().unwrap().0.into();
    for fd in [memory(4096), pipe, regular_file, socket] {
        let mut setup = Setup::strict();
        let params = setup.params();
        add(&params, &fd, 0, 0, 256, LINEAR);
        create_rgb(&params);
        setup.client.expect_no_error();
        assert!(answer(&params).is_none());
        assert_eq!(setup.imports(), 0);
    }
}

#[test]
fn a_successful_create_immed_sends_no_event() {
    let mut setup = Setup::new();
    let params = setup.rgb_params();
    let buffer = setup.create_immed(&params);
    setup.client.expect_no_error();
    assert!(events(&params).is_empty());
    assert!(events(&buffer).is_empty());
    assert_eq!(setup.imports(), 1);
}

#[test]
fn planes_reach_the_renderer_by_index_and_not_as_they_were_added() {
    let mut setup = Setup::new();
    let params = setup.params();
    let memory = memory(4096);
    add(&params, &memory, 1, 1024, 128, LINEAR);
    add(&params, &memory, 0, 0, 64, LINEAR);
    params.create(64, 16, Fourcc::Nv12 as u32, Flags::YInvert);
    setup.client.expect_no_error();
    assert!(answer(&params).is_some());
    assert_eq!(setup.planes_of_imports(), [[(0, 64), (1024, 128)]]);
    let server = setup.fixture.server();
    let dmabuf = &server.state.imports[0];
    assert_eq!(dmabuf.format(), Format { code: Fourcc::Nv12, modifier: Modifier::Linear });
    assert_eq!((dmabuf.width(), dmabuf.height(), dmabuf.y_inverted()), (64, 16, true));
}

#[test]
fn interlaced_buffers_and_unknown_flags_fail() {
    let mut setup = Setup::new();
    for flags in [Flags::Interlaced, Flags::Interlaced | Flags::BottomFirst, Flags::from_bits_retain(8)] {
        let params = setup.rgb_params();
        params.create(64, 16, Fourcc::Xrgb8888 as u32, flags);
        setup.client.expect_no_error();
        assert!(answer(&params).is_none());
    }
}

#[test]
fn buffers_outlive_their_params_and_the_factory_and_the_handler_hears_of_their_end() {
    let mut setup = Setup::new();
    let params = setup.rgb_params();
    let buffer = setup.create_immed(&params);
    params.destroy();
    setup.factory.destroy();
    setup.client.expect_no_error();
    assert!(buffer.is_alive());

    let surface = setup.surface();
    surface.attach(Some(&buffer), 0, 0);
    surface.commit();
    setup.client.expect_no_error();
    assert_eq!(setup.fixture.server().state.buffers_destroyed, 0);

    buffer.destroy();
    setup.client.expect_no_error();
    assert_eq!(setup.fixture.server().state.buffers_destroyed, 1);
}

#[test]
fn params_outlive_the_factory() {
    let mut setup = Setup::new();
    let params = setup.params();
    setup.factory.destroy();
    add(&params, &memory(4096), 0, 0, 256, LINEAR);
    create_rgb(&params);
    setup.client.expect_no_error();
    assert!(answer(&params).is_some());
}

/// Each plane is an open file, and many limits are 1024 at first.
fn raise_the_limit_of_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
}

/// A buffer of one plane: of two file descriptors.
fn create_one_more(setup: &mut Setup) -> Option<WlBuffer> {
    let params = setup.rgb_params();
    create_rgb(&params);
    setup.client.expect_no_error();
    answer(&params)
}

#[test]
fn a_client_cannot_hold_more_file_descriptors_than_its_share_and_gets_them_back() {
    raise_the_limit_of_files();
    let mut setup = Setup::new();
    let mut unused = Vec::new();
    for _ in 0..MAX_FDS_PER_CLIENT - 2 {
        unused.push(setup.rgb_params());
        setup.client.expect_no_error();
    }
    let last = setup.rgb_params();
    let buffer = setup.create_immed(&last);
    setup.client.expect_no_error();

    assert!(create_one_more(&mut setup).is_none(), "the share is used up");

    buffer.destroy();
    assert!(create_one_more(&mut setup).is_some(), "a destroyed buffer gives its planes back");
    assert!(create_one_more(&mut setup).is_none());

    unused.swap_remove(0).destroy();
    assert!(create_one_more(&mut setup).is_none(), "a plane alone makes no buffer");
    unused.swap_remove(0).destroy();
    setup.fixture.server_mut().state.refuses = true;
    assert!(create_one_more(&mut setup).is_none(), "refused by the renderer");
    setup.fixture.server_mut().state.refuses = false;
    assert!(create_one_more(&mut setup).is_some(), "destroyed params and a refused buffer give theirs back");

    let mut other = setup.fixture.client();
    let factory: ZwpLinuxDmabufV1 = other.bind(5);
    let params = factory.create_params(&other.handle(), Log::default());
    add(&params, &memory(4096), 0, 0, 256, LINEAR);
    create_rgb(&params);
    other.expect_no_error();
    assert!(answer(&params).is_some(), "shares are by client");
}

#[test]
fn a_destroyed_buffer_counts_for_as_long_as_anybody_needs_it() {
    raise_the_limit_of_files();
    let mut setup = Setup::new();
    setup.fixture.server_mut().state.needed = Some(Vec::new());
    for _ in 0..MAX_FDS_PER_CLIENT / 2 {
        create_one_more(&mut setup).expect("a buffer").destroy();
        setup.client.expect_no_error();
    }
    assert!(create_one_more(&mut setup).is_none(), "the share is used up");
    setup.fixture.server_mut().state.needed = None;
    assert!(create_one_more(&mut setup).is_some());
}

#[test]
fn nothing_is_kept_of_a_client_that_is_gone() {
    let mut setup = Setup::new();
    let fds = |setup: &Setup| setup.fixture.server().state.held_fds.strong_count();
    assert_eq!(fds(&setup), 1, "its own");

    let (unused, used) = (setup.rgb_params(), setup.rgb_params());
    setup.create_immed(&used);
    setup.default_feedback();
    setup.client.expect_no_error();
    assert_eq!(fds(&setup), 4);

    add(&unused, &memory(4096), 0, 0, 256, LINEAR);
    setup.client.expect_protocol_error(&unused, Error::PlaneSet);
    setup.fixture.server_mut().turn();
    assert_eq!(fds(&setup), 0);
    let dmabuf = format!("{:?}", setup.fixture.server().state.dmabuf);
    assert!(dmabuf.contains("objects: []"), "{dmabuf}");
}

#[test]
fn a_failed_import_says_why() {
    let error = ImportError("no such modifier".into());
    assert_eq!(error.source().unwrap().to_string(), "no such modifier");
}
