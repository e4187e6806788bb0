//! The configuration file: what it says of outputs.
//!
//! Owns the file's format and the sentence for each mistake in it. Must not know what is connected.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de::Error as _};
use smithay::utils::{Point, Transform};

use crate::output::{
    display::{Info, Scale, Settings},
    kms::modes::ModeRequest,
    layout,
    vsync::Vrr,
};

/// What is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("could not read the configuration file {file}: {error}")]
    Read {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It says something that means nothing.
    #[error("{file}, line {line}: {message}")]
    Mistake {
        /// Which file.
        file: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// What the file says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    #[serde(default, rename = "output")]
    outputs: Vec<Rule>,
}

/// How the displays that fit are to be lit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, try_from = "RuleText")]
struct Rule {
    name: Option<String>,
    make: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    settings: Settings,
    mode: Option<ModeRequest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    name: Option<String>,
    make: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    on: Option<bool>,
    #[serde(default, deserialize_with = "mode")]
    mode: Option<ModeRequest>,
    #[serde(default, deserialize_with = "scale")]
    scale: Option<Scale>,
    #[serde(default, deserialize_with = "transform")]
    transform: Option<Transform>,
    #[serde(default, deserialize_with = "position")]
    position: Option<(i32, i32)>,
    #[serde(default, deserialize_with = "vrr")]
    vrr: Option<Vrr>,
    tearing: Option<bool>,
}

impl TryFrom<RuleText> for Rule {
    type Error = &'static str;

    fn try_from(text: RuleText) -> Result<Self, Self::Error> {
        let RuleText { name, make, model, serial, on, mode, scale, transform, position, vrr, tearing } = text;
        if [&name, &make, &model, &serial].into_iter().all(Option::is_none) {
            return Err("an [[output]] needs a name, or a make, model or serial, to say which one is meant");
        }
        let default = Settings::default();
        let settings = Settings {
            on: on.unwrap_or(default.on),
            mode: mode.unwrap_or(default.mode),
            scale,
            transform: transform.unwrap_or(default.transform),
            position: position.map(Point::from),
            vrr: vrr.unwrap_or(default.vrr),
            tearing: tearing.unwrap_or(default.tearing),
        };
        Ok(Self { name, make, model, serial, settings, mode })
    }
}

impl Rule {
    fn fits(&self, info: &Info) -> bool {
        let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        is(&self.name, &info.name)
            && is(&self.make, &info.make)
            && is(&self.model, &info.model)
            && is(&self.serial, &info.serial)
    }
}

impl Config {
    /// Reads `file`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub(super) fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigError::Read { file: file.to_owned(), error })?;
        Self::parse(&text).map_err(|(line, message)| ConfigError::Mistake {
            file: file.to_owned(),
            line,
            message,
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let before = text.get(..at).unwrap_or_default();
            // The parser's own sentences may have several lines.
            let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            (before.lines().count().max(1) + usize::from(before.ends_with('\n')), message)
        })
    }

    /// How a display is to be lit: as the first entry that fits says, with `mode` where it names none.
    pub(super) fn settings(&self, info: &Info, mode: ModeRequest) -> Settings {
        let Some(rule) = self.outputs.iter().find(|rule| rule.fits(info)) else {
            return Settings { mode, ..Settings::default() };
        };
        Settings { mode: rule.mode.unwrap_or(mode), ..rule.settings }
    }
}

/// The user's file, if there is one: `fencepost/config.toml` in `$XDG_CONFIG_HOME`, which is `~/.config` by default.
pub(super) fn default_path() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = given.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))?;
    let file = folder.join("fencepost/config.toml");
    file.exists().then_some(file)
}

fn mode<'de, D: Deserializer<'de>>(value: D) -> Result<Option<ModeRequest>, D::Error> {
    let text = String::deserialize(value)?;
    match text.as_str() {
        "preferred" => Ok(Some(ModeRequest::Preferred)),
        text => text.parse().map(Some).map_err(D::Error::custom),
    }
}

fn scale<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Scale>, D::Error> {
    let number = f64::deserialize(value)?;
    let scale = Scale::new(number).ok_or_else(|| {
        D::Error::custom(format!("a scale lies between {} and {}, not {number}", Scale::MIN, Scale::MAX))
    })?;
    Ok(Some(scale))
}

fn transform<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Transform>, D::Error> {
    let transform = match String::deserialize(value)?.as_str() {
        "normal" => Transform::Normal,
        "90" => Transform::_90,
        "180" => Transform::_180,
        "270" => Transform::_270,
        "flipped" => Transform::Flipped,
        "flipped-90" => Transform::Flipped90,
        "flipped-180" => Transform::Flipped180,
        "flipped-270" => Transform::Flipped270,
        other => {
            return Err(D::Error::custom(format!(
                "\"{other}\" is no transform: write normal, 90, 180, 270, flipped, flipped-90, flipped-180 or flipped-270"
            )));
        }
    };
    Ok(Some(transform))
}

fn vrr<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Vrr>, D::Error> {
    match String::deserialize(value)?.as_str() {
        "off" => Ok(Some(Vrr::Off)),
        "on" => Ok(Some(Vrr::On)),
        "auto" => Ok(Some(Vrr::Auto)),
        other => Err(D::Error::custom(format!("a refresh varies off, on or auto, not \"{other}\""))),
    }
}

fn position<'de, D: Deserializer<'de>>(value: D) -> Result<Option<(i32, i32)>, D::Error> {
    let (x, y) = <(i32, i32)>::deserialize(value)?;
    let near = |at: i32| (-layout::FARTHEST..=layout::FARTHEST).contains(&at);
    match near(x) && near(y) {
        true => Ok(Some((x, y))),
        false => Err(D::Error::custom(format!("no output can be as far out as [{x}, {y}]"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESK: &str = r#"
        [[output]]
        name = "HDMI-A-1"
        mode = "1920x1080@60"
        scale = 1.5
        transform = "90"
        position = [-1080, 0]
        vrr = "auto"
        tearing = false

        [[output]]
        make = "DEL"
        model = "U2720Q"
        on = false
    "#;

    fn info(name: &str, make: &str, model: &str) -> Info {
        Info { name: name.into(), make: make.into(), model: model.into(), ..Info::default() }
    }

    #[test]
    fn displays_are_lit_as_their_entry_says() {
        let config = Config::parse(DESK).expect("a configuration");
        let settings = config.settings(&info("HDMI-A-1", "DEL", "U2720Q"), ModeRequest::Preferred);
        let wanted = Settings {
            on: true,
            mode: ModeRequest::Size { width: 1920, height: 1080, refresh_mhz: Some(60_000) },
            scale: Some(Scale::new(1.5).expect("a scale")),
            transform: Transform::_90,
            position: Some((-1080, 0).into()),
            vrr: Vrr::Auto,
            tearing: false,
        };
        assert_eq!(settings, wanted);
        assert!(!config.settings(&info("DP-1", "DEL", "U2720Q"), ModeRequest::Preferred).on);
    }

    #[test]
    fn displays_that_no_entry_fits_have_the_mode_of_the_command_line() {
        let config = Config::parse(DESK).expect("a configuration");
        let mode = ModeRequest::Size { width: 640, height: 480, refresh_mhz: None };
        let settings = config.settings(&info("DP-1", "DEL", "P2419H"), mode);
        assert_eq!(settings, Settings { mode, ..Settings::default() });
    }

    #[track_caller]
    fn assert_mistake(text: &str, line: usize, part: &str) {
        let (at, message) = Config::parse(text).expect_err("a mistake");
        assert!(at == line && message.contains(part) && !message.contains('\n'), "line {at}: {message}");
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        assert_mistake("[[output]]\nname = \"A\"\nmode = \"1920\"\n", 3, "Could not read \"1920\" as a mode");
        assert_mistake("[[output]]\nname = \"A\"\nscale = 0\n", 3, "a scale lies between 0.25 and 16, not 0");
        assert_mistake("[[output]]\nname = \"A\"\ntransform = \"45\"\n", 3, "\"45\" is no transform");
        assert_mistake("[[output]]\nname = \"A\"\nposition = [1]\n", 3, "");
        assert_mistake("[[output]]\nname = \"A\"\nposition = [99999999, 0]\n", 3, "as far out");
        assert_mistake("[[output]]\nname = \"A\"\nvrr = \"60\"\n", 3, "off, on or auto, not \"60\"");
        assert_mistake("[[output]]\nname = \"A\"\n\nscael = 1.0\n", 4, "scael");
        assert_mistake("\n\n[[output]]\nscale = 1.0\n", 3, "to say which one is meant");
        assert_mistake("[[output]\n", 1, "");
        assert_mistake("[keyboard]\n", 1, "keyboard");
    }

    #[test]
    fn an_empty_file_says_nothing() {
        let config = Config::parse("# nothing\n").expect("a configuration");
        assert_eq!(config.settings(&info("DP-1", "", ""), ModeRequest::Preferred), Settings::default());
    }
}
