//! The status page of a daemon: one HTML document that needs nothing from outside.
//!
//! Style, layout and the words of links and incidents are here, so that both daemons look alike; what a
//! daemon counts is its own: a body and a script with a function `show(status)` that is given
//! `/status.json` every two seconds.
//!
//! # What keeps it harmless
//! Names of devices, details of errors and texts come from outside. They reach the browser only as JSON and
//! are only ever written with `textContent`. Behind that stands the [policy](Page::policy): nothing may be
//! loaded, framed or submitted, and of scripts and styles only the two that are in the document may run, told
//! by their hashes.
//!
//! The hashes are constants: a daemon that hashes at its start would carry a hash function for that alone. A
//! test of the end-to-end suite compares them with what is served and says what they have to be.

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const STYLE_SHA256: &str = "ZDGjDPO4WjFq3z6kx8vbyLIe/S2b4Fq81mDTTG6PkFE=";

/// A daemon's own part.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// The title until the first status is there.
    pub title: &'static str,
    /// Elements of `main`, which the script fills.
    pub body: &'static str,
    /// Defines `show(status)`.
    pub script: &'static str,
    /// SHA-256 in base64 of the whole script, the common part first.
    pub script_sha256: &'static str,
}

/// A page, ready to be served.
#[derive(Debug, Clone)]
pub struct Page {
    /// The document.
    pub html: String,
    /// The value of `Content-Security-Policy`.
    pub policy: String,
}

impl Page {
    /// Puts it together.
    #[must_use]
    pub fn new(parts: &Parts) -> Self {
        let Parts {
            title,
            body,
            script,
            script_sha256,
        } = parts;
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
             <style>{STYLE}</style>\n<script>{SCRIPT}{script}</script>\n</head>\n<body>\n\
             <header><h1 id=\"name\">{title}</h1><span id=\"ready\" class=\"badge warn\" role=\"status\">waiting</span>\
             <p id=\"version\"></p></header>\n\
             <p id=\"stale\" role=\"alert\" hidden></p>\n\
             <noscript><p>This page needs a script. The same as JSON: <a href=\"status.json\">status.json</a></p></noscript>\n\
             <main>\n{body}</main>\n\
             <footer><a href=\"status.json\">status.json</a> · <a href=\"metrics\">metrics</a> · \
             <a href=\"readyz\">readyz</a></footer>\n</body>\n</html>\n"
        );
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{script_sha256}'; style-src 'sha256-{STYLE_SHA256}'; \
             img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        Self { html, policy }
    }

    /// Headers to serve it with, besides the content type.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, &str); 4] {
        [
            ("content-security-policy", &self.policy),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Of WCAG 2: from 1, the same, to 21, black on white.
    fn contrast(one: &str, other: &str) -> f64 {
        let luminance = |colour: &str| {
            let hex = colour.trim_start_matches('#');
            let full: String = match hex.len() {
                3 => hex.chars().flat_map(|digit| [digit, digit]).collect(),
                _ => hex.to_owned(),
            };
            let part = |at: usize| {
                let value = f64::from(u8::from_str_radix(&full[at..at + 2], 16).unwrap()) / 255.0;
                if value <= 0.04045 {
                    value / 12.92
                } else {
                    ((value + 0.055) / 1.055).powf(2.4)
                }
            };
            0.2126 * part(0) + 0.7152 * part(2) + 0.0722 * part(4)
        };
        let (a, b) = (luminance(one), luminance(other));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn every_text_can_be_read_in_both_colour_schemes() {
        let mut blocks = STYLE.split(":root {").skip(1);
        for scheme in ["light", "dark"] {
            let block = blocks.next().unwrap().split('}').next().unwrap();
            let colours: BTreeMap<&str, &str> = block
                .split(';')
                .filter_map(|line| line.trim().strip_prefix("--")?.split_once(": "))
                .collect();
            for ink in ["ink", "soft", "good", "warn", "bad", "accent"] {
                for ground in ["ground", "card"] {
                    let contrast = contrast(colours[ink], colours[ground]);
                    assert!(
                        contrast >= 4.5,
                        "{scheme}: {ink} on {ground} is {contrast:.1}"
                    );
                }
            }
        }
    }
}
