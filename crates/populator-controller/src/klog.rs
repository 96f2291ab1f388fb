//! Command lines as Go programs take them.

use std::ffi::OsString;

/// Flags of klog with a value, and below those without. Forklift's Deployment, and users of Go
/// controllers, may pass them.
pub(crate) const KLOG_VALUES: [&str; 9] = [
    "v",
    "vmodule",
    "stderrthreshold",
    "alsologtostderrthreshold",
    "log_file",
    "log_dir",
    "log_file_max_size",
    "log_backtrace_at",
    "log_flush_frequency",
];
pub(crate) const KLOG_SWITCHES: [&str; 7] = [
    "logtostderr",
    "alsologtostderr",
    "legacy_stderr_threshold_behavior",
    "one_output",
    "skip_headers",
    "skip_log_headers",
    "add_dir_header",
];

/// Flags that Forklift's controller has too. There an empty value means the same as none, and a
/// Deployment may pass one.
const MAY_BE_EMPTY: [&str; 5] = [
    "kubeconfig",
    "master",
    "metrics-path",
    "metrics-address",
    "http-endpoint",
];

/// The arguments in the form that clap parses: Go accepts long flags with one dash too. klog's
/// flags are dropped; only the verbosity is used.
pub(crate) fn without_klog(arguments: impl IntoIterator<Item = OsString>) -> (Vec<OsString>, u32) {
    let mut verbosity = 0;
    let mut kept = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    kept.extend(arguments.next());
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().unwrap_or_default();
        let bare = text.trim_start_matches('-');
        let dashes = text.len() - bare.len();
        let (name, value) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (bare, None),
        };
        // klog accepts dashes and underscores within a name.
        let plain = name.replace('-', "_");
        let mut is_empty = || match &value {
            Some(value) => value.is_empty(),
            None => arguments.next_if(|next| next.is_empty()).is_some(),
        };
        if !(1..=2).contains(&dashes) {
            kept.push(argument);
        } else if KLOG_SWITCHES.contains(&plain.as_str())
            || (MAY_BE_EMPTY.contains(&name) && is_empty())
        {
            // clap gets none of these.
        } else if KLOG_VALUES.contains(&plain.as_str()) {
            let next = || arguments.next()?.into_string().ok();
            let value = value.or_else(next);
            if plain == "v" {
                verbosity = value
                    .and_then(|value| value.parse().ok())
                    .unwrap_or_default();
            }
        } else if dashes == 1 && name.len() > 1 {
            kept.push(format!("-{text}").into());
        } else {
            kept.push(argument);
        }
    }
    (kept, verbosity)
}
