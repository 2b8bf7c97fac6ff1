//! Reading what an operator wrote, with the place of every mistake.
//!
//! [`document`] is the reading, [`value`] the rules for one value, [`properties`] the file of Confluent's
//! console, [`kafka`] and [`registry`] what both daemons have in `[kafka]` and `[registry]`, [`plaintext`] what may
//! go without TLS, [`show`] the way back, [`schema`] what an editor is told. Which tables there are,
//! and what they have to agree on, is each daemon's own.

pub mod document;
pub mod fields;
pub mod kafka;
pub mod plaintext;
pub mod properties;
pub mod registry;
pub mod schema;
pub mod show;
pub mod value;

/// Whether secrets are needed, or only what is said of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// Read them: for whatever goes online.
    Read,
    /// Leave them where they are: for `check` and `config show`, which may run elsewhere.
    Leave,
}
