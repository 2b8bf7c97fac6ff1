//! The state of the links to the outside: what readiness and the status page show.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// Kafka.
    Kafka,
    /// MongoDB.
    Mongodb,
    /// The Schema Registry, where there is one.
    Registry,
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

/// One link. `/status.json` shows it as `{"kind", "name", "state", "detail", "since_s"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it leads.
    pub kind: LinkKind,
    /// Which one, without secrets.
    pub name: String,
    /// How it is.
    pub state: LinkState,
    /// Since when it is up, connecting or down.
    pub since: Instant,
}

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let (state, detail) = match &self.state {
            LinkState::Up => ("up", None),
            LinkState::Connecting => ("connecting", None),
            LinkState::Down(why) => ("down", Some(why)),
        };
        let mut link = out.serialize_struct("Link", 5)?;
        link.serialize_field("kind", &self.kind)?;
        link.serialize_field("name", &self.name)?;
        link.serialize_field("state", state)?;
        link.serialize_field("detail", &detail)?;
        link.serialize_field("since_s", &self.since.elapsed().as_secs())?;
        link.end()
    }
}

/// All links; cheap to clone.
#[derive(Debug, Clone)]
pub struct Links(Arc<Mutex<Vec<Link>>>);

impl Links {
    /// The links, being made. A registry, where there is one, works until it is missed.
    #[must_use]
    pub fn new(kafka: String, mongodb: String, registry: Option<String>) -> Self {
        let link = |kind, name| Link {
            kind,
            name,
            state: LinkState::Connecting,
            since: Instant::now(),
        };
        let mut links = vec![
            link(LinkKind::Kafka, kafka),
            link(LinkKind::Mongodb, mongodb),
        ];
        links.extend(registry.map(|name| Link {
            state: LinkState::Up,
            ..link(LinkKind::Registry, name)
        }));
        Self(Arc::new(Mutex::new(links)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Link>> {
        // Each change is one assignment: a panic elsewhere leaves the links whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the state of a link and returns the one before if it is of another kind.
    pub fn set(&self, kind: LinkKind, state: LinkState) -> Option<LinkState> {
        let mut links = self.lock();
        let link = links.iter_mut().find(|link| link.kind == kind)?;
        let before = std::mem::replace(&mut link.state, state);
        let changed = std::mem::discriminant(&before) != std::mem::discriminant(&link.state);
        if changed {
            link.since = Instant::now();
        }
        changed.then_some(before)
    }

    /// Notes that a link is down, for a reason that says no more than that: what is known already stays.
    pub fn lost(&self, kind: LinkKind, reason: &str) -> Option<LinkState> {
        if self.is_down(kind) {
            return None;
        }
        self.set(kind, LinkState::Down(reason.to_owned()))
    }

    /// Whether one does not work. One that is being made is not down.
    #[must_use]
    pub fn is_down(&self, kind: LinkKind) -> bool {
        let is_down = |link: &Link| link.kind == kind && matches!(link.state, LinkState::Down(_));
        self.lock().iter().any(is_down)
    }

    /// All, Kafka first.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Link> {
        self.lock().clone()
    }

    /// All work.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.lock().iter().all(|link| link.state == LinkState::Up)
    }
}
