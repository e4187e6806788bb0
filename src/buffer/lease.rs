//! Who still uses the buffer of one commit, and what is due when nobody does.
//!
//! Owns the obligation to release a commit's buffer exactly once (I2, I3). Every consumer holds a clone of the
//! [`Lease`] while it may still start a use, and leaves the fence that ends the use it started; when the last
//! clone goes, the obligation moves to the [`Ledger`] with those fences. Must not know fds, Wayland or a clock,
//! nor how a release is carried out.

use std::{cell::RefCell, rc::Rc};

/// A release that is due: nobody will start a use of the buffer any more.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a due release that is dropped leaves the client waiting for ever"]
pub struct Due<F, T> {
    /// What is to be released.
    pub target: T,
    /// The fences that end the uses of the buffer; none if it was never used.
    pub fences: Vec<F>,
}

/// Where due releases gather until they are settled.
#[derive(Debug)]
pub struct Ledger<F, T>(Rc<RefCell<Vec<Due<F, T>>>>);

impl<F, T> Clone for Ledger<F, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F, T> Default for Ledger<F, T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<F, T> Ledger<F, T> {
    /// Takes what is due, in the order in which it became due.
    #[must_use]
    pub fn take(&self) -> Vec<Due<F, T>> {
        self.0.take()
    }

    /// As [`take`](Self::take), into the place of what was taken before: nothing is allocated where that was as much.
    pub fn take_into(&self, taken: &mut Vec<Due<F, T>>) {
        taken.clear();
        std::mem::swap(taken, &mut self.0.borrow_mut());
    }

    /// Whether nothing is due.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

#[derive(Debug)]
struct Obligation<F, T> {
    ledger: Ledger<F, T>,
    /// Taken once, when the last lease goes.
    target: Option<T>,
    fences: RefCell<Vec<(Consumer, F)>>,
}

impl<F, T> Drop for Obligation<F, T> {
    fn drop(&mut self) {
        if let Some(target) = self.target.take() {
            let fences = self.fences.take().into_iter().map(|(_, fence)| fence).collect();
            self.ledger.0.borrow_mut().push(Due { target, fences });
        }
    }
}

/// Who uses a buffer. The fences of one consumer signal in the order in which they were created, so the
/// newest of them stands for all and a lease stays small however long its buffer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consumer {
    /// The renderer's one GPU context.
    Renderer,
    /// A CRTC, by its number.
    Crtc(u32),
    /// The parent compositor, which a buffer was lent to with the window's commit of this number. Its fences come in any
    /// order.
    Parent(u64),
}

/// One consumer's share in the buffer of one commit.
#[derive(Debug)]
pub struct Lease<F, T>(Rc<Obligation<F, T>>);

impl<F, T> Clone for Lease<F, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F, T> Lease<F, T> {
    /// Takes on the obligation to release `target`; it becomes due on `ledger`.
    pub fn new(target: T, ledger: &Ledger<F, T>) -> Self {
        Self(Rc::new(Obligation { ledger: ledger.clone(), target: Some(target), fences: RefCell::default() }))
    }

    /// Whether both are shares in the buffer of the same commit.
    pub fn is_same_as(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// What is to be released.
    pub fn target(&self) -> Option<&T> {
        self.0.target.as_ref()
    }

    /// Notes that `consumer` has started a use that ends when `fence` signals.
    pub fn used_until(&self, consumer: Consumer, fence: F) {
        let mut fences = self.0.fences.borrow_mut();
        match fences.iter_mut().find(|(of, _)| *of == consumer) {
            Some((_, newest)) => *newest = fence,
            None => fences.push((consumer, fence)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_was_never_used_is_due_without_a_fence() {
        let ledger = Ledger::<u32, _>::default();
        drop(Lease::new("buffer", &ledger));
        assert_eq!(ledger.take(), [Due { target: "buffer", fences: vec![] }]);
        assert!(ledger.take().is_empty());
    }

    #[test]
    fn nothing_is_due_while_a_consumer_holds_on() {
        let ledger = Ledger::default();
        let surface = Lease::new("buffer", &ledger);
        let plane = surface.clone();
        surface.used_until(Consumer::Renderer, 1);
        drop(surface);
        assert!(ledger.is_empty());
        plane.used_until(Consumer::Crtc(40), 2);
        drop(plane);
        assert_eq!(ledger.take(), [Due { target: "buffer", fences: vec![1, 2] }]);
    }

    #[test]
    fn the_newest_fence_of_a_consumer_replaces_its_older_ones() {
        let ledger = Ledger::default();
        let lease = Lease::new((), &ledger);
        for fence in 0..1000 {
            lease.used_until(Consumer::Renderer, fence);
            lease.used_until(Consumer::Crtc(7), fence + 1000);
        }
        drop(lease);
        assert_eq!(ledger.take()[0].fences, [999, 1999]);
    }

    #[test]
    fn the_same_buffer_committed_twice_is_due_twice() {
        let ledger = Ledger::<u32, _>::default();
        let (first, second) =
            (Lease::new("buffer, point 1", &ledger), Lease::new("buffer, point 2", &ledger));
        drop(second);
        drop(first);
        let due: Vec<_> = ledger.take().into_iter().map(|due| due.target).collect();
        assert_eq!(due, ["buffer, point 2", "buffer, point 1"]);
    }
}
