//! Owns the pictures of the pointer: those of a theme, and an arrow for where there is none. Must not know where the
//! pointer is, nor who draws it: an image is asked for by name, scale and time.
//!
//! Everything is read once, at start, so that no disk is waited for in the event loop.

mod arrow;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

pub use smithay::input::pointer::CursorIcon;
use tracing::{info, warn};

/// The size that themes call normal.
pub const DEFAULT_SIZE: u32 = 24;
/// Nominal sizes that can be asked for: beyond, something is wrong with the setting.
const SIZES: std::ops::RangeInclusive<u32> = 1..=256;
/// Animated cursors in all sizes take a few MiB.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// All that `wp_cursor_shape_device_v1` can name, which is also what CSS has.
const ICONS: [CursorIcon; 36] = {
    use CursorIcon as I;
    [
        I::Default,
        I::ContextMenu,
        I::Help,
        I::Pointer,
        I::Progress,
        I::Wait,
        I::Cell,
        I::Crosshair,
        I::Text,
        I::VerticalText,
        I::Alias,
        I::Copy,
        I::Move,
        I::NoDrop,
        I::NotAllowed,
        I::Grab,
        I::Grabbing,
        I::EResize,
        I::NResize,
        I::NeResize,
        I::NwResize,
        I::SResize,
        I::SeResize,
        I::SwResize,
        I::WResize,
        I::EwResize,
        I::NsResize,
        I::NeswResize,
        I::NwseResize,
        I::ColResize,
        I::RowResize,
        I::AllScroll,
        I::ZoomIn,
        I::ZoomOut,
        I::DndAsk,
        I::AllResize,
    ]
};

/// One picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `DRM_FORMAT_ARGB8888` with premultiplied alpha, rows without padding.
    pub pixels: Vec<u8>,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The pixel that points, from the top left.
    pub hotspot: (u32, u32),
}

/// What to show of a cursor at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown<'a> {
    /// The picture.
    pub image: &'a Image,
    /// How long until there is another; `None` where it never changes.
    pub next_in: Option<Duration>,
}

/// The pictures of one theme at one nominal size.
#[derive(Debug)]
pub struct CursorImages {
    size: u32,
    icons: HashMap<CursorIcon, Cursor>,
    arrow: Cursor,
}

/// A cursor in the sizes that there are. At least one.
#[derive(Debug)]
struct Cursor {
    first: Animation,
    others: Vec<Animation>,
}

/// A cursor in one size: the frames that it goes through, over and over. At least one.
#[derive(Debug)]
struct Animation {
    nominal_size: u32,
    first: Frame,
    others: Vec<Frame>,
}

#[derive(Debug)]
struct Frame {
    image: Image,
    duration: Duration,
}

/// Theme and size as the user's other programs have them: `XCURSOR_THEME` and `XCURSOR_SIZE`, or else the default theme
/// at 24.
pub fn theme_from_environment() -> (String, u32) {
    let theme = std::env::var("XCURSOR_THEME").ok().filter(|theme| !theme.is_empty());
    let size = std::env::var("XCURSOR_SIZE").ok();
    (theme.unwrap_or_else(|| "default".to_owned()), parse_size(size.as_deref()))
}

fn parse_size(setting: Option<&str>) -> u32 {
    let Some(setting) = setting.filter(|setting| !setting.is_empty()) else { return DEFAULT_SIZE };
    match setting.parse() {
        Ok(size) if SIZES.contains(&size) => size,
        _ => {
            warn!("XCURSOR_SIZE is {setting:?}, which is no size of a cursor: using {DEFAULT_SIZE}");
            DEFAULT_SIZE
        }
    }
}

impl CursorImages {
    /// Reads a theme, by the rules of libXcursor (`XCURSOR_PATH`, inherited themes). What cannot be found or read is
    /// replaced by the theme's default cursor, and that by an arrow of our own.
    pub fn load(theme: &str, size: u32) -> Self {
        let files = xcursor::CursorTheme::load(theme);
        let images = Self::from_files(size, |name| read(&files.load_icon(name)?));
        match images.icons.len() {
            0 => info!("no cursor theme {theme:?} found: using a built-in arrow"),
            found => info!("cursor theme {theme:?}: {found} cursors"),
        }
        images
    }

    fn from_files(size: u32, mut file: impl FnMut(&str) -> Option<Vec<u8>>) -> Self {
        let size = size.clamp(*SIZES.start(), *SIZES.end());
        let mut icons = HashMap::new();
        for icon in ICONS {
            let names = std::iter::once(icon.name()).chain(icon.alt_names().iter().copied());
            let found = names.filter_map(&mut file).find_map(|bytes| Cursor::parse(&bytes));
            icons.extend(found.map(|cursor| (icon, cursor)));
        }
        Self { size, icons, arrow: Cursor::arrow(size) }
    }

    /// What to show of `icon` on an output of `scale`, `time` after whatever start. The size nearest to the one wanted
    /// is taken as it is, not resized.
    pub fn image(&self, icon: CursorIcon, scale: f64, time: Duration) -> Shown<'_> {
        let wanted_size = (f64::from(self.size) * scale).round() as u32;
        let cursor = self.icons.get(&icon).or_else(|| self.icons.get(&CursorIcon::Default));
        cursor.unwrap_or(&self.arrow).nearest(wanted_size).at(time)
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let sane = |path: &Path| match std::fs::metadata(path)?.len() {
        ..=MAX_FILE_BYTES => std::fs::read(path),
        _ => Err(std::io::ErrorKind::FileTooLarge.into()),
    };
    sane(path).inspect_err(|error| warn!("could not read the cursor {}: {error}", path.display())).ok()
}

impl Cursor {
    /// `None` where the bytes are not those of an Xcursor file, or of one without images.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut sizes: Vec<Animation> = Vec::new();
        for image in xcursor::parser::parse_xcursor(bytes)? {
            let nominal_size = image.size;
            let frame = Frame::from(image);
            match sizes.iter_mut().find(|size| size.nominal_size == nominal_size) {
                Some(size) => size.others.push(frame),
                None => sizes.push(Animation { nominal_size, first: frame, others: Vec::new() }),
            }
        }
        let mut sizes = sizes.into_iter();
        Some(Self { first: sizes.next()?, others: sizes.collect() })
    }

    /// The arrow at scales 1 to 3.
    fn arrow(size: u32) -> Self {
        let still = |nominal_size| {
            let first = Frame { image: arrow::draw(nominal_size), duration: Duration::MAX };
            Animation { nominal_size, first, others: Vec::new() }
        };
        Self { first: still(size), others: vec![still(size * 2), still(size * 3)] }
    }

    fn nearest(&self, wanted_size: u32) -> &Animation {
        let distance = |size: &Animation| size.nominal_size.abs_diff(wanted_size);
        self.others
            .iter()
            .fold(&self.first, |best, size| if distance(size) < distance(best) { size } else { best })
    }
}

impl Animation {
    fn at(&self, time: Duration) -> Shown<'_> {
        if self.others.is_empty() {
            return Shown { image: &self.first.image, next_in: None };
        }
        let frames = || std::iter::once(&self.first).chain(&self.others);
        let cycle_ms: u128 = frames().map(|frame| frame.duration.as_millis()).sum();
        let mut left_ms = time.as_millis() % cycle_ms.max(1);
        for frame in frames() {
            let duration_ms = frame.duration.as_millis();
            if left_ms < duration_ms {
                let next_in = Duration::from_millis((duration_ms - left_ms) as u64);
                return Shown { image: &frame.image, next_in: Some(next_in) };
            }
            left_ms -= duration_ms;
        }
        Shown { image: &self.first.image, next_in: None }
    }
}

impl From<xcursor::parser::Image> for Frame {
    fn from(image: xcursor::parser::Image) -> Self {
        let xcursor::parser::Image { width, height, xhot, yhot, delay, pixels_rgba, .. } = image;
        // Despite its name: the bytes as they are in the file, which are little-endian words of premultiplied ARGB.
        let image = Image { pixels: pixels_rgba, width, height, hotspot: (xhot, yhot) };
        Self { image, duration: Duration::from_millis(delay.max(1).into()) }
    }
}

#[cfg(test)]
mod tests;
