"""What DVID's consumers and ours read from Kafka: made from the log, sent at least once, in order."""
