//! Which points a commit must and must not carry: linux-drm-syncobj-v1's commit-time errors as one match.
//!
//! Owns the rule. Must not know protocol objects: the caller maps a [`Violation`] to the error code and posts
//! it on the `wp_linux_drm_syncobj_surface_v1`.

/// What `wl_surface.attach` has said since the last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// No `attach` since the last commit.
    Nothing,
    /// `attach(NULL)`.
    Null,
    /// A buffer that supports explicit synchronisation: every dma-buf of linux-dmabuf.
    Explicit,
    /// A buffer that does not: `wl_shm`, or a single pixel. The protocol leaves these to the compositor, and for a buffer
    /// that the CPU has written there is no fence to speak of.
    ImplicitOnly,
}

/// How two timeline points compare.
pub trait PointOrder {
    /// Whether both points are on one timeline and `self` does not come before `release`.
    fn conflicts_with(&self, release: &Self) -> bool;
}

/// How one commit's buffer is synchronised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sync<P> {
    /// The commit brings no buffer.
    NoBuffer,
    /// The dma-buf's own fences, or none for shared memory.
    Implicit,
    /// Timeline points.
    Explicit {
        /// Nothing samples the buffer before this point signals.
        acquire: P,
        /// Signalled when this commit's last use of the buffer is over.
        release: P,
    },
}

/// A commit that breaks linux-drm-syncobj-v1; named like the entries of
/// `wp_linux_drm_syncobj_surface_v1.error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// `unsupported_buffer`
    #[error("the attached buffer does not support explicit synchronisation: only linux-dmabuf buffers do")]
    UnsupportedBuffer,
    /// `no_buffer`
    #[error("a timeline point was set, but no buffer is attached in this commit")]
    NoBuffer,
    /// `no_acquire_point`
    #[error("a buffer is attached, but no acquire point was set")]
    NoAcquirePoint,
    /// `no_release_point`
    #[error("a buffer is attached, but no release point was set")]
    NoReleasePoint,
    /// `conflicting_points`
    #[error("acquire and release point are on one timeline and the release point is not the later one")]
    ConflictingPoints,
}

/// Decides how a commit is synchronised, or which rule it breaks.
///
/// `has_syncobj_surface` says whether the surface has a live `wp_linux_drm_syncobj_surface_v1`. Points that
/// were pending when that object was destroyed must not be passed in: the protocol lets us discard them.
pub fn validate<P: PointOrder>(
    has_syncobj_surface: bool,
    attached: Attached,
    acquire: Option<P>,
    release: Option<P>,
) -> Result<Sync<P>, Violation> {
    use Attached::*;
    if !has_syncobj_surface {
        return Ok(match attached {
            Nothing | Null => Sync::NoBuffer,
            Explicit | ImplicitOnly => Sync::Implicit,
        });
    }
    match (attached, acquire, release) {
        (Nothing | Null, None, None) => Ok(Sync::NoBuffer),
        (Nothing | Null, _, _) => Err(Violation::NoBuffer),
        (ImplicitOnly, _, _) => Err(Violation::UnsupportedBuffer),
        (Explicit, None, _) => Err(Violation::NoAcquirePoint),
        (Explicit, Some(_), None) => Err(Violation::NoReleasePoint),
        (Explicit, Some(acquire), Some(release)) if acquire.conflicts_with(&release) => {
            Err(Violation::ConflictingPoints)
        }
        (Explicit, Some(acquire), Some(release)) => Ok(Sync::Explicit { acquire, release }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Attached::*, *};

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct At(u32, u64);

    impl PointOrder for At {
        fn conflicts_with(&self, release: &Self) -> bool {
            self.0 == release.0 && self.1 >= release.1
        }
    }

    const ALL: [Attached; 4] = [Nothing, Null, Explicit, ImplicitOnly];

    fn explicit(attached: Attached, acquire: Option<At>, release: Option<At>) -> Result<Sync<At>, Violation> {
        validate(true, attached, acquire, release)
    }

    #[test]
    fn a_surface_without_a_syncobj_object_is_implicit_or_brings_no_buffer() {
        for attached in ALL {
            let expected =
                if matches!(attached, Explicit | ImplicitOnly) { Sync::Implicit } else { Sync::NoBuffer };
            assert_eq!(validate::<At>(false, attached, None, None), Ok(expected));
        }
    }

    #[test]
    fn either_point_without_a_buffer_is_no_buffer() {
        for attached in [Nothing, Null] {
            assert_eq!(explicit(attached, Some(At(0, 1)), None), Err(Violation::NoBuffer));
            assert_eq!(explicit(attached, None, Some(At(0, 1))), Err(Violation::NoBuffer));
            assert_eq!(explicit(attached, Some(At(0, 1)), Some(At(0, 2))), Err(Violation::NoBuffer));
            assert_eq!(explicit(attached, None, None), Ok(Sync::NoBuffer));
        }
    }

    #[test]
    fn a_buffer_needs_both_points_and_the_missing_one_is_named() {
        assert_eq!(explicit(Explicit, None, None), Err(Violation::NoAcquirePoint));
        assert_eq!(explicit(Explicit, None, Some(At(0, 1))), Err(Violation::NoAcquirePoint));
        assert_eq!(explicit(Explicit, Some(At(0, 1)), None), Err(Violation::NoReleasePoint));
    }

    #[test]
    fn equal_or_earlier_release_points_conflict_on_one_timeline_only() {
        for (acquire, release) in [(5, 5), (6, 5), (u64::MAX, u64::MAX)] {
            let points = (Some(At(0, acquire)), Some(At(0, release)));
            assert_eq!(explicit(Explicit, points.0, points.1), Err(Violation::ConflictingPoints));
            let apart = explicit(Explicit, Some(At(0, acquire)), Some(At(1, release)));
            assert!(matches!(apart, Ok(Sync::Explicit { .. })));
        }
        assert!(matches!(
            explicit(Explicit, Some(At(0, 5)), Some(At(0, 6))),
            Ok(Sync::Explicit { acquire: At(0, 5), release: At(0, 6) })
        ));
    }

    #[test]
    fn a_buffer_without_explicit_sync_is_unsupported_whatever_the_points() {
        for points in [(None, None), (Some(At(0, 1)), Some(At(0, 2))), (None, Some(At(0, 2)))] {
            assert_eq!(explicit(ImplicitOnly, points.0, points.1), Err(Violation::UnsupportedBuffer));
        }
    }
}
