//! The time of this machine, where a document or a metric needs it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    after(Duration::ZERO)
}

/// Milliseconds since 1970 so long from now.
#[must_use]
pub fn after(wait: Duration) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from((now + wait).as_millis()).unwrap_or(i64::MAX)
}
