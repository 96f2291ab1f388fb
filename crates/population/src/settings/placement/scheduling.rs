//! Tolerations and affinity, as the API server would accept them in a pod.

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use serde_json::Value;

use super::{MOST_SHOWN, keys, yaml::shown};
use crate::text;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
/// Of tolerations.
const OPERATORS: [&str; 2] = ["Equal", "Exists"];
/// Of requirements on the labels of pods; on those of nodes also the next two.
const LABEL_OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];
const NUMBER_OPERATORS: [&str; 2] = ["Gt", "Lt"];
/// A weight, of a preference.
const WEIGHTS: std::ops::RangeInclusive<i64> = 1..=100;

pub(super) fn check_tolerations(tolerations: &[Toleration]) -> Result<(), String> {
    for (index, one) in tolerations.iter().enumerate() {
        let of = |field: &Option<String>| field.clone().unwrap_or_default();
        let (key, value) = (of(&one.key), of(&one.value));
        let (operator, effect) = (of(&one.operator), of(&one.effect));
        check_word(&format!("[{index}].operator"), &operator, &OPERATORS)?;
        check_word(&format!("[{index}].effect"), &effect, &EFFECTS)?;
        let exists = operator == "Exists";
        if key.is_empty() && !exists {
            return Err(format!(
                "[{index}] has no key; give one, or the operator \"Exists\" to tolerate every taint"
            ));
        }
        if exists && !value.is_empty() {
            return Err(format!(
                "[{index}] has the operator \"Exists\" and a value; remove one of them"
            ));
        }
        if one.toleration_seconds.is_some() && effect != "NoExecute" {
            return Err(format!(
                "[{index}].tolerationSeconds is for the effect \"NoExecute\" alone; remove it, or give that effect"
            ));
        }
        let checked = if key.is_empty() {
            Ok(())
        } else {
            keys::check_key(&key).map_err(|why| format!(".key {why}"))
        };
        let checked =
            checked.and_then(|()| keys::check_value(&value).map_err(|why| format!(".value {why}")));
        checked.map_err(|why| format!("[{index}]{why}"))?;
    }
    Ok(())
}

pub(super) fn check_affinity(affinity: &Affinity) -> Result<(), String> {
    let value = serde_json::to_value(affinity).map_err(|error| error.to_string())?;
    check_part(&value, "", false)
}

/// Checks a part of an affinity with all that is in it. `of_nodes` says that its requirements are on nodes.
fn check_part(part: &Value, path: &str, of_nodes: bool) -> Result<(), String> {
    match part {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                check_part(item, &format!("{path}[{index}]"), of_nodes)?;
            }
        }
        Value::Object(fields) => {
            if fields.contains_key("operator") {
                check_requirement(part, path, of_nodes)?;
            }
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                let problem = match name.as_str() {
                    "weight"
                        if value
                            .as_i64()
                            .is_none_or(|weight| !WEIGHTS.contains(&weight)) =>
                    {
                        Some(format!("is {value}; give a number from 1 to 100"))
                    }
                    "topologyKey" => keys::check_key(value.as_str().unwrap_or_default()).err(),
                    "nodeSelectorTerms" if value.as_array().is_none_or(Vec::is_empty) => {
                        Some("is empty; give a term".to_owned())
                    }
                    _ => None,
                };
                if let Some(problem) = problem {
                    return Err(format!("{} {problem}", shown(&path)));
                }
                check_part(value, &path, of_nodes || name == "nodeAffinity")?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// A requirement on the labels, or for nodes also on the name, of an object.
fn check_requirement(requirement: &Value, path: &str, of_nodes: bool) -> Result<(), String> {
    let operator = requirement["operator"].as_str().unwrap_or_default();
    let mut allowed = LABEL_OPERATORS.to_vec();
    if of_nodes {
        allowed.extend(NUMBER_OPERATORS);
    }
    let field = format!("{path}.operator");
    if operator.is_empty() {
        return Err(format!(
            "{} is empty; give one of {}",
            shown(&field),
            allowed.join(", ")
        ));
    }
    check_word(&field, operator, &allowed)?;
    let key = requirement["key"].as_str().unwrap_or_default();
    keys::check_key(key).map_err(|why| format!("{} {why}", shown(&format!("{path}.key"))))?;
    let values = requirement["values"].as_array().map_or(0, Vec::len);
    let (fits, wanted) = match operator {
        "In" | "NotIn" => (values > 0, "at least one value"),
        "Gt" | "Lt" => (values == 1, "one value"),
        _ => (values == 0, "no values"),
    };
    if !fits {
        return Err(format!(
            "{} has {values} for the operator {operator:?}; give {wanted}",
            shown(&format!("{path}.values"))
        ));
    }
    Ok(())
}

/// Whether the word is empty, or one of those.
fn check_word(path: &str, word: &str, allowed: &[&str]) -> Result<(), String> {
    if word.is_empty() || allowed.contains(&word) {
        return Ok(());
    }
    let word = text::plain(word, MOST_SHOWN);
    Err(format!(
        "{} is {word:?}; give one of {}",
        shown(path),
        allowed.join(", ")
    ))
}
