//! A number of 64 bits as Wayland protocols have it: its high half, then its low one.
//!
//! Owns the two conversions. Must not know what the number means: a timeline point, a modifier, a time.

/// The high and the low half.
#[expect(clippy::cast_possible_truncation, reason = "the two halves are all of it")]
pub fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

/// The number with these halves.
pub fn whole(hi: u32, lo: u32) -> u64 {
    u64::from(hi) << 32 | u64::from(lo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_make_the_whole_again() {
        for value in [0, 1, u64::from(u32::MAX), 1 << 32, 0x0123_4567_89ab_cdef, u64::MAX] {
            let (hi, lo) = halves(value);
            assert_eq!(whole(hi, lo), value);
        }
        assert_eq!(halves(0x0123_4567_89ab_cdef), (0x0123_4567, 0x89ab_cdef));
    }
}
