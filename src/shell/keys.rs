//! The key bindings: which combination does what. Pure.

use smithay::input::keyboard::{Keysym, ModifiersState, keysyms};

/// What a key combination asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Switch to another virtual terminal.
    SwitchVt(i32),
    /// Start `$TERMINAL`, or foot.
    Terminal,
    /// Raise and focus the next window.
    NextWindow,
    /// Ask the focused window to close.
    CloseWindow,
    /// Show what becomes of the surfaces' commits, or stop doing so.
    ToggleOverlay,
    /// Fill the screen with the focused window, or stop doing so.
    ToggleMaximised,
    /// Fill the parent compositor's screen with our window, or stop doing so.
    ToggleOnParent,
    /// Move the focused window, in logical pixels.
    Move(i32, i32),
    /// Resize the focused window, in logical pixels.
    Resize(i32, i32),
    /// End the compositor.
    Exit,
}

/// How far one key press moves or resizes a window, in logical pixels.
const STEP: i32 = 32;

/// What the combination means, if it is ours and not the client's.
pub fn action(modifiers: &ModifiersState, keysym: Keysym) -> Option<Action> {
    let raw = keysym.raw();
    if (keysyms::KEY_XF86Switch_VT_1..=keysyms::KEY_XF86Switch_VT_12).contains(&raw) {
        return i32::try_from(raw - keysyms::KEY_XF86Switch_VT_1 + 1).ok().map(Action::SwitchVt);
    }
    if !modifiers.logo {
        return None;
    }
    let (dx, dy) = match keysym {
        Keysym::Left => (-STEP, 0),
        Keysym::Right => (STEP, 0),
        Keysym::Up => (0, -STEP),
        Keysym::Down => (0, STEP),
        _ => (0, 0),
    };
    match keysym {
        Keysym::Left | Keysym::Right | Keysym::Up | Keysym::Down if modifiers.shift => {
            Some(Action::Resize(dx, dy))
        }
        Keysym::Left | Keysym::Right | Keysym::Up | Keysym::Down => Some(Action::Move(dx, dy)),
        Keysym::Return => Some(Action::Terminal),
        Keysym::Tab | Keysym::ISO_Left_Tab => Some(Action::NextWindow),
        Keysym::q | Keysym::Q => Some(Action::CloseWindow),
        Keysym::m | Keysym::M => Some(Action::ToggleMaximised),
        Keysym::f | Keysym::F => Some(Action::ToggleOverlay),
        Keysym::F11 => Some(Action::ToggleOnParent),
        Keysym::e | Keysym::E if modifiers.shift => Some(Action::Exit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logo(shift: bool) -> ModifiersState {
        ModifiersState { logo: true, shift, ..Default::default() }
    }

    #[test]
    fn keys_without_super_belong_to_the_client() {
        for keysym in [Keysym::Return, Keysym::q, Keysym::Tab, Keysym::E, Keysym::Left] {
            assert_eq!(action(&ModifiersState::default(), keysym), None);
        }
    }

    #[test]
    fn ctrl_alt_function_keys_switch_terminals() {
        let none = ModifiersState::default();
        assert_eq!(action(&none, Keysym::XF86_Switch_VT_1), Some(Action::SwitchVt(1)));
        assert_eq!(action(&none, Keysym::XF86_Switch_VT_12), Some(Action::SwitchVt(12)));
        assert_eq!(action(&none, Keysym::F2), None);
    }

    #[test]
    fn super_and_f11_are_about_our_own_window() {
        assert_eq!(action(&logo(false), Keysym::F11), Some(Action::ToggleOnParent));
        assert_eq!(action(&ModifiersState::default(), Keysym::F11), None);
    }

    #[test]
    fn leaving_needs_shift_and_arrows_move_or_resize() {
        assert_eq!(action(&logo(false), Keysym::e), None);
        assert_eq!(action(&logo(true), Keysym::E), Some(Action::Exit));
        assert_eq!(action(&logo(false), Keysym::Left), Some(Action::Move(-STEP, 0)));
        assert_eq!(action(&logo(true), Keysym::Down), Some(Action::Resize(0, STEP)));
    }
}
