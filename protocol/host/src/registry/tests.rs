//! What is asked and how, against a server that says what it is told to.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    thread::JoinHandle,
};

use super::*;

/// Answers requests one after the other, each on a connection of its own; gives what was asked.
fn server(answers: Vec<(u16, &'static str)>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/sub/api/", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let serve = |(status, body): (u16, &str)| {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).unwrap();
            }
            let lower = head.to_lowercase();
            let length = lower.split("content-length: ").nth(1);
            let length: usize = length
                .and_then(|rest| rest.split("\r\n").next()?.parse().ok())
                .unwrap_or(0);
            let mut sent = vec![0; length];
            reader.read_exact(&mut sent).unwrap();
            let head_back = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            reader.get_mut().write_all(head_back.as_bytes()).unwrap();
            format!("{head}{}", String::from_utf8(sent).unwrap())
        };
        answers.into_iter().map(serve).collect()
    });
    (url, thread)
}

fn client(url: &str, pauses: &'static [Duration]) -> Registry {
    let login = Some(("KEY".to_owned(), "s:e/cret=".to_owned()));
    Registry::new(&Settings::new(url, login), pauses).unwrap()
}

#[test]
fn the_path_of_the_url_is_kept_and_the_key_is_sent() {
    let (url, asked) = server(vec![
        (200, r#"{"schema":"\"string\""}"#),
        (200, r#"{"id":5}"#),
    ]);
    let registry = client(&url, ONCE);
    let schema = registry.schema(7).unwrap();
    assert_eq!(*schema, Schema::new(Language::Avro, "\"string\""));
    // Asked for once.
    assert_eq!(registry.schema(7).unwrap(), schema);
    let json = Schema::new(Language::Json, "{}");
    assert_eq!(registry.register("t/ä-value", &json, true), Ok(5));
    let asked = asked.join().unwrap();
    assert!(
        asked[0].starts_with("GET /sub/api/schemas/ids/7 HTTP/1.1"),
        "{}",
        asked[0]
    );
    let key = BASE64_STANDARD.encode("KEY:s:e/cret=");
    for request in &asked {
        assert!(request.contains(&format!("Basic {key}")), "{request}");
    }
    let line = "POST /sub/api/subjects/t%2F%C3%A4-value/versions?normalize=true HTTP/1.1";
    assert!(asked[1].starts_with(line), "{}", asked[1]);
    let body = asked[1].split("\r\n\r\n").nth(1).unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body, json!({ "schema": "{}", "schemaType": "JSON" }));
    assert!(!format!("{registry:?}").contains("cret"), "{registry:?}");
}

#[test]
fn what_a_schema_refers_to_comes_before_it() {
    let (url, asked) = server(vec![
        (
            200,
            r#"{"schema":"a","references":[{"name":"b","subject":"b","version":2}]}"#,
        ),
        (
            200,
            r#"{"schema":"b","id":2,"version":2,"references":[{"name":"c","subject":"c","version":1}]}"#,
        ),
        (200, r#"{"schema":"c","id":3,"version":1}"#),
    ]);
    let schema = client(&url, ONCE).schema(1).unwrap();
    assert_eq!(
        (schema.text.as_str(), &schema.references[..]),
        ("a", &["c".to_owned(), "b".into()][..])
    );
    let asked = asked.join().unwrap();
    assert!(
        asked[2].starts_with("GET /sub/api/subjects/c/versions/1 "),
        "{}",
        asked[2]
    );
}

#[test]
fn only_what_waiting_may_help_is_tried_again() {
    const QUICK: &[Duration] = &[Duration::from_millis(1), Duration::from_millis(1)];
    let (url, asked) = server(vec![
        (503, "busy"),
        (200, r#"{"is_compatible":false,"messages":["because"]}"#),
        (401, ""),
    ]);
    let registry = client(&url, QUICK);
    let schema = Schema::new(Language::Avro, "{}");
    let verdict = registry.judge("t", &schema);
    assert_eq!(verdict, Ok(Verdict::Incompatible("because".into())));
    let error = registry.latest("t").unwrap_err();
    assert!(matches!(error, Error::Unauthorised { .. }), "{error}");
    assert_eq!(asked.join().unwrap().len(), 3);
    assert!(!error.to_string().contains("cret"));
}

#[test]
fn nobody_there_is_told_as_such() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = client(&format!("http://{free}"), ONCE)
        .level("t")
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("schema registry http://127.0.0.1:"),
        "{error}"
    );
}

#[test]
fn a_file_of_certificates_that_cannot_be_used_is_named_with_its_setting() {
    let dir = tempfile::tempdir().unwrap();
    let (nothing, empty) = (dir.path().join("nothing.pem"), dir.path().join("empty.pem"));
    std::fs::write(&empty, "no certificate\n").unwrap();
    let plain = Settings::new("https://h", None);
    let both = |certificate: &std::path::Path, key: &std::path::Path| Settings {
        certificate: Some(certificate.to_owned()),
        key: Some(key.to_owned()),
        ..plain.clone()
    };
    for (settings, expected) in [
        (
            Settings {
                ca: Some(nothing.clone()),
                ..plain.clone()
            },
            format!("registry.ca {} cannot be read: ", nothing.display()),
        ),
        (
            Settings {
                ca: Some(empty.clone()),
                ..plain.clone()
            },
            format!("registry.ca {} holds no certificate", empty.display()),
        ),
        (
            both(&empty, &empty),
            format!("registry.certificate {} holds no", empty.display()),
        ),
    ] {
        let error = Registry::new(&settings, ONCE).unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{error}");
    }
}
