//! Somebody who watches a compositor in the same process.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use fencepost::compositor::Options;
use fencepost::watch::feed::{Feed, FeedError};
use fencepost::watch::model::{Model, Surface};

use crate::fixture::Server;
use crate::setup::{Desk, desk_with};

/// How long anything may take. Only a test that fails gets there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn watched_desk() -> Desk {
    desk_with(Options { debug: true, ..Options::default() })
}

/// Somebody who watches, and what they have seen.
pub(crate) struct Watcher<'a> {
    desk: &'a Desk,
    pub(crate) feed: Feed,
    pub(crate) model: Model,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(desk: &'a Desk) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let mut watcher = Self::over(desk, ours, theirs);
        watcher.until(|watcher| watcher.feed.is_bound());
        watcher
    }

    /// Over a connection that somebody has made, and is perhaps not trusted with.
    pub(crate) fn over(desk: &'a Desk, ours: UnixStream, theirs: UnixStream) -> Self {
        desk.server_mut().state().accept_watcher(theirs);
        Self { desk, feed: Feed::over(ours).expect("a feed"), model: Model::default() }
    }

    pub(crate) fn turn(&mut self) -> Result<(), FeedError> {
        self.desk.server_mut().wait();
        let heard = self.feed.turn(Duration::ZERO)?;
        heard.into_iter().for_each(|event| self.model.hear(event));
        Ok(())
    }

    #[track_caller]
    pub(crate) fn until(&mut self, reached: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !reached(self) {
            self.turn().expect("a connection that holds");
            assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        }
    }

    /// Turns until the connection ends, and why it does.
    #[track_caller]
    pub(crate) fn until_ended(&mut self) -> FeedError {
        let start = Instant::now();
        loop {
            match self.turn() {
                Ok(()) => {
                    assert!(start.elapsed() < PATIENCE, "it holds; told {} times", self.model.snapshots)
                }
                Err(error) => return error,
            }
        }
    }

    /// Asks how things are until they are so.
    #[track_caller]
    pub(crate) fn until_seen(&mut self, so: impl Fn(&Model) -> bool) {
        let start = Instant::now();
        loop {
            let told = self.model.snapshots;
            self.feed.ask_for_snapshot();
            self.until(|watcher| watcher.model.snapshots > told);
            if so(&self.model) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {:#?}", self.model.now);
        }
    }
}

/// The surface with this app id.
pub(crate) fn surface<'a>(model: &'a Model, app_id: &str) -> Option<&'a Surface> {
    model.now.surfaces.iter().find(|surface| surface.app_id == app_id)
}
