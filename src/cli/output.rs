//! How commands print: tables for people, YAML and JSON for programs.

use std::io::Write;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

/// In which form a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns.
    #[default]
    Table,
    /// Columns, with the versions of Kubernetes and every message, also of what is ready.
    Wide,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// The same for a command that has no further columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Columns.
    #[default]
    Table,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// Why nothing was printed.
#[derive(thiserror::Error, Debug)]
pub enum OutputError {
    /// It could not be put into JSON.
    #[error("write JSON")]
    Json(#[source] serde_json::Error),
    /// It could not be put into YAML.
    #[error("write YAML")]
    Yaml(#[source] serde_saphyr::ser_error::Error),
    /// It could not be written.
    #[error("write to standard output")]
    Write(#[source] std::io::Error),
}

/// Prints text; a reader that has seen enough is no error.
pub fn print(text: &str) -> Result<(), OutputError> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(OutputError::Write),
    }
}

/// A value as JSON, for people to read as well.
pub fn json<T: Serialize>(value: &T) -> Result<String, OutputError> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(OutputError::Json)
}

/// A value as one YAML document.
pub fn yaml<T: Serialize>(value: &T) -> Result<String, OutputError> {
    let value = serde_json::to_value(value).map_err(OutputError::Json)?;
    let text = serde_saphyr::to_string(&value).map_err(OutputError::Yaml)?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

/// Values as a stream of YAML documents.
pub fn yaml_stream<T: Serialize>(values: impl IntoIterator<Item = T>) -> Result<String, OutputError> {
    let mut text = String::new();
    for value in values {
        text.push_str("---\n");
        text.push_str(&yaml(&value)?);
    }
    Ok(text)
}

/// Columns, as kubectl prints them.
#[must_use]
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let mut text: String = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    if text.is_empty() {
        text.push('\n');
    }
    text
}

/// Objects by kind and name.
#[must_use]
pub fn render_list(objects: &[Value]) -> String {
    let text = |object: &Value, pointer: &str| or_dash(object.pointer(pointer).and_then(Value::as_str));
    let rows = objects
        .iter()
        .map(|object| [text(object, "/kind"), text(object, "/metadata/namespace"), text(object, "/metadata/name")]);
    table(["KIND", "NAMESPACE", "NAME"], rows)
}

/// A text, or a dash.
#[must_use]
pub fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "1"], ["longer", "2"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(["NAME", "N"], rows), "NAME     N\na        1\nlonger   2\n");
    }

    #[test]
    fn strings_that_look_like_something_else_stay_strings() {
        let value =
            serde_json::json!({"a": "yes", "b": "1", "c": "null", "d": "1e3", "e": "a: b", "f": "- x", "g": "x\ny\n"});
        let back: serde_json::Value = serde_saphyr::from_str(&yaml(&value).unwrap()).unwrap();
        assert_eq!(back, value);
    }
}
