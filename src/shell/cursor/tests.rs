//! Which picture is shown, from theme files made up here.

use super::*;

/// One image of an Xcursor file: its nominal size, the value of every byte of its pixels, its delay.
type Entry = (u32, u8, u32);

/// An Xcursor file: <https://man.archlinux.org/man/Xcursor.3#CURSOR_FILES>.
fn file(entries: &[Entry]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let (mut contents, mut chunks) = (Vec::new(), Vec::new());
    let chunks_start = 16 + 12 * entries.len() as u32;
    for (size, value, delay) in entries {
        contents.extend(words(&[0xfffd_0002, *size, chunks_start + chunks.len() as u32]));
        chunks.extend(words(&[36, 0xfffd_0002, *size, 1, *size, *size, 1, 2, *delay]));
        chunks.extend(vec![*value; 4 * (size * size) as usize]);
    }
    let header = words(&[u32::from_le_bytes(*b"Xcur"), 16, 0x0001_0000, entries.len() as u32]);
    [header, contents, chunks].concat()
}

fn theme(size: u32, files: &[(&str, &[Entry])]) -> CursorImages {
    CursorImages::from_files(size, |name| {
        let (_, entries) = files.iter().find(|(other, _)| *other == name)?;
        Some(file(entries))
    })
}

/// Size and pixel value of what is shown.
fn shown(images: &CursorImages, icon: CursorIcon, scale: f64, ms: u64) -> (u32, u8) {
    let image = images.image(icon, scale, Duration::from_millis(ms)).image;
    (image.width, image.pixels[0])
}

#[test]
fn the_size_nearest_to_the_scaled_one_is_shown() {
    let images = theme(24, &[("default", &[(24, 1, 0), (36, 2, 0), (48, 3, 0)])]);
    let sizes =
        [0.5, 1.0, 1.2, 1.5, 2.0, 10.0, f64::MAX].map(|scale| shown(&images, CursorIcon::Default, scale, 0));
    assert_eq!(sizes, [(24, 1), (24, 1), (24, 1), (36, 2), (48, 3), (48, 3), (48, 3)]);
}

#[test]
fn an_image_keeps_its_bytes_and_its_hotspot() {
    let images = theme(4, &[("default", &[(4, 7, 0)])]);
    let image = images.image(CursorIcon::Default, 1.0, Duration::ZERO).image;
    assert_eq!(*image, Image { pixels: vec![7; 64], width: 4, height: 4, hotspot: (1, 2) });
}

#[test]
fn an_animation_goes_through_its_frames_and_starts_again() {
    let images = theme(24, &[("wait", &[(24, 1, 10), (48, 9, 10), (24, 2, 20), (24, 3, 30)])]);
    let at = |ms| {
        let shown = images.image(CursorIcon::Wait, 1.0, Duration::from_millis(ms));
        (shown.image.pixels[0], shown.next_in.unwrap().as_millis())
    };
    let frames = [0, 9, 10, 29, 30, 59, 60, 60_000_000_015].map(at);
    assert_eq!(frames, [(1, 10), (1, 1), (2, 20), (2, 1), (3, 30), (3, 1), (1, 10), (2, 15)]);
}

#[test]
fn a_still_image_needs_no_wake_up() {
    let images = theme(24, &[("default", &[(24, 1, 50)])]);
    assert_eq!(images.image(CursorIcon::Default, 1.0, Duration::from_secs(1)).next_in, None);
    let arrow = theme(24, &[]);
    assert_eq!(arrow.image(CursorIcon::Default, 1.0, Duration::from_secs(1)).next_in, None);
}

#[test]
fn frames_without_a_delay_last_a_millisecond() {
    let images = theme(24, &[("wait", &[(24, 1, 0), (24, 2, 0)])]);
    assert_eq!([0, 1, 2].map(|ms| shown(&images, CursorIcon::Wait, 1.0, ms).1), [1, 2, 1]);
}

#[test]
fn old_names_stand_in_for_new_ones() {
    let images = theme(24, &[("xterm", &[(24, 1, 0)]), ("left_ptr", &[(24, 2, 0)])]);
    assert_eq!(shown(&images, CursorIcon::Text, 1.0, 0), (24, 1));
    assert_eq!(shown(&images, CursorIcon::Default, 1.0, 0), (24, 2));
}

#[test]
fn a_cursor_that_the_theme_lacks_is_the_default_one() {
    let images = theme(24, &[("default", &[(24, 1, 0)])]);
    assert_eq!(shown(&images, CursorIcon::ZoomIn, 1.0, 0), (24, 1));
}

#[test]
fn a_broken_file_is_passed_over() {
    let whole = file(&[(24, 1, 0)]);
    for broken in [&b""[..], b"<svg/>", &whole[..whole.len() - 1], &file(&[])] {
        let images = CursorImages::from_files(24, |name| match name {
            "default" => Some(broken.to_vec()),
            "arrow" => Some(whole.clone()),
            _ => None,
        });
        assert_eq!(shown(&images, CursorIcon::Default, 1.0, 0), (24, 1));
    }
}

#[test]
fn without_a_theme_there_is_an_arrow_in_every_size() {
    let images = theme(24, &[]);
    for (scale, size) in [(1.0, 24), (1.4, 24), (2.0, 48), (3.0, 72)] {
        let image = images.image(CursorIcon::Text, scale, Duration::ZERO).image;
        assert_eq!((image.width, image.height, image.pixels.len()), (size, size, 4 * (size * size) as usize));
    }
}

#[test]
fn the_arrow_points_with_its_tip_and_is_black_and_white_and_premultiplied() {
    for size in [1, 8, 24, 48, 256] {
        let image = arrow::draw(size);
        let pixels: Vec<[u8; 4]> =
            image.pixels.chunks_exact(4).map(|pixel| pixel.try_into().unwrap()).collect();
        assert!(pixels.iter().all(|[b, g, r, a]| b == g && g == r && r <= a));
        if size >= 24 {
            let (x, y) = image.hotspot;
            let index = (y * size + x) as usize;
            assert_eq!(pixels[index][3], 255, "the tip is solid");
            assert_eq!(pixels[0][3], 0, "and nothing is to its upper left");
            assert_eq!(pixels[(size * size) as usize - 1][3], 0);
            assert!(pixels.contains(&[255; 4]) && pixels.contains(&[0, 0, 0, 255]));
        }
    }
}

#[test]
fn a_size_is_a_sane_number_or_the_default() {
    assert_eq!([Some("32"), Some("1"), Some("256")].map(parse_size), [32, 1, 256]);
    assert_eq!([None, Some("")].map(parse_size), [24, 24]);
    assert_eq!(
        [Some("0"), Some("-1"), Some("257"), Some("4294967320"), Some("big")].map(parse_size),
        [24; 5]
    );
}

#[test]
fn every_icon_is_looked_for_once() {
    let distinct: std::collections::HashSet<_> = ICONS.iter().collect();
    assert_eq!(distinct.len(), ICONS.len());
}
