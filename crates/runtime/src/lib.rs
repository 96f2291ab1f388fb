//! Process shell of the binaries: logging, metrics endpoint, signals, TLS provider. No domain.
