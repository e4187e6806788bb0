//! The queue under simulated fences.

use std::{cell::Cell, rc::Rc};

use super::*;

#[derive(Clone, Debug)]
struct Sim(Rc<Cell<Status>>);

impl Sim {
    fn pending() -> Self {
        Self(Rc::new(Cell::new(Status::Pending)))
    }

    fn signal(&self) {
        self.0.set(Status::Signalled);
    }
}

impl Fence for Sim {
    fn status(&self) -> Status {
        self.0.get()
    }
}

fn poll(queue: &mut Queue<Sim, u32>) -> Option<CommitId> {
    queue.poll(|_, _| {})
}

#[test]
fn a_commit_that_waits_for_nothing_is_open_at_once() {
    let mut queue = Queue::<Sim, _>::default();
    assert_eq!(queue.push(vec![], Some(7)), Ok((CommitId(1), true)));
    let applied = queue.apply(CommitId(1));
    assert_eq!((applied.content, applied.superseded), (Some(7), vec![]));
    assert!(queue.is_empty());
}

#[test]
fn a_ready_commit_does_not_overtake_one_that_waits() {
    let mut queue = Queue::default();
    let fence = Sim::pending();
    assert_eq!(queue.push(vec![fence.clone()], Some(1)), Ok((CommitId(1), false)));
    assert_eq!(queue.push(vec![], Some(2)), Ok((CommitId(2), false)));
    assert_eq!(poll(&mut queue), None);
    fence.signal();
    assert_eq!(poll(&mut queue), Some(CommitId(2)));
}

#[test]
fn a_commit_opens_only_when_all_of_its_fences_have_signalled() {
    let mut queue = Queue::default();
    let fences = [Sim::pending(), Sim::pending()];
    assert_eq!(queue.push(fences.to_vec(), Some(1)), Ok((CommitId(1), false)));
    fences[1].signal();
    assert_eq!(poll(&mut queue), None);
    fences[0].signal();
    assert_eq!(poll(&mut queue), Some(CommitId(1)));
}

#[test]
fn an_unmaterialised_fence_is_not_ready() {
    let mut queue = Queue::default();
    let fence = Sim(Rc::new(Cell::new(Status::Unmaterialised)));
    assert_eq!(queue.push(vec![fence.clone()], Some(1)), Ok((CommitId(1), false)));
    assert_eq!(poll(&mut queue), None);
    fence.signal();
    assert_eq!(poll(&mut queue), Some(CommitId(1)));
}

#[test]
fn a_fence_that_failed_counts_as_signalled_and_is_told() {
    let mut queue = Queue::default();
    let fence = Sim::pending();
    assert_eq!(queue.push(vec![fence.clone()], Some(1)), Ok((CommitId(1), false)));
    fence.0.set(Status::Failed(-5));
    let mut told = vec![];
    assert_eq!(queue.poll(|id, errno| told.push((id, errno))), Some(CommitId(1)));
    assert_eq!(told, [(CommitId(1), -5)]);
}

#[test]
fn contents_replaced_before_they_were_applied_are_handed_back() {
    let mut queue = Queue::<Sim, _>::default();
    for content in 1..=4 {
        assert!(queue.push(vec![], Some(content)).is_ok());
    }
    let applied = queue.apply(CommitId(3));
    assert_eq!((applied.content, applied.superseded), (Some(3), vec![1, 2]));
    assert_eq!(queue.clear().collect::<Vec<_>>(), [4]);
}

#[test]
fn a_commit_without_a_buffer_takes_its_turn_and_supersedes_nothing() {
    let mut queue = Queue::default();
    let fence = Sim::pending();
    assert!(queue.push(vec![fence.clone()], Some(1)).is_ok());
    assert_eq!(queue.push(vec![], None), Ok((CommitId(2), false)));
    fence.signal();
    assert_eq!(poll(&mut queue), Some(CommitId(2)));
    let applied = queue.apply(CommitId(2));
    assert_eq!((applied.content, applied.superseded), (Some(1), vec![]));
}

#[test]
fn the_queue_is_bounded_and_recovers_when_it_drains() {
    let mut queue = Queue::default();
    let fence = Sim::pending();
    assert!(queue.push(vec![fence.clone()], Some(0)).is_ok());
    for content in 1..MAX_QUEUED_COMMITS as u32 {
        assert!(queue.push(vec![], Some(content)).is_ok());
    }
    assert_eq!(queue.push(vec![], Some(0)), Err(Overflow));
    fence.signal();
    let newest = poll(&mut queue).unwrap();
    assert_eq!(queue.apply(newest).superseded.len(), MAX_QUEUED_COMMITS - 1);
    assert!(queue.push(vec![], Some(0)).is_ok());
}

const SET: Constraints = Constraints { set_barrier: true, wait_barrier: false, not_before: None };
const WAIT: Constraints = Constraints { set_barrier: false, wait_barrier: true, not_before: None };
const FIFO: Constraints = Constraints { set_barrier: true, wait_barrier: true, not_before: None };

fn at(millis: u64) -> Constraints {
    Constraints { not_before: Some(Duration::from_millis(millis)), ..Constraints::default() }
}

/// Pushes a commit of a surface that is applied alone; returns what opened.
fn push(queue: &mut Queue<Sim, u32>, waits: &[Sim], constraints: Constraints) -> Option<CommitId> {
    let content = u32::try_from(queue.next_id().0).ok();
    queue.push_with(waits.to_vec(), content, constraints, false).unwrap().opened
}

/// Pushes a commit of a synchronised subsurface.
fn cache(queue: &mut Queue<Sim, u32>, waits: &[Sim], constraints: Constraints) -> Pushed<u32> {
    let content = u32::try_from(queue.next_id().0).ok();
    queue.push_with(waits.to_vec(), content, constraints, true).unwrap()
}

#[test]
fn a_commit_that_waits_for_the_barrier_opens_when_it_is_cleared_and_not_before() {
    let mut queue = Queue::default();
    assert_eq!(push(&mut queue, &[], FIFO), Some(CommitId(1)), "there is no barrier yet");
    assert_eq!(push(&mut queue, &[], FIFO), None, "the barrier will be there when this is applied");
    assert_eq!(push(&mut queue, &[], FIFO), None);
    for id in [1, 2] {
        assert_eq!(queue.apply(CommitId(id)).content, Some(id as u32));
        assert!(queue.has_barrier());
        assert_eq!(poll(&mut queue), None, "commit {id} was not latched");
        queue.clear_barrier();
        assert_eq!(poll(&mut queue), Some(CommitId(id + 1)), "one for each latch");
    }
}

#[test]
fn only_a_commit_that_waits_is_held_by_a_barrier() {
    let mut queue = Queue::default();
    assert_eq!(push(&mut queue, &[], SET), Some(CommitId(1)));
    assert_eq!(push(&mut queue, &[], SET), Some(CommitId(2)));
    assert_eq!(push(&mut queue, &[], WAIT), None);
    assert_eq!(push(&mut queue, &[], Constraints::default()), None, "but it does not overtake");
}

#[test]
fn a_barrier_is_there_once_its_commit_is_applied_not_before() {
    let mut queue = Queue::default();
    let fence = Sim::pending();
    assert_eq!(push(&mut queue, std::slice::from_ref(&fence), SET), None);
    assert_eq!(push(&mut queue, &[], WAIT), None);
    queue.clear_barrier();
    fence.signal();
    assert_eq!(poll(&mut queue), Some(CommitId(1)), "the second waits for the barrier of the first");
    assert!(!queue.has_barrier());
    assert_eq!(queue.apply(CommitId(1)).content, Some(1));
    assert!(queue.has_barrier());
}

#[test]
fn a_commit_opens_when_fence_barrier_and_time_allow_it_in_whatever_order() {
    const ORDERS: [[u8; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in ORDERS {
        let mut queue = Queue::default();
        assert_eq!(push(&mut queue, &[], SET), Some(CommitId(1)));
        assert_eq!(queue.apply(CommitId(1)).content, Some(1));
        let fence = Sim::pending();
        let all = Constraints { not_before: Some(Duration::from_millis(20)), ..FIFO };
        assert_eq!(push(&mut queue, std::slice::from_ref(&fence), all), None);
        for (step, what) in order.into_iter().enumerate() {
            match what {
                0 => fence.signal(),
                1 => queue.clear_barrier(),
                _ => queue.reached(Duration::from_millis(20)),
            }
            assert_eq!(poll(&mut queue), (step == 2).then_some(CommitId(2)), "{order:?}");
        }
    }
}

#[test]
fn an_earlier_time_behind_a_later_one_does_not_overtake() {
    let mut queue = Queue::default();
    assert_eq!(push(&mut queue, &[], at(20)), None);
    assert_eq!(push(&mut queue, &[], at(10)), None);
    assert_eq!(queue.target(), Some(Duration::from_millis(20)));
    queue.reached(Duration::from_millis(19));
    assert_eq!(poll(&mut queue), None);
    queue.reached(Duration::from_millis(20));
    assert_eq!(poll(&mut queue), Some(CommitId(2)));
    assert_eq!(queue.target(), None);
}

#[test]
fn a_time_is_worth_a_wake_up_only_once_nothing_else_is_in_the_way() {
    let mut queue = Queue::default();
    let fence = Sim::pending();
    assert_eq!(push(&mut queue, std::slice::from_ref(&fence), at(20)), None);
    assert_eq!(queue.target(), None);
    fence.signal();
    assert_eq!(poll(&mut queue), None);
    assert_eq!(queue.target(), Some(Duration::from_millis(20)));
}

#[test]
fn a_synchronised_commit_supersedes_what_its_parent_has_not_taken_and_lets_its_fences_go() {
    let mut queue = Queue::default();
    let fence = Sim::pending();
    assert_eq!(cache(&mut queue, std::slice::from_ref(&fence), at(5)).superseded, None);
    let second = cache(&mut queue, &[], Constraints::default());
    assert_eq!((second.superseded, second.opened), (Some(1), None), "the first one's time still counts");
    assert_eq!(Rc::strong_count(&fence.0), 1);
    queue.reached(Duration::from_millis(5));
    assert_eq!(poll(&mut queue), Some(CommitId(2)));
    queue.seal();
    assert_eq!(cache(&mut queue, &[], Constraints::default()).superseded, None, "the second may be shown");
    let applied = queue.apply(CommitId(2));
    assert_eq!((applied.content, applied.superseded), (Some(2), vec![]));
}

#[test]
fn a_synchronised_commit_without_a_buffer_supersedes_nothing() {
    let mut queue = Queue::<Sim, u32>::default();
    assert_eq!(cache(&mut queue, &[], Constraints::default()).superseded, None);
    let pushed = queue.push_with(vec![], None, Constraints::default(), true).unwrap();
    assert_eq!(pushed.superseded, None);
    assert_eq!(queue.apply(CommitId(2)).content, Some(1));
}

#[test]
fn a_synchronised_commit_waits_for_no_barrier_but_may_set_one() {
    let mut queue = Queue::default();
    assert_eq!(cache(&mut queue, &[], FIFO).opened, Some(CommitId(1)));
    assert_eq!(cache(&mut queue, &[], FIFO).opened, Some(CommitId(2)));
    queue.seal();
    assert_eq!(queue.apply(CommitId(2)).content, Some(2));
    assert!(queue.has_barrier());
    assert_eq!(push(&mut queue, &[], WAIT), None);
}

#[test]
fn a_commit_does_not_wait_for_the_barrier_of_one_that_is_applied_with_it() {
    let mut queue = Queue::default();
    let fence = Sim::pending();
    assert_eq!(cache(&mut queue, &[], SET).opened, Some(CommitId(1)));
    // Desynchronised since: this commit takes the cached one along.
    assert_eq!(push(&mut queue, std::slice::from_ref(&fence), WAIT), None);
    assert_eq!(push(&mut queue, &[], WAIT), None);
    fence.signal();
    assert_eq!(poll(&mut queue), Some(CommitId(2)), "the third waits for the barrier of the first");
    assert_eq!(queue.apply(CommitId(2)).content, Some(2));
    assert!(queue.has_barrier());
    queue.clear_barrier();
    assert_eq!(poll(&mut queue), Some(CommitId(3)));
}

#[test]
fn fences_that_have_signalled_are_let_go() {
    let mut queue = Queue::default();
    let (first, second) = (Sim::pending(), Sim::pending());
    assert!(queue.push(vec![first.clone(), second.clone()], Some(1)).is_ok());
    first.signal();
    assert_eq!(poll(&mut queue), None);
    assert_eq!(queue.waiting().count(), 1);
    assert_eq!(Rc::strong_count(&first.0), 1);
}

#[test]
fn a_commit_whose_fences_went_with_its_content_opens_in_its_turn() {
    let mut queue = Queue::default();
    let (first, second) = (Sim::pending(), Sim::pending());
    assert!(queue.push(vec![first.clone()], Some(1)).is_ok());
    assert!(queue.push(vec![second.clone()], Some(2)).is_ok());
    assert!(queue.hand_over(CommitId(2), |content| *content = 20));
    assert_eq!(poll(&mut queue), None, "the first one still waits");
    first.signal();
    assert_eq!(poll(&mut queue), Some(CommitId(2)));
    assert_eq!(queue.apply(CommitId(2)).content, Some(20));
    assert_eq!(second.status(), Status::Pending);
}

#[test]
fn a_fence_that_has_not_materialised_cannot_be_handed_over() {
    let mut queue = Queue::default();
    let fence = Sim(Rc::new(Cell::new(Status::Unmaterialised)));
    assert!(queue.push(vec![Sim::pending(), fence.clone()], Some(1)).is_ok());
    assert!(!queue.hand_over(CommitId(1), |content| *content = 10));
    assert_eq!((poll(&mut queue), queue.waiting().count()), (None, 2));
    fence.0.set(Status::Pending);
    assert!(queue.hand_over(CommitId(1), |content| *content = 10));
    assert_eq!(poll(&mut queue), Some(CommitId(1)));
}

#[test]
fn a_commit_without_content_has_nothing_to_hand_its_fences_over_with() {
    let mut queue = Queue::default();
    assert!(queue.push(vec![Sim::pending()], None::<u32>).is_ok());
    assert!(!queue.hand_over(CommitId(1), |_| {}) && !queue.hand_over(CommitId(2), |_| {}));
    assert_eq!(poll(&mut queue), None);
}

#[test]
fn a_commit_passes_exactly_when_all_before_it_are_applied() {
    let mut queue = Queue::<Sim, u32>::default();
    assert_eq!(queue.pass(), Some(CommitId(1)));
    assert_eq!(queue.pass(), None, "the first one is held up");
    assert_eq!(queue.push(vec![], None), Ok((CommitId(2), true)));
    let _applied = queue.apply(CommitId(1));
    assert_eq!(queue.pass(), None);
    let _applied = queue.apply(CommitId(2));
    assert_eq!((queue.pass(), queue.len()), (Some(CommitId(3)), 0));
}

#[test]
fn a_parents_commit_takes_what_the_one_before_has_not() {
    let mut queue = Queue::<Sim, _>::default();
    let push = |queue: &mut Queue<_, _>| {
        assert!(queue.push_with(vec![Sim::pending()], Some(1), Constraints::default(), true).is_ok());
    };
    (0..2).for_each(|_| push(&mut queue));
    assert_eq!(queue.seal(), Some(CommitId(1)));
    assert_eq!(queue.seal(), None);
    push(&mut queue);
    assert_eq!(queue.seal(), Some(CommitId(3)));
}
