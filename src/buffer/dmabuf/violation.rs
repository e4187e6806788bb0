//! Owns what can be wrong with a client's dma-buf, and how it is said. Must not know the reaction: that is chosen in
//! one place, by the protocol.

use thiserror::Error;

use super::{Fourcc, MAX_PLANES};

/// Why there is no buffer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The client broke a rule.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The client asked for something it may ask for, and it cannot be had.
    #[error("{0}")]
    Unsupported(Unsupported),
}

/// Broken rules: the error enum of `zwp_linux_buffer_params_v1`, one variant each, with what the message needs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// D1: a request other than destroy after create or create_immed.
    #[error("the params were already used to create a wl_buffer")]
    AlreadyUsed,
    /// D2: no buffer has that many planes.
    #[error("plane index {0} is too large, the largest is {max}", max = MAX_PLANES - 1)]
    PlaneIdx(u32),
    /// D3: the plane was added before.
    #[error("plane {0} was already set")]
    PlaneSet(u32),
    /// D4: planes are missing, or there are more than the format has.
    #[error("planes {given:?} were added, and the format has {wanted} from 0 on")]
    Incomplete {
        /// Indices of the planes that were added.
        given: Vec<usize>,
        /// How many planes the format has.
        wanted: usize,
    },
    /// D5: a format that was not advertised, alone or with this modifier, or modifiers that differ between planes.
    #[error(transparent)]
    InvalidFormat(#[from] FormatFault),
    /// D6: the size is not positive.
    #[error("a buffer cannot be {width} x {height} pixels")]
    InvalidDimensions {
        /// In pixels, as given.
        width: i32,
        /// In pixels, as given.
        height: i32,
    },
    /// D7: a plane does not fit in its dma-buf.
    #[error("plane {plane} with offset {offset_bytes} and stride {stride_bytes} {fault}")]
    OutOfBounds {
        /// Index of the plane.
        plane: usize,
        /// As given.
        offset_bytes: u32,
        /// As given.
        stride_bytes: u32,
        /// What does not fit.
        fault: BoundsFault,
    },
    /// D8: create_immed of a buffer that we cannot use, for a reason that is no violation.
    #[error("could not create the wl_buffer: {0}")]
    InvalidWlBuffer(String),
    /// D9: a device of another size than a `dev_t`.
    #[error("a device of {0} bytes; a dev_t has {wanted}", wanted = size_of::<u64>())]
    InvalidDevTSize(usize),
}

/// How a format can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FormatFault {
    /// In no advertised pair. Printed as a number: what a client sends need not be text, and drm-fourcc's own
    /// `Display` of an unknown code panics on some.
    #[error("format {0:#010x} was not advertised")]
    Fourcc(u32),
    /// Advertised, but not with this modifier.
    #[error("format {fourcc} was not advertised with modifier {modifier:#018x}")]
    Pair {
        /// The format.
        fourcc: Fourcc,
        /// The modifier it was not advertised with.
        modifier: u64,
    },
    /// One buffer has one modifier.
    #[error("plane {plane} has modifier {found:#018x}, others have {wanted:#018x}")]
    DifferingModifiers {
        /// Index of the plane at fault.
        plane: usize,
        /// Its modifier.
        found: u64,
        /// The modifier of the planes that were there before.
        wanted: u64,
    },
}

/// How a plane can miss its dma-buf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BoundsFault {
    /// The first byte is not in it.
    #[error("starts outside its dma-buf of {size_bytes} bytes")]
    Start {
        /// Size of the dma-buf.
        size_bytes: u64,
    },
    /// offset + stride * rows is more than its size.
    #[error("has {rows} rows, which end outside its dma-buf of {size_bytes} bytes")]
    End {
        /// Rows of this plane: the buffer's height, subsampled and rounded up.
        rows: u32,
        /// Size of the dma-buf.
        size_bytes: u64,
    },
    /// The rows overlap.
    #[error("has rows of {row_bytes} bytes, more than the stride")]
    Stride {
        /// Bytes of a row's samples.
        row_bytes: u64,
    },
}

/// What a client may ask for and not get: for these the protocol has no error, the import just fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unsupported {
    /// Flags beyond `y_invert`.
    #[error("flags {0:#x} are not supported")]
    Flags(u32),
    /// Modifiers that differ, from a client of a version in which that was not yet a violation.
    #[error("{0}")]
    Modifiers(FormatFault),
    /// Memory that cannot be used.
    #[error("plane {plane}: {why}")]
    Memory {
        /// Index of the plane.
        plane: usize,
        /// What is wrong with its memory.
        why: Unusable,
    },
}

/// Why the memory of a plane is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unusable {
    /// A pipe, a memfd, a sync_file: anything but a dma-buf.
    #[error("the file descriptor is not a dma-buf")]
    NotADmaBuf,
    /// The client has as many file descriptors with us as it may have.
    #[error("the client has too many dma-bufs")]
    OverBudget,
    /// Few file descriptors are left for all clients together.
    #[error("the last file descriptors are kept for frames")]
    TooManyFiles,
}
