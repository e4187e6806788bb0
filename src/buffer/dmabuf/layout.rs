//! Owns the table of pixel formats: planes, bytes per sample, subsampling, as in the kernel's `drm_fourcc.c`. Must not
//! know modifiers: how samples are arranged in memory is not a property of the format.

use super::Fourcc;

/// One plane of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneLayout {
    /// Bytes of one sample of this plane (both chroma values, where they are interleaved).
    pub sample_bytes: u32,
    /// Pixels per sample along a row.
    pub horizontal_subsampling: u32,
    /// Pixels per sample down a column.
    pub vertical_subsampling: u32,
}

impl PlaneLayout {
    const fn full(sample_bytes: u32) -> Self {
        Self::subsampled(sample_bytes, 1, 1)
    }

    const fn subsampled(sample_bytes: u32, horizontal_subsampling: u32, vertical_subsampling: u32) -> Self {
        Self { sample_bytes, horizontal_subsampling, vertical_subsampling }
    }

    /// Rows of this plane in a buffer of `height`. An odd row out has its own chroma row.
    pub const fn rows(&self, height: u32) -> u32 {
        height.div_ceil(self.vertical_subsampling)
    }

    /// Bytes of the samples of one row in a buffer of `width`, without padding.
    pub const fn row_bytes(&self, width: u32) -> u64 {
        width.div_ceil(self.horizontal_subsampling) as u64 * self.sample_bytes as u64
    }
}

/// The planes of a format, in index order; `None` for formats that are not in the table and hence never advertised.
///
/// Left out: formats whose samples are not whole bytes (NV15, Y0L0, ...) or that exist only with a driver's modifier
/// (YUV420_8BIT, ...), those with an alpha plane, and palettes.
pub const fn plane_layouts(format: Fourcc) -> Option<&'static [PlaneLayout]> {
    use Fourcc as F;
    use PlaneLayout as P;

    Some(match format {
        F::R8 | F::Rgb332 | F::Bgr233 => &const { [P::full(1)] },

        F::R16 | F::Rg88 | F::Gr88 | F::Rgb565 | F::Bgr565 => &const { [P::full(2)] },
        F::Argb4444 | F::Abgr4444 | F::Rgba4444 | F::Bgra4444 => &const { [P::full(2)] },
        F::Xrgb4444 | F::Xbgr4444 | F::Rgbx4444 | F::Bgrx4444 => &const { [P::full(2)] },
        F::Argb1555 | F::Abgr1555 | F::Rgba5551 | F::Bgra5551 => &const { [P::full(2)] },
        F::Xrgb1555 | F::Xbgr1555 | F::Rgbx5551 | F::Bgrx5551 => &const { [P::full(2)] },

        F::Rgb888 | F::Bgr888 | F::Vuy888 => &const { [P::full(3)] },

        F::Rg1616 | F::Gr1616 => &const { [P::full(4)] },
        F::Argb8888 | F::Abgr8888 | F::Rgba8888 | F::Bgra8888 => &const { [P::full(4)] },
        F::Xrgb8888 | F::Xbgr8888 | F::Rgbx8888 | F::Bgrx8888 => &const { [P::full(4)] },
        F::Argb2101010 | F::Abgr2101010 | F::Rgba1010102 | F::Bgra1010102 => &const { [P::full(4)] },
        F::Xrgb2101010 | F::Xbgr2101010 | F::Rgbx1010102 | F::Bgrx1010102 => &const { [P::full(4)] },
        F::Ayuv | F::Xyuv8888 | F::Xvyu2101010 | F::Y410 => &const { [P::full(4)] },

        F::Argb16161616f | F::Abgr16161616f | F::Xrgb16161616f | F::Xbgr16161616f => &const { [P::full(8)] },
        F::Axbxgxrx106106106106 | F::Y412 | F::Y416 => &const { [P::full(8)] },
        F::Xvyu12_16161616 | F::Xvyu16161616 => &const { [P::full(8)] },

        // Two pixels share their chroma within the one plane, but every pixel has its own bytes.
        F::Yuyv | F::Yvyu | F::Uyvy | F::Vyuy => &const { [P::full(2)] },
        F::Y210 | F::Y212 | F::Y216 => &const { [P::full(4)] },

        F::Nv12 | F::Nv21 => &const { [P::full(1), P::subsampled(2, 2, 2)] },
        F::Nv16 | F::Nv61 => &const { [P::full(1), P::subsampled(2, 2, 1)] },
        F::Nv24 | F::Nv42 => &const { [P::full(1), P::full(2)] },
        F::P010 | F::P012 | F::P016 => &const { [P::full(2), P::subsampled(4, 2, 2)] },
        F::P210 => &const { [P::full(2), P::subsampled(4, 2, 1)] },

        F::Yuv410 | F::Yvu410 => &const { [P::full(1), P::subsampled(1, 4, 4), P::subsampled(1, 4, 4)] },
        F::Yuv411 | F::Yvu411 => &const { [P::full(1), P::subsampled(1, 4, 1), P::subsampled(1, 4, 1)] },
        F::Yuv420 | F::Yvu420 => &const { [P::full(1), P::subsampled(1, 2, 2), P::subsampled(1, 2, 2)] },
        F::Yuv422 | F::Yvu422 => &const { [P::full(1), P::subsampled(1, 2, 1), P::subsampled(1, 2, 1)] },
        F::Yuv444 | F::Yvu444 => &const { [P::full(1); 3] },
        F::Q410 | F::Q401 => &const { [P::full(2); 3] },

        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(format: Fourcc) -> usize {
        plane_layouts(format).map_or(0, <[_]>::len)
    }

    #[test]
    fn formats_have_the_planes_the_kernel_says() {
        assert_eq!(count(Fourcc::Argb8888), 1);
        assert_eq!(count(Fourcc::Yuyv), 1);
        assert_eq!(count(Fourcc::Nv12), 2);
        assert_eq!(count(Fourcc::P010), 2);
        assert_eq!(count(Fourcc::Yuv420), 3);
        assert_eq!(count(Fourcc::Yuv420_8bit), 0);
    }

    #[test]
    fn chroma_of_an_odd_row_or_column_is_counted() {
        let chroma = plane_layouts(Fourcc::Nv12).unwrap()[1];
        assert_eq!((chroma.rows(4), chroma.rows(5)), (2, 3));
        assert_eq!((chroma.row_bytes(4), chroma.row_bytes(5)), (4, 6));
    }

    #[test]
    fn the_widest_row_of_the_widest_format_does_not_overflow() {
        let wide = plane_layouts(Fourcc::Argb16161616f).unwrap()[0];
        assert_eq!(wide.row_bytes(u32::MAX), 8 * u64::from(u32::MAX));
    }
}
