//! What the parent says, in words of our own.
//!
//! Owns the list. What follows from it is `compositor/nested.rs`.

use super::Word;

/// What the parent said. Times are its own, in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The window has another size, scale, or refresh rate.
    Resized,
    /// The user closes the window of this number.
    Closed(usize),
    /// About the commit of this number.
    Frame(u64, Word),
    /// It is done with a buffer.
    Released,
    /// It takes a client's buffer, or refuses it.
    Answered,
    /// It does not take our dma-bufs any more.
    Refused,
    /// A key (linux/input-event-codes.h) went down or came up.
    Key {
        /// Which.
        key: u32,
        /// Down.
        pressed: bool,
        /// When.
        time_ms: u32,
    },
    /// What its keys mean, in the words of libxkbcommon.
    Keymap(String),
    /// How keys that are held down repeat.
    Repeat {
        /// So often in a second; 0 for not at all.
        rate: i32,
        /// After so many milliseconds.
        delay: i32,
    },
    /// The window has no keyboard any more.
    KeyboardLeft,
    /// No window has the pointer any more.
    PointerLeft,
    /// The pointer is here, in the window's pixels.
    Pointer {
        /// The window's number.
        window: usize,
        /// Where.
        at: (f64, f64),
        /// When.
        time_ms: u32,
    },
    /// A button (linux/input-event-codes.h) went down or came up.
    Button {
        /// Which.
        button: u32,
        /// Down.
        pressed: bool,
        /// When.
        time_ms: u32,
    },
    /// The pointer's device moved, in the window's pixels.
    Moved {
        /// The window's number.
        window: usize,
        /// How far.
        delta: (f64, f64),
        /// How far before acceleration.
        unaccelerated: (f64, f64),
        /// When, in microseconds.
        time_us: u64,
    },
    /// There is a touch screen.
    HasTouch,
    /// A finger came down, or moved, on a touch screen.
    Finger {
        /// Which one.
        id: i32,
        /// It was up before.
        down: bool,
        /// The window's number.
        window: usize,
        /// Where, in the window's pixels.
        at: (f64, f64),
        /// When.
        time_ms: u32,
    },
    /// A finger was lifted.
    FingerUp {
        /// Which one.
        id: i32,
        /// When.
        time_ms: u32,
    },
    /// What was said of fingers since the last of these belongs together.
    FingersDone,
    /// The parent takes the fingers for itself.
    FingersCancelled,
    /// Something was scrolled.
    Scroll(Scroll),
}

/// One frame of `wl_pointer` axis events; horizontal first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scroll {
    /// When.
    pub time_ms: u32,
    /// `wl_pointer.axis_source`, where given.
    pub source: Option<u32>,
    /// How far.
    pub value: [f64; 2],
    /// How many 120ths of a wheel's click.
    pub v120: [i32; 2],
    /// Fingers were lifted.
    pub stop: [bool; 2],
}
