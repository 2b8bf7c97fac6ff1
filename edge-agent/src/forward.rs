//! From the queue to Kafka, in order, at most once removed.
