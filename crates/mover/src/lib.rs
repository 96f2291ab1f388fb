//! What the movers share: arguments, secrets, target, progress, and how a run ends.
