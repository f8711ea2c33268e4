"""Words and sentences of English and Chinese text: pure functions that retrieval, models and speech share."""
