//! Progress as log lines.
