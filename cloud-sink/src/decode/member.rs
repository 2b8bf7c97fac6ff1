//! What a record holds, whatever it was written in: the tree between a format and a reading.

use std::borrow::Cow;

use protocol::Timestamp;
use serde_json::Value as Json;

/// Members of an object, in its order.
pub type Members<'a> = Vec<(Cow<'a, str>, Member<'a>)>;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Member<'a> {
    /// None.
    Null,
    /// A state.
    Bool(bool),
    /// A whole number of a format that has such.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// A moment.
    Time(Timestamp),
    /// Members by name.
    Object(Members<'a>),
    /// What a reading cannot hold, and what it is called.
    Unfit(&'static str),
}

/// Whole numbers up to this are the same as floats.
const EXACT: u64 = 1 << 53;

/// JSON has one kind of number, and many producers write 21.0 as 21: numbers are floats, only integers
/// beyond 2^53 stay such.
impl From<Json> for Member<'_> {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(state) => Self::Bool(state),
            Json::String(text) => Self::Text(text.into()),
            Json::Array(_) => Self::Unfit("an array"),
            Json::Object(object) => {
                let members = object.into_iter();
                Self::Object(
                    members
                        .map(|(name, value)| (name.into(), value.into()))
                        .collect(),
                )
            }
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), Some(float)) if whole.unsigned_abs() <= EXACT => Self::Float(float),
                (Some(whole), _) => Self::Int(whole),
                (None, Some(float)) if number.is_f64() => Self::Float(float),
                _ => Self::Unfit("an integer beyond 64 bits"),
            },
        }
    }
}
