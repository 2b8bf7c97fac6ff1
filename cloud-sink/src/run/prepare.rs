//! What MongoDB has to be like before the first record is consumed.

use std::time::Instant;

use tokio::time::sleep;
use tracing::{info, warn};

use super::Stages;
use crate::{
    link::{LinkKind, LinkState},
    outage::Outage,
    store::{self, schema, validator},
};

impl Stages {
    /// Makes sure of indexes and declared types. Without MongoDB there is nothing to consume for, so this
    /// waits; what a MongoDB that is there refuses is said, and done without.
    pub(super) async fn prepare(&self) {
        let mut outage: Option<Outage> = None;
        for index in schema::plan(&self.config.routes) {
            let made = self.insist(&mut outage, async || self.store.make(&index).await);
            if let Err(error) = made.await {
                let collection = &index.collection;
                warn!(%error, collection, index = index.name, "index not made, going on without");
            }
        }
        for declared in validator::plan(&self.config) {
            let collection = &declared.collection;
            let said = self.insist(&mut outage, async || self.store.declare(&declared).await);
            match said.await {
                Ok(unlike) => {
                    for unlike in unlike {
                        warn!(collection, field = %unlike.field, declared = %unlike.declared, stored = %unlike.stored, "declared type is not that of the column, which stays");
                    }
                }
                Err(error) => {
                    warn!(%error, collection, "declared types or validator not set, going on without");
                }
            }
        }
        self.watched.links.set(LinkKind::Mongodb, LinkState::Up);
        if let Some(outage) = outage {
            let lasted = outage.lasted(Instant::now()).as_secs();
            info!(outage = %format_args!("{lasted}s"), held = 0, lost = 0, "mongodb back");
        }
    }

    /// Asks until MongoDB answers; an error is the answer of one that is there.
    async fn insist<T>(
        &self,
        outage: &mut Option<Outage>,
        ask: impl AsyncFn() -> Result<T, store::Outage>,
    ) -> Result<T, store::Outage> {
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if self.store.ping().await.is_ok() {
                return Err(error);
            }
            let now = Instant::now();
            match outage {
                Some(outage) => outage.failed(now),
                None => *outage = Some(Outage::new(now)),
            }
            let outage = outage.get_or_insert_with(|| Outage::new(now));
            self.watched
                .links
                .set(LinkKind::Mongodb, LinkState::Down(error.to_string()));
            if outage.should_say(now) {
                let since = outage.lasted(now).as_secs();
                let retry_in = outage.retry_in();
                warn!(reason = %error, since = %format_args!("{since}s"), ?retry_in, partitions_paused = 0, "mongodb unreachable, holding");
            }
            sleep(outage.retry_in()).await;
        }
    }
}
