//! `fencepost watch`: what a running fencepost waits for, live.
//!
//! Owns the command, and the way from the [feed] of fencepost-debug-v1 through the [model] to a picture of it. Sees nothing of
//! the compositor but what the protocol tells.

pub mod feed;
pub mod lanes;
pub mod model;
pub mod text;
pub mod view;
pub mod words;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};

use feed::{Feed, FeedError};
use model::Model;
use view::View;

/// What to watch, and how.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// The Wayland socket of the compositor, which has to be started with --debug [default: $WAYLAND_DISPLAY].
    #[arg(long, value_name = "NAME")]
    display: Option<PathBuf>,
    /// Print how things are, once.
    #[arg(long)]
    once: bool,
    /// As JSON.
    #[arg(long, requires = "once")]
    json: bool,
    /// How often to ask.
    #[arg(long, value_name = "MS", default_value = "100", value_parser = clap::value_parser!(u64).range(10..=10_000))]
    interval: u64,
}

/// Why there is nothing to be seen.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// No compositor, or one that does not let us look.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// It does not answer.
    #[error("the compositor has not answered within {ANSWER:?}")]
    Silent,
    /// The terminal is none, or has gone.
    #[error("could not use the terminal; without one there is --once")]
    Terminal(#[source] io::Error),
    /// Nobody reads what is printed.
    #[error("could not print")]
    Print(#[source] io::Error),
}

/// How long a compositor may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a key may wait to be seen.
const KEYS: Duration = Duration::from_millis(30);

/// Watches.
///
/// # Errors
/// [`WatchError`].
pub fn run(options: &Options) -> Result<ExitCode, WatchError> {
    let mut feed = Feed::connect(options.display.as_deref())?;
    let mut model = Model::default();
    until(&mut feed, &mut model, |feed, _| feed.is_bound())?;
    if options.once {
        feed.ask_for_snapshot();
        until(&mut feed, &mut model, |_, model| model.snapshots > 0)?;
        print(&model, options.json).map_err(WatchError::Print)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut terminal = ratatui::try_init().map_err(WatchError::Terminal)?;
    let mut watch =
        Watch { feed, model, view: View::default(), interval: Duration::from_millis(options.interval) };
    let watched = watch.run(&mut terminal);
    ratatui::try_restore().map_err(WatchError::Terminal)?;
    watched.map(|()| ExitCode::SUCCESS)
}

/// Takes in what is told until it is so.
fn until(feed: &mut Feed, model: &mut Model, so: fn(&Feed, &Model) -> bool) -> Result<(), WatchError> {
    let start = Instant::now();
    while !so(feed, model) {
        let left = ANSWER.checked_sub(start.elapsed()).ok_or(WatchError::Silent)?;
        feed.turn(left)?.into_iter().for_each(|event| model.hear(event));
    }
    Ok(())
}

fn print(model: &Model, json: bool) -> io::Result<()> {
    let mut to = io::stdout().lock();
    if json {
        let everything = serde_json::json!({ "compositor": model.compositor, "snapshot": model.now });
        serde_json::to_writer_pretty(&mut to, &everything)?;
        return to.write_all(b"\n");
    }
    to.write_all(text::snapshot(model).as_bytes())
}

/// The live view.
struct Watch {
    feed: Feed,
    model: Model,
    view: View,
    interval: Duration,
}

/// Whether to go on.
enum Next {
    GoOn,
    Quit,
}

impl Watch {
    fn run(&mut self, terminal: &mut DefaultTerminal) -> Result<(), WatchError> {
        let mut asked_at: Option<Instant> = None;
        // Events were asked for, and the answer has not ended.
        let mut asked = false;
        loop {
            if !self.view.paused && asked_at.is_none_or(|at| at.elapsed() >= self.interval) {
                asked_at = Some(Instant::now());
                self.feed.ask_for_snapshot();
                if !std::mem::replace(&mut asked, true) {
                    self.feed.ask_for_events();
                }
            }
            let (snapshots, answers) = (self.model.snapshots, self.model.answers);
            let heard = self.feed.turn(KEYS.min(self.interval))?;
            heard.into_iter().for_each(|event| self.model.hear(event));
            if self.model.answers > answers {
                asked = self.model.behind;
                if asked {
                    self.feed.ask_for_events();
                }
            }
            let pressed = event::poll(Duration::ZERO).and_then(|any| any.then(event::read).transpose());
            let pressed = pressed.map_err(WatchError::Terminal)?;
            if let Some(event::Event::Key(key)) = &pressed
                && let Next::Quit = self.press(*key)
            {
                return Ok(());
            }
            if pressed.is_some() || self.model.snapshots > snapshots {
                let (view, model) = (&self.view, &self.model);
                terminal.draw(|frame| view.draw(model, frame)).map_err(WatchError::Terminal)?;
            }
        }
    }

    fn press(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::GoOn;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Next::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return Next::Quit,
            KeyCode::Char('s') => self.view.sort = self.view.sort.next(),
            KeyCode::Char('p' | ' ') => self.view.paused = !self.view.paused,
            KeyCode::Char('d') => self.feed.ask_for_dump(),
            KeyCode::Char('+') => self.view.zoom(true),
            KeyCode::Char('-') => self.view.zoom(false),
            _ => {}
        }
        Next::GoOn
    }
}
