//! Sources: each owns its link, turns bytes into messages, and tells the device once they are durable.
