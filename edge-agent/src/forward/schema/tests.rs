//! The table of the module, against a registry that says what it is told to.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use protocol::{FieldName, schema::Kind};

use super::*;

/// A registry whose only answer is an id, or that it is busy.
struct Played {
    url: String,
    id: Arc<AtomicU32>,
    is_away: Arc<AtomicBool>,
}

impl Played {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let played = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            id: Arc::new(AtomicU32::new(7)),
            is_away: Arc::default(),
        };
        let (id, is_away) = (Arc::clone(&played.id), Arc::clone(&played.is_away));
        // Ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let away = is_away.load(Ordering::SeqCst);
                answer(stream.unwrap(), (!away).then(|| id.load(Ordering::SeqCst)));
            }
        });
        played
    }

    fn config(&self, value: &str) -> Config {
        let text = format!(
            "[agent]\ngateway = \"gw7\"\n[kafka]\nbootstrap = \"localhost:1\"\ntopic = \"readings\"\n\
             [registry]\nurl = \"{}\"\n[[topic]]\nname = \"readings\"\nvalue = \"{value}\"\n\
             fields = {{ voltage_v = \"double\" }}\n",
            self.url
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, text).unwrap();
        config::load(&file, config::Secrets::Read).unwrap()
    }
}

fn answer(stream: TcpStream, id: Option<u32>) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 {
            return;
        }
        if let Some(given) = line.to_lowercase().strip_prefix("content-length:") {
            length = given.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut sent = vec![0; length];
    reader.read_exact(&mut sent).unwrap();
    let (status, body) = match id {
        Some(id) => (
            200,
            format!("{{\"id\":{id},\"version\":1,\"schema\":\"{{}}\"}}"),
        ),
        None => (503, "away".to_owned()),
    };
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
}

fn topic() -> Topic {
    "readings".parse().unwrap()
}

fn begin(config: &Config, dir: &Path) -> (Schemas, Links, Stage) {
    let (schemas, links) = (Schemas::default(), Links::default());
    schemas.add(config, &topic());
    let stage = start(&schemas, config, dir, &links).unwrap().unwrap();
    (schemas, links, stage)
}

#[track_caller]
fn await_form(schemas: &Schemas, expected: &Form) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while schemas.form(&topic()).as_deref() != Some(expected) {
        assert!(Instant::now() < deadline, "{:?}", schemas.form(&topic()));
        thread::sleep(Duration::from_millis(10));
    }
}

fn avro(id: u32) -> Form {
    let field = (FieldName::new("voltage_v").unwrap(), Kind::Double);
    let declaration = Declaration::new([field]).unwrap();
    Form::Avro(SchemaId(id), AvroSchema::of(&declaration))
}

#[tokio::test]
async fn a_registry_that_is_away_at_the_first_start_holds_the_readings_until_it_answers() {
    let (registry, dir) = (Played::new(), tempfile::tempdir().unwrap());
    registry.is_away.store(true, Ordering::SeqCst);
    let (schemas, links, mut stage) = begin(&registry.config("avro"), dir.path());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !matches!(links.snapshot()[0].2, LinkState::Down(_)) {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(schemas.form(&topic()), None);
    registry.is_away.store(false, Ordering::SeqCst);
    await_form(&schemas, &avro(7));
    stage.stop(Instant::now());
    stage.ended().await.unwrap();
}

#[tokio::test]
async fn an_id_known_from_before_works_without_the_registry_and_is_put_right_when_it_is_back() {
    let (registry, dir) = (Played::new(), tempfile::tempdir().unwrap());
    let config = registry.config("avro");
    let (schemas, _, mut stage) = begin(&config, dir.path());
    await_form(&schemas, &avro(7));
    stage.stop(Instant::now());
    stage.ended().await.unwrap();

    registry.is_away.store(true, Ordering::SeqCst);
    let (schemas, links, mut stage) = begin(&config, dir.path());
    await_form(&schemas, &avro(7));
    let deadline = Instant::now() + Duration::from_secs(30);
    while links.snapshot()[0].2 != LinkState::Up {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(10));
    }
    // Another registry under the same name, as in a laboratory.
    registry.id.store(8, Ordering::SeqCst);
    registry.is_away.store(false, Ordering::SeqCst);
    await_form(&schemas, &avro(8));
    stage.stop(Instant::now());
    stage.ended().await.unwrap();

    // Another question is not answered by what was known.
    registry.is_away.store(true, Ordering::SeqCst);
    let (schemas, links, mut stage) = begin(&registry.config("json-schema"), dir.path());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !matches!(links.snapshot()[0].2, LinkState::Down(_)) {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(schemas.form(&topic()), None);
    stage.stop(Instant::now());
    stage.ended().await.unwrap();
}

#[test]
fn the_newest_schema_is_written_by_only_if_it_is_one_of_readings() {
    let registry = Played::new();
    let need = |value: &str| {
        let mut config = registry.config(value);
        config.schemas.use_latest = true;
        Need::of(&config, &topic()).unwrap()
    };
    let found = |language, text: &str| Registered {
        id: 3,
        version: Some(1),
        schema: Arc::new(Schema::new(language, text)),
    };
    let none = AvroSchema::of(&Declaration::default());
    let form = need("avro").form(&found(Language::Avro, none.text()));
    assert_eq!(form, Ok(Form::Avro(SchemaId(3), none)));
    let error = need("avro")
        .form(&found(Language::Avro, "\"string\""))
        .unwrap_err();
    assert!(error.starts_with("schema 3 of readings-value: "), "{error}");
    let form = need("json-schema").form(&found(Language::Json, "{}"));
    assert_eq!(form, Ok(Form::JsonSchema(SchemaId(3))));
    let error = need("json-schema")
        .form(&found(Language::Avro, "{}"))
        .unwrap_err();
    assert!(error.contains("AVRO, not JSON"), "{error}");
}

#[test]
fn plain_forms_need_no_registry() {
    let dir = tempfile::tempdir().unwrap();
    for (value, expected) in [("json", Form::Json), ("postcard", Form::Postcard)] {
        let config = Played::new().config(value);
        let schemas = Schemas::default();
        schemas.add(&config, &topic());
        assert_eq!(schemas.form(&topic()).as_deref(), Some(&expected));
        let stage = start(&schemas, &config, dir.path(), &Links::default()).unwrap();
        assert!(stage.is_none());
    }
}
