//! Fences in trees of surfaces (I4): a synchronised tree is shown as one, when its last fence has signalled.

use fencepost::fence::timeline::Point;
use fencepost::fence::{Fence, Status};
use wayland_client::protocol::wl_subsurface::WlSubsurface;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_protocols::wp::linux_drm_syncobj::v1::client::wp_linux_drm_syncobj_surface_v1::WpLinuxDrmSyncobjSurfaceV1;

use crate::fixture::{Fixture, Server};
use crate::setup::{Clock, Fate, Watched, desk};
use crate::sync_app::{ClientTimeline, SyncApp, SyncWindow, set_acquire, set_release};

/// A window that is shown, with a child that is not.
pub(crate) struct Tree {
    pub(crate) app: SyncApp,
    window: SyncWindow,
    child: WlSurface,
    subsurface: WlSubsurface,
    child_sync: WpLinuxDrmSyncobjSurfaceV1,
    /// The window's points and the child's.
    pub(crate) of_window: ClientTimeline,
    pub(crate) of_child: ClientTimeline,
}

impl Tree {
    pub(crate) fn new(desk: &Fixture<impl Server>) -> Self {
        let mut app = SyncApp::new(desk);
        let window = app.sync_window();
        let (child, subsurface) = app.app.subsurface(&window.window.surface);
        let child_sync = app.sync_surface(&child);
        let (of_window, of_child, first) = (app.timeline(), app.timeline(), app.timeline());
        first.signal(1);
        let shown = app.show(&window, &app.heap_buffer(), (&first, 1), (&first, 2));
        app.app.until_shown(&shown);
        Self { app, window, child, subsurface, child_sync, of_window, of_child }
    }

    /// A commit of the child that waits for `value` on its timeline, and its release point. That has a timeline of its
    /// own: a later point would signal the earlier ones.
    pub(crate) fn show_child(&self, value: u64) -> (Watched, Point) {
        let release = self.app.timeline();
        let (acquire, buffer) = ((&self.of_child, value), self.app.heap_buffer());
        let commit = self.app.show_between(&self.child, &self.child_sync, &buffer, acquire, (&release, 1));
        (commit, release.point(1))
    }

    pub(crate) fn show_window(&self, value: u64) -> Watched {
        let (acquire, release) = ((&self.of_window, value), (&self.of_window, value + 1));
        self.app.show(&self.window, &self.app.heap_buffer(), acquire, release)
    }
}

#[test]
fn a_synchronised_tree_is_shown_with_its_last_fence_whichever_that_is() {
    let desk = desk();
    let mut clock = Clock::new(&desk);
    for child_is_last in [true, false] {
        let mut tree = Tree::new(&desk);
        let ((child, _), window) = (tree.show_child(1), tree.show_window(1));
        tree.app.app.client.expect_no_error();
        let (first, last) = match child_is_last {
            true => (&tree.of_window, &tree.of_child),
            false => (&tree.of_child, &tree.of_window),
        };
        first.signal(1);
        clock.tick();
        assert_eq!(tree.app.app.fate(&child), Fate::Waiting, "{child_is_last}");
        assert_eq!(tree.app.app.fate(&window), Fate::Waiting, "{child_is_last}");
        last.signal(1);
        tree.app.app.until_shown(&window);
        assert_eq!(tree.app.app.fate(&child), Fate::Shown, "in the same frame; {child_is_last}");
    }
}

#[test]
fn a_synchronised_child_that_is_ready_waits_for_its_parents_commit() {
    let desk = desk();
    let (mut tree, mut clock) = (Tree::new(&desk), Clock::new(&desk));
    tree.of_child.signal(1);
    let (child, _) = tree.show_child(1);
    tree.app.app.client.expect_no_error();
    clock.tick();
    assert_eq!(tree.app.app.fate(&child), Fate::Waiting);
    tree.window.window.surface.commit();
    tree.app.app.until_shown(&child);
}

#[test]
fn a_desynchronised_child_waits_for_its_own_fence_only() {
    let desk = desk();
    let (mut tree, mut clock) = (Tree::new(&desk), Clock::new(&desk));
    tree.subsurface.set_desync();
    let (window, (child, _)) = (tree.show_window(1), tree.show_child(1));
    tree.app.app.client.expect_no_error();
    clock.tick();
    assert_eq!(tree.app.app.fate(&child), Fate::Waiting);
    tree.of_child.signal(1);
    tree.app.app.until_shown(&child);
    assert_eq!(tree.app.app.fate(&window), Fate::Waiting);
    tree.of_window.signal(1);
    tree.app.app.until_shown(&window);
}

#[test]
fn the_next_commit_of_a_tree_waits_for_the_one_before() {
    let desk = desk();
    let (mut tree, mut clock) = (Tree::new(&desk), Clock::new(&desk));
    let ((first_child, _), first) = (tree.show_child(1), tree.show_window(1));
    let second = tree.show_window(3);
    tree.app.app.client.expect_no_error();
    tree.of_window.signal(3);
    clock.tick();
    assert_eq!(tree.app.app.fate(&first), Fate::Waiting, "the child is late");
    assert_eq!(tree.app.app.fate(&second), Fate::Waiting);
    tree.of_child.signal(1);
    tree.app.app.until_shown(&second);
    assert_eq!(tree.app.app.fate(&first_child), Fate::Shown);
}

#[test]
fn a_childs_superseded_commit_is_released_when_its_parent_commits() {
    let desk = desk();
    let mut tree = Tree::new(&desk);
    tree.of_child.signal(2);
    let ((never, first), (shown, second)) = (tree.show_child(1), tree.show_child(2));
    tree.app.app.client.expect_no_error();
    tree.window.window.surface.commit();
    tree.app.app.until_shown(&shown);
    assert_eq!(tree.app.app.fate(&never), Fate::Superseded);
    tree.app.until_signalled(&first);
    tree.app.until_signalled(&second);
}

#[test]
fn a_childs_commits_are_released_when_it_goes_before_its_parent_commits() {
    let desk = desk();
    let mut tree = Tree::new(&desk);
    tree.of_child.signal(1);
    let ((_, first), (_, second)) = (tree.show_child(1), tree.show_child(2));
    tree.app.app.client.expect_no_error();
    // Nobody can see the first any more.
    tree.app.until_signalled(&first);
    assert_eq!(second.status(), Status::Unmaterialised);
    tree.child_sync.destroy();
    tree.subsurface.destroy();
    tree.child.destroy();
    tree.app.until_signalled(&second);
}

#[test]
fn points_and_buffer_that_a_child_has_not_committed_outlast_its_parents_commit() {
    let desk = desk();
    let mut tree = Tree::new(&desk);
    tree.of_child.signal(1);
    set_acquire(&tree.child_sync, (&tree.of_child, 1));
    set_release(&tree.child_sync, (&tree.of_child, 2));
    tree.child.attach(Some(&tree.app.heap_buffer()), 0, 0);
    tree.window.window.surface.commit();
    tree.app.app.client.expect_no_error();
    let child = tree.app.app.watch(&tree.child);
    tree.child.commit();
    tree.window.window.surface.commit();
    tree.app.app.until_shown(&child);
}
