//! One line of values in the order of configured columns.

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
    if record.len() != columns.len() {
        return Err(DecodeError::Columns {
            got: record.len(),
            expected: columns.len(),
        });
    }
    let mut members = Members::new(roles);
    for (column, value) in columns.iter().zip(&record) {
        if !column.is_empty() {
            members.put(column, Scalar::bare(value))?;
        }
    }
    Ok(members.finish())
}
