//! How the planes of an image are put into requests.

use std::os::fd::AsFd;

use wayland_protocols::wp::linux_dmabuf::zv1::client::zwp_linux_buffer_params_v1::ZwpLinuxBufferParamsV1;

use super::source::Layout;
use crate::halves::halves;

/// Adds all planes of an image.
pub(super) fn add_planes(params: &ZwpLinuxBufferParamsV1, layout: &Layout) {
    let (high, low) = halves(layout.modifier);
    for (plane, index) in layout.planes.iter().zip(0..) {
        params.add(plane.fd.as_fd(), index, plane.offset, plane.stride, high, low);
    }
}
