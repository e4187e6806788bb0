//! What file descriptors are for when there are few left: frames first, then buffers, then waits.
//!
//! Owns how many are kept for what. EGL and KMS hand out fences as file descriptors, and without them no client is shown
//! anything (I5); without a file descriptor for its buffers a client is shown nothing; a wait without one is slower. Whoever
//! takes a file descriptor on behalf of a client asks here, and does without where it is one of the last.

use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{Resource, getrlimit};

/// What a client's request takes a file descriptor for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A plane of a buffer.
    Buffer,
    /// A wait for a fence.
    Wait,
}

impl Use {
    /// How many file descriptors are kept for what is more important. A frame takes a handful on each output; desktops
    /// have a few buffers in each window.
    pub const fn reserve(self) -> u64 {
        match self {
            Self::Buffer => 64,
            Self::Wait => 128,
        }
    }
}

/// Whether `fd` is one of the last that this process may have, and not to be used for this. The kernel hands out the
/// lowest number that is free, so the number says how many there are.
pub fn is_kept(fd: impl AsFd, from: Use) -> bool {
    is_within_reserve(fd.as_fd().as_raw_fd(), from, getrlimit(Resource::Nofile).current)
}

fn is_within_reserve(fd: i32, from: Use, limit: Option<u64>) -> bool {
    let number = u64::try_from(fd).unwrap_or(0);
    limit.is_some_and(|limit| number >= limit.saturating_sub(from.reserve()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_file_descriptors_are_kept_from_waits_sooner_than_from_buffers() {
        for (number, buffer, wait) in [(127, false, false), (128, false, true), (192, true, true)] {
            assert_eq!(is_within_reserve(number, Use::Buffer, Some(256)), buffer, "{number}");
            assert_eq!(is_within_reserve(number, Use::Wait, Some(256)), wait, "{number}");
        }
        assert!(is_within_reserve(3, Use::Buffer, Some(16)));
        assert!(!is_within_reserve(i32::MAX, Use::Wait, None));
    }
}
