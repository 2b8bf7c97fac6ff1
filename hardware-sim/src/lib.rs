//! Plays the devices of a plant, with faults, and keeps the truth about what they sent.
//!
//! ```text
//! scenario.rs ─▶ sim.rs ─▶ link/pty.rs  ─▶ a serial line of the agent      ┐
//!                  │       link/mqtt.rs ─▶ a broker the agent listens to   ├▶ … ─▶ MongoDB
//!                  │                                                       ┘         │
//!                  └─▶ truth.rs: what was sent and acknowledged ─────▶ verify.rs ◀───┘
//! ```
//!
//! Every value is a function of the reading's identity ([`signal`]), so a reading that was altered,
//! swapped or mixed with another is seen. [`load`] stands beside that: readings without faults, by the clock. What to do with a transmission is decided without I/O
//! ([`fault`], [`device`]); only `link` owns lines and sockets.

pub mod device;
pub mod fault;
mod link;
pub mod load;
pub mod native;
pub mod play;
pub mod scenario;
pub mod signal;
mod sim;
pub mod truth;
pub mod verify;

pub use fault::Occasion;
pub use link::RunError;
pub use scenario::Scenario;
pub use sim::{Counts, Options, Sim, StartError};
