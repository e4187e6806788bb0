//! Pictures that grim takes of a running session: a capture is one more reader of the clients' buffers, bound by their
//! acquire fences and release points like a screen.

use fencepost::client::marker::Frame;

use crate::harness::{Session, wait_until};

/// A picture as grim gives it.
struct Picture {
    width: u32,
    height: u32,
    pixels: Vec<u32>,
}

impl Picture {
    fn take(session: &Session) -> Self {
        let output = session.command("grim").args(["-t", "ppm", "-"]).output().expect("run grim");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::parse(&output.stdout)
    }

    /// `P6 WIDTH HEIGHT 255`, one white-space character, then three bytes a pixel.
    fn parse(ppm: &[u8]) -> Self {
        let mut words = ppm.splitn(5, |byte| byte.is_ascii_whitespace());
        let mut word = || words.next().expect("a header");
        assert_eq!(word(), b"P6");
        let mut number = || std::str::from_utf8(word()).expect("text").parse::<u32>().expect("a number");
        let (width, height, _max) = (number(), number(), number());
        let pixels: Vec<_> =
            word().chunks_exact(3).map(|rgb| u32::from_be_bytes([0, rgb[0], rgb[1], rgb[2]])).collect();
        assert_eq!(pixels.len(), (width * height) as usize);
        Self { width, height, pixels }
    }

    fn frame(&self) -> Frame<'_> {
        Frame { pixels: &self.pixels, width: self.width, stride: self.width, height: self.height }
    }
}

#[test]
fn no_picture_of_a_session_shows_a_buffer_before_its_fence_or_after_its_release() {
    let session = Session::start(&["--mode=640x480"]);
    let client = session.client(&[
        "--sync=explicit",
        "--source=heap",
        "--size=160x120",
        "--buffers=2",
        "--fence-ms=40",
        "--fence-random",
    ]);
    wait_until("the client is in the picture", || Picture::take(&session).frame().find_markers().len() == 1);
    let (mut newest, mut moved) = (0, 0);
    for number in 0..20 {
        let picture = Picture::take(&session);
        assert_eq!(picture.frame().poison(), (0, None), "picture {number}");
        let markers = picture.frame().find_markers();
        let [(_, _, counter)] = markers[..] else { panic!("picture {number}: {markers:?}") };
        assert!(counter >= newest, "picture {number} shows {counter} after {newest}");
        moved += usize::from(counter > newest);
        newest = counter;
    }
    assert!(moved >= 10, "the pictures are of a session that goes on");
    client.end().expect_clean();
    session.end();
}
