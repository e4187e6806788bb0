//! The overlay's picture: lanes as pixels, drawn by the CPU.
//!
//! Owns colours, sizes and letters. Must not know where the pixels go.

use std::convert::Infallible;

use embedded_graphics::{
    Pixel,
    mono_font::{MonoTextStyle, ascii::FONT_6X10},
    pixelcolor::{Rgb888, raw::RawU24},
    prelude::{Dimensions, DrawTarget, Drawable, OriginDimensions, Point, RawData, Size, WebColors},
    primitives::Rectangle,
    text::{Baseline, Text},
};

use super::lanes::{Lane, SPAN, Stage};
use crate::trace::story::Story;

/// The size of the picture in pixels.
pub(super) const WIDTH: u32 = 640;
pub(super) const HEIGHT: u32 = 192;

/// How many surfaces have room.
pub(super) const LANES: usize = 6;

/// Where the graph begins, right of the names, and how wide it is: 4 ms a pixel.
const GRAPH_X: i32 = 132;
const GRAPH_WIDTH: u64 = 500;

const MARGIN: i32 = 6;
const HEAD: i32 = 20;
const LANE: i32 = 24;
const BAR: u32 = 5;
const LETTERS: usize = 20;

const BACKGROUND: Rgb888 = Rgb888::new(16, 18, 24);
const GRID: Rgb888 = Rgb888::new(40, 44, 56);
const RED: Rgb888 = Rgb888::new(255, 48, 48);
const LETTER: Rgb888 = Rgb888::CSS_LIGHT_GRAY;

/// The size of a pixel in bytes.
const PIXEL: usize = 4;

/// The size of a row in bytes.
const ROW: usize = WIDTH as usize * PIXEL;

/// XRGB8888 pixels as they are in memory, row by row.
pub(super) struct Picture {
    bytes: Vec<u8>,
    /// How many rows say something.
    used: u32,
}

/// The colour of a stage, and where its bars are in a lane: each stage has a row.
fn look(stage: Stage) -> (Rgb888, i32, &'static str) {
    match stage {
        Stage::Fence => (Rgb888::new(255, 176, 0), 0, "fence"),
        Stage::Queue => (Rgb888::new(86, 156, 255), 5, "queue"),
        Stage::Frame => (Rgb888::new(72, 208, 112), 10, "latch-flip"),
        Stage::Held => (Rgb888::new(128, 112, 168), 15, "held"),
    }
}

impl Picture {
    /// Draws what the story says of the last two seconds.
    pub(super) fn of(story: &Story, lanes: &[Lane]) -> Self {
        let used = HEAD as u32 + 4 + lanes.len().min(LANES) as u32 * LANE as u32;
        let mut picture = Self { bytes: pixel(BACKGROUND).repeat((WIDTH * HEIGHT) as usize), used };
        picture.legend(story);
        for tenth in 0..=4 {
            let x = GRAPH_X + tenth * (GRAPH_WIDTH / 4) as i32;
            picture.fill(x, HEAD, 1, used.saturating_sub(HEAD as u32 + 4), GRID);
        }
        for (lane, y) in lanes.iter().take(LANES).zip((0..).map(|index| HEAD + 4 + index * LANE)) {
            picture.lane(story.last, lane, y);
        }
        picture
    }

    fn legend(&mut self, story: &Story) {
        let mut x = GRAPH_X;
        for (colour, _, name) in Stage::ALL.map(look).into_iter().chain([(RED, 0, "missed")]) {
            self.fill(x, MARGIN + 1, 8, 8, colour);
            x = self.text(name, x + 11, MARGIN, LETTER) + 10;
        }
        let since = story.last.saturating_sub(SPAN);
        let (mut flips, mut missed) = (0, 0);
        for output in story.outputs.values() {
            let frames = output.frames.iter().filter_map(|number| story.frames.get(number));
            flips += frames.filter(|frame| frame.flipped.is_some_and(|(at, _)| at >= since)).count();
            missed += output.missed.iter().filter(|at| **at >= since).count();
        }
        self.text("last 2 s", MARGIN, MARGIN, LETTER);
        self.text(&format!("{flips} flips"), x + 4, MARGIN, LETTER);
        if missed > 0 {
            self.text(&format!("{missed} missed"), x + 70, MARGIN, RED);
        }
    }

    fn lane(&mut self, now: u64, lane: &Lane, y: i32) {
        let name: String = lane.name.chars().take(LETTERS).collect();
        self.text(&name, MARGIN, y, LETTER);
        self.text(&format!("{} commits", lane.commits.len()), MARGIN, y + 10, Rgb888::CSS_GRAY);
        for bar in &lane.bars {
            let (colour, row, _) = look(bar.stage);
            let (from, to) = (column(now, bar.from), column(now, bar.to));
            let width = u32::try_from(to - from).unwrap_or(0).max(1);
            self.fill(GRAPH_X + from, y + row, width, BAR - 1, if bar.missed { RED } else { colour });
        }
        for at in &lane.commits {
            self.fill(GRAPH_X + column(now, *at), y - 2, 1, 2, Rgb888::CSS_WHITE);
        }
    }

    fn fill(&mut self, x: i32, y: i32, width: u32, height: u32, colour: Rgb888) {
        let area = Rectangle::new(Point::new(x, y), Size::new(width, height));
        let Ok(()) = self.fill_solid(&area, colour);
    }

    /// Writes at most one line; where it ends.
    fn text(&mut self, text: &str, x: i32, y: i32, colour: Rgb888) -> i32 {
        let style = MonoTextStyle::new(&FONT_6X10, colour);
        let Ok(end) = Text::with_baseline(text, Point::new(x, y), style, Baseline::Top).draw(self);
        end.x
    }

    /// Sets some pixels of a row, which are inside.
    fn run(&mut self, at: Point, count: u32, colour: Rgb888) {
        let start = usize::try_from(at.y).ok().zip(usize::try_from(at.x).ok());
        let start = start.map(|(y, x)| y * ROW + x * PIXEL).unwrap_or(usize::MAX);
        let pixels = self.bytes.get_mut(start..).into_iter().flat_map(|rest| rest.as_chunks_mut().0);
        for of_row in pixels.take(count as usize) {
            *of_row = pixel(colour);
        }
    }

    /// The pixels.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many rows from the top say something.
    pub(super) fn used(&self) -> u32 {
        self.used
    }
}

/// The column of the graph for this time.
fn column(now: u64, at: u64) -> i32 {
    let since = at.saturating_sub(now.saturating_sub(SPAN)).min(SPAN);
    i32::try_from(since.saturating_mul(GRAPH_WIDTH) / SPAN).unwrap_or(0)
}

fn pixel(colour: Rgb888) -> [u8; PIXEL] {
    RawU24::from(colour).into_inner().to_le_bytes()
}

impl OriginDimensions for Picture {
    fn size(&self) -> Size {
        Size::new(WIDTH, HEIGHT)
    }
}

impl DrawTarget for Picture {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let inside = self.bounding_box();
        for Pixel(at, colour) in pixels.into_iter().filter(|Pixel(at, _)| inside.contains(*at)) {
            self.run(at, 1, colour);
        }
        Ok(())
    }

    fn fill_solid(&mut self, area: &Rectangle, colour: Rgb888) -> Result<(), Infallible> {
        let area = area.intersection(&self.bounding_box());
        for y in area.rows() {
            self.run(Point::new(area.top_left.x, y), area.size.width, colour);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::lanes::Bar, *};
    use crate::trace::file::Header;

    const MS: u64 = 1_000_000;

    fn drawn(bars: Vec<Bar>) -> Picture {
        let mut story = Story::new(Header::new("auto", false, "test"));
        story.last = 5_000 * MS;
        Picture::of(&story, &[Lane { name: "cube".into(), commits: vec![4_000 * MS], bars }])
    }

    fn at(picture: &Picture, x: i32, y: i32) -> [u8; PIXEL] {
        picture.bytes()[y as usize * ROW + x as usize * PIXEL..][..PIXEL].try_into().expect("a pixel")
    }

    #[test]
    fn a_bar_is_where_its_time_is_and_red_where_it_missed() {
        let bar = |from, to, missed| Bar { stage: Stage::Frame, from: from * MS, to: to * MS, missed };
        let picture = drawn(vec![bar(4_000, 4_100, false), bar(4_200, 4_300, true)]);
        let y = HEAD + 4 + look(Stage::Frame).1;
        let at_ms = |ms| at(&picture, GRAPH_X + column(5_000 * MS, ms * MS), y);
        assert_eq!(at_ms(4_050), pixel(look(Stage::Frame).0));
        assert_eq!(at_ms(4_150), pixel(BACKGROUND));
        assert_eq!(at_ms(4_250), pixel(RED));
        assert_eq!(at(&picture, GRAPH_X + 250, HEAD + 2), pixel(Rgb888::CSS_WHITE), "the commit");
        assert_eq!(picture.used(), (HEAD + 4 + LANE) as u32);
    }

    #[test]
    fn nothing_is_drawn_outside_whatever_the_times_are() {
        let bar = |from, to| Bar { stage: Stage::Held, from, to, missed: false };
        let picture = drawn(vec![bar(0, u64::MAX), bar(u64::MAX, u64::MAX)]);
        let y = HEAD + 4 + look(Stage::Held).1;
        assert_eq!(at(&picture, GRAPH_X, y), pixel(look(Stage::Held).0));
        assert_eq!(at(&picture, GRAPH_X - 1, y), pixel(BACKGROUND));
        assert_eq!(at(&picture, WIDTH as i32 - 1, y), pixel(BACKGROUND));
        assert_eq!(picture.bytes().len(), ROW * HEIGHT as usize);
    }
}
