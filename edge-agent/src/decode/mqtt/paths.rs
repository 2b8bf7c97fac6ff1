//! JSON of which only chosen members are values: `fields = { temperature_c = "main.temp" }`.
//!
//! A path is names and list indices, joined by dots; what it leads to is kept under the field's name as
//! it is, unit and all. A member that is not there says nothing: not every message has all of them. Members
//! with a role (`time = "dt"`) are found by path as well.

use protocol::{FieldName, Value};

use super::tree::{self, Node};
use crate::{
    config::Roles,
    decode::{DecodeError, Decoded, Members, Problem},
};

/// Reads what the paths lead to.
///
/// # Errors
/// [`DecodeError`] when the payload is no JSON, or a role is no single value.
pub fn decode(
    payload: &[u8],
    roles: &Roles,
    fields: &[(FieldName, String)],
) -> Result<Decoded, DecodeError> {
    tree::read(payload, |root| {
        let mut members = Members::new(roles);
        let named = [&roles.device, &roles.time, &roles.sequence, &roles.boot];
        for path in named.into_iter().flatten() {
            if let Some(Node::Leaf(scalar)) = find(&root, path) {
                members.put(path, scalar.clone())?;
            }
        }
        for (name, path) in fields {
            let value: Result<Option<Value>, Problem> = match find(&root, path) {
                None => Ok(None),
                Some(Node::Leaf(scalar)) => scalar.clone().value(),
                Some(_) => Err(Problem::NotKept("an object or a list")),
            };
            members.keep(name, value)?;
        }
        Ok(members.finish())
    })
}

fn find<'t, 'a>(root: &'t Node<'a>, path: &str) -> Option<&'t Node<'a>> {
    // A name may hold dots itself: the whole path first.
    if let Some(node) = root.members().and_then(|members| tree::get(members, path)) {
        return Some(node);
    }
    path.split('.').try_fold(root, |node, part| match node {
        Node::Object(members) => tree::get(members, part),
        Node::List(elements) => elements.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_through_objects_and_lists() {
        let payload = br#"{"dt":1795435199,"main":{"temp":21.5,"list":[1,{"x":true}]},"a.b":"text","n":null,"huge":1e400}"#;
        let roles = Roles {
            time: Some("dt".into()),
            time_format: crate::config::TimeFormat::UnixSeconds,
            ..Roles::default()
        };
        let fields: Vec<(FieldName, String)> = [
            ("temperature_c", "main.temp"),
            ("x", "main.list.1.x"),
            ("word", "a.b"),
            ("nothing", "n"),
            ("absent", "main.more"),
            ("outer", "main"),
            ("huge", "huge"),
        ]
        .into_iter()
        .map(|(name, path)| (FieldName::new(name).unwrap(), path.to_owned()))
        .collect();
        let decoded = decode(payload, &roles, &fields).unwrap();
        let kept: Vec<String> = decoded
            .fields
            .iter()
            .map(|(name, value)| format!("{name} {value:?}"))
            .collect();
        assert_eq!(
            kept,
            [
                "temperature_c Float(21.5)",
                "word Text(\"text\")",
                "x Bool(true)"
            ]
        );
        let rejected: Vec<&str> = decoded.rejected.iter().map(|(name, _)| &**name).collect();
        assert_eq!(rejected, ["outer", "huge"]);
        assert!(decoded.time.is_some());
    }
}
