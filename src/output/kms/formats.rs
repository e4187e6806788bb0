//! Formats: what a plane can show and the renderer can draw, and in which order to try what they share.
//!
//! Pure: it reads a blob that somebody else fetched, and answers with lists.

use drm::buffer::{DrmFourcc as Fourcc, DrmModifier as Modifier};
use smithay::backend::allocator::Format;
use smithay::backend::allocator::format::FormatSet;

/// The formats of a pointer's image, best first.
pub const WITH_ALPHA: [Fourcc; 2] = [Fourcc::Argb8888, Fourcc::Abgr8888];

/// The formats of an output's buffers, best first. No alpha: nothing lies below.
pub const PREFERRED: [Fourcc; 4] = [Fourcc::Xrgb8888, Fourcc::Xbgr8888, Fourcc::Argb8888, Fourcc::Abgr8888];

/// One way to allocate the buffers of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The format.
    pub fourcc: Fourcc,
    /// The layouts that the allocator may choose from; `[Invalid]` leaves it to the driver.
    pub modifiers: Vec<Modifier>,
}

/// How to allocate buffers that the renderer can draw and the plane can show, best first: explicit modifiers where both
/// sides name some, else linear where the renderer says it can, else the driver's own choice.
///
/// `preferred`: the formats to choose from, best first. `has_modifiers`: the device takes modifiers
/// (`DRM_CAP_ADDFB2_MODIFIERS`).
pub fn candidates(
    preferred: &[Fourcc],
    plane: &FormatSet,
    renderer: &FormatSet,
    has_modifiers: bool,
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for &fourcc in preferred {
        let shows = plane.iter().any(|format| format.code == fourcc);
        let draws = renderer.iter().any(|format| format.code == fourcc);
        if !shows || !draws {
            continue;
        }
        if has_modifiers {
            let shared = plane
                .iter()
                .filter(|format| format.code == fourcc && format.modifier != Modifier::Invalid)
                .filter(|format| renderer.contains(format));
            let modifiers = shared.map(|format| format.modifier).collect::<Vec<_>>();
            if !modifiers.is_empty() {
                candidates.push(Candidate { fourcc, modifiers });
            }
        } else if renderer.contains(&Format { code: fourcc, modifier: Modifier::Linear }) {
            candidates.push(Candidate { fourcc, modifiers: vec![Modifier::Linear] });
        }
        candidates.push(Candidate { fourcc, modifiers: vec![Modifier::Invalid] });
    }
    candidates
}

/// The formats in which a plane shows linear buffers that a renderer of another device draws, best first. A plane that names
/// no modifiers shows those that go without saying, which between devices is linear.
pub fn linear(preferred: &[Fourcc], plane: &FormatSet, renderer: &FormatSet) -> Vec<Fourcc> {
    let has = |set: &FormatSet, code| {
        [Modifier::Linear, Modifier::Invalid].iter().any(|&modifier| set.contains(&Format { code, modifier }))
    };
    preferred.iter().copied().filter(|&code| has(plane, code) && has(renderer, code)).collect()
}

/// The formats of a plane without `IN_FORMATS`: fourccs with the driver's own choice of layout.
pub fn without_modifiers(fourccs: &[u32]) -> FormatSet {
    let known = fourccs.iter().filter_map(|&fourcc| Fourcc::try_from(fourcc).ok());
    known.map(|code| Format { code, modifier: Modifier::Invalid }).collect()
}

/// Reads an `IN_FORMATS` blob (`struct drm_format_modifier_blob`); `None` if it is malformed. Formats that we
/// do not know are left out.
pub fn parse_in_formats(blob: &[u8]) -> Option<FormatSet> {
    const VERSION: u32 = 1;
    const MODIFIER_LEN: usize = 24;
    let word = |at: usize| blob.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    let long = |at: usize| blob.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
    let size = |at: usize| word(at).and_then(|value| usize::try_from(value).ok());
    if word(0)? != VERSION {
        return None;
    }
    let (format_count, formats_at) = (size(8)?, size(12)?);
    let (modifier_count, modifiers_at) = (size(16)?, size(20)?);
    let fourcc = |index: usize| {
        let at = formats_at.checked_add(index.checked_mul(4)?)?;
        (index < format_count).then_some(word(at)).flatten()
    };
    let mut formats = Vec::new();
    for index in 0..modifier_count {
        let at = modifiers_at.checked_add(index.checked_mul(MODIFIER_LEN)?)?;
        // A bit mask of up to 64 formats, counted from `offset`.
        let (mask, offset, modifier) = (long(at)?, size(at.checked_add(8)?)?, long(at.checked_add(16)?)?);
        for bit in (0..64).filter(|bit| mask & (1 << bit) != 0) {
            let code = fourcc(offset.checked_add(bit)?)?;
            if let Ok(code) = Fourcc::try_from(code) {
                formats.push(Format { code, modifier: Modifier::from(modifier) });
            }
        }
    }
    Some(formats.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TILED: Modifier = Modifier::I915_x_tiled;

    fn set(formats: &[(Fourcc, Modifier)]) -> FormatSet {
        formats.iter().map(|&(code, modifier)| Format { code, modifier }).collect()
    }

    #[test]
    fn another_devices_buffers_are_linear_or_go_without_saying() {
        use Fourcc::{Argb8888, Xbgr8888, Xrgb8888};
        let draws = set(&[(Xrgb8888, TILED), (Xrgb8888, Modifier::Linear), (Argb8888, Modifier::Invalid)]);
        let shows =
            [(Argb8888, Modifier::Linear), (Xrgb8888, Modifier::Invalid), (Xbgr8888, Modifier::Linear)];
        assert_eq!(linear(&PREFERRED, &set(&shows), &draws), [Xrgb8888, Argb8888]);
        let tiled = set(&[(Xrgb8888, TILED)]);
        assert_eq!(linear(&PREFERRED, &tiled, &draws), [], "a layout of its own is not another's");
        assert_eq!(linear(&PREFERRED, &set(&shows), &tiled), []);
    }

    fn blob(fourccs: &[u32], modifiers: &[(u64, u32, u64)]) -> Vec<u8> {
        let modifiers_at = (24 + 4 * fourccs.len()).next_multiple_of(8);
        let mut bytes = Vec::new();
        for word in [1, 0, fourccs.len() as u32, 24, modifiers.len() as u32, modifiers_at as u32] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        for fourcc in fourccs {
            bytes.extend_from_slice(&fourcc.to_ne_bytes());
        }
        bytes.resize(modifiers_at, 0);
        for &(mask, offset, modifier) in modifiers {
            bytes.extend_from_slice(&mask.to_ne_bytes());
            bytes.extend_from_slice(&offset.to_ne_bytes());
            bytes.extend_from_slice(&0_u32.to_ne_bytes());
            bytes.extend_from_slice(&modifier.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn in_formats_are_fourccs_crossed_with_modifiers_by_mask() {
        let fourccs = [Fourcc::Xrgb8888 as u32, 0xdead_beef, Fourcc::Argb8888 as u32];
        let bytes = blob(&fourccs, &[(0b111, 0, 0), (0b1, 2, TILED.into())]);
        let parsed = parse_in_formats(&bytes).expect("a good blob");
        let expected = [
            (Fourcc::Xrgb8888, Modifier::Linear),
            (Fourcc::Argb8888, Modifier::Linear),
            (Fourcc::Argb8888, TILED),
        ];
        assert_eq!(parsed.iter().collect::<Vec<_>>(), set(&expected).iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_malformed_blob_is_refused_and_no_length_of_it_panics() {
        let bytes = blob(&[Fourcc::Xrgb8888 as u32], &[(0b1, 0, 0)]);
        for len in 0..bytes.len() {
            assert!(parse_in_formats(&bytes[..len]).is_none(), "cut to {len}");
        }
        assert!(parse_in_formats(&blob(&[Fourcc::Xrgb8888 as u32], &[(0b10, 0, 0)])).is_none());
        assert!(parse_in_formats(&blob(&[Fourcc::Xrgb8888 as u32], &[(0b1, u32::MAX, 0)])).is_none());
    }

    #[test]
    fn shared_modifiers_come_first_and_the_drivers_choice_last() {
        let plane = set(&[(Fourcc::Xrgb8888, Modifier::Linear), (Fourcc::Xrgb8888, TILED)]);
        let renderer = set(&[(Fourcc::Xrgb8888, TILED), (Fourcc::Xrgb8888, Modifier::Invalid)]);
        let found = candidates(&PREFERRED, &plane, &renderer, true);
        assert_eq!(found[0], Candidate { fourcc: Fourcc::Xrgb8888, modifiers: vec![TILED] });
        assert_eq!(found[1], Candidate { fourcc: Fourcc::Xrgb8888, modifiers: vec![Modifier::Invalid] });
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_device_without_modifiers_gets_linear_only_from_a_renderer_that_draws_it() {
        let plane = without_modifiers(&[Fourcc::Xrgb8888 as u32]);
        let software = set(&[(Fourcc::Xrgb8888, Modifier::Linear)]);
        let first = candidates(&PREFERRED, &plane, &software, false).into_iter().next().expect("a candidate");
        assert_eq!(first.modifiers, [Modifier::Linear]);
        let virgl = set(&[(Fourcc::Xrgb8888, Modifier::Invalid)]);
        let found = candidates(&PREFERRED, &plane, &virgl, false);
        assert_eq!(found, [Candidate { fourcc: Fourcc::Xrgb8888, modifiers: vec![Modifier::Invalid] }]);
    }

    #[test]
    fn what_one_side_cannot_do_is_no_candidate() {
        let plane = set(&[(Fourcc::Xrgb8888, Modifier::Linear)]);
        let renderer = set(&[(Fourcc::Abgr8888, Modifier::Linear)]);
        assert_eq!(candidates(&PREFERRED, &plane, &renderer, true), []);
    }
}
