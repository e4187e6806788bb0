//! Turned outputs, drawn in software.

use smithay::backend::renderer::{element::Id, utils::DamageBag};
use smithay::utils::{Buffer, Point};

use super::*;

type Rect = Rectangle<i32, Physical>;

/// The size of the mode.
const MODE: (i32, i32) = (64, 32);
/// The size of the picture that is drawn.
const PICTURE: (i32, i32) = (16, 8);

struct Painting {
    renderer: Renderer,
    canvas: Canvas,
    id: Id,
    damage: DamageBag<i32, Buffer>,
}

impl Painting {
    fn new(transform: Transform) -> Self {
        let renderer = Renderer::anywhere().expect("a renderer");
        let canvas = Canvas::new(MODE.into(), 1.0, transform);
        Self { renderer, canvas, id: Id::new(), damage: DamageBag::default() }
    }

    /// Draws a white picture with its corner there. Returns the white pixels of the buffer, and what is said to have
    /// changed in it.
    fn draw(&mut self, at: (i32, i32)) -> (Rect, Rect) {
        let pixels = vec![0xff; usize::try_from(PICTURE.0 * PICTURE.1 * 4).expect("a size")];
        let texture = self.renderer.import_image(&pixels, PICTURE.into()).expect("a texture");
        let element =
            Element::of_image(self.id.clone(), texture, self.damage.snapshot(), PICTURE.into(), at.into());
        let drawn =
            self.renderer.draw_own(&mut self.canvas, 1, &[&element]).expect("a frame").expect("a change");
        let mut white: Option<Rect> = None;
        let read = self.renderer.read(&mut self.canvas, |y, row| {
            for (x, pixel) in (0..).zip(row.chunks_exact(4)) {
                if pixel[..3] == [0xff; 3] {
                    let at = Point::from((x, i32::try_from(y).expect("a row")));
                    let pixel = Rect::new(at, (1, 1).into());
                    white = Some(white.map_or(pixel, |white| white.merge(pixel)));
                }
            }
            Ok(())
        });
        read.expect("pixels");
        let changed = drawn.damage.into_iter().reduce(Rectangle::merge).expect("damage");
        (white.expect("white pixels"), changed)
    }
}

const TRANSFORMS: [Transform; 8] = [
    Transform::Normal,
    Transform::_90,
    Transform::_180,
    Transform::_270,
    Transform::Flipped,
    Transform::Flipped90,
    Transform::Flipped180,
    Transform::Flipped270,
];

#[test]
fn a_turned_output_is_drawn_turned_and_its_damage_is_where_its_pixels_are() {
    let mut places = Vec::new();
    for transform in TRANSFORMS {
        let mut painting = Painting::new(transform);
        let (before, _all) = painting.draw((2, 4));
        let (after, changed) = painting.draw((3, 5));
        assert_eq!(changed, before.merge(after), "{transform:?}");
        let turned = transform.transform_size(before.size);
        assert_eq!((turned.w, turned.h), PICTURE, "{transform:?}");
        places.push((before.loc.x, before.loc.y, before.size.w));
    }
    // A different place for each.
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), TRANSFORMS.len(), "{places:?}");
}

#[test]
fn a_pass_draws_what_its_buffer_has_missed_and_reads_nothing_else() {
    let mut renderer = Renderer::anywhere().expect("a renderer");
    let pixels = vec![0xff; 16 * 8 * 4];
    let texture = renderer.import_image(&pixels, PICTURE.into()).expect("a texture");
    let (mut bags, ids) =
        ([(); 3].map(|()| DamageBag::<i32, Buffer>::default()), [(); 3].map(|()| Id::new()));
    let bounds = Rect::from_size((100, 100).into());
    let element = |bags: &[DamageBag<i32, Buffer>; 3], index: usize, x: i32| {
        let damage = bags[index].snapshot();
        Element::of_image(ids[index].clone(), texture.clone(), damage, PICTURE.into(), (x, 0).into())
    };
    let mut elements: Vec<_> = (0..3).map(|index| element(&bags, index, 20 * index as i32)).collect();
    let mut tracker = damage::Tracker::default();
    let mut frame = |elements: &[Element], age: usize| {
        let elements: Vec<_> = elements.iter().collect();
        let pass = tracker.pass(&elements, age, bounds);
        tracker.drawn(&elements, pass.as_ref().map(|pass| pass.changed.clone()));
        pass.map(|pass| (pass.changed, pass.draws.into_iter().map(|(index, _)| index).collect::<Vec<_>>()))
    };
    let all = vec![0, 1, 2];
    assert_eq!(frame(&elements, 0), Some((vec![bounds], all.clone())), "the first frame is all of it");
    assert_eq!(frame(&elements, 1), None, "nothing has changed");

    let dot = Rect::new((21, 2).into(), (3, 3).into());
    bags[1].add([Rectangle::new((1, 2).into(), (3, 3).into())]);
    elements[1] = element(&bags, 1, 20);
    assert_eq!(frame(&elements, 1), Some((vec![dot], vec![1])));

    elements[2] = element(&bags, 2, 60);
    let places = vec![Rect::new((40, 0).into(), PICTURE.into()), Rect::new((60, 0).into(), PICTURE.into())];
    assert_eq!(frame(&elements, 2), Some((places, vec![1, 2])), "the buffer has missed one frame");

    elements.remove(0);
    let gone = Rect::new((0, 0).into(), PICTURE.into());
    assert_eq!(frame(&elements, 1), Some((vec![gone], Vec::new())), "the background");
    elements.swap(0, 1);
    assert_eq!(frame(&elements, 1), Some((vec![bounds], vec![0, 1])), "another order");
    bags[1].add([Rectangle::new((0, 0).into(), (1, 1).into())]);
    elements[1] = element(&bags, 1, 20);
    assert_eq!(frame(&elements, 20).map(|(_, read)| read), Some(vec![0, 1]), "older than is known");
}
