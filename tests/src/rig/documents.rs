//! The other end of MongoDB: what a data scientist would find.

use anyhow::Result;
use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection, Database,
    bson::{Bson, Document, doc},
};
use tokio::runtime::Runtime;

/// A rig's database.
#[derive(Debug)]
pub struct Documents {
    runtime: Runtime,
    database: Database,
}

impl Documents {
    /// The database named after the rig; made by the first who writes.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(uri: &str, name: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let client = runtime.block_on(Client::with_uri_str(uri))?;
        Ok(Self {
            runtime,
            database: client.database(name),
        })
    }

    fn readings(&self) -> Collection<Document> {
        self.database.collection("readings")
    }

    /// How many readings.
    ///
    /// # Errors
    /// MongoDB does not answer.
    pub fn count(&self) -> Result<u64> {
        self.runtime
            .block_on(async { Ok(self.readings().count_documents(doc! {}).await?) })
    }

    /// All documents of a collection, by `_id`.
    ///
    /// # Errors
    /// MongoDB does not answer.
    pub fn all(&self, collection: &str) -> Result<Vec<Document>> {
        let collection: Collection<Document> = self.database.collection(collection);
        self.runtime.block_on(async {
            let found = collection.find(doc! {}).sort(doc! { "_id": 1 }).await?;
            Ok(found.try_collect().await?)
        })
    }

    /// Runs a command of the server.
    ///
    /// # Errors
    /// MongoDB does not answer, or refuses it.
    pub fn command(&self, command: Document) -> Result<()> {
        let run = self.database.run_command(command);
        self.runtime.block_on(async { run.await })?;
        Ok(())
    }

    /// Runs an `insert` and gives the codes of the documents that the server refuses.
    ///
    /// # Errors
    /// MongoDB does not answer, or refuses the command.
    pub fn insert_errors(&self, insert: Document) -> Result<Vec<i32>> {
        let run = self.database.run_command(insert);
        let answer = self.runtime.block_on(async { run.await })?;
        let refused = answer.get_array("writeErrors").into_iter().flatten();
        let code = |error: &Bson| error.as_document()?.get_i32("code").ok();
        Ok(refused.filter_map(code).collect())
    }

    /// Runs a command of the server as its administrator does, on its database `admin`.
    ///
    /// # Errors
    /// MongoDB does not answer, or refuses it.
    pub fn administer(&self, command: Document) -> Result<()> {
        let admin = self.database.client().database("admin");
        let run = admin.run_command(command);
        self.runtime.block_on(async { run.await })?;
        Ok(())
    }

    /// All readings, by `_id`.
    ///
    /// # Errors
    /// MongoDB does not answer.
    pub fn readings_by_id(&self) -> Result<Vec<Document>> {
        self.all("readings")
    }

    /// The newest reading of a device.
    ///
    /// # Errors
    /// MongoDB does not answer.
    pub fn newest_of(&self, device: &str) -> Result<Option<Document>> {
        self.runtime.block_on(async {
            let readings = self.readings();
            let of_device = readings.find_one(doc! { "meta.device": device });
            Ok(of_device.sort(doc! { "ts": -1 }).await?)
        })
    }

    /// Deletes one document, as somebody with a shell would.
    ///
    /// # Errors
    /// MongoDB does not answer, or there is none.
    pub fn remove_one(&self, collection: &str, id: &str) -> Result<()> {
        let collection: Collection<Document> = self.database.collection(collection);
        let removed = self
            .runtime
            .block_on(async { collection.delete_one(doc! { "_id": id }).await })?;
        anyhow::ensure!(removed.deleted_count == 1, "there is no {id}");
        Ok(())
    }

    /// Removes everything.
    ///
    /// # Errors
    /// MongoDB does not answer.
    pub fn remove(&self) -> Result<()> {
        Ok(self.runtime.block_on(self.database.drop().into_future())?)
    }
}
