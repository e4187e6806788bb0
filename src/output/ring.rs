//! Buffers that are drawn into in turn: which is free, and how old its content is.
//!
//! Owns the buffers and their age. A buffer that somebody holds is not free; whoever lends it may know more reasons.
//! Knows neither memory nor displays.

use std::rc::Rc;

/// The buffers of one output.
#[derive(Debug)]
pub(super) struct Ring<B> {
    entries: Vec<Entry<B>>,
    /// Frames drawn so far.
    drawn: u64,
}

#[derive(Debug)]
struct Entry<B> {
    buffer: Rc<B>,
    /// The frame it holds, counted like [`Ring::drawn`]; none if its content is undefined.
    holds: Option<u64>,
}

impl<B> Default for Ring<B> {
    fn default() -> Self {
        Self { entries: Vec::new(), drawn: 0 }
    }
}

impl<B> Ring<B> {
    /// A buffer that nobody holds and that is free for the caller, with its age: the one drawn last, which needs the least
    /// new drawing.
    pub(super) fn free(&self, is_free: impl Fn(&B) -> bool) -> Option<(Rc<B>, usize)> {
        let free = self.entries.iter().filter(|entry| Rc::strong_count(&entry.buffer) == 1);
        let free = free.filter(|entry| is_free(&entry.buffer));
        let entry = free.max_by_key(|entry| entry.holds)?;
        Some((Rc::clone(&entry.buffer), self.age(entry.holds)))
    }

    /// The one drawn last, with its age, whoever holds it; `None` if its content is not known.
    pub(super) fn newest(&self) -> Option<(Rc<B>, usize)> {
        let drawn = self.entries.iter().filter(|entry| entry.holds.is_some());
        drawn.max_by_key(|entry| entry.holds).map(|entry| (Rc::clone(&entry.buffer), self.age(entry.holds)))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &B> {
        self.entries.iter().map(|entry| &*entry.buffer)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of a kind there are.
    pub(super) fn count(&self, kind: impl Fn(&B) -> bool) -> usize {
        self.entries.iter().filter(|entry| kind(&entry.buffer)).count()
    }

    /// Takes a new one, of age 0.
    pub(super) fn add(&mut self, buffer: B) -> Rc<B> {
        let buffer = Rc::new(buffer);
        self.entries.push(Entry { buffer: Rc::clone(&buffer), holds: None });
        buffer
    }

    /// Drops those for which `keep` says no.
    pub(super) fn retain(&mut self, keep: impl Fn(&B) -> bool) {
        self.entries.retain(|entry| keep(&entry.buffer));
    }

    /// The buffer's drawing was committed: it holds the newest frame.
    pub(super) fn committed(&mut self, buffer: &Rc<B>) {
        self.drawn += 1;
        for entry in self.entries.iter_mut().filter(|entry| Rc::ptr_eq(&entry.buffer, buffer)) {
            entry.holds = Some(self.drawn);
        }
    }

    /// A drawing was not committed, so whoever tracks damage has lost count: every buffer is to be drawn anew.
    pub(super) fn forget_ages(&mut self) {
        for entry in &mut self.entries {
            entry.holds = None;
        }
    }

    fn age(&self, holds: Option<u64>) -> usize {
        let age = holds.and_then(|frame| usize::try_from(self.drawn - frame).ok());
        age.map_or(0, |age| age + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_drawn_last_is_lent_first_and_knows_its_age() {
        let mut ring = Ring::default();
        let buffers = [ring.add(1), ring.add(2)];
        assert!(ring.free(|_| true).is_none(), "both are held");
        for buffer in &buffers {
            ring.committed(buffer);
        }
        drop(buffers);
        assert_eq!(ring.free(|_| true), Some((Rc::new(2), 1)));
        assert_eq!(ring.free(|buffer| *buffer != 2), Some((Rc::new(1), 2)));
        ring.forget_ages();
        assert_eq!(ring.free(|buffer| *buffer == 2), Some((Rc::new(2), 0)));
    }
}
