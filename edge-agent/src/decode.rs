//! Payload bytes to readings; pure, the same code in `run`, `probe` and `decode`.
