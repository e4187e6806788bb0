//! wlr-output-management: what clients such as wlr-randr and kanshi see and do, and every error of the protocol.

use fencepost::compositor::Compositor;
use wayland_client::Proxy;
use wayland_client::backend::protocol::{Argument, Message};
use wayland_client::protocol::wl_output::{self, WlOutput};
use wayland_protocols_wlr::output_management::v1::client::zwlr_output_configuration_head_v1::{
    Error as HeadError, ZwlrOutputConfigurationHeadV1,
};
use wayland_protocols_wlr::output_management::v1::client::zwlr_output_configuration_v1::{
    Error, Event as Answer, ZwlrOutputConfigurationV1,
};
use wayland_protocols_wlr::output_management::v1::client::zwlr_output_head_v1::{
    AdaptiveSyncState, Event as HeadEvent, ZwlrOutputHeadV1,
};
use wayland_protocols_wlr::output_management::v1::client::zwlr_output_manager_v1::{
    Event as ManagerEvent, ZwlrOutputManagerV1,
};
use wayland_protocols_wlr::output_management::v1::client::zwlr_output_mode_v1::{
    Event as ModeEvent, ZwlrOutputModeV1,
};

use crate::fixture::{Fixture, Log, Server, events};
use crate::setup::{App, Desk, MODE, desk_with_outputs};

/// The side of every output's square.
const SIDE: i32 = 128;

/// What a client has heard of a head.
pub(crate) struct Seen {
    object: ZwlrOutputHeadV1,
    modes: Vec<ZwlrOutputModeV1>,
    name: String,
    enabled: bool,
    position: Option<(i32, i32)>,
    scale: Option<f64>,
    transform: Option<wl_output::Transform>,
    current: Option<ZwlrOutputModeV1>,
    finished: bool,
}

impl Seen {
    fn hear(&mut self) {
        for event in events(&self.object) {
            match event {
                HeadEvent::Name { name } => self.name = name,
                HeadEvent::Mode { mode } => self.modes.push(mode),
                HeadEvent::Enabled { enabled } => self.enabled = enabled != 0,
                HeadEvent::CurrentMode { mode } => self.current = Some(mode),
                HeadEvent::Position { x, y } => self.position = Some((x, y)),
                HeadEvent::Scale { scale } => self.scale = Some(scale),
                HeadEvent::Transform { transform } => self.transform = transform.into_result().ok(),
                HeadEvent::Finished => self.finished = true,
                _ => {}
            }
        }
    }
}

/// A client that configures outputs.
pub(crate) struct Tool {
    pub(crate) app: App,
    manager: ZwlrOutputManagerV1,
    heads: Vec<Seen>,
    serial: u32,
}

impl Tool {
    pub(crate) fn new(desk: &Fixture<impl Server>) -> Self {
        let app = App::new(desk);
        let manager = app.client.bind(4);
        let mut tool = Self { app, manager, heads: Vec::new(), serial: 0 };
        tool.hear();
        tool
    }

    /// Takes in what has come; how many times all was said.
    #[track_caller]
    fn hear(&mut self) -> usize {
        self.app.client.expect_no_error();
        let mut done = 0;
        for event in events(&self.manager) {
            match event {
                ManagerEvent::Head { head } => self.heads.push(Seen {
                    object: head,
                    modes: Vec::new(),
                    name: String::new(),
                    enabled: false,
                    position: None,
                    scale: None,
                    transform: None,
                    current: None,
                    finished: false,
                }),
                ManagerEvent::Done { serial } => {
                    self.serial = serial;
                    done += 1;
                }
                _ => {}
            }
        }
        self.heads.iter_mut().for_each(Seen::hear);
        done
    }

    fn configuration(&self) -> ZwlrOutputConfigurationV1 {
        self.manager.create_configuration(self.serial, &self.app.client.handle(), Log::default())
    }

    fn enable(
        &self,
        configuration: &ZwlrOutputConfigurationV1,
        index: usize,
    ) -> ZwlrOutputConfigurationHeadV1 {
        configuration.enable_head(&self.heads[index].object, &self.app.client.handle(), Log::default())
    }

    /// A configuration that leaves all heads as they are.
    pub(crate) fn unchanged(&self) -> (ZwlrOutputConfigurationV1, Vec<ZwlrOutputConfigurationHeadV1>) {
        let configuration = self.configuration();
        let live = (0..self.heads.len()).filter(|index| !self.heads[*index].finished);
        let heads = live.map(|index| self.enable(&configuration, index)).collect();
        (configuration, heads)
    }

    #[track_caller]
    fn answer(&mut self, configuration: &ZwlrOutputConfigurationV1) -> &'static str {
        self.app.client.expect_no_error();
        let answers: Vec<_> = events(configuration)
            .into_iter()
            .map(|event| match event {
                Answer::Succeeded => "succeeded",
                Answer::Failed => "failed",
                Answer::Cancelled => "cancelled",
                _ => "?",
            })
            .collect();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers[0]
    }

    #[track_caller]
    pub(crate) fn apply(&mut self, configuration: &ZwlrOutputConfigurationV1) -> &'static str {
        configuration.apply();
        self.answer(configuration)
    }
}

fn on<T>(desk: &Desk, f: impl FnOnce(&mut Compositor) -> T) -> T {
    f(desk.server_mut().state())
}

/// Sends what the bindings would not: an enum's value that is none.
fn send_raw(
    object: &impl Proxy,
    opcode: u16,
    value: Argument<wayland_client::backend::ObjectId, std::os::fd::RawFd>,
) {
    let args = [value].into_iter().collect();
    let message = Message { sender_id: object.id(), opcode, args };
    object.backend().upgrade().expect("a backend").send_request(message, None, None).expect("sent");
}

#[test]
fn heads_are_described_with_their_modes() {
    let tool = Tool::new(&desk_with_outputs(2));
    assert_eq!(tool.heads.len(), 2);
    for (index, head) in (0..).zip(&tool.heads) {
        assert_eq!((head.name.as_str(), head.enabled), (&*format!("HEADLESS-{}", index + 1), true));
        assert_eq!((head.position, head.scale), (Some((index * SIDE, 0)), Some(1.0)));
        assert_eq!(head.transform, Some(wl_output::Transform::Normal));
        assert_eq!(head.current.as_ref(), head.modes.first());
        let mode = events(&head.modes[0]);
        assert!(mode.iter().any(|event| matches!(event, ModeEvent::Size { width: SIDE, height: SIDE })));
        assert!(mode.iter().any(|event| matches!(event, ModeEvent::Refresh { refresh: 200_000 })));
        assert!(mode.iter().any(|event| matches!(event, ModeEvent::Preferred)));
    }
}

#[test]
fn an_applied_configuration_is_what_outputs_and_heads_say() {
    let desk = desk_with_outputs(2);
    let mut tool = Tool::new(&desk);
    let (configuration, heads) = tool.unchanged();
    heads[0].set_scale(2.0);
    heads[0].set_transform(wl_output::Transform::_270);
    heads[0].set_custom_mode(300, 200, 50_000);
    heads[1].set_position(-10, 77);
    assert_eq!(tool.apply(&configuration), "succeeded");
    tool.hear();
    let [first, second] = &tool.heads[..] else { panic!("two heads") };
    assert_eq!((first.scale, first.transform), (Some(2.0), Some(wl_output::Transform::_270)));
    let current = events(first.current.as_ref().expect("a mode"));
    assert!(current.iter().any(|event| matches!(event, ModeEvent::Size { width: 300, height: 200 })));
    assert_eq!((second.position, second.scale), (Some((-10, 77)), Some(1.0)));
    let outputs: Vec<WlOutput> = tool.app.client.bind_all(4);
    tool.app.client.expect_no_error();
    let said = events(&outputs[0]);
    assert!(said.iter().any(|event| matches!(event, wl_output::Event::Scale { factor: 2 })), "{said:?}");
    let current = |flags: &wayland_client::WEnum<wl_output::Mode>| {
        flags.into_result().is_ok_and(|flags| flags.contains(wl_output::Mode::Current))
    };
    assert!(
        said.iter().any(|event| matches!(event, wl_output::Event::Mode { flags, width: 300, height: 200, .. } if current(flags))),
        "{said:?}"
    );
}

#[test]
fn a_head_goes_dark_and_comes_back() {
    let desk = desk_with_outputs(2);
    let mut tool = Tool::new(&desk);
    let configuration = tool.configuration();
    tool.enable(&configuration, 0);
    configuration.disable_head(&tool.heads[1].object);
    assert_eq!(tool.apply(&configuration), "succeeded");
    tool.hear();
    assert!(!tool.heads[1].enabled && !tool.heads[1].finished);
    assert_eq!(tool.app.client.bind_all::<WlOutput>(4).len(), 1);
    let (configuration, _heads) = tool.unchanged();
    assert_eq!(tool.apply(&configuration), "succeeded");
    tool.hear();
    assert!(tool.heads[1].enabled);
    assert_eq!(tool.app.client.bind_all::<WlOutput>(4).len(), 2);
}

#[test]
fn a_test_changes_nothing() {
    let desk = desk_with_outputs(1);
    let mut tool = Tool::new(&desk);
    let (configuration, heads) = tool.unchanged();
    heads[0].set_scale(3.0);
    configuration.test();
    assert_eq!(tool.answer(&configuration), "succeeded");
    assert_eq!(tool.hear(), 0);
    assert_eq!(tool.heads[0].scale, Some(1.0));
}

#[test]
fn what_cannot_be_fails_as_a_whole() {
    let desk = desk_with_outputs(2);
    let mut tool = Tool::new(&desk);
    let impossible: [fn(&ZwlrOutputConfigurationHeadV1); 4] = [
        |head| head.set_scale(1000.0),
        |head| head.set_position(i32::MIN, 0),
        |head| head.set_adaptive_sync(AdaptiveSyncState::Enabled),
        |head| head.set_custom_mode(1_000_000, 100, 0),
    ];
    for spoil in impossible {
        let (configuration, heads) = tool.unchanged();
        heads[0].set_scale(2.0);
        spoil(&heads[1]);
        assert_eq!(tool.apply(&configuration), "failed");
        assert_eq!(tool.hear(), 0);
        assert_eq!(tool.heads[0].scale, Some(1.0), "the other head is as it was");
    }
}

#[test]
fn a_configuration_of_a_state_that_is_past_is_cancelled() {
    let desk = desk_with_outputs(1);
    let mut tool = Tool::new(&desk);
    let (configuration, _heads) = tool.unchanged();
    on(&desk, |state| state.plug("HEADLESS-9", MODE));
    assert_eq!(tool.apply(&configuration), "cancelled");
    assert_eq!(tool.hear(), 1);
    assert_eq!(tool.heads.len(), 2);
    let (configuration, _heads) = tool.unchanged();
    assert_eq!(tool.apply(&configuration), "succeeded");
}

#[test]
fn heads_come_and_go_with_their_displays() {
    let desk = desk_with_outputs(1);
    let mut tool = Tool::new(&desk);
    on(&desk, |state| state.plug("HEADLESS-9", MODE));
    assert_eq!(tool.hear(), 1);
    assert_eq!(tool.heads[1].name, "HEADLESS-9");
    on(&desk, |state| state.unplug("HEADLESS-1"));
    assert_eq!(tool.hear(), 1);
    assert!(tool.heads[0].finished && !tool.heads[1].finished);
    let finished = tool.heads[0]
        .modes
        .iter()
        .all(|mode| events(mode).iter().any(|event| matches!(event, ModeEvent::Finished)));
    assert!(finished, "its modes have gone with it");
}

#[test]
fn every_display_can_be_dark() {
    let desk = desk_with_outputs(1);
    let mut tool = Tool::new(&desk);
    let configuration = tool.configuration();
    configuration.disable_head(&tool.heads[0].object);
    assert_eq!(tool.apply(&configuration), "succeeded");
    tool.hear();
    assert!(!tool.heads[0].enabled);
    let (configuration, _heads) = tool.unchanged();
    assert_eq!(tool.apply(&configuration), "succeeded");
    tool.hear();
    assert!(tool.heads[0].enabled);
}

#[test]
fn a_manager_that_stops_hears_no_more() {
    let desk = desk_with_outputs(1);
    let mut tool = Tool::new(&desk);
    tool.manager.stop();
    tool.app.client.expect_no_error();
    let last = events(&tool.manager);
    assert!(matches!(last[..], [ManagerEvent::Finished]), "{last:?}");
    on(&desk, |state| state.plug("HEADLESS-9", MODE));
    tool.app.client.expect_no_error();
}

#[test]
fn a_head_is_configured_once() {
    let mut tool = Tool::new(&desk_with_outputs(1));
    let configuration = tool.configuration();
    tool.enable(&configuration, 0);
    configuration.disable_head(&tool.heads[0].object);
    tool.app.client.expect_protocol_error(&configuration, Error::AlreadyConfiguredHead);

    let mut tool = Tool::new(&desk_with_outputs(1));
    let configuration = tool.configuration();
    configuration.disable_head(&tool.heads[0].object);
    tool.enable(&configuration, 0);
    tool.app.client.expect_protocol_error(&configuration, Error::AlreadyConfiguredHead);
}

#[test]
fn no_head_is_left_out() {
    for test in [false, true] {
        let mut tool = Tool::new(&desk_with_outputs(2));
        let configuration = tool.configuration();
        tool.enable(&configuration, 1);
        match test {
            true => configuration.test(),
            false => configuration.apply(),
        }
        tool.app.client.expect_protocol_error(&configuration, Error::UnconfiguredHead);
    }
}

#[test]
fn a_configuration_is_used_once() {
    let again: [fn(&Tool, &ZwlrOutputConfigurationV1); 4] = [
        |_, configuration| configuration.apply(),
        |_, configuration| configuration.test(),
        |tool, configuration| drop(tool.enable(configuration, 0)),
        |tool, configuration| configuration.disable_head(&tool.heads[0].object),
    ];
    for again in again {
        let mut tool = Tool::new(&desk_with_outputs(1));
        let (configuration, _heads) = tool.unchanged();
        assert_eq!(tool.apply(&configuration), "succeeded");
        again(&tool, &configuration);
        tool.app.client.expect_protocol_error(&configuration, Error::AlreadyUsed);
    }
}

#[test]
fn a_property_is_set_once() {
    let twice: [fn(&Tool, &ZwlrOutputConfigurationHeadV1); 6] = [
        |tool, head| head.set_mode(&tool.heads[0].modes[0]),
        |_, head| head.set_custom_mode(100, 100, 0),
        |_, head| head.set_position(1, 2),
        |_, head| head.set_transform(wl_output::Transform::Flipped),
        |_, head| head.set_scale(1.0),
        |_, head| head.set_adaptive_sync(AdaptiveSyncState::Disabled),
    ];
    for set in twice {
        let mut tool = Tool::new(&desk_with_outputs(1));
        let (_configuration, heads) = tool.unchanged();
        set(&tool, &heads[0]);
        tool.app.client.expect_no_error();
        set(&tool, &heads[0]);
        tool.app.client.expect_protocol_error(&heads[0], HeadError::AlreadySet);
    }
    let mut tool = Tool::new(&desk_with_outputs(1));
    let (_configuration, heads) = tool.unchanged();
    heads[0].set_mode(&tool.heads[0].modes[0]);
    heads[0].set_custom_mode(100, 100, 0);
    tool.app.client.expect_protocol_error(&heads[0], HeadError::AlreadySet);
}

#[test]
fn numbers_that_mean_nothing_are_refused() {
    type Set = fn(&Tool, &ZwlrOutputConfigurationHeadV1);
    let nonsense: [(Set, HeadError); 8] = [
        (|tool, head| head.set_mode(&tool.heads[1].modes[0]), HeadError::InvalidMode),
        (|_, head| head.set_custom_mode(0, 100, 0), HeadError::InvalidCustomMode),
        (|_, head| head.set_custom_mode(100, -1, 0), HeadError::InvalidCustomMode),
        (|_, head| head.set_custom_mode(100, 100, -1), HeadError::InvalidCustomMode),
        (|_, head| head.set_scale(0.0), HeadError::InvalidScale),
        (|_, head| head.set_scale(-2.0), HeadError::InvalidScale),
        (|_, head| send_raw(head, 3, Argument::Int(8)), HeadError::InvalidTransform),
        (|_, head| send_raw(head, 5, Argument::Uint(2)), HeadError::InvalidAdaptiveSyncState),
    ];
    for (send, error) in nonsense {
        let mut tool = Tool::new(&desk_with_outputs(2));
        let (_configuration, heads) = tool.unchanged();
        send(&tool, &heads[0]);
        tool.app.client.expect_protocol_error(&heads[0], error);
    }
}
