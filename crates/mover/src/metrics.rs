//! The movers' metrics.
