//! An output that is a window of another compositor, the parent.
//!
//! Behaves as KMS does where it matters: one commit in flight, which counts as shown when the parent says that it was
//! presented, or, without presentation times, when the parent asks for the next frame; and a client's buffer that fills the
//! window goes to the parent itself, as it would go to a plane. Owns the commit; [`parent`] owns the connection,
//! [`buffers`] the memory, `foreign` what is lent of the clients'. Knows no renderer.

pub mod buffers;
mod configured;
mod cursor;
pub mod event;
mod explicit;
mod foreign;
mod offer;
mod open;
pub mod parent;
mod seat;
mod window;
mod wire;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use calloop::LoopHandle;
use smithay::output::Mode;
use smithay::utils::{Logical, Physical, Rectangle, Size, Transform};

use super::display::Scale;
use super::kms::swapchain::BufferError;
use super::layer::{self, Item, Layer};
use super::planes::{self, Fits, Overlays, Place, Seen};
use super::{CommitError, Committed, Flipped};
use crate::buffer::Lease;
use crate::fence::roles::RenderFence;
use crate::fence::wait::{self, WaitError, WaitToken};
use buffers::{Slot, Swapchain};
use configured::Configured;
use foreign::Loans;
use parent::Parent;
use window::{Contents, View};

/// How long the parent may take to give clients' buffers back when an output goes. They are released all the same.
const RETURN_LIMIT: Duration = Duration::from_millis(500);

/// What the parent says of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It is time for the next one.
    Wanted,
    /// It was shown.
    Presented {
        /// When: CLOCK_MONOTONIC.
        at: Duration,
        /// The parent's count of refreshes.
        sequence: u32,
        /// `wp_presentation_feedback.kind`
        flags: u32,
    },
    /// It will never be shown.
    Discarded,
}

/// The commit in flight.
#[derive(Debug)]
struct Pending {
    number: u64,
    /// It is time for the next one.
    wanted: bool,
    /// The parent will not say when it was shown.
    untold: bool,
}

/// A client's buffer that the window shows.
#[derive(Debug)]
struct Direct {
    lease: Lease,
    view: Option<View>,
}

/// The window as an output.
#[derive(Debug)]
pub struct Head {
    name: String,
    mode: Mode,
    parent: Rc<RefCell<Parent>>,
    window: usize,
    swapchain: Swapchain,
    loans: Loans,
    on: bool,
    pending: Option<Pending>,
    /// What the newest commit shows, if it is not a picture of ours.
    direct: Option<Direct>,
    /// What the parent said of the frame that it presented last.
    flags: u32,
    /// There was no free buffer when one was wanted; these tell when there may be.
    starved: Option<Vec<WaitToken>>,
}

impl Head {
    /// An output in the parent's window of this number.
    pub fn new(name: String, mode: Mode, parent: Rc<RefCell<Parent>>, window: usize) -> Self {
        Self {
            name,
            mode,
            parent,
            window,
            swapchain: Swapchain::default(),
            loans: Loans::default(),
            on: true,
            pending: None,
            direct: None,
            flags: 0,
            starved: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size, and the rate that it is taken to have.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The window has another size.
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// A buffer that the parent does not read.
    ///
    /// # Errors
    /// [`BufferError`].
    pub fn next_slot(&mut self) -> Result<Slot, BufferError> {
        let parent = self.parent.borrow();
        let window = parent.window(self.window);
        let slot = self.swapchain.acquire(&parent, window, parent.source(), self.mode.size);
        if let Err(BufferError::NoneFree) = &slot {
            self.starved.get_or_insert_default();
        }
        slot
    }

    /// Which of `items`, which are in order from the top, the parent shows as it is: see [`planes::assign`].
    pub fn plan(&self, items: &[Item]) -> Vec<Place> {
        let seen = items.iter().enumerate().map(|(index, item)| {
            let fits = if index == 0 && self.is_passable(item) { Fits::Alone } else { Fits::Nowhere };
            Seen { dst: item.dst, opaque: item.opaque, fits }
        });
        let seen: Vec<_> = seen.collect();
        planes::assign(&seen, self.mode.size, Overlays { count: 0, ordered: true }, |_| true)
    }

    fn is_passable(&self, item: &Item) -> bool {
        let window = Rectangle::from_size(self.mode.size);
        let shown_as_it_is = |layer: &&Layer| layer.turned == Transform::Normal;
        let fills = item.opaque && item.dst == window;
        let Some(layer) = item.layer.as_ref().filter(shown_as_it_is).filter(|_| fills) else {
            return false;
        };
        let mut parent = self.parent.borrow_mut();
        let view = foreign::view(layer, self.shown_size(&parent));
        let fits = parent.window(self.window).is_some_and(|window| window.can_show(view));
        // There has to be a picture to go back to.
        let fits = fits && self.swapchain.has_picture(self.mode.size);
        let is_shown = self.shows(layer, view);
        let takes = |foreign| is_shown || self.loans.take(&foreign);
        fits && parent.foreign(layer).is_some_and(takes)
    }

    fn shows(&self, layer: &Layer, view: Option<View>) -> bool {
        let same = |direct: &Direct| direct.lease.is_same_as(&layer.lease) && direct.view == view;
        self.direct.as_ref().is_some_and(same)
    }

    fn scale(&self, parent: &Parent) -> Scale {
        parent.configured(self.window).map(Configured::scale).unwrap_or_default()
    }

    /// How large the window shows a picture of the mode's size.
    fn shown_size(&self, parent: &Parent) -> Size<i32, Logical> {
        let configured = parent.configured(self.window);
        configured.map_or_else(Size::default, |configured| configured.shown_size(self.mode.size))
    }

    /// A frame of this plan was refused: see [`super::kms::head::Head::refuse`].
    pub fn refuse(&mut self, items: &[Item]) {
        let layer = items.first().and_then(|item| item.layer.as_ref());
        layer.iter().for_each(|layer| self.parent.borrow_mut().refuse(layer));
    }

    /// Hands a picture to the parent, which waits for its drawing.
    ///
    /// # Errors
    /// [`CommitError::Off`], [`CommitError::Busy`], [`CommitError::Exhausted`], or [`CommitError::Gone`] once the parent is.
    pub fn commit(
        &mut self,
        slot: &Slot,
        render: Option<&RenderFence>,
        damage: &[Rectangle<i32, Physical>],
    ) -> Result<Committed, CommitError> {
        // What the picture differs from is not in the window.
        let damage = if self.direct.is_some() { &[] } else { damage };
        let committed = self.try_commit(slot, render, damage);
        match &committed {
            Ok(_) => self.swapchain.committed(slot),
            Err(_) => self.swapchain.forget_ages(),
        }
        committed
    }

    /// As [`commit`](Self::commit), with the picture that was drawn last; `None` if the window shows that.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit); [`CommitError::Busy`] also if the parent still reads the picture.
    pub fn commit_same(&mut self) -> Result<Option<Committed>, CommitError> {
        if self.direct.is_none() {
            return Ok(None);
        }
        let slot = self.swapchain.newest(self.mode.size).ok_or(CommitError::Busy)?;
        self.try_commit(&slot, None, &[]).map(Some)
    }

    fn try_commit(
        &mut self,
        slot: &Slot,
        render: Option<&RenderFence>,
        damage: &[Rectangle<i32, Physical>],
    ) -> Result<Committed, CommitError> {
        self.may_commit()?;
        let acquire = render.map(RenderFence::as_consumer);
        let parent = self.parent.borrow();
        let size = Size::from((slot.size().w, slot.size().h));
        let view = View::of(Rectangle::from_size(size.to_f64()), size, self.shown_size(&parent));
        let contents = Contents { buffer: slot.buffer(), sync: slot.sync(), acquire, damage, view };
        let number = parent.commit(self.window, contents).map_err(CommitError::Exhausted)?;
        drop(parent);
        slot.lend();
        self.direct = None;
        Ok(self.committed(number))
    }

    /// Hands a client's buffer to the parent, which waits for its fence; `None` if the window shows just that.
    ///
    /// # Errors
    /// As [`commit`](Self::commit); [`CommitError::Refused`] if a picture has to be drawn instead.
    pub fn commit_direct(&mut self, layer: Layer) -> Result<Option<Committed>, CommitError> {
        self.may_commit()?;
        let view = foreign::view(&layer, self.shown_size(&self.parent.borrow()));
        if self.shows(&layer, view) {
            return Ok(None);
        }
        self.loans.settle();
        let unknown = || CommitError::Refused(io::ErrorKind::NotFound.into());
        let mut parent = self.parent.borrow_mut();
        let foreign = parent.foreign(&layer).ok_or_else(unknown)?;
        let buffer = foreign.buffer().ok_or_else(unknown)?;
        let window = parent.window(self.window).ok_or_else(unknown)?;
        let release = self.loans.timeline(&parent, window);
        let release = release.map_err(|error| CommitError::Refused(io::Error::other(error)))?;
        let contents = Contents {
            buffer,
            sync: foreign::sync(&foreign, release.as_ref()),
            acquire: layer.acquire.as_ref(),
            damage: &[],
            view,
        };
        let committed = parent.commit(self.window, contents);
        drop(parent);
        let number = committed.map_err(CommitError::Refused)?;
        self.direct = Some(Direct { lease: layer.lease.clone(), view });
        self.loans.begin(number, layer, foreign, release);
        Ok(Some(self.committed(number)))
    }

    /// The size of the pointer's image, where the parent takes one.
    pub fn cursor_size(&self) -> Option<Size<i32, Physical>> {
        self.parent.borrow().cursor().map(|_| cursor::SIZE.into())
    }

    /// A buffer to draw a new pointer's image into; `None` where the parent takes none.
    ///
    /// # Errors
    /// [`BufferError`].
    pub fn next_cursor_slot(&mut self) -> Result<Option<Slot>, BufferError> {
        self.parent.borrow_mut().with_cursor(|cursor, parent| cursor.next_slot(parent)).transpose()
    }

    /// Whether the pointer's image that was committed last is this output's.
    pub fn has_cursor_image(&self) -> bool {
        let parent = self.parent.borrow();
        parent.cursor().is_some_and(|cursor| cursor.is_drawn_for(self.window, self.scale(&parent)))
    }

    /// Hands the pointer's image to the parent, if the pointer is on the window. `None` hides it.
    ///
    /// # Errors
    /// [`CommitError::Refused`]: the pointer has to be composed.
    pub fn point(&mut self, cursor: Option<layer::Cursor>) -> Result<(), CommitError> {
        let mut parent = self.parent.borrow_mut();
        let scale = self.scale(&parent);
        let hotspot = cursor.as_ref().map(|cursor| cursor.hotspot);
        if let Some((super::Slot::Nested(slot), render)) = cursor.and_then(|cursor| cursor.image) {
            let shown = parent.with_cursor(|cursor, parent| {
                cursor.commit(parent, (self.window, scale), &slot, render.as_ref())
            });
            shown.transpose().map_err(CommitError::Refused)?;
        }
        parent.point((self.window, scale), hotspot);
        Ok(())
    }

    /// The one place that says no to a second commit in flight.
    fn may_commit(&self) -> Result<(), CommitError> {
        if !self.on {
            return Err(CommitError::Off);
        }
        if self.pending.is_some() {
            return Err(CommitError::Busy);
        }
        if self.parent.borrow().is_lost() {
            return Err(CommitError::Gone(io::ErrorKind::ConnectionAborted.into()));
        }
        Ok(())
    }

    fn committed(&mut self, number: u64) -> Committed {
        let untold = !self.parent.borrow().tells_times();
        self.pending = Some(Pending { number, wanted: false, untold });
        Committed { number, out_fence: None, vblank_at: None, tears: false }
    }

    /// Has `done` called when the parent may be done with something; then [`Head::released`] is to be called.
    ///
    /// # Errors
    /// [`WaitError`]; it is not called for everything.
    pub fn watch<D: 'static>(
        &mut self,
        handle: &LoopHandle<'static, D>,
        done: impl Fn(&mut D) + Clone + 'static,
    ) -> Result<(), WaitError> {
        self.loans.watch(handle, &done)?;
        let Some(tokens) = self.starved.as_mut().filter(|tokens| tokens.is_empty()) else { return Ok(()) };
        for fence in self.swapchain.awaits() {
            tokens.push(wait::wait(handle, &fence, done.clone())?);
        }
        Ok(())
    }

    /// The parent may be done with a buffer. Whether a frame has waited for that.
    pub fn released(&mut self) -> bool {
        self.loans.settle();
        self.starved.take().is_some()
    }

    /// The parent says something of commit `number`. A flip, if that is the one in flight, and it is over.
    pub fn heard(&mut self, number: u64, word: Word, now: Duration) -> Option<Flipped> {
        let pending = self.pending.as_mut().filter(|pending| pending.number == number)?;
        let flipped = match word {
            Word::Presented { at, sequence, flags } => {
                self.flags = flags;
                Flipped { number, at, sequence, torn: false }
            }
            Word::Wanted | Word::Discarded => {
                pending.wanted |= word == Word::Wanted;
                pending.untold |= word == Word::Discarded;
                if !(pending.wanted && pending.untold) {
                    return None;
                }
                self.flags = 0;
                // Refreshes are not counted by frame callbacks: wp_presentation has 0 for that.
                Flipped { number, at: now, sequence: 0, torn: false }
            }
        };
        self.pending = None;
        Some(flipped)
    }

    /// Goes on after [`Head::disable`].
    pub fn resume(&mut self) {
        self.on = true;
    }

    /// What the parent said of the frame that it presented last: `wp_presentation_feedback.kind`.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Takes no more; the window keeps its picture, unless that is a client's. What is in flight is still answered.
    pub fn disable(&mut self) {
        if self.direct.is_some() {
            self.pending = None;
            if let Err(error) = self.commit_same() {
                tracing::debug!("{} shows a client's buffer while it is off: {error}", self.name);
            }
        }
        self.on = false;
    }

    /// Waits no longer for what is in flight.
    pub fn abandon(&mut self) {
        self.pending = None;
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.direct = None;
        self.loans.settle();
        let (loans, Ok(mut parent)) = (&mut self.loans, self.parent.try_borrow_mut()) else { return };
        if !loans.are_over() {
            parent.hide(self.window, RETURN_LIMIT, || {
                loans.settle();
                loans.are_over()
            });
        }
    }
}
