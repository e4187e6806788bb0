//! The buffers, and who owns each: the client, or the compositor for a certain commit.
//!
//! Pure: it knows buffers by number, and does not look into them.

use std::collections::BTreeMap;

/// A buffer's number, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub u64);

/// Width and height in pixels.
pub type Size = (u32, u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Ours, since the release with this number: the longest free one goes first.
    Client {
        since: u64,
    },
    Compositor {
        commit: u64,
    },
}

#[derive(Debug)]
struct Entry<B> {
    buffer: B,
    size: Size,
    owner: Owner,
}

/// Up to a number of buffers of the current size, and those of earlier sizes that the compositor still has.
#[derive(Debug)]
pub struct Swapchain<B> {
    capacity: usize,
    entries: BTreeMap<BufferId, Entry<B>>,
    next_id: u64,
    releases: u64,
}

/// Where the next frame goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// To this buffer.
    Buffer(BufferId),
    /// To a new one.
    Allocate,
    /// Nowhere: the compositor has all buffers, for these commits.
    Busy(Vec<u64>),
}

/// What a release means.
#[derive(Debug, PartialEq, Eq)]
pub enum Release<B> {
    /// The buffer is ours again.
    Ours,
    /// It is, and of no use any more: its size is not the current one.
    Obsolete(B),
    /// The compositor does not have this buffer for this commit.
    Unexpected,
}

impl<B> Swapchain<B> {
    /// Without buffers yet.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, entries: BTreeMap::new(), next_id: 0, releases: 0 }
    }

    /// Finds a place for a frame of `size`.
    pub fn next(&self, size: Size) -> Next {
        let current = || self.entries.iter().filter(|(_, entry)| entry.size == size);
        let free = current().filter_map(|(id, entry)| match entry.owner {
            Owner::Client { since } => Some((since, *id)),
            Owner::Compositor { .. } => None,
        });
        if let Some((_, id)) = free.min() {
            return Next::Buffer(id);
        }
        if current().count() < self.capacity {
            return Next::Allocate;
        }
        Next::Busy(self.busy())
    }

    /// The number that the next buffer to be inserted gets.
    pub fn next_id(&self) -> BufferId {
        BufferId(self.next_id)
    }

    /// Takes in a new buffer, which is ours.
    pub fn insert(&mut self, size: Size, buffer: B) -> BufferId {
        let id = BufferId(self.next_id);
        self.next_id += 1;
        self.entries.insert(id, Entry { buffer, size, owner: Owner::Client { since: self.releases } });
        id
    }

    /// The buffer, whoever owns it.
    pub fn get_mut(&mut self, id: BufferId) -> Option<&mut B> {
        self.entries.get_mut(&id).map(|entry| &mut entry.buffer)
    }

    /// The commit for which the compositor has the buffer; `None` if it is ours or unknown.
    pub fn commit_of(&self, id: BufferId) -> Option<u64> {
        match self.entries.get(&id)?.owner {
            Owner::Compositor { commit } => Some(commit),
            Owner::Client { .. } => None,
        }
    }

    /// Gives a buffer of ours to the compositor.
    pub fn commit(&mut self, id: BufferId, commit: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            debug_assert!(matches!(entry.owner, Owner::Client { .. }), "{id:?} committed twice");
            entry.owner = Owner::Compositor { commit };
        }
    }

    /// Takes a buffer back. `size` is the current one.
    pub fn release(&mut self, id: BufferId, commit: u64, size: Size) -> Release<B> {
        let Some(entry) = self.entries.get_mut(&id) else { return Release::Unexpected };
        if entry.owner != (Owner::Compositor { commit }) {
            return Release::Unexpected;
        }
        if entry.size != size {
            return self
                .entries
                .remove(&id)
                .map_or(Release::Unexpected, |entry| Release::Obsolete(entry.buffer));
        }
        self.releases += 1;
        entry.owner = Owner::Client { since: self.releases };
        Release::Ours
    }

    /// Removes our buffers of other sizes than `size`.
    pub fn drop_obsolete(&mut self, size: Size) -> Vec<B> {
        let is_obsolete = |id: &BufferId| {
            self.commit_of(*id).is_none() && self.entries.get(id).is_some_and(|entry| entry.size != size)
        };
        let obsolete: Vec<BufferId> = self.entries.keys().copied().filter(is_obsolete).collect();
        obsolete.iter().filter_map(|id| self.entries.remove(id)).map(|entry| entry.buffer).collect()
    }

    /// The commits for which the compositor has a buffer, in order.
    pub fn busy(&self) -> Vec<u64> {
        let mut commits: Vec<u64> = self.entries.keys().filter_map(|id| self.commit_of(*id)).collect();
        commits.sort_unstable();
        commits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = (640, 480);

    fn full(capacity: usize) -> (Swapchain<char>, Vec<BufferId>) {
        let mut swapchain = Swapchain::new(capacity);
        let mut ids = Vec::new();
        for name in ('a'..).take(capacity) {
            assert_eq!(swapchain.next(SIZE), Next::Allocate);
            let id = swapchain.insert(SIZE, name);
            swapchain.commit(id, ids.len() as u64);
            ids.push(id);
        }
        (swapchain, ids)
    }

    #[test]
    fn when_the_compositor_has_every_buffer_there_is_no_next_one() {
        let (swapchain, _) = full(3);
        assert_eq!(swapchain.next(SIZE), Next::Busy(vec![0, 1, 2]));
    }

    #[test]
    fn the_buffer_that_has_been_free_longest_is_next() {
        let (mut swapchain, ids) = full(3);
        assert_eq!(swapchain.release(ids[2], 2, SIZE), Release::Ours);
        assert_eq!(swapchain.release(ids[0], 0, SIZE), Release::Ours);
        assert_eq!(swapchain.next(SIZE), Next::Buffer(ids[2]));
        swapchain.commit(ids[2], 3);
        assert_eq!(swapchain.next(SIZE), Next::Buffer(ids[0]));
    }

    #[test]
    fn a_release_counts_once_and_for_its_own_commit_only() {
        let (mut swapchain, ids) = full(2);
        assert_eq!(swapchain.release(ids[0], 1, SIZE), Release::Unexpected);
        assert_eq!(swapchain.release(ids[0], 0, SIZE), Release::Ours);
        assert_eq!(swapchain.release(ids[0], 0, SIZE), Release::Unexpected);
        assert_eq!(swapchain.release(BufferId(99), 0, SIZE), Release::Unexpected);
        swapchain.commit(ids[0], 7);
        assert_eq!(swapchain.release(ids[0], 0, SIZE), Release::Unexpected);
        assert_eq!(swapchain.commit_of(ids[0]), Some(7));
    }

    #[test]
    fn after_a_resize_free_buffers_go_at_once_and_busy_ones_with_their_release() {
        let (mut swapchain, ids) = full(2);
        let larger = (800, 600);
        assert_eq!(swapchain.release(ids[0], 0, SIZE), Release::Ours);
        assert_eq!(swapchain.drop_obsolete(larger), ['a']);
        assert_eq!(swapchain.next(larger), Next::Allocate);
        assert_eq!(swapchain.release(ids[1], 1, larger), Release::Obsolete('b'));
        assert!(swapchain.busy().is_empty());
    }
}
