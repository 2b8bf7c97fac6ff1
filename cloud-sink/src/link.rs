//! The state of both links to the outside: what readiness and the status page show.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// Kafka.
    Kafka,
    /// MongoDB.
    Mongodb,
}

/// How a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Works.
    Up,
    /// Being made.
    Connecting,
    /// Does not work; why, in one line, without secrets.
    Down(String),
}

/// One link. `/status.json` shows it as `{"kind", "name", "state", "detail"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it leads.
    pub kind: LinkKind,
    /// Which one, without secrets.
    pub name: String,
    /// How it is.
    pub state: LinkState,
}

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let (state, detail) = match &self.state {
            LinkState::Up => ("up", None),
            LinkState::Connecting => ("connecting", None),
            LinkState::Down(why) => ("down", Some(why)),
        };
        let mut link = out.serialize_struct("Link", 4)?;
        link.serialize_field("kind", &self.kind)?;
        link.serialize_field("name", &self.name)?;
        link.serialize_field("state", state)?;
        link.serialize_field("detail", &detail)?;
        link.end()
    }
}

/// Both links; cheap to clone.
#[derive(Debug, Clone)]
pub struct Links(Arc<Mutex<[Link; 2]>>);

impl Links {
    /// Both links, being made.
    #[must_use]
    pub fn new(kafka: String, mongodb: String) -> Self {
        let link = |kind, name| Link {
            kind,
            name,
            state: LinkState::Connecting,
        };
        Self(Arc::new(Mutex::new([
            link(LinkKind::Kafka, kafka),
            link(LinkKind::Mongodb, mongodb),
        ])))
    }

    fn lock(&self) -> MutexGuard<'_, [Link; 2]> {
        // Each change is one assignment: a panic elsewhere leaves the links whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the state of a link and returns the one before if it is of another kind.
    pub fn set(&self, kind: LinkKind, state: LinkState) -> Option<LinkState> {
        let mut links = self.lock();
        let link = links.iter_mut().find(|link| link.kind == kind)?;
        let before = std::mem::replace(&mut link.state, state);
        let changed = std::mem::discriminant(&before) != std::mem::discriminant(&link.state);
        changed.then_some(before)
    }

    /// Both, Kafka first.
    #[must_use]
    pub fn snapshot(&self) -> [Link; 2] {
        self.lock().clone()
    }

    /// Both work.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.lock().iter().all(|link| link.state == LinkState::Up)
    }
}
