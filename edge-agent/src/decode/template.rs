//! What the levels of an MQTT topic mean: `plant/{site}/{device}/{field}`.
//!
//! ```text
//! word           itself
//! {device}       one level, the device
//! {device:**}    the rest, at least one level, the device (names with slashes)
//! {field}        one level, the name of the value
//! {word}         one level, metadata
//! +              one level, nobody cares which
//! #              the rest, also none, nobody cares which
//! ```
//!
//! A level is a word or a placeholder, never a mixture. What stands under `+` in front of the device
//! is forgotten, so `+/{device}` would make one device of `a/x` and `b/x`: such templates are refused.
//! A named word keeps the difference in the metadata; naming it states that device names are unique
//! across it.

use protocol::{DeviceId, FieldName};

use super::DecodeError;

/// Longest topic of MQTT, in bytes.
const MAX_TOPIC_BYTES: usize = 65_535;

/// A compiled template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    levels: Vec<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Word(String),
    Device,
    DeviceRest,
    Field,
    Meta(FieldName),
    Any,
    Rest,
}

/// What a topic says under a template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Captures<'t> {
    /// The device's own name, not encoded yet.
    pub device: Option<&'t str>,
    /// The value's own name.
    pub field: Option<&'t str>,
    /// Metadata.
    pub meta: Vec<(FieldName, Box<str>)>,
}

/// Why a text is no template, and where: bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct TemplateError {
    /// Where the level at fault begins.
    pub at: usize,
    /// What is wrong with it.
    pub kind: TemplateErrorKind,
}

/// What is wrong with a level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateErrorKind {
    /// Nothing at all, or more than MQTT allows.
    #[error("a topic has 1 to {MAX_TOPIC_BYTES} bytes")]
    Length,
    /// `a{device}`, `{device`, `a+`.
    #[error("{0:?} mixes text with a placeholder; each must have its level for itself")]
    Mixed(Box<str>),
    /// `{}` or a name that is no field name.
    #[error(
        "{0:?} is no placeholder; use {{device}}, {{device:**}}, {{field}} or {{word}} with a-z 0-9 _"
    )]
    Placeholder(Box<str>),
    /// `#` or `{device:**}` not at the end.
    #[error("{0:?} takes the rest of the topic and must be the last level")]
    NotLast(&'static str),
    /// The same placeholder twice.
    #[error("{{{0}}} appears twice")]
    Twice(Box<str>),
    /// `+` in front of the device.
    #[error(
        "'+' in front of {{device}} would make one device of two; name the level, as in {{site}}"
    )]
    Collision,
    /// NUL, which MQTT forbids.
    #[error("a topic must not contain NUL")]
    Nul,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// The first level that is wrong.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let error = |at, kind| TemplateError { at, kind };
        if text.is_empty() || text.len() > MAX_TOPIC_BYTES {
            return Err(error(0, TemplateErrorKind::Length));
        }
        if let Some(at) = text.find('\0') {
            return Err(error(at, TemplateErrorKind::Nul));
        }
        let mut levels = Vec::new();
        let mut at = 0;
        for part in text.split('/') {
            let level = Level::parse(part).map_err(|kind| error(at, kind))?;
            let rest = match levels.last() {
                Some(Level::Rest) => Some("#"),
                Some(Level::DeviceRest) => Some("{device:**}"),
                _ => None,
            };
            if let Some(rest) = rest {
                return Err(error(at, TemplateErrorKind::NotLast(rest)));
            }
            if let Some(name) = level.name()
                && levels
                    .iter()
                    .any(|other: &Level| other.name() == Some(name))
            {
                return Err(error(at, TemplateErrorKind::Twice(name.into())));
            }
            if matches!(level, Level::Device | Level::DeviceRest) && levels.contains(&Level::Any) {
                return Err(error(at, TemplateErrorKind::Collision));
            }
            levels.push(level);
            at += part.len() + 1;
        }
        Ok(Self { levels })
    }

    /// What to subscribe to.
    #[must_use]
    pub fn filter(&self) -> String {
        let levels: Vec<&str> = self
            .levels
            .iter()
            .map(|level| match level {
                Level::Word(word) => word,
                Level::Device | Level::Field | Level::Meta(_) | Level::Any => "+",
                Level::DeviceRest | Level::Rest => "#",
            })
            .collect();
        levels.join("/")
    }

    /// Whether the topic names the device.
    #[must_use]
    pub fn has_device(&self) -> bool {
        self.levels
            .iter()
            .any(|level| matches!(level, Level::Device | Level::DeviceRest))
    }

    /// Whether the topic names the value.
    #[must_use]
    pub fn has_field(&self) -> bool {
        self.levels.contains(&Level::Field)
    }

    /// What the topic says, if it is one of these.
    #[must_use]
    pub fn matches<'t>(&self, topic: &'t str) -> Option<Captures<'t>> {
        // MQTT: a filter that begins with a wildcard does not see topics that begin with `$`.
        if topic.starts_with('$') && !matches!(self.levels.first(), Some(Level::Word(_))) {
            return None;
        }
        let mut captures = Captures::default();
        let mut rest = Some(topic);
        for level in &self.levels {
            match level {
                Level::Rest => return Some(captures),
                Level::DeviceRest => {
                    captures.device = Some(rest?);
                    return Some(captures);
                }
                _ => {}
            }
            let text = rest?;
            let (part, after) = match text.split_once('/') {
                Some((part, after)) => (part, Some(after)),
                None => (text, None),
            };
            rest = after;
            match level {
                Level::Word(word) if word == part => {}
                Level::Word(_) => return None,
                Level::Device => captures.device = Some(part),
                Level::Field => captures.field = Some(part),
                Level::Meta(name) => captures.meta.push((name.clone(), part.into())),
                Level::Any | Level::Rest | Level::DeviceRest => {}
            }
        }
        rest.is_none().then_some(captures)
    }
}

impl Level {
    fn parse(part: &str) -> Result<Self, TemplateErrorKind> {
        let inside = part.strip_prefix('{').and_then(|p| p.strip_suffix('}'));
        match (part, inside) {
            ("+", _) => Ok(Self::Any),
            ("#", _) => Ok(Self::Rest),
            (_, Some("device")) => Ok(Self::Device),
            (_, Some("device:**")) => Ok(Self::DeviceRest),
            (_, Some("field")) => Ok(Self::Field),
            (_, Some(name)) => FieldName::new(name)
                .map(Self::Meta)
                .map_err(|_| TemplateErrorKind::Placeholder(super::excerpt(part))),
            (_, None) if part.contains(['{', '}', '+', '#']) => {
                Err(TemplateErrorKind::Mixed(super::excerpt(part)))
            }
            (_, None) => Ok(Self::Word(part.into())),
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Device | Self::DeviceRest => Some("device"),
            Self::Field => Some("field"),
            Self::Meta(name) => Some(name.as_str()),
            Self::Word(_) | Self::Any | Self::Rest => None,
        }
    }
}

impl Captures<'_> {
    /// The device's id, if the topic names one.
    ///
    /// # Errors
    /// [`DecodeError::Device`].
    pub fn device_id(&self) -> Result<Option<DeviceId>, DecodeError> {
        self.device
            .map(DeviceId::encode)
            .transpose()
            .map_err(DecodeError::Device)
    }

    /// The value's canonical name, if the topic names one.
    ///
    /// # Errors
    /// [`DecodeError::FieldName`].
    pub fn field_name(&self) -> Result<Option<FieldName>, DecodeError> {
        self.field
            .map(FieldName::normalise)
            .transpose()
            .map_err(|_| DecodeError::FieldName)
    }
}
