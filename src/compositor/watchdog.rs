//! The watchdog: a commit that was accepted and does not flip.
//!
//! Owns the limit, the report of what such a commit waits for, and the way on: the commit is given up and the output drawn
//! again, with everything set anew. While the driver still holds the old commit it answers `EBUSY`, and the frame machine
//! tries again less and less often; so an output comes back as soon as its driver lets it.

use std::{fmt::Write as _, time::Duration};

use calloop::timer::{TimeoutAction, Timer};

use super::{Compositor, OutputId, Screen};
use crate::{
    fence::{Fence, Status, sync_file::SyncFile},
    output::{
        Head,
        frame::{Action, State},
    },
    trace,
};

/// How long a commit may take to flip before it is given up: longer than any fence of the kernel's takes when all is well.
pub(super) const FLIP_LIMIT: Duration = Duration::from_secs(5);

/// How long a window's parent may ask for no frame before the window counts as unseen.
const UNSEEN_LIMIT: Duration = Duration::from_secs(1);

/// The fences that the frame in flight was handed to the driver with.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    fences: Vec<(&'static str, SyncFile)>,
    /// The frame is drawn again because the fences of the one before ended with an error.
    again: bool,
}

impl Awaited {
    /// Notes a fence and what it ends.
    pub(super) fn add(&mut self, what: &'static str, fence: &SyncFile) {
        self.fences.push((what, fence.clone()));
    }

    /// Another frame is in flight.
    pub(super) fn replace(&mut self, next: Self) {
        self.fences = next.fences;
    }

    /// For people: each fence, whose it is, and whether the frame still waits for it.
    fn describe(&self) -> String {
        let pending = self.fences.iter().any(|(_, fence)| !fence.status().is_done());
        let mut text = match (self.fences.is_empty(), pending) {
            (true, _) => return "it carried no fence: the driver has all it needs".into(),
            (false, true) => String::from("it waits for"),
            (false, false) => String::from("every fence it waited for is done, the driver has all it needs:"),
        };
        for (what, fence) in &self.fences {
            let fence = fence.describe().unwrap_or_else(|error| error.to_string());
            // Writing to a string does not fail.
            let _infallible = write!(text, " [{what}: {fence}]");
        }
        text
    }

    /// Whether one ended with an error: the picture may be garbage.
    fn failed(&self) -> Option<i32> {
        self.fences.iter().find_map(|(_, fence)| match fence.status() {
            Status::Failed(errno) => Some(errno),
            Status::Signalled | Status::Pending | Status::Unmaterialised => None,
        })
    }
}

impl Screen {
    /// The frame that was in flight is on the screen, and `next` is what its machine wants. If nothing follows and the
    /// frame's drawing ended with an error, as after a GPU reset, it is drawn once more; if that ends so too, it stays.
    pub(super) fn after_flip(&mut self, next: Option<Action>, now: Duration) -> Option<Action> {
        let awaited = std::mem::take(&mut self.awaited);
        if next.is_some() {
            return next;
        }
        let errno = awaited.failed()?;
        self.awaited.again = !awaited.again;
        if awaited.again {
            return None;
        }
        tracing::warn!(
            "{}: the drawing of a frame ended with error {errno}; drawing again",
            self.head.name()
        );
        self.canvas.forget();
        self.machine.damaged(now)
    }
}

impl Compositor {
    /// Sets the watchdog on an output, unless it is set already: it looks once in [`FLIP_LIMIT`] while frames go out,
    /// and never on an idle output. A display that is stepped has none: a step may take as long as it likes to come.
    pub(super) fn watch(&mut self, id: OutputId) {
        let Some(screen) = self.screens.get_mut(id).filter(|screen| !screen.watched) else { return };
        if matches!(screen.head, Head::Nested(_)) {
            return self.watch_window(id);
        }
        if matches!(&screen.head, Head::Headless(head) if head.is_stepped()) {
            return;
        }
        let timer = Timer::from_duration(FLIP_LIMIT);
        let inserted = self.handle.insert_source(timer, move |_, (), state: &mut Self| {
            let Some(screen) = state.screens.get_mut(id) else { return TimeoutAction::Drop };
            let now = trace::now();
            if !matches!(screen.machine.state(), State::InFlight { .. }) {
                screen.watched = false;
                return TimeoutAction::Drop;
            }
            if screen.machine.stuck(now, FLIP_LIMIT) {
                tracing::warn!(
                    "{}: a commit has not flipped for {FLIP_LIMIT:?}; {}; giving it up and drawing again",
                    screen.head.name(),
                    screen.awaited.describe()
                );
                screen.head.abandon();
                screen.canvas.forget();
                let action = screen.machine.abandon(now);
                state.act(id, action);
            }
            TimeoutAction::ToDuration(FLIP_LIMIT)
        });
        match inserted {
            Ok(_) => screen.watched = true,
            Err(error) => tracing::error!("an output has no watchdog: {error}"),
        }
    }

    /// A window that cannot be seen is asked for no frame, for as long as that lasts, and nothing is wrong. After
    /// [`UNSEEN_LIMIT`] its clients are served as those whose surfaces nobody sees; the frame in flight stays in flight.
    fn watch_window(&mut self, id: OutputId) {
        let timer = Timer::from_duration(UNSEEN_LIMIT);
        let inserted = self.handle.insert_source(timer, move |_, (), state: &mut Self| {
            let Some(screen) = state.screens.get_mut(id) else { return TimeoutAction::Drop };
            let in_flight = matches!(screen.machine.state(), State::InFlight { .. });
            if in_flight && !screen.machine.stuck(trace::now(), UNSEEN_LIMIT) {
                return TimeoutAction::ToDuration(UNSEEN_LIMIT);
            }
            screen.watched = false;
            screen.unseen = in_flight;
            if in_flight {
                tracing::debug!(
                    "{}: the parent has asked for no frame for {UNSEEN_LIMIT:?}",
                    screen.head.name()
                );
                state.repace();
            }
            TimeoutAction::Drop
        });
        match (inserted, self.screens.get_mut(id)) {
            (Ok(_), Some(screen)) => screen.watched = true,
            (Ok(_), None) => {}
            (Err(error), _) => tracing::error!("an output has no watchdog: {error}"),
        }
    }
}
