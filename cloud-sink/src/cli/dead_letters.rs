//! `cloud-sink dead-letters`: what could not become a document, and sending it back once the cause is
//! repaired.
//!
//! A letter is named by its place: `PARTITION:OFFSET` in the dead-letter topic, or
//! `dead_letter:TOPIC:PARTITION:OFFSET` where it was too large for it and lies in `incidents`.

mod letter;

use std::{collections::HashSet, ops::ControlFlow};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use indicatif::ProgressBar;

use self::letter::Letter;
use super::{Ended, File, plural, refuse, tell_of_kafka};
use crate::{
    config::{Config, Secrets},
    dead_letter::{Buried, Grave, LastDeaths, MAX_REPLAYS, Replay},
    kafka::{ConsumerError, Producer, Settings, answers, scan},
    message::Message,
    run::{kafka_settings, open_store},
    store::Store,
};

/// Begin of the names of those in `incidents`.
const KEPT: &str = "dead_letter:";

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// One line for each
    List {
        /// Which.
        #[command(flatten)]
        choice: Choice,
        /// Form of the output
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Whole records, with headers and value
    Show {
        /// The place, as list says it; without it, all that are chosen
        id: Option<String>,
        /// Which.
        #[command(flatten)]
        choice: Choice,
        /// Form of the output
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Send records back to where they died, after the cause was repaired; again is harmless
    Replay {
        /// The place, as list says it; without it, all that are chosen
        id: Option<String>,
        /// Which.
        #[command(flatten)]
        choice: Choice,
        /// Only say what would be sent
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which dead letters.
#[derive(Debug, Args)]
pub struct Choice {
    /// Where the configuration is.
    #[command(flatten)]
    file: File,
    /// Only those that died of this, such as decode_failed
    #[arg(long)]
    reason: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl DeadLetters {
    /// Does it.
    ///
    /// # Errors
    /// What made it impossible.
    pub async fn execute(self) -> Ended {
        let (Self::List { choice, .. } | Self::Show { choice, .. } | Self::Replay { choice, .. }) =
            &self;
        let config = match choice.file.load(Secrets::Read) {
            Ok(config) => config,
            Err(problems) => return Ok(refuse(&problems)),
        };
        let graveyard = Graveyard::open(&config).await?;
        let ended = match self {
            Self::List { choice, format } => graveyard.list(&choice, format).await,
            Self::Show { id, choice, format } => graveyard.show(id, &choice, format).await,
            Self::Replay {
                id,
                choice,
                dry_run,
            } => graveyard.replay(id, &choice, dry_run).await,
        };
        ended.or_else(|error| tell_of_kafka(error, &config))
    }
}

/// Both places where dead letters are.
struct Graveyard {
    settings: Settings,
    store: Store,
}

impl Graveyard {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            settings: kafka_settings(config),
            store: open_store(config).await?,
        })
    }

    /// Those of the topic that are chosen.
    async fn in_topic(
        &self,
        mut chosen: impl FnMut(&Message, &Buried) -> ControlFlow<(), bool> + Send + 'static,
    ) -> anyhow::Result<Vec<Letter>> {
        let settings = self.settings.clone();
        let scan = tokio::task::spawn_blocking(move || {
            let mut letters = Vec::new();
            scan(&settings, &settings.dead_letter_topic, None, |message| {
                // What no sink wrote has no place to go back to.
                let Some(buried) = Buried::read(&message) else {
                    return ControlFlow::Continue(());
                };
                if chosen(&message, &buried)? {
                    let id = id_of(&message);
                    letters.push(Letter {
                        id,
                        message,
                        buried,
                    });
                }
                ControlFlow::Continue(())
            })?;
            Ok::<_, ConsumerError>(letters)
        });
        Ok(scan.await??)
    }

    /// Those of MongoDB, without their values.
    async fn in_incidents(&self, choice: &Choice) -> anyhow::Result<Vec<Letter>> {
        let kept = self.store.kept_dead_letters(choice.limit).await;
        let kept = kept.context("dead letters in mongodb")?;
        let letters = kept.into_iter().filter_map(|(id, message)| {
            let buried = Buried::read(&message)?;
            takes(choice.reason.as_deref(), &buried).then_some(Letter {
                id,
                message,
                buried,
            })
        });
        Ok(letters.collect())
    }

    /// Those that are chosen: of the topic, then of MongoDB.
    async fn chosen(
        &self,
        choice: &Choice,
        only: Option<HashSet<Grave>>,
    ) -> anyhow::Result<Vec<Letter>> {
        let (reason, limit) = (choice.reason.clone(), choice.limit);
        let mut count = 0;
        let mut letters = self
            .in_topic(move |message, buried| {
                if count >= limit {
                    return ControlFlow::Break(());
                }
                let takes = takes(reason.as_deref(), buried)
                    && only
                        .as_ref()
                        .is_none_or(|only| only.contains(&grave(message)));
                count += usize::from(takes);
                ControlFlow::Continue(takes)
            })
            .await?;
        let room = choice.limit.saturating_sub(letters.len());
        letters.extend(self.in_incidents(choice).await?.into_iter().take(room));
        Ok(letters)
    }

    async fn one(&self, id: &str) -> anyhow::Result<Letter> {
        if id.starts_with(KEPT) {
            return self.kept(id).await;
        }
        let (wanted, mut found) = (id.to_owned(), false);
        let letters = self.in_topic(move |message, _| {
            if found {
                return ControlFlow::Break(());
            }
            found = id_of(message) == wanted;
            ControlFlow::Continue(found)
        });
        let mut letters = letters.await?;
        letters
            .pop()
            .with_context(|| format!("there is no dead letter {id}"))
    }

    async fn kept(&self, key: &str) -> anyhow::Result<Letter> {
        let kept = self.store.kept_dead_letter(key).await?;
        let message = kept.with_context(|| format!("there is no dead letter {key}"))?;
        let buried = Buried::read(&message).context("not a dead letter of this sink")?;
        Ok(Letter {
            id: key.to_owned(),
            message,
            buried,
        })
    }

    #[expect(clippy::print_stdout, reason = "a command line prints its answer")]
    async fn list(&self, choice: &Choice, format: OutputFormat) -> Ended {
        let letters = self.chosen(choice, None).await?;
        for letter in &letters {
            match format {
                OutputFormat::Text => println!("{}", letter.line()),
                OutputFormat::Json => println!("{}", letter.json()),
            }
        }
        if format == OutputFormat::Text {
            println!("{} dead letter{}", letters.len(), plural(letters.len()));
        }
        Ok(0)
    }

    #[expect(clippy::print_stdout, reason = "a command line prints its answer")]
    async fn show(&self, id: Option<String>, choice: &Choice, format: OutputFormat) -> Ended {
        let letters = match &id {
            Some(id) => vec![self.one(id).await?],
            None => self.chosen(choice, None).await?,
        };
        for mut letter in letters {
            if letter.message.value().is_none() && letter.id.starts_with(KEPT) {
                letter = self.kept(&letter.id).await?;
            }
            match format {
                OutputFormat::Text => println!("{}", letter.whole_text()),
                OutputFormat::Json => println!("{}", letter.whole_json()),
            }
        }
        Ok(0)
    }

    #[expect(clippy::print_stdout, reason = "a command line prints its answer")]
    async fn replay(&self, id: Option<String>, choice: &Choice, dry_run: bool) -> Ended {
        // A letter of MongoDB is found without Kafka, and a producer says only that its time was over.
        let settings = self.settings.clone();
        tokio::task::spawn_blocking(move || answers(&settings)).await??;
        let letters = match &id {
            Some(id) => vec![self.one(id).await?],
            None => self.chosen(choice, Some(self.last_deaths().await?)).await?,
        };
        let producer = Producer::new(&self.settings)?;
        let (mut sent, mut spent) = (0, 0);
        let bar = ProgressBar::new(letters.len() as u64);
        for mut letter in letters {
            bar.inc(1);
            if letter.message.value().is_none() && letter.id.starts_with(KEPT) {
                letter = self.kept(&letter.id).await?;
            }
            let Some(replay) = Replay::of(letter.message, &letter.buried) else {
                spent += 1;
                let id = &letter.id;
                bar.suspend(|| println!("{id}  not sent: came back {MAX_REPLAYS} times already"));
                continue;
            };
            if !dry_run && let Err(error) = producer.replay(&replay).await {
                bar.finish_and_clear();
                println!("{}  not sent, {sent} before it were", letter.id);
                return Err(error.into());
            }
            sent += 1;
        }
        bar.finish_and_clear();
        let done = if dry_run {
            "would be sent"
        } else {
            "sent back"
        };
        println!("{sent} dead letter{} {done}", plural(sent));
        Ok(u8::from(spent > 0))
    }

    /// Where each record of the topic died last: one that died again is not to be sent twice.
    async fn last_deaths(&self) -> anyhow::Result<HashSet<Grave>> {
        let settings = self.settings.clone();
        let scan = tokio::task::spawn_blocking(move || {
            let (mut deaths, mut too_many) = (LastDeaths::default(), false);
            scan(&settings, &settings.dead_letter_topic, None, |message| {
                let buried = Buried::read(&message);
                too_many = buried.is_some_and(|buried| !deaths.note(grave(&message), &buried));
                if too_many {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
            Ok::<_, ConsumerError>((deaths.last(), too_many))
        });
        let (last, too_many) = scan.await??;
        anyhow::ensure!(
            !too_many,
            "more than {} dead letters: send them singly, by their place",
            LastDeaths::MAX
        );
        Ok(last)
    }
}

fn grave(message: &Message) -> Grave {
    (message.at.partition.number, message.at.offset)
}

fn id_of(message: &Message) -> String {
    let (partition, offset) = grave(message);
    format!("{partition}:{offset}")
}

fn takes(reason: Option<&str>, buried: &Buried) -> bool {
    reason.is_none_or(|reason| reason == buried.reason)
}
