//! `sasl.jaas.config`: Java's login, such as
//! `org.apache.kafka.common.security.plain.PlainLoginModule required username='KEY' password='SECRET';`
//!
//! The grammar is that of Java's `StreamTokenizer` as Kafka uses it, without escapes, which the
//! properties file does not let through. No library reads it outside of Java.

use super::super::document::Mistake;

const EXAMPLE: &str = "write sasl.username=… and sasl.password=… instead of the line";

/// Who logs in.
#[derive(PartialEq)]
pub struct Login {
    username: String,
    password: String,
}

impl Login {
    /// As librdkafka's settings.
    pub fn settings(self) -> [(&'static str, String); 2] {
        [
            ("sasl.username", self.username),
            ("sasl.password", self.password),
        ]
    }
}

/// Reads the login. Nothing of the text is repeated in a mistake.
pub fn read(text: &str) -> Result<Login, Mistake> {
    let Some(text) = text.trim_end().strip_suffix(';') else {
        return Err(Mistake::fix("does not end in ;", EXAMPLE));
    };
    let mut words = text.trim_start().splitn(3, char::is_whitespace);
    let class = words.next().unwrap_or_default();
    understood(class)?;
    let flag = words.next().unwrap_or_default();
    if !["required", "requisite", "sufficient", "optional"].contains(&flag) {
        return Err(Mistake::fix("has no \"required\" after the class", EXAMPLE));
    }
    let mut rest = words.next().unwrap_or_default().trim_start();
    let (mut username, mut password) = (None, None);
    while !rest.is_empty() {
        let (name, value, left) = option(rest)?;
        let place = match name {
            "username" => &mut username,
            "password" => &mut password,
            // Its name is not repeated: it may be what follows a quotation mark within a secret.
            _ => {
                let message = "has an option beside username and password";
                return Err(Mistake::fix(message, EXAMPLE));
            }
        };
        if place.replace(value.to_owned()).is_some() {
            return Err(Mistake::new(format!("has the option {name} twice")));
        }
        rest = left.trim_start();
    }
    match (username, password) {
        (Some(username), Some(password)) => Ok(Login { username, password }),
        (None, _) => Err(Mistake::fix("has no username", EXAMPLE)),
        (_, None) => Err(Mistake::fix("has no password", EXAMPLE)),
    }
}

fn understood(class: &str) -> Result<(), Mistake> {
    // Programs that carry Kafka's classes with them give them longer names.
    match class.rsplit('.').next() {
        Some("PlainLoginModule" | "ScramLoginModule") => Ok(()),
        Some("OAuthBearerLoginModule") => Err(Mistake::fix(
            "logs in with OAuth",
            "write sasl.oauthbearer.method=oidc, sasl.oauthbearer.client.id=…, sasl.oauthbearer.client.secret=… and sasl.oauthbearer.token.endpoint.url=… instead of the line",
        )),
        _ => Err(Mistake::fix(
            "names a login that is neither PlainLoginModule nor ScramLoginModule",
            EXAMPLE,
        )),
    }
}

/// `name="value"`, `name='value'` or `name=value`, and what follows.
fn option(text: &str) -> Result<(&str, &str, &str), Mistake> {
    let named = text.split_once('=').map(|(name, rest)| (name.trim(), rest));
    let Some((name, rest)) = named.filter(|(name, _)| is_name(name)) else {
        let message = "has something in it that is not of the form name='value'";
        return Err(Mistake::fix(message, EXAMPLE));
    };
    let rest = rest.trim_start();
    if let Some(quote) = rest
        .chars()
        .next()
        .filter(|first| ['"', '\''].contains(first))
    {
        let Some((value, left)) = rest[1..].split_once(quote) else {
            let message = format!("has a {name} whose quotation mark does not close");
            return Err(Mistake::fix(message, EXAMPLE));
        };
        return Ok((name, value, left));
    }
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (value, left) = rest.split_at(end);
    Ok((name, value, left))
}

/// Whether it may be repeated: a secret in a place where no name was expected is not.
fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || ['_', '.', '-'].contains(&c);
    !name.is_empty() && name.len() <= 64 && name.chars().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_read_whatever_the_quotation_marks() {
        const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
        for options in [
            "username='KEY' password='a/b+c=='",
            "username=\"KEY\" password=\"a/b+c==\"",
            "  password='a/b+c=='   username=\"KEY\"  ",
            "username=KEY password=a/b+c==",
        ] {
            let login = read(&format!("{PLAIN} required {options};"));
            let login = login.unwrap_or_else(|mistake| panic!("{options}: {mistake:?}"));
            assert!(login.username == "KEY" && login.password == "a/b+c==");
        }
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"it's\" password=\"; and = 'x\";";
        let login = read(scram).unwrap_or_else(|mistake| panic!("{mistake:?}"));
        assert!(login.username == "it's" && login.password == "; and = 'x");
    }

    #[test]
    fn what_is_no_login_is_told_without_the_secret() {
        for (text, expected) in [
            ("", "does not end in ;"),
            (
                "PlainLoginModule required username='K' password='hunter2'",
                "does not end in ;",
            ),
            (
                "PlainLoginModule username='K' password='hunter2';",
                "after the class",
            ),
            ("PlainLoginModule required username='K';", "has no password"),
            (
                "PlainLoginModule required password='hunter2';",
                "has no username",
            ),
            (
                "PlainLoginModule required username='K' password='hunter2;",
                "does not close",
            ),
            (
                "PlainLoginModule required username='K' 'hunter2';",
                "not of the form",
            ),
            (
                "PlainLoginModule required password=\"a b\" hunter2=='x' username='K';",
                "an option beside",
            ),
            (
                "ScramLoginModule required username='K' password='hunter2' tokenauth='true';",
                "an option beside",
            ),
            (
                "ScramLoginModule required password='hunter2' password='hunter2';",
                "twice",
            ),
            (
                "com.sun.security.auth.module.Krb5LoginModule required;",
                "neither PlainLoginModule",
            ),
            (
                "OAuthBearerLoginModule required clientSecret='hunter2';",
                "logs in with OAuth",
            ),
        ] {
            let mistake = match read(text) {
                Ok(_) => panic!("accepted: {text}"),
                Err(mistake) => format!("{mistake:?}"),
            };
            assert!(mistake.contains(expected), "{text}: {mistake}");
            assert!(!mistake.contains("hunter2"), "{mistake}");
        }
    }
}
