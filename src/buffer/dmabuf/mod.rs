//! Owns the rules of a client's dma-buf: which planes, formats, sizes and offsets make a buffer (rules D1 to D7 of
//! linux-dmabuf-v1). Must not know what a plane's memory is, nor the protocol's objects: it is generic over the
//! memory and sees numbers only, so every rule can be tried without a kernel.

mod layout;
mod violation;

use std::collections::{HashMap, HashSet};

pub use smithay::backend::allocator::{Format, Fourcc, Modifier};

pub use self::layout::{PlaneLayout, plane_layouts};
pub use self::violation::{BoundsFault, FormatFault, Refusal, Unsupported, Unusable, Violation};

/// Planes of one buffer at most: what `drm_mode_fb_cmd2` and `EGL_EXT_image_dma_buf_import_modifiers` can hold.
pub const MAX_PLANES: usize = 4;

/// `zwp_linux_buffer_params_v1.flags.y_invert`, the only flag that can be honoured: the renderer turns the picture over.
/// Interlaced buffers are best rejected by those who cannot deinterlace, says the protocol.
const Y_INVERT: u32 = 1;

/// The version from which a modifier that was not advertised for its format is a violation. Older clients may use the
/// implicit modifier unasked; whether that works is for the import to say.
const PAIRS_ARE_BINDING_SINCE: u32 = 4;
/// The version from which modifiers that differ between planes are a violation.
const ONE_MODIFIER_SINCE: u32 = 5;

/// One plane as the client described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plane<M> {
    /// What the pixels lie in, or why it is of no use.
    pub memory: Result<M, Unusable>,
    /// Size of the memory, where it is known.
    pub size_bytes: Option<u64>,
    /// Where the plane starts in the memory.
    pub offset_bytes: u32,
    /// From one row to the next; with a driver's modifier, whatever that says it means.
    pub stride_bytes: u32,
    /// How the samples are laid out.
    pub modifier: Modifier,
}

/// The planes collected for one buffer, by index.
pub type Planes<M> = [Option<Plane<M>>; MAX_PLANES];

/// What a `zwp_linux_buffer_params_v1` holds: planes, until it is used, which it can be once.
#[derive(Debug)]
pub enum Params<M> {
    /// Neither create nor create_immed yet.
    Collecting(Planes<M>),
    /// Only destroy is legal now.
    Used,
}

impl<M> Default for Params<M> {
    fn default() -> Self {
        Self::Collecting([None, None, None, None])
    }
}

impl<M> Params<M> {
    /// The `add` request to an object of `version` (D1, D2, D3, D5).
    pub fn add(&mut self, version: u32, index: u32, plane: Plane<M>) -> Result<(), Violation> {
        let Self::Collecting(planes) = self else { return Err(Violation::AlreadyUsed) };
        let other = planes.iter().flatten().map(|other| other.modifier).next();
        let slot = usize::try_from(index).ok().and_then(|index| planes.get_mut(index));
        match (slot, other) {
            (None, _) => Err(Violation::PlaneIdx(index)),
            (Some(Some(_)), _) => Err(Violation::PlaneSet(index)),
            (Some(None), Some(wanted)) if wanted != plane.modifier && version >= ONE_MODIFIER_SINCE => {
                Err(differing_modifiers(index as usize, plane.modifier, wanted).into())
            }
            (Some(slot @ None), _) => {
                *slot = Some(plane);
                Ok(())
            }
        }
    }

    /// Gives the planes out, for create and create_immed (D1). The object is used from here on, whatever becomes of the
    /// buffer.
    pub fn take(&mut self) -> Result<Planes<M>, Violation> {
        match std::mem::replace(self, Self::Used) {
            Self::Collecting(planes) => Ok(planes),
            Self::Used => Err(Violation::AlreadyUsed),
        }
    }
}

/// The format and modifier pairs that were ever advertised. Pairs are added, never removed: a request may have crossed
/// a new set on the wire, and then it is the import that fails.
#[derive(Debug, Clone, Default)]
pub struct Advertised(HashMap<Fourcc, HashSet<Modifier>>);

impl Advertised {
    fn modifiers(&self, fourcc: u32) -> Result<(Fourcc, &HashSet<Modifier>), FormatFault> {
        let code = Fourcc::try_from(fourcc).ok();
        code.and_then(|code| Some((code, self.0.get(&code)?))).ok_or(FormatFault::Fourcc(fourcc))
    }
}

impl Extend<Format> for Advertised {
    fn extend<I: IntoIterator<Item = Format>>(&mut self, formats: I) {
        for format in formats {
            self.0.entry(format.code).or_default().insert(format.modifier);
        }
    }
}

impl FromIterator<Format> for Advertised {
    fn from_iter<I: IntoIterator<Item = Format>>(formats: I) -> Self {
        let mut advertised = Self::default();
        advertised.extend(formats);
        advertised
    }
}

/// The arguments of create and create_immed, and the version of the object they were sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Version of the `zwp_linux_buffer_params_v1`.
    pub version: u32,
    /// Of the base plane, in pixels.
    pub width: i32,
    /// Of the base plane, in pixels.
    pub height: i32,
    /// A `DRM_FORMAT` code.
    pub fourcc: u32,
    /// Bits of `zwp_linux_buffer_params_v1.flags`.
    pub flags: u32,
}

/// A buffer that broke no rule. Whether it can be used is for the renderer to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked<M> {
    /// The format, and the modifier of all planes.
    pub format: Format,
    /// In index order, at least one.
    pub planes: Vec<CheckedPlane<M>>,
    /// The picture is upside down in the buffer.
    pub y_inverted: bool,
}

/// One plane of a [`Checked`] buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedPlane<M> {
    /// What the samples lie in.
    pub memory: M,
    /// Where the plane starts in it.
    pub offset_bytes: u32,
    /// From one row to the next.
    pub stride_bytes: u32,
}

/// Checks all that can be known without importing the buffer (D4 to D7). Violations come first: what is unsupported is
/// looked at when nothing is wrong.
pub fn check<M>(
    planes: Planes<M>,
    request: &Request,
    advertised: &Advertised,
) -> Result<Checked<M>, Refusal> {
    let (code, modifiers) = advertised.modifiers(request.fourcc).map_err(Violation::from)?;
    // The caller advertises formats of the table only; one that is not has no layout to check by.
    let layouts = plane_layouts(code).ok_or(FormatFault::Fourcc(request.fourcc)).map_err(Violation::from)?;
    let modifier = check_planes(&planes, layouts.len())?;
    if request.version >= PAIRS_ARE_BINDING_SINCE && !modifiers.contains(&modifier) {
        let fault = FormatFault::Pair { fourcc: code, modifier: modifier.into() };
        return Err(Violation::from(fault).into());
    }
    let (width, height) = check_dimensions(request.width, request.height)?;
    for (index, plane) in planes.iter().flatten().enumerate() {
        check_bounds(index, plane, layouts.get(index), width, height)?;
    }

    let y_inverted = match request.flags {
        0 => false,
        Y_INVERT => true,
        flags => return Err(Refusal::Unsupported(Unsupported::Flags(flags))),
    };
    let planes =
        planes.into_iter().flatten().enumerate().map(|(index, plane)| usable(index, plane, modifier));
    let planes = planes.collect::<Result<_, _>>().map_err(Refusal::Unsupported)?;
    Ok(Checked { format: Format { code, modifier }, planes, y_inverted })
}

/// D4. A driver's layout may carry metadata in planes of its own (compression, clear colour): more planes than the
/// format has are then for the import to judge. Fewer never are.
fn check_planes<M>(planes: &Planes<M>, wanted: usize) -> Result<Modifier, Violation> {
    let indices = planes.iter().enumerate().filter_map(|(index, plane)| plane.as_ref().map(|_| index));
    let given: Vec<usize> = indices.collect();
    let gapless = given.iter().copied().eq(0..given.len());
    match planes.iter().flatten().map(|plane| plane.modifier).next() {
        Some(modifier) if gapless && given.len() == wanted => Ok(modifier),
        Some(modifier) if gapless && given.len() > wanted && !is_plain(modifier) => Ok(modifier),
        _ => Err(Violation::Incomplete { given, wanted }),
    }
}

/// Whether the planes are those of the format, row by row. That an implicit modifier may hide a tiled layout makes no
/// difference here: such a layout has the format's planes too, and its rows and strides are no smaller.
fn is_plain(modifier: Modifier) -> bool {
    matches!(modifier, Modifier::Linear | Modifier::Invalid)
}

/// D6.
fn check_dimensions(width: i32, height: i32) -> Result<(u32, u32), Violation> {
    match (u32::try_from(width), u32::try_from(height)) {
        (Ok(positive_width @ 1..), Ok(positive_height @ 1..)) => Ok((positive_width, positive_height)),
        _ => Err(Violation::InvalidDimensions { width, height }),
    }
}

/// D7. `layout` is `None` for a plane of the driver's own: of that only the offset has a meaning known here.
///
/// The protocol's formula, offset + stride * height, stands as it is for the base plane, whatever the modifier: weston
/// and wlroots apply it so, and drivers pad their tiles to more. On the other planes it is used where the layout is
/// plain; there a stride must also hold a row, as in the kernel's `framebuffer_check`.
fn check_bounds<M>(
    index: usize,
    plane: &Plane<M>,
    layout: Option<&PlaneLayout>,
    width: u32,
    height: u32,
) -> Result<(), Violation> {
    let plain = is_plain(plane.modifier);
    let offset = u64::from(plane.offset_bytes);
    let stride = u64::from(plane.stride_bytes);

    let fault = match (plane.size_bytes, layout) {
        (Some(size_bytes), _) if offset >= size_bytes => BoundsFault::Start { size_bytes },
        (_, Some(layout)) if (plain || stride == 0) && stride < layout.row_bytes(width) => {
            BoundsFault::Stride { row_bytes: layout.row_bytes(width) }
        }
        // Cannot overflow: a product of two u32 leaves room for a third.
        (Some(size_bytes), Some(layout))
            if (plain || index == 0) && offset + stride * u64::from(layout.rows(height)) > size_bytes =>
        {
            BoundsFault::End { rows: layout.rows(height), size_bytes }
        }
        _ => return Ok(()),
    };
    let (offset_bytes, stride_bytes) = (plane.offset_bytes, plane.stride_bytes);
    Err(Violation::OutOfBounds { plane: index, offset_bytes, stride_bytes, fault })
}

fn usable<M>(index: usize, plane: Plane<M>, modifier: Modifier) -> Result<CheckedPlane<M>, Unsupported> {
    // Only below ONE_MODIFIER_SINCE: `Params::add` raised it otherwise.
    if plane.modifier != modifier {
        return Err(Unsupported::Modifiers(differing_modifiers(index, plane.modifier, modifier)));
    }
    let Plane { memory, offset_bytes, stride_bytes, .. } = plane;
    let memory = memory.map_err(|why| Unsupported::Memory { plane: index, why })?;
    Ok(CheckedPlane { memory, offset_bytes, stride_bytes })
}

fn differing_modifiers(plane: usize, found: Modifier, wanted: Modifier) -> FormatFault {
    FormatFault::DifferingModifiers { plane, found: found.into(), wanted: wanted.into() }
}

#[cfg(test)]
mod tests;
