//! One line of values in the order of configured columns.
//!
//! Where `;` separates, `21,5` is the number 21.5: that is how spreadsheets of half of Europe write it.

use super::{DecodeError, Decoded, Members, Scalar};
use crate::config::Roles;

/// Reads one line. A column without a name is skipped, an empty value says nothing.
///
/// # Errors
/// [`DecodeError::Columns`] unless there are exactly as many values as columns: a line that lost its
/// beginning must not give its values to the wrong names.
pub fn decode(
    line: &[u8],
    separator: u8,
    columns: &[String],
    roles: &Roles,
) -> Result<Decoded, DecodeError> {
    let record = record(line, separator)?;
    if record.len() != columns.len() {
        return Err(DecodeError::Columns {
            got: record.len(),
            expected: columns.len(),
        });
    }
    let mut members = Members::new(roles);
    for (column, value) in columns.iter().zip(&record) {
        if !column.is_empty() {
            match (separator == b';').then(|| with_point(value)).flatten() {
                Some(number) => members.put(column, Scalar::Number(&number))?,
                None => members.put(column, Scalar::bare(value))?,
            }
        }
    }
    Ok(members.finish())
}

/// The names in the first line of a table.
///
/// # Errors
/// [`DecodeError::NotUtf8`].
pub(crate) fn names(line: &[u8], separator: u8) -> Result<Vec<String>, DecodeError> {
    let record = record(line, separator)?;
    Ok(record.iter().map(Into::into).collect())
}

/// Whether a line gives the names of the columns again. A column without a name may be called anything.
pub(crate) fn is_header(line: &[u8], separator: u8, columns: &[String]) -> bool {
    let first = columns.iter().find(|name| !name.is_empty());
    // Nearly every line is not, and shows it at once.
    let text = line.trim_ascii_start();
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let may =
        columns.first() != first || first.is_some_and(|name| text.starts_with(name.as_bytes()));
    may && first.is_some()
        && record(line, separator).is_ok_and(|record| {
            let same = |(name, said): (&String, &str)| name.is_empty() || name == said;
            record.len() == columns.len() && columns.iter().zip(&record).all(same)
        })
}

/// A decimal comma as a point; `None` for anything else.
fn with_point(value: &str) -> Option<String> {
    let (whole, fraction) = value.split_once(',')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits(whole.strip_prefix(['-', '+']).unwrap_or(whole)) && digits(fraction);
    number.then(|| format!("{whole}.{fraction}"))
}

/// Only quotes need the grammar of RFC 4180, whose automaton costs more to build for a line than ten lines to
/// split.
fn record(line: &[u8], separator: u8) -> Result<::csv::StringRecord, DecodeError> {
    match plain(line, separator) {
        Some(record) => Ok(record),
        None => parsed(line, separator),
    }
}

/// A line without quotes; `None` for any other, and for what is no line of text.
fn plain(line: &[u8], separator: u8) -> Option<::csv::StringRecord> {
    let line = str::from_utf8(line).ok()?.trim_end_matches(['\r', '\n']);
    let is_plain = !line.is_empty()
        && !line.starts_with('\u{feff}')
        && !line.contains(['"', '\r', '\n'])
        && separator.is_ascii();
    is_plain.then(|| line.split(char::from(separator)).map(str::trim).collect())
}

fn parsed(line: &[u8], separator: u8) -> Result<::csv::StringRecord, DecodeError> {
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(separator)
        .flexible(true)
        .trim(::csv::Trim::All)
        .buffer_capacity(line.len().clamp(64, 4096))
        .from_reader(line);
    let mut record = ::csv::StringRecord::new();
    reader
        .read_record(&mut record)
        .map_err(|error| match error.into_kind() {
            ::csv::ErrorKind::Utf8 { err, .. } => DecodeError::NotUtf8(err.valid_up_to()),
            _ => DecodeError::NotUtf8(0),
        })?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_line_without_quotes_is_split_as_the_grammar_would(
            line in "\u{feff}?[-a1,; \t\u{a0}é\r\n\"]{0,12}[\r\n]{0,2}",
            separator in prop::sample::select(&b",; \t|"[..]),
        ) {
            if let Some(split) = plain(line.as_bytes(), separator) {
                prop_assert_eq!(split, parsed(line.as_bytes(), separator).unwrap());
            }
        }
    }
}
