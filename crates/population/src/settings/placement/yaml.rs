//! Values in YAML, of which JSON is a part, with every key known.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

use super::MOST_SHOWN;
use crate::text;

/// So much of what the parser says is shown, in bytes.
const MOST_SENTENCE: usize = 256;

/// Reads a value. A key that its type lacks, or that has no value, is refused: the types of the API ignore both, and
/// what was meant would be lost. `form` says what the value should look like.
///
/// # Errors
/// Where the text is wrong, and what to do about it.
pub(super) fn parse<T: DeserializeOwned + Serialize>(text: &str, form: &str) -> Result<T, String> {
    let typed: T = read(text, form)?;
    let given: Value = read(text, form)?;
    let understood = serde_json::to_value(&typed).map_err(|error| error.to_string())?;
    match fault(&given, &understood) {
        None => Ok(typed),
        Some((path, Fault::Unknown)) => {
            Err(format!("{path} is unknown; correct its name, or remove it"))
        }
        Some((path, Fault::Empty)) => Err(format!("{path} has no value; give one, or remove it")),
    }
}

/// The path of a field, as messages show it.
pub(super) fn shown(path: &str) -> String {
    let path = path.strip_prefix('.').unwrap_or(path);
    text::plain(if path.is_empty() { "it" } else { path }, MOST_SHOWN * 4)
}

enum Fault {
    Unknown,
    Empty,
}

fn read<T: DeserializeOwned>(text: &str, form: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let said = error.render_with_formatter(&UserMessageFormatter);
        let said = text::plain(&said, MOST_SENTENCE);
        let found = error.location().and_then(|at| {
            let line = text
                .lines()
                .nth(usize::try_from(at.line()).ok()?.checked_sub(1)?)?;
            let before = usize::try_from(at.column()).ok()?.checked_sub(1)?;
            let (start, _) = line.char_indices().nth(before)?;
            Some(format!(
                ", where {:?} is",
                text::plain(&line[start..], MOST_SHOWN)
            ))
        });
        format!("{said}{}; give {form}", found.unwrap_or_default())
    })
}

/// The first key that was not understood, or that has no value.
fn fault(given: &Value, understood: &Value) -> Option<(String, Fault)> {
    fn find(given: &Value, understood: Option<&Value>, path: &str) -> Option<(String, Fault)> {
        match (given, understood) {
            (Value::Null, _) => Some((shown(path), Fault::Empty)),
            (_, None) => Some((shown(path), Fault::Unknown)),
            (Value::Object(given), Some(Value::Object(understood))) => {
                given.iter().find_map(|(key, value)| {
                    find(value, understood.get(key), &format!("{path}.{key}"))
                })
            }
            (Value::Array(given), Some(Value::Array(understood))) => {
                let pairs = given.iter().zip(understood).enumerate();
                let mut faults = pairs.map(|(index, (one, other))| {
                    find(one, Some(other), &format!("{path}[{index}]"))
                });
                faults.find_map(|found| found)
            }
            _ => None,
        }
    }
    find(given, Some(understood), "")
}
